//! Recordings in a folder, as the server keeps them: a folder each, by its id.
//!
//! Reading changes nothing and takes no lock, so that it may be done while a server writes here. Deleting renames the
//! recording's folder first, as the server does when it removes one: what is left by a crash is removed by its next start.

use super::catalogue::{
    Catalogue, CatalogueError, Debris, Found, HOLD, Kind, Opened, Space, State, made, parse_manifest,
};
use super::registry;
use crate::control::RecordingId;
use jiff::Timestamp;
use recorder::{Description, File, Manifest};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Begins the names of folders whose files are being removed; the server finishes what it finds of these.
const REMOVED: &str = ".removed-";
/// Ends the names of files that are not whole yet.
const TEMPORARY: &str = ".tmp";
/// An init segment has not more bytes than this.
const LONGEST_INIT: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// The database in which a server lists them.
    registry: Option<PathBuf>,
}

impl Disk {
    /// `registry`: the database in which a server lists these recordings.
    pub(super) fn open(folder: &Path, registry: Option<PathBuf>) -> Result<Disk, CatalogueError> {
        fs::read_dir(folder).map_err(CatalogueError::disk(folder))?;
        Ok(Disk { folder: folder.to_owned(), registry })
    }

    /// Where a recording's folder goes before its files are removed one by one.
    fn removed(&self, id: &RecordingId) -> PathBuf {
        self.folder.join(format!("{REMOVED}{id}"))
    }

    fn of(&self, id: &RecordingId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn file(&self, found: &Found, file: File) -> PathBuf {
        self.of(&found.id).join(file.to_string())
    }

    /// One recording; `None` when it is gone meanwhile.
    fn look(&self, id: RecordingId) -> Result<Option<Found>, CatalogueError> {
        let folder = self.of(&id);
        let Some(files) = gone(files(&folder)).map_err(CatalogueError::disk(&folder))? else { return Ok(None) };
        let changed = files.iter().map(|file| file.changed).max();
        let started_at = made(&id).or(changed).unwrap_or(Timestamp::UNIX_EPOCH);
        let named = |name: &str| files.iter().any(|file| file.name == name);
        let mut found = Found {
            room: None,
            started_at,
            changed: changed.unwrap_or(started_at),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files: files.len(),
            held: named(HOLD),
            state: State::Unfinished { recoverable: false },
            id,
        };
        if named(&File::Manifest.to_string()) {
            let path = folder.join(File::Manifest.to_string());
            match gone(fs::read(&path)).map_err(CatalogueError::disk(&path))? {
                Some(bytes) => found.judge(parse_manifest(&found.id, &bytes)),
                None => return Ok(None),
            }
        } else if let Some(description) = describe(&folder, &files) {
            let media = |file: &Listed| matches!(file.name.parse(), Ok(File::Segment(_))) && file.bytes > 0;
            found.state = State::Unfinished { recoverable: files.iter().any(media) };
            found.room = Some(description.room);
            found.started_at = description.started_at;
        }
        Ok(Some(found))
    }

    /// Ids of all folders that can be recordings.
    fn ids(&self) -> Result<Vec<RecordingId>, CatalogueError> {
        let failed = || CatalogueError::disk(&self.folder);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let id = entry.file_name().to_str().and_then(RecordingId::parse);
            if let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

impl Catalogue for Disk {
    fn kind(&self) -> Kind {
        Kind::Disk
    }

    fn title(&self) -> String {
        self.folder.display().to_string()
    }

    fn recordings(&self) -> Result<Vec<Found>, CatalogueError> {
        self.ids()?.into_iter().filter_map(|id| self.look(id).transpose()).collect()
    }

    fn manifest(&self, found: &Found) -> Result<Manifest, CatalogueError> {
        let path = self.file(found, File::Manifest);
        let bytes = fs::read(&path).map_err(CatalogueError::disk(&path))?;
        parse_manifest(&found.id, &bytes).map_err(|reason| CatalogueError::Manifest { id: found.id.clone(), reason })
    }

    fn length(&self, found: &Found, file: File) -> Result<Option<u64>, CatalogueError> {
        let path = self.file(found, file);
        let metadata = gone(fs::metadata(&path)).map_err(CatalogueError::disk(&path))?;
        Ok(metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
    }

    fn open(&self, found: &Found, file: File) -> Result<Option<Opened<'_>>, CatalogueError> {
        let path = self.file(found, file);
        let Some(opened) = gone(fs::File::open(&path)).map_err(CatalogueError::disk(&path))? else { return Ok(None) };
        let bytes = opened.metadata().map_err(CatalogueError::disk(&path))?.len();
        Ok(Some(Opened { bytes, reader: Box::new(opened) }))
    }

    fn path(&self, found: &Found, file: File) -> Option<PathBuf> {
        Some(self.file(found, file))
    }

    fn delete(&self, found: &Found) -> Result<bool, CatalogueError> {
        let (from, to) = (self.of(&found.id), self.removed(&found.id));
        let finished = from.join(File::Manifest.to_string()).exists();
        // Somebody may have held it, or a server have finished it, since it was looked at.
        if from.join(HOLD).exists() || finished != !matches!(found.state, State::Unfinished { .. }) {
            return Ok(false);
        }
        if gone(fs::rename(&from, &to)).map_err(CatalogueError::disk(&from))?.is_none() {
            return Ok(false);
        }
        let sync = || fs::File::open(&self.folder).and_then(|folder| folder.sync_all());
        sync().map_err(CatalogueError::disk(&self.folder))?;
        if self.registry.is_none() {
            return fs::remove_dir_all(&to).map_err(CatalogueError::disk(&to)).map(|()| true);
        }
        // The folder itself stays until the registry has forgotten it.
        for file in files(&to).map_err(CatalogueError::disk(&to))? {
            let path = to.join(file.name);
            gone(fs::remove_file(&path)).map_err(CatalogueError::disk(&path))?;
        }
        Ok(true)
    }

    fn forget(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let folder = self.removed(id);
        match registry::forget(registry, id) {
            Ok(()) => gone(fs::remove_dir_all(&folder)).map(drop).map_err(CatalogueError::disk(&folder)),
            // By the name of this folder the server learns, at its next start, what to forget.
            Err(error) => {
                tracing::debug!(%id, %error, "the registry cannot be told");
                fs::create_dir_all(&folder).map_err(CatalogueError::disk(&folder))
            }
        }
    }

    fn wanted(&self) -> Result<BTreeSet<RecordingId>, CatalogueError> {
        self.registry.as_deref().map_or_else(|| Ok(BTreeSet::new()), |path| Ok(registry::wanted(path)?))
    }

    fn debris(&self, before: Timestamp) -> Result<Vec<Debris>, CatalogueError> {
        let mut debris = Vec::new();
        for id in self.ids()? {
            let folder = self.of(&id);
            let Some(files) = gone(files(&folder)).map_err(CatalogueError::disk(&folder))? else { continue };
            // Of what is not finished all goes, or nothing.
            if !files.iter().any(|file| file.name == File::Manifest.to_string()) {
                continue;
            }
            let old = files.into_iter().filter(|file| file.name.ends_with(TEMPORARY) && file.changed < before);
            debris.extend(old.map(|file| Debris::Temporary { path: folder.join(file.name), bytes: file.bytes }));
        }
        Ok(debris)
    }

    fn clear(&self, debris: &Debris) -> Result<(), CatalogueError> {
        match debris {
            Debris::Temporary { path, .. } => gone(fs::remove_file(path)).map(drop).map_err(CatalogueError::disk(path)),
            Debris::Upload { .. } => Ok(()),
        }
    }

    fn space(&self) -> Result<Option<Space>, CatalogueError> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(io::Error::from);
        let disk = disk.map_err(CatalogueError::disk(&self.folder))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Some(Space { free: bytes(disk.f_bavail), capacity: bytes(disk.f_blocks) }))
    }
}

struct Listed {
    name: String,
    bytes: u64,
    changed: Timestamp,
}

fn files(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A server renames and removes files while they are looked at.
        let Some(metadata) = gone(entry.metadata())? else { continue };
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            let changed = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
            files.push(Listed { name, bytes: metadata.len(), changed: changed.unwrap_or(Timestamp::UNIX_EPOCH) });
        }
    }
    Ok(files)
}

/// Whose folder it is, by the first init segment that can be read.
fn describe(folder: &Path, files: &[Listed]) -> Option<Description> {
    let mut inits: Vec<_> = files.iter().filter(|file| matches!(file.name.parse(), Ok(File::Init(_)))).collect();
    inits.sort_by(|a, b| a.name.cmp(&b.name));
    inits.into_iter().find_map(|init| {
        let mut bytes = Vec::new();
        let file = fs::File::open(folder.join(&init.name)).ok()?;
        BufReader::new(file).take(LONGEST_INIT).read_to_end(&mut bytes).ok()?;
        recorder::describe(&bytes)
    })
}

/// `None` when it is not there.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
