//! H264 in RTP (RFC 6184, packetization mode 1): single NAL units, STAP-A and FU-A.

use super::Part;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

pub(crate) fn inspect(payload: &[u8]) -> Part {
    let mut part = Part::default();
    match payload {
        [header, rest @ ..] if header & 0x1f == STAP_A => {
            let mut rest = rest;
            while let [high, low, units @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((unit, more)) = units.split_at_checked(size) else { break };
                if let [header, body @ ..] = unit {
                    part.add(header & 0x1f, body);
                }
                rest = more;
            }
        }
        [indicator, header, body @ ..] if indicator & 0x1f == FU_A => {
            let first = header & 0x80 != 0;
            let kind = header & 0x1f;
            if first {
                part.add(kind, body);
            }
            part.key |= kind == 5;
        }
        [header, body @ ..] => part.add(header & 0x1f, body),
        [] => {}
    }
    part
}

impl Part {
    /// Counts in a NAL unit, or the beginning of one. `body` comes after its header.
    fn add(&mut self, kind: u8, body: &[u8]) {
        match kind {
            // first_mb_in_slice is 0: its Exp-Golomb code is a single 1.
            1 | 5 => {
                self.begins |= body.first().is_some_and(|byte| byte & 0x80 != 0);
                self.key |= kind == 5;
            }
            6 | 9 => self.begins = true,
            7 => (self.begins, self.sps) = (true, true),
            8 => (self.begins, self.pps) = (true, true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_in_an_aggregate_are_seen() {
        let payload = [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 1];
        assert_eq!(inspect(&payload), Part { begins: true, key: false, sps: true, pps: true });
    }

    #[test]
    fn only_the_first_fragment_begins_a_frame() {
        let first = Part { begins: true, key: true, ..Part::default() };
        assert_eq!(inspect(&[0x7c, 0x85, 0x88]), first);
        assert_eq!(inspect(&[0x7c, 0x05, 0x88]), Part { begins: false, ..first });
        assert_eq!(inspect(&[0x7c, 0x45, 0x88]), Part { begins: false, ..first });
    }

    #[test]
    fn a_later_slice_does_not_begin_a_frame() {
        assert!(inspect(&[0x41, 0x9a]).begins);
        assert!(!inspect(&[0x41, 0x4a]).begins);
        assert!(!inspect(&[0x41, 0x9a]).key);
    }

    #[test]
    fn an_aggregate_that_lies_about_a_size_is_read_as_far_as_it_goes() {
        assert!(inspect(&[0x78, 0, 2, 0x67, 1, 0xff, 0xff, 0x68]).sps);
    }
}
