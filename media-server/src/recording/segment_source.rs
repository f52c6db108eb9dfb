//! Reads files of recordings from wherever they are: the disk, or the object store.

use super::library::in_another_store;
use super::shared::Shared;
use crate::control::RecordingId;
use crate::objects::{Objects, ObjectsError};
use crate::store::{StoreError, Upload};
use bytes::Bytes;
use recorder::File;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;

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
                let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
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
