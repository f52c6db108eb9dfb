//! The CustomResourceDefinition: what kube's derive makes of the types, made fit for the API server.
//!
//! Rules: structural schemas (Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions"). Two things are
//! changed in what the derive gives. Formats that Kubernetes does not know (`uint32` and the like) become bounds, so
//! that a number that passes the schema fits the Rust type. And nothing is nullable: the API server then takes a
//! `field:` with nothing behind it for an absent one and writes the default, instead of handing on a null.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::StreamSession;

const HEADER: &str = "# Generated from operator/api by `just crds`. Do not edit.\n";

/// The definition to install. Use this one, not `StreamSession::crd()`, which is before the changes named above.
pub fn crd() -> CustomResourceDefinition {
    let mut definition = StreamSession::crd();
    for version in &mut definition.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let mut value = serde_json::to_value(&*schema).expect("a derived schema is JSON");
        fit(&mut value);
        *schema = serde_json::from_value(value).expect("bounds and removed keys leave a schema");
    }
    definition
}

/// The definition as the YAML that stands in crds/.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(&crd())?))
}

/// The schema of the one version, as JSON.
pub(crate) fn schema() -> Value {
    let version = crd().spec.versions.swap_remove(0);
    let schema = version.schema.and_then(|schema| schema.open_api_v3_schema);
    serde_json::to_value(schema).expect("a derived schema is JSON")
}

fn fit(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(fit),
        Value::Object(object) => {
            bound(object);
            object.values_mut().for_each(fit);
        }
        _ => {}
    }
}

fn bound(object: &mut Map<String, Value>) {
    if object.get("nullable") == Some(&Value::Bool(true)) {
        object.remove("nullable");
    }
    let (format, most) = match object.get("format").and_then(Value::as_str) {
        Some("uint8") => ("int32", u64::from(u8::MAX)),
        Some("uint16") => ("int32", u64::from(u16::MAX)),
        Some("uint32") => ("int64", u64::from(u32::MAX)),
        Some("uint64") => ("int64", u64::MAX),
        _ => return,
    };
    object.insert("format".to_owned(), json!(format));
    object.entry("minimum").or_insert(json!(0));
    if most < u64::MAX {
        object.entry("maximum").or_insert(json!(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/streamsessions.media.streamsession.io.yaml");

    #[test]
    fn the_generated_definition_is_up_to_date() {
        let written = std::fs::read_to_string(PATH).unwrap_or_default();
        assert!(
            written == crd_yaml().unwrap(),
            "crds/ lags behind operator/api: run `cargo run -p streamsession-api --bin crds` (or `just crds`)"
        );
    }

    #[test]
    fn the_definition_fits_an_annotation() {
        let bytes = crd_yaml().unwrap().len();
        assert!(bytes < 256 * 1024, "{bytes} bytes");
    }

    #[test]
    fn the_schema_is_structural_and_knows_only_kubernetes_formats() {
        fn look(schema: &Value, path: &str) {
            let int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
            assert!(int_or_string || schema["type"].is_string(), "{path} has no type");
            assert!(schema.get("nullable").is_none(), "{path} is nullable");
            for keyword in ["oneOf", "anyOf", "allOf", "not", "$ref", "const"] {
                assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
            }
            if let Some(format) = schema.get("format").and_then(Value::as_str) {
                assert!(["int32", "int64", "date-time"].contains(&format), "{path} has format {format}");
            }
            assert!(schema.get("description").is_some() || path.contains("items"), "{path} has no description");
            for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                look(property, &format!("{path}.{name}"));
            }
            if let Some(items) = schema.get("items") {
                look(items, &format!("{path}.items"));
            }
        }
        look(&schema(), "");
    }

    #[test]
    fn every_field_of_the_spec_has_its_default_in_the_schema_or_says_that_it_has_none() {
        fn look(schema: &Value, path: &str) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                let description = property["description"].as_str().unwrap_or_default();
                let without = ["Default: ", "Default none", "no default", "Needed with", "instead of"];
                assert!(
                    property.get("default").is_some() || without.iter().any(|words| description.contains(words)),
                    "{path}: {description}"
                );
                if !path.starts_with(".pod.") {
                    look(property, &path);
                }
            }
        }
        look(&schema()["properties"]["spec"], "");
    }

    #[test]
    fn every_field_of_the_spec_says_when_it_takes_effect() {
        for (group, schema) in schema()["properties"]["spec"]["properties"].as_object().unwrap() {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let text = field["description"].as_str().unwrap();
                let times = ["Live", "When the pod is replaced", "When the volume is made"];
                assert!(times.iter().any(|time| text.contains(time)), "{group}.{name}: {text}");
            }
        }
    }

    #[test]
    fn columns_and_names_are_those_that_people_type() {
        let definition = crd();
        assert_eq!(definition.spec.names.short_names.unwrap(), ["ss"]);
        assert_eq!(definition.spec.names.categories.unwrap(), ["all", "media"]);
        let columns: Vec<(String, Option<i32>)> = definition.spec.versions[0]
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|column| (column.name.clone(), column.priority))
            .collect();
        let wide = |name: &str| (name.to_owned(), Some(1));
        let plain = |name: &str| (name.to_owned(), None);
        assert_eq!(
            columns,
            [
                plain("Ready"),
                plain("Publishers"),
                plain("Viewers"),
                plain("Caps"),
                plain("Age"),
                wide("Message"),
                wide("WHIP"),
                wide("Storage")
            ]
        );
    }
}
