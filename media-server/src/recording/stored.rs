//! Files of a recording that lie in the object store and not here any more.
//!
//! Length and digest are the journal's, so that nothing is asked of the store before bytes are wanted.

use crate::objects::{Objects, ObjectsError, Reason};
use crate::store::Upload;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::io;
use std::ops::RangeInclusive;

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
