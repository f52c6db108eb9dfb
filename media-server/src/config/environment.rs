//! The environment variables that the server knows, as they were given.

use super::{ConfigError, Proxies, TurnConfig, TurnCredentials};
use crate::auth::Secret;

/// Variables, not yet judged. An empty variable counts as absent, as it does in most charts.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `MEDIA_MODE`
    pub mode: Option<String>,
    /// `TURN_URLS`, separated by commas or spaces.
    pub turn_urls: Option<String>,
    /// `TURN_USERNAME`
    pub turn_username: Option<String>,
    /// `TURN_CREDENTIAL`
    pub turn_credential: Option<Secret>,
    /// `MEDIA_RECORDINGS_DIR`
    pub recordings_dir: Option<String>,
    /// `MEDIA_MAX_PUBLISHERS`
    pub max_publishers: Option<String>,
    /// `MEDIA_MAX_SUBSCRIBERS_PER_ROOM`
    pub max_subscribers_per_room: Option<String>,
    /// `MEDIA_JWT_SECRET`
    pub jwt_secret: Option<Secret>,
    /// `KUBERNETES_SERVICE_HOST` is there: the kubelet sets it in every pod.
    pub in_cluster: bool,
    /// `POD_IP`, by the downward API.
    pub pod_ip: Option<String>,
    /// `POD_NAMESPACE`, by the downward API.
    pub pod_namespace: Option<String>,
    /// `MEDIA_STORE_ENDPOINT`: where the store of storage.mode Managed answers, seen from another pod than its own.
    pub store_endpoint: Option<String>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, which may have a password, and `NO_PROXY`.
    pub(crate) http_proxy: Option<Secret>,
    pub(crate) https_proxy: Option<Secret>,
    pub(crate) all_proxy: Option<Secret>,
    pub(crate) no_proxy: Option<String>,
}

impl Environment {
    /// Asks `get` for each variable.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Environment {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let either = |name: &str| get(name).or_else(|| get(&name.to_ascii_lowercase()));
        Environment {
            mode: get("MEDIA_MODE"),
            turn_urls: get("TURN_URLS"),
            turn_username: get("TURN_USERNAME"),
            turn_credential: get("TURN_CREDENTIAL").map(Secret::new),
            recordings_dir: get("MEDIA_RECORDINGS_DIR"),
            max_publishers: get("MEDIA_MAX_PUBLISHERS"),
            max_subscribers_per_room: get("MEDIA_MAX_SUBSCRIBERS_PER_ROOM"),
            jwt_secret: get("MEDIA_JWT_SECRET").map(Secret::new),
            in_cluster: get("KUBERNETES_SERVICE_HOST").is_some(),
            pod_ip: get("POD_IP"),
            pod_namespace: get("POD_NAMESPACE"),
            store_endpoint: get("MEDIA_STORE_ENDPOINT"),
            http_proxy: either("HTTP_PROXY").map(Secret::new),
            https_proxy: either("HTTPS_PROXY").map(Secret::new),
            all_proxy: either("ALL_PROXY").map(Secret::new),
            no_proxy: either("NO_PROXY"),
        }
    }

    /// The variables of this process.
    pub fn of_process() -> Environment {
        Environment::read(|name| std::env::var(name).ok())
    }

    /// Whether `MEDIA_STORE_ENDPOINT`, if it is there, can be a store's.
    pub(crate) fn check_store_endpoint(&self) -> Result<(), ConfigError> {
        let host = |url: &str| Some(url.strip_prefix("https://").or(url.strip_prefix("http://"))?.to_owned());
        match &self.store_endpoint {
            Some(url) if host(url.trim()).is_none_or(|host| host.is_empty() || host.starts_with('/')) => {
                let remedy = "write a URL such as http://NAME-store.NAMESPACE.svc:9000";
                Err(ConfigError::value("MEDIA_STORE_ENDPOINT", url, remedy))
            }
            _ => Ok(()),
        }
    }

    /// Returns the proxies that the variables name.
    pub(crate) fn proxies(&self) -> Result<Proxies, ConfigError> {
        let one = |name: &str, own: &Option<Secret>| match own.as_ref().or(self.all_proxy.as_ref()) {
            Some(url) => proxy(name, url).map(Some),
            None => Ok(None),
        };
        Ok(Proxies {
            http: one("HTTP_PROXY", &self.http_proxy)?,
            https: one("HTTPS_PROXY", &self.https_proxy)?,
            direct: self.no_proxy.clone().unwrap_or_default(),
        })
    }

    /// The servers that the three TURN variables name.
    pub(super) fn turn(&self) -> Result<Option<TurnConfig>, ConfigError> {
        let credentials = match (&self.turn_username, &self.turn_credential) {
            (Some(username), Some(credential)) => Some((username.clone(), credential.clone())),
            (None, None) => None,
            (Some(username), None) => {
                return Err(ConfigError::value("TURN_USERNAME", username, "it needs TURN_CREDENTIAL beside it"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::value("TURN_CREDENTIAL", "(hidden)", "it needs TURN_USERNAME beside it"));
            }
        };
        let Some(text) = &self.turn_urls else {
            return match credentials {
                Some((username, _)) => {
                    Err(ConfigError::value("TURN_USERNAME", username, "it needs TURN_URLS beside it"))
                }
                None => Ok(None),
            };
        };
        let urls: Vec<String> =
            text.split([',', ' ', '\n']).map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        check_ice_urls("TURN_URLS", &urls)?;
        if credentials.is_none() && urls.iter().any(|url| url.starts_with("turn")) {
            let remedy = "browsers refuse a turn: URL without TURN_USERNAME and TURN_CREDENTIAL; give both";
            return Err(ConfigError::value("TURN_URLS", text, remedy));
        }
        let credentials = credentials
            .map_or(TurnCredentials::None, |(username, credential)| TurnCredentials::Fixed(username, credential));
        Ok(Some(TurnConfig { urls, credentials }))
    }
}

/// Returns a proxy's URL with its scheme. It is not shown, since it may have a password.
fn proxy(name: &str, url: &Secret) -> Result<Secret, ConfigError> {
    let remedy =
        "write http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ in front of the host if it needs them";
    let refused = || ConfigError::value(name, "(hidden)", remedy);
    let text = std::str::from_utf8(url.expose()).map_err(|_| refused())?.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(refused)?;
    match aws_smithy_http_client::proxy::ProxyConfig::all(text.as_str()) {
        Ok(_) if !host.is_empty() => Ok(Secret::new(text)),
        _ => Err(refused()),
    }
}

/// Checks the scheme and the characters of each URL, which will stand in a `Link` header.
pub(crate) fn check_ice_urls(field: &str, urls: &[String]) -> Result<(), ConfigError> {
    let remedy = "write turn:HOST:PORT?transport=udp, turns:HOST:PORT, stun:HOST:PORT or stuns:HOST:PORT";
    if urls.is_empty() {
        return Err(ConfigError::value(field, "", remedy));
    }
    for url in urls {
        let rest = url.split_once(':').filter(|(scheme, _)| ["turn", "turns", "stun", "stuns"].contains(scheme));
        let good = rest.is_some_and(|(_, rest)| {
            !rest.is_empty()
                && !rest.starts_with("//")
                && rest.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"".contains(&b))
        });
        if !good {
            return Err(ConfigError::value(field, url, remedy));
        }
    }
    Ok(())
}
