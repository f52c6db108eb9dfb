//! HTTP for players and proxies: origins of other pages, proxies in front, the base path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// HTTP for players and proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// Origins of web pages that may use every route, such as `https://console.example.com`; at most 32. With mode Open they are trusted like the server's own pages, and pages of no other origin may read or change anything. Default none: pages of every origin may use WHIP and WHEP and, with a token, the API. Live.
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub allowed_origins: Vec<String>,
    /// Networks of the proxies in front, such as 10.244.0.0/16; at most 32. From them X-Forwarded-For, Forwarded and X-Forwarded-Prefix are honoured, from all others ignored. Default none. Live.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub trusted_proxies: Vec<String>,
    /// Path below which clients reach the server, such as /cams, whether the proxy in front removes it or not. The ingress has it as its path. Default empty: the root. Live.
    #[schemars(length(max = 128))]
    pub base_path: String,
}
