//! What became of a prune, in one short document for whoever started it: `--report FILE`.
//!
//! It is made for a container's termination message: the kubelet mounts that file and reads at most 4 KiB of it, so it is
//! written in place, also when nothing could be done, and never has more than [`MOST`] bytes. The numbers are those of
//! `--json`; what went is not listed.

use super::prune::Kept;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Most bytes of a report.
const MOST: usize = 3072;
/// Most failures that are told, and most characters of each.
const FAILURES: (usize, usize) = (3, 300);
/// Most characters of why nothing could be done.
const ERROR: usize = 1000;

/// What became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Report {
    /// It was done, or would be.
    Pruned(Box<Pruned>),
    /// Nothing, or not all, could be looked at.
    Failed {
        /// Why, and what to do.
        error: String,
    },
}

/// In numbers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pruned {
    pub(super) dry_run: bool,
    /// That are gone; in a dry run: that would be.
    pub(super) recordings: usize,
    pub(super) orphans: usize,
    /// What uploads and writing left half done.
    pub(super) debris: usize,
    /// Bytes of all these, in all places together.
    pub(super) bytes: u64,
    pub(super) kept: Kept,
    /// Bytes by which the rest is beyond maxBytes.
    pub(super) over_bytes: u64,
    /// Bytes that are missing of keepFree.
    pub(super) short_bytes: u64,
    /// The first of them.
    pub(super) failures: Vec<String>,
}

impl Report {
    /// The document, cut until it is short enough.
    fn text(&self) -> String {
        let mut cut = 1;
        loop {
            let text = serde_json::to_string(&self.short(cut)).unwrap_or_default();
            if text.len() <= MOST || cut > ERROR {
                return text;
            }
            // Characters of several bytes, or that JSON has to escape.
            cut *= 2;
        }
    }

    fn short(&self, cut: usize) -> Report {
        match self {
            Report::Pruned(pruned) => {
                let failures = pruned.failures.iter().take(FAILURES.0).map(|text| line(text, FAILURES.1 / cut));
                Report::Pruned(Box::new(Pruned { failures: failures.collect(), ..(**pruned).clone() }))
            }
            Report::Failed { error } => Report::Failed { error: line(error, ERROR / cut) },
        }
    }
}

/// One line of at most so many characters.
fn line(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

/// A file that a report goes to.
#[derive(Debug)]
pub(super) struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    /// Opens it, or makes it; what it says stays until there is something to report.
    pub(super) fn open(path: &Path) -> Result<ReportFile, ReportError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let failed = |source| ReportError { path: path.to_owned(), source };
        file.map(|file| ReportFile { path: path.to_owned(), file }).map_err(failed)
    }

    /// Replaces what it says.
    pub(super) fn write(mut self, report: &Report) -> Result<(), ReportError> {
        let mut write = || {
            // What is no plain file cannot be cut, and need not be.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
                self.file.rewind()?;
            }
            self.file.write_all(report.text().as_bytes())
        };
        write().map_err(|source| ReportError { path: self.path.clone(), source })
    }
}

/// The report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("--report {}: {source}; name a file that can be written", path.display())]
pub(super) struct ReportError {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(report: &Report) -> Value {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("termination-log");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        ReportFile::open(&path).unwrap().write(report).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= MOST && !text.contains('\n'), "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    fn pruned(failures: Vec<String>) -> Report {
        let kept = Kept { recordings: 5, held: 1, ..Kept::default() };
        Report::Pruned(Box::new(Pruned {
            dry_run: false,
            recordings: 3,
            orphans: 0,
            debris: 1,
            bytes: 123,
            kept,
            over_bytes: 0,
            short_bytes: 7,
            failures,
        }))
    }

    #[test]
    fn a_report_has_the_numbers_and_replaces_what_was_there() {
        let expected = json!({
            "dryRun": false, "recordings": 3, "orphans": 0, "debris": 1, "bytes": 123,
            "kept": {"recordings": 5, "held": 1, "unfinished": 0, "pendingUpload": 0, "damaged": 0},
            "overBytes": 0, "shortBytes": 7, "failures": ["a: it is gone"],
        });
        assert_eq!(written(&pruned(vec!["a: it is gone".to_owned()])), expected);
        let failed = Report::Failed { error: "the store is away:\nlook at it".to_owned() };
        assert_eq!(written(&failed), json!({"error": "the store is away: look at it"}));
    }

    #[test]
    fn a_report_stays_short_whatever_it_tells() {
        for text in ["x", "\u{1F4F9}", "\"", "\\", "\u{0}", "\u{7f}"] {
            let long = text.repeat(5000);
            let told = written(&pruned(vec![long.clone(); 9]));
            assert_eq!(told["failures"].as_array().unwrap().len(), 3);
            assert!(told["failures"][0].as_str().unwrap().chars().count() <= 300);
            let told = written(&Report::Failed { error: long });
            let count = told["error"].as_str().unwrap().chars().count();
            assert!((1..=1000).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_report_that_cannot_be_written_is_named() {
        let error = ReportFile::open(Path::new("/no/such/place")).unwrap_err().to_string();
        assert!(error.contains("--report /no/such/place"), "{error}");
    }
}
