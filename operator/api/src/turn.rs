//! The relay (TURN, RFC 8656) for peers that cannot send UDP to the media port.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationString, SecretKeyRef};

/// The relay for peers that cannot send UDP to the media port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Turn {
    /// Managed runs a relay beside the server, External names one elsewhere, Disabled offers none. Default Managed. When the pod is replaced.
    pub mode: TurnMode,
    /// Realm of the managed relay. Default: the ingress's host, else the session's name. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How long the credentials given to a peer are good, 1m to 7d. Default 1h. Live.
    #[serde(rename = "credentialTTL")]
    pub credential_ttl: DurationString,
    /// Port that every node opens for the managed relay, UDP and TCP, when exposure.type is NodePort, 1 to 65535: it must lie in the cluster's range (30000 to 32767 unless set otherwise). TLS gets one of its own, which the cluster picks. Default: the cluster picks. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// Secret with the certificate (kubernetes.io/tls) for TURN over TLS; a renewed one is taken over live. Default none: UDP and TCP alone. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret_name: Option<String>,
    /// The relay elsewhere. Exactly when mode is External; no default. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTurn>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            mode: TurnMode::Managed,
            realm: None,
            node_port: None,
            credential_ttl: DurationString::literal("1h"),
            tls_secret_name: None,
            external: None,
        }
    }
}

/// Which relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TurnMode {
    /// One beside the server, limited to this pod's media address.
    #[default]
    Managed,
    /// One elsewhere.
    External,
    /// None.
    Disabled,
}

/// A relay elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTurn {
    /// URLs for peers (RFC 7065), such as turns:turn.example.com:443?transport=tcp; 1 to 8; no default. Live.
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub urls: Vec<String>,
    /// The secret shared with the relay, from which time-limited credentials are made. Default none: peers are given no credentials. When the pod is replaced; another secret in it is taken over live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}
