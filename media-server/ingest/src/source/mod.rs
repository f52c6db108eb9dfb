//! What a camera plays: encoded pictures and sound, already in memory, each frame with its time.
//!
//! Nothing is encoded or decoded here: a file's frames are found, checked and timed, then handed on as they are. A file
//! is known by its first bytes, not by its name. Files are peer input: whatever they hold, reading ends in a [`Clip`]
//! or a [`SourceError`] that says what would have been right.

mod annexb;
mod ivf;
mod ogg;
mod schedule;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

pub use schedule::{Schedule, Scheduled};

use crate::codec::Codec;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// As it was given.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The first bytes are of no kind that is known here.
    #[error(
        "not a file this camera can play: it starts with neither an H264 start code (Annex B), nor DKIF (IVF), nor OggS (Ogg Opus); \
         `ffmpeg -i FILE -an -c:v libx264 -profile:v baseline -bf 0 video.h264` and `ffmpeg -i FILE -vn -c:a libopus audio.ogg` make such files"
    )]
    UnknownFormat,
    /// An H264 file that holds no picture, or none that a decoder could begin with.
    #[error("the H264 file has {0}")]
    H264(&'static str),
    /// Pictures that are shown in another order than they are sent in; no WebRTC receiver takes them.
    #[error("the H264 file has B-frames, which WebRTC does not carry: encode it with `-bf 0`")]
    BFrames,
    /// An IVF file that breaks its own format.
    #[error("the IVF file {what} (at byte {at})")]
    Ivf {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// An IVF file of a codec that is not carried.
    #[error("the IVF file holds {0:?}: VP80, VP90 and AV01 can be played")]
    IvfCodec(String),
    /// An Ogg file that breaks its own format.
    #[error("the Ogg file {what} (at byte {at})")]
    Ogg {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A frame rate that is not one.
    #[error("{0:?} is not a frame rate: give frames per second above 0 and up to 1000, as 30, 29.97 or 30000/1001")]
    FrameRate(String),
    /// A picture file where sound was asked for, or the reverse.
    #[error("{codec} is not {wanted}")]
    WrongKind {
        /// What the file holds.
        codec: Codec,
        /// `video` or `audio`.
        wanted: &'static str,
    },
}

/// Frames per second as a fraction, so that 29.97 does not drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    frames: u32,
    seconds: u32,
}

impl FrameRate {
    /// Used where neither the file nor the caller says otherwise.
    pub const DEFAULT: FrameRate = FrameRate { frames: 30, seconds: 1 };

    /// `frames` in `seconds`; `None` unless both are above 0 and there are at most 1000 frames a second.
    pub fn new(frames: u32, seconds: u32) -> Option<FrameRate> {
        let sane = frames > 0 && seconds > 0 && u64::from(frames) <= 1000 * u64::from(seconds);
        // Slower than one picture in ten minutes is a mistake, not a camera.
        (sane && u64::from(seconds) <= 600 * u64::from(frames)).then_some(FrameRate { frames, seconds })
    }

    /// When frame number `index` is due, from the start.
    pub fn at(self, index: usize) -> Duration {
        let nanoseconds = index as u128 * u128::from(self.seconds) * 1_000_000_000 / u128::from(self.frames);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl std::str::FromStr for FrameRate {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<FrameRate, SourceError> {
        let refused = || SourceError::FrameRate(text.to_owned());
        if let Some((frames, seconds)) = text.split_once('/') {
            let (frames, seconds) = (frames.trim().parse().ok(), seconds.trim().parse().ok());
            return frames.zip(seconds).and_then(|(f, s)| FrameRate::new(f, s)).ok_or_else(refused);
        }
        let rate: f64 = text.trim().parse().map_err(|_| refused())?;
        if !rate.is_finite() || rate <= 0.0 || rate > 1000.0 {
            return Err(refused());
        }
        // 23.98, 29.97 and 59.94 are written for 24000/1001, 30000/1001 and 60000/1001.
        let ntsc = (rate * 1.001).round();
        if (rate - rate.round()).abs() > 0.001 && (rate - ntsc / 1.001).abs() < 0.006 {
            return FrameRate::new(ntsc as u32 * 1000, 1001).ok_or_else(refused);
        }
        FrameRate::new((rate * 1000.0).round() as u32, 1000).ok_or_else(refused)
    }
}

/// One encoded frame: a picture, or one packet of sound.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the start of its clip.
    pub at: Duration,
    /// As the codec's RTP payload format wants it: H264 with start codes, AV1 with sizes, the others as they are.
    pub data: Bytes,
    /// A decoder can begin here. Always true of sound.
    pub keyframe: bool,
}

/// One track in memory. Holds at least one frame, begins with a keyframe, and its times never go back.
#[derive(Clone, Debug)]
pub struct Clip {
    /// What it is encoded with.
    pub codec: Codec,
    /// In order of time.
    pub frames: Vec<Frame>,
    /// From the start of the first frame to the end of the last.
    pub duration: Duration,
    /// What the offer's `a=fmtp` says of it, without the payload type; may be empty.
    pub fmtp: String,
}

impl Clip {
    /// Finds the frames in `data`, whichever of the known formats it is. `rate` is for H264, which has no times of its
    /// own; without it the file's own timing information counts, and 30 where there is none.
    pub fn parse(data: Bytes, rate: Option<FrameRate>) -> Result<Clip, SourceError> {
        if data.starts_with(b"DKIF") {
            ivf::parse(&data)
        } else if data.starts_with(b"OggS") {
            ogg::parse(&data)
        } else if data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1]) {
            annexb::parse(&data, rate)
        } else {
            Err(SourceError::UnknownFormat)
        }
    }

    /// Reads the file at `path` into memory and finds its frames.
    pub fn open(path: &Path, rate: Option<FrameRate>) -> Result<Clip, SourceError> {
        let data =
            std::fs::read(path).map_err(|source| SourceError::Read { path: path.display().to_string(), source })?;
        Clip::parse(Bytes::from(data), rate)
    }
}

/// What one camera sends: a picture, a sound, or both, once or again and again.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The picture.
    pub video: Option<Clip>,
    /// The audio.
    pub audio: Option<Clip>,
    pub(crate) repeat: bool,
}

impl Source {
    /// Joins clips that start together. Refuses sound as `video` and pictures as `audio`.
    pub fn new(video: Option<Clip>, audio: Option<Clip>) -> Result<Source, SourceError> {
        if let Some(clip) = video.as_ref().filter(|clip| clip.codec == Codec::Opus) {
            return Err(SourceError::WrongKind { codec: clip.codec, wanted: "video" });
        }
        if let Some(clip) = audio.as_ref().filter(|clip| clip.codec != Codec::Opus) {
            return Err(SourceError::WrongKind { codec: clip.codec, wanted: "audio" });
        }
        Ok(Source { video, audio, repeat: false })
    }

    /// Bytes that are part of the program, as [`crate::demo`] has them.
    pub fn embedded(video: &'static [u8], audio: &'static [u8]) -> Result<Source, SourceError> {
        let video = Clip::parse(Bytes::from_static(video), None)?;
        let audio = Clip::parse(Bytes::from_static(audio), None)?;
        Source::new(Some(video), Some(audio))
    }

    /// Begins again at the end, for ever: timestamps go on. The picture sets the period where there is one; sound that
    /// is longer is cut there, and shorter sound pauses.
    pub fn repeated(mut self) -> Source {
        self.repeat = true;
        self
    }

    /// The frames in the order in which they are due.
    pub fn schedule(&self) -> Schedule<'_> {
        Schedule::new(self)
    }

    /// How long it plays once.
    pub fn duration(&self) -> Duration {
        let longest = |clip: &Option<Clip>| clip.as_ref().map_or(Duration::ZERO, |clip| clip.duration);
        if self.repeat && self.video.is_some() {
            longest(&self.video)
        } else {
            longest(&self.video).max(longest(&self.audio))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frame_rates_are_read_as_people_write_them() {
        for (text, frames, seconds) in [
            ("30", 30_000, 1000),
            ("29.97", 30_000, 1001),
            ("23.976", 24_000, 1001),
            ("30000/1001", 30_000, 1001),
            ("12.5", 12_500, 1000),
        ] {
            assert_eq!(text.parse::<FrameRate>().unwrap(), FrameRate { frames, seconds }, "{text}");
        }
        for text in ["0", "-1", "nan", "inf", "1e9", "30/0", "0/1", "", "thirty", "1/601", "99999/1"] {
            assert!(text.parse::<FrameRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_frame_rate_does_not_drift_in_a_day() {
        let rate: FrameRate = "29.97".parse().unwrap();
        assert_eq!(rate.at(30_000 * 60), Duration::from_secs(1001 * 60));
    }

    #[test]
    fn unknown_bytes_are_refused_with_what_would_be_right() {
        let error = Clip::parse(Bytes::from_static(b"\x00\x00\x00\x18ftypisom"), None).unwrap_err();
        assert!(error.to_string().contains("ffmpeg"), "{error}");
    }

    #[test]
    fn sound_is_not_taken_for_a_picture() {
        let sound = Clip::parse(Bytes::from_static(crate::demo::AUDIO), None).unwrap();
        assert!(matches!(Source::new(Some(sound), None), Err(SourceError::WrongKind { wanted: "video", .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_input_panics(magic in 0usize..4, tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut data = [&b"DKIF"[..], b"OggS", &[0, 0, 0, 1, 0x67], &[0, 0, 1]][magic].to_vec();
            data.extend(tail);
            let _ = Clip::parse(Bytes::from(data), None);
        }

        #[test]
        fn a_damaged_clip_never_panics(audio in any::<bool>(), cut in 0usize..6000, flips in proptest::collection::vec((0usize..6000, any::<u8>()), 0..20)) {
            let mut data = if audio { crate::demo::AUDIO } else { crate::demo::VIDEO }[..cut].to_vec();
            for (at, value) in flips {
                if let Some(byte) = data.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = Clip::parse(Bytes::from(data), None);
        }
    }
}
