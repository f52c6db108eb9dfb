//! Rules about limits, exposure, turn and storage.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    SpecRule, cel_at_least, cel_between, cel_duration, count_below_one, duration_outside, http_authority,
    present_unless, quantity_below, quoted,
};
use crate::{ExposureType, StorageMode, TurnMode};

pub(crate) const MAX_PUBLISHERS: SpecRule = SpecRule {
    field: "limits.maxPublishers",
    cel: "self.limits.maxPublishers >= 1",
    remedy: "maxPublishers: write how many cameras may stream at once, at least 1",
    offending: |spec| count_below_one(spec.limits.max_publishers),
};

pub(crate) const MAX_SUBSCRIBERS: SpecRule = SpecRule {
    field: "limits.maxSubscribersPerRoom",
    cel: "self.limits.maxSubscribersPerRoom >= 1",
    remedy: "maxSubscribersPerRoom: write how many may watch a room at once, at least 1",
    offending: |spec| count_below_one(spec.limits.max_subscribers_per_room),
};

pub(crate) const MAX_STREAMS: SpecRule = SpecRule {
    field: "limits.maxStreamsPerAccount",
    cel: "!has(self.limits.maxStreamsPerAccount) || self.limits.maxStreamsPerAccount >= 1",
    remedy: "maxStreamsPerAccount: write how many cameras an account may stream at once, at least 1, or remove it for no such cap",
    offending: |spec| spec.limits.max_streams_per_account.and_then(count_below_one),
};

pub(crate) const MAX_BITRATE: SpecRule = SpecRule {
    field: "limits.maxBitrate",
    cel: cel_at_least!("self.limits.maxBitrate", "100k"),
    remedy: "maxBitrate: write bits per second, at least 100k, such as 8M",
    offending: |spec| quantity_below(&spec.limits.max_bitrate, 100_000),
};

pub(crate) const GOP_CACHE: SpecRule = SpecRule {
    field: "media.gopCache",
    cel: cel_between!("self.media.gopCache", "1Mi", "256Mi"),
    remedy: "gopCache: write bytes with a unit, from 1Mi to 256Mi, such as 64Mi",
    offending: |spec| {
        let cache = &spec.media.gop_cache;
        quantity_below(cache, 1 << 20).or_else(|| (cache.as_u64() > 256 << 20).then(|| cache.to_string()))
    },
};

pub(crate) const MEDIA_PORT: SpecRule = SpecRule {
    field: "exposure.mediaPort",
    cel: "self.exposure.mediaPort >= 1",
    remedy: "mediaPort: write a UDP port from 1 to 65535, such as 8189",
    offending: |spec| (spec.exposure.media_port < 1).then(|| spec.exposure.media_port.to_string()),
};

pub(crate) const MEDIA_NODE_PORT: SpecRule = SpecRule {
    field: "exposure.nodePort",
    cel: "!has(self.exposure.nodePort) || (self.exposure.nodePort >= 1 && self.exposure.type == 'NodePort')",
    remedy: "nodePort goes with type NodePort: write a port of the cluster's range, such as `exposure: {type: NodePort, nodePort: 31189}`, or remove it",
    offending: |spec| node_port(spec.exposure.node_port, spec.exposure.type_),
};

pub(crate) const ANNOUNCE: SpecRule = SpecRule {
    field: "exposure.announce",
    cel: r"self.exposure.announce.all(a, isIP(a) || a.matches('^([0-9]{1,3}([.][0-9]{1,3}){3}|\\[[0-9a-fA-F:.]+\\]):[1-9][0-9]{0,4}$'))",
    remedy: "announce: write IP addresses, each alone or with a port, such as 203.0.113.7 or 203.0.113.7:31189",
    offending: |spec| spec.exposure.announce.iter().find(|text| !is_address(text)).map(|text| quoted(text)),
};

pub(crate) const INGRESS_HOST: SpecRule = SpecRule {
    field: "exposure.ingress.host",
    cel: "!has(self.exposure.ingress) || self.exposure.ingress.host.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    remedy: "host: write a host name alone, in lower case and without https:// or a path, such as cams.example.com",
    offending: |spec| {
        let host = &spec.exposure.ingress.as_ref()?.host;
        (!is_host_name(host)).then(|| quoted(host))
    },
};

pub(crate) const TURN_EXTERNAL: SpecRule = SpecRule {
    field: "turn.external",
    cel: "has(self.turn.external) == (self.turn.mode == 'External')",
    remedy: "turn.external goes with mode External: write `turn: {mode: External, external: {urls: [\"turn:turn.example.com:3478\"]}}`, or neither",
    offending: |spec| present_unless(spec.turn.external.is_some(), spec.turn.mode, TurnMode::External),
};

pub(crate) const TURN_URLS: SpecRule = SpecRule {
    field: "turn.external.urls",
    cel: r"!has(self.turn.external) || (self.turn.external.urls.size() >= 1 && self.turn.external.urls.all(u, u.matches('^(stuns?|turns?):[^\\s/]+$')))",
    remedy: "urls: write at least one URL that begins with turn:, turns:, stun: or stuns:, such as turns:turn.example.com:443?transport=tcp",
    offending: |spec| {
        let urls = &spec.turn.external.as_ref()?.urls;
        if urls.is_empty() {
            return Some("empty".to_owned());
        }
        urls.iter().find(|url| !is_turn_url(url)).map(|url| quoted(url))
    },
};

pub(crate) const TURN_CREDENTIAL_TTL: SpecRule = SpecRule {
    field: "turn.credentialTTL",
    cel: cel_duration!("self.turn.credentialTTL", "1m", "168h", "self.turn.credentialTTL.matches('^[1-7]d$')"),
    remedy: "credentialTTL: write a duration from 1m to 7d, such as 1h",
    offending: |spec| {
        duration_outside(&spec.turn.credential_ttl, Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600))
    },
};

pub(crate) const TURN_NODE_PORT: SpecRule = SpecRule {
    field: "turn.nodePort",
    cel: "!has(self.turn.nodePort) || (self.turn.nodePort >= 1 && self.exposure.type == 'NodePort' && self.turn.mode == 'Managed')",
    remedy: "turn.nodePort goes with a managed relay and exposure.type NodePort: write a port of the cluster's range, such as `turn: {nodePort: 31478}`, or remove it",
    offending: |spec| {
        node_port(spec.turn.node_port, spec.exposure.type_).or_else(|| {
            (spec.turn.mode != TurnMode::Managed).then_some(spec.turn.node_port)?.map(|port| port.to_string())
        })
    },
};

pub(crate) const STORAGE_EXTERNAL: SpecRule = SpecRule {
    field: "storage.external",
    cel: "has(self.storage.external) == (self.storage.mode == 'External')",
    remedy: "storage.external goes with mode External: write `storage: {mode: External, external: {endpoint: \"https://s3.example.com\", bucket: recordings}}`, or neither",
    offending: |spec| present_unless(spec.storage.external.is_some(), spec.storage.mode, StorageMode::External),
};

pub(crate) const STORAGE_ENDPOINT: SpecRule = SpecRule {
    field: "storage.external.endpoint",
    cel: r"!has(self.storage.external) || self.storage.external.endpoint.matches('^https?://[^\\s/]+(/\\S*)?$')",
    remedy: "endpoint: write the store's URL with https:// or http://, such as https://s3.example.com",
    offending: |spec| {
        let endpoint = &spec.storage.external.as_ref()?.endpoint;
        http_authority(endpoint).is_none().then(|| quoted(endpoint))
    },
};

pub(crate) const STORAGE_BUCKET: SpecRule = SpecRule {
    field: "storage.external.bucket",
    cel: "!has(self.storage.external) || self.storage.external.bucket.matches('^[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]$')",
    remedy: "bucket: write 3 to 63 lower-case letters, digits, dots and hyphens, such as recordings",
    offending: |spec| {
        let bucket = &spec.storage.external.as_ref()?.bucket;
        (!(3..=63).contains(&bucket.len()) || !is_host_name(bucket)).then(|| quoted(bucket))
    },
};

pub(crate) const STORAGE_PREFIX: SpecRule = SpecRule {
    field: "storage.external.prefix",
    cel: "!has(self.storage.external) || !has(self.storage.external.prefix) || self.storage.external.prefix.matches('^[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*/?$')",
    remedy: "prefix: write names of letters, digits, '_', '.', '=' and '-' with slashes between them, such as site-2/door/",
    offending: |spec| {
        let prefix = spec.storage.external.as_ref()?.prefix.as_ref()?;
        (!is_key_prefix(prefix)).then(|| quoted(prefix))
    },
};

pub(crate) const STORAGE_CA_BUNDLE: SpecRule = SpecRule {
    field: "storage.external.caBundle",
    cel: "!has(self.storage.external) || !has(self.storage.external.caBundle) || has(self.storage.external.caBundle.configMapKeyRef) != has(self.storage.external.caBundle.secretKeyRef)",
    remedy: "caBundle: write one key, such as `caBundle: {configMapKeyRef: {name: store-ca, key: ca.crt}}`",
    offending: |spec| {
        let bundle = spec.storage.external.as_ref()?.ca_bundle.as_ref()?;
        match (&bundle.config_map_key_ref, &bundle.secret_key_ref) {
            (None, None) => Some("empty".to_owned()),
            (Some(_), Some(_)) => Some("both of a ConfigMap and of a Secret".to_owned()),
            _ => None,
        }
    },
};

pub(crate) const STORAGE_WEB_IDENTITY: SpecRule = SpecRule {
    field: "storage.external.webIdentity",
    cel: "!has(self.storage.external) || !has(self.storage.external.webIdentity) || !has(self.storage.external.credentialsSecretRef)",
    remedy: "webIdentity takes the place of keys: write it or credentialsSecretRef, not both",
    offending: |spec| {
        let external = spec.storage.external.as_ref()?;
        let both = external.web_identity.is_some() && external.credentials_secret_ref.is_some();
        both.then(|| "present with credentialsSecretRef".to_owned())
    },
};

pub(crate) const STORAGE_STS_ENDPOINT: SpecRule = SpecRule {
    field: "storage.external.webIdentity.stsEndpoint",
    cel: r"!has(self.storage.external) || !has(self.storage.external.webIdentity) || !has(self.storage.external.webIdentity.stsEndpoint) || self.storage.external.webIdentity.stsEndpoint.matches('^https?://[^\\s/]+(/\\S*)?$')",
    remedy: "stsEndpoint: write the token service's URL with https:// or http://, such as https://sts.example.com",
    offending: |spec| {
        let endpoint = spec.storage.external.as_ref()?.web_identity.as_ref()?.sts_endpoint.as_ref()?;
        http_authority(endpoint).is_none().then(|| quoted(endpoint))
    },
};

pub(crate) const STORAGE_SIZE: SpecRule = SpecRule {
    field: "storage.size",
    cel: cel_at_least!("self.storage.size", "1Gi"),
    remedy: "size: write bytes with a unit, at least 1Gi, such as 20Gi",
    offending: |spec| quantity_below(&spec.storage.size, 1 << 30),
};

/// The offending port of a node: 0, or one that no node opens.
fn node_port(port: Option<u16>, exposure: ExposureType) -> Option<String> {
    let port = port?;
    (port < 1 || exposure != ExposureType::NodePort).then(|| format!("{port} with type {exposure:?}"))
}

/// Names with slashes between them, and perhaps one at the end. None starts with a dot: `..` is refused by many clients.
fn is_key_prefix(text: &str) -> bool {
    let name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.=-".contains(&byte))
    };
    text.strip_suffix('/').unwrap_or(text).split('/').all(name)
}

fn is_address(text: &str) -> bool {
    // CEL's isIP takes no IPv4 address in the form of an IPv6 one.
    let mapped = |address: IpAddr| matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    text.parse::<IpAddr>().is_ok_and(|address| !mapped(address))
        || text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
}

fn is_host_name(text: &str) -> bool {
    let edge = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-' || c == '.')
}

fn is_turn_url(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, rest)| {
        matches!(scheme, "stun" | "stuns" | "turn" | "turns")
            && !rest.is_empty()
            && !rest.contains(|c: char| c == '/' || c.is_whitespace())
    })
}
