//! Quantities: the part of Kubernetes' `resource.Quantity` that counts bytes or bits, without exponents and signs.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ParseScalarError, leading_digits};

const REMEDY: &str = "write a number with an optional unit: k, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024), such as 8M or 20Gi";
pub(super) const FORMAT: &str = "[0-9]{1,15}([.][0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?";

/// A number of bytes, or of bits per second, as written: `20Gi`, `8M`, `2500k`, or a bare integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    value: u64,
    written_as_integer: bool,
}

impl Quantity {
    /// The number meant, rounded down.
    pub fn as_u64(&self) -> u64 {
        self.value
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A default of this crate. Panics on a literal that does not parse; the tests build every default.
    pub(crate) fn literal(text: &'static str) -> Self {
        text.parse().expect("a quantity literal of this crate")
    }
}

impl FromStr for Quantity {
    type Err = ParseScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = parse(text).ok_or_else(|| ParseScalarError { value: text.to_owned(), remedy: REMEDY })?;
        Ok(Self { text: text.to_owned(), value, written_as_integer: false })
    }
}

fn parse(text: &str) -> Option<u64> {
    let (whole, rest) = leading_digits(text, 15)?;
    let (thousandths, unit) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let (fraction, unit) = leading_digits(rest, 3)?;
            let scale = [100, 10, 1][rest.len() - unit.len() - 1];
            (fraction * scale, unit)
        }
    };
    let factor: u128 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let value = (u128::from(whole) * 1000 + u128::from(thousandths)) * factor / 1000;
    Some(u64::try_from(value).unwrap_or(u64::MAX))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.written_as_integer {
            serializer.serialize_u64(self.value)
        } else {
            serializer.serialize_str(&self.text)
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 8M or 20Gi")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                let quantity: Quantity = value.to_string().parse().map_err(E::custom)?;
                Ok(Quantity { written_as_integer: true, ..quantity })
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "x-kubernetes-validations": [{"rule": format!("string(self).matches('^{FORMAT}$')"), "message": REMEDY}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        for (text, value) in [
            ("0", 0),
            ("8M", 8_000_000),
            ("2500k", 2_500_000),
            ("1.5Gi", 1_610_612_736),
            ("0.001k", 1),
            ("20Gi", 21_474_836_480),
            ("999999999999999Ti", u64::MAX),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.as_u64(), value, "{text}");
            assert_eq!(serde_json::to_string(&quantity).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn a_bare_integer_stays_an_integer() {
        let quantity: Quantity = serde_json::from_str("8000000").unwrap();
        assert_eq!(quantity.as_u64(), 8_000_000);
        assert_eq!(serde_json::to_string(&quantity).unwrap(), "8000000");
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_what_to_write() {
        for text in ["", "M", "8 M", "8MB", "8mbit", "-1", "1e3", "1.", "1.2345", ".5", "8m", "8K"] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert!(error.to_string().contains("such as 8M or 20Gi"), "{error}");
        }
    }
}
