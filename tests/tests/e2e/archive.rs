//! Long recordings: any moment of a day, or a week, comes at once, and costs the server no memory.

use crate::harness::{Server, Setup, alone, figure, until};
use crate::store::{Kind, Store, until_gone};
use jiff::Timestamp;
use recorder::{Codec, Config, Description, Ending, Folder, Manifest, Output, Packet, Recording, Tracks, finalize};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use streamsession_tests::nightly::choose;

/// Requests that are measured.
const REQUESTS: u64 = 200;
/// Bytes of each range.
const RANGE: u64 = 64 << 10;
const FIRST_BYTE: Duration = Duration::from_millis(100);
const CLIP: Duration = Duration::from_secs(1);
const MEMORY: u64 = 32 << 20;

/// A directory on the disk, without syncs.
struct Disk(PathBuf);

impl Folder for Disk {
    type Reader = fs::File;
    type Writer = fs::File;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        fs::read_dir(&self.0)?
            .map(|entry| {
                entry.and_then(|entry| Ok((entry.file_name().into_string().unwrap(), entry.metadata()?.len())))
            })
            .collect()
    }

    fn open(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::open(self.0.join(name))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(self.0.join(name))?.set_len(len)
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn create(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::create(self.0.join(name))
    }

    fn commit(&mut self, _: &str, _: fs::File) -> io::Result<()> {
        Ok(())
    }
}

/// Records a picture each second, a keyframe each 10 s, of a camera that sent for `seconds` up to now.
fn record(recordings: &Path, seconds: u64, frame_bytes: usize) -> Manifest {
    let started_at = Timestamp::now() - Duration::from_secs(seconds);
    let id = format!("{:012x}7000800000000000{:04x}", started_at.as_millisecond(), rand::random::<u16>());
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]);
    let folder = recordings.join(&id);
    fs::create_dir_all(&folder).unwrap();
    let description = Description { id, stream: None, room: "yard".into(), publisher: "camera".into(), started_at };
    let begin = Instant::now();
    let mut recording = Recording::new(begin, Config::default(), description, Tracks { audio: false, video: true });
    let mut known = Vec::new();
    let mut carry_out = |recording: &mut Recording| {
        while let Some(output) = recording.poll_output() {
            match output {
                Output::Append { file, bytes } => {
                    let path = folder.join(file.to_string());
                    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&bytes).unwrap();
                }
                Output::Create { file } => drop(fs::File::create(folder.join(file.to_string())).unwrap()),
                Output::Replace { file, bytes } => fs::write(folder.join(file.to_string()), bytes).unwrap(),
                Output::Close { record, .. } => {
                    known.push(recorder::KnownSegment { record: *record, elsewhere: false });
                }
                Output::Sync { .. } | Output::RequestKeyframe | Output::Continue { .. } | Output::Finished => {}
            }
        }
    };
    let mut picture = vec![7; frame_bytes];
    for second in 0..seconds {
        let (now, key) = (begin + Duration::from_secs(second), second % 10 == 0);
        // The header of a frame of VP8 (RFC 6386 §9.1) behind the payload descriptor.
        let head = [0x10, if key { 0x10 } else { 0x11 }, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];
        picture[..head.len()].copy_from_slice(&head);
        let (index, timestamp) = (second, (second * 90_000) as u32);
        recording.handle_rtp(
            now,
            Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker: true, payload: &picture },
        );
        recording.handle_timeout(now);
        carry_out(&mut recording);
    }
    recording.finish(begin + Duration::from_secs(seconds));
    carry_out(&mut recording);
    finalize(&mut Disk(folder), &Ending::orderly(), &known).unwrap()
}

/// Returns the 95th percentile.
fn p95(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 95 / 100]
}

/// Plays moments of a recording, and returns what the server's memory grew by.
async fn play(server: &Server, manifest: &Manifest, what: &str) {
    let id = &manifest.description.id;
    let url = format!("/recordings/{id}/recording.mp4");
    until("it is listed", Duration::from_secs(60), || async {
        (server.api.get(&format!("/recordings/{id}")).await.json()["state"] == "complete").then_some(())
    })
    .await;
    let client = reqwest::Client::new();
    let head = client.head(server.url(&url)).send().await.unwrap();
    let length: u64 = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let segments: u64 = manifest.segments.iter().map(|segment| segment.bytes).sum();
    assert!(length > segments && length < segments + 64 * manifest.segments.len() as u64 + 8192, "{length}");
    let before = server.memory();
    let mut times = Vec::new();
    for n in 0..REQUESTS {
        let from = (length - RANGE) / REQUESTS * ((n * 7919) % REQUESTS);
        let started = Instant::now();
        let range = format!("bytes={from}-{}", from + RANGE - 1);
        let mut part = client.get(server.url(&url)).header("range", range).send().await.unwrap();
        assert_eq!(part.status(), 206);
        let first = part.chunk().await.unwrap().unwrap();
        times.push(started.elapsed());
        assert!(!first.is_empty());
    }
    let ranges = p95(times);
    let mut times = Vec::new();
    for n in 0..20 {
        let at = manifest.description.started_at + Duration::from_secs_f64(manifest.duration * f64::from(n) / 20.0);
        let started = Instant::now();
        let clip = format!("/rooms/yard/clip.mp4?from={at}&to={}", at + Duration::from_secs(60));
        let clip = client.get(server.url(&clip)).send().await.unwrap();
        assert_eq!(clip.status(), 200, "{}", clip.text().await.unwrap());
        assert!(clip.bytes().await.unwrap().len() > 1000);
        times.push(started.elapsed());
    }
    let clips = times.into_iter().max().unwrap();
    let grown = server.memory().saturating_sub(before);
    figure(&format!(
        "{what}, {} segments: first byte p95 {ranges:?}, a clip of a minute at most {clips:?}, memory +{} kB",
        manifest.segments.len(),
        grown / 1024
    ));
    assert!(ranges <= FIRST_BYTE && clips <= CLIP && grown <= MEMORY);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_moment_of_a_long_recording_comes_at_once() {
    let _turn = alone().await;
    let setup = Setup::new();
    let hour = 3600;
    let days = choose(vec![(hour, 2500)], vec![(24 * hour, 25_000), (7 * 24 * hour, 2500)]);
    let all: Vec<_> = days.into_iter().map(|(seconds, bytes)| record(&setup.recordings(), seconds, bytes)).collect();
    let server = setup.start().await;
    for manifest in &all {
        play(&server, manifest, "on disk").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_moment_of_a_stored_recording_comes_at_once() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let setup = store.setup();
    let manifest = record(&setup.recordings(), choose(1200, 24 * 3600), 2500);
    let server = setup.start().await;
    let folder = setup.recordings().join(&manifest.description.id);
    until("all is uploaded", Duration::from_secs(choose(60, 1800)), || async { (!folder.exists()).then_some(()) })
        .await;
    until_gone(&folder).await;
    play(&server, &manifest, "in MinIO").await;
}
