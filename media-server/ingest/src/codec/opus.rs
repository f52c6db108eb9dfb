//! Opus: how long a packet lasts, from its first byte or two (RFC 6716 §3).

use std::time::Duration;

/// `None` if it is not an Opus packet: empty, or longer than 120 ms.
pub(crate) fn duration(packet: &[u8]) -> Option<Duration> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config & 1)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    let microseconds = frame * count;
    (1..=120_000).contains(&microseconds).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_table() {
        for (packet, milliseconds) in [
            (&[0x08][..], Some(20)),
            (&[0x18], Some(60)),
            (&[0x68], Some(20)),
            (&[0xf8], Some(20)),
            (&[0xf9], Some(40)),
            (&[0xfb, 3], Some(60)),
        ] {
            assert_eq!(duration(packet).map(|d| d.as_millis()), milliseconds, "{packet:x?}");
        }
        assert_eq!(duration(&[0xe0]), Some(Duration::from_micros(2500)));
    }

    #[test]
    fn what_cannot_be_opus_is_refused() {
        for packet in [&[][..], &[0xfb], &[0xfb, 0], &[0xfb, 7], &[0x1b, 3]] {
            assert_eq!(duration(packet), None, "{packet:x?}");
        }
    }
}
