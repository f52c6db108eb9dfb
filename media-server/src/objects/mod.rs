//! Objects in a bucket: the few requests of the S3 API that recordings need.
//!
//! It works with any store that speaks S3, so it asks for little: single PUTs, no multipart, no tags, no locks. Checksums
//! are pinned: what is put carries its SHA-256, once as the signed `x-amz-content-sha256` and once as
//! `x-amz-checksum-sha256`, so that a store keeps what we hashed or refuses; nothing else is added to requests, since older
//! stores refuse newer checksums. Keys are relative to the session's prefix; nothing outside of it can be named,
//! and a marker there names the one server that writes (`owner`).
//!
//! Nothing is retried here but short reads, once: who uploads has a journal and a pace of its own. Every request has a
//! time limit. Rules: the S3 API reference (PutObject, HeadObject, GetObject, ListObjectsV2, DeleteObjects).

mod client;
mod credentials;
mod digest;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod owner;
#[cfg(test)]
mod reach;
mod read;
mod reader;
#[cfg(test)]
mod tests;
mod url;
mod write;

pub use client::{AuthoritiesError, read_authorities};
pub use digest::{Digest, Digesting};
pub use error::{ObjectsError, Reason};
pub use read::{Content, Head, Listed, Page, Unfinished};
pub use reader::RemoteReader;
pub use write::Source;

use crate::config::StoreConfig;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use credentials::{EnvironmentCredentials, FileCredentials};
use error::Place;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use streamsession_api::StorageMode;
use url::{KeepUrl, identity, printable, with_url};

/// For a connection to stand, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// For a small request to be answered, and for the next bytes of an object.
const ANSWER: Duration = Duration::from_secs(30);
/// Slower than so many bytes a second, a transfer is given up.
const SLOWEST: u64 = 32 << 10;

/// A bucket, seen from a session's prefix on. A cheap handle.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    /// Tries once.
    client: Client,
    /// Tries short reads a second time.
    reader: Client,
    place: Place,
    identity: String,
    /// Other servers may write to the store.
    shared: bool,
    bucket: String,
    prefix: String,
    create_bucket: bool,
    answer: Duration,
}

impl Objects {
    /// Makes a handle; asks the store nothing yet.
    pub fn connect(config: &StoreConfig) -> Objects {
        Objects::with_patience(config, ANSWER)
    }

    /// With another time limit for small requests.
    pub(crate) fn with_patience(config: &StoreConfig, answer: Duration) -> Objects {
        let http = client::of_store(config);
        let region = Region::new(config.region.clone());
        let behavior = BehaviorVersion::v2026_01_12();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
        let builder = aws_sdk_s3::Config::builder()
            .behavior_version(behavior)
            .http_client(http)
            .region(region.clone())
            .endpoint_url(with_slash(&config.endpoint))
            .interceptor(KeepUrl)
            .force_path_style(config.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        let builder = match &config.credentials_dir {
            // Kept by nobody: a new key is in force with the next request.
            Some(folder) => {
                builder.credentials_provider(FileCredentials::new(folder)).identity_cache(IdentityCache::no_cache())
            }
            None => {
                let http = client::of_credentials(config);
                let settings = ProviderConfig::default().with_region(Some(region)).with_http_client(http);
                builder.credentials_provider(EnvironmentCredentials::new(settings))
            }
        };
        let settings = builder.build();
        let twice = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200));
        let reader = settings.to_builder().retry_config(twice).build();
        Objects(Arc::new(Inner {
            client: Client::from_conf(settings),
            reader: Client::from_conf(reader),
            place: Place { endpoint: printable(&config.endpoint), bucket: config.bucket.clone() },
            identity: identity(config),
            shared: config.mode == StorageMode::External,
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            create_bucket: config.create_bucket,
            answer,
        }))
    }

    /// Returns the name of this store and prefix, the same however the endpoint is written.
    pub fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Returns whether other servers may write to the store, so that the prefix has an owner's marker.
    pub fn is_shared(&self) -> bool {
        self.0.shared
    }

    /// The whole key of one that is relative to the prefix.
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.0.prefix)
    }

    /// Waits for a small request, but not for long.
    async fn ask<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        on_404: Reason,
    ) -> Result<T, ObjectsError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.ask_within(self.0.answer, request, on_404).await
    }

    async fn ask_within<T, E>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        on_404: Reason,
    ) -> Result<T, ObjectsError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (answer, url) = with_url(tokio::time::timeout(limit, request)).await;
        let failed = match answer {
            Ok(answer) => answer.map_err(|error| ObjectsError::from_sdk(&self.0.place, error, on_404)),
            Err(_) => Err(ObjectsError::timed_out(&self.0.place)),
        };
        failed.map_err(|error| error.requested(url))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { place, bucket, prefix, .. } = &*self.0;
        f.debug_struct("Objects")
            .field("endpoint", &place.endpoint)
            .field("bucket", bucket)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

/// Returns an endpoint that ends with a slash. The client appends the bucket to the endpoint's path as it is, without a
/// separator.
fn with_slash(endpoint: &str) -> String {
    format!("{}/", endpoint.trim_end_matches('/'))
}
