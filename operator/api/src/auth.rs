//! Who may publish, watch and administer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationString, SecretKeyRef};

/// Who may publish, watch and administer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Auth {
    /// JWT checks a bearer token, Callback asks an HTTP service of yours (not in this version), Open lets everyone in. Default JWT. When the pod is replaced.
    pub mode: AuthMode,
    /// Issuer that a token must name (iss). Needed with jwks; without it the issuer is not looked at. When the pod is replaced.
    #[schemars(length(max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Audience that a token must name (aud). Needed with jwks, so that a token meant for another service does not open this one; without it the audience is not looked at. When the pod is replaced.
    #[schemars(length(max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Public keys of the issuer (not in this version). With mode JWT, instead of secretRef. With neither, a secret is made for this session alone. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// The secret that tokens are signed with (HS256), at least 32 bytes. With mode JWT, instead of jwks. When the pod is replaced; another secret in it is taken over live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// The service that is asked (not in this version). Exactly when mode is Callback; no default. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// True says that mode Open is meant although the session can be reached from outside the cluster: everyone who reaches it may publish, watch and administer. Default false. When the pod is replaced.
    pub acknowledge_open: bool,
}

/// How a request is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthMode {
    /// By a bearer token (RFC 7519).
    #[default]
    #[serde(rename = "JWT")]
    Jwt,
    /// By asking an HTTP service.
    Callback,
    /// Always.
    Open,
}

/// A JSON Web Key Set (RFC 7517), fetched again when a token names a key that it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Jwks {
    /// URL of the key set, https:// (http:// on this machine alone); no default. When the pod is replaced.
    #[schemars(length(max = 512))]
    pub url: String,
}

/// An HTTP service that decides each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Callback {
    /// URL that is sent a POST with the action, the room and the bearer token; 2xx lets in; https:// or http://; no default. When the pod is replaced.
    #[schemars(length(max = 512))]
    pub url: String,
    /// Time after which a silent service means no, 100ms to 30s. Default 2s. When the pod is replaced.
    #[serde(default = "two_seconds")]
    pub timeout: DurationString,
}

fn two_seconds() -> DurationString {
    DurationString::literal("2s")
}
