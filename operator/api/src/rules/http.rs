//! Rules about HTTP.

use super::{SpecRule, quoted};
use crate::Network;

pub(crate) const ALLOWED_ORIGINS: SpecRule = SpecRule {
    field: "http.allowedOrigins",
    cel: r"self.http.allowedOrigins.all(o, o.matches('^[a-z][a-z0-9+.-]*://(\\[[0-9a-f:.]+\\]|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(:[1-9][0-9]{0,4})?$') && !o.matches('^(http://.*:80|https://.*:443)$'))",
    remedy: "allowedOrigins: write scheme and host in lower case as browsers send them, without path and default port, such as https://console.example.com or http://localhost:3000",
    offending: |spec| spec.http.allowed_origins.iter().find(|origin| !is_origin(origin)).map(|origin| quoted(origin)),
};

pub(crate) const TRUSTED_PROXIES: SpecRule = SpecRule {
    field: "http.trustedProxies",
    cel: "self.http.trustedProxies.all(n, isCIDR(n) && !n.endsWith('/0'))",
    remedy: "trustedProxies: write networks of proxies alone, each with the length of its prefix, such as 10.244.0.0/16 or 192.0.2.7/32; a prefix of 0 would trust every client",
    offending: |spec| spec.http.trusted_proxies.iter().find(|text| !is_proxy_network(text)).map(|text| quoted(text)),
};

pub(crate) const BASE_PATH: SpecRule = SpecRule {
    field: "http.basePath",
    cel: "self.http.basePath == '' || (self.http.basePath.matches('^(/[A-Za-z0-9][A-Za-z0-9._~-]*)+$') && !self.http.basePath.matches('^/(whip|whep|rooms|streams|sessions|recordings|media-tokens|events|admin|metrics|healthz|readyz|openapi[.]json|config[.]json|publish|watch|assets|problems)(/|$)'))",
    remedy: "basePath: write a path that starts with / and does not end with it, of letters, digits and . _ ~ -, which is no route of the server, such as /cams",
    offending: |spec| (!is_base_path(&spec.http.base_path)).then(|| quoted(&spec.http.base_path)),
};

/// First segments of the server's own routes.
const ROUTES: [&str; 18] = [
    "whip",
    "whep",
    "rooms",
    "streams",
    "sessions",
    "recordings",
    "media-tokens",
    "events",
    "admin",
    "metrics",
    "healthz",
    "readyz",
    "openapi.json",
    "config.json",
    "publish",
    "watch",
    "assets",
    "problems",
];

fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let scheme_rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+.-".contains(c);
    let good_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase()) && scheme.chars().all(scheme_rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let good_port = port.is_none_or(|port| {
        (1..=5).contains(&port.len()) && !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good_host = match literal {
        Some(address) => !address.is_empty() && address.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | ':' | '.')),
        None => host.starts_with(edge) && host.ends_with(edge) && host.chars().all(|c| edge(c) || c == '-' || c == '.'),
    };
    good_scheme && good_host && good_port && !matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")))
}

fn is_proxy_network(text: &str) -> bool {
    text.parse::<Network>().is_ok_and(|network| network.prefix() > 0)
}

fn is_base_path(path: &str) -> bool {
    if path.is_empty() {
        return true;
    }
    let Some(rest) = path.strip_prefix('/') else { return false };
    let good = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphanumeric())
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
    };
    rest.split('/').all(good) && !rest.split('/').next().is_some_and(|first| ROUTES.contains(&first))
}
