//! How it talks: data to stdout, talk and progress to stderr, and progress only to people who have to wait.
//!
//! Nothing is coloured, so that NO_COLOR has nothing to switch off.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// After so long there is progress to be seen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes a line of data. A reader that has gone away has read enough.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes data as JSON.
pub(super) fn print_json(value: &impl Serialize) {
    // Numbers, texts and lists of them: there is nothing that JSON could refuse.
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes a line of talk.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks for a yes. Nothing else is one.
pub(super) fn confirm(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let answered = io::stdin().read_line(&mut answer).is_ok();
    answered && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Progress of something that has a number of bytes. Seen on a terminal only, and only if it takes long.
pub(super) struct Progress {
    bar: ProgressBar,
    begin: Instant,
    shown: bool,
}

impl Progress {
    pub(super) fn new(what: &str, bytes: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        let template = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Progress { bar, begin: Instant::now(), shown: !io::stderr().is_terminal() }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
        if !self.shown && self.begin.elapsed() >= PATIENCE {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Makes room for what is said meanwhile.
    pub(super) fn suspend(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Takes it away.
    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}

/// Columns, as wide as they must be; those with this mark at the right.
pub(super) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A heading that begins with `>` is written without it, and its column at the right.
    pub(super) fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let heading = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Table { right, rows: vec![heading] }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn text(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.right.len()).map(width).collect();
        let mut lines = Vec::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let _ = if right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            }
            lines.push(line.trim_end().to_owned());
        }
        lines.join("\n")
    }
}

/// To the second, in UTC.
pub(super) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Hours, minutes and seconds, as far as there are any.
pub(super) fn duration(seconds: f64) -> String {
    let all = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs_f64().round() as u64;
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes:02}m{seconds:02}s"),
    }
}

/// In the largest unit that leaves a whole number.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in units {
        // As it would be written: 1023.96 KiB are 1.0 MiB.
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1 recording`, `2 recordings`.
pub(super) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What cannot stand in a line of a table is not shown as it is.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (seconds, text) in
            [(0.4, "0s"), (59.6, "1m00s"), (61.0, "1m01s"), (3_661.0, "1h01m01s"), (f64::NAN, "0s"), (-1.0, "0s")]
        {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(time("2026-10-23T09:00:01.9Z".parse().unwrap()), "2026-10-23 09:00:01");
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".into(), "0 files".into()));
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["ROOM", ">SIZE", "STATE"]);
        table.row(vec!["front-door".into(), "1 B".into(), String::new()]);
        table.row(vec!["x".into(), "1000 B".into(), "fine".into()]);
        assert_eq!(table.text(), "ROOM          SIZE  STATE\nfront-door     1 B\nx           1000 B  fine");
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
