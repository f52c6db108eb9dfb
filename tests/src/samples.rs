//! Reads the synthetic camera's frames and sounds back from the segments of a recording, in their order.
//!
//! Limited to the recorder's own files: `moof` with one `trun` a track, sizes for each sample, offsets from the `moof`
//! (ISO/IEC 14496-12 §8.8), and H264 with lengths of four bytes (ISO/IEC 14496-15 §5.3).

use crate::stream::{Tag, identify, identify_unit};
use sfu::parameters::MediaKind;

/// NAL unit types without a picture: SEI, parameter sets, delimiters (ITU-T H.264 table 7-1).
const NO_PICTURE: std::ops::RangeInclusive<u8> = 6..=9;
/// `tfhd`: sample defaults are relative to the `moof`; of the optional fields only the last may be there.
const ONLY_FLAGS: u32 = 0x02_0020;

/// Why a segment is not one of the synthetic camera.
#[derive(Debug, thiserror::Error)]
#[error("{what} at byte {at} of a segment")]
pub struct SegmentError {
    what: &'static str,
    at: usize,
}

/// Numbers of the frames and sounds, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Of the frames.
    pub frames: Vec<u32>,
    /// Of the sounds.
    pub sounds: Vec<u32>,
}

impl Samples {
    /// Adds the samples of a segment. Each byte of each sample must be as it was sent.
    pub fn add(&mut self, segment: &[u8]) -> Result<(), SegmentError> {
        let (mut at, mut moof) = (0, 0);
        while at < segment.len() {
            let size = number(segment, at)? as usize;
            match segment.get(at + 4..at + 8) {
                // The boxes in it follow.
                Some(b"moof" | b"traf") => {
                    if segment[at + 4..at + 8] == *b"moof" {
                        moof = at;
                    }
                    at += 8;
                    continue;
                }
                Some(b"tfhd") if number(segment, at + 8)? & !ONLY_FLAGS != 0 => return fail("unknown defaults", at),
                Some(b"trun") => self.run(segment, at, moof)?,
                _ => {}
            }
            if size < 8 || at + size > segment.len() {
                return fail("a torn box", at);
            }
            at += size;
        }
        Ok(())
    }

    fn run(&mut self, segment: &[u8], at: usize, moof: usize) -> Result<(), SegmentError> {
        let flags = number(segment, at + 8)? & 0x00ff_ffff;
        // Offset, durations and sizes; flags and composition offsets may follow.
        if flags & 0x0305 != 0x0301 {
            return fail("a run without sizes", at);
        }
        let fields = (flags >> 8 & 0xf).count_ones() as usize;
        let mut data = moof + number(segment, at + 16)? as usize;
        for sample in 0..number(segment, at + 12)? as usize {
            // Behind the duration.
            let size = number(segment, at + 20 + sample * fields * 4 + 4)? as usize;
            let Some(bytes) = segment.get(data..data + size) else { return fail("a run beyond the end", at) };
            self.sample(bytes, data)?;
            data += size;
        }
        Ok(())
    }

    fn sample(&mut self, mut bytes: &[u8], at: usize) -> Result<(), SegmentError> {
        if let Some(Tag::Sound(sound)) = identify(MediaKind::Audio, bytes) {
            self.sounds.push(sound);
            return Ok(());
        }
        let mut frame = None;
        while !bytes.is_empty() {
            let length = number(bytes, 0)? as usize;
            let Some(unit) = bytes.get(4..4 + length).filter(|unit| !unit.is_empty()) else {
                return fail("a torn NAL unit", at);
            };
            if !NO_PICTURE.contains(&(unit[0] & 0x1f)) {
                match identify_unit(unit) {
                    Some(number) if frame.is_none() => frame = Some(number),
                    _ => return fail("a damaged frame", at),
                }
            }
            bytes = &bytes[4 + length..];
        }
        let Some(frame) = frame else { return fail("a sample without a picture", at) };
        self.frames.push(frame);
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, SegmentError> {
    match bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(SegmentError { what: "no number", at }),
    }
}

fn fail(what: &'static str, at: usize) -> Result<(), SegmentError> {
    Err(SegmentError { what, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use jiff::Timestamp;
    use recorder::{Codec, Config, Description, Output, Packet, Recording, Tracks};
    use std::time::{Duration, Instant};

    /// Records a stream, and returns the bytes of its segments.
    fn segments(stream: &mut Stream, until: Duration) -> Vec<u8> {
        let description = Description {
            id: "id".into(),
            stream: None,
            room: "gate".into(),
            publisher: "camera".into(),
            started_at: Timestamp::UNIX_EPOCH,
        };
        let start = Instant::now();
        let mut recording = Recording::new(start, Config::default(), description, Tracks { audio: true, video: true });
        let mut bytes = Vec::new();
        let mut carry_out = |recording: &mut Recording| {
            while let Some(output) = recording.poll_output() {
                if let Output::Append { file: recorder::File::Segment(_), bytes: appended } = output {
                    bytes.extend(appended);
                }
            }
        };
        let mut indexes = [0, 0];
        for burst in stream.by_ref().take_while(|burst| burst.at < until) {
            let video = burst.kind == MediaKind::Video;
            let last = burst.payloads.len() - 1;
            for (n, payload) in burst.payloads.iter().enumerate() {
                let index = indexes[usize::from(video)];
                indexes[usize::from(video)] += 1;
                let (codec, source) = if video { (Codec::H264, 1) } else { (Codec::Opus, 2) };
                let (timestamp, marker) = (burst.timestamp, video && n == last);
                recording.handle_rtp(start + burst.at, Packet { codec, source, index, timestamp, marker, payload });
            }
            recording.handle_timeout(start + burst.at);
            carry_out(&mut recording);
        }
        recording.finish(start + until);
        carry_out(&mut recording);
        bytes
    }

    #[test]
    fn recorded_stream_returns_every_frame_and_sound() {
        let bytes = segments(&mut Stream::sized(500, 4500, 60), Duration::from_secs(25));
        let mut samples = Samples::default();
        samples.add(&bytes).unwrap();
        assert_eq!(samples, Samples { frames: (0..750).collect(), sounds: (0..1250).collect() });
    }

    #[test]
    fn damaged_sample_is_an_error() {
        let mut bytes = segments(&mut Stream::sized(500, 4500, 60), Duration::from_secs(5));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(Samples::default().add(&bytes).is_err());
        assert!(Samples::default().add(&bytes[..last]).is_err());
    }
}
