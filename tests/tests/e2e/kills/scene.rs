//! Disk and store at a crash, and the phases that the server was in.

use super::ledger::{Feed, Ledger, Named};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const FIRST_SEGMENT: &str = "segment-000001.m4s";

/// A phase of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// A camera was being recorded.
    Recording,
    /// Some cameras were in their next recording, and the previous ones were not all finished.
    Rotation,
    /// A stream was ended, and its recording had no manifest yet.
    Finishing,
    /// A file of a finished recording, or a closed segment of one under way, was not in the store yet.
    Upload,
    /// A recording was leaving the disk.
    Eviction,
    /// Segments of a recording under way had left the disk.
    SegmentEviction,
    /// A recording that an earlier process left was not finished yet.
    Repair,
}

impl Phase {
    pub(super) const ALL: [Phase; 7] = [
        Phase::Recording,
        Phase::Rotation,
        Phase::Finishing,
        Phase::Upload,
        Phase::Eviction,
        Phase::SegmentEviction,
        Phase::Repair,
    ];
}

/// Disk and store at a crash.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// By id.
    pub(super) recordings: BTreeMap<String, OnDisk>,
    /// Segments in the store of the recordings on the disk.
    pub(super) stored: BTreeSet<Named>,
    evicting: usize,
}

/// The directory of a recording.
#[derive(Debug)]
pub(super) struct OnDisk {
    /// It has a manifest.
    finished: bool,
    /// Content by name; of a finished one only the names count.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Scene {
    pub(super) fn read(recordings: &Path, store: &Store, rooms: &[&str]) -> Scene {
        let mut scene = Scene { evicting: evicting(recordings), ..Scene::default() };
        for id in ids(recordings) {
            let directory = recordings.join(&id);
            let finished = directory.join("manifest.json").exists();
            let mut files = BTreeMap::new();
            for name in names(&directory) {
                let content = if finished { Vec::new() } else { fs::read(directory.join(&name)).unwrap() };
                files.insert(name, content);
            }
            let stored = rooms.iter().flat_map(|room| store.held(room, &id));
            scene.stored.extend(stored.filter(|name| is_segment(name)).map(|name| (id.clone(), name)));
            scene.recordings.insert(id, OnDisk { finished, files });
        }
        scene
    }

    /// Returns the phases that a server with these feeds was in.
    pub(super) fn phases(&self, store: &Store, feeds: &[Feed], ledger: &Ledger) -> BTreeSet<Phase> {
        let mut phases = BTreeSet::new();
        let begun = |id: &&String| !ledger.found(id);
        let first = |id: &str| feeds.iter().find(|feed| feed.stream() == id);
        let unfinished = |id: &str| self.recordings.get(id).is_some_and(|directory| !directory.finished);
        let live = feeds.iter().any(|feed| !feed.is_ended());
        let rotated = self.recordings.keys().filter(begun).any(|id| first(id).is_none());
        let waits = self.recordings.iter().any(|(id, directory)| {
            (directory.finished || !ledger.found(id)) && !directory.uploaded(|name| holds(store, id, name))
        });
        let evicted = |directory: &OnDisk| {
            !directory.finished && directory.segments().next().is_some_and(|name| name != FIRST_SEGMENT)
        };
        let open_feed = |feed: &Feed| unfinished(feed.stream());
        for (phase, hit) in [
            (Phase::Recording, live && self.recordings.keys().filter(begun).any(|id| unfinished(id))),
            (Phase::Rotation, live && rotated && feeds.iter().any(open_feed)),
            (Phase::Finishing, feeds.iter().any(|feed| feed.is_ended() && open_feed(feed))),
            (Phase::Upload, waits),
            (Phase::Eviction, self.evicting > 0),
            (Phase::SegmentEviction, feeds.iter().any(|feed| self.recordings.get(feed.stream()).is_some_and(evicted))),
            (Phase::Repair, self.recordings.keys().any(|id| ledger.was_unfinished(id) && unfinished(id))),
        ] {
            if hit {
                phases.insert(phase);
            }
        }
        phases
    }
}

impl OnDisk {
    /// Returns whether it has no manifest.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.finished
    }

    /// Returns the names of its segments, in order.
    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.files.keys().filter(|name| is_segment(name))
    }

    /// Returns whether the store holds each file that will not change any more.
    fn uploaded(&self, holds: impl Fn(&str) -> bool) -> bool {
        let growing = self.segments().next_back().filter(|_| !self.finished);
        let files = self.files.keys().filter(|name| self.finished || is_segment(name));
        files.filter(|name| Some(*name) != growing && !name.ends_with(".tmp")).all(|name| holds(name))
    }
}

/// Returns the ids of the recordings on the disk.
pub(super) fn ids(recordings: &Path) -> Vec<String> {
    names(recordings).into_iter().filter(|name| !name.starts_with('.') && recordings.join(name).is_dir()).collect()
}

/// Returns the number of recordings that are leaving the disk.
pub(super) fn evicting(recordings: &Path) -> usize {
    names(recordings).iter().filter(|name| name.starts_with(".evicted-")).count()
}

/// Returns whether the directory of a recording has segments, and not the first one.
pub(super) fn has_evicted_segments(directory: &Path) -> bool {
    !directory.join(FIRST_SEGMENT).exists() && names(directory).iter().any(|name| is_segment(name))
}

pub(super) fn is_segment(name: &str) -> bool {
    name.starts_with("segment-") && name.ends_with(".m4s")
}

fn holds(store: &Store, id: &str, name: &str) -> bool {
    super::ROOMS.iter().any(|room| store.holds(room, id, name))
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
