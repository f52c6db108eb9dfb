//! Parts: the `moof` and `mdat` of at most a second or one longer sample, after a `uuid` box that says what samples cannot.

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use shiguredo_mp4::{
    BoxHeader, Decode as _, Encode as _, Result, SampleFlags,
    boxes::{MfhdBox, MoofBox, TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample},
};

use crate::{
    manifest::{Gap, hex},
    types::Track,
};

pub(crate) const SYNC: SampleFlags = SampleFlags::new(0x0200_0000);
pub(crate) const NOT_SYNC: SampleFlags = SampleFlags::new(0x0101_0000);

/// A frame on the timeline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) data: Vec<u8>,
    /// Decoding time, ticks of the track.
    pub(crate) dts: i64,
    /// Ticks.
    pub(crate) duration: u32,
    /// Presentation time less decoding time, ticks. Zero but for B-frames.
    pub(crate) cts: i32,
    pub(crate) sync: bool,
}

/// What samples do not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Info {
    /// From 1, over the whole recording.
    pub(crate) sequence: u32,
    /// Number of the init segment.
    pub(crate) init: u32,
    /// Wall clock of the first sample: when its source sent it, or when it arrived if the source's clock is wrong.
    pub(crate) at: Timestamp,
    /// The timeline does not go on from the part before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) discontinuity: bool,
    /// Not told before; they end by the end of this part, or where the next one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gaps: Vec<Gap>,
    /// Of `moof` and `mdat`: the first half of their SHA-256. After a power loss a file may have its length and yet not
    /// its bytes.
    pub(crate) check: String,
}

/// The first bytes of a segment file.
pub(crate) fn styp() -> Vec<u8> {
    [&24u32.to_be_bytes()[..], b"styp", b"msdh", &[0; 4], b"msdh", b"iso6"].concat()
}

/// The bytes of a part; `info.check` is filled in here. No run may be empty.
pub(crate) fn encode(runs: &[(Track, &[Sample])], mut info: Info) -> Result<Vec<u8>> {
    let moof = |offsets: &[i32]| MoofBox {
        mfhd_box: MfhdBox { sequence_number: info.sequence },
        traf_boxes: runs.iter().zip(offsets).map(|(&(track, samples), &offset)| traf(track, samples, offset)).collect(),
        unknown_boxes: vec![],
    };
    let head = moof(&vec![0; runs.len()]).encode_to_vec()?.len() + BoxHeader::MIN_SIZE;
    let mut payload = Vec::new();
    let mut offsets = Vec::new();
    for (_, samples) in runs {
        // A part is bounded by `max_part_bytes` and one frame more, far below 2 GiB.
        offsets.push(i32::try_from(head + payload.len()).unwrap_or(i32::MAX));
        samples.iter().for_each(|sample| payload.extend_from_slice(&sample.data));
    }
    let mut media = moof(&offsets).encode_to_vec()?;
    media.extend_from_slice(&u32::try_from(payload.len() + BoxHeader::MIN_SIZE).unwrap_or(u32::MAX).to_be_bytes());
    media.extend_from_slice(b"mdat");
    media.extend_from_slice(&payload);
    info.check = check(&media);
    let json = serde_json::to_vec(&info).unwrap_or_default();
    Ok([super::private_box(&json), media].concat())
}

fn traf(track: Track, samples: &[Sample], data_offset: i32) -> TrafBox {
    let reordered = samples.iter().any(|sample| sample.cts != 0);
    TrafBox {
        tfhd_box: TfhdBox {
            track_id: super::track_id(track),
            base_data_offset: None,
            sample_description_index: None,
            default_sample_duration: None,
            default_sample_size: None,
            default_sample_flags: (track == Track::Audio).then_some(SYNC),
            duration_is_empty: false,
            default_base_is_moof: true,
        },
        tfdt_box: Some(TfdtBox {
            version: 1,
            base_media_decode_time: samples.first().map_or(0, |sample| u64::try_from(sample.dts).unwrap_or(0)),
        }),
        trun_boxes: vec![TrunBox {
            data_offset: Some(data_offset),
            first_sample_flags: None,
            samples: samples
                .iter()
                .map(|sample| TrunSample {
                    duration: Some(sample.duration),
                    size: Some(u32::try_from(sample.data.len()).unwrap_or(u32::MAX)),
                    flags: (track == Track::Video).then_some(if sample.sync { SYNC } else { NOT_SYNC }),
                    composition_time_offset: reordered.then_some(i64::from(sample.cts)),
                })
                .collect(),
        }],
        unknown_boxes: vec![],
    }
}

fn check(media: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(media);
    hex(&context.finish().as_ref()[..16])
}

/// A part that was read back: where its payload lies in the file, and its samples without their data.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) info: Info,
    pub(crate) runs: Vec<Run>,
    /// From the start of the part's bytes.
    pub(crate) payload_offset: u64,
    pub(crate) payload_len: u64,
    /// Bytes of the whole part.
    pub(crate) len: u64,
}

/// The samples of one track in a part; their data follow each other.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) track: Track,
    pub(crate) dts: i64,
    pub(crate) samples: Vec<RunSample>,
}

impl Run {
    /// Ticks: where its last sample ends.
    pub(crate) fn end(&self) -> i64 {
        self.dts + self.samples.iter().map(|sample| i64::from(sample.duration)).sum::<i64>()
    }
}

/// A sample without its data.
#[derive(Debug)]
pub(crate) struct RunSample {
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) cts: i32,
    pub(crate) sync: bool,
}

/// The part that `bytes` begin with; none when it is not whole, not one of ours, or damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Read> {
    let private = next_box(bytes, b"uuid")?;
    let media = &bytes[private.len()..];
    let moof_bytes = next_box(media, b"moof")?;
    let mdat = next_box(&media[moof_bytes.len()..], b"mdat")?;
    let media = &media[..moof_bytes.len() + mdat.len()];
    let info: Info = serde_json::from_slice(super::private_payload(&private[8..])?).ok()?;
    if info.check != check(media) {
        return None;
    }
    let (moof, _) = MoofBox::decode(moof_bytes).ok()?;
    let runs = moof.traf_boxes.iter().map(run).collect::<Option<Vec<_>>>()?;
    let payload_len = mdat.len() as u64 - 8;
    let told: u64 = runs.iter().flat_map(|run| &run.samples).map(|sample| u64::from(sample.size)).sum();
    (told == payload_len).then_some(Read {
        info,
        runs,
        payload_offset: (private.len() + moof_bytes.len() + 8) as u64,
        payload_len,
        len: (private.len() + media.len()) as u64,
    })
}

fn run(traf: &TrafBox) -> Option<Run> {
    let samples = traf.trun_boxes.iter().flat_map(|trun| &trun.samples).map(|sample| {
        Some(RunSample {
            duration: sample.duration?,
            size: sample.size?,
            cts: i32::try_from(sample.composition_time_offset.unwrap_or(0)).ok()?,
            sync: sample.flags.is_none_or(|flags| !flags.sample_is_non_sync_sample()),
        })
    });
    Some(Run {
        track: super::track_of(traf.tfhd_box.track_id)?,
        dts: i64::try_from(traf.tfdt_box.as_ref()?.base_media_decode_time).ok()?,
        samples: samples.collect::<Option<Vec<_>>>()?,
    })
}

/// The whole box of this type at the start of `bytes`; ours have 32-bit sizes.
fn next_box<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let size = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
    (bytes.get(4..8)? == kind && size >= 8).then(|| bytes.get(..size)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Vec<u8> {
        let sample = |byte, dts, sync| Sample { data: vec![byte; 10], dts, duration: 960, cts: 0, sync };
        let info = Info {
            sequence: 7,
            init: 1,
            at: Timestamp::UNIX_EPOCH,
            discontinuity: true,
            gaps: vec![],
            check: String::new(),
        };
        let video = [sample(1, 5000, true), sample(2, 8000, false)];
        encode(&[(Track::Video, &video), (Track::Audio, &[sample(3, 96, true)])], info).unwrap()
    }

    #[test]
    fn a_part_reads_back() {
        let bytes = part();
        let read = decode(&[&bytes[..], b"more"].concat()).unwrap();
        assert_eq!((read.info.sequence, read.info.discontinuity), (7, true));
        assert_eq!(read.len, bytes.len() as u64);
        assert_eq!(read.payload_len, 30);
        assert_eq!(bytes[read.payload_offset as usize..][..30], [[1; 10], [2; 10], [3; 10]].concat());
        let runs: Vec<_> = read.runs.iter().map(|run| (run.track, run.dts, run.samples.len())).collect();
        assert_eq!(runs, [(Track::Video, 5000, 2), (Track::Audio, 96, 1)]);
        assert!(read.runs[0].samples[0].sync && !read.runs[0].samples[1].sync && read.runs[1].samples[0].sync);
    }

    #[test]
    fn a_torn_or_altered_part_is_not_read() {
        let bytes = part();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 0x20;
            // In the JSON a flipped bit may be a space less or a letter's case; what counts is checked.
            if at >= bytes.len() - 30 {
                assert!(decode(&altered).is_none(), "{at}");
            } else {
                let _ = decode(&altered);
            }
        }
    }
}
