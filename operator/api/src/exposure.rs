//! How cameras and viewers reach the pod: the Service, the media port, the addresses told to peers, the ingress.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How cameras and viewers reach the pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Exposure {
    /// How the media port, and the managed relay's, are opened to the outside. Default NodePort. Live, except to and from HostPort: when the pod is replaced.
    #[serde(rename = "type")]
    pub type_: ExposureType,
    /// UDP port of all media, 1 to 65535: the one that the server listens on and that the Service offers. Default 8189. When the pod is replaced.
    pub media_port: u16,
    /// Port that every node opens for media with type NodePort, 1 to 65535: it must lie in the cluster's range (30000 to 32767 unless set otherwise). Default: the cluster picks one. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// IP addresses to announce to peers besides what Service and Node say, each alone or with a port (203.0.113.7, 203.0.113.7:31189, `[2001:db8::7]:31189`); at most 16. Default none. Live.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub announce: Vec<String>,
    /// The ingress for signalling and the pages. Default none: the Service alone. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
}

impl Default for Exposure {
    fn default() -> Self {
        Self { type_: ExposureType::NodePort, media_port: 8189, node_port: None, announce: Vec::new(), ingress: None }
    }
}

/// How the media port is opened to the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExposureType {
    /// A port on every node.
    #[default]
    NodePort,
    /// An address from the cluster's load balancer.
    LoadBalancer,
    /// The media port itself, on the node where the pod runs; a namespace with the baseline or restricted Pod Security standard refuses such a pod.
    HostPort,
    /// Inside the cluster only.
    ClusterIP,
}

/// The ingress for signalling and the pages; media does not pass it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Host name that cameras and browsers use, without scheme or path; no default. Live, but a managed relay without a realm of its own takes it as such when the pod is replaced.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The ingress class. Default: the cluster's. Live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// Secret with the certificate (kubernetes.io/tls). Default none: plain HTTP, which browsers allow for watching but not for publishing. Live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_name: Option<String>,
    /// Annotations of the Ingress. Default none. Live.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}
