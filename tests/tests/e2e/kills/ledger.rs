//! Media that was sent and acknowledged before crashes, and the check that it is recorded after them.
//!
//! A segment is acknowledged once a playlist lists it, or the store holds it. A recording is acknowledged once its state is
//! `complete` or `repaired`; from then on its manifest never changes.

use super::scene::{self, Scene};
use crate::harness::{Server, camera_of, decoded, until};
use crate::store::{Store, check};
use jiff::Timestamp;
use media_client::camera::RunningCamera;
use media_client::source::Source;
use recorder::{File, Manifest, read_segments};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Video frames and audio packets per second of the clip.
const FRAMES: f64 = 30.0;
const PACKETS: f64 = 50.0;
/// Seconds of each track that may be missing: a part, and the frames on their way to it.
const LACK: f64 = 1.0;
/// Between two requests for a playlist.
const LISTEN_EVERY: Duration = Duration::from_millis(100);
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Id of a recording, and name of one of its files.
pub(super) type Named = (String, String);

/// Video frames and audio packets that a camera has sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    video: u64,
    audio: u64,
}

/// A camera in a room, with the segments that the server lists of its stream.
pub(super) struct Feed {
    room: &'static str,
    stream: String,
    camera: RunningCamera,
    ended: bool,
    listed: Arc<Mutex<BTreeSet<Named>>>,
    listener: JoinHandle<()>,
}

impl Feed {
    pub(super) async fn start(server: &Server, room: &'static str, source: Source) -> Feed {
        let since = Timestamp::now() - Duration::from_secs(1);
        let camera = camera_of(server, room, source).await;
        let stream = server.api.stream(room).await.unwrap()["id"].as_str().unwrap().to_owned();
        let to = since + Duration::from_secs(3600);
        let url = server.url(&format!("/rooms/{room}/playlist.m3u8?from={since}&to={to}"));
        let listed = Arc::new(Mutex::new(BTreeSet::new()));
        let listener = tokio::spawn(listen(url, Arc::clone(&listed)));
        Feed { room, stream, camera, ended: false, listed, listener }
    }

    pub(super) fn sent(&self) -> Sent {
        let stats = self.camera.stats();
        Sent { video: stats.video.map_or(0, |track| track.frames), audio: stats.audio.map_or(0, |track| track.frames) }
    }

    /// Id of its stream, and of its first recording.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// Requests the end of the stream, and does not wait for it.
    pub(super) fn end(&mut self, server: &Server) {
        self.ended = true;
        let url = server.url(&format!("/streams/{}/end", self.stream));
        // The server may be killed before it answers.
        tokio::spawn(async move { drop(reqwest::Client::new().post(url).send().await) });
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }
}

/// Collects the segments that a playlist lists, until the server is killed.
async fn listen(url: String, listed: Arc<Mutex<BTreeSet<Named>>>) {
    let client = reqwest::Client::builder().timeout(LIMIT).build().unwrap();
    loop {
        let Ok(answer) = client.get(&url).send().await else { return };
        // Nothing is recorded at first.
        if answer.status() == 200
            && let Ok(text) = answer.text().await
        {
            let uris = text.lines().filter_map(|line| line.strip_prefix("../../recordings/"));
            let named = uris.filter_map(|uri| uri.split_once('/')).map(|(id, name)| (id.to_owned(), name.to_owned()));
            listed.lock().unwrap().extend(named);
        }
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}

/// Streams, segments and recordings of all servers of a test.
#[derive(Default)]
pub(super) struct Ledger {
    /// Streams that are not checked yet: room, id, and the media sent.
    streams: Vec<(&'static str, String, Sent)>,
    acknowledged: BTreeSet<Named>,
    /// Files of unfinished recordings at a crash.
    files: BTreeMap<Named, Vec<u8>>,
    /// Of them, segments that were closed.
    closed: BTreeSet<Named>,
    /// Finished recordings: room, and manifest.
    finished: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// Recordings on the disk at the start of the present server, and whether they were unfinished.
    found: BTreeMap<String, bool>,
    /// Recordings that were unfinished on the disk at a start, and have media.
    due: BTreeSet<String>,
    checked: usize,
    worst: f64,
}

impl Ledger {
    /// Notes the recordings on the disk before a start. The server has to finish them.
    pub(super) fn starts(&mut self, recordings: &Path) {
        let unfinished = |id: &String| !recordings.join(id).join("manifest.json").exists();
        self.found = scene::ids(recordings).into_iter().map(|id| (id.clone(), unfinished(&id))).collect();
        let due = self.found.iter().filter(|(id, unfinished)| **unfinished && has_media(&recordings.join(id)));
        self.due.extend(due.map(|(id, _)| id.clone()));
    }

    /// Returns whether a recording was on the disk when the present server started.
    pub(super) fn found(&self, id: &str) -> bool {
        self.found.contains_key(id)
    }

    /// Returns whether it was unfinished then.
    pub(super) fn was_unfinished(&self, id: &str) -> bool {
        self.found.get(id) == Some(&true)
    }

    /// Notes the media sent and acknowledged before a crash. The disk keeps all writes if `kept`.
    pub(super) fn crashed(&mut self, scene: &Scene, feeds: Vec<Feed>, sent: Vec<Sent>, kept: bool) {
        for (feed, sent) in feeds.into_iter().zip(sent) {
            feed.listener.abort();
            self.acknowledged.append(&mut feed.listed.lock().unwrap());
            self.streams.push((feed.room, feed.stream, sent));
        }
        let new = scene.stored.iter().filter(|(id, _)| !self.finished.contains_key(id));
        self.acknowledged.extend(new.cloned());
        for (id, directory) in scene.recordings.iter().filter(|(_, directory)| directory.is_unfinished()) {
            let last = directory.segments().next_back();
            for (name, content) in &directory.files {
                let named = (id.clone(), name.clone());
                // Between two crashes a torn segment may be cut.
                if self.files.contains_key(&named) {
                    continue;
                }
                if kept && scene::is_segment(name) && Some(name) != last {
                    self.closed.insert(named.clone());
                }
                self.files.insert(named, content.clone());
            }
        }
    }

    /// Checks the streams since the last check.
    pub(super) async fn check(&mut self, server: &Server, store: &Store) {
        let acknowledged = self.acknowledged.iter().map(|(id, _)| id);
        for id in acknowledged.chain(&self.due).collect::<BTreeSet<_>>() {
            until_finished(server, id).await;
        }
        for (room, stream, sent) in std::mem::take(&mut self.streams) {
            let (mut video, mut audio) = (0, 0);
            for id in finished(server, room, &stream).await {
                let Some(id) = id else { continue };
                let mp4 = server.url(&format!("/recordings/{id}/recording.mp4"));
                let mp4 = reqwest::get(mp4).await.unwrap().bytes().await.unwrap();
                let path = store.place().join(format!("{id}.mp4"));
                std::fs::write(&path, mp4).unwrap();
                let decoded = decoded(&path).await;
                std::fs::remove_file(&path).unwrap();
                assert_eq!(decoded.errors, "", "{room}: recording {id}");
                (video, audio) = (video + decoded.video, audio + decoded.audio);
                let manifest = reqwest::get(server.url(&format!("/recordings/{id}/manifest.json"))).await.unwrap();
                assert_eq!(manifest.status(), 200, "{id}");
                self.finished.insert(id, (room, manifest.bytes().await.unwrap().to_vec()));
            }
            for (sent, kept, rate) in [(sent.video, video, FRAMES), (sent.audio, audio, PACKETS)] {
                let lack = (sent as f64 - kept as f64) / rate;
                self.worst = self.worst.max(lack);
                assert!(lack <= LACK, "{room}, stream {stream}: {kept} of {sent}: {lack:.2} s are missing");
            }
        }
        self.check_files();
    }

    /// Compares acknowledged segments, and the content of the disk, with the manifests.
    fn check_files(&mut self) {
        let mut manifests: BTreeMap<&str, Manifest> = BTreeMap::new();
        for (id, _) in self.files.keys().chain(&self.acknowledged) {
            let Some((_, manifest)) = self.finished.get(id) else { continue };
            manifests.entry(id).or_insert_with(|| serde_json::from_slice(manifest).unwrap());
        }
        let segment =
            |(id, name): &Named| manifests.get(id.as_str())?.segments.iter().find(|segment| segment.file == *name);
        for named in &self.acknowledged {
            assert!(segment(named).is_some(), "{named:?} was acknowledged and is lost");
        }
        for (named, content) in &self.files {
            let exact = self.closed.contains(named) || self.acknowledged.contains(named);
            match segment(named) {
                Some(segment) => {
                    let whole = content.get(..segment.bytes as usize).map(crate::store::sha256);
                    assert_eq!(whole.as_ref(), Some(&segment.sha256), "{named:?} has changed");
                    assert!(!exact || segment.bytes == content.len() as u64, "{named:?} was closed and is cut");
                }
                None => assert!(!exact, "{named:?} was closed and is lost"),
            }
        }
        for id in std::mem::take(&mut self.due) {
            assert!(self.finished.contains_key(&id), "{id} was on the disk and is lost");
        }
        self.checked += self.acknowledged.union(&self.closed).count();
        self.acknowledged.clear();
        self.files.clear();
        self.closed.clear();
    }

    /// Checks each file of each finished recording in the store.
    pub(super) async fn check_stored(&self, server: &Server, store: &Store) {
        for (id, (room, manifest)) in &self.finished {
            let checked = check(server, store, room, id).await;
            assert!(checked.gaps.is_empty(), "{room}: {:?}", checked.gaps);
            assert_eq!(
                checked,
                serde_json::from_slice::<Manifest>(manifest).unwrap(),
                "the manifest of {id} has changed"
            );
        }
    }

    /// Returns room and id of each finished recording.
    pub(super) fn recordings(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.finished.iter().map(|(id, (room, _))| (*room, id))
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (recordings, checked, worst) = (self.finished.len(), self.checked, self.worst);
        write!(f, "{recordings} recordings, {checked} acknowledged segments, none lost; missing at most {worst:.2} s")
    }
}

/// Returns whether the directory of a recording holds a complete part.
fn has_media(directory: &Path) -> bool {
    let files: Vec<(File, u64)> = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            Some((entry.file_name().to_str()?.parse().ok()?, entry.metadata().unwrap().len()))
        })
        .collect();
    !read_segments(&files, |name| std::fs::File::open(directory.join(name))).unwrap().is_empty()
}

/// Waits until a recording that has media is finished.
async fn until_finished(server: &Server, id: &str) {
    until(&format!("{id} is finished"), LIMIT, || async {
        let row = server.api.get(&format!("/recordings/{id}")).await;
        let state = (row.status == 200).then(|| row.json()["state"].as_str().unwrap().to_owned());
        state.filter(|state| state == "complete" || state == "repaired")
    })
    .await;
}

/// Waits until all recordings of a stream are finished. Returns their ids; `None` for one that failed.
async fn finished(server: &Server, room: &str, stream: &str) -> Vec<Option<String>> {
    until("the recordings of a stream are finished", LIMIT, || async {
        let answer = server.api.get(&format!("/recordings?room={room}&limit=100")).await.json();
        let all = answer["recordings"].as_array().unwrap();
        let own = all.iter().filter(|recording| recording["stream"] == *stream);
        own.map(|recording| match recording["state"].as_str().unwrap() {
            "complete" | "repaired" => Some(Some(recording["id"].as_str().unwrap().to_owned())),
            "failed" => Some(None),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
    })
    .await
}
