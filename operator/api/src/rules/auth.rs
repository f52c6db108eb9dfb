//! Rules about auth.

use std::time::Duration;

use super::{SpecRule, cel_duration, duration_outside, http_authority, present_unless, quoted};
use crate::{AuthMode, ExposureType};

pub(crate) const AUTH_OPEN: SpecRule = SpecRule {
    field: "auth.mode",
    cel: "self.auth.mode != 'Open' || self.auth.acknowledgeOpen || (self.exposure.type == 'ClusterIP' && !has(self.exposure.ingress))",
    remedy: "mode Open lets everyone publish, watch and administer: write `exposure: {type: ClusterIP}` without an ingress, or `auth: {mode: Open, acknowledgeOpen: true}` if it is meant",
    offending: |spec| {
        let reachable = spec.exposure.type_ != ExposureType::ClusterIP || spec.exposure.ingress.is_some();
        (spec.auth.mode == AuthMode::Open && !spec.auth.acknowledge_open && reachable).then(|| "Open".to_owned())
    },
};

pub(crate) const AUTH_CALLBACK: SpecRule = SpecRule {
    field: "auth.callback",
    cel: "has(self.auth.callback) == (self.auth.mode == 'Callback')",
    remedy: "auth.callback goes with mode Callback: write `auth: {mode: Callback, callback: {url: \"https://auth.example.com/check\"}}`, or neither",
    offending: |spec| present_unless(spec.auth.callback.is_some(), spec.auth.mode, AuthMode::Callback),
};

pub(crate) const CALLBACK_URL: SpecRule = SpecRule {
    field: "auth.callback.url",
    cel: r"!has(self.auth.callback) || self.auth.callback.url.matches('^https?://[^\\s/]+(/\\S*)?$')",
    remedy: "url: write the service's URL with https:// or http://, such as https://auth.example.com/check",
    offending: |spec| {
        let url = &spec.auth.callback.as_ref()?.url;
        http_authority(url).is_none().then(|| quoted(url))
    },
};

pub(crate) const CALLBACK_TIMEOUT: SpecRule = SpecRule {
    field: "auth.callback.timeout",
    cel: concat!(
        "!has(self.auth.callback) || (",
        cel_duration!("self.auth.callback.timeout", "100ms", "30s", "false"),
        ")"
    ),
    remedy: "timeout: write a duration from 100ms to 30s, such as 2s",
    offending: |spec| {
        let timeout = &spec.auth.callback.as_ref()?.timeout;
        duration_outside(timeout, Duration::from_millis(100), Duration::from_secs(30))
    },
};

pub(crate) const AUTH_KEYS: SpecRule = SpecRule {
    field: "auth.secretRef",
    cel: "!(has(self.auth.jwks) && has(self.auth.secretRef))",
    remedy: "secretRef and jwks exclude each other: write jwks for an issuer's public keys, or secretRef for a secret of your own",
    offending: |spec| {
        (spec.auth.jwks.is_some() && spec.auth.secret_ref.is_some()).then(|| "present beside jwks".to_owned())
    },
};

pub(crate) const JWKS_URL: SpecRule = SpecRule {
    field: "auth.jwks.url",
    cel: r"!has(self.auth.jwks) || self.auth.jwks.url.matches('^(https://[^\\s/]+|http://(localhost|127[.]0[.]0[.]1|\\[::1\\])(:[0-9]+)?)(/\\S*)?$')",
    remedy: "url: write the key set's URL with https:// (http:// for localhost alone), such as https://issuer.example.com/jwks.json",
    offending: |spec| {
        let url = &spec.auth.jwks.as_ref()?.url;
        (!is_key_set_url(url)).then(|| quoted(url))
    },
};

pub(crate) const JWKS_ISSUER: SpecRule = SpecRule {
    field: "auth.issuer",
    cel: "!has(self.auth.jwks) || (has(self.auth.issuer) && self.auth.issuer != '')",
    remedy: "issuer is needed with jwks: write what the tokens carry as iss, such as https://issuer.example.com",
    offending: |spec| spec.auth.jwks.as_ref().and_then(|_| empty(spec.auth.issuer.as_deref())),
};

pub(crate) const JWKS_AUDIENCE: SpecRule = SpecRule {
    field: "auth.audience",
    cel: "!has(self.auth.jwks) || (has(self.auth.audience) && self.auth.audience != '')",
    remedy: "audience is needed with jwks, so that a token meant for another service does not open this one: write what the tokens carry as aud, such as cams",
    offending: |spec| spec.auth.jwks.as_ref().and_then(|_| empty(spec.auth.audience.as_deref())),
};

fn empty(text: Option<&str>) -> Option<String> {
    match text {
        None => Some("absent".to_owned()),
        Some("") => Some(quoted("")),
        Some(_) => None,
    }
}

fn is_key_set_url(url: &str) -> bool {
    match http_authority(url) {
        Some(("https", _)) => true,
        Some((_, authority)) => {
            let is_port = |rest: &str| {
                rest.is_empty()
                    || rest
                        .strip_prefix(':')
                        .is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
            };
            ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| authority.strip_prefix(host).is_some_and(is_port))
        }
        None => false,
    }
}
