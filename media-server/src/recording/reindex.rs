//! Rebuilds the registry's recordings from the disk and the object store, which has everything after a lost disk.
//!
//! A recording with a manifest is listed as the manifest says. One without was being recorded: its segments are read from
//! the object store once, its init segments are put back on the disk, and it is finished from there like after a crash.
//! Recordings that the registry knows are left alone, so that this can be interrupted and repeated.

use crate::control::{RecordingId, RoomName, StreamId};
use crate::objects::{Digest, Listed, Objects, ObjectsError, RemoteReader};
use crate::store::{
    FinishedIndex, NewRecording, NewUpload, RecordingOutcome, RecordingState, Store, StoreError, key_prefix,
};
use recorder::{Description, File, Manifest, SegmentRecord};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;

/// A manifest has at most so many bytes.
const MAX_MANIFEST: usize = 64 << 20;
/// An init segment has at most so many bytes.
const MAX_INIT: usize = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reindexed {
    /// Finished recordings that were added to the registry.
    pub(crate) added: u64,
    /// Recordings without a manifest, which a server finishes.
    pub(crate) unfinished: Vec<RecordingId>,
    /// Recordings that the registry knew.
    pub(crate) known: u64,
    /// Recordings that cannot be read, and why.
    pub(crate) unreadable: Vec<(RecordingId, String)>,
}

/// Why the registry cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReindexError {
    /// The object store.
    #[error("the object store cannot be read: {0}")]
    Objects(#[from] ObjectsError),
    /// The registry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The objects of a recording.
#[derive(Debug, Default)]
struct Group {
    files: BTreeMap<File, u64>,
}

/// What is rebuilt from what.
pub(crate) struct Reindex<'a> {
    pub(crate) store: &'a Store,
    pub(crate) objects: Option<&'a Objects>,
    pub(crate) directory: &'a Path,
}

impl Reindex<'_> {
    /// Adds what the registry lacks.
    pub(crate) async fn run(&self) -> Result<Reindexed, ReindexError> {
        let mut found = Reindexed::default();
        self.local(&mut found).await?;
        let Some(objects) = self.objects else { return Ok(found) };
        let (mut group, mut from) = (None::<(RoomName, RecordingId, Group)>, None);
        loop {
            let page = objects.list("", from.as_deref()).await?;
            // Keys are in order: the objects of a recording follow each other.
            for Listed { key, len, .. } in page.objects {
                let Some((room, id, file)) = parse(&key) else { continue };
                if group.as_ref().is_some_and(|(.., current, _)| *current != id)
                    && let Some((room, id, group)) = group.take()
                {
                    self.stored(objects, &room, &id, group, &mut found).await?;
                }
                let (.., group) = group.get_or_insert_with(|| (room, id, Group::default()));
                group.files.insert(file, len);
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        if let Some((room, id, group)) = group {
            self.stored(objects, &room, &id, group, &mut found).await?;
        }
        Ok(found)
    }

    /// Adds finished recordings of the disk.
    async fn local(&self, found: &mut Reindexed) -> Result<(), ReindexError> {
        let failed = |path: &Path, source| ReindexError::Disk { path: path.to_owned(), source };
        let mut entries = match tokio::fs::read_dir(self.directory).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(self.directory, error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(|error| failed(self.directory, error))? {
            let Some(id) = entry.file_name().to_str().and_then(RecordingId::parse) else { continue };
            let Ok(text) = tokio::fs::read(entry.path().join(File::Manifest.to_string())).await else { continue };
            match serde_json::from_slice::<Manifest>(&text) {
                _ if self.store.recording(&id).await?.is_some() => found.known += 1,
                Ok(manifest) => found.added += u64::from(self.add(&id, &manifest).await?),
                Err(error) => found.unreadable.push((id, format!("its manifest cannot be read: {error}"))),
            }
        }
        Ok(())
    }

    async fn stored(
        &self,
        objects: &Objects,
        room: &RoomName,
        id: &RecordingId,
        group: Group,
        found: &mut Reindexed,
    ) -> Result<(), ReindexError> {
        // One that is being recorded or finished is known as well. One that is on the disk is uploaded or verified from there.
        if self.store.recording(id).await?.is_some() {
            found.known += 1;
            return Ok(());
        }
        if self.directory.join(id.as_str()).join(File::Manifest.to_string()).is_file() {
            return Ok(());
        }
        let prefix = key_prefix(room, id);
        let added = match group.files.get(&File::Manifest) {
            Some(_) => self.stored_whole(objects, room, id, &prefix, &group).await,
            None => self.stored_in_part(objects, room, id, &prefix, &group).await,
        };
        match added {
            Ok(true) if group.files.contains_key(&File::Manifest) => found.added += 1,
            Ok(true) => found.unfinished.push(id.clone()),
            Ok(false) => {}
            Err(Unreadable::Stop(error)) => return Err(error),
            Err(Unreadable::Recording(reason)) => found.unreadable.push((id.clone(), reason)),
        }
        Ok(())
    }

    /// Adds a recording that the object store has as a whole.
    async fn stored_whole(
        &self,
        objects: &Objects,
        room: &RoomName,
        id: &RecordingId,
        prefix: &str,
        group: &Group,
    ) -> Result<bool, Unreadable> {
        let text = get(objects, &format!("{prefix}{}", File::Manifest), MAX_MANIFEST).await?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| Unreadable::Recording(format!("its manifest cannot be read: {error}")))?;
        if manifest.description.id != id.as_str() || manifest.description.room != room.as_str() {
            return Err(Unreadable::Recording("its manifest is that of another recording".to_owned()));
        }
        let inits = manifest.inits.iter().map(|init| (&init.file, init.bytes, &init.sha256));
        let segments = manifest.segments.iter().map(|segment| (&segment.file, segment.bytes, &segment.sha256));
        let playlist = std::iter::once((&manifest.playlist.file, manifest.playlist.bytes, &manifest.playlist.sha256));
        let listed = inits.chain(segments).chain(playlist).filter_map(|(name, bytes, sha256)| {
            let file: File = name.parse().ok()?;
            Some(NewUpload { file, bytes, sha256: Digest::from_hex(sha256)? })
        });
        let mut files: Vec<NewUpload> = listed.filter(|new| group.files.get(&new.file) == Some(&new.bytes)).collect();
        files.push(NewUpload { file: File::Manifest, bytes: text.len() as u64, sha256: Digest::of(&text) });
        let added = self.add(id, &manifest).await?;
        self.store.adopt_stored(id, room, &files, Some(&manifest.gaps)).await?;
        Ok(added)
    }

    /// Adds a recording of which the object store has segments, so that it is finished like after a crash.
    async fn stored_in_part(
        &self,
        objects: &Objects,
        room: &RoomName,
        id: &RecordingId,
        prefix: &str,
        group: &Group,
    ) -> Result<bool, Unreadable> {
        let (mut files, mut description) = (Vec::new(), None::<Description>);
        let folder = self.directory.join(id.as_str());
        for file in group.files.keys().filter(|file| matches!(file, File::Init(_))) {
            let bytes = get(objects, &format!("{prefix}{file}"), MAX_INIT).await?;
            description = description.or_else(|| recorder::describe(&bytes));
            files.push(NewUpload { file: *file, bytes: bytes.len() as u64, sha256: Digest::of(&bytes) });
            put_back(&folder, *file, &bytes).map_err(|source| {
                Unreadable::Stop(ReindexError::Disk { path: folder.join(file.to_string()), source })
            })?;
        }
        let described =
            description.filter(|description| description.id == id.as_str() && description.room == room.as_str());
        let Some(description) = described else {
            return Err(Unreadable::Recording("it has no init segment that names it".to_owned()));
        };
        let records = self.read_segments(objects, prefix, group).await?;
        if records.is_empty() {
            return Err(Unreadable::Recording("it has no whole segment".to_owned()));
        }
        for record in records {
            let Some(sha256) = Digest::from_hex(&record.sha256) else { continue };
            let (file, bytes) = (File::Segment(record.number), record.bytes);
            // A torn object is uploaded again from the disk, if it is there.
            if group.files.get(&file) != Some(&bytes) {
                continue;
            }
            files.push(NewUpload { file, bytes, sha256 });
            let number = record.number;
            self.store.segments_closed(&[(id.clone(), record)]).await?;
            if !folder.join(file.to_string()).is_file() {
                self.store.segment_evicted(id, number).await?;
            }
        }
        self.store.adopt_stored(id, room, &files, None).await?;
        // Last: a recording that is known is not looked at again.
        self.store.recording_started(&new_recording(id, room, &description)).await?;
        Ok(true)
    }

    async fn read_segments(
        &self,
        objects: &Objects,
        prefix: &str,
        group: &Group,
    ) -> Result<Vec<SegmentRecord>, Unreadable> {
        let files: Vec<(File, u64)> = group.files.iter().map(|(file, len)| (*file, *len)).collect();
        let lengths = group.files.clone();
        let (objects, prefix, runtime) = (objects.clone(), prefix.to_owned(), Handle::current());
        let read = tokio::task::spawn_blocking(move || {
            recorder::read_segments(&files, |name| {
                let len = name.parse().ok().and_then(|file: File| lengths.get(&file)).copied().unwrap_or(0);
                Ok(RemoteReader::new(&objects, &runtime, format!("{prefix}{name}"), len))
            })
        });
        let read = read.await.map_err(|_| Unreadable::Recording("the recorder failed on its segments".to_owned()))?;
        read.map_err(|error| Unreadable::Recording(error.to_string()))
    }

    /// Adds a finished recording. Returns `false` when its manifest names no room or stream.
    async fn add(&self, id: &RecordingId, manifest: &Manifest) -> Result<bool, StoreError> {
        let Ok(room) = RoomName::parse(&manifest.description.room) else { return Ok(false) };
        self.store.recording_started(&new_recording(id, &room, &manifest.description)).await?;
        self.store.recording_finished(id, &outcome(manifest)).await
    }
}

/// Returns the outcome that a manifest describes.
pub(super) fn outcome(manifest: &Manifest) -> RecordingOutcome {
    RecordingOutcome {
        state: if manifest.repaired { RecordingState::Repaired } else { RecordingState::Complete },
        bytes: manifest.segments.iter().map(|segment| segment.bytes).sum(),
        duration: Duration::try_from_secs_f64(manifest.duration).unwrap_or_default(),
        gaps: manifest.gaps.len() as u64,
        ended_at: manifest.ended_at,
        index: Some(FinishedIndex::of(manifest)),
    }
}

/// Returns the registry's row of a recording that is described so.
pub(super) fn new_recording(id: &RecordingId, room: &RoomName, description: &Description) -> NewRecording {
    let stream = description.stream.as_deref().and_then(StreamId::parse);
    // The older form: one recording per stream, with its id.
    let stream = stream.or_else(|| StreamId::parse(id.as_str())).unwrap_or_else(StreamId::random);
    let (id, room, path) = (id.clone(), room.clone(), id.to_string());
    NewRecording { id, stream, room, path, started_at: description.started_at }
}

/// Why a recording is not added: it alone cannot be read, or nothing can.
enum Unreadable {
    Recording(String),
    Stop(ReindexError),
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Unreadable {
        Unreadable::Stop(error.into())
    }
}

async fn get(objects: &Objects, key: &str, most: usize) -> Result<Vec<u8>, Unreadable> {
    let content = objects.get(key, None).await.map_err(|error| Unreadable::Stop(error.into()))?;
    let bytes = content.collect(most).await;
    bytes.map(Vec::from).map_err(|error| Unreadable::Recording(format!("{key} cannot be read: {error}")))
}

/// Puts an init segment back on the disk.
fn put_back(folder: &Path, file: File, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(file.to_string());
    if path.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(&path, bytes)?;
    std::fs::File::open(&path)?.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}

/// Parses `ROOM/ID/FILE`.
fn parse(key: &str) -> Option<(RoomName, RecordingId, File)> {
    let mut names = key.split('/');
    let (room, id, file) = (names.next()?, names.next()?, names.next()?);
    let whole = names.next().is_none();
    Some((RoomName::parse(room).ok()?, RecordingId::parse(id)?, file.parse().ok()?)).filter(|_| whole)
}
