//! HTTP clients for the store and for token services: certificate authorities and proxies.
//!
//! The store is trusted by the system's authorities, or by those of a file alone. The file is looked at with each request,
//! so that renewed certificates are in force without a restart; one that cannot be read leaves the last good ones in force.

use crate::auth::Secret;
use crate::config::StoreConfig;
use aws_sdk_s3::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Why a file has no certificates of authorities.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The system refused.
    #[error("it cannot be read ({0}); name a file with certificates in PEM")]
    Unreadable(#[from] io::Error),
    /// It holds something else.
    #[error("it has no certificate that can be read ({0}); write those of the authorities in PEM")]
    NoCertificate(String),
}

/// Reads a file with certificates of authorities. Each of them can be used.
pub fn read_authorities(path: &Path) -> Result<Vec<u8>, AuthoritiesError> {
    let text = fs::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| AuthoritiesError::NoCertificate(error.to_string()))?;
        roots.add(certificate).map_err(|error| AuthoritiesError::NoCertificate(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(AuthoritiesError::NoCertificate("it is empty".to_owned())),
        false => Ok(text),
    }
}

/// Returns a client for the store.
pub(super) fn of_store(config: &StoreConfig) -> SharedHttpClient {
    let secure = !config.endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let proxies = &config.proxies;
    let proxy = match secure {
        true => proxies.https.as_ref().and_then(|url| proxy(ProxyConfig::https, url, &proxies.direct)),
        false => proxies.http.as_ref().and_then(|url| proxy(ProxyConfig::http, url, &proxies.direct)),
    };
    match &config.ca_file {
        Some(path) if secure => SharedHttpClient::new(Watching::new(path, TrustStore::empty(), proxy)),
        // For plain HTTP no authorities are read, which an image without a system does not have.
        _ => client(secure.then(TrustStore::empty).map(|trust| trust.with_native_roots(true)), proxy),
    }
}

/// Returns a client for token services, and for those of the machine that are never reached by a proxy. A token service
/// may have its certificate from the store's authorities or from a public one.
pub(super) fn of_credentials(config: &StoreConfig) -> SharedHttpClient {
    let proxies = &config.proxies;
    let proxy = proxies.https.as_ref().and_then(|url| proxy(ProxyConfig::https, url, &proxies.direct));
    let trust = TrustStore::empty().with_native_roots(true);
    match &config.ca_file {
        Some(path) => SharedHttpClient::new(Watching::new(path, trust, proxy)),
        None => client(Some(trust), proxy),
    }
}

fn proxy(
    of: impl FnOnce(String) -> Result<ProxyConfig, aws_smithy_http_client::proxy::ProxyError>,
    url: &Secret,
    direct: &str,
) -> Option<ProxyConfig> {
    // It was checked when it was read.
    let url = String::from_utf8(url.expose().to_owned()).ok()?;
    of(url).ok().map(|proxy| proxy.no_proxy(direct))
}

/// Returns a client; without `trust` for plain HTTP alone.
fn client(trust: Option<TrustStore>, proxy: Option<ProxyConfig>) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(proxy.clone());
        let context = trust.clone().and_then(|trust| TlsContext::builder().with_trust_store(trust).build().ok());
        match context {
            Some(context) => connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build(),
            None => connector.build_http(),
        }
    })
}

/// A client that trusts the authorities of a file as it is now.
#[derive(Debug)]
struct Watching {
    path: PathBuf,
    /// Trusted in addition.
    trust: TrustStore,
    proxy: Option<ProxyConfig>,
    loaded: Mutex<(Option<Stamp>, SharedHttpClient)>,
}

/// Changes with a file.
type Stamp = (SystemTime, u64);

impl Watching {
    fn new(path: &Path, trust: TrustStore, proxy: Option<ProxyConfig>) -> Watching {
        // Nothing is trusted until the file is read, with the first request.
        let nothing = client(Some(trust.clone()), proxy.clone());
        Watching { path: path.to_owned(), trust, proxy, loaded: Mutex::new((None, nothing)) }
    }

    fn current(&self) -> SharedHttpClient {
        let stamp = fs::metadata(&self.path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && loaded.0 != stamp {
            loaded.0 = stamp;
            match read_authorities(&self.path) {
                Ok(text) => {
                    loaded.1 = client(Some(self.trust.clone().with_pem_certificate(text)), self.proxy.clone());
                    tracing::info!(file = %self.path.display(), "authorities of the store read");
                }
                Err(error) => {
                    tracing::error!(file = %self.path.display(), %error, "authorities of the store not read, those of before stay");
                }
            }
        }
        loaded.1.clone()
    }
}

impl HttpClient for Watching {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.current().http_connector(settings, components)
    }
}
