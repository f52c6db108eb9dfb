//! What a clean-up's program says last (`media-server recordings prune --report`), as the container's status has it, and
//! how that is told to people.
//!
//! Whatever else stands there (a program that never ran, another version's words) is told as it is, cut short.

use serde::Deserialize;

use super::trouble::clipped;

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Report {
    /// Recordings that were deleted by a rule.
    pub(crate) recordings: u64,
    /// Recordings that were deleted since nobody will finish them.
    pub(crate) orphans: u64,
    /// What uploads and writing left half done, and was deleted.
    pub(crate) debris: u64,
    /// Bytes of all that was deleted, in all places together.
    pub(crate) bytes: u64,
    /// What stays.
    pub(crate) kept: Kept,
    /// Bytes by which the rest is beyond maxBytes.
    pub(crate) over_bytes: u64,
    /// Bytes that are missing of keepFree.
    pub(crate) short_bytes: u64,
    /// What could not be deleted, and why.
    pub(crate) failures: Vec<String>,
    /// Why nothing was done.
    pub(crate) error: Option<String>,
}

/// What stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Kept {
    /// All of it.
    pub(crate) recordings: u64,
    /// Since somebody holds it.
    pub(crate) held: u64,
}

impl Report {
    /// From the program's last words; `None` when these are none of a report's.
    pub(crate) fn parse(said: &str) -> Option<Report> {
        serde_json::from_str(said.trim()).ok()
    }

    /// Whether anything was deleted.
    pub(crate) fn deleted_any(&self) -> bool {
        self.recordings + self.orphans + self.debris > 0
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        if let Some(error) = &self.error {
            return clipped(error);
        }
        let mut gone = vec![count(self.recordings, "recording")];
        if self.orphans > 0 {
            gone.push(count(self.orphans, "unfinished recording"));
        }
        if self.debris > 0 {
            gone.push(count(self.debris, "leftover"));
        }
        let held = if self.kept.held > 0 { format!(" ({} held)", self.kept.held) } else { String::new() };
        let stay = if self.kept.recordings == 1 { "stays" } else { "stay" };
        let mut text = format!(
            "{}, {} deleted; {}{held} {stay}",
            gone.join(", "),
            bytes(self.bytes),
            count(self.kept.recordings, "recording")
        );
        if self.over_bytes > 0 {
            text += &format!("; the rest is {} beyond maxBytes", bytes(self.over_bytes));
        }
        if self.short_bytes > 0 {
            text += &format!("; {} are missing of keepFree", bytes(self.short_bytes));
        }
        if let Some(first) = self.failures.first() {
            text += &format!("; {} failed, such as {}", count(self.failures.len() as u64, "deletion"), clipped(first));
        }
        text
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// As Kubernetes writes quantities: 512 bytes, 1.5 GiB.
fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = None;
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(next);
    }
    match unit {
        Some(unit) => format!("{value:.1} {unit}"),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_one_line() {
        let report = r#"{"dryRun":false,"recordings":3,"orphans":1,"debris":2,"bytes":1610612736,
            "kept":{"recordings":5,"held":1,"unfinished":0},"overBytes":512,"shortBytes":0,"failures":["x: no"]}"#;
        let report = Report::parse(report).unwrap();
        assert!(report.deleted_any());
        assert_eq!(
            report.text(),
            "3 recordings, 1 unfinished recording, 2 leftovers, 1.5 GiB deleted; 5 recordings (1 held) stay; \
             the rest is 512 bytes beyond maxBytes; 1 deletion failed, such as x: no"
        );
        assert_eq!(Report::default().text(), "0 recordings, 0 bytes deleted; 0 recordings stay");
    }

    #[test]
    fn an_error_is_all_that_is_told() {
        let report = Report::parse(r#"{"error":"the store does not answer: look at spec.storage"}"#).unwrap();
        assert_eq!(report.text(), "the store does not answer: look at spec.storage");
        assert_eq!(Report::parse("exec format error"), None);
    }
}
