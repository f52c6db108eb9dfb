//! Targets in `recorder`: a recording fed with any packets, for each codec, and the repair of any folder.

use recorder::{
    Codec, Config, Description, Ending, FinalizeError, Folder, GapReason, Output, Packet, Recording, Track, Tracks,
    finalize,
};
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// H264.
pub fn h264(data: &[u8]) {
    record(Codec::H264, data);
}

/// VP8.
pub fn vp8(data: &[u8]) {
    record(Codec::Vp8, data);
}

/// VP9.
pub fn vp9(data: &[u8]) {
    record(Codec::Vp9, data);
}

/// AV1.
pub fn av1(data: &[u8]) {
    record(Codec::Av1, data);
}

/// Opus.
pub fn opus(data: &[u8]) {
    record(Codec::Opus, data);
}

/// For all codecs: one packet each that begins a keyframe, as `[what, length, bytes…]`.
pub fn codec_seeds() -> Vec<Vec<u8>> {
    [
        &[
            0x78, 0, 8, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0, 4, 0x68, 0xce, 0x3c, 0x80, 0, 3, 0x65, 0x88,
            0x80,
        ][..],
        &[0x7c, 0x85, 0x88, 0x80, 0x10][..],
        &[0x06, 5, 3, 1, 2, 3, 6, 2, 0x0c, 0xc0, 0x80][..],
        &[0x10, 0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0, 0, 1][..],
        &[0x8c, 0x81, 0x82, 0x49, 0x83, 0x42, 0, 0x13, 0xf0, 0x0e, 0xf6, 0][..],
        &[0x18, 0x0a, 0x0a, 0, 0, 0, 0x2d, 0x4c, 0xff, 0xb3, 0xc0, 0x80, 0x32, 0x02, 0x10, 0][..],
        &[0xfc, 0xff, 0xfe][..],
    ]
    .map(|payload| {
        let mut bytes = Vec::new();
        for what in [0x01, 0x05, 0x03] {
            bytes.extend([what, payload.len() as u8]);
            bytes.extend(payload);
        }
        bytes
    })
    .to_vec()
}

/// A row of `[what, length, bytes…]`: bit 0 of `what` is the marker, bit 1 loses a packet before this one, bit 2 begins
/// a new frame, bit 3 another source, bit 4 says that packets were dropped, bit 5 lets a second go by.
fn record(codec: Codec, data: &[u8]) {
    let start = Instant::now();
    let mut now = start;
    let expected = Tracks { audio: codec == Codec::Opus, video: codec != Codec::Opus };
    let config = Config { max_frame_bytes: 1 << 16, ..Config::default() };
    let mut recording = Recording::new(now, config, description(), expected);
    let mut folder = Memory::default();
    let (mut source, mut index, mut timestamp) = (1, 0, 0xffff_f000_u32);
    let mut rest = data;
    while let [what, length, others @ ..] = rest {
        let (payload, after) = others.split_at(usize::from(*length).min(others.len()));
        rest = after;
        source += u64::from(what >> 3 & 1);
        index += 1 + u64::from(what >> 1 & 1);
        if what & 4 != 0 {
            timestamp = timestamp.wrapping_add(3000);
        }
        if what & 16 != 0 {
            recording.handle_dropped(now, codec.track(), GapReason::Disk);
        }
        now += if what & 32 != 0 { Duration::from_secs(1) } else { Duration::from_millis(10) };
        recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker: what & 1 != 0, payload });
        recording.handle_timeout(now);
        folder.carry_out(&mut recording);
    }
    recording.finish(now);
    folder.carry_out(&mut recording);
    match finalize(&mut folder, &Ending::orderly(), &[]) {
        Ok(_) | Err(FinalizeError::Empty) => {}
        Err(error) => panic!("what was recorded cannot be finalised: {error}"),
    }
}

/// A recording's folder, damaged: `[file, where, where, what]` each time. It is finalised, or refused by an error, and
/// finalised is final.
pub fn repair(data: &[u8]) {
    let mut folder = Memory { files: recorded().clone(), outputs: 0 };
    let names: Vec<String> = folder.files.keys().cloned().collect();
    for damage in data.chunks_exact(4) {
        let Some(bytes) = folder.files.get_mut(&names[usize::from(damage[0]) % names.len()]) else { continue };
        let at = usize::from(u16::from_be_bytes([damage[1], damage[2]])) % bytes.len().max(1);
        match damage[3] {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            value if !bytes.is_empty() => bytes[at] = value,
            value => bytes.push(value),
        }
    }
    if let Ok(manifest) = finalize(&mut folder, &Ending::crash(), &[]) {
        let again = finalize(&mut folder, &Ending::crash(), &[]).expect("what is final stays so");
        assert_eq!(manifest.segments.len(), again.segments.len());
    }
}

/// For [`repair`].
pub fn repair_seeds() -> Vec<Vec<u8>> {
    vec![vec![], vec![1, 1, 0, 0], vec![2, 0, 90, 0], vec![0, 0, 40, 9], vec![1, 0, 30, 1, 2, 2, 0, 0]]
}

/// Four seconds of sound in two segments, not finalised.
fn recorded() -> &'static BTreeMap<String, Vec<u8>> {
    static RECORDED: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let start = Instant::now();
        let config = Config { segment_duration: Duration::from_secs(1), ..Config::default() };
        let mut recording = Recording::new(start, config, description(), Tracks { audio: true, video: false });
        let mut folder = Memory::default();
        for n in 0..200 {
            let now = start + Duration::from_millis(20) * n;
            let payload = [0xfc, 0xff, 0xfe, n as u8];
            let timestamp = n * 960;
            let packet =
                Packet { codec: Codec::Opus, source: 1, index: n.into(), timestamp, marker: false, payload: &payload };
            if n == 0 {
                recording.handle_sender_report(now, Track::Audio, 1, 1 << 32, 0);
            }
            recording.handle_rtp(now, packet);
            recording.handle_timeout(now);
        }
        recording.finish(start + Duration::from_secs(4));
        folder.carry_out(&mut recording);
        assert!(folder.files.len() > 3, "init, segments, playlist: {:?}", folder.files.keys());
        folder.files
    })
}

fn description() -> Description {
    Description {
        id: "fuzz".into(),
        stream: None,
        room: "room".into(),
        publisher: "camera".into(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// A folder that is only a map.
#[derive(Default)]
struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    outputs: usize,
}

impl Memory {
    fn carry_out(&mut self, recording: &mut Recording) {
        while let Some(output) = recording.poll_output() {
            self.outputs += 1;
            match output {
                Output::Create { file } => {
                    assert!(self.files.insert(file.to_string(), Vec::new()).is_none(), "{file} is created once");
                }
                Output::Append { file, bytes } => {
                    self.files.get_mut(&file.to_string()).expect("appended to what was created").extend(bytes);
                }
                Output::Replace { file, bytes } => {
                    self.files.insert(file.to_string(), bytes);
                }
                Output::Close { file, record } => assert_eq!(self.files[&file.to_string()].len() as u64, record.bytes),
                Output::Sync { .. } | Output::RequestKeyframe | Output::Continue { .. } | Output::Finished => {}
            }
        }
    }
}

impl Folder for Memory {
    type Reader = Cursor<Vec<u8>>;
    type Writer = Vec<u8>;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<Cursor<Vec<u8>>> {
        self.files.get(name).cloned().map(Cursor::new).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.files.entry(name.to_owned()).and_modify(|bytes| bytes.truncate(len as usize));
        Ok(())
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, _: &str) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, name: &str, file: Vec<u8>) -> io::Result<()> {
        self.files.insert(name.to_owned(), file);
        Ok(())
    }
}
