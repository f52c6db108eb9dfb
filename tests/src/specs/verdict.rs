//! What an API server answers to a spec: the spec as it keeps it, or why it refuses it.
//!
//! The structural rules are those of Kubernetes for CustomResourceDefinitions ("Specifying a structural schema", "Defaulting",
//! "Field pruning"), as far as our definition makes use of them: types, bounds, lengths, enums, what is required. Unknown
//! fields are refused, as kubectl asks for (`fieldValidation=Strict`). CEL is evaluated by kube's own evaluator, and only for
//! what is structurally right.

use super::schema::{self, Form, form, list};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Map, Value, json};

/// What is said of a spec.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is kept so: pruned, with every default.
    Taken(Value),
    /// It is not what the schema describes: each field with what is wrong.
    Malformed(Vec<String>),
    /// It is what the schema describes, and rules say no: their messages, each once.
    Refused(Vec<String>),
}

impl Verdict {
    /// Whether the spec is kept.
    pub fn is_taken(&self) -> bool {
        matches!(self, Verdict::Taken(_))
    }
}

/// Says what an API server answers.
pub(super) struct Judge {
    rules: CompiledSchema,
    validator: Validator,
}

impl Judge {
    /// By the definition in crds/.
    pub(super) fn new() -> Judge {
        Judge { rules: compile_schema(schema::definition().root), validator: Validator::new() }
    }

    /// What is said of this spec, in a session of a good name.
    pub(super) fn of(&self, spec: &Value) -> Verdict {
        let kept = delivered(spec);
        let mut wrong = Vec::new();
        unknown(spec, schema::definition().spec, "spec", &mut wrong);
        check(&kept, schema::definition().spec, "spec", &mut wrong);
        if !wrong.is_empty() {
            return Verdict::Malformed(wrong);
        }
        let document = json!({"metadata": {"name": "front-door"}, "spec": kept});
        match self.validator.validate_compiled(&self.rules, &document, None) {
            Ok(()) => Verdict::Taken(kept),
            Err(errors) => {
                let mut messages: Vec<String> = errors.iter().map(|error| error.message.clone()).collect();
                messages.sort();
                messages.dedup();
                Verdict::Refused(messages)
            }
        }
    }
}

/// The spec as the API server would hand it on if it took it: without fields that it does not know, without nulls, and with
/// every default. Nothing is checked.
pub fn delivered(spec: &Value) -> Value {
    let mut spec = spec.clone();
    keep(&mut spec, schema::definition().spec);
    spec
}

fn keep(value: &mut Value, schema: &Value) {
    match (form(schema), value) {
        (Form::Group, Value::Object(object)) => {
            let known = schema["properties"].as_object();
            object.retain(|name, value| !value.is_null() && known.is_some_and(|known| known.contains_key(name)));
            for (name, field) in known.into_iter().flatten() {
                if !object.contains_key(name) && !field["default"].is_null() {
                    object.insert(name.clone(), field["default"].clone());
                }
            }
            for (name, value) in object {
                keep(value, &schema["properties"][name.as_str()]);
            }
        }
        (Form::Map, Value::Object(object)) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(|value| keep(value, &schema["additionalProperties"]));
        }
        (Form::List, Value::Array(items)) => items.iter_mut().for_each(|item| keep(item, &schema["items"])),
        _ => {}
    }
}

fn unknown(value: &Value, schema: &Value, path: &str, wrong: &mut Vec<String>) {
    match (form(schema), value) {
        (Form::Group, Value::Object(object)) => {
            for (name, value) in object {
                let path = format!("{path}.{name}");
                match schema["properties"].get(name) {
                    Some(field) => unknown(value, field, &path, wrong),
                    None => wrong.push(format!("{path}: unknown field")),
                }
            }
        }
        (Form::Map, Value::Object(object)) => {
            for (name, value) in object {
                unknown(value, &schema["additionalProperties"], &format!("{path}.{name}"), wrong);
            }
        }
        (Form::List, Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                unknown(item, &schema["items"], &format!("{path}[{index}]"), wrong);
            }
        }
        _ => {}
    }
}

fn check(value: &Value, schema: &Value, path: &str, wrong: &mut Vec<String>) {
    match (form(schema), value) {
        (Form::Group, Value::Object(object)) => group(object, schema, path, wrong),
        (Form::Map, Value::Object(object)) => {
            for (name, value) in object {
                check(value, &schema["additionalProperties"], &format!("{path}.{name}"), wrong);
            }
        }
        (Form::List, Value::Array(items)) => {
            if schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most) {
                wrong.push(format!("{path}: too many items"));
            }
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), wrong);
            }
        }
        (Form::Leaf, value) => {
            if let Some(what) = leaf(value, schema) {
                wrong.push(format!("{path}: {what}"));
            }
        }
        _ => wrong.push(format!("{path}: wrong type")),
    }
}

fn group(object: &Map<String, Value>, schema: &Value, path: &str, wrong: &mut Vec<String>) {
    for name in list(schema, "required").filter_map(Value::as_str) {
        if !object.contains_key(name) {
            wrong.push(format!("{path}.{name}: required"));
        }
    }
    for (name, value) in object {
        check(value, &schema["properties"][name.as_str()], &format!("{path}.{name}"), wrong);
    }
}

fn leaf(value: &Value, schema: &Value) -> Option<&'static str> {
    if schema["x-kubernetes-int-or-string"] == true {
        let integer = value.is_i64() || value.is_u64();
        return (!integer && !value.is_string()).then_some("neither an integer nor a text");
    }
    match schema["type"].as_str() {
        Some("boolean") => (!value.is_boolean()).then_some("wrong type"),
        Some("integer") => integer(value, schema),
        Some("string") => {
            let Some(text) = value.as_str() else { return Some("wrong type") };
            // Lengths are counted in characters.
            let length = text.chars().count() as u64;
            if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
                return Some("too long");
            }
            if schema["minLength"].as_u64().is_some_and(|least| length < least) {
                return Some("too short");
            }
            let known = schema["enum"].as_array();
            known.is_some_and(|known| !known.contains(value)).then_some("none of the values")
        }
        _ => None,
    }
}

fn integer(value: &Value, schema: &Value) -> Option<&'static str> {
    let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0) else { return Some("wrong type") };
    let out =
        |name: &str, beyond: fn(f64, f64) -> bool| schema[name].as_f64().is_some_and(|bound| beyond(number, bound));
    if out("minimum", |number, bound| number < bound) || out("maximum", |number, bound| number > bound) {
        return Some("out of range");
    }
    let small = schema["format"] == "int32" && value.as_i64().is_none_or(|number| i32::try_from(number).is_err());
    (small || value.as_i64().is_none()).then_some("out of its format's range")
}
