//! What changes the bucket.

use super::error::{ObjectsError, Reason};
use super::{Digest, Objects, SLOWEST};
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration, Delete, ObjectIdentifier};
use bytes::Bytes;
use std::path::PathBuf;
use std::time::Duration;

/// Keys of one DeleteObjects.
const BATCH: usize = 1000;
/// Bytes of a file that are read at once.
const CHUNK: usize = 128 << 10;

/// What is to be put.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, which is streamed.
    File(PathBuf),
    /// What is in memory already.
    Bytes(Bytes),
}

impl Objects {
    /// Puts an object in one request. The store refuses what does not have this digest. To repeat it is harmless.
    pub async fn put(&self, key: &str, source: &Source, sha256: Digest) -> Result<(), ObjectsError> {
        let (body, bytes) = match source {
            Source::Bytes(bytes) => (ByteStream::from(bytes.clone()), bytes.len() as u64),
            Source::File(path) => {
                let failed = |error| ObjectsError::unreadable(path, error);
                let bytes = tokio::fs::metadata(path).await.map_err(failed)?.len();
                let stream = ByteStream::read_from().path(path).length(Length::Exact(bytes)).buffer_size(CHUNK);
                (stream.build().await.map_err(|error| ObjectsError::unreadable(path, error))?, bytes)
            }
        };
        let request = self
            .0
            .client
            .put_object()
            .bucket(&self.0.bucket)
            .key(self.key(key))
            .content_type(content_type(key))
            .content_length(i64::try_from(bytes).unwrap_or(i64::MAX))
            .checksum_sha256(sha256.base64())
            .body(body)
            .customize()
            .interceptor(Signed(sha256));
        let limit = self.0.answer + Duration::from_secs(bytes / SLOWEST);
        self.ask_within(limit, request.send(), Reason::NoSuchBucket).await.map(drop)
    }

    /// Deletes objects. One that is not there counts as deleted.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ObjectsError> {
        for keys in keys.chunks(BATCH) {
            match self.delete_batch(keys).await {
                Ok(()) => {}
                // Not every store can delete many at once.
                Err(error) if matches!(error.reason(), Reason::Refused | Reason::ChecksumMismatch) => {
                    tracing::debug!(%error, "objects are deleted one by one");
                    self.delete_each(keys).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(), ObjectsError> {
        let object = |key: &String| ObjectIdentifier::builder().key(self.key(key)).build().ok();
        let built = Delete::builder().set_objects(Some(keys.iter().filter_map(object).collect())).quiet(true).build();
        let delete = built.map_err(|error| ObjectsError::new(Reason::Refused, error.to_string()))?;
        let request = self.0.client.delete_objects().bucket(&self.0.bucket).delete(delete);
        let answer = self.ask(request.send(), Reason::NoSuchBucket).await?;
        let failed = answer.errors().iter().find(|error| error.code() != Some("NoSuchKey"));
        match failed {
            None => Ok(()),
            Some(error) => {
                let said = format!(
                    "{} did not delete {} ({}: {})",
                    self.0.place,
                    error.key().unwrap_or("an object"),
                    error.code().unwrap_or("unknown"),
                    error.message().unwrap_or_default(),
                );
                let denied = error.code() == Some("AccessDenied");
                Err(ObjectsError::new(if denied { Reason::AccessDenied } else { Reason::Failed }, said))
            }
        }
    }

    async fn delete_each(&self, keys: &[String]) -> Result<(), ObjectsError> {
        for key in keys {
            let request = self.0.client.delete_object().bucket(&self.0.bucket).key(self.key(key));
            match self.ask(request.send(), Reason::NotFound).await {
                Err(error) if error.reason() != Reason::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finds that the bucket is there, or makes it where that is ours to do.
    pub async fn ensure_bucket(&self) -> Result<(), ObjectsError> {
        match self.see_bucket().await {
            Err(error) if error.reason() == Reason::NoSuchBucket && self.0.create_bucket => {
                let region = self.0.client.config().region().map(ToString::to_string).unwrap_or_default();
                // AWS wants to be told of every region but its first; other stores mind none.
                let place = (region != "us-east-1").then(|| {
                    let region = BucketLocationConstraint::from(region.as_str());
                    CreateBucketConfiguration::builder().location_constraint(region).build()
                });
                let request = self.0.client.create_bucket().bucket(&self.0.bucket);
                let request = request.set_create_bucket_configuration(place);
                match self.ask(request.send(), Reason::NoSuchBucket).await {
                    Ok(_) => {
                        tracing::info!(bucket = self.0.bucket, store = %self.0.place, "bucket made");
                        Ok(())
                    }
                    // Somebody else may have been quicker.
                    Err(error) => self.see_bucket().await.map_err(|_| error),
                }
            }
            answer => answer,
        }
    }

    /// By the shortest of lists: unlike HEAD, what is refused here comes with a reason.
    async fn see_bucket(&self) -> Result<(), ObjectsError> {
        let request = self.0.client.list_objects_v2().bucket(&self.0.bucket).prefix(self.key("")).max_keys(1);
        self.ask(request.send(), Reason::NoSuchBucket).await.map(drop)
    }

    /// Gives up an upload in parts that was never finished.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), ObjectsError> {
        let request =
            self.0.client.abort_multipart_upload().bucket(&self.0.bucket).key(self.key(key)).upload_id(upload);
        match self.ask(request.send(), Reason::NotFound).await {
            Err(error) if error.reason() != Reason::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn content_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, end)| end) {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("json") => "application/json",
        Some("m4s") => "video/iso.segment",
        Some("mp4") => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// Signs the digest that we know, so that the store must compare it, in place of "unsigned payload".
#[derive(Debug)]
pub(super) struct Signed(pub(super) Digest);

impl Intercept for Signed {
    fn name(&self) -> &'static str {
        "Signed"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        settings.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }
}
