//! The CertificateRequest of our DTLS server (RFC 5246 §7.4.4), widened to every key that [`certificate`] accepts.
//!
//! dimpl requests ECDSA with SHA-256 and SHA-384 only, and its request cannot be configured; a client with an RSA key
//! then shows no certificate at all. So its request is replaced by ours at the two places where it is visible: in the
//! outgoing datagram, and in the handshake transcript that dimpl hashes and verifies through our crypto provider. Both
//! replace the same bytes by the same bytes, leave any other form of the message alone, and never touch the peer's
//! messages. Should another version of dimpl form its request differently, the handshake continues with that request.
//!
//! The request must not be split into fragments: the flight of our server is about 800 bytes, and dimpl's MTU leaves
//! [`GROWTH`] bytes of room.
//!
//! [`certificate`]: super::certificate

use super::certificate::SCHEMES;
use std::borrow::Cow;
use std::ops::Range;

/// Bytes that a widened request is longer than dimpl's, at most.
pub(super) const GROWTH: usize = 32;

const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const CERTIFICATE_REQUEST: u8 = 13;
/// Certificate types.
const RSA_SIGN: u8 = 1;
const ECDSA_SIGN: u8 = 64;

/// Widens the request in a datagram of ours; any other datagram is returned as it is.
pub(super) fn widen_datagram(datagram: &[u8]) -> Cow<'_, [u8]> {
    let mut at = 0;
    while let Some(header) = datagram.get(at..at + RECORD_HEADER) {
        let end = at + RECORD_HEADER + usize::from(u16::from_be_bytes([header[11], header[12]]));
        // Only epoch 0 is plain text.
        if header[0] == HANDSHAKE && header[3..5] == [0, 0] {
            let found = datagram.get(at + RECORD_HEADER..end).and_then(find_request);
            if let Some(message) = found {
                let message = message.start + at + RECORD_HEADER..message.end + at + RECORD_HEADER;
                let mut widened = replace(datagram, message);
                let length = (end - at - RECORD_HEADER + widened.len() - datagram.len()) as u16;
                widened[at + 11..at + 13].copy_from_slice(&length.to_be_bytes());
                return Cow::Owned(widened);
            }
        }
        at = end;
    }
    Cow::Borrowed(datagram)
}

/// Widens the request in a transcript of our server: unfragmented messages, beginning with a ClientHello. Any other bytes
/// are returned as they are.
pub(super) fn widen_transcript(transcript: &[u8]) -> Cow<'_, [u8]> {
    if transcript.first() != Some(&CLIENT_HELLO) {
        return Cow::Borrowed(transcript);
    }
    match find_request(transcript) {
        Some(message) => Cow::Owned(replace(transcript, message)),
        None => Cow::Borrowed(transcript),
    }
}

/// Finds dimpl's CertificateRequest among unfragmented handshake messages.
fn find_request(messages: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    while let Some(header) = messages.get(at..at + MESSAGE_HEADER) {
        let (length, offset, fragment) = (be24(&header[1..]), be24(&header[6..]), be24(&header[9..]));
        let end = at + MESSAGE_HEADER + fragment;
        let body = messages.get(at + MESSAGE_HEADER..end)?;
        if header[0] == CERTIFICATE_REQUEST && offset == 0 && fragment == length && is_dimpls(body) {
            return Some(at..end);
        }
        at = end;
    }
    None
}

/// One certificate type, ECDSA schemes, no authorities.
fn is_dimpls(body: &[u8]) -> bool {
    let Some((&[1, ECDSA_SIGN, high, low], rest)) = body.split_first_chunk() else { return false };
    let schemes = usize::from(u16::from_be_bytes([high, low]));
    rest.len() == schemes + 2 && rest.ends_with(&[0, 0])
}

/// The same bytes with our request in place of this message; sequence number and everything around it stay.
fn replace(bytes: &[u8], message: Range<usize>) -> Vec<u8> {
    let mut body = vec![2, RSA_SIGN, ECDSA_SIGN];
    body.extend_from_slice(&(2 * SCHEMES.len() as u16).to_be_bytes());
    body.extend(SCHEMES.iter().flat_map(|scheme| scheme.to_be_bytes()));
    body.extend_from_slice(&[0, 0]);
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let sequence = &bytes[message.start + 4..message.start + 6];
    [
        &bytes[..message.start],
        &[CERTIFICATE_REQUEST],
        length,
        sequence,
        &[0, 0, 0],
        length,
        &body,
        &bytes[message.end..],
    ]
    .concat()
}

fn be24(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u8;
        [&[kind, 0, 0, length, 0, sequence, 0, 0, 0, 0, 0, length], body].concat()
    }

    fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 3, 0, content.len() as u8], content].concat()
    }

    const DIMPLS: [u8; 10] = [1, 64, 0, 4, 4, 3, 5, 3, 0, 0];

    #[test]
    fn datagram_and_transcript_get_the_same_request() {
        let (before, request, behind) = (message(2, 1, &[7; 9]), message(13, 4, &DIMPLS), message(14, 5, &[]));
        let datagram = [record(22, 0, &before), record(22, 0, &request), record(22, 0, &behind)].concat();
        let widened = widen_datagram(&datagram);
        let added = widened.len() - datagram.len();
        assert!(added > 0 && added <= GROWTH, "{added}");
        let at = record(22, 0, &before).len() + RECORD_HEADER;
        let request_now = &widened[at..at + request.len() + added];
        assert_eq!(usize::from(widened[at - 1]), request_now.len());
        assert_eq!(request_now[..6], [13, 0, 0, (DIMPLS.len() + added) as u8, 0, 4]);
        assert_eq!(request_now[12..15], [2, 1, 64]);
        assert!(widened.ends_with(&record(22, 0, &behind)));

        let hello = message(1, 0, &[9; 40]);
        let transcript = [&hello[..], &before, &request, &behind].concat();
        let expected = [&hello[..], &before, request_now, &behind].concat();
        assert_eq!(*widen_transcript(&transcript), expected);
    }

    #[test]
    fn other_bytes_are_left_alone() {
        let request = message(13, 4, &DIMPLS);
        let mut fragment = request.clone();
        fragment[3] = 30;
        for content in [
            record(22, 1, &request),
            record(23, 0, &request),
            record(22, 0, &fragment),
            record(22, 0, &message(11, 4, &DIMPLS)),
            record(22, 0, &message(13, 4, &[2, 1, 64, 0, 2, 4, 3, 0, 0])),
            record(22, 0, &message(13, 4, &DIMPLS[..9])),
            request.clone(),
            vec![],
        ] {
            assert_eq!(*widen_datagram(&content), content);
        }
        assert_eq!(*widen_transcript(&request), request);
        for length in 0..request.len() {
            let cut = [&message(1, 0, &[1, 2])[..], &request[..length]].concat();
            assert_eq!(*widen_transcript(&cut), cut);
        }
    }
}
