//! The certificate for TURN over TLS, as a kubelet mounts it: `tls.crt` and `tls.key` behind a link that is swapped.

use ring::digest::{Context, SHA256};
use std::fs;
use std::path::{Path, PathBuf};

/// Which certificate and key are there now: two are equal when both files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<u8>);

/// Where the files are. They are not copied: a Secret's volume is memory, and other folders may be disks.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificate {
    pub(super) fn in_folder(folder: &Path) -> Certificate {
        Certificate { chain: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    /// `None` unless both are there and not empty. What is in them coturn judges: it keeps the old ones if it must.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        let mut context = Context::new(&SHA256);
        for path in [&self.chain, &self.key] {
            let bytes = fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
            context.update(&bytes.len().to_be_bytes());
            context.update(&bytes);
        }
        Some(Fingerprint(context.finish().as_ref().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_swapped_link_is_another_certificate_and_half_of_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, key) in [("1", "key"), ("2", "another")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "chain").unwrap();
            fs::write(at(version).join("tls.key"), key).unwrap();
        }
        let certificate = Certificate::in_folder(&at("data"));
        assert_eq!(certificate.fingerprint(), None);
        symlink("1", at("data")).unwrap();
        let first = certificate.fingerprint().unwrap();
        assert_eq!(certificate.fingerprint().as_ref(), Some(&first));
        symlink("2", at("new")).unwrap();
        fs::rename(at("new"), at("data")).unwrap();
        assert_ne!(certificate.fingerprint().unwrap(), first);
        fs::write(at("2").join("tls.key"), "").unwrap();
        assert_eq!(certificate.fingerprint(), None);
    }
}
