//! The HTTP settings of a spec, parsed.

use std::net::IpAddr;
use streamsession_api::{Http, Network};

/// Origins, proxies and base path in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// Origins that may use every route; empty: the rules of each route apply.
    pub allowed_origins: Vec<String>,
    /// Peers that may send forwarding headers.
    pub trusted_proxies: Vec<Network>,
    /// Path below which clients reach the server, such as `/cams`; empty for the root.
    pub base_path: String,
}

impl HttpSettings {
    /// Returns whether a peer may send forwarding headers.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

/// Returns the settings of a spec that passed [`streamsession_api::StreamSessionSpec::validate`].
pub(crate) fn http_of(http: &Http) -> HttpSettings {
    HttpSettings {
        allowed_origins: http.allowed_origins.clone(),
        trusted_proxies: http.trusted_proxies.iter().filter_map(|network| network.parse().ok()).collect(),
        base_path: http.base_path.clone(),
    }
}
