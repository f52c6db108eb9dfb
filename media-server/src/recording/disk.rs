//! A recording's folder on the disk: what the recorder asks for, made durable.
//!
//! A name appears only with its whole contents (temporary file, fsync, rename, fsync of the folder); a segment is appended
//! to and synced part by part. Nothing is written once less than the least space is free.

use super::error::DiskError;
use super::measure;
use recorder::{File as Name, Folder, Output};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Ends the names of files that are not whole yet.
const TEMPORARY: &str = ".tmp";
/// Ends the names of segments that could not be read.
const UNREADABLE: &str = ".unreadable";

/// See the module.
#[derive(Debug)]
pub(super) struct RecordingFolder {
    path: PathBuf,
    min_free: u64,
    made: bool,
    segment: Option<(Name, File)>,
}

impl RecordingFolder {
    /// Touches nothing yet.
    pub(super) fn new(path: PathBuf, min_free: u64) -> RecordingFolder {
        RecordingFolder { path, min_free, made: false, segment: None }
    }

    /// Carries out what the recorder asks of the disk. After an error the segment is closed as it is.
    pub(super) fn carry_out(&mut self, output: Output) -> Result<(), DiskError> {
        let done = self.try_carry_out(output);
        if done.is_err() {
            (self.made, self.segment) = (false, None);
        }
        done
    }

    fn try_carry_out(&mut self, output: Output) -> Result<(), DiskError> {
        match output {
            Output::Create { file } => {
                self.segment = None;
                self.make()?;
                check_space(&self.path, self.min_free)?;
                let path = self.file(&file.to_string());
                let created = File::create(&path).map_err(at(&path))?;
                sync_folder(&self.path)?;
                self.segment = Some((file, created));
            }
            Output::Append { file: Name::Playlist, bytes } => {
                check_space(&self.path, self.min_free)?;
                self.with_playlist(|mut playlist| playlist.write_all(&bytes))?;
                measure::written(bytes.len());
            }
            Output::Sync { file: Name::Playlist } => self.with_playlist(File::sync_data)?,
            Output::Append { file, bytes } => {
                check_space(&self.path, self.min_free)?;
                self.with_segment(file, |mut segment| segment.write_all(&bytes))?;
                measure::written(bytes.len());
            }
            Output::Sync { file } => self.with_segment(file, File::sync_data)?,
            Output::Close { file, .. } => {
                self.with_segment(file, |_| Ok(()))?;
                self.segment = None;
            }
            Output::Replace { file, bytes } => {
                self.make()?;
                check_space(&self.path, self.min_free)?;
                let path = self.file(&file.to_string());
                replace(&path, &bytes).map_err(at(&path))?;
            }
            // Not of the disk.
            Output::RequestKeyframe | Output::Continue { .. } | Output::Finished => {}
        }
        Ok(())
    }

    /// Whether a part could be written now.
    pub(super) fn probe(&mut self) -> Result<(), DiskError> {
        self.make()?;
        check_space(&self.path, self.min_free)?;
        let path = self.file(&format!("probe{TEMPORARY}"));
        let written = fs::write(&path, [0; 64 << 10]).and_then(|()| File::open(&path)?.sync_all());
        let removed = fs::remove_file(&path);
        written.and(removed).map_err(at(&path))
    }

    fn make(&mut self) -> Result<(), DiskError> {
        if !self.made {
            fs::create_dir_all(&self.path).map_err(at(&self.path))?;
            self.path.parent().map_or(Ok(()), sync_folder)?;
            self.made = true;
        }
        Ok(())
    }

    fn with_segment(&self, name: Name, act: impl FnOnce(&File) -> io::Result<()>) -> Result<(), DiskError> {
        let path = || self.file(&name.to_string());
        match &self.segment {
            Some((open, file)) if *open == name => act(file).map_err(|source| DiskError::Io { path: path(), source }),
            _ => Err(DiskError::Io { path: path(), source: io::Error::other("the segment is not open") }),
        }
    }

    fn with_playlist(&self, act: impl FnOnce(&File) -> io::Result<()>) -> Result<(), DiskError> {
        let path = self.file(&Name::Playlist.to_string());
        let file = OpenOptions::new().append(true).open(&path).map_err(at(&path))?;
        act(&file).map_err(at(&path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what was not whole when the last attempt, or process, ended.
    pub(super) fn remove_temporaries(&mut self) {
        let names = Folder::list(self).unwrap_or_default();
        for (name, _) in names.iter().filter(|(name, _)| name.ends_with(TEMPORARY)) {
            if let Err(error) = fs::remove_file(self.file(name)) {
                tracing::warn!(file = %self.file(name).display(), %error, "a temporary file stays");
            }
        }
    }
}

impl Folder for RecordingFolder {
    type Reader = io::BufReader<File>;
    type Writer = BufWriter<File>;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                found.push((name, entry.metadata()?.len()));
            }
        }
        Ok(found)
    }

    fn open(&mut self, name: &str) -> io::Result<Self::Reader> {
        Ok(io::BufReader::with_capacity(256 << 10, File::open(self.file(name))?))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.file(name))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.file(name))?.sync_all()
    }

    /// A segment is only put aside: what cannot be read today may be all that there is of an hour.
    fn remove(&mut self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        if matches!(name.parse(), Ok(Name::Segment(_))) && path.metadata()?.len() > 0 {
            fs::rename(&path, self.file(&format!("{name}{UNREADABLE}")))?;
        } else {
            fs::remove_file(path)?;
        }
        File::open(&self.path)?.sync_all()
    }

    fn create(&mut self, name: &str) -> io::Result<BufWriter<File>> {
        let file = File::create(self.file(&format!("{name}{TEMPORARY}")))?;
        Ok(BufWriter::with_capacity(256 << 10, file))
    }

    fn commit(&mut self, name: &str, file: BufWriter<File>) -> io::Result<()> {
        let temporary = self.file(&format!("{name}{TEMPORARY}"));
        let written = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, self.file(name))) {
            let _ = fs::remove_file(temporary);
            return Err(error);
        }
        File::open(&self.path)?.sync_all()
    }
}

/// Errors when fewer than `wanted` bytes are free for us on the disk of `path`.
pub(super) fn check_space(path: &Path, wanted: u64) -> Result<(), DiskError> {
    let free = free(path).map_err(at(path))?;
    if free < wanted { Err(DiskError::Full { path: path.to_owned(), free, wanted }) } else { Ok(()) }
}

/// Bytes that are free for us on the disk of `path`.
fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    measure::free(free);
    Ok(free)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    let temporary = PathBuf::from(name);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes names in it durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(min_free: u64) -> (tempfile::TempDir, RecordingFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = RecordingFolder::new(place.path().join("rec"), min_free);
        (place, folder)
    }

    fn names(folder: &mut RecordingFolder) -> Vec<(String, u64)> {
        let mut names = Folder::list(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn outputs_become_files() {
        let (_place, mut folder) = folder(0);
        let file = Name::Segment(1);
        let record = serde_json::from_str(
            r#"{"number": 1, "init": 1, "bytes": 10, "sha256": "", "start": 0, "end": 1, "at": "2026-11-30T12:00:00Z",
                "endedAt": "2026-11-30T12:00:01Z", "keyframe": true, "parts": {"start": 1, "end": 2}, "spans": []}"#,
        )
        .unwrap();
        for output in [
            Output::Replace { file: Name::Init(1), bytes: vec![1; 3] },
            Output::Create { file },
            Output::Append { file, bytes: vec![2; 5] },
            Output::Append { file, bytes: vec![3; 5] },
            Output::Sync { file },
            Output::Close { file, record: Box::new(record) },
            Output::Replace { file: Name::Init(1), bytes: vec![4; 4] },
        ] {
            folder.carry_out(output).unwrap();
        }
        assert_eq!(names(&mut folder), [("init-1.mp4".to_owned(), 4), ("segment-000001.m4s".to_owned(), 10)]);
        folder.carry_out(Output::Append { file, bytes: vec![0] }).unwrap_err();
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_left_alone() {
        let (place, mut folder) = folder(u64::MAX);
        let error = folder.carry_out(Output::Create { file: Name::Segment(1) }).unwrap_err();
        assert_eq!(error.in_short(), "the disk is full");
        let mut manifest = Folder::create(&mut folder, "manifest.json").unwrap();
        manifest.write_all(b"{}").unwrap();
        folder.commit("manifest.json", manifest).unwrap();
        folder.remove_temporaries();
        assert_eq!(names(&mut folder), [("manifest.json".to_owned(), 2)]);
        drop(place);
    }

    #[test]
    fn a_folder_that_vanished_is_made_again() {
        let (place, mut folder) = folder(0);
        folder.carry_out(Output::Create { file: Name::Segment(1) }).unwrap();
        fs::remove_dir_all(place.path().join("rec")).unwrap();
        folder.carry_out(Output::Create { file: Name::Segment(2) }).unwrap_err();
        folder.carry_out(Output::Create { file: Name::Segment(3) }).unwrap();
        assert_eq!(names(&mut folder), [("segment-000003.m4s".to_owned(), 0)]);
    }

    #[test]
    fn errors_are_told_with_a_remedy_and_without_paths() {
        let of = |kind: io::ErrorKind| DiskError::Io { path: "/secret".into(), source: kind.into() };
        assert_eq!(of(io::ErrorKind::StorageFull).in_short(), "the disk is full");
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem).remedy(), "make the recordings folder writable");
        assert_eq!(of(io::ErrorKind::BrokenPipe).in_short(), "the disk fails");
    }
}
