//! The StreamSession document as a file, and which of its fields somebody wrote.

use super::ConfigError;
use crate::auth::{Secret, key};
use serde_yaml::Value;
use std::fs;
use std::path::{Path, PathBuf};
use streamsession_api::{StreamSession, StreamSessionSpec};

/// A document that was read and is valid by itself.
#[derive(Clone, Debug)]
pub struct SessionDocument {
    session: StreamSession,
    /// The same document without defaults.
    written: Value,
}

impl SessionDocument {
    /// Reads `path`.
    pub fn read(path: &Path) -> Result<SessionDocument, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| {
            file_error("--session", path, error, "name a StreamSession document (YAML), such as examples/minimal.yaml")
        })?;
        SessionDocument::parse(path, &text)
    }

    /// Parses and validates `text`; `path` is for errors only.
    pub fn parse(path: &Path, text: &str) -> Result<SessionDocument, ConfigError> {
        let file = path.display().to_string();
        let session = streamsession_api::from_yaml(text, &file).map_err(|error| ConfigError::Yaml(Box::new(error)))?;
        if let Some(violation) = session.validate().into_iter().next() {
            let place = match streamsession_api::locate(text, &violation.field) {
                Some(location) => format!("{file}:{}:{}", location.line, location.column),
                None => file,
            };
            return Err(ConfigError::Violation { place, violation: Box::new(violation) });
        }
        // The document was parsed once already; what cannot be read again has nothing written in it.
        let written = serde_yaml::from_str(text).unwrap_or(Value::Null);
        Ok(SessionDocument { session, written })
    }

    /// Its spec, with defaults.
    pub fn spec(&self) -> &StreamSessionSpec {
        &self.session.spec
    }

    /// `metadata.name`.
    pub fn name(&self) -> Option<&str> {
        self.session.metadata.name.as_deref()
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.session.metadata.namespace.as_deref()
    }

    /// True when the document says something at this path, `auth.mode` for `spec.auth.mode`.
    pub(super) fn says(&self, path: &str) -> bool {
        let mut value = &self.written["spec"];
        for part in path.split('.') {
            value = &value[part];
        }
        match value {
            Value::Null => false,
            Value::Mapping(map) => !map.is_empty(),
            Value::Sequence(items) => !items.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        }
    }
}

/// Reads a secret; one final newline is not part of it.
pub(super) fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    key::read(path).map_err(|error| {
        file_error("--jwt-secret-file", path, error, "`openssl rand -hex 32` prints a secret for such a file")
    })
}

fn file_error(flag: &'static str, path: &Path, error: std::io::Error, remedy: &'static str) -> ConfigError {
    ConfigError::File { flag, path: PathBuf::from(path), error, remedy }
}
