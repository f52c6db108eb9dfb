//! Whether an object that was seen still says what was wanted of it.
//!
//! The API server adds to what it is given (defaults, addresses, other managers' fields), leaves out what is empty, and
//! writes quantities in its own way (`1000m` becomes `1`). None of that is a difference; a changed or missing value is, and
//! so is anything more in what the API server takes and keeps as one value, where one key more chooses other pods.

use serde_json::Value;

/// Fields whose values an apply replaces as a whole (`x-kubernetes-map-type: atomic` and its like), and to which the API
/// server adds nothing.
const WHOLE: [&str; 5] = ["selector", "podSelector", "namespaceSelector", "nodeSelector", "ingress"];

/// Whether `seen` holds all of `wanted`.
pub(crate) fn holds(seen: &Value, wanted: &Value) -> bool {
    agrees(seen, wanted, false)
}

/// The same; with `whole`, `seen` may hold nothing more.
fn agrees(seen: &Value, wanted: &Value, whole: bool) -> bool {
    match (seen, wanted) {
        (Value::Object(seen), Value::Object(wanted)) => {
            let more = whole && seen.keys().any(|key| !wanted.contains_key(key));
            !more
                && wanted.iter().all(|(key, wanted)| {
                    let whole = whole || WHOLE.contains(&key.as_str());
                    agrees(seen.get(key).unwrap_or(&Value::Null), wanted, whole)
                })
        }
        (Value::Array(seen), Value::Array(wanted)) => {
            seen.len() == wanted.len() && seen.iter().zip(wanted).all(|(seen, wanted)| agrees(seen, wanted, whole))
        }
        (Value::Null, wanted) => is_empty(wanted),
        (Value::String(seen), Value::String(wanted)) => {
            seen == wanted || matches!((quantity(seen), quantity(wanted)), (Some(seen), Some(wanted)) if seen == wanted)
        }
        (seen, wanted) => seen == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.iter().all(is_empty),
        Value::Object(object) => object.values().all(is_empty),
    }
}

/// In thousandths; what is more is kept as this (`8Ei` as 9223372036854775807).
const MOST: u128 = i64::MAX as u128 * 1000;

/// A Kubernetes quantity (`apimachinery/pkg/api/resource`) in thousandths, rounded up as the API server does; `None`
/// for what is none.
pub(crate) fn quantity(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 24 || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let (multiplier, divisor) = match unit {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        _ => exponent(unit)?,
    };
    let digits = format!("{whole}{fraction}");
    let scaled = digits.parse::<u128>().ok()?.saturating_mul(multiplier);
    Some(scaled.div_ceil(divisor * 10_u128.pow(fraction.len() as u32)).min(MOST))
}

/// Multiplier and divisor of `e3`, `E-2`.
fn exponent(unit: &str) -> Option<(u128, u128)> {
    let power: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
    match power {
        0..=18 => Some((1_000 * 10_u128.pow(power.unsigned_abs()), 1)),
        19.. => Some((MOST * 10_u128.pow(9), 1)),
        -9..0 => Some((1_000, 10_u128.pow(power.unsigned_abs()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_api_server_adds_or_leaves_out_is_no_difference() {
        let wanted = json!({"spec": {"ports": [{"port": 80, "name": "http"}], "nodeSelector": {}, "readOnly": false}});
        let seen =
            json!({"spec": {"ports": [{"port": 80, "name": "http", "protocol": "TCP"}], "clusterIP": "10.0.0.1"}});
        assert!(holds(&seen, &wanted));
    }

    #[test]
    fn what_is_more_than_the_api_server_counts_is_kept_as_the_most() {
        for text in ["8Ei", "9223372036854775808", "999999999999999Ti", "1e19", "1e99", "999999999999999999E"] {
            assert_eq!(quantity(text), quantity("9223372036854775807"), "{text}");
        }
        assert_ne!(quantity("7Ei"), quantity("8Ei"));
        assert_eq!(quantity("0e99"), Some(0));
    }

    #[test]
    fn what_somebody_changed_or_removed_is_a_difference() {
        let wanted = json!({"a": "x", "list": [1, 2], "flag": true});
        for seen in [
            json!({"a": "y", "list": [1, 2], "flag": true}),
            json!({"list": [1, 2], "flag": true}),
            json!({"a": "x", "list": [1], "flag": true}),
            json!({"a": "x", "list": [1, 2, 3], "flag": true}),
            json!({"a": "x", "list": [1, 2], "flag": false}),
            json!({"a": "x", "list": [1, 2]}),
        ] {
            assert!(!holds(&seen, &wanted), "{seen}");
        }
    }

    #[test]
    fn what_somebody_added_to_a_selector_is_a_difference() {
        let wanted = json!({"spec": {"selector": {"a": "x"}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "x"}}}]}]}});
        let peers = |peers| json!([{"from": [peers]}]);
        let as_it_was = peers(json!({"podSelector": {"matchLabels": {"a": "x"}}}));
        for (selector, ingress, same) in [
            (json!({"a": "x"}), as_it_was.clone(), true),
            (json!({"a": "x", "b": "y"}), as_it_was.clone(), false),
            (json!({"a": "x", "b": ""}), as_it_was, false),
            (json!({"a": "x"}), peers(json!({"podSelector": {"matchLabels": {"a": "x", "b": "y"}}})), false),
            (
                json!({"a": "x"}),
                peers(json!({"podSelector": {"matchLabels": {"a": "x"}, "matchExpressions": [1]}})),
                false,
            ),
            (
                json!({"a": "x"}),
                peers(json!({"podSelector": {"matchLabels": {"a": "x"}}, "namespaceSelector": {}})),
                false,
            ),
        ] {
            let seen = json!({"spec": {"selector": selector, "ingress": ingress, "clusterIP": "10.0.0.1"}});
            assert_eq!(holds(&seen, &wanted), same, "{seen}");
        }
    }

    #[test]
    fn quantities_are_compared_by_what_they_are() {
        for (one, other) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Ti", "1536Gi"),
            ("1024Mi", "1Gi"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("100u", "1m"),
            (".5", "500m"),
        ] {
            assert!(holds(&json!(one), &json!(other)), "{one} {other}");
        }
        for (one, other) in [("1", "2"), ("1Gi", "1G"), ("a", "b"), ("1x", "1"), ("", "0"), ("1.2.3", "1.2")] {
            assert!(!holds(&json!(one), &json!(other)), "{one} {other}");
        }
    }
}
