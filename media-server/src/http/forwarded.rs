//! Proxies in front: the client's address (`X-Forwarded-For`, and `Forwarded` of RFC 7239) and the base path
//! (`X-Forwarded-Prefix`).
//!
//! Every client can write these headers, so they count only when the connection is from a trusted proxy. Addresses are read
//! from the right, where the nearest proxy adds its peer: the first one that is not a trusted proxy is the client. A
//! proxy sets one of the two headers and may pass the client's other one on; when they disagree, neither counts.

use crate::config::HttpSettings;
use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderName};
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Proxies in a row; entries beyond are not read.
const MAX_HOPS: usize = 32;
/// Bytes of a prefix.
const MAX_PREFIX: usize = 128;

/// The client's address, in the extensions of each request that has a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The peer's own address, or the one that a trusted proxy forwards.
    pub(super) address: IpAddr,
    /// The peer is a trusted proxy.
    pub(super) proxied: bool,
    /// A trusted proxy sent a header with addresses.
    pub(super) forwarded: bool,
}

impl Client {
    /// Returns the client of a request.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, settings: &HttpSettings) -> Client {
        if !settings.trusts(peer) {
            return Client { address: peer, proxied: false, forwarded: false };
        }
        let lines = |name: HeaderName| -> Vec<Option<&str>> {
            let lines = headers.get_all(name).into_iter().collect::<Vec<_>>();
            // A line that is no text hides those before it.
            lines.into_iter().rev().flat_map(|line| elements(line.to_str().ok())).take(MAX_HOPS).collect()
        };
        let (plain, standard) = (lines(X_FORWARDED_FOR), lines(FORWARDED));
        let by = |hops: &[Option<&str>], node: fn(&str) -> Option<IpAddr>| {
            let nodes = hops.iter().map(|hop| hop.and_then(node));
            (!hops.is_empty()).then(|| nearest_untrusted(peer, nodes, settings))
        };
        let forwarded = !plain.is_empty() || !standard.is_empty();
        let address = match (by(&plain, address_of), by(&standard, node_of)) {
            (Some(one), Some(other)) if one != other => peer,
            (one, other) => one.or(other).unwrap_or(peer),
        };
        Client { address, proxied: true, forwarded }
    }
}

/// The elements of a list, the last one first; one `None` for a line that is no text.
fn elements(line: Option<&str>) -> Vec<Option<&str>> {
    line.map_or_else(|| vec![None], |line| line.rsplit(',').take(MAX_HOPS).map(|part| Some(part.trim())).collect())
}

/// The first address that is no trusted proxy; the last one known where the list ends or cannot be read.
fn nearest_untrusted(peer: IpAddr, nodes: impl Iterator<Item = Option<IpAddr>>, settings: &HttpSettings) -> IpAddr {
    let mut client = peer;
    for node in nodes {
        let Some(address) = node else { return client };
        client = address;
        if !settings.trusts(address) {
            return client;
        }
    }
    client
}

/// An address, with or without a port; IPv6 with or without brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

/// The address in the `for` of an element of `Forwarded`; `None` for `unknown`, hidden names and malformed elements.
fn node_of(element: &str) -> Option<IpAddr> {
    let mut nodes = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let node = nodes.next()?;
    if nodes.next().is_some() || !element.matches('"').count().is_multiple_of(2) {
        return None;
    }
    address_of(node.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(node))
}

/// Returns the `X-Forwarded-Prefix` of a trusted proxy's request, without a final slash, when it is one path.
pub(super) fn forwarded_prefix(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(X_FORWARDED_PREFIX).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let path = line.to_str().ok()?.trim();
    let path = path.strip_suffix('/').unwrap_or(path);
    let good = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphanumeric())
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
    };
    let rest = if path.is_empty() { return Some("") } else { path.strip_prefix('/')? };
    (path.len() <= MAX_PREFIX && rest.split('/').all(good)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn settings() -> HttpSettings {
        let networks = ["10.0.0.0/8", "2001:db8:ff::/48"].map(|network| network.parse().unwrap());
        HttpSettings { trusted_proxies: networks.into(), ..HttpSettings::default() }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        Client::of(peer.parse().unwrap(), &headers(lines), &settings()).address.to_string()
    }

    #[test]
    fn rightmost_untrusted_address_is_the_client() {
        let (xff, forwarded) = ("x-forwarded-for", "forwarded");
        for (lines, expected) in [
            (vec![], "10.0.0.1"),
            (vec![(xff, "192.0.2.7")], "192.0.2.7"),
            (vec![(xff, "198.51.100.1, 192.0.2.7, 10.9.9.9")], "192.0.2.7"),
            (vec![(xff, "198.51.100.1"), (xff, "192.0.2.7:4711")], "192.0.2.7"),
            (vec![(xff, "10.1.1.1, 10.2.2.2")], "10.1.1.1"),
            (vec![(xff, "[2001:db8::7]:443, 2001:db8:ff::1")], "2001:db8::7"),
            (vec![(xff, "::ffff:192.0.2.7")], "192.0.2.7"),
            (vec![(xff, "192.0.2.7, unknown")], "10.0.0.1"),
            (vec![(xff, "192.0.2.7, garbage, 10.3.3.3")], "10.3.3.3"),
            (vec![(forwarded, "for=192.0.2.7;proto=https, for=10.4.4.4")], "192.0.2.7"),
            (vec![(forwarded, "For=\"[2001:db8::7]:4711\"; by=10.0.0.1")], "2001:db8::7"),
            (vec![(forwarded, "for=_hidden")], "10.0.0.1"),
            (vec![(forwarded, "for=198.51.100.1;x=\", for=192.0.2.7")], "192.0.2.7"),
            (vec![(forwarded, "for=192.0.2.7;for=198.51.100.1")], "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn untrusted_peer_cannot_name_another_address() {
        for header in ["x-forwarded-for", "forwarded"] {
            let forged = if header == "forwarded" { "for=198.51.100.1" } else { "198.51.100.1" };
            assert_eq!(client("203.0.113.5", &[(header, forged)]), "203.0.113.5");
        }
    }

    #[test]
    fn headers_that_disagree_are_ignored() {
        let lines = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=198.51.100.1")];
        assert_eq!(client("10.0.0.1", &lines), "10.0.0.1");
        let agreeing = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")];
        assert_eq!(client("10.0.0.1", &agreeing), "192.0.2.7");
    }

    #[test]
    fn prefix_is_one_plain_path() {
        for (value, expected) in [
            ("/cams", Some("/cams")),
            ("/cams/", Some("/cams")),
            ("/", Some("")),
            ("/a/b-c.d", Some("/a/b-c.d")),
            ("cams", None),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("/..", None),
            ("/a/../b", None),
            ("/a, /b", None),
            ("https://evil.example/cams", None),
        ] {
            assert_eq!(forwarded_prefix(&headers(&[("x-forwarded-prefix", value)])), expected, "{value}");
        }
        assert_eq!(forwarded_prefix(&headers(&[("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/b")])), None);
        assert_eq!(
            forwarded_prefix(&headers(&[("x-forwarded-prefix", &format!("/{}", "a".repeat(MAX_PREFIX)))])),
            None
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics_nor_hides_the_last_hop(junk in "[ -~]{0,60}") {
            let line = format!("{junk}, 192.0.2.7");
            prop_assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &line)]), "192.0.2.7");
            let line = format!("{junk}, for=192.0.2.7");
            prop_assert_eq!(client("10.0.0.1", &[("forwarded", &line)]), "192.0.2.7");
        }
    }
}
