//! 16-bit RTP sequence numbers as numbers that never wrap (RFC 3550 appendix A.1, RFC 3711 §3.3.1).

/// Extends 16-bit sequence numbers to 64 bits, by the nearest to the highest seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extender {
    highest: Option<u64>,
}

impl Extender {
    /// The extended number. The first one is placed a full cycle up, so that what was reordered before it stays positive.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = (1 << 16) + u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let step = sequence.wrapping_sub(highest as u16) as i16;
        let extended = highest.saturating_add_signed(i64::from(step));
        self.highest = Some(highest.max(extended));
        extended
    }

    /// The highest number given so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn follows_a_sequence_with_reordering(start: u16, steps in proptest::collection::vec(-200i64..1000, 1..500)) {
            let mut extender = Extender::default();
            let first = extender.extend(start) as i64;
            let mut highest = first;
            for step in steps {
                let next = (highest + step).max(1);
                prop_assert_eq!(extender.extend(next as u16) as i64, next);
                highest = highest.max(next);
            }
        }
    }
}
