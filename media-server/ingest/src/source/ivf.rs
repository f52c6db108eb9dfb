//! IVF, the container of libvpx and libaom: a header of 32 bytes, then frames of a length, a time and bytes
//! (<https://wiki.multimedia.cx/index.php/Duck_IVF>).

use std::time::Duration;

use bytes::Bytes;

use super::{Clip, Frame, SourceError};
use crate::codec::{Codec, av1, vp8, vp9};

const FRAME_HEADER: usize = 12;
/// A clip longer than this is a broken time base.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn parse(data: &Bytes) -> Result<Clip, SourceError> {
    let broken = |what, at| SourceError::Ivf { what, at };
    let header = data.get(..32).ok_or(broken("ends within its header", data.len()))?;
    let short = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let long = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let codec = match &header[8..12] {
        b"VP80" => Codec::Vp8,
        b"VP90" => Codec::Vp9,
        b"AV01" => Codec::Av1,
        other => return Err(SourceError::IvfCodec(String::from_utf8_lossy(other).into_owned())),
    };
    let (rate, scale) = (long(16), long(20));
    if rate == 0 || scale == 0 {
        return Err(broken("has a time base of zero", 16));
    }
    let mut at = short(6);
    if at < 32 {
        return Err(broken("has a header shorter than 32 bytes", 6));
    }

    let mut frames: Vec<Frame> = Vec::new();
    let mut first_tick = None;
    while at < data.len() {
        let head = data.get(at..at + FRAME_HEADER).ok_or(broken("ends within a frame's header", at))?;
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut tick = [0; 8];
        tick.copy_from_slice(&head[4..]);
        let tick = u64::from_le_bytes(tick);
        let body = at + FRAME_HEADER;
        let end = body.checked_add(size).filter(|end| *end <= data.len());
        let end = end.ok_or(broken("ends within a frame", at))?;
        let bytes = data.slice(body..end);
        let from_start = tick.checked_sub(*first_tick.get_or_insert(tick)).ok_or(broken("goes back in time", at))?;
        let time = time(from_start, rate, scale).ok_or(broken("has a time past 30 days", at))?;
        if frames.last().is_some_and(|last| last.at > time) {
            return Err(broken("goes back in time", at));
        }
        if !well_formed(codec, &bytes) {
            return Err(broken("has a frame that is not of its codec", at));
        }
        let keyframe = is_keyframe(codec, &bytes);
        if frames.is_empty() && !keyframe {
            return Err(broken("does not begin with a keyframe", at));
        }
        frames.push(Frame { at: time, data: bytes, keyframe });
        at = end;
    }
    let last = frames.last().ok_or(broken("has no frames", at))?.at;
    // The last frame lasts as long as the others did, or one tick when it is alone.
    let length = match u32::try_from(frames.len() - 1) {
        Ok(gaps) if gaps > 0 && !last.is_zero() => last / gaps,
        _ => time(1, rate, scale).unwrap_or_default(),
    };
    Ok(Clip { codec, frames, duration: last + length.max(Duration::from_millis(1)), fmtp: fmtp(codec).to_owned() })
}

fn time(ticks: u64, rate: u32, scale: u32) -> Option<Duration> {
    let nanoseconds = u128::from(ticks) * u128::from(scale) * 1_000_000_000 / u128::from(rate);
    u64::try_from(nanoseconds).ok().map(Duration::from_nanos).filter(|time| *time <= LONGEST)
}

fn well_formed(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::Av1 => av1::units(frame).all(|unit| unit.is_some()) && av1::units(frame).next().is_some(),
        _ => !frame.is_empty(),
    }
}

fn is_keyframe(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8::is_keyframe(frame),
        Codec::Vp9 => vp9::is_keyframe(frame),
        _ => av1::is_keyframe(frame),
    }
}

fn fmtp(codec: Codec) -> &'static str {
    match codec {
        Codec::Vp9 => "profile-id=0",
        Codec::Av1 => "level-idx=5;profile=0;tier=0",
        _ => "",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(fourcc: &[u8; 4], rate: u32, scale: u32, frames: &[(u64, &[u8])]) -> Bytes {
        let mut data = b"DKIF\x00\x00\x20\x00".to_vec();
        data.extend(fourcc);
        data.extend([0x80, 2, 0x68, 1]);
        data.extend(rate.to_le_bytes());
        data.extend(scale.to_le_bytes());
        data.extend((frames.len() as u32).to_le_bytes());
        data.extend([0; 4]);
        for (at, bytes) in frames {
            data.extend((bytes.len() as u32).to_le_bytes());
            data.extend(at.to_le_bytes());
            data.extend(*bytes);
        }
        Bytes::from(data)
    }

    const KEY: &[u8] = &[0x10, 0, 0, 0x9d, 1, 0x2a];
    const DELTA: &[u8] = &[0x11, 0, 0];

    #[test]
    fn times_come_from_the_file_and_begin_at_zero() {
        let clip = parse(&file(b"VP80", 30_000, 1001, &[(7, KEY), (8, DELTA), (10, DELTA)])).unwrap();
        assert_eq!(clip.codec, Codec::Vp8);
        let times: Vec<_> = clip.frames.iter().map(|frame| frame.at.as_micros()).collect();
        assert_eq!(times, [0, 33_366, 100_100]);
        assert_eq!(clip.duration.as_micros(), 150_150);
        assert_eq!(clip.frames.iter().map(|frame| frame.keyframe).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn broken_files_are_refused_with_the_place() {
        let whole = file(b"VP80", 30, 1, &[(0, KEY), (1, DELTA)]);
        for (data, what) in [
            (whole.slice(..20), "header"),
            (whole.slice(..whole.len() - 1), "ends within a frame"),
            (file(b"VP80", 0, 1, &[(0, KEY)]), "time base"),
            (file(b"VP80", 30, 1, &[]), "no frames"),
            (file(b"VP80", 30, 1, &[(0, DELTA)]), "keyframe"),
            (file(b"VP80", 30, 1, &[(5, KEY), (4, DELTA)]), "back in time"),
            (file(b"VP80", 1, u32::MAX, &[(0, KEY), (u64::MAX, DELTA)]), "30 days"),
            (file(b"MJPG", 30, 1, &[(0, KEY)]), "VP80"),
            (file(b"AV01", 30, 1, &[(0, &[0x0a, 0x7f])]), "not of its codec"),
        ] {
            let error = parse(&data).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
