//! Recordings in an object store: keys `PREFIX/ROOM/ID/FILE`, the manifest put last.
//!
//! A place for one thread, which waits for each answer. Manifests alone are fetched several at once, since a list needs
//! all of them.

use super::catalogue::{
    Catalogue, CatalogueError, Debris, Found, HOLD, Kind, Opened, Space, State, made, parse_manifest,
};
use crate::config::StoreConfig;
use crate::control::RecordingId;
use crate::objects::{Listed, Objects, ObjectsError, Reason};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use recorder::{File, Manifest};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// Manifests that are fetched at once.
const AT_ONCE: usize = 16;
/// A manifest of a year has not so many bytes.
const LONGEST_MANIFEST: usize = 512 << 20;

/// See the module.
pub(super) struct Store {
    runtime: Runtime,
    objects: Objects,
    title: String,
}

impl Store {
    /// Asks the store nothing yet.
    pub(super) fn connect(config: &StoreConfig) -> io::Result<Store> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let title = format!("{}/{}/{}", config.endpoint, config.bucket, config.prefix);
        let objects = runtime.block_on(async { Objects::connect(config) });
        Ok(Store { runtime, objects, title })
    }

    /// Returns the owner of the prefix.
    pub(super) fn owner(&self) -> Result<Option<String>, ObjectsError> {
        self.runtime.block_on(self.objects.owner())
    }

    /// Makes a server the owner of the prefix.
    pub(super) fn take_over(&self, owner: &str) -> Result<(), ObjectsError> {
        self.runtime.block_on(self.objects.take_over(owner))
    }

    /// Removes the owner's marker, if nothing else is below the prefix.
    pub(super) fn release(&self) -> Result<(), ObjectsError> {
        self.runtime.block_on(self.objects.release())
    }

    /// Returns the error of a prefix that another server owns.
    pub(super) fn owned_by(&self, owner: &str) -> ObjectsError {
        self.objects.owned_by(owner)
    }

    /// Returns the name of the store and prefix.
    pub(super) fn identity(&self) -> String {
        self.objects.identity().to_owned()
    }

    async fn recordings(&self) -> Result<Vec<Found>, ObjectsError> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let (mut from, mut last) = (None, false);
        while !last {
            let page = self.objects.list("", from.as_deref()).await?;
            page.objects.into_iter().for_each(|object| note(&mut found, object));
            last = page.next.is_none();
            from = page.next;
        }
        let judged = stream::iter(found.into_values()).map(|found| self.judged(found)).buffer_unordered(AT_ONCE);
        let judged: Vec<_> = judged.collect().await;
        judged.into_iter().filter_map(Result::transpose).collect()
    }

    /// With what its manifest says; `None` when it was deleted meanwhile.
    async fn judged(&self, mut found: Found) -> Result<Option<Found>, ObjectsError> {
        // So far it says only that there is one.
        if let State::Damaged(_) = found.state {
            match self.fetch(&key(&found, &File::Manifest.to_string())).await? {
                Some(bytes) => found.judge(parse_manifest(&found.id, &bytes)),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, ObjectsError> {
        let Some(content) = absent(self.objects.get(key, None).await)? else { return Ok(None) };
        // What breaks off is no manifest.
        Ok(Some(content.collect(LONGEST_MANIFEST).await.unwrap_or_default()))
    }

    async fn delete(&self, found: &Found) -> Result<bool, ObjectsError> {
        let now = self.objects.list_all(&key(found, "")).await?;
        let manifest = key(found, &File::Manifest.to_string());
        let finished = now.iter().any(|object| object.key == manifest);
        let held = now.iter().any(|object| object.key == key(found, HOLD));
        // Somebody may have held it, or its upload have ended, since it was looked at.
        if held || now.is_empty() || finished != !matches!(found.state, State::Unfinished { .. }) {
            return Ok(false);
        }
        if finished {
            self.objects.delete(std::slice::from_ref(&manifest)).await?;
        }
        let rest: Vec<_> = now.into_iter().map(|object| object.key).filter(|key| *key != manifest).collect();
        self.objects.delete(&rest).await.map(|()| true)
    }
}

/// Where a file of a recording lies.
fn key(found: &Found, file: &str) -> String {
    format!("{}/{}/{file}", found.room.as_deref().unwrap_or_default(), found.id)
}

/// Takes an object for what its key says; what is none of ours is passed over.
fn note(found: &mut BTreeMap<String, Found>, object: Listed) {
    let Some((folder, file)) = object.key.rsplit_once('/') else { return };
    let Some((room, id)) = folder.rsplit_once('/').and_then(|(room, id)| Some((room, RecordingId::parse(id)?))) else {
        return;
    };
    let changed = object.modified.unwrap_or(Timestamp::UNIX_EPOCH);
    let found = found.entry(folder.to_owned()).or_insert_with(|| Found {
        room: Some(room.to_owned()),
        started_at: made(&id).unwrap_or(changed),
        changed,
        bytes: 0,
        files: 0,
        held: false,
        state: State::Unfinished { recoverable: false },
        id,
    });
    found.changed = found.changed.max(changed);
    found.bytes += object.len;
    found.files += 1;
    found.held |= file == HOLD;
    if file == File::Manifest.to_string() {
        found.state = State::Damaged("it is not read yet".to_owned());
    }
}

impl Catalogue for Store {
    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn recordings(&self) -> Result<Vec<Found>, CatalogueError> {
        Ok(self.runtime.block_on(self.recordings())?)
    }

    fn manifest(&self, found: &Found) -> Result<Manifest, CatalogueError> {
        let bytes = self.runtime.block_on(self.fetch(&key(found, &File::Manifest.to_string())))?;
        parse_manifest(&found.id, &bytes.unwrap_or_default())
            .map_err(|reason| CatalogueError::Manifest { id: found.id.clone(), reason })
    }

    fn length(&self, found: &Found, file: File) -> Result<Option<u64>, CatalogueError> {
        let head = self.runtime.block_on(self.objects.head(&key(found, &file.to_string())));
        Ok(absent(head)?.map(|head| head.len))
    }

    fn open(&self, found: &Found, file: File) -> Result<Option<Opened<'_>>, CatalogueError> {
        let content = self.runtime.block_on(self.objects.get(&key(found, &file.to_string()), None));
        let Some(content) = absent(content)? else { return Ok(None) };
        let reader = Reader { runtime: &self.runtime, stream: content.bytes, chunk: Bytes::new() };
        Ok(Some(Opened { bytes: content.len, reader: Box::new(reader) }))
    }

    fn path(&self, _: &Found, _: File) -> Option<PathBuf> {
        None
    }

    fn delete(&self, found: &Found) -> Result<bool, CatalogueError> {
        Ok(self.runtime.block_on(self.delete(found))?)
    }

    fn debris(&self, before: Timestamp) -> Result<Vec<Debris>, CatalogueError> {
        let unfinished = self.runtime.block_on(self.objects.unfinished(""))?;
        let old = unfinished.into_iter().filter(|upload| match upload.begun {
            Some(begun) => begun < before,
            None => before == Timestamp::MAX,
        });
        Ok(old.map(|old| Debris::Upload { key: old.key, upload: old.upload }).collect())
    }

    fn clear(&self, debris: &Debris) -> Result<(), CatalogueError> {
        match debris {
            Debris::Upload { key, upload } => Ok(self.runtime.block_on(self.objects.abort(key, upload))?),
            Debris::Temporary { .. } => Ok(()),
        }
    }

    fn space(&self) -> Result<Option<Space>, CatalogueError> {
        Ok(None)
    }
}

fn absent<T>(result: Result<T, ObjectsError>) -> Result<Option<T>, ObjectsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.reason() == Reason::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An object as a file that is read from its start.
struct Reader<'a> {
    runtime: &'a Runtime,
    stream: BoxStream<'static, io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, Make};
    use super::super::shelf::{Shelf, Standing};
    use super::*;
    use crate::objects::Digest;
    use crate::objects::fake::{FakeStore, Fault};
    use crate::retention::Protection;
    use std::fs;

    /// A store with a runtime of its own, which goes on while this thread waits.
    struct Bench {
        runtime: Runtime,
        fake: FakeStore,
        place: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let fake = runtime.block_on(FakeStore::start());
            Bench { runtime, fake, place: tempfile::tempdir().unwrap() }
        }

        fn store(&self) -> Store {
            Store::connect(&self.fake.config()).unwrap()
        }

        fn put(&self, key: &str, bytes: Vec<u8>) {
            let (objects, digest) = (self.fake.objects(), Digest::of(&bytes));
            self.runtime.block_on(objects.put(key, &crate::objects::Source::Bytes(bytes.into()), digest)).unwrap();
        }

        fn make(&self, make: Make) -> Made {
            make.within(self.place.path())
        }

        /// As the server does it: the MP4 stays.
        fn upload(&self, made: &Made) {
            for file in fs::read_dir(&made.folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                if !name.starts_with("recording") {
                    self.put(&key_of(made, &name), fs::read(made.path(&name)).unwrap());
                }
            }
        }
    }

    fn key_of(made: &Made, file: &str) -> String {
        format!("front-door/{}/{file}", made.id)
    }

    #[test]
    fn recordings_of_a_store_are_found_by_their_keys_and_told_by_their_manifests() {
        let bench = Bench::new();
        let (whole, half, bad) =
            (bench.make(Make::default()), bench.make(Make::default()), bench.make(Make::default()));
        bench.upload(&whole);
        bench.put(&key_of(&half, "init-1.mp4"), fs::read(half.path("init-1.mp4")).unwrap());
        bench.put(&key_of(&bad, "manifest.json"), b"{}".to_vec());
        bench.put(&key_of(&whole, HOLD), Vec::new());
        bench.put("somebody/else", b"x".to_vec());
        let found = Catalogue::recordings(&bench.store()).unwrap();
        let of = |made: &Made| found.iter().find(|found| found.id.as_str() == made.id).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(of(&whole).summary().unwrap().duration, whole.manifest().duration);
        assert_eq!((of(&whole).room.as_deref(), of(&whole).held), (Some("front-door"), true));
        assert!(matches!(of(&half).state, State::Unfinished { recoverable: false }) && !of(&half).held);
        assert!(matches!(of(&bad).state, State::Damaged(_)));
    }

    #[test]
    fn what_is_deleted_goes_manifest_first_and_what_is_held_stays() {
        let bench = Bench::new();
        let (gone, held) = (bench.make(Make::default()), bench.make(Make::default()));
        bench.upload(&gone);
        bench.upload(&held);
        let store = bench.store();
        let found = Catalogue::recordings(&store).unwrap();
        let of = |made: &Made| found.iter().find(|found| found.id.as_str() == made.id).unwrap();
        bench.put(&key_of(&held, HOLD), Vec::new());
        assert!(!Catalogue::delete(&store, of(&held)).unwrap(), "it was held after it was looked at");
        // After the manifest the store fails: what is left is no recording any more.
        bench.fake.delete_one_by_one();
        assert!(Catalogue::delete(&store, of(&gone)).unwrap());
        let deletes: Vec<_> =
            bench.fake.requests().into_iter().filter(|request| request.starts_with("DELETE")).collect();
        assert!(deletes.len() > 3 && deletes[0].ends_with("manifest.json"), "{deletes:?}");
        assert!(bench.fake.keys().iter().all(|key| key.contains(&held.id)));
        assert!(!Catalogue::delete(&store, of(&gone)).unwrap(), "it is gone");
    }

    #[test]
    fn a_local_recording_that_is_not_in_the_store_is_pending() {
        let bench = Bench::new();
        let (both, pending) = (bench.make(Make::default()), bench.make(Make::default()));
        let live = bench.make(Make { crashed: true, ..Make::default() });
        bench.upload(&both);
        bench.put(&key_of(&pending, "segment-000001.m4s"), vec![0; 9]);
        bench.put(&key_of(&live, "segment-000001.m4s"), vec![0; 9]);
        let disk = super::super::disk::Disk::open(bench.place.path(), None).unwrap();
        let shelf = Shelf::new(vec![Box::new(disk), Box::new(bench.store())], true);
        let holdings = shelf.holdings().unwrap();
        assert_eq!(holdings.len(), 3);
        let of = |made: &Made| holdings.iter().find(|holding| holding.id.as_str() == made.id).unwrap();
        assert_eq!(shelf.entry(of(&both), &[]).protection, None);
        assert_eq!(shelf.entry(of(&pending), &[]).protection, Some(Protection::PendingUpload));
        assert_eq!(shelf.entry(of(&live), &[]).protection, Some(Protection::Unfinished));
        assert_eq!(of(&live).standing(Timestamp::now()), Standing::Recording);
        assert!(!of(&live).is_orphan() && !of(&pending).is_orphan());
        let (entry, disk) = (shelf.entry(of(&both), &[]), both.bytes());
        assert_eq!((entry.bytes, entry.frees), (disk, 2 * disk), "it counts once and frees twice");
    }

    #[test]
    fn a_store_that_fails_is_an_error_with_its_remedy() {
        let bench = Bench::new();
        bench.upload(&bench.make(Make::default()));
        let store = bench.store();
        let found = Catalogue::recordings(&store).unwrap().remove(0);
        bench.fake.fail(Fault::Truncates);
        let opened = Catalogue::open(&store, &found, File::Segment(1));
        let read = opened.map(|opened| opened.unwrap().reader.read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "half of a segment is none");
        bench.fake.fail(None);
        bench.fake.use_key("wrong");
        let error = Catalogue::recordings(&store).unwrap_err().to_string();
        assert!(error.contains("secretAccessKey"), "{error}");
        bench.fake.use_key("key");
        assert!(Catalogue::open(&store, &found, File::Segment(99)).unwrap().is_none());
        bench.fake.remove_bucket();
        assert!(Catalogue::recordings(&store).unwrap_err().to_string().contains("bucket"));
    }
}
