//! SHA-256 in the forms that manifests (hexadecimal) and the S3 API (base64) write it in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use std::fmt;
use std::io::{self, Read};

/// The SHA-256 of a file. Shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut digesting = Digesting::default();
        digesting.update(bytes);
        digesting.finish().0
    }

    /// Of all that a reader gives, and how many bytes that were.
    pub fn read(mut reader: impl Read) -> io::Result<(Digest, u64)> {
        let mut digesting = Digesting::default();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(digesting.finish()),
                Ok(count) => digesting.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads 64 hexadecimal digits, as manifests have them.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        }
        Some(Digest(bytes))
    }

    /// Reads base64, as `x-amz-checksum-sha256` has it. What a store made of several parts is no digest of the whole.
    pub fn from_base64(text: &str) -> Option<Digest> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Digest)
    }

    /// As `x-amz-checksum-sha256` has it.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest in the making, and how many bytes went into it.
pub struct Digesting {
    context: Context,
    bytes: u64,
}

impl Default for Digesting {
    fn default() -> Digesting {
        Digesting { context: Context::new(&SHA256), bytes: 0 }
    }
}

impl Digesting {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The digest of all, and how many bytes there were.
    pub fn finish(self) -> (Digest, u64) {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.context.finish().as_ref());
        (Digest(digest), self.bytes)
    }
}

impl fmt::Debug for Digesting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digesting").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn both_forms_are_read_and_written() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), ABC);
        assert_eq!(Digest::from_hex(ABC), Some(digest));
        assert_eq!(Digest::from_base64(&digest.base64()), Some(digest));
        assert_eq!(Digest::read(&b"abc"[..]).unwrap(), (digest, 3));
    }

    #[test]
    fn what_is_no_digest_is_not_taken_for_one() {
        for text in ["", "ba78", &ABC.replace('b', "g"), &"é".repeat(32)] {
            assert_eq!(Digest::from_hex(text), None, "{text}");
        }
        assert_eq!(Digest::from_base64("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-2"), None, "of several parts");
    }
}
