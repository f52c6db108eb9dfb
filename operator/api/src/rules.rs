//! The rules that go beyond one value's form: bounds, and fields that need or exclude each other.
//!
//! Each rule stands here once, as CEL for the API server (x-kubernetes-validations, which `session` attaches) and as a
//! predicate for [`StreamSession::validate`], side by side and with one message. CEL in a CustomResourceDefinition sees
//! nothing of `metadata` but `name` and `generateName`; so what a rule needs to know stands in the spec (ADR 0002).
//! The two halves may differ only where CEL is the laxer one: `validate` looks at addresses more closely.

mod auth;
mod http;
mod media;
mod recording;

use std::{fmt, time::Duration};

use crate::{DurationString, Quantity, StreamSession, StreamSessionSpec};

pub(crate) use auth::*;
pub(crate) use http::*;
pub(crate) use media::*;
pub(crate) use recording::*;

/// One thing in a session that is well-formed but cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field from the document's root, such as `spec.limits.maxPublishers`.
    pub field: String,
    /// What it is, as written; `absent` when it is missing.
    pub value: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.remedy)
    }
}

/// A rule about the spec.
pub(crate) struct SpecRule {
    /// Path of the field below the spec.
    pub(crate) field: &'static str,
    /// True of a good spec; `self` is the spec.
    pub(crate) cel: &'static str,
    /// What would be right.
    pub(crate) remedy: &'static str,
    /// The offending value of a bad spec, `None` for a good one.
    pub(crate) offending: fn(&StreamSessionSpec) -> Option<String>,
}

impl SpecRule {
    /// As `x-kubernetes-validations` of the spec.
    pub(crate) fn rule(&self) -> kube::core::Rule {
        kube::core::Rule::new(self.cel).message(self.remedy).field_path(format!(".{}", self.field))
    }
}

/// A rule about the whole document.
pub(crate) struct RootRule {
    cel: &'static str,
    remedy: &'static str,
}

impl RootRule {
    /// As `x-kubernetes-validations` of the root.
    pub(crate) fn rule(&self) -> kube::core::Rule {
        kube::core::Rule::new(self.cel).message(self.remedy)
    }
}

/// The pod is named after the session, and so are its Service and its labels.
pub(crate) const METADATA_NAME: RootRule = RootRule {
    cel: "self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    remedy: "metadata.name: write at most 52 lower-case letters, digits and hyphens, beginning with a letter, such as front-door",
};

/// Every rule about the spec, in the order of its fields.
pub(crate) const SPEC_RULES: [&SpecRule; 41] = [
    &MAX_PUBLISHERS,
    &MAX_SUBSCRIBERS,
    &MAX_STREAMS,
    &MAX_BITRATE,
    &GOP_CACHE,
    &MEDIA_PORT,
    &MEDIA_NODE_PORT,
    &ANNOUNCE,
    &INGRESS_HOST,
    &ALLOWED_ORIGINS,
    &TRUSTED_PROXIES,
    &BASE_PATH,
    &TURN_EXTERNAL,
    &TURN_URLS,
    &TURN_CREDENTIAL_TTL,
    &TURN_NODE_PORT,
    &STORAGE_EXTERNAL,
    &STORAGE_ENDPOINT,
    &STORAGE_BUCKET,
    &STORAGE_PREFIX,
    &STORAGE_CA_BUNDLE,
    &STORAGE_WEB_IDENTITY,
    &STORAGE_STS_ENDPOINT,
    &STORAGE_SIZE,
    &SEGMENT_DURATION,
    &MAX_DURATION,
    &IDLE_TIMEOUT,
    &MAX_AGE,
    &MAX_BYTES,
    &CLEANUP_SCHEDULE,
    &RECLAIM_DELETE,
    &AUTH_OPEN,
    &AUTH_CALLBACK,
    &CALLBACK_URL,
    &CALLBACK_TIMEOUT,
    &AUTH_KEYS,
    &JWKS_URL,
    &JWKS_ISSUER,
    &JWKS_AUDIENCE,
    &DRAIN_DEADLINE,
    &DATABASE_URL,
];

impl StreamSession {
    /// What the API server would refuse of this session, in the order of its fields; empty when it is good.
    pub fn validate(&self) -> Vec<Violation> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let mut violations = Vec::new();
        if !is_session_name(name) {
            violations.push(Violation {
                field: "metadata.name".to_owned(),
                value: quoted(name),
                remedy: METADATA_NAME.remedy.to_owned(),
            });
        }
        violations.extend(self.spec.validate());
        violations
    }
}

impl StreamSessionSpec {
    /// What the API server would refuse of this spec, in the order of its fields; empty when it is good.
    pub fn validate(&self) -> Vec<Violation> {
        SPEC_RULES
            .iter()
            .filter_map(|rule| {
                let value = (rule.offending)(self)?;
                Some(Violation { field: format!("spec.{}", rule.field), value, remedy: rule.remedy.to_owned() })
            })
            .collect()
    }
}

fn is_session_name(name: &str) -> bool {
    name.len() <= 52
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// CEL: the duration at `$path` lies from `$least` to `$most`, and one in whole days satisfies `$days`. A text that is
/// no duration passes, since its own rule refuses it.
// Bounds must be durations that Go can hold: 292 years at most.
macro_rules! cel_duration {
    ($path:literal, $least:literal, $most:literal, $days:literal) => {
        concat!(
            $path,
            ".endsWith('d') ? ",
            $days,
            " : (!",
            $path,
            ".matches('^",
            crate::scalars::units_format!(),
            "$') || (duration(",
            $path,
            ") >= duration('",
            $least,
            "') && duration(",
            $path,
            ") <= duration('",
            $most,
            "')))"
        )
    };
}

/// CEL: the quantity at `$path` is at least `$least`. A text that is no quantity passes, since its own rule refuses it.
macro_rules! cel_at_least {
    ($path:literal, $least:literal) => {
        concat!(
            "!isQuantity(string(",
            $path,
            ")) || quantity(string(",
            $path,
            ")).compareTo(quantity('",
            $least,
            "')) >= 0"
        )
    };
}

/// CEL: the quantity at `$path` is at least `$least` and at most `$most`.
macro_rules! cel_between {
    ($path:literal, $least:literal, $most:literal) => {
        concat!(
            "!isQuantity(string(",
            $path,
            ")) || (quantity(string(",
            $path,
            ")).compareTo(quantity('",
            $least,
            "')) >= 0 && quantity(string(",
            $path,
            ")).compareTo(quantity('",
            $most,
            "')) <= 0)"
        )
    };
}

use {cel_at_least, cel_between, cel_duration};

fn count_below_one(count: u32) -> Option<String> {
    (count < 1).then(|| count.to_string())
}

fn quantity_below(quantity: &Quantity, least: u64) -> Option<String> {
    (quantity.as_u64() < least).then(|| quantity.to_string())
}

fn duration_outside(duration: &DurationString, least: Duration, most: Duration) -> Option<String> {
    (!(least..=most).contains(&duration.as_duration())).then(|| duration.to_string())
}

/// The offending value of a group that must be there exactly when `mode` is `wanted`.
fn present_unless<M: PartialEq + fmt::Debug>(present: bool, mode: M, wanted: M) -> Option<String> {
    match (present, mode == wanted) {
        (true, false) => Some(format!("present with mode {mode:?}")),
        (false, true) => Some("absent".to_owned()),
        _ => None,
    }
}

/// A value between quotes, so that an empty one is seen.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// Scheme and authority of an http or https URL without blanks.
fn http_authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let good = matches!(scheme, "http" | "https") && !authority.is_empty() && !url.contains(char::is_whitespace);
    good.then_some((scheme, authority))
}

#[cfg(test)]
mod tests;
