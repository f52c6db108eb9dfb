//! Which packets of each source (SSRC) were authentic: replay windows (RFC 3711 §3.3.2), with a bound on their number.
//!
//! A source gets state by an authentic packet only. [`MAX_ACTIVE`] sources have a window each; the source that was
//! authentic least recently makes room for a new one and is parked: of it only the highest index stays, for
//! [`MAX_PARKED`] sources, of which the oldest is dropped. A parked source that returns continues behind that index, so
//! that no packet of it is accepted twice, and a source that was silent while many others sent keeps its rollover counter.
//! A source that was dropped is new again: an attacker that recorded it, more than a thousand sources ago, could replay its
//! first 65,536 packets as those of a new source, which the publisher admits under its rules for SSRCs only.

use std::collections::VecDeque;

/// Sources with a window.
pub(super) const MAX_ACTIVE: usize = 16;
/// Sources that are remembered by their highest index, 16 bytes each.
pub(super) const MAX_PARKED: usize = 1024;

/// Sources with windows of 64 × `WORDS` packets.
#[derive(Default)]
pub(super) struct Sources<const WORDS: usize> {
    active: Vec<Source<WORDS>>,
    /// SSRC and highest index; oldest first.
    parked: VecDeque<(u32, u64)>,
    /// Counts authentic packets.
    clock: u64,
}

struct Source<const WORDS: usize> {
    ssrc: u32,
    /// The clock at its last authentic packet.
    used: u64,
    window: Box<Window<WORDS>>,
}

impl<const WORDS: usize> Sources<WORDS> {
    /// Returns the highest authentic index of a source.
    pub(super) fn highest(&self, ssrc: u32) -> Option<u64> {
        let active = self.active.iter().find(|source| source.ssrc == ssrc).map(|source| source.window.highest);
        active.or_else(|| self.parked.iter().find(|(parked, _)| *parked == ssrc).map(|(_, highest)| *highest))
    }

    /// Returns whether a packet may be accepted once it is authentic: it was not, and is inside the window.
    pub(super) fn is_fresh(&self, ssrc: u32, index: u64) -> bool {
        match self.active.iter().find(|source| source.ssrc == ssrc) {
            Some(source) => source.window.is_fresh(index),
            None => self.highest(ssrc).is_none_or(|highest| index > highest),
        }
    }

    /// Records an authentic packet.
    pub(super) fn record(&mut self, ssrc: u32, index: u64) {
        self.clock += 1;
        if let Some(source) = self.active.iter_mut().find(|source| source.ssrc == ssrc) {
            source.used = self.clock;
            return source.window.record(index);
        }
        let parked = self.parked.iter().position(|(parked, _)| *parked == ssrc);
        let mut window = match parked.and_then(|at| self.parked.remove(at)) {
            Some((_, highest)) => Window::closed(highest),
            None => Window::open(index),
        };
        window.record(index);
        if self.active.len() >= MAX_ACTIVE {
            self.park();
        }
        self.active.push(Source { ssrc, used: self.clock, window: Box::new(window) });
    }

    /// Parks the source that was authentic least recently.
    fn park(&mut self) {
        let oldest = self.active.iter().enumerate().min_by_key(|(_, source)| source.used).map(|(at, _)| at);
        if let Some(source) = oldest.map(|at| self.active.swap_remove(at)) {
            if self.parked.len() >= MAX_PARKED {
                self.parked.pop_front();
            }
            self.parked.push_back((source.ssrc, source.window.highest));
        }
    }
}

/// Which of the newest 64 × `WORDS` indices of a source were authentic.
struct Window<const WORDS: usize> {
    highest: u64,
    /// Index `i` is bit `i % 64` of word `i / 64 % WORDS`.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const PACKETS: u64 = 64 * WORDS as u64;

    /// A window with nothing recorded, around a first index.
    fn open(first: u64) -> Window<WORDS> {
        Window { highest: first, seen: [0; WORDS] }
    }

    /// A window in which everything up to the highest index is recorded.
    fn closed(highest: u64) -> Window<WORDS> {
        Window { highest, seen: [u64::MAX; WORDS] }
    }

    fn is_fresh(&self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        index > self.highest || (self.highest - index < Self::PACKETS && self.seen[word] & bit == 0)
    }

    fn record(&mut self, index: u64) {
        if index > self.highest {
            match index - self.highest {
                ahead if ahead >= Self::PACKETS => self.seen.fill(0),
                _ => (self.highest + 1..=index).for_each(|skipped| {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }),
            }
            self.highest = index;
        }
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    fn place(index: u64) -> (usize, u64) {
        ((index / 64 % WORDS as u64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a set of everything that was recorded.
        #[test]
        fn window_accepts_each_index_once(steps in proptest::collection::vec((-300_i64..300, any::<bool>()), 1..400)) {
            let (mut window, mut seen) = (Window::<2>::open(5000), HashSet::new());
            let mut highest = 5000_u64;
            for (step, far) in steps {
                let index = highest.saturating_add_signed(step * if far { 1 } else { 3 } / 3);
                let expected = !seen.contains(&index) && (index > highest || highest - index < 128);
                prop_assert_eq!(window.is_fresh(index), expected);
                if expected {
                    window.record(index);
                    seen.insert(index);
                    highest = highest.max(index);
                }
            }
        }
    }

    #[test]
    fn parked_source_returns_behind_its_highest_index() {
        let mut sources = Sources::<2>::default();
        for index in 100..=200 {
            sources.record(7, index);
        }
        (1000..1100).for_each(|ssrc| sources.record(ssrc, 1));
        assert_eq!((sources.active.len(), sources.highest(7)), (MAX_ACTIVE, Some(200)));
        assert!((0..=200).all(|index| !sources.is_fresh(7, index)) && sources.is_fresh(7, 201));
        sources.record(7, 210);
        assert!(!sources.is_fresh(7, 200) && !sources.is_fresh(7, 210) && sources.is_fresh(7, 205));
        assert!(sources.parked.iter().all(|(ssrc, _)| *ssrc != 7));
    }

    #[test]
    fn source_in_use_is_not_parked() {
        let mut sources = Sources::<2>::default();
        for turn in 0..5000_u32 {
            sources.record(7, u64::from(turn));
            sources.record(10_000 + turn, 1);
        }
        assert!(sources.active.iter().any(|source| source.ssrc == 7));
        assert_eq!((sources.active.len(), sources.parked.len()), (MAX_ACTIVE, MAX_PARKED));
    }

    #[test]
    fn many_sources_keep_memory_flat() {
        let mut sources = Sources::<128>::default();
        let mut next = 0;
        let mut come = |sources: &mut Sources<128>, many: u32| {
            allocation_counter::measure(|| {
                for _ in 0..many {
                    sources.record(next, 1);
                    next += 1;
                }
            })
            .bytes_current
        };
        // 16 windows of 1 KiB, and 16 bytes for each of 1,024 that are parked.
        let first = come(&mut sources, 1100);
        assert!((16 << 10..36 << 10).contains(&first), "{first} bytes");
        assert_eq!(come(&mut sources, 20_000), 0);
    }
}
