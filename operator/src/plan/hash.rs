//! Hashes of what is wanted, so that a later pass tells at a glance whether it is there already.
//!
//! SHA-256 of the value as JSON, cut to 80 bits: against accidents, not against an adversary, who could write the
//! annotation as well. No hash is taken of what a Secret holds.

use ring::digest;
use serde::Serialize;

/// The hash of a value, as 20 hexadecimal digits.
pub(crate) fn of(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).expect("what is hashed are plain structures with text keys");
    hex(&digest::digest(&digest::SHA256, &bytes).as_ref()[..10])
}

/// Two lower-case digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_values_hash_alike_and_others_do_not() {
        assert_eq!(of(&json!({"a": 1, "b": [2]})), of(&json!({"a": 1, "b": [2]})));
        assert_ne!(of(&json!({"a": 1})), of(&json!({"a": 2})));
        assert_eq!(of(&json!({})).len(), 20);
    }
}
