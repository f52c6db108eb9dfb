//! One process to a folder: a second one would end the streams of the first in the registry, and repair recordings that
//! still grow.
//!
//! The lock is the kernel's (flock(2)), so it is gone with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// Stays in the folder; it is the lock on it that counts.
const FILE_NAME: &str = ".lock";

/// A folder that is this process's until this is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the folder; `None` when another process has it. Where the file system has no locks, nobody is kept out.
    pub(crate) fn take(folder: &Path) -> io::Result<Option<FolderLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(FILE_NAME))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(folder = %folder.display(), %error, "the folder cannot be locked: let no second server use it");
            }
        }
        Ok(Some(FolderLock { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_processs_until_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap().unwrap();
        assert!(FolderLock::take(folder.path()).unwrap().is_none());
        drop(first);
        assert!(FolderLock::take(folder.path()).unwrap().is_some());
    }
}
