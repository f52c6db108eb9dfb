//! Who we are to the store: two files that a Secret is mounted as, or what the environment gives.
//!
//! The files are read for every request, so that mended or rotated keys are in force at once. Only when no folder is
//! named is the environment asked: variables, profiles, web identity, and last the machine's metadata service.

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// Keys in the files `accessKeyId` and `secretAccessKey` (and `sessionToken`, where there is one) of a folder.
#[derive(Debug)]
pub(super) struct FileCredentials {
    folder: PathBuf,
}

/// Why there are no keys. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    #[error("cannot read {path}: {source}; the Secret needs the keys accessKeyId and secretAccessKey")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is empty; put the store's key into it")]
    Empty { path: PathBuf },
}

impl FileCredentials {
    pub(super) fn new(folder: &Path) -> FileCredentials {
        FileCredentials { folder: folder.to_owned() }
    }

    async fn load(&self) -> provider::Result {
        let id = self.read("accessKeyId").await.map_err(CredentialsError::provider_error)?;
        let secret = self.read("secretAccessKey").await.map_err(CredentialsError::provider_error)?;
        let token = self.read("sessionToken").await.ok();
        Ok(Credentials::new(id, secret, token, None, "files"))
    }

    async fn read(&self, name: &str) -> Result<String, KeyFileError> {
        let path = self.folder.join(name);
        match tokio::fs::read_to_string(&path).await {
            // Editors and `echo` end a file with a line break, which is no part of a key.
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => Err(KeyFileError::Empty { path }),
            Err(source) => Err(KeyFileError::Unreadable { path, source }),
        }
    }
}

impl ProvideCredentials for FileCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// What the environment gives. Asked for with the first request, not before.
pub(super) struct EnvironmentCredentials {
    settings: ProviderConfig,
    chain: OnceCell<DefaultCredentialsChain>,
}

impl EnvironmentCredentials {
    pub(super) fn new(settings: ProviderConfig) -> EnvironmentCredentials {
        EnvironmentCredentials { settings, chain: OnceCell::new() }
    }

    async fn load(&self) -> provider::Result {
        let make = || DefaultCredentialsChain::builder().configure(self.settings.clone()).build();
        self.chain.get_or_init(make).await.provide_credentials().await
    }
}

impl ProvideCredentials for EnvironmentCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

impl fmt::Debug for EnvironmentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentCredentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::fs;

    #[tokio::test]
    async fn keys_are_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = FileCredentials::new(folder.path());
        let error = credentials.provide_credentials().await.unwrap_err();
        let text = error.source().unwrap().to_string();
        assert!(text.contains("accessKeyId") && text.contains("Secret"), "{text}");
        fs::write(folder.path().join("accessKeyId"), "me\n").unwrap();
        fs::write(folder.path().join("secretAccessKey"), " \n").unwrap();
        let error = credentials.provide_credentials().await.unwrap_err();
        assert!(error.source().unwrap().to_string().contains("is empty"), "{error}");
        fs::write(folder.path().join("secretAccessKey"), "first").unwrap();
        assert_eq!(credentials.provide_credentials().await.unwrap().secret_access_key(), "first");
        fs::write(folder.path().join("secretAccessKey"), "second").unwrap();
        let keys = credentials.provide_credentials().await.unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("me", "second"));
        assert!(!format!("{keys:?}").contains("second"), "a secret stays out of logs");
    }
}
