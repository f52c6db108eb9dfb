//! All recordings of all places, one entry for each, wherever its copies lie.

use super::catalogue::{Catalogue, CatalogueError, Found, Kind, Space, State, Summary};
use crate::control::RecordingId;
use crate::retention::{Entry, Protection};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What changed so short a while ago is under way.
const LIVELY: SignedDuration = SignedDuration::from_secs(60);

/// The places.
pub(super) struct Shelf {
    places: Vec<Box<dyn Catalogue>>,
    /// What is deleted anywhere frees space on the disk of the folder.
    one_disk: bool,
}

/// A recording, and where it lies. At least one copy.
pub(super) struct Holding {
    pub(super) id: RecordingId,
    /// Places of the shelf, and what each has.
    pub(super) copies: Vec<(usize, Found)>,
}

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// It grew within the last minute.
    Recording,
    /// It has no manifest, and nothing happens.
    Unfinished,
    Complete,
    /// It did not end in an orderly way.
    Repaired,
    /// Its manifest cannot be read.
    Damaged,
}

impl Standing {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Standing::Recording => "recording",
            Standing::Unfinished => "unfinished",
            Standing::Complete => "complete",
            Standing::Repaired => "repaired",
            Standing::Damaged => "damaged",
        }
    }
}

/// Nothing, or too much, has this id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotFound {
    #[error("there is no recording {0} here: `media-server recordings list` shows those that there are")]
    None(String),
    #[error("{0} are the first letters of {1} recordings: write more of the id")]
    Several(String, usize),
}

impl Shelf {
    pub(super) fn new(places: Vec<Box<dyn Catalogue>>, one_disk: bool) -> Shelf {
        Shelf { places, one_disk }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &dyn Catalogue> {
        self.places.iter().map(|place| &**place)
    }

    pub(super) fn place(&self, number: usize) -> &dyn Catalogue {
        &*self.places[number]
    }

    /// For people.
    pub(super) fn title(&self) -> String {
        self.places().map(Catalogue::title).collect::<Vec<_>>().join(" and ")
    }

    /// All recordings, newest first.
    pub(super) fn holdings(&self) -> Result<Vec<Holding>, CatalogueError> {
        let mut all: BTreeMap<String, Holding> = BTreeMap::new();
        for (number, place) in self.places().enumerate() {
            for found in place.recordings()? {
                let id = found.id.clone();
                let holding = all.entry(id.to_string()).or_insert_with(|| Holding { id, copies: Vec::new() });
                holding.copies.push((number, found));
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by(|a, b| (b.started_at(), b.id.as_str()).cmp(&(a.started_at(), a.id.as_str())));
        Ok(all)
    }

    /// Where a recording's copies lie.
    pub(super) fn kinds(&self, holding: &Holding) -> Vec<Kind> {
        let mut kinds: Vec<_> = holding.copies.iter().map(|(number, _)| self.place(*number).kind()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// It is finished and not whole in the store, and there is a store.
    pub(super) fn is_pending(&self, holding: &Holding) -> bool {
        let stored =
            |(number, found): &(usize, Found)| self.place(*number).kind() == Kind::Store && found.summary().is_some();
        self.places().any(|place| place.kind() == Kind::Store)
            && holding.summary().is_some()
            && !holding.copies.iter().any(stored)
    }

    /// What servers still work at.
    pub(super) fn wanted(&self) -> Result<BTreeSet<RecordingId>, CatalogueError> {
        let mut wanted = BTreeSet::new();
        for place in self.places() {
            wanted.append(&mut place.wanted()?);
        }
        Ok(wanted)
    }

    /// Room on the disk of the folder.
    pub(super) fn space(&self) -> Result<Option<Space>, CatalogueError> {
        self.places().find_map(|place| place.space().transpose()).transpose()
    }

    /// Whether there is a disk whose free space deleting recordings raises.
    pub(super) fn frees_space(&self) -> bool {
        self.one_disk && self.places().any(|place| place.kind() == Kind::Disk)
    }

    /// For the rules of retention.
    pub(super) fn entry(&self, holding: &Holding, held: &[RecordingId]) -> Entry {
        let bytes = |kind: Kind| -> u64 {
            let copies = holding.copies.iter().filter(|(number, _)| self.place(*number).kind() == kind);
            copies.map(|(_, found)| found.bytes).sum()
        };
        let (disk, store) = (bytes(Kind::Disk), bytes(Kind::Store));
        Entry {
            ended_at: holding.summary().map_or_else(|| holding.changed(), |summary| summary.ended_at),
            // A recording counts once, wherever it lies.
            bytes: if store > 0 { store } else { disk },
            frees: if self.one_disk { disk + store } else { disk },
            protection: if holding.summary().is_none() && !holding.is_damaged() {
                Some(Protection::Unfinished)
            } else if holding.is_held() || held.contains(&holding.id) {
                Some(Protection::Held)
            } else if holding.is_damaged() {
                Some(Protection::Damaged)
            } else if self.is_pending(holding) {
                Some(Protection::PendingUpload)
            } else {
                None
            },
        }
    }
}

impl Holding {
    pub(super) fn summary(&self) -> Option<&Summary> {
        self.copies.iter().find_map(|(_, found)| found.summary())
    }

    /// The copy that tells most of it.
    fn best(&self) -> Option<&Found> {
        let finished = self.copies.iter().find(|(_, found)| found.summary().is_some());
        finished.or(self.copies.first()).map(|(_, found)| found)
    }

    pub(super) fn room(&self) -> Option<&str> {
        self.best().and_then(|found| found.room.as_deref())
    }

    pub(super) fn started_at(&self) -> Timestamp {
        self.best().map_or(Timestamp::UNIX_EPOCH, |found| found.started_at)
    }

    pub(super) fn changed(&self) -> Timestamp {
        self.copies.iter().map(|(_, found)| found.changed).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// In the place that has most of it.
    pub(super) fn bytes(&self) -> u64 {
        self.copies.iter().map(|(_, found)| found.bytes).max().unwrap_or(0)
    }

    pub(super) fn is_held(&self) -> bool {
        self.copies.iter().any(|(_, found)| found.held)
    }

    /// One of its manifests cannot be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damage().is_some()
    }

    /// Why a manifest cannot be read.
    pub(super) fn damage(&self) -> Option<&str> {
        self.copies.iter().find_map(|(_, found)| match &found.state {
            State::Damaged(reason) => Some(reason.as_str()),
            State::Finished(_) | State::Unfinished { .. } => None,
        })
    }

    /// A server can make a recording of it.
    pub(super) fn is_recoverable(&self) -> bool {
        self.copies.iter().any(|(_, found)| matches!(found.state, State::Unfinished { recoverable: true }))
    }

    /// It has no manifest anywhere, and cannot get one.
    pub(super) fn is_orphan(&self) -> bool {
        self.copies.iter().all(|(_, found)| matches!(found.state, State::Unfinished { recoverable: false }))
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        match self.summary() {
            _ if self.is_damaged() => Standing::Damaged,
            Some(summary) if summary.repaired => Standing::Repaired,
            Some(_) => Standing::Complete,
            None if now.duration_since(self.changed()) < LIVELY => Standing::Recording,
            None => Standing::Unfinished,
        }
    }
}

/// The one recording that has this id, or whose id begins so.
pub(super) fn find<'a>(holdings: &'a [Holding], id: &str) -> Result<&'a Holding, NotFound> {
    let id = id.trim().to_ascii_lowercase();
    let mut all = holdings.iter().filter(|holding| !id.is_empty() && holding.id.as_str().starts_with(&id));
    match (all.next(), all.count()) {
        (Some(found), 0) => Ok(found),
        (Some(_), others) => Err(NotFound::Several(id, others + 1)),
        (None, _) => Err(NotFound::None(id)),
    }
}
