//! An offer: parsed, and checked against what every session of this server needs.
//!
//! Rules: RFC 9725 §4.4 (DTLS roles, BUNDLE), RFC 9143 (the first mid of the group tags the section with the
//! transport attributes), RFC 9429 (JSEP), RFC 8839 (ICE in SDP), RFC 8122 (fingerprints), RFC 8842 (setup). Syntax is
//! `rtc_sdp`'s: it was read to be free of recursion, indexing and arithmetic on the peer's input, works in one pass,
//! and gets at most [`MAX_SDP_BYTES`](super::MAX_SDP_BYTES). An offer has at most [`MAX_SECTIONS`] sections.

use super::error::{SdpError, quote};
use super::section::{Section, has, value, values};
use super::text::{check, ice_credentials};
use crate::parameters::{DtlsRole, Fingerprint, IceCredentials, MediaKind};
use rtc_sdp::SessionDescription;
use rtc_sdp::description::common::Attribute;
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Cursor;

/// Sections of one offer. Clients send up to three; the answer repeats each.
const MAX_SECTIONS: usize = 32;

/// An offer that was parsed and has something that this server may answer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Credentials of the peer.
    pub ice: IceCredentials,
    /// Certificate of the peer.
    pub fingerprint: Fingerprint,
    /// Our role in the handshake, which follows from the peer's `a=setup`.
    pub dtls_role: DtlsRole,
    /// Mids of the BUNDLE group in its order; empty when there is none.
    pub(super) bundle: Vec<String>,
    /// In the order of the offer.
    pub(super) sections: Vec<Section>,
}

impl Offer {
    /// Parses and checks `text`. The parts that depend on the client's role (direction, codecs) are checked by the answer.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        check(text)?;
        let description = unmarshal(text)?;
        match description.media_descriptions.len() {
            0 => return Err(SdpError::NoMedia),
            1..=MAX_SECTIONS => {}
            count => return Err(SdpError::TooManySections { count, limit: MAX_SECTIONS }),
        }
        let sections: Vec<Section> = description
            .media_descriptions
            .iter()
            .map(|media| Section::parse(media, &description.attributes))
            .collect::<Result<_, _>>()?;
        let mut mids = HashSet::new();
        for mid in sections.iter().filter_map(|section| section.mid.as_ref()) {
            if !mids.insert(mid) {
                return Err(SdpError::InvalidAttribute {
                    attribute: "a=mid",
                    value: mid.clone(),
                    expected: "each section needs a mid of its own",
                });
            }
        }
        let bundle = bundle_group(&description, &mids);
        let position = |mid: &String| sections.iter().position(|section| section.mid.as_ref() == Some(mid));
        let usable = |index: &usize| sections[*index].body.is_ok();
        // Where the tagged section is no media for us, the next one of the group replaces it (RFC 9143 §7.3.2).
        let Some(tagged) = bundle.iter().filter_map(position).find(usable).or_else(|| (0..sections.len()).find(usable))
        else {
            return Err(first_error(&sections));
        };
        let offered = bundle.first().and_then(position).unwrap_or(tagged);
        let attributes = |index: usize| description.media_descriptions[index].attributes.as_slice();
        let transport = Transport {
            section: sections[tagged].name(),
            levels: [attributes(tagged), attributes(offered), &description.attributes],
        };
        if transport.has("ice-lite") {
            return Err(SdpError::IceLite);
        }
        let dtls_role = transport.dtls_role()?;
        Ok(Offer { ice: transport.ice()?, fingerprint: transport.fingerprint()?, dtls_role, bundle, sections })
    }

    /// Returns the kinds of media that a session could carry, in the order of the offer.
    pub fn kinds(&self) -> Vec<MediaKind> {
        self.sections.iter().filter_map(|s| s.body.as_ref().ok()).map(|media| media.kind).collect()
    }

    /// Returns the number of `m=` sections; an answer has as many.
    pub fn section_count(&self) -> usize {
        self.sections.len()
    }
}

/// The reason to refuse the offer: one about media precedes one about a data channel.
fn first_error(sections: &[Section]) -> SdpError {
    let errors = || sections.iter().filter_map(|section| section.body.as_ref().err());
    let media = errors().find(|error| !matches!(error, SdpError::UnsupportedMedia { .. }));
    media.or_else(|| errors().next()).cloned().unwrap_or(SdpError::NoMedia)
}

/// The attributes of the bundle, the nearest level first.
struct Transport<'a> {
    section: String,
    levels: [&'a [Attribute]; 3],
}

impl<'a> Transport<'a> {
    fn has(&self, key: &str) -> bool {
        self.levels.iter().any(|level| has(level, key))
    }

    fn required(&self, attribute: &'static str, remedy: &'static str) -> Result<&'a str, SdpError> {
        let key = attribute.trim_start_matches("a=");
        self.levels.iter().find_map(|level| value(level, key)).ok_or_else(|| SdpError::MissingAttribute {
            section: self.section.clone(),
            attribute,
            remedy,
        })
    }

    fn ice(&self) -> Result<IceCredentials, SdpError> {
        let remedy = "send the local description, after setLocalDescription";
        ice_credentials(self.required("a=ice-ufrag", remedy)?, self.required("a=ice-pwd", remedy)?)
    }

    fn dtls_role(&self) -> Result<DtlsRole, SdpError> {
        match self.required("a=setup", "offer a=setup:actpass")? {
            "actpass" | "active" => Ok(DtlsRole::Server),
            "passive" => Ok(DtlsRole::Client),
            other => Err(SdpError::UnsupportedSetup { setup: quote(other) }),
        }
    }

    /// Returns the strongest digest of the lines; the peer's certificate has to match it.
    fn fingerprint(&self) -> Result<Fingerprint, SdpError> {
        self.required("a=fingerprint", "media is sent over DTLS-SRTP only; offer a=fingerprint:sha-256")?;
        let level = self.levels.iter().find(|level| has(level, "fingerprint")).copied().unwrap_or_default();
        let mut others = Vec::new();
        let mut strongest: Option<Fingerprint> = None;
        for line in values(level, "fingerprint") {
            let (hash, digest) = line.split_once(' ').unwrap_or((line, ""));
            let digest = digest.trim();
            let parsed = match hash.to_ascii_lowercase().as_str() {
                "sha-256" => parse_digest(digest).map(Fingerprint::Sha256),
                "sha-384" => parse_digest(digest).map(Fingerprint::Sha384),
                "sha-512" => parse_digest(digest).map(Fingerprint::Sha512),
                _ => {
                    others.push(quote(hash));
                    continue;
                }
            };
            let parsed = parsed.ok_or_else(|| SdpError::InvalidAttribute {
                attribute: "a=fingerprint",
                value: quote(line),
                expected: "the hash's name and its digest as pairs of hexadecimal digits with colons between them are \
                           valid",
            })?;
            if strongest.is_none_or(|held| held.bytes().len() < parsed.bytes().len()) {
                strongest = Some(parsed);
            }
        }
        others.truncate(8);
        strongest.ok_or_else(|| SdpError::WeakFingerprint { offered: others.join(", ") })
    }
}

fn unmarshal(text: &str) -> Result<SessionDescription, SdpError> {
    let text = &*without_origin(text);
    let mut reader = Cursor::new(text.as_bytes());
    SessionDescription::unmarshal(&mut reader).map_err(|error| {
        let read = usize::try_from(reader.position()).unwrap_or(usize::MAX).clamp(1, text.len().max(1));
        let line = text.bytes().take(read - 1).filter(|b| *b == b'\n').count();
        SdpError::Syntax {
            line: line + 1,
            text: quote(text.split('\n').nth(line).unwrap_or_default().trim_end()),
            reason: reason(&error),
        }
    })
}

/// The text with the identifiers of a complete `o=` line set to 0: they are numeric strings of any length (RFC 8866
/// §5.2), the parser takes 64 bits, and an answer does not need them.
fn without_origin(text: &str) -> Cow<'_, str> {
    let Some(start) = text.find("\no=").map(|at| at + 1) else { return Cow::Borrowed(text) };
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let words: Vec<&str> = text[start..end].split_whitespace().collect();
    let numeric = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match words[..] {
        [user, id, version, net, kind, address] if numeric(id) && numeric(version) => Cow::Owned(format!(
            "{}{user} 0 0 {net} {kind} {address}{}{}",
            &text[..start],
            if text[start..end].ends_with('\r') { "\r" } else { "" },
            &text[end..]
        )),
        _ => Cow::Borrowed(text),
    }
}

/// What the parser says, without the name of its error; of a description that ends too early it says nothing.
fn reason(error: &rtc_shared::error::Error) -> String {
    let text = error.to_string();
    let said = text.trim_start_matches("SdpInvalidSyntax:").trim_start_matches("SdpInvalidValue:").trim();
    if said.is_empty() { "it ends too early, or another line belongs here".into() } else { quote(said) }
}

/// The mids of the first group with BUNDLE semantics that are mids of sections.
fn bundle_group(description: &SessionDescription, known: &HashSet<&String>) -> Vec<String> {
    let mut groups = values(&description.attributes, "group").map(str::split_whitespace);
    let group = groups.find_map(|mut words| (words.next() == Some("BUNDLE")).then_some(words));
    let mut mids: Vec<String> = Vec::new();
    for mid in group.into_iter().flatten().map(str::to_owned) {
        if mids.len() < MAX_SECTIONS && known.contains(&mid) && !mids.contains(&mid) {
            mids.push(mid);
        }
    }
    mids
}

/// Parses pairs of hexadecimal digits with colons between them (RFC 8122 §5).
fn parse_digest<const N: usize>(digest: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = digest.split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}
