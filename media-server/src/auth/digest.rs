//! The digest of a bearer token, kept in its place to recognise it.

use ring::digest::{SHA256, digest};
use std::fmt::{self, Write as _};
use subtle::ConstantTimeEq as _;

/// SHA-256 of a bearer token. Compared in constant time, and shown by nothing.
#[derive(Clone)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Returns the digest of a token.
    pub fn of(token: &str) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        TokenDigest(bytes)
    }

    /// Returns a name for the holder of a token without a subject: the token itself stays out of registry and log.
    pub fn pseudonym(&self) -> String {
        self.0[..8].iter().fold(String::from("key:"), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        })
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &TokenDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}
