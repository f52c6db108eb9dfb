//! Where recordings end up: an object store in the pod, any S3 elsewhere, or a local folder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, SecretKeyRef, SecretRef};

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
    /// Start of every key in the bucket, such as site-2/door/; one server alone may use it. Default: NAMESPACE/NAME/. When the pod is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub prefix: Option<String>,
    /// Certificate authorities (PEM) to trust for the store, in place of the public ones. Default none: the public ones. When the pod is replaced; other certificates in the same key are taken over live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Identity of the pod's service account in place of keys: a token for AssumeRoleWithWebIdentity. Excludes credentialsSecretRef. Default none. When the pod is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
}

impl ExternalStorage {
    /// Returns the start of every key: `prefix` with one slash at its end, or else `NAMESPACE/NAME/`.
    pub fn key_prefix(&self, namespace: &str, name: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{}/", prefix.trim_end_matches('/')),
            None => format!("{namespace}/{name}/"),
        }
    }
}

/// Where certificates of authorities are: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CaBundle {
    /// Key of a ConfigMap in the session's namespace. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
    /// Key of a Secret in the session's namespace. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// One key of a ConfigMap in the session's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap; no default.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the ConfigMap's data; no default.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A role that the pod's service account assumes by its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebIdentity {
    /// ARN of the role; it must trust system:serviceaccount:NAMESPACE:NAME; no default. When the pod is replaced.
    #[schemars(length(min = 1, max = 2048))]
    pub role_arn: String,
    /// Audience of the token. Default sts.amazonaws.com. When the pod is replaced.
    #[serde(default = "sts_audience")]
    #[schemars(length(min = 1, max = 255))]
    pub audience: String,
    /// URL of the token service, https:// or http://. Default none: that of AWS in the store's region. When the pod is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub sts_endpoint: Option<String>,
}

fn sts_audience() -> String {
    "sts.amazonaws.com".to_owned()
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}
