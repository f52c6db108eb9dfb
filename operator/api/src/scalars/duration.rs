//! Durations as Go and Kubernetes write them (`10s`, `1h30m`), and whole days (`30d`), which Go does not know.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ParseScalarError, leading_digits};

const REMEDY: &str = "write a duration such as 500ms, 10s, 5m, 1h30m or 30d (days stand alone)";
/// One to four numbers with their units, as an expression. At most 99999h each, since CEL's `duration()` fails, instead of
/// being out of bounds, beyond 292 years.
macro_rules! units_format {
    () => {
        "([0-9]{1,5}h|[0-9]{1,6}(ms|m|s)){1,4}"
    };
}
pub(crate) use units_format;

const FORMAT: &str = concat!("^([1-9][0-9]{0,4}d|", units_format!(), ")$");
const MAX_LENGTH: usize = 32;
const DAY: u64 = 24 * 3600;

/// A length of time as written, for example `10s`, `1h30m` or `30d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationString {
    text: String,
    value: Duration,
}

impl DurationString {
    /// The length of time meant.
    pub fn as_duration(&self) -> Duration {
        self.value
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A default of this crate. Panics on a literal that does not parse; the tests build every default.
    pub(crate) fn literal(text: &'static str) -> Self {
        text.parse().expect("a duration literal of this crate")
    }
}

impl FromStr for DurationString {
    type Err = ParseScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = parse(text).ok_or_else(|| ParseScalarError { value: text.to_owned(), remedy: REMEDY })?;
        Ok(Self { text: text.to_owned(), value })
    }
}

fn parse(text: &str) -> Option<Duration> {
    if let Some(days) = text.strip_suffix('d') {
        let (days, rest) = leading_digits(days, 5)?;
        return (rest.is_empty() && !text.starts_with('0')).then(|| Duration::from_secs(days * DAY));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    for _ in 0..4 {
        let (number, tail) = leading_digits(rest, 6)?;
        let (part, tail) = if let Some(tail) = tail.strip_prefix("ms") {
            (Duration::from_millis(number), tail)
        } else if let Some(tail) = tail.strip_prefix('h').filter(|tail| rest.len() - tail.len() <= 6) {
            (Duration::from_secs(number * 3600), tail)
        } else if let Some(tail) = tail.strip_prefix('m') {
            (Duration::from_secs(number * 60), tail)
        } else {
            (Duration::from_secs(number), tail.strip_prefix('s')?)
        };
        total += part;
        rest = tail;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

impl fmt::Display for DurationString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DurationString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DurationString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = DurationString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 10s, 5m, 1h or 30d")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for DurationString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DurationString".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [{"rule": format!("self.matches('{FORMAT}')"), "message": REMEDY}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1m5s250ms", 65_250),
            ("30d", 2_592_000_000),
        ] {
            let duration: DurationString = text.parse().unwrap();
            assert_eq!(duration.as_duration(), Duration::from_millis(milliseconds), "{text}");
            assert_eq!(serde_json::to_string(&duration).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_to_write() {
        for text in
            ["", "10", "s", "10 s", "10sec", "-1s", "1.5h", "0d", "1d12h", "1h2h3h4h5h", "9999999s", "100000h", "１s"]
        {
            let error = text.parse::<DurationString>().unwrap_err();
            assert!(error.to_string().contains("10s, 5m"), "{error}");
        }
    }
}
