//! What lies in the recordings folder: what a finished recording consists of, and which folders may go.

use crate::control::{RecordingId, RoomName};
use crate::objects::Digest;
use crate::retention::HOLD;
use crate::store::NewUpload;
use recorder::{File, Gap, Manifest};
use std::fs;
use std::io;
use std::path::Path;
use streamsession_api::KeepFree;

/// Begins the names of folders that are leaving the disk.
const EVICTED: &str = ".evicted-";

/// What of a finished recording goes to the store.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) room: RoomName,
    pub(super) files: Vec<NewUpload>,
    pub(super) gaps: Vec<Gap>,
}

/// Reads a manifest; `None` when there is none. Blocks.
pub(super) fn finished(folder: &Path, recording: &RecordingId) -> io::Result<Option<Finished>> {
    let text = match fs::read(folder.join(recording.as_str()).join(File::Manifest.to_string())) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest: Manifest = serde_json::from_slice(&text)?;
    let room = RoomName::parse(&manifest.description.room).map_err(io::Error::other)?;
    let inits = manifest.inits.iter().map(|init| (&init.file, init.bytes, &init.sha256));
    let segments = manifest.segments.iter().map(|segment| (&segment.file, segment.bytes, &segment.sha256));
    let playlist = std::iter::once(&manifest.playlist).map(|list| (&list.file, list.bytes, &list.sha256));
    let told = inits.chain(segments).chain(playlist).map(|(name, bytes, sha256)| {
        Some(NewUpload { file: name.parse().ok()?, bytes, sha256: Digest::from_hex(sha256)? })
    });
    let own = NewUpload { file: File::Manifest, bytes: text.len() as u64, sha256: Digest::of(&text) };
    let files: Option<Vec<NewUpload>> = told.chain(std::iter::once(Some(own))).collect();
    let files = files.ok_or_else(|| io::Error::other("the manifest names a file that a recording cannot have"))?;
    Ok(Some(Finished { room, files, gaps: manifest.gaps }))
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// With a manifest, so that they may be uploaded.
    pub(super) finished: Vec<RecordingId>,
    /// On their way from the disk.
    pub(super) evicted: Vec<RecordingId>,
}

/// Looks at names, and ends evictions that were begun. Blocks.
pub(super) fn leftovers(folder: &Path) -> io::Result<Leftovers> {
    let mut found = Leftovers::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(recording) = name.strip_prefix(EVICTED).and_then(RecordingId::parse) {
            fs::remove_dir_all(entry.path())?;
            found.evicted.push(recording);
        } else if let Some(recording) = RecordingId::parse(&name)
            && entry.path().join(File::Manifest.to_string()).is_file()
        {
            found.finished.push(recording);
        }
    }
    found.finished.sort();
    Ok(found)
}

/// Takes a recording's folder from the disk, whole or not at all; `false` when somebody wants it to stay. One that is not
/// there is gone. Blocks.
pub(super) fn evict(folder: &Path, recording: &RecordingId) -> io::Result<bool> {
    let (here, gone) = (folder.join(recording.as_str()), folder.join(format!("{EVICTED}{recording}")));
    if here.join(HOLD).exists() {
        return Ok(false);
    }
    match fs::rename(here, &gone) {
        Ok(()) => {
            fs::File::open(folder)?.sync_all()?;
            fs::remove_dir_all(gone)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// Removes a segment of a recording under way. Blocks.
pub(super) fn evict_segment(folder: &Path, recording: &RecordingId, number: u32) -> io::Result<()> {
    match fs::remove_file(folder.join(recording.as_str()).join(File::Segment(number).to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether a recording is held here. Blocks.
pub(super) fn is_held(folder: &Path, recording: &RecordingId) -> bool {
    folder.join(recording.as_str()).join(HOLD).exists()
}

/// Returns whether fewer bytes are free on its disk than `keep_free` or `reserve` demands.
pub(super) fn is_short(folder: &Path, keep_free: &KeepFree, reserve: u64) -> io::Result<bool> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let capacity = disk.f_blocks.saturating_mul(disk.f_frsize);
    Ok(free < keep_free.of_capacity(capacity).max(reserve))
}

/// Runs blocking file operations on a thread for them.
pub(super) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|_| Err(io::Error::other("cancelled")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(folder: &Path) -> RecordingId {
        let recording = RecordingId::random();
        fs::create_dir(folder.join(recording.as_str())).unwrap();
        fs::write(folder.join(recording.as_str()).join("manifest.json"), "{}").unwrap();
        recording
    }

    #[test]
    fn a_folder_leaves_the_disk_unless_it_is_held() {
        let place = tempfile::tempdir().unwrap();
        let (mine, held) = (recording(place.path()), recording(place.path()));
        fs::write(place.path().join(held.as_str()).join(HOLD), "").unwrap();
        assert!(evict(place.path(), &mine).unwrap() && evict(place.path(), &mine).unwrap());
        assert!(!evict(place.path(), &held).unwrap());
        assert!(!place.path().join(mine.as_str()).exists() && place.path().join(held.as_str()).exists());
    }

    #[test]
    fn an_eviction_that_was_interrupted_is_ended_and_what_is_unfinished_is_left() {
        let place = tempfile::tempdir().unwrap();
        let (mine, leaving) = (recording(place.path()), recording(place.path()));
        let name = |recording: &RecordingId| place.path().join(recording.as_str());
        fs::rename(name(&leaving), place.path().join(format!("{EVICTED}{leaving}"))).unwrap();
        fs::create_dir(name(&RecordingId::random())).unwrap();
        fs::create_dir(place.path().join("holiday")).unwrap();
        let found = leftovers(place.path()).unwrap();
        assert_eq!((found.finished, found.evicted), (vec![mine], vec![leaving]));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }

    #[test]
    fn space_is_short_when_less_is_free_than_has_to_be() {
        let place = tempfile::tempdir().unwrap();
        assert!(!is_short(place.path(), &"0%".parse().unwrap(), 0).unwrap());
        assert!(is_short(place.path(), &"9000000Ti".parse().unwrap(), 0).unwrap());
        assert!(is_short(place.path(), &"0%".parse().unwrap(), u64::MAX).unwrap());
    }
}
