//! A StreamSession from a YAML file, with errors that say where and what would be right.
//!
//! serde_yaml reads the text twice (ADR 0001). First `walk` goes through it beside the schema of the
//! CustomResourceDefinition: it knows lines and columns, and refuses fields that the schema lacks, as `kubectl apply`
//! does. Then the values are decoded into types. The types themselves skip unknown fields, so that an operator one
//! version older than the definition can still decode what the API server hands it.
//!
//! Bounds: a document has at most [`MAX_YAML_BYTES`] and, aliases followed, at most 20,000 values. serde_yaml bounds
//! nesting (128) and the number of aliases followed, but not what those aliases expand to.

mod walk;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_yaml::Value;

use crate::{StreamSession, StreamSessionSpec};

/// The largest document that is read, in bytes.
pub const MAX_YAML_BYTES: usize = 256 * 1024;

const API_VERSION: &str = "media.streamsession.io/v1alpha1";
const KIND: &str = "StreamSession";

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Why a text is no StreamSession. Displays as `file:line:column: what and what would be right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The file's name, as given to [`from_yaml`].
    pub file: String,
    /// Where, when it is at one place.
    pub location: Option<Location>,
    /// What.
    pub problem: Box<YamlProblem>,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Location { line, column }) = self.location {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for YamlError {}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlProblem {
    /// It is not YAML.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// It is larger than [`MAX_YAML_BYTES`], or its aliases expand to too much.
    #[error("{0}")]
    TooLarge(String),
    /// A field that no StreamSession has.
    #[error("unknown field `{field}` at {parent}, {}", suggestion(nearest.as_deref(), known))]
    UnknownField {
        /// The field as written.
        field: String,
        /// Path of the mapping that it stands in.
        parent: String,
        /// The known field that it is likely meant to be.
        nearest: Option<String>,
        /// All fields known there.
        known: Vec<String>,
    },
    /// A field that stands twice in one mapping.
    #[error("field `{field}` stands twice at {parent}: remove one")]
    DuplicateField {
        /// The field.
        field: String,
        /// Path of the mapping that it stands in.
        parent: String,
    },
    /// A value of the wrong form.
    #[error("{field}: {message}")]
    Value {
        /// Path of the field.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known there: {}", known.join(", ")),
    }
}

/// Reads one StreamSession. `file` is for the error's text alone: nothing is opened. What is well-formed but cannot
/// be is the matter of [`StreamSession::validate`].
pub fn from_yaml(text: &str, file: &str) -> Result<StreamSession, YamlError> {
    read(text).map_err(|(location, problem)| YamlError { file: file.to_owned(), location, problem: Box::new(problem) })
}

/// Where the field at `path` (`spec.limits.maxPublishers`, `spec.exposure.announce[0]`) stands in a text, or else the
/// nearest field around it: for the message about a [`Violation`](crate::Violation).
pub fn locate(text: &str, path: &str) -> Option<Location> {
    let mut path = path;
    loop {
        if let Some(location) = walk::locate(text, path) {
            return Some(location);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

type Failure = (Option<Location>, YamlProblem);

/// The document, every part optional, so that what is missing is told in our words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<ObjectMeta>,
    spec: Option<StreamSessionSpec>,
}

fn read(text: &str) -> Result<StreamSession, Failure> {
    if text.len() > MAX_YAML_BYTES {
        let message = format!("{} bytes are too many for a StreamSession: at most {MAX_YAML_BYTES}", text.len());
        return Err((None, YamlProblem::TooLarge(message)));
    }
    if is_blank(text) {
        return Err(wrong(text, "", "the file is empty: begin with `apiVersion: media.streamsession.io/v1alpha1`"));
    }
    walk::check(text)?;
    let mut value: Value = serde_yaml::from_str(text).map_err(|error| syntax(text, error))?;
    prune_nulls(&mut value);
    if !value.is_mapping() {
        return Err(wrong(
            text,
            "",
            "the file holds no StreamSession: begin with `apiVersion: media.streamsession.io/v1alpha1`",
        ));
    }
    let has_spec = value.get("spec").is_some();
    let document: Document = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        wrong(text, &path, &plain(&error.into_inner().to_string()))
    })?;
    expect_word(text, "apiVersion", document.api_version.as_deref(), API_VERSION)?;
    expect_word(text, "kind", document.kind.as_deref(), KIND)?;
    let metadata = document.metadata.unwrap_or_default();
    if metadata.name.is_none() {
        return Err(wrong(text, "metadata.name", "absent: write a name, such as `metadata: {name: front-door}`"));
    }
    let spec = match document.spec {
        Some(spec) if has_spec => spec,
        _ => return Err(wrong(text, "spec", "absent: write `spec: {}` to take every default")),
    };
    Ok(StreamSession { metadata, spec, status: None })
}

fn expect_word(text: &str, field: &str, written: Option<&str>, wanted: &str) -> Result<(), Failure> {
    match written {
        Some(written) if written == wanted => Ok(()),
        Some(written) => Err(wrong(text, field, &format!("`{written}` is not read here: write {wanted}"))),
        None => Err(wrong(text, field, &format!("absent: write `{field}: {wanted}`"))),
    }
}

fn wrong(text: &str, path: &str, message: &str) -> Failure {
    let field = if path.is_empty() || path == "." { "the document" } else { path };
    (locate(text, path), YamlProblem::Value { field: field.to_owned(), message: message.to_owned() })
}

/// Nothing but comments and marks of documents.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// A syntax error of serde_yaml, its place taken out of its text.
fn syntax(text: &str, error: serde_yaml::Error) -> Failure {
    let location = error.location().map(|place| Location { line: place.line(), column: place.column() });
    let mut message = error.to_string();
    if let Some(Location { line, column }) = location {
        message = message.replace(&format!(" at line {line} column {column}"), "");
    }
    if message.contains("more than one document") {
        message = "more than one document in the file: keep one, without `---` after it".to_owned();
    }
    let line = location.and_then(|location| text.lines().nth(location.line.checked_sub(1)?));
    if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        message = "the line begins with a tab: indent with blanks".to_owned();
    }
    (location, YamlProblem::Syntax(message))
}

/// An error of serde without the names of Rust's types.
fn plain(message: &str) -> String {
    let mut message = message.to_owned();
    for (rust, words) in [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("invalid type: sequence", "invalid type: list"),
    ] {
        message = message.replace(rust, words);
    }
    // "struct Limits", "struct Limits with 4 elements"
    if let Some(start) = message.find("expected struct ") {
        message.truncate(start);
        message.push_str("expected fields, each as `name: value`");
    }
    message
}

/// Drops what is written as `field:` with nothing behind it, as the API server does before it writes the defaults.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => {
            mapping.retain(|_, value| !value.is_null());
            mapping.values_mut().for_each(prune_nulls);
        }
        Value::Sequence(values) => values.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
