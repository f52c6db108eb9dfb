//! Recordings that a test makes in a folder, by the recorder itself: pictures that nobody could look at, and sound.

#![allow(clippy::unwrap_used)]

#[path = "../../recorder/tests/common/folder.rs"]
#[allow(dead_code, unreachable_pub)]
mod folder;

use folder::{Disk, carry_out};
use jiff::Timestamp;
use recorder::{Codec, Config, Description, Ending, File, Folder, Manifest, Mp4s, Packet, Recording, Tracks, finalize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// What a test's recording is to be like.
pub(crate) struct Make {
    pub(crate) room: &'static str,
    pub(crate) started_at: &'static str,
    pub(crate) seconds: u64,
    /// The picture changes its size half way.
    pub(crate) resized: bool,
    /// It ends without being finished.
    pub(crate) crashed: bool,
    /// It is of the first version, with MP4 files beside the segments.
    pub(crate) older: bool,
}

impl Default for Make {
    fn default() -> Make {
        Make {
            room: "front-door",
            started_at: "2026-05-06T07:08:09Z",
            seconds: 6,
            resized: false,
            crashed: false,
            older: false,
        }
    }
}

/// A recording in a folder of recordings.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Option<Manifest>,
}

impl Make {
    pub(crate) fn within(self, recordings: &Path) -> Made {
        let started_at: Timestamp = self.started_at.parse().unwrap();
        let seed = u128::from(rand::random::<u64>()) << 64 | u128::from(rand::random::<u64>());
        let since = uuid::Timestamp::from_unix_time(started_at.as_second() as u64, 0, 0, 0);
        let id = uuid::Builder::from_unix_timestamp_millis(
            since.to_unix().0 * 1000,
            &seed.to_le_bytes()[..10].try_into().unwrap(),
        );
        let id = id.into_uuid().to_string();
        let folder = recordings.join(&id);
        fs::create_dir_all(&folder).unwrap();
        let description = Description {
            id: id.clone(),
            stream: None,
            room: self.room.into(),
            publisher: "camera".into(),
            started_at,
        };
        let begin = Instant::now();
        let config = Config { segment_duration: Duration::from_secs(2), ..Config::default() };
        let mut recording = Recording::new(begin, config, description, Tracks { audio: true, video: true });
        for frame in 0..self.seconds * 50 {
            let now = begin + Duration::from_millis(20 * frame);
            let sound: [u8; 40] = std::array::from_fn(|n| if n == 0 { 0xfc } else { rand::random() });
            let timestamp = frame as u32 * 960;
            let (index, marker) = (frame, false);
            recording
                .handle_rtp(now, Packet { codec: Codec::Opus, source: 1, index, timestamp, marker, payload: &sound });
            if frame % 2 == 0 {
                let second = self.resized && frame >= self.seconds * 25;
                let picture = picture(frame % 50 == 0, if second { 640 } else { 320 });
                let (source, index) = (if second { 3 } else { 2 }, frame / 2);
                let timestamp = frame as u32 * 1800;
                recording.handle_rtp(
                    now,
                    Packet { codec: Codec::Vp8, source, index, timestamp, marker: true, payload: &picture },
                );
            }
            recording.handle_timeout(now);
            while let Some(output) = recording.poll_output() {
                carry_out(&folder, &output);
            }
        }
        if self.crashed {
            return Made { id, folder, manifest: None };
        }
        recording.finish(begin + Duration::from_secs(self.seconds));
        while let Some(output) = recording.poll_output() {
            carry_out(&folder, &output);
        }
        let mut manifest = finalize(&mut Disk(folder.clone()), &Ending::orderly(), &[]).unwrap();
        if self.older {
            make_older(&folder, &mut manifest);
        }
        Made { id, folder, manifest: Some(manifest) }
    }
}

/// Makes a recording one of the first version, which had its MP4 files beside the segments.
fn make_older(folder: &Path, manifest: &mut Manifest) {
    manifest.version = 1;
    let open = |name: &str| fs::File::open(folder.join(name));
    let mp4s = Mp4s::read(manifest, open).unwrap();
    for number in 1..=mp4s.count() as u32 {
        let mut file = fs::File::create(folder.join(File::Export(number).to_string())).unwrap();
        manifest.exports.push(mp4s.write(number, open, &mut file).unwrap());
    }
    fs::write(folder.join("manifest.json"), serde_json::to_vec_pretty(manifest).unwrap()).unwrap();
}

impl Made {
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.manifest.as_ref().expect("it is finished")
    }

    /// Flips a bit in the middle of a file.
    pub(crate) fn flip(&self, file: &str) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(self.path(file), bytes).unwrap();
    }

    /// Nothing of it has changed for so long.
    pub(crate) fn age(&self, age: Duration) {
        for (name, _) in Disk(self.folder.clone()).list().unwrap() {
            let file = fs::OpenOptions::new().write(true).open(self.path(&name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    /// Bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        Disk(self.folder.clone()).list().unwrap().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// A frame of VP8 as far as its header (RFC 6386 §9.1), after the payload descriptor.
fn picture(key: bool, width: u16) -> Vec<u8> {
    let mut frame = vec![0x10, if key { 0x10 } else { 0x11 }, 0, 0];
    if key {
        frame.extend([0x9d, 0x01, 0x2a]);
        frame.extend(width.to_le_bytes());
        frame.extend(240u16.to_le_bytes());
    }
    frame.extend(std::iter::repeat_with(rand::random::<u8>).take(500));
    frame
}
