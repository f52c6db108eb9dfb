//! How much of a volume stays free: a share of it, or a quantity of bytes.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ParseScalarError, Quantity, leading_digits, quantity};

const REMEDY: &str = "write a percentage from 0% to 90%, such as 10%, or bytes with a unit, such as 5Gi";
const MAX_LENGTH: usize = 32;

/// Free space to keep: `10%` of the volume, or a quantity of bytes such as `5Gi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepFree {
    /// Percent of the volume, 0 to 90.
    Percent(u8),
    /// Bytes.
    Bytes(Quantity),
}

impl KeepFree {
    /// Bytes to keep free on a volume of `capacity` bytes.
    pub fn of_capacity(&self, capacity: u64) -> u64 {
        match self {
            Self::Percent(percent) => capacity / 100 * u64::from(*percent),
            Self::Bytes(bytes) => bytes.as_u64(),
        }
    }
}

impl FromStr for KeepFree {
    type Err = ParseScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseScalarError { value: text.to_owned(), remedy: REMEDY };
        if let Some(percent) = text.strip_suffix('%') {
            return match leading_digits(percent, 2) {
                // No leading zero, so that the text given back is the text written.
                Some((value @ 0..=90, "")) if percent.len() == 1 || value >= 10 => Ok(Self::Percent(value as u8)),
                _ => Err(refused()),
            };
        }
        // A bare number is more likely a percentage without its sign than a few bytes.
        if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return Err(refused());
        }
        text.parse().map(Self::Bytes).map_err(|_| refused())
    }
}

impl fmt::Display for KeepFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl Serialize for KeepFree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeepFree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = KeepFree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage such as 10%, or bytes with a unit such as 5Gi")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for KeepFree {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeepFree".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let bytes = quantity::FORMAT.trim_end_matches('?');
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [
                {"rule": format!("self.matches('^(([0-9]|[1-8][0-9]|90)%|{bytes})$')"), "message": REMEDY},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_a_quantity_are_told_apart() {
        assert_eq!("10%".parse::<KeepFree>().unwrap().of_capacity(1000), 100);
        assert_eq!("2k".parse::<KeepFree>().unwrap().of_capacity(1000), 2000);
    }

    #[test]
    fn shares_are_given_back_as_written() {
        for text in ["0%", "7%", "90%", "5Gi", "1.5T"] {
            assert_eq!(text.parse::<KeepFree>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bare_number_or_a_share_beyond_the_volume_is_refused() {
        for text in ["", "10", "91%", "100%", "%", "-1%", "1.5%", "07%", "ten%", "5GB"] {
            let error = text.parse::<KeepFree>().unwrap_err();
            assert!(error.to_string().contains("such as 10%"), "{error}");
        }
    }
}
