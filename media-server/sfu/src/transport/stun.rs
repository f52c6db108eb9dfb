//! STUN binding requests and the answers to them (RFC 8489), as far as an ICE-lite agent needs (RFC 8445 §7.3).
//!
//! A request is parsed before anything is known about its sender, so parsing allocates once, at most as much as it was
//! given, and gives `None` for whatever is not a complete, well-formed binding request with USERNAME and
//! MESSAGE-INTEGRITY. What is not authenticated is never answered, not even by an error.
//!
//! The parser is ours. `rtc-stun` was read for this and is not fit for input from strangers: it finds attributes that
//! stand behind MESSAGE-INTEGRITY, where RFC 8489 §14.5 says to ignore them because nothing protects them (so anyone
//! on the path could add USE-CANDIDATE to a check), and it allocates for every attribute. Its CRC is used here, and the
//! tests use all of it as a peer.

use hmac::{Hmac, Mac};
use rtc_stun::fingerprint::fingerprint_value;
use sha1::Sha1;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
const INTEGRITY: usize = 20;
const FINGERPRINT: usize = 4;
/// Far more than a check needs; what is longer was not sent by an ICE agent.
const MAX_REQUEST: usize = 1280;
/// Unknown attributes that are listed in an error; the rest is not worth naming.
const MAX_UNKNOWN: usize = 8;

mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
}

/// A STUN binding request, parsed but not authenticated.
#[derive(Debug)]
pub struct StunRequest {
    /// The message without FINGERPRINT.
    bytes: Box<[u8]>,
    username: Range<usize>,
    /// Length of our part of `username`.
    local_ufrag: usize,
    /// Where MESSAGE-INTEGRITY starts.
    integrity: usize,
    use_candidate: bool,
    controlled: bool,
    unknown: Vec<u16>,
}

impl StunRequest {
    /// `None` when this is no well-formed binding request with a USERNAME.
    pub fn parse(datagram: &[u8]) -> Option<StunRequest> {
        if datagram.len() < HEADER || datagram.len() > MAX_REQUEST || datagram[4..8] != MAGIC_COOKIE {
            return None;
        }
        let length = usize::from(be16(datagram, 2));
        if be16(datagram, 0) != BINDING_REQUEST || length % 4 != 0 || HEADER + length != datagram.len() {
            return None;
        }
        let (mut username, mut integrity) = (None, None);
        let (mut use_candidate, mut controlled, mut unknown) = (false, false, Vec::new());
        let mut at = HEADER;
        while at < datagram.len() {
            if datagram.len() - at < ATTRIBUTE_HEADER {
                return None;
            }
            let (kind, size) = (be16(datagram, at), usize::from(be16(datagram, at + 2)));
            let value = at + ATTRIBUTE_HEADER..at + ATTRIBUTE_HEADER + size;
            let end = at + ATTRIBUTE_HEADER + size.next_multiple_of(4);
            if end > datagram.len() {
                return None;
            }
            match kind {
                // It protects all before it, so it must be the last (RFC 8489 §14.7).
                attribute::FINGERPRINT
                    if size != FINGERPRINT
                        || end != datagram.len()
                        || datagram[value.clone()] != fingerprint_value(&datagram[..at]).to_be_bytes() =>
                {
                    return None;
                }
                attribute::FINGERPRINT => {}
                // Nothing protects what follows MESSAGE-INTEGRITY (RFC 8489 §14.5).
                _ if integrity.is_some() => {}
                attribute::MESSAGE_INTEGRITY if size == INTEGRITY => integrity = Some(at),
                attribute::MESSAGE_INTEGRITY => return None,
                attribute::USERNAME => username = username.or(Some(value)),
                attribute::USE_CANDIDATE => use_candidate = true,
                attribute::ICE_CONTROLLED => controlled = true,
                attribute::PRIORITY => {}
                // Below 0x8000 it must be understood, or the request refused.
                0..0x8000 if unknown.len() < MAX_UNKNOWN && !unknown.contains(&kind) => unknown.push(kind),
                _ => {}
            }
            at = end;
        }
        let (username, integrity) = (username?, integrity?);
        let local_ufrag = std::str::from_utf8(&datagram[username.clone()]).ok()?.find(':')?;
        let bytes = datagram[..integrity + ATTRIBUTE_HEADER + INTEGRITY].into();
        Some(StunRequest { bytes, username, local_ufrag, integrity, use_candidate, controlled, unknown })
    }

    /// The part of USERNAME before the colon: our ufrag.
    pub fn local_ufrag(&self) -> &str {
        &self.username()[..self.local_ufrag]
    }

    /// `local:remote`, as the peer wrote it.
    pub(super) fn username(&self) -> &str {
        // Checked in `parse`: it is UTF-8.
        std::str::from_utf8(&self.bytes[self.username.clone()]).unwrap_or("")
    }

    /// The peer nominates the address that it sent from.
    pub(super) fn use_candidate(&self) -> bool {
        self.use_candidate
    }

    /// The peer believes that it is the controlled side.
    pub(super) fn controlled(&self) -> bool {
        self.controlled
    }

    /// Attributes that had to be understood and were not, the first eight.
    pub(super) fn unknown(&self) -> &[u16] {
        &self.unknown
    }

    /// Whether MESSAGE-INTEGRITY was made with this password. Takes the same time for every wrong value.
    pub(super) fn authentic(&self, password: &str) -> bool {
        let Some(mut mac) = keyed(password) else { return false };
        // The length that the sender hashed counts up to the end of MESSAGE-INTEGRITY.
        let length = (self.bytes.len() - HEADER) as u16;
        mac.update(&self.bytes[..2]);
        mac.update(&length.to_be_bytes());
        mac.update(&self.bytes[4..self.integrity]);
        mac.verify_slice(&self.bytes[self.integrity + ATTRIBUTE_HEADER..]).is_ok()
    }

    /// The answer to a check that passed: where we saw it come from.
    pub(super) fn success(&self, from: SocketAddr, password: &str) -> Vec<u8> {
        let mut answer = Answer::new(BINDING_SUCCESS, self.transaction());
        answer.xor_mapped_address(from);
        answer.finish(password)
    }

    /// 487: both sides believe that they are controlled (RFC 8445 §7.3.1.1).
    pub(super) fn role_conflict(&self, password: &str) -> Vec<u8> {
        let mut answer = Answer::new(BINDING_ERROR, self.transaction());
        answer.error(487, "Role Conflict");
        answer.finish(password)
    }

    /// 420: an attribute that must be understood was not (RFC 8489 §6.3.1).
    pub(super) fn unknown_attribute(&self, password: &str) -> Vec<u8> {
        let mut answer = Answer::new(BINDING_ERROR, self.transaction());
        answer.error(420, "Unknown Attribute");
        let list: Vec<u8> = self.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        answer.attribute(attribute::UNKNOWN_ATTRIBUTES, &list);
        answer.finish(password)
    }

    fn transaction(&self) -> &[u8] {
        &self.bytes[8..HEADER]
    }
}

/// A message being written.
struct Answer(Vec<u8>);

impl Answer {
    fn new(kind: u16, transaction: &[u8]) -> Answer {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(transaction);
        Answer(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// RFC 8489 §14.2.
    fn xor_mapped_address(&mut self, address: SocketAddr) {
        let mask: [u8; 16] = std::array::from_fn(|i| self.0[4 + i]);
        let port = address.port() ^ u16::from_be_bytes([mask[0], mask[1]]);
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend_from_slice(&port.to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask)),
            IpAddr::V6(ip) => value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask)),
        }
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value);
    }

    /// RFC 8489 §14.8.
    fn error(&mut self, code: u16, reason: &str) {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.attribute(attribute::ERROR_CODE, &value);
    }

    /// Adds MESSAGE-INTEGRITY and FINGERPRINT.
    fn finish(mut self, password: &str) -> Vec<u8> {
        self.length_with(INTEGRITY);
        if let Some(mut mac) = keyed(password) {
            mac.update(&self.0);
            self.attribute(attribute::MESSAGE_INTEGRITY, &mac.finalize().into_bytes());
        }
        self.length_with(FINGERPRINT);
        let value = fingerprint_value(&self.0);
        self.attribute(attribute::FINGERPRINT, &value.to_be_bytes());
        self.0
    }

    /// The length field counts the attribute that is about to be added.
    fn length_with(&mut self, size: usize) {
        let length = (self.0.len() - HEADER + ATTRIBUTE_HEADER + size) as u16;
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

fn keyed(password: &str) -> Option<Hmac<Sha1>> {
    // HMAC takes keys of any length: this is always `Some`.
    Hmac::new_from_slice(password.as_bytes()).ok()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
