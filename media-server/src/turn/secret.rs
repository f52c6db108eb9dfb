//! The secret that server and relay share, as files: `secret`, and `secret.previous` while an older one is still good.
//!
//! Both sides read the same folder, but not at the same moment, so after a change the server goes on with the older
//! secret for a while: by then the relay knows the new one. The time is that of the file, so nothing has to be
//! remembered; what a kubelet puts in place of a Secret's old files is new.

use crate::auth::{Secret, key};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Name of the file with the secret.
const CURRENT: &str = "secret";
/// Name of the file with the one before, which need not be there.
const PREVIOUS: &str = "secret.previous";

/// For so long after a change the older secret is used: longer than the relay takes to notice.
const SETTLING: Duration = Duration::from_secs(10);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SharedSecretError {
    /// A file cannot be read.
    #[error("cannot read the secret of the relay in {}: {source}; make it a file that this user can read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is empty, or no line of text.
    #[error(
        "the secret of the relay in {} must be one line of text without control characters: openssl rand -hex 32 makes one",
        path.display()
    )]
    Unusable {
        /// Which.
        path: PathBuf,
    },
}

/// What is in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSecret {
    /// The newest.
    pub current: Secret,
    /// The one before, as long as it is good.
    pub previous: Option<Secret>,
    /// When the newest was put there.
    pub since: SystemTime,
}

impl SharedSecret {
    /// Reads the folder. A final newline does not count; relays take it as text, so control characters are refused.
    pub fn read(folder: &Path) -> Result<SharedSecret, SharedSecretError> {
        let path = folder.join(CURRENT);
        let current = read(&path)?
            .ok_or_else(|| SharedSecretError::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() })?;
        let since = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let since = since.map_err(|source| SharedSecretError::Read { path, source })?;
        let previous = read(&folder.join(PREVIOUS))?.filter(|previous| *previous != current);
        Ok(SharedSecret { current, previous, since })
    }

    /// The secret to make credentials from at this time.
    pub fn to_issue(&self, now: SystemTime) -> &Secret {
        // A clock that was set back must not keep the old one in use.
        let settling = now.duration_since(self.since).is_ok_and(|age| age < SETTLING);
        self.previous.as_ref().filter(|_| settling).unwrap_or(&self.current)
    }
}

fn read(path: &Path) -> Result<Option<Secret>, SharedSecretError> {
    let secret = match key::read(path) {
        Ok(secret) => secret,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SharedSecretError::Read { path: path.to_owned(), source }),
    };
    let text = std::str::from_utf8(secret.expose());
    if text.is_ok_and(|text| !text.is_empty() && !text.chars().any(char::is_control)) {
        Ok(Some(secret))
    } else {
        Err(SharedSecretError::Unusable { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(current: &[u8], previous: Option<&[u8]>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CURRENT), current).unwrap();
        if let Some(previous) = previous {
            fs::write(folder.path().join(PREVIOUS), previous).unwrap();
        }
        folder
    }

    #[test]
    fn after_a_change_the_older_secret_is_used_until_the_relay_knows_the_new_one() {
        let folder = folder(b"new\n", Some(b"old\n"));
        let secret = SharedSecret::read(folder.path()).unwrap();
        assert_eq!(secret.to_issue(secret.since), &Secret::new("old"));
        assert_eq!(secret.to_issue(secret.since + SETTLING), &Secret::new("new"));
        assert_eq!(secret.to_issue(secret.since - SETTLING), &Secret::new("new"), "a clock that was set back");
    }

    #[test]
    fn without_an_older_secret_the_new_one_is_used_at_once() {
        for previous in [None, Some(&b"new"[..])] {
            let folder = folder(b"new", previous);
            let secret = SharedSecret::read(folder.path()).unwrap();
            assert_eq!(secret.previous, None);
            assert_eq!(secret.to_issue(secret.since), &Secret::new("new"));
        }
    }

    #[test]
    fn what_is_missing_or_no_text_is_refused_with_its_path_and_not_shown() {
        for (current, previous) in
            [(&b""[..], None), (b"\n", None), (b"a\0b", None), (b"\xff", None), (b"a", Some(&b"b\nc"[..]))]
        {
            let folder = folder(current, previous);
            let text = SharedSecret::read(folder.path()).unwrap_err().to_string();
            assert!(text.contains(folder.path().to_str().unwrap()) && text.contains("openssl"), "{text}");
        }
        let empty = tempfile::tempdir().unwrap();
        let text = SharedSecret::read(empty.path()).unwrap_err().to_string();
        assert!(text.contains(empty.path().join(CURRENT).to_str().unwrap()), "{text}");
    }
}
