//! Puts the packets of one source into order, and waits for missing ones, but not for long.
//!
//! Retransmissions (RFC 4588) come a round trip or several after what they replace. A hole is declared lost when the
//! packet behind it has waited for the window, or when too many are waiting.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::types::Codec;

/// A source's first packets are held this long, so that the very first may be overtaken.
const START_HOLD: Duration = Duration::from_millis(100);

/// What is kept of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) arrival: Instant,
    pub(crate) codec: Codec,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

/// The packets of one source that cannot go on yet.
#[derive(Debug)]
pub(crate) struct Reorder {
    window: Duration,
    max_packets: usize,
    /// The index that goes on next; none before the first has.
    next: Option<u64>,
    waiting: BTreeMap<u64, Kept>,
    first_arrival: Option<Instant>,
    /// Nothing more is waited for.
    flushing: bool,
}

impl Reorder {
    pub(crate) fn new(window: Duration, max_packets: usize) -> Self {
        Reorder { window, max_packets, next: None, waiting: BTreeMap::new(), first_arrival: None, flushing: false }
    }

    pub(crate) fn insert(&mut self, index: u64, packet: Kept) {
        if self.next.is_some_and(|next| index < next) {
            return;
        }
        self.first_arrival.get_or_insert(packet.arrival);
        self.waiting.entry(index).or_insert(packet);
    }

    /// The next packet in order, and whether packets are missing directly before it.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Kept, bool)> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        let full = self.waiting.len() > self.max_packets;
        let entry = self.waiting.first_entry()?;
        let index = *entry.key();
        let in_order = self.next == Some(index);
        if !(in_order || due || full || self.flushing) {
            return None;
        }
        let hole = self.next.is_some() && !in_order;
        self.next = Some(index.saturating_add(1));
        Some((entry.remove(), hole))
    }

    /// When what is first in line goes on at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (&index, head) = self.waiting.first_key_value()?;
        Some(match self.next {
            None => self.first_arrival? + START_HOLD.min(self.window),
            Some(next) if next == index => head.arrival,
            Some(_) => head.arrival + self.window,
        })
    }

    /// Nothing more is waited for: `pop` gives all that is left. Then the order starts anew with the next packet.
    pub(crate) fn flush(&mut self) {
        self.flushing = true;
    }

    /// After a flush: packets may come again.
    pub(crate) fn restart(&mut self) {
        *self = Reorder::new(self.window, self.max_packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(400);

    fn kept(arrival: Instant) -> Kept {
        Kept { arrival, codec: Codec::Vp8, timestamp: 0, marker: false, payload: vec![] }
    }

    #[test]
    fn a_retransmission_within_the_window_fills_the_hole() {
        let (t, mut reorder) = (Instant::now(), Reorder::new(WINDOW, 100));
        reorder.insert(5, kept(t));
        assert!(reorder.pop(t).is_none());
        let t = t + START_HOLD;
        assert!(reorder.pop(t).is_some_and(|(_, hole)| !hole));
        reorder.insert(7, kept(t));
        assert!(reorder.pop(t + WINDOW / 2).is_none());
        reorder.insert(6, kept(t + WINDOW / 2));
        assert!(reorder.pop(t + WINDOW / 2).is_some_and(|(_, hole)| !hole));
        assert!(reorder.pop(t + WINDOW / 2).is_some_and(|(_, hole)| !hole));
    }

    #[test]
    fn a_hole_is_declared_lost_after_the_window_and_the_late_packet_is_ignored() {
        let (t, mut reorder) = (Instant::now(), Reorder::new(WINDOW, 100));
        reorder.insert(5, kept(t));
        let t = t + START_HOLD;
        reorder.pop(t).unwrap();
        reorder.insert(8, kept(t));
        assert_eq!(reorder.deadline(), Some(t + WINDOW));
        assert!(reorder.pop(t + WINDOW).is_some_and(|(_, hole)| hole));
        reorder.insert(6, kept(t + WINDOW));
        assert!(reorder.pop(t + WINDOW * 2).is_none());
    }

    #[test]
    fn too_many_waiting_packets_go_on_without_the_missing_one() {
        let (t, mut reorder) = (Instant::now(), Reorder::new(WINDOW, 3));
        reorder.insert(0, kept(t));
        reorder.pop(t + START_HOLD).unwrap();
        for index in 2..6 {
            reorder.insert(index, kept(t + START_HOLD));
        }
        assert!(reorder.pop(t + START_HOLD).is_some_and(|(_, hole)| hole));
    }

    #[test]
    fn the_highest_index_does_not_overflow() {
        let (t, mut reorder) = (Instant::now(), Reorder::new(WINDOW, 3));
        reorder.insert(u64::MAX, kept(t));
        reorder.pop(t + START_HOLD).unwrap();
        assert!(reorder.pop(t + WINDOW).is_none());
    }
}
