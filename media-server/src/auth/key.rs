//! The secret that tokens are signed with, as a file: read, and made where nobody gave one.
//!
//! RFC 7518 §3.2: a key for HS256 has at least the size of the hash. A made one is 32 random bytes as 64 hexadecimal
//! digits and a newline, as `openssl rand -hex 32` prints them; the digits are the key. The file is made exclusively,
//! readable by its owner alone, and on the disk before any token is signed with it. Nothing here shows a secret.

use super::Secret;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The fewest bytes that a secret has.
pub const MIN_SECRET: usize = 32;

/// The name of a made secret in the data folder.
pub const FILE_NAME: &str = "jwt.secret";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(
        "cannot read the secret for tokens in {}: {source}; give the server's user permission to read it, or name \
         another by --jwt-secret-file",
        path.display()
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error(
        "cannot make a secret for tokens in {}: {source}; make the folder writable, or give a secret by \
         --jwt-secret-file",
        path.display()
    )]
    Make {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the file is no secret.
    #[error(
        "the secret for tokens in {} has {length} bytes, and HS256 needs at least {MIN_SECRET}: remove the file, and \
         the next start makes a new one (tokens signed with the old one are refused then)",
        path.display()
    )]
    Short {
        /// Which.
        path: PathBuf,
        /// How many there are.
        length: usize,
    },
}

/// Reads a file's secret; one final newline is not part of it.
pub fn read(path: &Path) -> io::Result<Secret> {
    let mut bytes = fs::read(path)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(Secret::new(bytes))
}

/// The secret in `path`, made when it is not there. The caller has locked the folder, so that an empty file is what a
/// crash left between making and writing it.
pub fn read_or_make(path: &Path) -> Result<Secret, KeyError> {
    match read(path) {
        Ok(secret) if secret.expose().is_empty() => {
            fs::remove_file(path).map_err(|source| KeyError::Make { path: path.to_owned(), source })?;
            make(path)
        }
        Ok(secret) => {
            warn_if_shared(path);
            check(secret, path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(source) => Err(KeyError::Read { path: path.to_owned(), source }),
    }
}

fn check(secret: Secret, path: &Path) -> Result<Secret, KeyError> {
    match secret.expose().len() {
        MIN_SECRET.. => Ok(secret),
        length => Err(KeyError::Short { path: path.to_owned(), length }),
    }
}

fn make(path: &Path) -> Result<Secret, KeyError> {
    let write = || {
        let mut bytes = [0; 32];
        OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        let mut text = bytes.iter().fold(String::with_capacity(65), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        text.push('\n');
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
        if let Err(error) = written {
            // Half a secret is worse than none; when it cannot be removed either, the next start says so.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        text.pop();
        Ok(Secret::new(text))
    };
    write().map_err(|source| KeyError::Make { path: path.to_owned(), source })
}

/// The name is on the disk too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn warn_if_shared(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        let path = path.display();
        tracing::warn!(%path, "other users of this machine can read the secret for tokens: chmod 600 takes it from them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        (folder, path)
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone_and_read_back() {
        let (_folder, path) = folder();
        let made = read_or_make(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 64);
        assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(made.expose(), text.trim_end().as_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap(), made);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let (_other, elsewhere) = self::folder();
        assert_ne!(read_or_make(&elsewhere).unwrap(), made);
    }

    #[test]
    fn what_a_crash_left_empty_is_made_anew() {
        let (_folder, path) = folder();
        fs::write(&path, "").unwrap();
        assert_eq!(read_or_make(&path).unwrap().expose().len(), 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_secret_that_somebody_cut_is_refused_with_the_remedy_and_not_shown() {
        let (_folder, path) = folder();
        fs::write(&path, "hunter2\n").unwrap();
        let text = read_or_make(&path).unwrap_err().to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("7 bytes") && text.contains("remove"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "hunter2\n", "it is somebody's: it stays");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (folder, _) = folder();
        let path = folder.path().join("none").join(FILE_NAME);
        let text = read_or_make(&path).unwrap_err().to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("--jwt-secret-file"), "{text}");
    }
}
