//! What only looks.

use super::error::{ObjectsError, Reason};
use super::{Digest, Objects};
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;

/// What the store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes.
    pub len: u64,
    /// By the store's own reckoning; `None` when it keeps none.
    pub sha256: Option<Digest>,
    /// Changes with the contents.
    pub etag: Option<String>,
}

/// An object's bytes.
pub struct Content {
    /// Bytes of the whole object.
    pub len: u64,
    /// Changes with the contents.
    pub etag: Option<String>,
    /// What was asked for. An end before its time is an error.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("len", &self.len).field("etag", &self.etag).finish_non_exhaustive()
    }
}

impl Content {
    /// All of it; an error when it is longer than `most` bytes.
    pub async fn collect(mut self, most: usize) -> io::Result<Bytes> {
        let mut all = Vec::new();
        while let Some(bytes) = self.bytes.next().await {
            all.extend_from_slice(&bytes?);
            if all.len() > most {
                return Err(io::Error::other(format!("the object has more than {most} bytes")));
            }
        }
        Ok(all.into())
    }
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the prefix of the session.
    pub key: String,
    /// Bytes.
    pub len: u64,
    /// When it was put, by the store's clock.
    pub modified: Option<Timestamp>,
}

/// Some of a list, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most a thousand.
    pub objects: Vec<Listed>,
    /// Asks for what follows; `None` at the end.
    pub next: Option<String>,
}

/// An upload in parts that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Relative to the prefix of the session.
    pub key: String,
    /// For [`Objects::abort`].
    pub upload: String,
    /// When it was begun, by the store's clock.
    pub begun: Option<Timestamp>,
}

impl Objects {
    /// What the store says of an object.
    pub async fn head(&self, key: &str) -> Result<Head, ObjectsError> {
        let request = self.0.reader.head_object().bucket(&self.0.bucket).key(self.key(key));
        let answer = self.ask(request.checksum_mode(ChecksumMode::Enabled).send(), Reason::NotFound).await?;
        Ok(Head {
            len: unsigned(answer.content_length()),
            sha256: answer.checksum_sha256().and_then(Digest::from_base64),
            etag: answer.e_tag().map(str::to_owned),
        })
    }

    /// An object, or a part of it. A range that begins beyond its end is refused.
    pub async fn get(&self, key: &str, range: Option<RangeInclusive<u64>>) -> Result<Content, ObjectsError> {
        let asked = range.as_ref().map(|range| format!("bytes={}-{}", range.start(), range.end()));
        let request = self.0.reader.get_object().bucket(&self.0.bucket).key(self.key(key)).set_range(asked);
        let answer = self.ask(request.send(), Reason::NotFound).await?;
        let given = unsigned(answer.content_length());
        let whole = answer.content_range().and_then(|text| text.rsplit_once('/')?.1.parse().ok()).unwrap_or(given);
        let patience = self.0.answer;
        let state = (answer.body, given);
        let bytes = stream::try_unfold(state, move |(mut body, left)| async move {
            match tokio::time::timeout(patience, body.next()).await {
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the store stopped in the middle of an object")),
                Ok(Some(Ok(bytes))) => {
                    let left = left.saturating_sub(bytes.len() as u64);
                    Ok(Some((bytes, (body, left))))
                }
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Ok(None) if left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(None) => Ok(None),
            }
        });
        Ok(Content { len: whole, etag: answer.e_tag, bytes: bytes.boxed() })
    }

    /// The objects whose keys begin so, from where an earlier page ended.
    pub async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, ObjectsError> {
        let request = self.0.reader.list_objects_v2().bucket(&self.0.bucket).prefix(self.key(prefix));
        let request = request.set_continuation_token(from.map(str::to_owned));
        let answer = self.ask(request.send(), Reason::NoSuchBucket).await?;
        let listed = |object: &aws_sdk_s3::types::Object| {
            let key = object.key()?.strip_prefix(&self.0.prefix)?.to_owned();
            Some(Listed { key, len: unsigned(object.size()), modified: object.last_modified().and_then(time) })
        };
        Ok(Page {
            objects: answer.contents().iter().filter_map(listed).collect(),
            next: answer.next_continuation_token().filter(|_| answer.is_truncated() == Some(true)).map(str::to_owned),
        })
    }

    /// All objects whose keys begin so.
    pub async fn list_all(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        let mut all = Vec::new();
        let mut from = None;
        loop {
            let page = self.list(prefix, from.as_deref()).await?;
            all.extend(page.objects);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Uploads in parts that were begun and not finished: at most a thousand. This program begins none.
    pub async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, ObjectsError> {
        let request = self.0.reader.list_multipart_uploads().bucket(&self.0.bucket).prefix(self.key(prefix));
        let answer = self.ask(request.send(), Reason::NoSuchBucket).await?;
        let one = |upload: &aws_sdk_s3::types::MultipartUpload| {
            Some(Unfinished {
                key: upload.key()?.strip_prefix(&self.0.prefix)?.to_owned(),
                upload: upload.upload_id()?.to_owned(),
                begun: upload.initiated().and_then(time),
            })
        };
        Ok(answer.uploads().iter().filter_map(one).collect())
    }
}

fn unsigned(len: Option<i64>) -> u64 {
    len.and_then(|len| u64::try_from(len).ok()).unwrap_or(0)
}

fn time(at: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}
