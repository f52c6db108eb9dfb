//! Init segments: `ftyp`, `moov` without samples, and who is recorded, in a `uuid` box of ours.

use shiguredo_mp4::{
    BoxHeader, Decode as _, Encode as _, Result,
    boxes::{Brand, FtypBox, MoovBox, SampleEntry},
    codec_string,
};

use crate::types::{Description, Track};

/// The tracks of a recording and how they are coded, until something changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tracks {
    pub(crate) video: Option<SampleEntry>,
    pub(crate) audio: Option<SampleEntry>,
}

impl Tracks {
    pub(crate) fn entry(&self, track: Track) -> Option<&SampleEntry> {
        match track {
            Track::Video => self.video.as_ref(),
            Track::Audio => self.audio.as_ref(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Track, &SampleEntry)> {
        [Track::Video, Track::Audio].into_iter().filter_map(|track| Some((track, self.entry(track)?)))
    }

    /// RFC 6381 names.
    pub(crate) fn codecs(&self) -> Vec<String> {
        self.iter().filter_map(|(_, entry)| codec_string::from_sample_entry(entry).ok()).collect()
    }

    /// The track that segments are timed by.
    pub(crate) fn main(&self) -> Track {
        if self.video.is_some() { Track::Video } else { Track::Audio }
    }
}

/// The bytes of an init segment.
pub(crate) fn encode(tracks: &Tracks, description: &Description) -> Result<Vec<u8>> {
    let mut brands = vec![Brand::ISO6, Brand::ISO5, Brand::MP41];
    match tracks.video {
        Some(SampleEntry::Avc1(_)) => brands.push(Brand::AVC1),
        Some(SampleEntry::Av01(_)) => brands.push(Brand::AV01),
        _ => {}
    }
    let created = super::file_time(description.started_at);
    let moov = MoovBox {
        mvhd_box: super::mvhd(created, 0),
        trak_boxes: tracks
            .iter()
            .map(|(track, entry)| super::trak(track, created, (0, 0), None, super::empty_table(entry.clone())))
            .collect(),
        mvex_box: Some(super::mvex(tracks, None)),
        unknown_boxes: vec![],
    };
    let ftyp = FtypBox { major_brand: Brand::ISO6, minor_version: 0, compatible_brands: brands };
    let json = serde_json::to_vec(description).unwrap_or_default();
    Ok([ftyp.encode_to_vec()?, moov.encode_to_vec()?, super::private_box(&json)].concat())
}

/// Tracks and description of an init segment that [`encode`] made; none when it is not whole.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<(Tracks, Description)> {
    let (mut tracks, mut description) = (None, None);
    while !bytes.is_empty() {
        let (header, _) = BoxHeader::decode(bytes).ok()?;
        let size = usize::try_from(header.box_size.get()).ok().filter(|size| *size >= BoxHeader::MIN_SIZE)?;
        let whole = bytes.get(..size)?;
        match header.box_type.as_bytes() {
            b"moov" => {
                let (moov, _) = MoovBox::decode(whole).ok()?;
                let mut found = Tracks::default();
                for trak in moov.trak_boxes {
                    let entry = trak.mdia_box.minf_box.stbl_box.stsd_box.entries.into_iter().next();
                    match super::track_of(trak.tkhd_box.track_id)? {
                        Track::Video => found.video = entry,
                        Track::Audio => found.audio = entry,
                    }
                }
                tracks = Some(found);
            }
            b"ftyp" => {}
            // The extended type follows size and type.
            _ => {
                description =
                    whole.get(8..).and_then(super::private_payload).and_then(|json| serde_json::from_slice(json).ok())
            }
        }
        bytes = &bytes[size..];
    }
    Some((tracks?, description?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            id: "id".into(),
            stream: None,
            room: "room".into(),
            publisher: "camera \"1\"".into(),
            started_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_init_segment_reads_back() {
        let tracks = Tracks { video: None, audio: Some(crate::depacketize::opus_entry()) };
        let bytes = encode(&tracks, &description()).unwrap();
        assert_eq!(decode(&bytes), Some((tracks.clone(), description())));
        assert_eq!(tracks.codecs(), ["Opus"]);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len}");
        }
    }
}
