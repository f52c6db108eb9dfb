//! A track of a merged fragment.
//!
//! Its samples are one run (`trun`), and their bytes follow each other. FFmpeg, and with it Chromium, loses the order of its
//! index when it reads a fragment behind another one with several runs of a track, and then seeks to other frames.

use std::borrow::Cow;

use jiff::SignedDuration;
use shiguredo_mp4::boxes::{TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample};

use super::{
    fragment::{Part, shift_ticks},
    silence::{self, Silence},
};
use crate::{
    mp4::{
        part::{NOT_SYNC, RunSample, SYNC},
        track_id,
    },
    types::Track,
};

/// How silence is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Within the run of the track.
    Plain,
    /// As separate runs, which take a fifth of the room.
    Compact,
}

/// The samples of a track and their bytes.
pub(super) struct TrackData<'a> {
    track: Track,
    /// Decoding time of the first sample, ticks.
    start: i64,
    /// Data offsets count from the first byte of the track.
    truns: Vec<TrunBox>,
    bytes: Vec<Cow<'a, [u8]>>,
    len: usize,
    compact: bool,
}

impl<'a> TrackData<'a> {
    /// Collects a track of some parts of a segment, `shift` later on the timeline. `silences`: the silence before each part.
    /// None when the parts have no samples of the track.
    pub(super) fn collect(
        segment: &'a [u8],
        parts: &[Part],
        silences: &[Option<(i64, Silence)>],
        (track, shift): (Track, SignedDuration),
        form: Form,
    ) -> Option<TrackData<'a>> {
        let shift = shift_ticks(shift, track);
        let runs = parts.iter().flat_map(|part| &part.read.runs).filter(|run| run.track == track);
        let reordered = runs.flat_map(|run| &run.samples).any(|sample| sample.cts != 0);
        let mut data = TrackData { track, start: 0, truns: Vec::new(), bytes: Vec::new(), len: 0, compact: false };
        // Where the samples so far end.
        let mut end = None;
        for (number, part) in parts.iter().enumerate() {
            if track == Track::Audio
                && let Some(Some((from, silence))) = silences.get(number)
            {
                data.start = end.map_or(*from, |_| data.start);
                end = Some(from + silence.ticks());
                data.fill(*silence, form);
            }
            let mut at = part.payload;
            for run in &part.read.runs {
                let len = run.samples.iter().map(|sample| sample.size as usize).sum::<usize>();
                if run.track == track {
                    let dts = run.dts.checked_add(shift)?;
                    data.start = end.map_or(dts, |_| data.start);
                    data.prolong(end.map_or(0, |end| dts.saturating_sub(end)));
                    end = Some(run.end().saturating_add(shift));
                    data.append(&run.samples, reordered);
                    data.push(Cow::Borrowed(segment.get(at..at + len)?));
                }
                at += len;
            }
        }
        end.map(|_| data)
    }

    /// Adds silence.
    fn fill(&mut self, silence: Silence, form: Form) {
        match form {
            Form::Plain => {
                let samples = silence.samples();
                self.run().samples.extend(samples);
            }
            Form::Compact => {
                self.compact = true;
                self.truns.extend(silence.truns(self.len));
                // The samples behind it are a run again.
                self.truns.push(empty_run(self.len + silence.len()));
            }
        }
        self.push(Cow::Owned(silence.bytes()));
    }

    /// Samples follow each other: time that is missing before the next one prolongs the last one.
    fn prolong(&mut self, late: i64) {
        let last = self.truns.iter_mut().rev().find_map(|trun| trun.samples.last_mut());
        if let (Some(last), Ok(late)) = (last, u32::try_from(late)) {
            last.duration = last.duration.map(|lasts| lasts.saturating_add(late));
        }
    }

    fn append(&mut self, samples: &[RunSample], reordered: bool) {
        let video = self.track == Track::Video;
        let flags = |sync: bool| if sync { SYNC } else { NOT_SYNC };
        let sample = |sample: &RunSample| TrunSample {
            duration: Some(sample.duration),
            size: Some(sample.size),
            flags: video.then(|| flags(sample.sync)),
            composition_time_offset: reordered.then(|| i64::from(sample.cts)),
        };
        self.run().samples.extend(samples.iter().map(sample));
    }

    /// Returns the run that grows.
    fn run(&mut self) -> &mut TrunBox {
        if self.truns.is_empty() {
            self.truns.push(empty_run(self.len));
        }
        let last = self.truns.len() - 1;
        &mut self.truns[last]
    }

    fn push(&mut self, bytes: Cow<'a, [u8]>) {
        self.len += bytes.len();
        self.bytes.push(bytes);
    }

    /// Returns the length of its bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.bytes.iter().for_each(|bytes| out.extend_from_slice(bytes));
    }

    /// Returns its box if its bytes lie at `at`.
    pub(super) fn traf(&self, at: usize) -> Option<TrafBox> {
        let at = i32::try_from(at).ok()?;
        let mut truns: Vec<TrunBox> = self.truns.iter().filter(|trun| !trun.samples.is_empty()).cloned().collect();
        for trun in &mut truns {
            trun.data_offset = Some(trun.data_offset?.checked_add(at)?);
        }
        Some(TrafBox {
            tfhd_box: TfhdBox {
                track_id: track_id(self.track),
                base_data_offset: None,
                sample_description_index: None,
                default_sample_duration: self.compact.then_some(silence::LONG),
                default_sample_size: self.compact.then_some(silence::LONG_PACKET.len() as u32),
                default_sample_flags: (self.track == Track::Audio).then_some(SYNC),
                duration_is_empty: false,
                default_base_is_moof: true,
            },
            // Times of segments are rounded, and a shift may end a tick before 0.
            tfdt_box: Some(TfdtBox { version: 1, base_media_decode_time: u64::try_from(self.start.max(0)).ok()? }),
            trun_boxes: truns,
            unknown_boxes: vec![],
        })
    }
}

fn empty_run(at: usize) -> TrunBox {
    TrunBox { data_offset: i32::try_from(at).ok(), first_sample_flags: None, samples: Vec::new() }
}
