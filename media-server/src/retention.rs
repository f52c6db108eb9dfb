//! Which recordings go: by age, by the bytes that all may take together, and by what of a disk is to stay free.
//!
//! The rules are those of `spec.recording.retention`. Nothing here deletes, reads a clock or touches a disk: [`select`] is
//! told everything, so that a dry run and a real one cannot differ. What is held, not finished, or waits for its upload
//! never goes, whatever the rules say; what is over then is told instead. Only where all are to go ([`Rules::all`]) it does
//! not matter that one is damaged or not uploaded.

use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// A file, or object, of this name beside the manifest keeps a recording.
pub const HOLD: &str = "hold";

/// A recording, as far as the rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Age counts from here, and the oldest goes first.
    pub ended_at: Timestamp,
    /// What it counts for [`Rules::max_bytes`].
    pub bytes: u64,
    /// Bytes that its removal frees on the disk of [`Rules::keep_free`].
    pub frees: u64,
    /// Why it stays, whatever the rules say.
    pub protection: Option<Protection>,
}

/// Why a recording stays, whatever the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protection {
    /// It has no manifest: it is being recorded or finished, or nobody has finished it yet.
    Unfinished,
    /// Somebody holds it.
    Held,
    /// It is not in the object store yet.
    PendingUpload,
    /// Its manifest cannot be read: nobody knows what it is.
    Damaged,
}

/// When recordings go; a recording goes as soon as one of these says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// All of them, but for what is held or not finished.
    pub all: bool,
    /// Those that ended so long ago, or longer.
    pub max_age: Option<Duration>,
    /// The oldest, while all together have more bytes than these.
    pub max_bytes: Option<u64>,
    /// The oldest that free something, while fewer bytes than these are free.
    pub keep_free: Option<u64>,
}

/// Which of the rules a recording goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// [`Rules::all`]
    All,
    /// [`Rules::max_age`]
    Age,
    /// [`Rules::max_bytes`]
    Bytes,
    /// [`Rules::keep_free`]
    Space,
}

/// What goes, and what the rules do not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Places in the slice, oldest first, and the first rule that says so.
    pub remove: Vec<(usize, Reason)>,
    /// Bytes by which the rest is still beyond [`Rules::max_bytes`].
    pub over: u64,
    /// Bytes that are then still missing of [`Rules::keep_free`].
    pub short: u64,
}

/// Selects what goes as of `now`, with `free` bytes free on the disk; without `free` there is no rule about free space.
pub fn select(recordings: &[Entry], rules: &Rules, now: Timestamp, free: Option<u64>) -> Selection {
    let sum = |bytes: u64, entry: &Entry| bytes.saturating_add(entry.bytes);
    let over = |bytes: u64| rules.max_bytes.map_or(0, |most| bytes.saturating_sub(most));
    let short = |free: Option<u64>| free.zip(rules.keep_free).map_or(0, |(free, least)| least.saturating_sub(free));
    let (mut bytes, mut free) = (recordings.iter().fold(0, sum), free);
    let may_go = |entry: &Entry| match entry.protection {
        None => true,
        Some(Protection::Damaged | Protection::PendingUpload) => rules.all,
        Some(Protection::Held | Protection::Unfinished) => false,
    };
    let mut by_age: Vec<_> = recordings.iter().enumerate().filter(|(_, entry)| may_go(entry)).collect();
    // Stable: of those that ended at the same time the first in the slice goes first.
    by_age.sort_by_key(|(_, entry)| entry.ended_at);
    let mut remove = Vec::new();
    for (place, entry) in by_age {
        let reason = if rules.all {
            Reason::All
        } else if rules.max_age.is_some_and(|most| age(entry, now) >= most) {
            Reason::Age
        } else if over(bytes) > 0 && entry.bytes > 0 {
            Reason::Bytes
        } else if short(free) > 0 && entry.frees > 0 {
            Reason::Space
        } else {
            continue;
        };
        bytes = bytes.saturating_sub(entry.bytes);
        free = free.map(|free| free.saturating_add(entry.frees));
        remove.push((place, reason));
    }
    Selection { remove, over: over(bytes), short: short(free) }
}

/// Zero for what ended in the future: a clock was wrong.
fn age(entry: &Entry, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(entry.ended_at)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);
    const HOUR: u64 = 3600;

    fn entry(hours: u64, bytes: u64) -> Entry {
        let ended_at = NOW - Duration::from_secs(hours * HOUR);
        Entry { ended_at, bytes, frees: bytes, protection: None }
    }

    fn held(hours: u64, bytes: u64) -> Entry {
        Entry { protection: Some(Protection::Held), ..entry(hours, bytes) }
    }

    #[test]
    fn without_rules_nothing_goes() {
        let selection = select(&[entry(9999, u64::MAX), entry(0, 1)], &Rules::default(), NOW, Some(0));
        assert_eq!(selection, Selection::default());
    }

    #[test]
    fn age_counts_from_the_end_and_reaches_its_bound() {
        let rules = Rules { max_age: Some(Duration::from_secs(2 * HOUR)), ..Rules::default() };
        let all = [entry(1, 5), entry(2, 5), entry(3, 5), held(4, 5)];
        assert_eq!(select(&all, &rules, NOW, None).remove, [(2, Reason::Age), (1, Reason::Age)]);
        let mut tomorrow = entry(0, 5);
        tomorrow.ended_at = NOW + Duration::from_secs(24 * HOUR);
        assert_eq!(select(&[tomorrow], &rules, NOW, None).remove, []);
    }

    #[test]
    fn bytes_of_what_is_held_count_and_the_rest_makes_room() {
        let rules = Rules { max_bytes: Some(10), ..Rules::default() };
        let selection = select(&[entry(1, 6), held(9, 6), entry(3, 0), entry(2, 1)], &rules, NOW, None);
        assert_eq!(selection.remove, [(3, Reason::Bytes), (0, Reason::Bytes)], "what takes nothing makes no room");
        assert_eq!(select(&[held(1, 12), entry(2, 1)], &rules, NOW, None).over, 2);
    }

    #[test]
    fn space_is_freed_by_what_lies_on_the_disk() {
        let rules = Rules { keep_free: Some(100), ..Rules::default() };
        let elsewhere = Entry { frees: 0, ..entry(9, 50) };
        let selection = select(&[elsewhere, entry(2, 50), entry(1, 50)], &rules, NOW, Some(60));
        assert_eq!(selection.remove, [(1, Reason::Space)]);
        assert_eq!(select(&[entry(1, 10)], &rules, NOW, Some(0)).short, 90);
        assert_eq!(select(&[entry(1, 10)], &rules, NOW, None), Selection::default());
    }

    #[test]
    fn of_all_only_what_is_held_or_not_finished_stays() {
        let rules = Rules { all: true, ..Rules::default() };
        let with = |protection| Entry { protection: Some(protection), ..entry(0, 0) };
        let all = [
            entry(0, 5),
            held(9, 5),
            with(Protection::Unfinished),
            with(Protection::Damaged),
            with(Protection::PendingUpload),
            entry(1, 5),
        ];
        let gone = select(&all, &rules, NOW, None).remove;
        assert_eq!(gone, [5, 0, 3, 4].map(|place| (place, Reason::All)));
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let protection = option::weighted(
            0.4,
            prop_oneof![
                Just(Protection::Held),
                Just(Protection::Unfinished),
                Just(Protection::PendingUpload),
                Just(Protection::Damaged)
            ],
        );
        let one = (0..20u64, 0..100u64, any::<bool>(), protection).prop_map(|(hours, bytes, here, protection)| Entry {
            frees: if here { bytes } else { 0 },
            protection,
            ..entry(hours, bytes)
        });
        vec(one, 0..30)
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (option::of(0..25u64), option::of(0..1500u64), option::of(0..1500u64)).prop_map(
            |(hours, max_bytes, keep_free)| Rules {
                all: false,
                max_age: hours.map(|hours| Duration::from_secs(hours * HOUR)),
                max_bytes,
                keep_free,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_protected_never_goes(all in entries(), rules in rules(), free in option::of(0..1500u64)) {
            let remove = select(&all, &rules, NOW, free).remove;
            prop_assert!(remove.iter().all(|&(place, _)| all[place].protection.is_none()));
            let mut places: Vec<_> = remove.iter().map(|(place, _)| place).collect();
            places.sort();
            places.dedup();
            prop_assert_eq!(places.len(), remove.len(), "each goes once");
        }

        #[test]
        fn the_oldest_goes_first(all in entries(), rules in rules(), free in option::of(0..1500u64)) {
            let remove = select(&all, &rules, NOW, free).remove;
            prop_assert!(remove.is_sorted_by_key(|&(place, _)| all[place].ended_at));
            // None that stays is older than one that went, unless it is protected or its going had helped nobody.
            for (stays, entry) in all.iter().enumerate().filter(|(place, _)| !remove.iter().any(|(gone, _)| gone == place)) {
                let newest = remove.iter().map(|&(place, _)| all[place].ended_at).max();
                let useless = entry.bytes == 0 || entry.frees == 0;
                prop_assert!(entry.protection.is_some() || useless || newest.is_none_or(|newest| entry.ended_at >= newest), "{stays} stays");
            }
        }

        #[test]
        fn rules_are_met_or_all_that_may_go_has_gone(all in entries(), rules in rules(), free in option::of(0..1500u64)) {
            let selection = select(&all, &rules, NOW, free);
            let gone = |place: &usize| selection.remove.iter().any(|(gone, _)| gone == place);
            let stays: Vec<_> = (0..all.len()).filter(|place| !gone(place)).map(|place| &all[place]).collect();
            let may_go = |entry: &&&Entry| entry.protection.is_none();
            if let Some(most) = rules.max_bytes {
                let left: u64 = stays.iter().map(|entry| entry.bytes).sum();
                prop_assert_eq!(selection.over, left.saturating_sub(most));
                prop_assert!(left <= most || stays.iter().filter(may_go).all(|entry| entry.bytes == 0));
            }
            if let (Some(least), Some(free)) = (rules.keep_free, free) {
                let free = free + selection.remove.iter().map(|&(place, _)| all[place].frees).sum::<u64>();
                prop_assert_eq!(selection.short, least.saturating_sub(free));
                prop_assert!(free >= least || stays.iter().filter(may_go).all(|entry| entry.frees == 0));
            }
            if let Some(most) = rules.max_age {
                prop_assert!(stays.iter().filter(may_go).all(|entry| age(entry, NOW) < most));
            }
        }

        #[test]
        fn no_more_goes_than_is_needed(all in entries(), rules in rules(), free in option::of(0..1500u64)) {
            let selection = select(&all, &rules, NOW, free);
            // Without the newest that went by bytes or space, one of the two is not met.
            if let Some((place, reason @ (Reason::Bytes | Reason::Space))) = selection.remove.last().copied() {
                let before = &selection.remove[..selection.remove.len() - 1];
                let left: u64 = (0..all.len()).filter(|at| !before.iter().any(|(gone, _)| gone == at)).map(|at| all[at].bytes).sum();
                let free = free.unwrap_or(0) + before.iter().map(|&(at, _)| all[at].frees).sum::<u64>();
                match reason {
                    Reason::Bytes => prop_assert!(left > rules.max_bytes.unwrap() && all[place].bytes > 0),
                    _ => prop_assert!(free < rules.keep_free.unwrap() && all[place].frees > 0),
                }
            }
        }

        #[test]
        fn a_second_time_nothing_goes(all in entries(), rules in rules(), free in option::of(0..1500u64)) {
            let remove = select(&all, &rules, NOW, free).remove;
            let free = free.map(|free| free + remove.iter().map(|&(place, _)| all[place].frees).sum::<u64>());
            let stays = |place: &usize| !remove.iter().any(|(gone, _)| gone == place);
            let rest: Vec<_> = (0..all.len()).filter(stays).map(|place| all[place].clone()).collect();
            prop_assert_eq!(select(&rest, &rules, NOW, free).remove, vec![]);
        }
    }
}
