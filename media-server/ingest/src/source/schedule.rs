//! When each frame of a source is due: picture and sound merged in order of time, over and over if the source repeats.
//!
//! Time is not read here. A schedule is a list of distances from a start; the caller waits.

use std::time::Duration;

use super::{Clip, Frame, Source};
use crate::codec::MediaKind;

/// One frame and when to send it.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled<'a> {
    /// From the start of the stream; never less than that of the frame before.
    pub due: Duration,
    /// The track it belongs to.
    pub kind: MediaKind,
    /// What to send.
    pub frame: &'a Frame,
}

/// Iterator over the frames of a [`Source`]; endless if the source repeats.
#[derive(Debug)]
pub struct Schedule<'a> {
    source: &'a Source,
    /// What one repetition adds.
    period: Duration,
    /// Start of this repetition.
    offset: Duration,
    next_video: usize,
    next_audio: usize,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(source: &'a Source) -> Schedule<'a> {
        Schedule { source, period: source.duration(), offset: Duration::ZERO, next_video: 0, next_audio: 0 }
    }

    fn next_of(&self, clip: Option<&'a Clip>, index: usize) -> Option<&'a Frame> {
        // What lies past the end of the period is left out of a repeated source.
        clip?.frames.get(index).filter(|frame| !self.source.repeat || frame.at < self.period)
    }

    fn next_frame(&mut self) -> Option<(MediaKind, &'a Frame)> {
        let video = self.next_of(self.source.video.as_ref(), self.next_video);
        let audio = self.next_of(self.source.audio.as_ref(), self.next_audio);
        match (video, audio) {
            (Some(video), Some(audio)) if audio.at < video.at => {
                self.next_audio += 1;
                Some((MediaKind::Audio, audio))
            }
            (Some(video), _) => {
                self.next_video += 1;
                Some((MediaKind::Video, video))
            }
            (None, Some(audio)) => {
                self.next_audio += 1;
                Some((MediaKind::Audio, audio))
            }
            (None, None) => None,
        }
    }
}

impl<'a> Iterator for Schedule<'a> {
    type Item = Scheduled<'a>;

    fn next(&mut self) -> Option<Scheduled<'a>> {
        let mut found = self.next_frame();
        if found.is_none() && self.source.repeat && !self.period.is_zero() {
            (self.next_video, self.next_audio) = (0, 0);
            self.offset += self.period;
            found = self.next_frame();
        }
        found.map(|(kind, frame)| Scheduled { due: self.offset + frame.at, kind, frame })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn clip(codec: Codec, times: &[u64], duration: u64) -> Clip {
        let frames = times
            .iter()
            .map(|at| Frame { at: Duration::from_millis(*at), data: Bytes::from_static(b"x"), keyframe: true })
            .collect();
        Clip { codec, frames, duration: Duration::from_millis(duration), fmtp: String::new() }
    }

    fn due(schedule: Schedule<'_>, count: usize) -> Vec<(u128, MediaKind)> {
        schedule.take(count).map(|item| (item.due.as_millis(), item.kind)).collect()
    }

    use MediaKind::{Audio, Video};

    #[test]
    fn picture_and_sound_are_merged_in_order_of_time() {
        let source =
            Source::new(Some(clip(Codec::H264, &[0, 33, 66], 100)), Some(clip(Codec::Opus, &[0, 20, 40], 60))).unwrap();
        let expected = [(0, Video), (0, Audio), (20, Audio), (33, Video), (40, Audio), (66, Video)];
        assert_eq!(due(source.schedule(), 99), expected);
    }

    #[test]
    fn a_repeated_source_goes_on_with_the_picture_s_period() {
        let source = Source::new(Some(clip(Codec::H264, &[0, 50], 100)), Some(clip(Codec::Opus, &[0, 60, 120], 180)))
            .unwrap()
            .repeated();
        let once = [(0, Video), (0, Audio), (50, Video), (60, Audio)];
        let twice: Vec<_> = once.iter().copied().chain(once.iter().map(|(at, kind)| (at + 100, *kind))).collect();
        assert_eq!(due(source.schedule(), 8), twice);
    }

    #[test]
    fn an_empty_source_is_over_at_once() {
        assert_eq!(Source::default().repeated().schedule().count(), 0);
    }

    #[test]
    fn the_demo_repeats_without_a_seam() {
        let source = crate::demo::source();
        let count = 2 * (240 + 400);
        let video: Vec<_> =
            source.schedule().take(count).filter(|item| item.kind == Video).map(|item| item.due.as_micros()).collect();
        let audio: Vec<_> =
            source.schedule().take(count).filter(|item| item.kind == Audio).map(|item| item.due.as_millis()).collect();
        assert_eq!((video.len(), audio.len()), (480, 800));
        assert!(video.windows(2).all(|pair| (33_333..=33_334).contains(&(pair[1] - pair[0]))));
        assert!(audio.windows(2).all(|pair| pair[1] - pair[0] == 20));
    }

    proptest! {
        #[test]
        fn time_never_goes_back(mut video in proptest::collection::vec(0u64..500, 1..20), mut audio in proptest::collection::vec(0u64..500, 1..20), length in 1u64..500) {
            video.sort_unstable();
            audio.sort_unstable();
            let source = Source::new(Some(clip(Codec::Vp8, &video, length)), Some(clip(Codec::Opus, &audio, length)))
                .unwrap()
                .repeated();
            let due = due(source.schedule(), 200);
            prop_assert!(due.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
    }
}
