//! The object store of a session: the one in the pod, any elsewhere, or none; and how it is reached.
//!
//! Proxies follow `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl has them, in either case. The store in
//! the pod is never reached through one.

use super::{ConfigError, Environment, SessionDocument};
use crate::auth::Secret;
use std::path::PathBuf;
use streamsession_api::StorageMode;

/// An object store that speaks the S3 API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// `Managed` or `External`.
    pub mode: StorageMode,
    /// `http://` or `https://`, without a final slash.
    pub endpoint: String,
    /// That requests are signed for.
    pub region: String,
    /// That recordings go to.
    pub bucket: String,
    /// The bucket is in the path, not in the host name.
    pub path_style: bool,
    /// Start of every key: empty, or with a slash at its end.
    pub prefix: String,
    /// Holds `accessKeyId`, `secretAccessKey` and, for keys of limited time, `sessionToken`; `None`: the environment's own
    /// identity (`AWS_*`).
    pub credentials_dir: Option<PathBuf>,
    /// Certificates (PEM) of the authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// Make the bucket when it is missing.
    pub create_bucket: bool,
}

/// Files that belong to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFiles {
    /// See [`StoreConfig::credentials_dir`].
    pub credentials_dir: Option<PathBuf>,
    /// See [`StoreConfig::ca_file`].
    pub ca_file: Option<PathBuf>,
}

/// Proxies by the scheme of the request. Their URLs may have a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<Secret>,
    /// For `https://`.
    pub https: Option<Secret>,
    /// Hosts, domains and networks that are reached directly, with commas between them.
    pub direct: String,
}

/// Returns the store of a session.
pub fn store_of(
    session: &SessionDocument,
    files: StoreFiles,
    environment: &Environment,
) -> Result<Option<StoreConfig>, ConfigError> {
    let storage = &session.spec().storage;
    let StoreFiles { credentials_dir, ca_file } = files;
    let namespace = environment.pod_namespace.as_deref().or(session.namespace());
    Ok(match (storage.mode, &storage.external) {
        (StorageMode::Managed, _) if environment.in_cluster => Some(StoreConfig {
            mode: StorageMode::Managed,
            // In the server's own pod, unless this is another.
            endpoint: environment.store_endpoint.as_deref().map_or_else(
                || "http://127.0.0.1:9000".to_owned(),
                |endpoint| endpoint.trim().trim_end_matches('/').to_owned(),
            ),
            region: "us-east-1".to_owned(),
            bucket: "recordings".to_owned(),
            path_style: true,
            prefix: default_prefix(namespace, session.name()),
            credentials_dir,
            create_bucket: true,
            ..StoreConfig::default()
        }),
        (StorageMode::External, Some(external)) => Some(StoreConfig {
            mode: StorageMode::External,
            endpoint: external.endpoint.trim_end_matches('/').to_owned(),
            region: region_of(&external.endpoint, &external.region),
            bucket: external.bucket.clone(),
            path_style: external.path_style,
            prefix: match (&external.prefix, namespace, session.name()) {
                (Some(_), ..) => external.key_prefix("", ""),
                (None, namespace, name) => default_prefix(namespace, name),
            },
            credentials_dir,
            ca_file,
            proxies: environment.proxies()?,
            create_bucket: false,
        }),
        _ => None,
    })
}

fn default_prefix(namespace: Option<&str>, name: Option<&str>) -> String {
    match (namespace, name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}/"),
        _ => String::new(),
    }
}

/// Returns the region that requests to an endpoint are signed for: that in the name of one of AWS, else `region`.
pub(crate) fn region_of(endpoint: &str, region: &str) -> String {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let named = ["amazonaws.com.cn", "amazonaws.com"].iter().find_map(|domain| {
        let labels: Vec<_> = host.strip_suffix(domain)?.strip_suffix('.')?.split('.').collect();
        match labels[..] {
            ["s3" | "s3-fips", region] | [.., "s3" | "s3-fips", "dualstack", region] => Some(region.to_owned()),
            // A private endpoint.
            [.., "s3", region, "vpce"] => Some(region.to_owned()),
            [old] => old.strip_prefix("s3-").map(str::to_owned),
            _ => None,
        }
    });
    named.unwrap_or_else(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn store(spec: &str, variables: &[(&str, &str)]) -> Result<StoreConfig, ConfigError> {
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: door}}\nspec: {spec}\n"
        );
        let document = SessionDocument::parse("session.yaml".as_ref(), &text).unwrap();
        store_of(&document, StoreFiles::default(), &environment(variables)).map(Option::unwrap)
    }

    fn external(fields: &str) -> String {
        format!(
            "{{storage: {{mode: External, external: {{endpoint: \"https://s3.example.com/\", bucket: rec{fields}}}}}}}"
        )
    }

    #[test]
    fn prefix_is_the_spec_or_namespace_and_name() {
        let namespace = ("POD_NAMESPACE", "cams");
        assert_eq!(store(&external(""), &[]).unwrap().prefix, "", "as before, outside of a cluster");
        assert_eq!(store(&external(""), &[namespace]).unwrap().prefix, "cams/door/");
        for prefix in ["site-2/door", "site-2/door/"] {
            let found = store(&external(&format!(", prefix: {prefix}")), &[namespace]).unwrap();
            assert_eq!(found.prefix, "site-2/door/");
        }
    }

    #[test]
    fn proxies_are_those_of_the_environment() {
        let found =
            store(&external(""), &[("HTTPS_PROXY", "http://me:secret@proxy:3128"), ("no_proxy", ".svc")]).unwrap();
        assert_eq!(found.proxies.https, Some(Secret::new("http://me:secret@proxy:3128")));
        assert_eq!((found.proxies.http.as_ref(), found.proxies.direct.as_str()), (None, ".svc"));
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
        let found = store(&external(""), &[("all_proxy", "proxy:3128"), ("http_proxy", "http://other")]).unwrap();
        assert_eq!(found.proxies.https, Some(Secret::new("http://proxy:3128")));
        assert_eq!(found.proxies.http, Some(Secret::new("http://other")));
        for bad in ["socks5://proxy:1080", "http://", "http:// proxy"] {
            let error = store(&external(""), &[("https_proxy", bad)]).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && error.contains("http://HOST:PORT"), "{error}");
        }
        let managed = store("{}", &[("KUBERNETES_SERVICE_HOST", "x"), ("HTTP_PROXY", "http://proxy")]).unwrap();
        assert_eq!(managed.proxies, Proxies::default(), "it is in the pod");
    }

    #[test]
    fn region_is_read_from_endpoints_of_aws() {
        for (endpoint, region) in [
            ("https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
            ("https://s3-eu-west-1.amazonaws.com/", "eu-west-1"),
            ("https://s3.dualstack.eu-west-1.amazonaws.com:443", "eu-west-1"),
            ("https://s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
            ("https://s3.amazonaws.com", "given"),
            ("https://s3.example.com", "given"),
            ("https://s3.eu-west-1.amazonaws.com.example.com", "given"),
        ] {
            assert_eq!(region_of(endpoint, "given"), region, "{endpoint}");
        }
    }
}
