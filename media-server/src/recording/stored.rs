//! Files of a recording that lie in the object store and not here any more.
//!
//! Length and digest are the journal's, so that nothing is asked of the store before bytes are wanted. The MP4 is not in
//! the store: it is made of the segments while it is given, byte for byte as it was here.

use crate::objects::{Objects, ObjectsError, Reason, RemoteReader};
use crate::store::Upload;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use recorder::{File, Manifest, Mp4s};
use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

/// A manifest is at most so long: some weeks of segments.
const LONGEST_MANIFEST: usize = 64 << 20;
/// Bytes that are given at once.
const CHUNK: usize = 64 << 10;
/// Chunks that are made ahead.
const AHEAD: usize = 16;
/// MP4 files that are made at the same time: each reads its recording twice.
static MAKING: Semaphore = Semaphore::const_new(2);

/// A file in the store.
#[derive(Clone, Debug)]
pub struct StoredFile {
    objects: Objects,
    upload: Upload,
}

impl StoredFile {
    pub(super) fn new(objects: Objects, upload: Upload) -> StoredFile {
        StoredFile { objects, upload }
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.upload.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.upload.bytes == 0
    }

    /// Changes with the contents.
    pub fn tag(&self) -> String {
        self.upload.sha256.to_string()
    }

    /// Some of its bytes, or all.
    pub async fn read(
        &self,
        range: Option<RangeInclusive<u64>>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, ObjectsError> {
        let content = self.objects.get(&self.upload.key, range).await?;
        if content.len != self.upload.bytes {
            let said =
                format!("the store holds {} bytes of {}, not {}", content.len, self.upload.key, self.upload.bytes);
            return Err(ObjectsError::new(Reason::ChecksumMismatch, said));
        }
        Ok(content.bytes)
    }
}

/// An MP4 that is to be made of segments in the store.
#[derive(Debug)]
pub struct StoredMp4 {
    objects: Objects,
    prefix: String,
    number: u32,
    manifest: Manifest,
}

impl StoredMp4 {
    /// `manifest` is the one that the store holds. `None` when the recording has no such file.
    pub(super) async fn open(
        objects: Objects,
        manifest: &Upload,
        number: u32,
    ) -> Result<Option<StoredMp4>, ObjectsError> {
        let failed = |why: &dyn std::fmt::Display| {
            ObjectsError::new(Reason::Failed, format!("{} cannot be read from the store ({why})", manifest.key))
        };
        let content = objects.get(&manifest.key, None).await?;
        let text = content.collect(LONGEST_MANIFEST).await.map_err(|error| failed(&error))?;
        let prefix = manifest.key.strip_suffix(&File::Manifest.to_string()).unwrap_or_default().to_owned();
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        let there =
            number == 1 || manifest.exports.iter().any(|export| export.file == File::Export(number).to_string());
        Ok(there.then_some(StoredMp4 { objects, prefix, number, manifest }))
    }

    /// Bytes and digest, when it was made once.
    pub fn known(&self) -> Option<(u64, &str)> {
        let name = File::Export(self.number).to_string();
        let export = self.manifest.exports.iter().find(|export| export.file == name)?;
        Some((export.bytes, &export.sha256))
    }

    /// Makes it, as fast as it is taken. Its index stands in front, so all segments are read before the first byte comes.
    pub fn make(self) -> BoxStream<'static, io::Result<Bytes>> {
        // Not before somebody wants it: HEAD does not.
        stream::once(async move { self.start() }).flatten().boxed()
    }

    fn start(self) -> BoxStream<'static, io::Result<Bytes>> {
        let (chunks, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let Ok(_turn) = MAKING.acquire().await else { return };
            let runtime = Handle::current();
            let made = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.write(&runtime, &Chunks(chunks.clone())) {
                    tracing::warn!(prefix = self.prefix, %error, "an MP4 cannot be made of what is in the store");
                    // Who has hung up need not be told.
                    let _ = chunks.blocking_send(Err(error));
                }
            });
            let _ = made.await;
        });
        let next = |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        };
        stream::unfold(receiver, next).boxed()
    }

    fn write(&self, runtime: &Handle, out: &Chunks) -> io::Result<()> {
        let lengths = self.manifest.inits.iter().map(|init| (&init.file, init.bytes));
        let lengths: Vec<_> = lengths.chain(self.manifest.segments.iter().map(|s| (&s.file, s.bytes))).collect();
        let open = |name: &str| {
            if out.0.is_closed() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let known = lengths.iter().find(|(file, _)| *file == name).ok_or(io::ErrorKind::NotFound)?;
            Ok(RemoteReader::new(&self.objects, runtime, format!("{}{name}", self.prefix), known.1))
        };
        let mp4s = Mp4s::read(&self.manifest, open).map_err(io::Error::other)?;
        let mut out = BufWriter::with_capacity(CHUNK, out);
        mp4s.write(self.number, open, &mut out).map_err(io::Error::other)?;
        out.flush()
    }
}

struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Write for &Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
