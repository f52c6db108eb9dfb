//! The boxes of ISO/IEC 14496-12 that a recording needs, written and read by shiguredo_mp4.

pub(crate) mod init;
pub(crate) mod part;

use shiguredo_mp4::{
    Either, FixedPointNumber, LanguageCode, Mp4FileTime, SampleFlags,
    boxes::{
        AvccBox, DinfBox, EdtsBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader, MehdBox, MinfBox, MvexBox, MvhdBox,
        SampleEntry, SmhdBox, StblBox, StcoBox, StscBox, StsdBox, StszBox, SttsBox, TkhdBox, TrakBox, TrexBox, VmhdBox,
    },
};

use crate::types::Track;

/// Ours, so that players pass over the boxes that only we read (`uuid` boxes of ISO/IEC 14496-12 §11.1).
const EXTENDED_TYPE: [u8; 16] = *b"media-recording\x01";

/// Movie timescale, ticks a second.
pub(crate) const MOVIE_TIMESCALE: u32 = 1000;

/// `track_ID`s are the same in all files of all recordings.
pub(crate) fn track_id(track: Track) -> u32 {
    match track {
        Track::Video => 1,
        Track::Audio => 2,
    }
}

/// The reverse of [`track_id`].
pub(crate) fn track_of(id: u32) -> Option<Track> {
    match id {
        1 => Some(Track::Video),
        2 => Some(Track::Audio),
        _ => None,
    }
}

/// Ticks a second of the track's media.
pub(crate) fn timescale(track: Track) -> u32 {
    match track {
        Track::Video => 90_000,
        Track::Audio => 48_000,
    }
}

/// Pixels, where the entry is one of video.
pub(crate) fn size(entry: &SampleEntry) -> Option<(u16, u16)> {
    let visual = match entry {
        SampleEntry::Avc1(entry) => &entry.visual,
        SampleEntry::Vp08(entry) => &entry.visual,
        SampleEntry::Vp09(entry) => &entry.visual,
        SampleEntry::Av01(entry) => &entry.visual,
        _ => return None,
    };
    Some((visual.width, visual.height))
}

/// Returns whether both are entries of one codec: with parameter sets in band, a decoder of one goes on with the other.
pub(crate) fn same_codec(a: &SampleEntry, b: &SampleEntry) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Returns whether samples of `next` can follow those of `entry` under one init segment: nothing that players read from
/// it changes. H264 parameter sets are in band.
pub(crate) fn same_format(entry: &SampleEntry, next: &SampleEntry) -> bool {
    match (entry, next) {
        (SampleEntry::Avc1(entry), SampleEntry::Avc1(next)) => {
            let format = |avcc: &AvccBox| {
                (avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication, avcc.chroma_format)
            };
            entry.visual == next.visual && format(&entry.avcc_box) == format(&next.avcc_box)
        }
        _ => entry == next,
    }
}

/// A `uuid` box of ours around JSON.
pub(crate) fn private_box(json: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + EXTENDED_TYPE.len() + json.len()).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], b"uuid", &EXTENDED_TYPE, json].concat()
}

/// The JSON in it, if the payload of this `uuid` box is ours.
pub(crate) fn private_payload(payload: &[u8]) -> Option<&[u8]> {
    payload.strip_prefix(&EXTENDED_TYPE[..])
}

fn nonzero(value: u32) -> std::num::NonZeroU32 {
    std::num::NonZeroU32::new(value).unwrap_or(std::num::NonZeroU32::MIN)
}

pub(crate) fn mvhd(created: Mp4FileTime, duration: u64) -> MvhdBox {
    MvhdBox {
        creation_time: created,
        modification_time: created,
        timescale: nonzero(MOVIE_TIMESCALE),
        duration,
        rate: MvhdBox::DEFAULT_RATE,
        volume: MvhdBox::DEFAULT_VOLUME,
        matrix: MvhdBox::DEFAULT_MATRIX,
        next_track_id: 3,
    }
}

/// Seconds since 1904, as MP4 counts.
pub(crate) fn file_time(at: jiff::Timestamp) -> Mp4FileTime {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    Mp4FileTime::from_unix_time(std::time::Duration::from_secs(seconds))
}

/// A sample table with nothing in it, as fragmented files have it.
pub(crate) fn empty_table(entry: SampleEntry) -> StblBox {
    StblBox {
        stsd_box: StsdBox { entries: vec![entry] },
        stts_box: SttsBox { entries: vec![] },
        ctts_box: None,
        cslg_box: None,
        stsc_box: StscBox { entries: vec![] },
        stsz_box: StszBox::Variable { entry_sizes: vec![] },
        stco_or_co64_box: Either::A(StcoBox { chunk_offsets: vec![] }),
        stss_box: None,
        sdtp_box: None,
        unknown_boxes: vec![],
    }
}

/// Announces fragments. `duration`: that of all of them, in ticks of the movie, where it is known.
pub(crate) fn mvex(tracks: &init::Tracks, duration: Option<u64>) -> MvexBox {
    MvexBox {
        mehd_box: duration.map(|fragment_duration| MehdBox { fragment_duration }),
        trex_boxes: tracks
            .iter()
            .map(|(track, _)| TrexBox {
                track_id: track_id(track),
                default_sample_description_index: 1,
                default_sample_duration: 0,
                default_sample_size: 0,
                default_sample_flags: SampleFlags::empty(),
            })
            .collect(),
        unknown_boxes: vec![],
    }
}

/// `durations`: of the movie's and of the media's timescale.
pub(crate) fn trak(
    track: Track,
    created: Mp4FileTime,
    durations: (u64, u64),
    edits: Option<EdtsBox>,
    table: StblBox,
) -> TrakBox {
    let (width, height) = table.stsd_box.entries.first().and_then(size).unwrap_or((0, 0));
    let fixed = |pixels: u16| FixedPointNumber::new(i16::try_from(pixels).unwrap_or(i16::MAX), 0);
    let (handler_type, name, volume, media_header) = match track {
        Track::Video => (
            HdlrBox::HANDLER_TYPE_VIDE,
            b"video\0".to_vec(),
            TkhdBox::DEFAULT_VIDEO_VOLUME,
            MediaHeader::Vmhd(VmhdBox { graphicsmode: 0, opcolor: VmhdBox::DEFAULT_OPCOLOR }),
        ),
        Track::Audio => (
            HdlrBox::HANDLER_TYPE_SOUN,
            b"audio\0".to_vec(),
            TkhdBox::DEFAULT_AUDIO_VOLUME,
            MediaHeader::Smhd(SmhdBox { balance: SmhdBox::DEFAULT_BALANCE }),
        ),
    };
    TrakBox {
        tkhd_box: TkhdBox {
            flag_track_enabled: true,
            flag_track_in_movie: true,
            flag_track_in_preview: false,
            flag_track_size_is_aspect_ratio: false,
            creation_time: created,
            modification_time: created,
            track_id: track_id(track),
            duration: durations.0,
            layer: TkhdBox::DEFAULT_LAYER,
            alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
            volume,
            matrix: TkhdBox::DEFAULT_MATRIX,
            width: fixed(width),
            height: fixed(height),
        },
        edts_box: edits,
        mdia_box: MdiaBox {
            mdhd_box: MdhdBox {
                creation_time: created,
                modification_time: created,
                timescale: nonzero(timescale(track)),
                duration: durations.1,
                language: LanguageCode::UNDEFINED,
            },
            hdlr_box: HdlrBox { handler_type, name },
            minf_box: MinfBox {
                media_header: Some(media_header),
                dinf_box: DinfBox::LOCAL_FILE,
                stbl_box: table,
                unknown_boxes: vec![],
            },
            unknown_boxes: vec![],
        },
        unknown_boxes: vec![],
    }
}
