//! `recording.mp4`: all segments as one progressive MP4, its index in front.
//!
//! Samples keep their places on the timeline. Missing audio becomes silence, in file order: players count
//! audio samples, and Chromium drops those with a lower offset than the samples before them. A track that
//! starts later than the other has an empty edit. Where the codec changes, another file begins.

use std::num::NonZeroU32;

use shiguredo_mp4::{
    Either, Encode as _, FixedPointNumber, Result,
    boxes::{
        Brand, Co64Box, CttsBox, CttsEntry, EdtsBox, ElstBox, ElstEntry, FtypBox, MoovBox, SampleEntry, StblBox,
        StscBox, StscEntry, StsdBox, StssBox, StszBox, SttsBox, SttsEntry,
    },
};

use crate::{
    clock::{nanos, seconds},
    depacketize::opus_silence,
    mp4::{self, MOVIE_TIMESCALE, init::Tracks, part::Run, timescale, track_id},
    types::{Description, File, Track},
};

/// Sound that is missing for less than this (ticks of 48 kHz, 20 ms) is left missing.
const SHORTEST_SILENCE: i64 = 960;
/// An `mdat` header with a 64-bit size.
const MDAT_HEADER: u64 = 16;

/// A piece of the payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Bytes of a segment.
    Copy(Copy),
    /// Packets of silence, each of 20 ms.
    Silence(u32),
}

/// Bytes to copy into the export.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Copy {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Samples of one track, as MP4 counts them.
#[derive(Debug)]
struct Table {
    track: Track,
    entry: SampleEntry,
    first: i64,
    /// Decoding time and duration of the newest sample.
    last: Option<(i64, u32)>,
    deltas: Vec<(u32, u32)>,
    offsets: Vec<(u32, i32)>,
    reordered: bool,
    sizes: Vec<u32>,
    sync: Vec<NonZeroU32>,
    /// From the start of the payload, and how many samples.
    chunks: Vec<(u64, u32)>,
}

/// One export in the making.
#[derive(Debug, Default)]
pub(crate) struct Export {
    tables: Vec<Table>,
    /// The payload, in order.
    pub(crate) pieces: Vec<Piece>,
    payload: u64,
}

fn run_length<T: PartialEq>(runs: &mut Vec<(u32, T)>, value: T) {
    match runs.last_mut() {
        Some((count, last)) if *last == value => *count += 1,
        _ => runs.push((1, value)),
    }
}

impl Table {
    fn new(track: Track, entry: SampleEntry, first: i64) -> Self {
        Table {
            track,
            entry,
            first,
            last: None,
            deltas: Vec::new(),
            offsets: Vec::new(),
            reordered: false,
            sizes: Vec::new(),
            sync: Vec::new(),
            chunks: Vec::new(),
        }
    }

    fn push(&mut self, dts: i64, duration: u32, size: u32, cts: i32, sync: bool) {
        if let Some((last, _)) = self.last {
            run_length(&mut self.deltas, u32::try_from(dts - last).unwrap_or(0));
        }
        self.last = Some((dts, duration));
        self.sizes.push(size);
        run_length(&mut self.offsets, cts);
        self.reordered |= cts != 0;
        if sync && let Some(number) = u32::try_from(self.sizes.len()).ok().and_then(NonZeroU32::new) {
            self.sync.push(number);
        }
    }

    /// Adds silence up to `until`, at `offset` of the payload. Returns the number of packets.
    fn fill(&mut self, until: i64, offset: u64) -> u32 {
        let from = self.end();
        let missing = if self.last.is_some() { (until - from).max(0) / SHORTEST_SILENCE } else { 0 };
        let Some(count) = u32::try_from(missing).ok().filter(|count| *count > 0) else { return 0 };
        self.chunks.push((offset, count));
        let (size, lasts) = (silence().len() as u32, SHORTEST_SILENCE as u32);
        (0..missing).for_each(|n| self.push(from + n * SHORTEST_SILENCE, lasts, size, 0, true));
        count
    }

    /// Where it ends, ticks.
    fn end(&self) -> i64 {
        self.last.map_or(self.first, |(dts, duration)| dts + i64::from(duration))
    }

    fn stbl(&self, payload_at: u64) -> StblBox {
        let mut deltas = self.deltas.clone();
        if let Some((_, duration)) = self.last {
            run_length(&mut deltas, duration);
        }
        let one = NonZeroU32::MIN;
        let mut chunk_runs: Vec<StscEntry> = Vec::new();
        for (number, &(_, samples)) in (1..).zip(&self.chunks) {
            if chunk_runs.last().is_none_or(|run| run.sample_per_chunk != samples) {
                let first_chunk = NonZeroU32::new(number).unwrap_or(one);
                chunk_runs.push(StscEntry { first_chunk, sample_per_chunk: samples, sample_description_index: one });
            }
        }
        StblBox {
            stsd_box: StsdBox { entries: vec![self.entry.clone()] },
            stts_box: SttsBox {
                entries: deltas
                    .iter()
                    .map(|&(sample_count, sample_delta)| SttsEntry { sample_count, sample_delta })
                    .collect(),
            },
            ctts_box: self.reordered.then(|| CttsBox {
                version: 1,
                entries: self
                    .offsets
                    .iter()
                    .map(|&(sample_count, offset)| CttsEntry { sample_count, sample_offset: i64::from(offset) })
                    .collect(),
            }),
            cslg_box: None,
            stsc_box: StscBox { entries: chunk_runs },
            stsz_box: StszBox::Variable { entry_sizes: self.sizes.clone() },
            stco_or_co64_box: Either::B(Co64Box {
                chunk_offsets: self.chunks.iter().map(|(offset, _)| payload_at + offset).collect(),
            }),
            stss_box: (self.track == Track::Video).then(|| StssBox { sample_numbers: self.sync.clone() }),
            sdtp_box: None,
            unknown_boxes: vec![],
        }
    }
}

impl Export {
    /// Returns whether segments with these tracks can follow in this file. `in_band`: they repeat parameter sets.
    pub(crate) fn fits(&self, tracks: &Tracks, in_band: bool) -> bool {
        self.tables.iter().all(|table| match tracks.entry(table.track) {
            Some(entry) if in_band => mp4::same_codec(&table.entry, entry),
            Some(entry) => *entry == table.entry,
            None => true,
        })
    }

    /// The samples of a part whose payload is to be copied from `copy`.
    pub(crate) fn add(&mut self, tracks: &Tracks, runs: &[Run], copy: Copy) {
        for run in runs.iter().filter(|run| run.track == Track::Audio) {
            let offset = self.payload;
            let silent = self.table(tracks, run).map_or(0, |table| table.fill(run.dts, offset));
            if silent > 0 {
                self.pieces.push(Piece::Silence(silent));
                self.payload += u64::from(silent) * silence().len() as u64;
            }
        }
        let mut offset = self.payload;
        for run in runs {
            let len: u64 = run.samples.iter().map(|sample| u64::from(sample.size)).sum();
            if let Some(table) = self.table(tracks, run) {
                table.chunks.push((offset, run.samples.len() as u32));
                let mut dts = run.dts;
                for sample in &run.samples {
                    table.push(dts, sample.duration, sample.size, sample.cts, sample.sync);
                    dts += i64::from(sample.duration);
                }
            }
            offset += len;
        }
        self.payload += copy.len;
        match self.pieces.last_mut() {
            Some(Piece::Copy(last)) if last.file == copy.file && last.offset + last.len == copy.offset => {
                last.len += copy.len
            }
            _ => self.pieces.push(Piece::Copy(copy)),
        }
    }

    fn table(&mut self, tracks: &Tracks, run: &Run) -> Option<&mut Table> {
        let at = match self.tables.iter().position(|table| table.track == run.track) {
            Some(at) => at,
            None => {
                self.tables.push(Table::new(run.track, tracks.entry(run.track)?.clone(), run.dts));
                self.tables.sort_by_key(|table| track_id(table.track));
                self.tables.iter().position(|table| table.track == run.track)?
            }
        };
        self.tables.get_mut(at)
    }

    /// Seconds of the timeline: start and end.
    pub(crate) fn extent(&self) -> (f64, f64) {
        let starts = self.tables.iter().map(|table| seconds(table.first, timescale(table.track)));
        let ends = self.tables.iter().map(|table| seconds(table.end(), timescale(table.track)));
        (starts.fold(f64::INFINITY, f64::min).min(1e12), ends.fold(0.0, f64::max))
    }

    /// Returns the bytes of media.
    pub(crate) fn payload(&self) -> u64 {
        self.payload
    }

    /// Everything that stands before the copied bytes.
    pub(crate) fn head(&self, description: &Description) -> Result<Vec<u8>> {
        let ftyp = FtypBox {
            major_brand: Brand::ISOM,
            minor_version: 0x200,
            compatible_brands: vec![Brand::ISOM, Brand::ISO2, Brand::ISO6, Brand::MP41],
        }
        .encode_to_vec()?;
        // All chunk offsets have 64 bits: the index has one size wherever the payload lies.
        let size = self.moov(description, 0)?.encode_to_vec()?.len();
        let payload_at = ftyp.len() as u64 + size as u64 + MDAT_HEADER;
        let moov = self.moov(description, payload_at)?.encode_to_vec()?;
        let mdat = [&1u32.to_be_bytes()[..], b"mdat", &(self.payload + MDAT_HEADER).to_be_bytes()].concat();
        Ok([ftyp, moov, mdat].concat())
    }

    fn moov(&self, description: &Description, payload_at: u64) -> Result<MoovBox> {
        let created = mp4::file_time(description.started_at);
        let start = self.tables.iter().map(|table| nanos(table.first, timescale(table.track))).min().unwrap_or(0);
        let movie = |nanos: i64| u64::try_from(nanos / (1_000_000_000 / i64::from(MOVIE_TIMESCALE))).unwrap_or(0);
        let mut longest = 0;
        let trak_boxes = self
            .tables
            .iter()
            .map(|table| {
                let rate = timescale(table.track);
                let media = u64::try_from(table.end() - table.first).unwrap_or(0);
                let (late, lasts) =
                    (movie(nanos(table.first, rate) - start), movie(nanos(table.end() - table.first, rate)));
                longest = longest.max(late + lasts);
                let edits = (late > 0).then(|| edits(late, lasts));
                mp4::trak(table.track, created, (late + lasts, media), edits, table.stbl(payload_at))
            })
            .collect();
        Ok(MoovBox { mvhd_box: mp4::mvhd(created, longest), trak_boxes, mvex_box: None, unknown_boxes: vec![] })
    }
}

/// Nothing for `late`, then the media; ticks of the movie.
fn edits(late: u64, lasts: u64) -> EdtsBox {
    let entry =
        |edit_duration, media_time| ElstEntry { edit_duration, media_time, media_rate: FixedPointNumber::new(1, 0) };
    EdtsBox { elst_box: Some(ElstBox { entries: vec![entry(late, -1), entry(lasts, 0)] }), unknown_boxes: vec![] }
}

/// Returns a packet of silence of 20 ms.
pub(crate) fn silence() -> &'static [u8] {
    opus_silence(SHORTEST_SILENCE as u64).map_or(&[], |(packet, _)| packet)
}
