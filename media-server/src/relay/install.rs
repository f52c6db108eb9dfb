//! Copies this program into a folder that another container has too, whose image knows nothing of it.

use super::error::RelayError;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const NAME: &str = "media-server";

/// Puts this program there, for all to run; a reader sees the old one or the whole new one. Gives its path.
pub(super) fn install(folder: &Path) -> Result<PathBuf, RelayError> {
    let path = folder.join(NAME);
    let beside = folder.join(format!(".{NAME}.{}", std::process::id()));
    let copy = || {
        let program = std::env::current_exe()?;
        fs::create_dir_all(folder)?;
        let copied = io::copy(&mut File::open(program)?, &mut File::create(&beside)?)
            .and_then(|_| fs::set_permissions(&beside, Permissions::from_mode(0o755)))
            .and_then(|()| File::open(&beside)?.sync_all())
            .and_then(|()| fs::rename(&beside, &path));
        if copied.is_err() {
            let _ = fs::remove_file(&beside);
        }
        copied
    };
    match copy() {
        Ok(()) => Ok(path),
        Err(source) => Err(RelayError::Install { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_this_program_and_can_be_run_even_over_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("shared");
        for _ in 0..2 {
            let path = install(&below).unwrap();
            assert_eq!(path, below.join("media-server"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
            assert_eq!(
                fs::metadata(&path).unwrap().len(),
                fs::metadata(std::env::current_exe().unwrap()).unwrap().len()
            );
            assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "nothing else is left");
            fs::write(&path, "old").unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let text = install(Path::new("/proc/none")).unwrap_err().to_string();
        assert!(text.contains("/proc/none/media-server"), "{text}");
    }
}
