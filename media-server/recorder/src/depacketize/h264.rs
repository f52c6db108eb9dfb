//! H.264 over RTP (RFC 6184): single NAL units, STAP-A and FU-A, to the length-prefixed form of ISO/IEC 14496-15.
//!
//! Parameter sets go into the sample entry, and in front of each random access point as well: players that keep the first
//! sample entry of a file (`avc3` in all but name) follow a change of size. Access unit delimiters and filler are removed.
//! Interleaved packetization (STAP-B, MTAP, FU-B) is refused: WebRTC does not negotiate it.

use shiguredo_mp4::{
    bitstream::h264::{H264SampleEntryConfig, LengthSize, build_avc1_box},
    boxes::SampleEntry,
};

use codec::h264::{
    ACCESS_UNIT_DELIMITER, FU_A, PPS, ParameterSets, SEI, SLICE_IDR, SLICE_NON_IDR, SPS, STAP_A, recovery_point,
};

use super::{Frame, Malformed};

#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    data: Vec<u8>,
    /// Where the NAL unit that is arriving in fragments has its length prefix.
    fragment: Option<usize>,
    has_picture: bool,
    /// An IDR slice or a recovery point message is in it.
    random_access: bool,
    sets: ParameterSets,
}

/// Parameter sets, SEI, a delimiter or the first slice of a picture.
pub(super) fn begins_frame(payload: &[u8]) -> bool {
    let first = |nal: &[u8]| match nal {
        [header, rest @ ..] => match header & 0x1f {
            SPS | SEI | ACCESS_UNIT_DELIMITER => true,
            // first_mb_in_slice is 0: ue(v) of a single 1 bit.
            SLICE_IDR | SLICE_NON_IDR => rest.first().is_some_and(|byte| byte & 0x80 != 0),
            _ => false,
        },
        [] => false,
    };
    match payload.first().map(|header| header & 0x1f) {
        Some(STAP_A) => payload.get(3..).is_some_and(first),
        Some(FU_A) => match payload {
            [_, fu, rest @ ..] if fu & 0x80 != 0 => match fu & 0x1f {
                SLICE_IDR | SLICE_NON_IDR => rest.first().is_some_and(|byte| byte & 0x80 != 0),
                kind => matches!(kind, SPS | SEI),
            },
            _ => false,
        },
        Some(_) => first(payload),
        None => false,
    }
}

impl Depacketizer {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&header, rest) = payload.split_first().ok_or(Malformed)?;
        match header & 0x1f {
            1..=23 => {
                if self.fragment.is_some() {
                    return Err(Malformed);
                }
                self.unit(payload);
                Ok(())
            }
            STAP_A => self.aggregate(rest),
            FU_A => self.fragment(header, rest),
            _ => Err(Malformed),
        }
    }

    fn aggregate(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        if self.fragment.is_some() {
            return Err(Malformed);
        }
        while let Some((size, tail)) = rest.split_first_chunk::<2>() {
            let size = usize::from(u16::from_be_bytes(*size));
            let unit = tail.get(..size).ok_or(Malformed)?;
            self.unit(unit);
            rest = &tail[size..];
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn fragment(&mut self, indicator: u8, rest: &[u8]) -> Result<(), Malformed> {
        let (&fu, body) = rest.split_first().ok_or(Malformed)?;
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        if start == self.fragment.is_some() {
            return Err(Malformed);
        }
        if start {
            self.fragment = Some(self.data.len());
            self.data.extend_from_slice(&[0; 4]);
            self.data.push(indicator & 0xe0 | fu & 0x1f);
        }
        self.data.extend_from_slice(body);
        if end && let Some(at) = self.fragment.take() {
            let unit = self.data.split_off(at);
            self.unit(&unit[4..]);
        }
        Ok(())
    }

    /// A whole NAL unit.
    fn unit(&mut self, unit: &[u8]) {
        let Some((header, body)) = unit.split_first() else { return };
        match header & 0x1f {
            SPS | PPS => {
                self.sets.insert(unit);
            }
            kind @ 1..=6 => {
                self.has_picture |= kind != SEI;
                self.random_access |= kind == SLICE_IDR || kind == SEI && recovery_point(body).is_some();
                self.data.extend(prefixed(unit));
            }
            _ => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.fragment.is_some() {
            return Err(Malformed);
        }
        if !self.has_picture {
            return Ok(None);
        }
        let mut data = std::mem::take(&mut self.data);
        let mut entry = None;
        if self.random_access {
            entry = Some(self.entry()?);
            let pps = self.sets.pps();
            let sets = self.sets.sps().into_iter().chain(pps.iter().map(Vec::as_slice));
            data = sets.flat_map(prefixed).chain(data).collect();
        }
        Ok(Some(Frame { data, keyframe: self.random_access, entry, duration: None }))
    }

    fn entry(&self) -> Result<SampleEntry, Malformed> {
        // Of several SPS, only the latest: the others belong to what was before.
        let sps: Vec<_> = self.sets.sps().map(<[u8]>::to_vec).into_iter().collect();
        let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
        build_avc1_box(&sps, &self.sets.pps(), &config).map(SampleEntry::Avc1).map_err(|_| Malformed)
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
        self.fragment = None;
        self.has_picture = false;
        self.random_access = false;
    }
}

/// Returns a NAL unit behind its length. A frame is bounded far below 4 GiB.
fn prefixed(unit: &[u8]) -> impl Iterator<Item = u8> {
    u32::try_from(unit.len()).unwrap_or(0).to_be_bytes().into_iter().chain(unit.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    // 320x240 Baseline, and a PPS for it.
    const SPS_320: &[u8] =
        &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0xc0, 0x44, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xf0];
    const PPS_0: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x01, 0x02, 0x03];

    fn prefixed(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| super::prefixed(unit)).collect()
    }

    #[test]
    fn access_unit_starts_with_its_parameter_sets() {
        let mut depacketizer = Depacketizer::default();
        let mut stap = vec![STAP_A];
        for set in [SPS_320, PPS_0] {
            stap.extend_from_slice(&(set.len() as u16).to_be_bytes());
            stap.extend_from_slice(set);
        }
        assert!(begins_frame(&stap));
        depacketizer.push(&stap).unwrap();
        depacketizer.push(&[0x7c, 0x85, 0x88, 0x84]).unwrap();
        depacketizer.push(&[0x7c, 0x05, 0x01]).unwrap();
        depacketizer.push(&[0x7c, 0x45, 0x02, 0x03]).unwrap();
        let frame = depacketizer.take().unwrap().unwrap();
        assert!(frame.keyframe);
        assert_eq!(frame.data, prefixed(&[SPS_320, PPS_0, IDR]));
        assert!(matches!(frame.entry, Some(SampleEntry::Avc1(entry)) if entry.avcc_box.sps_list == [SPS_320]));
    }

    #[test]
    fn a_fragment_without_its_start_is_refused() {
        assert_eq!(Depacketizer::default().push(&[0x7c, 0x05, 1, 2]), Err(Malformed));
    }

    #[test]
    fn a_keyframe_without_parameter_sets_is_refused() {
        let mut depacketizer = Depacketizer::default();
        depacketizer.push(IDR).unwrap();
        assert_eq!(depacketizer.take(), Err(Malformed));
    }

    #[test]
    fn parameter_sets_alone_are_no_frame() {
        let mut depacketizer = Depacketizer::default();
        depacketizer.push(SPS_320).unwrap();
        depacketizer.push(PPS_0).unwrap();
        assert_eq!(depacketizer.take(), Ok(None));
    }
}
