//! Looks at a ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1) for the features that every handshake with us needs.
//!
//! dimpl discards a ClientHello without any cipher suite or group that it knows, and the peer would wait for its timeout.
//! Only the first fragment is read, which has the suites of every client; extensions are judged when they are all there.
//! Unreadable input is left to dimpl.

use super::TransportError;

/// ECDHE-ECDSA with AES-128-GCM, AES-256-GCM, and ChaCha20-Poly1305.
const SUITES: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
/// X25519, P-256, P-384.
const GROUPS: [u16; 3] = [0x001d, 0x0017, 0x0018];
/// The profiles of `SrtpProfile`.
const PROFILES: [u16; 3] = [0x0001, 0x0007, 0x0008];
/// DTLS 1.2; the versions of DTLS count down.
const VERSION: u16 = 0xfefd;

const SUPPORTED_GROUPS: u16 = 10;
const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;

/// Returns the error for a datagram that starts with a ClientHello that we cannot serve.
pub(super) fn check(datagram: &[u8]) -> Result<(), TransportError> {
    match Hello::read(datagram) {
        Some(hello) => hello.judge(),
        None => Ok(()),
    }
}

struct Hello<'a> {
    version: u16,
    suites: &'a [u8],
    /// `None` when it is in another fragment.
    extensions: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    fn read(datagram: &'a [u8]) -> Option<Hello<'a>> {
        let mut record = Reader(datagram);
        let header = record.take(13)?;
        let mut message = Reader(record.take(usize::from(u16::from_be_bytes([header[11], header[12]])))?);
        let start = message.take(12)?;
        // A handshake record of epoch 0 with a ClientHello from its first byte on.
        if header[0] != 22 || header[3..5] != [0, 0] || start[0] != 1 || start[6..9] != [0, 0, 0] {
            return None;
        }
        let version = message.u16()?;
        message.take(32)?;
        for _session_and_cookie in 0..2 {
            let length = message.u8()?;
            message.take(usize::from(length))?;
        }
        let suites = message.list()?;
        let compression = message.u8()?;
        message.take(usize::from(compression))?;
        let extensions = if message.0.is_empty() { Some(&[][..]) } else { message.list() };
        Some(Hello { version, suites, extensions })
    }

    fn judge(&self) -> Result<(), TransportError> {
        if self.version > VERSION {
            return Err(TransportError::UnsupportedVersion);
        }
        if !has_any(self.suites, &SUITES) {
            return Err(TransportError::NoCipherSuite);
        }
        if self.extensions.is_none() {
            return Ok(());
        }
        if self.extension(EXTENDED_MASTER_SECRET).is_none() {
            return Err(TransportError::NoExtendedMasterSecret);
        }
        let list = |kind| self.extension(kind).and_then(|value| Reader(value).list());
        if list(SUPPORTED_GROUPS).is_some_and(|groups| !has_any(groups, &GROUPS)) {
            return Err(TransportError::NoKeyExchangeGroup);
        }
        if !list(USE_SRTP).is_some_and(|profiles| has_any(profiles, &PROFILES)) {
            return Err(TransportError::NoSrtpProfile);
        }
        Ok(())
    }

    fn extension(&self, kind: u16) -> Option<&'a [u8]> {
        let mut reader = Reader(self.extensions?);
        loop {
            let (found, value) = (reader.u16()?, reader.list()?);
            if found == kind {
                return Some(value);
            }
        }
    }
}

fn has_any(list: &[u8], wanted: &[u16]) -> bool {
    list.chunks_exact(2).any(|two| wanted.contains(&u16::from_be_bytes([two[0], two[1]])))
}

/// The bytes left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind their length in two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
