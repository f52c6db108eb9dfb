//! The generator tries everything that the definition knows.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use streamsession_tests::specs::{Case, Form, Path, Specs, Step, Verdict, bases, delivered, everything};

/// What a case of a fuzz run of the usual length may be.
const CASES: u64 = 1_000;

fn cases(specs: &Specs) -> Vec<Case> {
    (0..CASES).map(|seed| specs.case(seed)).collect()
}

/// Every field that a spec says something about, with what it says.
fn said<'a>(value: &'a Value, schema: &Value, path: &Path, found: &mut BTreeMap<Path, Vec<&'a Value>>) {
    found.entry(path.clone()).or_default().push(value);
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if let Some(field) = schema["properties"].get(name) {
                    said(value, field, &path.and(Step::Field(name.clone())), found);
                } else if schema["additionalProperties"].is_object() {
                    said(value, &schema["additionalProperties"], &path.and(Step::Entry), found);
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| said(item, &schema["items"], &path.and(Step::Item), found));
        }
        _ => {}
    }
}

#[test]
fn a_case_is_a_function_of_its_seed() {
    let (one, another) = (Specs::new(), Specs::new());
    for seed in 0..50 {
        assert_eq!(one.case(seed).spec, another.case(seed).spec);
    }
    assert_ne!(one.case(1).spec, one.case(2).spec);
}

#[test]
fn a_thousand_cases_try_every_field_and_every_value_of_an_enum() {
    let specs = Specs::new();
    let cases = cases(&specs);
    let mut found = BTreeMap::new();
    for case in &cases {
        said(&case.spec, specs.schema(), &Path::default(), &mut found);
    }
    let fields = specs.fields();
    assert!(fields.len() > 100, "{} fields", fields.len());
    for field in fields {
        assert!(found.contains_key(&field.path), "{} was never tried", field.path);
    }
    for field in fields.iter().filter(|field| field.form == Form::Leaf) {
        let tried: BTreeSet<String> = found[&field.path].iter().map(ToString::to_string).collect();
        for value in field.schema["enum"].as_array().into_iter().flatten() {
            assert!(tried.contains(&value.to_string()), "{} was never {value}", field.path);
        }
        assert!(tried.len() > 1, "{} was only ever {tried:?}", field.path);
    }
}

#[test]
fn a_thousand_cases_break_every_rule_and_are_good_and_malformed_as_well() {
    let specs = Specs::new();
    let (mut taken, mut malformed, mut refused) = (0, BTreeSet::new(), BTreeSet::new());
    for case in cases(&specs) {
        match specs.verdict(&case.spec) {
            Verdict::Taken(_) => taken += 1,
            Verdict::Malformed(wrong) => {
                malformed.extend(wrong.iter().filter_map(|one| Some(one.split_once(": ")?.1.to_owned())))
            }
            Verdict::Refused(messages) => refused.extend(messages),
        }
    }
    assert!((CASES / 4..CASES * 3 / 4).contains(&taken), "{taken} of {CASES} are taken");
    for message in specs.messages() {
        assert!(refused.contains(message), "no case breaks: {message}");
    }
    for what in [
        "unknown field",
        "wrong type",
        "required",
        "out of range",
        "too long",
        "too short",
        "too many items",
        "none of the values",
        "neither an integer nor a text",
    ] {
        assert!(malformed.contains(what), "no case is malformed by: {what}; {malformed:?}");
    }
}

#[test]
fn good_bases_are_good() {
    let specs = Specs::new();
    for base in bases().into_iter().chain(everything()) {
        assert!(specs.verdict(&base).is_taken(), "{base}: {:?}", specs.verdict(&base));
    }
}

#[test]
fn what_is_delivered_is_pruned_and_has_every_default() {
    let kept = delivered(&json!({"mystery": 1, "limits": {"maxPublishers": null, "maxBitrate": "1M"}, "turn": null}));
    assert_eq!(kept["limits"], json!({"maxPublishers": 4, "maxSubscribersPerRoom": 50, "maxBitrate": "1M"}));
    assert_eq!(kept["turn"], json!({"mode": "Managed", "credentialTTL": "1h"}));
    assert!(kept.get("mystery").is_none());
}
