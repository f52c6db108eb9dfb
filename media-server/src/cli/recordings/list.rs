//! `recordings list`

use super::Failure;
use super::args::ListArgs;
use super::catalogue::{Catalogue, Kind};
use super::shelf::{Holding, Shelf, Standing};
use super::talk::{self, Table};
use jiff::Timestamp;
use serde::Serialize;

/// The JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    places: Vec<Place>,
    /// Newest first.
    recordings: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Place {
    kind: &'static str,
    place: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: &'a str,
    room: Option<&'a str>,
    publisher: Option<&'a str>,
    started_at: Timestamp,
    /// Null until it is finished.
    ended_at: Option<Timestamp>,
    /// Null until it is finished.
    duration_seconds: Option<f64>,
    /// Of all its files.
    bytes: u64,
    /// Null until it is finished.
    gap_count: Option<usize>,
    codecs: &'a [String],
    state: Standing,
    /// When a file of it changed last.
    changed_at: Timestamp,
    #[serde(rename = "where")]
    lies: Vec<Kind>,
    held: bool,
    /// It is not in the store yet.
    pending_upload: bool,
    /// What is wrong with its manifest.
    trouble: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(shelf: &Shelf, holding: &'a Holding, now: Timestamp) -> Line<'a> {
        let summary = holding.summary();
        Line {
            id: holding.id.as_str(),
            room: holding.room(),
            publisher: summary.map(|summary| summary.publisher.as_str()),
            started_at: holding.started_at(),
            ended_at: summary.map(|summary| summary.ended_at),
            duration_seconds: summary.map(|summary| summary.duration),
            bytes: holding.bytes(),
            gap_count: summary.map(|summary| summary.gaps),
            codecs: summary.map_or(&[], |summary| &summary.codecs),
            state: holding.standing(now),
            changed_at: holding.changed(),
            lies: shelf.kinds(holding),
            held: holding.is_held(),
            pending_upload: shelf.is_pending(holding),
            trouble: holding.damage(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let lies: Vec<_> = self.lies.iter().map(|kind| kind.as_str()).collect();
        let marks = [(self.held, ", held"), (self.pending_upload, ", upload pending")];
        let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
        vec![
            self.id.to_owned(),
            or_dash(self.room.map(talk::plain)),
            talk::time(self.started_at),
            or_dash(self.duration_seconds.map(talk::duration)),
            talk::bytes(self.bytes),
            or_dash(self.gap_count.map(|count| count.to_string())),
            std::iter::once(self.state.as_str()).chain(marks).collect(),
            lies.join(", "),
        ]
    }
}

/// Lists.
pub(super) fn list(shelf: &Shelf, args: &ListArgs, now: Timestamp) -> Result<(), Failure> {
    let mut holdings = shelf.holdings()?;
    holdings.retain(|holding| {
        args.room.as_deref().is_none_or(|room| holding.room() == Some(room))
            && args.since.is_none_or(|since| holding.started_at() >= since)
            && args.until.is_none_or(|until| holding.started_at() < until)
    });
    let lines: Vec<_> = holdings.iter().map(|holding| Line::new(shelf, holding, now)).collect();
    if args.json {
        let place = |place: &dyn Catalogue| Place { kind: place.kind().as_str(), place: place.title() };
        talk::print_json(&Document { places: shelf.places().map(place).collect(), recordings: lines });
        return Ok(());
    }
    if lines.is_empty() {
        talk::tell(&format!("no recordings in {}", shelf.title()));
        return Ok(());
    }
    let mut table = Table::new(&["ID", "ROOM", "START (UTC)", ">DURATION", ">SIZE", ">GAPS", "STATE", "WHERE"]);
    lines.iter().for_each(|line| table.row(line.cells()));
    talk::print(&table.text());
    let bytes = lines.iter().map(|line| line.bytes).sum();
    talk::tell(&format!("{}, {} in {}", talk::count(lines.len(), "recording"), talk::bytes(bytes), shelf.title()));
    for line in lines.iter().filter(|line| line.trouble.is_some()) {
        talk::tell(&format!(
            "{}: the manifest cannot be read ({}); restore it from a backup, or delete the recording",
            line.id,
            line.trouble.unwrap_or_default()
        ));
    }
    let left = |holding: &&Holding| holding.standing(now) == Standing::Unfinished && holding.is_recoverable();
    let left = holdings.iter().filter(left).count();
    if left > 0 {
        talk::tell(&format!("{left} unfinished: a server that starts on this folder finishes what can be"));
    }
    Ok(())
}
