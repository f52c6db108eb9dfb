//! The bitrate of the payloads put into a ring, over the last two seconds.

/// Milliseconds of a bucket.
const BUCKET: u32 = 250;
const BUCKETS: usize = 8;
/// A stream that has just begun is taken for this old, so that its first keyframe is not its rate.
const YOUNGEST: u32 = 1000;

/// Bytes by quarter of a second.
#[derive(Default)]
pub(super) struct Meter {
    /// Bytes and packets.
    buckets: [(u64, u64); BUCKETS],
    /// Number of the newest bucket, and of the first.
    newest: u32,
    first: Option<u32>,
}

impl Meter {
    /// Adds a payload put at `now`, in milliseconds.
    pub(super) fn add(&mut self, now: u32, bytes: usize) {
        let bucket = now / BUCKET;
        self.first.get_or_insert(bucket);
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS as u32);
        for step in 1..=passed {
            self.buckets[(bucket.wrapping_add(1).wrapping_sub(step)) as usize % BUCKETS] = (0, 0);
        }
        self.newest = self.newest.max(bucket);
        let bucket = &mut self.buckets[self.newest as usize % BUCKETS];
        *bucket = (bucket.0 + bytes as u64, bucket.1 + 1);
    }

    /// Mean bytes of a packet.
    pub(super) fn mean(&self) -> u64 {
        let sum = self.buckets.iter().fold((0, 0), |sum, bucket| (sum.0 + bucket.0, sum.1 + bucket.1));
        sum.0 / sum.1.max(1)
    }

    /// Bits per second.
    pub(super) fn bitrate(&self) -> u64 {
        let Some(first) = self.first else { return 0 };
        let age = (self.newest - first + 1).saturating_mul(BUCKET).clamp(YOUNGEST, BUCKETS as u32 * BUCKET);
        self.buckets.iter().map(|bucket| bucket.0).sum::<u64>() * 8 * 1000 / u64::from(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrate_of_a_steady_stream_is_its_own() {
        let mut meter = Meter::default();
        assert_eq!(meter.bitrate(), 0);
        meter.add(7, 12_500);
        assert_eq!(meter.bitrate(), 100_000, "the first packets are no flood");
        for now in (100..10_000).step_by(10) {
            meter.add(now, 1250);
        }
        assert_eq!((meter.bitrate(), meter.mean()), (1_000_000, 1250));
        meter.add(60_000, 100);
        assert_eq!(meter.bitrate(), 400, "payloads before a pause do not count");
    }
}
