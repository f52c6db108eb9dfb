//! The bearer token of the management routes: a file that somebody else writes and changes, such as a mounted Secret.
//!
//! The file beside it whose name ends with `.previous` is taken too, so that a token can be changed without a moment at
//! which writer and reader disagree. Tokens are compared by their digests and in constant time: neither their bytes nor
//! their length can be found out by measuring. Nothing here shows a token.

use super::{Secret, key};
use ring::digest::{SHA256, digest};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq as _};

/// The fewest bytes of a token.
const MIN_TOKEN: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be read.
    #[error("cannot read the token for management in {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the file is no token.
    #[error("the token for management in {} has {length} bytes, and {MIN_TOKEN} are the fewest", path.display())]
    Short {
        /// Which.
        path: PathBuf,
        /// How many there are.
        length: usize,
    },
}

/// The tokens that are taken now. A cheap handle.
#[derive(Clone)]
pub struct AdminTokens(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Digests; the current one first.
    tokens: RwLock<Vec<[u8; 32]>>,
}

impl AdminTokens {
    /// Reads the file, and the previous one if it is there.
    pub fn read(path: &Path) -> Result<AdminTokens, AdminTokenError> {
        let tokens = RwLock::new(read_both(path)?);
        Ok(AdminTokens(Arc::new(Inner { path: path.to_owned(), tokens })))
    }

    /// Reads both again. What cannot be read now changes nothing: a file that is being replaced is not there for a moment.
    pub fn refresh(&self) -> Result<(), AdminTokenError> {
        let tokens = read_both(&self.0.path)?;
        let mut known = self.0.tokens.write().unwrap_or_else(PoisonError::into_inner);
        if *known != tokens {
            tracing::info!(path = %self.0.path.display(), "the token for management has changed");
            *known = tokens;
        }
        Ok(())
    }

    /// Whether it is one of them.
    pub fn accepts(&self, token: &str) -> bool {
        let given = hash(token.as_bytes());
        let known = self.0.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let equal = known.iter().fold(Choice::from(0), |equal, token| equal | token.ct_eq(&given));
        equal.into()
    }
}

fn read_both(path: &Path) -> Result<Vec<[u8; 32]>, AdminTokenError> {
    let current = key::read(path).map_err(|source| AdminTokenError::Read { path: path.to_owned(), source })?;
    let mut tokens = vec![checked(current, path)?];
    let path = previous(path);
    match key::read(&path) {
        // Nothing in it, nothing taken.
        Ok(secret) if secret.expose().is_empty() => {}
        Ok(secret) => tokens.push(checked(secret, &path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(AdminTokenError::Read { path, source }),
    }
    Ok(tokens)
}

fn previous(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".previous");
    PathBuf::from(name)
}

fn checked(secret: Secret, path: &Path) -> Result<[u8; 32], AdminTokenError> {
    match secret.expose().len() {
        MIN_TOKEN.. => Ok(hash(secret.expose())),
        length => Err(AdminTokenError::Short { path: path.to_owned(), length }),
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ONE: &str = "one-0123456789abcdef0123456789abcdef";
    const TWO: &str = "two-0123456789abcdef0123456789abcdef";

    #[test]
    fn the_token_and_the_one_before_are_taken_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, format!("{ONE}\n")).unwrap();
        let tokens = AdminTokens::read(&path).unwrap();
        assert!(tokens.accepts(ONE));
        for other in ["", TWO, &ONE[1..], &format!("{ONE} "), &format!("{ONE}\n")] {
            assert!(!tokens.accepts(other), "{other:?}");
        }
        fs::write(folder.path().join("token.previous"), ONE).unwrap();
        fs::write(&path, TWO).unwrap();
        tokens.refresh().unwrap();
        assert!(tokens.accepts(ONE) && tokens.accepts(TWO));
        fs::remove_file(folder.path().join("token.previous")).unwrap();
        tokens.refresh().unwrap();
        assert!(!tokens.accepts(ONE) && tokens.accepts(TWO));
        fs::write(folder.path().join("token.previous"), "").unwrap();
        tokens.refresh().unwrap();
        assert!(!tokens.accepts(""), "an empty file is no token");
    }

    #[test]
    fn a_file_that_is_gone_or_cut_changes_nothing_and_is_said_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(AdminTokens::read(&path), Err(AdminTokenError::Read { .. })));
        fs::write(&path, ONE).unwrap();
        let tokens = AdminTokens::read(&path).unwrap();
        fs::write(&path, "hunter2").unwrap();
        let text = tokens.refresh().unwrap_err().to_string();
        assert!(text.contains("7 bytes") && !text.contains("hunter2"), "{text}");
        fs::remove_file(&path).unwrap();
        assert!(tokens.refresh().is_err() && tokens.accepts(ONE));
    }
}
