//! Where recordings end up: an object store in the pod, any S3 elsewhere, or a local folder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, SecretRef};

/// Where recordings end up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Storage {
    /// Managed runs an object store in the pod, External uses any S3, Local keeps the files on the pod's volume. Without a cluster Managed is a local folder. Default Managed. When the pod is replaced.
    pub mode: StorageMode,
    /// Bytes of the pod's volume, at least 1Gi. Default 20Gi. Live where the storage class lets volumes grow; a volume cannot shrink.
    pub size: Quantity,
    /// The volume's storage class. Default: the cluster's. When the volume is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// The object store elsewhere. Exactly when mode is External; no default. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStorage>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { mode: StorageMode::Managed, size: Quantity::literal("20Gi"), storage_class_name: None, external: None }
    }
}

/// Which store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StorageMode {
    /// An object store in the pod.
    #[default]
    Managed,
    /// Any S3 elsewhere.
    External,
    /// Files on the pod's volume alone.
    Local,
}

/// An object store elsewhere, reached by the S3 API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalStorage {
    /// URL of the store, https:// or http://; no default. When the pod is replaced.
    #[schemars(length(max = 512))]
    pub endpoint: String,
    /// Region that requests are signed for. Default us-east-1, which stores without regions expect. When the pod is replaced.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// Bucket for the recordings, 3 to 63 characters; it must exist; no default. When the pod is replaced.
    #[schemars(length(max = 63))]
    pub bucket: String,
    /// True puts the bucket into the path (what most stores want), false into the host name (what AWS wants). Default true. When the pod is replaced.
    #[serde(default = "yes")]
    pub path_style: bool,
    /// Secret with the keys accessKeyId and secretAccessKey. Default none: the environment's own identity. When the pod is replaced; other keys in it are taken over live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}
