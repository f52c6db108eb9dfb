//! `recordings prune`: what the rules of retention select is shown, and then deleted.
//!
//! A dry run and a real one have one plan; the real one only goes on after showing it.

use super::args::PruneArgs;
use super::catalogue::{CatalogueError, Debris, Kind};
use super::ownership;
use super::place::Places;
use super::registry;
use super::report::Pruned;
use super::shelf::{Holding, Shelf, find};
use super::talk::{self, Table};
use super::{Done, Failure};
use crate::control::RecordingId;
use crate::objects;
use crate::retention::{Protection, Reason, Rules, Selection, select};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use streamsession_api::{KeepFree, Retention};

/// Why nothing is pruned.
#[derive(Debug, thiserror::Error)]
pub(super) enum PruneError {
    #[error(
        "nothing says what may go: give --max-age, --max-bytes, --keep-free or --all, or --session with spec.recording.retention, or --orphans"
    )]
    NoRules,
    #[error(
        "--keep-free is about the disk of a folder, and deleting here frees none: leave it out, or name the folder alone by --dir"
    )]
    NoDisk,
    #[error(
        "the server of {} brings recordings to a store: name it as well, by --session and --store-credentials-dir, so that what \
         is not uploaded yet stays", .0.display()
    )]
    StoreUnnamed(PathBuf),
    #[error(
        "{prefix} belongs to the server {owner}: run this beside it, by --session and --data-dir, or give --owner {owner} to \
         delete on its behalf"
    )]
    NotOwner { prefix: String, owner: String },
    #[error("there is no terminal to ask on: give --yes to delete, or --dry-run to see what would go")]
    NoTerminal,
}

/// The JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    dry_run: bool,
    /// Oldest first.
    recordings: Vec<Line<'a>>,
    orphans: Vec<Line<'a>>,
    /// What uploads and writing left half done.
    debris: Vec<Left>,
    /// What is gone; in a dry run: what would be.
    deleted: Counts,
    kept: Kept,
    /// Bytes by which the rest is beyond maxBytes.
    over_bytes: u64,
    /// Bytes that are missing of keepFree.
    short_bytes: u64,
    failures: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: &'a RecordingId,
    room: Option<&'a str>,
    started_at: Timestamp,
    ended_at: Timestamp,
    /// In all places together.
    bytes: u64,
    /// Files and objects of all these copies.
    files: usize,
    why: Why,
    #[serde(rename = "where")]
    lies: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Why {
    All,
    Age,
    Bytes,
    Space,
    Orphan,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Why::All => "all",
            Why::Age => "age",
            Why::Bytes => "bytes",
            Why::Space => "space",
            Why::Orphan => "orphan",
        }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Why {
        match reason {
            Reason::All => Why::All,
            Reason::Age => Why::Age,
            Reason::Bytes => Why::Bytes,
            Reason::Space => Why::Space,
        }
    }
}

#[derive(Serialize)]
struct Left {
    name: String,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    recordings: usize,
    orphans: usize,
    debris: usize,
    /// In all places together.
    bytes: u64,
    /// Files and objects, in all places together; an upload in parts is none yet.
    files: usize,
}

/// What stays, and how much of that stays whatever the rules say.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) recordings: usize,
    pub(super) held: usize,
    pub(super) unfinished: usize,
    pub(super) pending_upload: usize,
    pub(super) damaged: usize,
}

/// What goes.
struct Plan<'a> {
    gone: Vec<(&'a Holding, Why)>,
    /// With their places.
    debris: Vec<(usize, Debris)>,
    selection: Selection,
    kept: Kept,
}

/// Prunes; tells what became of it also in numbers.
pub(super) fn prune(
    shelf: &Shelf,
    args: &PruneArgs,
    places: &Places,
    now: Timestamp,
) -> Result<(Done, Pruned), Failure> {
    if let (Some(folder), None) = (&places.folder, &places.store)
        && let Some(registry) = folder.registry()
        && registry::knows_a_store(&registry)?
    {
        return Err(PruneError::StoreUnnamed(folder.recordings.clone()).into());
    }
    let (rules, free) = rules(shelf, args, places.retention.as_ref())?;
    let no_orphans = PruneArgs { orphans: false, owner: None, ..args.clone() };
    let (holdings, args) = match shelf.holdings() {
        Err(error) if args.all && has_no_bucket(&error, shelf) => {
            talk::tell(&format!("nothing is there to delete: {error}"));
            (Vec::new(), &no_orphans)
        }
        holdings => (holdings?, args),
    };
    let held = args.hold.iter().map(|id| find(&holdings, id).map(|holding| holding.id.clone()));
    let held = held.collect::<Result<Vec<_>, _>>()?;
    let plan = plan(shelf, args, &holdings, &held, (&rules, free), now)?;
    let nothing = plan.gone.is_empty() && plan.debris.is_empty();
    if !args.json {
        show(shelf, &plan);
    }
    let planned = plan.counts(shelf);
    let mut failures = Vec::new();
    let mut deleted = planned;
    if !args.dry_run && !nothing {
        if !args.yes {
            if !io::stdin().is_terminal() {
                return Err(PruneError::NoTerminal.into());
            }
            if args.json {
                show(shelf, &plan);
            }
            if !talk::confirm(&format!("delete {}?", planned.text())) {
                talk::tell("nothing is deleted");
                return Ok((Done::Well, plan.pruned(false, Counts::default(), Vec::new())));
            }
        }
        ownership::check(places, args)?;
        (deleted, failures) = carry_out(shelf, &plan);
    }
    if args.all && args.owner.is_some() && !args.dry_run && failures.is_empty() {
        ownership::check(places, args)?;
        ownership::release(places)?;
    }
    for failure in &failures {
        talk::tell(failure);
    }
    tell_rest(&plan, args.orphans && shelf.places().all(|place| place.kind() == Kind::Store));
    if args.json {
        talk::print_json(&plan.document(shelf, args.dry_run, deleted, failures.clone()));
    } else {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        let kept = talk::count(plan.kept.recordings, "recording");
        talk::print(&format!(
            "{verb} {}; {kept} stay{}",
            deleted.text(),
            if plan.kept.recordings == 1 { "s" } else { "" }
        ));
    }
    let done = if failures.is_empty() { Done::Well } else { Done::Faults };
    Ok((done, plan.pruned(args.dry_run, deleted, failures)))
}

/// Whether all that was named is a bucket, and it is gone, or never was: then so is all that could be in it.
fn has_no_bucket(error: &CatalogueError, shelf: &Shelf) -> bool {
    matches!(error, CatalogueError::Store(error) if error.reason() == objects::Reason::NoSuchBucket)
        && shelf.places().all(|place| place.kind() == Kind::Store)
}

/// The rules, and the bytes that are free where there is one about them.
fn rules(shelf: &Shelf, args: &PruneArgs, retention: Option<&Retention>) -> Result<(Rules, Option<u64>), Failure> {
    if args.all {
        return Ok((Rules { all: true, ..Rules::default() }, None));
    }
    let given = args.max_age.is_some() || args.max_bytes.is_some() || args.keep_free.is_some();
    let (max_age, max_bytes, keep_free) = match retention {
        Some(spec) if !given => {
            (spec.max_age.as_ref(), spec.max_bytes.as_ref(), Some(&spec.keep_free).filter(|_| shelf.frees_space()))
        }
        _ => (args.max_age.as_ref(), args.max_bytes.as_ref(), args.keep_free.as_ref()),
    };
    if !given && retention.is_none() && !args.orphans {
        return Err(PruneError::NoRules.into());
    }
    if keep_free.is_some() && !shelf.frees_space() {
        return Err(PruneError::NoDisk.into());
    }
    let space = shelf.space()?.filter(|_| keep_free.is_some());
    let least = |keep: &KeepFree| space.map(|space| keep.of_capacity(space.capacity));
    let rules = Rules {
        all: false,
        max_age: max_age.map(|age| age.as_duration()),
        max_bytes: max_bytes.map(|bytes| bytes.as_u64()),
        keep_free: keep_free.and_then(least),
    };
    Ok((rules, space.map(|space| space.free)))
}

fn plan<'a>(
    shelf: &Shelf,
    args: &PruneArgs,
    holdings: &'a [Holding],
    held: &[RecordingId],
    (rules, free): (&Rules, Option<u64>),
    now: Timestamp,
) -> Result<Plan<'a>, Failure> {
    let entries: Vec<_> = holdings.iter().map(|holding| shelf.entry(holding, held)).collect();
    let selection = select(&entries, rules, now, free);
    let mut gone: Vec<_> = selection.remove.iter().map(|&(at, reason)| (&holdings[at], Why::from(reason))).collect();
    let mut debris = Vec::new();
    if args.orphans {
        let age = SignedDuration::try_from(args.orphan_age.as_duration()).unwrap_or(SignedDuration::MAX);
        let before = match age.is_zero() {
            // Also what changed this second, by a clock that may be ahead of ours.
            true => Timestamp::MAX,
            false => now.checked_sub(age).unwrap_or(Timestamp::MIN),
        };
        // Asked after the places were looked at: what began since then is not taken for left behind.
        let wanted = shelf.wanted()?;
        let left = |holding: &&Holding| {
            holding.is_orphan()
                && holding.changed() < before
                && !holding.is_held()
                && !held.contains(&holding.id)
                && !wanted.contains(&holding.id)
        };
        gone.extend(holdings.iter().rev().filter(left).map(|holding| (holding, Why::Orphan)));
        for (number, place) in shelf.places().enumerate() {
            debris.extend(place.debris(before)?.into_iter().map(|debris| (number, debris)));
        }
    }
    let mut kept = Kept::default();
    for (holding, entry) in holdings.iter().zip(&entries) {
        if gone.iter().any(|(gone, _)| gone.id == holding.id) {
            continue;
        }
        kept.recordings += 1;
        match entry.protection {
            Some(Protection::Held) => kept.held += 1,
            Some(Protection::Unfinished) => kept.unfinished += 1,
            Some(Protection::PendingUpload) => kept.pending_upload += 1,
            Some(Protection::Damaged) => kept.damaged += 1,
            None => {}
        }
    }
    Ok(Plan { gone, debris, selection, kept })
}

impl<'a> Plan<'a> {
    fn lines(&self, shelf: &Shelf) -> Vec<Line<'a>> {
        let line = |&(holding, why): &(&'a Holding, Why)| Line {
            id: &holding.id,
            room: holding.room(),
            started_at: holding.started_at(),
            ended_at: holding.summary().map_or_else(|| holding.changed(), |summary| summary.ended_at),
            bytes: everywhere(holding),
            files: holding.copies.iter().map(|(_, found)| found.files).sum(),
            why,
            lies: shelf.kinds(holding),
        };
        self.gone.iter().map(line).collect()
    }

    fn counts(&self, shelf: &Shelf) -> Counts {
        let lines = self.lines(shelf);
        let orphans = lines.iter().filter(|line| matches!(line.why, Why::Orphan)).count();
        let bytes =
            lines.iter().map(|line| line.bytes).chain(self.debris.iter().map(|(_, debris)| debris.bytes())).sum();
        let files = lines.iter().map(|line| line.files).chain(self.debris.iter().map(|(_, debris)| debris.files()));
        Counts { recordings: lines.len() - orphans, orphans, debris: self.debris.len(), bytes, files: files.sum() }
    }

    fn pruned(&self, dry_run: bool, deleted: Counts, failures: Vec<String>) -> Pruned {
        let Counts { recordings, orphans, debris, bytes, .. } = deleted;
        let Selection { over, short, .. } = self.selection;
        let kept = self.kept;
        Pruned { dry_run, recordings, orphans, debris, bytes, kept, over_bytes: over, short_bytes: short, failures }
    }

    fn document(&self, shelf: &Shelf, dry_run: bool, deleted: Counts, failures: Vec<String>) -> Document<'a> {
        let (orphans, recordings) = self.lines(shelf).into_iter().partition(|line| matches!(line.why, Why::Orphan));
        let left = |debris: &Debris| Left { name: debris.name(), bytes: debris.bytes() };
        Document {
            dry_run,
            recordings,
            orphans,
            debris: self.debris.iter().map(|(_, debris)| left(debris)).collect(),
            deleted,
            kept: self.kept,
            over_bytes: self.selection.over,
            short_bytes: self.selection.short,
            failures,
        }
    }
}

impl Counts {
    fn text(&self) -> String {
        let mut parts = vec![talk::count(self.recordings, "recording")];
        if self.orphans > 0 {
            parts.push(talk::count(self.orphans, "orphan"));
        }
        if self.debris > 0 {
            parts.push(talk::count(self.debris, "leftover"));
        }
        format!("{}, {}", parts.join(", "), talk::bytes(self.bytes))
    }
}

/// Bytes of all copies.
fn everywhere(holding: &Holding) -> u64 {
    holding.copies.iter().map(|(_, found)| found.bytes).sum()
}

fn show(shelf: &Shelf, plan: &Plan<'_>) {
    if !plan.gone.is_empty() {
        let mut table = Table::new(&["ID", "ROOM", "START (UTC)", "END (UTC)", ">SIZE", "WHY", "WHERE"]);
        for line in plan.lines(shelf) {
            let lies: Vec<_> = line.lies.iter().map(|kind| kind.as_str()).collect();
            table.row(vec![
                line.id.to_string(),
                line.room.map_or_else(|| "-".to_owned(), talk::plain),
                talk::time(line.started_at),
                talk::time(line.ended_at),
                talk::bytes(line.bytes),
                line.why.as_str().to_owned(),
                lies.join(", "),
            ]);
        }
        talk::print(&table.text());
    }
    for (_, debris) in &plan.debris {
        talk::print(&format!("{} ({})", talk::plain(&debris.name()), talk::bytes(debris.bytes())));
    }
}

/// Deletes, goes on after failures, and tells what is gone and what is not.
fn carry_out(shelf: &Shelf, plan: &Plan<'_>) -> (Counts, Vec<String>) {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for &(holding, why) in &plan.gone {
        match delete(shelf, holding) {
            Ok(true) if matches!(why, Why::Orphan) => counts.orphans += 1,
            Ok(true) => counts.recordings += 1,
            Ok(false) => {
                failures.push(format!("{}: it has changed meanwhile, and stays; try again", holding.id));
                continue;
            }
            Err(error) => {
                failures.push(format!("{}: {error}", holding.id));
                continue;
            }
        }
        counts.bytes += everywhere(holding);
        counts.files += holding.copies.iter().map(|(_, found)| found.files).sum::<usize>();
    }
    for (number, debris) in &plan.debris {
        match shelf.place(*number).clear(debris) {
            Ok(()) => {
                counts.debris += 1;
                counts.bytes += debris.bytes();
                counts.files += debris.files();
            }
            Err(error) => failures.push(format!("{}: {error}", debris.name())),
        }
    }
    (counts, failures)
}

/// From the disk first: what is left in the store then is a recording still.
fn delete(shelf: &Shelf, holding: &Holding) -> Result<bool, Failure> {
    let mut copies: Vec<_> = holding.copies.iter().map(|(number, found)| (shelf.place(*number), found)).collect();
    copies.sort_by_key(|(place, _)| place.kind());
    for (place, found) in copies {
        if !place.delete(found)? {
            return Ok(false);
        }
    }
    for place in shelf.places() {
        place.forget(&holding.id)?;
    }
    Ok(true)
}

/// What the rules did not get, and why.
fn tell_rest(plan: &Plan<'_>, blind: bool) {
    let Kept { held, unfinished, pending_upload, damaged, .. } = plan.kept;
    let reasons = [
        (held, "held"),
        (unfinished, "not finished"),
        (pending_upload, "not uploaded yet"),
        (damaged, "with a manifest that cannot be read"),
    ];
    let reasons: Vec<_> =
        reasons.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    if !reasons.is_empty() {
        talk::tell(&format!("whatever the rules say, these stay: {}", reasons.join(", ")));
    }
    let Selection { over, short, .. } = plan.selection;
    if over > 0 {
        talk::tell(&format!("the rest is still {} beyond the bytes that all may take", talk::bytes(over)));
    }
    if short > 0 {
        talk::tell(&format!("{} are still missing of the space that is to stay free", talk::bytes(short)));
    }
    if blind && plan.gone.iter().any(|(_, why)| matches!(why, Why::Orphan)) {
        talk::tell("what a server is still uploading has no manifest either: look at its folder, too, by --data-dir");
    }
}
