//! The URL of a request, for messages: scheme, host, bucket and key as they were sent.
//!
//! It is taken before the request is signed, without its query and user information, so that neither credentials nor
//! signatures are in it.

use crate::config::StoreConfig;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use std::cell::RefCell;
use streamsession_api::StorageMode;

tokio::task_local! {
    static REQUESTED: RefCell<Option<String>>;
}

/// Runs a request. Returns its method and URL too, once it had one.
pub(super) async fn with_url<T>(request: impl Future<Output = T>) -> (T, Option<String>) {
    REQUESTED.scope(RefCell::default(), async { (request.await, REQUESTED.with(RefCell::take)) }).await
}

/// Keeps the URL of each request of a client for [`with_url`].
#[derive(Debug)]
pub(super) struct KeepUrl;

impl Intercept for KeepUrl {
    fn name(&self) -> &'static str {
        "KeepUrl"
    }

    fn read_before_signing(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let requested = format!("{} {}", context.request().method(), printable(context.request().uri()));
        // Outside of `with_url` no message needs it.
        let _ = REQUESTED.try_with(|kept| *kept.borrow_mut() = Some(requested));
        Ok(())
    }
}

/// Returns a URL without its query and user information.
pub(super) fn printable(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Returns the name of a store and prefix: a URL with scheme, host, bucket and prefix. The one of the store in the pod starts
/// with `managed:`, since its objects are on the server's own volume.
pub(super) fn identity(config: &StoreConfig) -> String {
    let StoreConfig { bucket, prefix, .. } = config;
    if config.mode == StorageMode::Managed {
        return format!("managed:/{bucket}/{prefix}");
    }
    let url = printable(&config.endpoint);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.to_ascii_lowercase();
    let usual = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(usual).unwrap_or(&host);
    format!("{scheme}://{host}{}/{bucket}/{prefix}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_ignores_how_an_endpoint_is_written() {
        let config = |mode, endpoint: &str, prefix: &str| StoreConfig {
            mode,
            endpoint: endpoint.to_owned(),
            bucket: "b".to_owned(),
            prefix: prefix.to_owned(),
            ..StoreConfig::default()
        };
        let of = |endpoint: &str| identity(&config(StorageMode::External, endpoint, "cams/door/"));
        for same in ["https://S3.example.com", "HTTPS://s3.example.com:443/", "https://me:secret@s3.example.com"] {
            assert_eq!(of(same), "https://s3.example.com/b/cams/door/", "{same}");
        }
        for other in ["http://s3.example.com", "https://s3.example.com:9000", "https://s3.example.com/s3"] {
            assert_ne!(of(other), of("https://s3.example.com"), "{other}");
        }
        let managed = config(StorageMode::Managed, "http://127.0.0.1:9000", "cams/door/");
        assert_eq!(identity(&managed), "managed:/b/cams/door/");
    }

    #[test]
    fn printable_url_has_no_query_or_user() {
        for (url, expected) in [
            ("http://s3:9000/b/k?x-id=PutObject&X-Amz-Signature=00", "http://s3:9000/b/k"),
            ("https://user:pass@s3.example.com/b/k@2", "https://s3.example.com/b/k@2"),
            ("https://user:pass@s3.example.com", "https://s3.example.com"),
            ("http://[::1]:9000/b/a%20key", "http://[::1]:9000/b/a%20key"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(printable(url), expected);
        }
    }
}
