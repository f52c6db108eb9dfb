//! Reads files of recordings from wherever they are: the disk, or the object store.

use super::library::in_another_store;
use super::shared::Shared;
use crate::control::RecordingId;
use crate::objects::{Objects, ObjectsError};
use crate::store::{StoreError, Upload};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use recorder::File;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Bytes read from the disk at once.
const LOCAL_BLOCK: u64 = 64 << 10;
/// Bytes of one request to the object store: a reader that pauses holds so many, and no connection.
const STORE_BLOCK: u64 = 512 << 10;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Neither the disk nor the object store has it.
    #[error("neither the disk nor the object store has the file")]
    NotFound,
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The registry.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads files of recordings. A cheap handle.
#[derive(Clone)]
pub(super) struct SegmentSource(Arc<Shared>);

impl SegmentSource {
    pub(super) fn new(shared: Arc<Shared>) -> SegmentSource {
        SegmentSource(shared)
    }

    /// Reads all of a file of at most `most` bytes.
    pub(super) async fn whole(&self, recording: &RecordingId, file: File, most: u64) -> Result<Bytes, SourceError> {
        let too_long = |len: u64| io::Error::other(format!("{file} has {len} bytes, more than {most}"));
        match tokio::fs::File::open(self.0.folder(recording).join(file.to_string())).await {
            Ok(opened) => {
                let len = opened.metadata().await?.len();
                if len > most {
                    return Err(too_long(len).into());
                }
                let mut bytes = Vec::new();
                opened.take(most).read_to_end(&mut bytes).await?;
                Ok(bytes.into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (objects, upload) = self.stored(recording, file).await?;
                if upload.bytes > most {
                    return Err(too_long(upload.bytes).into());
                }
                let content = objects.get(&upload.key, None).await?;
                Ok(content.collect(usize::try_from(most).unwrap_or(usize::MAX)).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a range of a segment. An error ends the stream.
    pub(super) fn read(
        &self,
        recording: &RecordingId,
        number: u32,
        range: Range<u64>,
    ) -> BoxStream<'static, io::Result<Bytes>> {
        let state = Reader {
            source: self.clone(),
            recording: recording.clone(),
            file: File::Segment(number),
            range,
            place: None,
        };
        stream::try_unfold(state, |mut reader| async move {
            if reader.range.is_empty() {
                return Ok(None);
            }
            let bytes = reader.next().await.map_err(|error| match error {
                SourceError::Io(error) => error,
                other => io::Error::other(other),
            })?;
            Ok(Some((bytes, reader)))
        })
        .boxed()
    }

    /// Finds a file in the object store.
    pub(super) async fn stored(&self, recording: &RecordingId, file: File) -> Result<(Objects, Upload), SourceError> {
        let store = &self.0.store;
        let Some(uploads) = &self.0.uploads else {
            return Err(match store.stored(recording).await? {
                true => in_another_store(recording, "a store, and none is configured").into(),
                false => SourceError::NotFound,
            });
        };
        if let Some(place) = store.elsewhere(recording).await? {
            return Err(in_another_store(recording, &place).into());
        }
        let upload = store.verified_upload(recording, file).await?.ok_or(SourceError::NotFound)?;
        Ok((uploads.objects().clone(), upload))
    }
}

enum Place {
    Disk(tokio::fs::File),
    Store(Objects, String),
}

struct Reader {
    source: SegmentSource,
    recording: RecordingId,
    file: File,
    range: Range<u64>,
    place: Option<Place>,
}

impl Reader {
    async fn next(&mut self) -> Result<Bytes, SourceError> {
        let place = match self.place.take() {
            Some(place) => place,
            None => self.open().await?,
        };
        let left = self.range.end - self.range.start;
        let bytes = match place {
            Place::Disk(mut file) => {
                let mut bytes = BytesMut::zeroed(usize::try_from(left.min(LOCAL_BLOCK)).unwrap_or(usize::MAX));
                file.read_exact(&mut bytes).await?;
                self.place = Some(Place::Disk(file));
                bytes.freeze()
            }
            Place::Store(objects, key) => {
                let count = left.min(STORE_BLOCK);
                let range = self.range.start..=self.range.start + count - 1;
                let content = objects.get(&key, Some(range)).await?;
                let bytes = content.collect(usize::try_from(count).unwrap_or(usize::MAX)).await?;
                if bytes.len() as u64 != count {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                self.place = Some(Place::Store(objects, key));
                bytes
            }
        };
        self.range.start += bytes.len() as u64;
        Ok(bytes)
    }

    async fn open(&self) -> Result<Place, SourceError> {
        match tokio::fs::File::open(self.source.0.folder(&self.recording).join(self.file.to_string())).await {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(self.range.start)).await?;
                Ok(Place::Disk(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (objects, upload) = self.source.stored(&self.recording, self.file).await?;
                Ok(Place::Store(objects, upload.key))
            }
            Err(error) => Err(error.into()),
        }
    }
}
