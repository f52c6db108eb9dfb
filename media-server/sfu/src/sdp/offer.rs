//! An offer: parsed, and checked against what every session of this server needs.
//!
//! Rules: RFC 9725 §4.4 (one MediaStream, BUNDLE of everything, no answer in part, DTLS roles), RFC 9143 (BUNDLE; the
//! first mid of the group tags the section whose transport attributes hold), RFC 9429 (JSEP), RFC 8839 (ICE in SDP), RFC
//! 8122 (fingerprints), RFC 8842 (setup), RFC 8285 (header extensions). Syntax is `rtc_sdp`'s: it was read to be free of
//! recursion, indexing and arithmetic on what the peer wrote, works in one pass, and gets at most [`MAX_SDP_BYTES`](super::MAX_SDP_BYTES).

use super::codecs;
use super::error::{SdpError, kind_name, quote};
use super::text::{check, ice_credentials, is_token};
use crate::parameters::{DtlsRole, Fingerprint, IceCredentials, MediaKind, PayloadType};
use rtc_sdp::description::common::Attribute;
use rtc_sdp::{MediaDescription, SessionDescription};
use std::io::Cursor;

pub(super) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// An offer that was parsed and found to be one this server can answer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Credentials of the peer.
    pub ice: IceCredentials,
    /// Certificate of the peer.
    pub fingerprint: Fingerprint,
    /// Our role in the handshake, which follows from the peer's `a=setup`.
    pub dtls_role: DtlsRole,
    /// Mids of the BUNDLE group in its order; empty when one section stands alone.
    pub(super) bundle: Vec<String>,
    /// In the order of the offer.
    pub(super) sections: Vec<Section>,
}

/// One `m=` section of audio or video.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) mid: String,
    pub(super) kind: MediaKind,
    /// As in `m=`.
    pub(super) protocol: String,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_mux_only: bool,
    pub(super) rtcp_rsize: bool,
    /// What this server knows of what is offered.
    pub(super) codecs: Vec<PayloadType>,
    /// Names of everything offered, for messages.
    pub(super) offered: String,
    pub(super) mid_extension: Option<Extension>,
    pub(super) transport_cc_extension: Option<Extension>,
    pub(super) ssrc: Option<u32>,
    pub(super) rtx_ssrc: Option<u32>,
    /// The MediaStream of `a=msid`; `None` when there is none or it is `-`.
    pub(super) stream: Option<String>,
}

/// An `a=extmap` line that the offerer may send by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension {
    /// 1 to 14.
    pub(super) id: u8,
    /// It was offered as sendonly, so it is answered as recvonly.
    pub(super) sendonly: bool,
}

/// `a=sendrecv` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn parse(name: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.name() == name)
    }
}

impl Offer {
    /// Parses and checks `text`. What depends on who asks (direction, codecs) is checked by the answer.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        check(text)?;
        let description = unmarshal(text)?;
        if description.media_descriptions.is_empty() {
            return Err(SdpError::NoMedia);
        }
        let bundle = bundle_group(&description);
        let mut sections: Vec<Section> = Vec::new();
        for media in &description.media_descriptions {
            let section = Section::parse(media, &description.attributes)?;
            if sections.iter().any(|s| s.kind == section.kind) {
                return Err(SdpError::TooManyTracks { kind: section.kind });
            }
            if sections.iter().any(|s| s.mid == section.mid) {
                return Err(SdpError::InvalidAttribute {
                    attribute: "a=mid",
                    value: section.mid,
                    expected: "each section needs a mid of its own",
                });
            }
            sections.push(section);
        }
        let alone = sections.len() == 1 && bundle.is_empty();
        if let Some(section) = sections.iter().find(|s| !alone && !bundle.contains(&s.mid)) {
            return Err(SdpError::NotBundled { section: section.name() });
        }
        let bundle: Vec<String> = bundle.into_iter().filter(|mid| sections.iter().any(|s| s.mid == *mid)).collect();
        let tagged = bundle.first().and_then(|mid| sections.iter().position(|s| s.mid == *mid)).unwrap_or(0);
        let transport = Transport {
            section: sections[tagged].name(),
            media: &description.media_descriptions[tagged].attributes,
            session: &description.attributes,
        };
        if !sections[tagged].rtcp_mux {
            return Err(SdpError::NoRtcpMux { section: sections[tagged].name() });
        }
        if transport.has("ice-lite") {
            return Err(SdpError::IceLite);
        }
        transport.check_setup()?;
        check_payload_types(&sections)?;
        Ok(Offer {
            ice: transport.ice()?,
            fingerprint: transport.fingerprint()?,
            dtls_role: DtlsRole::Server,
            bundle,
            sections,
        })
    }

    /// The kinds of media in the offer, in order.
    pub fn kinds(&self) -> Vec<MediaKind> {
        self.sections.iter().map(|s| s.kind).collect()
    }

    /// The section whose transport holds for all: the first of the BUNDLE group.
    pub(super) fn tagged_mid(&self) -> &str {
        self.bundle.first().or(self.sections.first().map(|s| &s.mid)).map_or("", String::as_str)
    }
}

impl Section {
    fn parse(media: &MediaDescription, session: &[Attribute]) -> Result<Section, SdpError> {
        let kind = match media.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            other => return Err(SdpError::UnsupportedMedia { media: quote(other) }),
        };
        let name = format!("m={}", kind_name(&kind));
        let protocol = media.media_name.protos.join("/");
        if !matches!(protocol.as_str(), "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "RTP/SAVPF") {
            return Err(SdpError::UnsupportedProtocol { section: name, protocol: quote(&protocol) });
        }
        let attributes = &media.attributes;
        if media.media_name.port.value == 0 && !has(attributes, "bundle-only") {
            return Err(SdpError::DisabledSection { section: name });
        }
        let Some(mid) = value(attributes, "mid") else {
            return Err(SdpError::MissingAttribute {
                section: name,
                attribute: "a=mid",
                remedy: "give each section one, as BUNDLE needs it",
            });
        };
        if !is_token(mid) {
            return Err(SdpError::InvalidAttribute {
                attribute: "a=mid",
                value: quote(mid),
                expected: "a token of at most 64 characters is valid",
            });
        }
        let rtcp_mux = has(attributes, "rtcp-mux");
        if !rtcp_mux && !has(attributes, "bundle-only") {
            return Err(SdpError::NoRtcpMux { section: name });
        }
        let (codecs, names) = codecs::offered(
            kind,
            media.media_name.formats.iter().map(String::as_str),
            attributes.iter().filter_map(|a| Some((a.key.as_str(), a.value.as_deref()?))),
        );
        let (ssrc, rtx_ssrc) = ssrcs(attributes);
        let direction = |list: &[Attribute]| list.iter().rev().find_map(|a| Direction::parse(&a.key));
        Ok(Section {
            mid: mid.to_owned(),
            kind,
            protocol,
            direction: direction(attributes).or(direction(session)).unwrap_or(Direction::SendRecv),
            rtcp_mux,
            rtcp_mux_only: has(attributes, "rtcp-mux-only"),
            rtcp_rsize: has(attributes, "rtcp-rsize"),
            codecs,
            offered: names.join(", "),
            mid_extension: extension(attributes, MID_URI),
            transport_cc_extension: extension(attributes, TRANSPORT_CC_URI),
            ssrc,
            rtx_ssrc,
            stream: value(attributes, "msid")
                .and_then(|msid| msid.split(' ').next())
                .filter(|stream| !matches!(*stream, "" | "-"))
                .map(str::to_owned),
        })
    }

    /// For messages: `m=audio` or `m=video`.
    pub(super) fn name(&self) -> String {
        format!("m={}", kind_name(&self.kind))
    }
}

/// The attributes that hold for the whole bundle: of the tagged section, else of the session.
struct Transport<'a> {
    section: String,
    media: &'a [Attribute],
    session: &'a [Attribute],
}

impl Transport<'_> {
    fn has(&self, key: &str) -> bool {
        has(self.media, key) || has(self.session, key)
    }

    fn required(&self, attribute: &'static str, remedy: &'static str) -> Result<&str, SdpError> {
        let key = attribute.trim_start_matches("a=");
        value(self.media, key).or(value(self.session, key)).ok_or_else(|| SdpError::MissingAttribute {
            section: self.section.clone(),
            attribute,
            remedy,
        })
    }

    fn ice(&self) -> Result<IceCredentials, SdpError> {
        let remedy = "send the local description, after setLocalDescription";
        ice_credentials(self.required("a=ice-ufrag", remedy)?, self.required("a=ice-pwd", remedy)?)
    }

    fn check_setup(&self) -> Result<(), SdpError> {
        match self.required("a=setup", "offer a=setup:actpass")? {
            "actpass" | "active" => Ok(()),
            other => Err(SdpError::UnsupportedSetup { setup: quote(other) }),
        }
    }

    /// Returns the strongest digest of the lines; the peer's certificate has to match it.
    fn fingerprint(&self) -> Result<Fingerprint, SdpError> {
        self.required("a=fingerprint", "media is sent over DTLS-SRTP only; offer a=fingerprint:sha-256")?;
        let level = if has(self.media, "fingerprint") { self.media } else { self.session };
        let mut others = Vec::new();
        let mut strongest: Option<Fingerprint> = None;
        for line in level.iter().filter(|a| a.key == "fingerprint").filter_map(|a| a.value.as_deref()) {
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

/// What the parser says, without the name of its error; of a description that ends too early it says nothing.
fn reason(error: &rtc_shared::error::Error) -> String {
    let text = error.to_string();
    let said = text.trim_start_matches("SdpInvalidSyntax:").trim_start_matches("SdpInvalidValue:").trim();
    if said.is_empty() { "it ends too early, or another line belongs here".into() } else { quote(said) }
}

/// The mids of the first group with BUNDLE semantics.
fn bundle_group(description: &SessionDescription) -> Vec<String> {
    let groups = description.attributes.iter().filter(|a| a.key == "group").filter_map(|a| a.value.as_deref());
    let mut groups = groups.map(str::split_whitespace);
    let group = groups.find_map(|mut words| (words.next() == Some("BUNDLE")).then_some(words));
    let mut mids: Vec<String> = Vec::new();
    // Four are more than can be answered; the rest can only be mids of sections that are refused anyway.
    for mid in group.into_iter().flatten().take(4) {
        if !mids.iter().any(|m| m == mid) {
            mids.push(mid.to_owned());
        }
    }
    mids
}

/// In a bundle a payload type must mean one thing, since packets may be told apart by nothing else.
fn check_payload_types(sections: &[Section]) -> Result<(), SdpError> {
    let mut seen = [false; 128];
    for codec in sections.iter().flat_map(|s| &s.codecs) {
        for number in [Some(codec.number), codec.rtx].into_iter().flatten() {
            match seen.get_mut(usize::from(number)) {
                Some(taken) if !*taken => *taken = true,
                _ => return Err(SdpError::PayloadTypeClash { number }),
            }
        }
    }
    Ok(())
}

/// The media SSRC and that of its retransmissions.
fn ssrcs(attributes: &[Attribute]) -> (Option<u32>, Option<u32>) {
    let values = |key: &'static str| attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref());
    let pairs = values("ssrc-group").filter_map(|group| {
        let mut words = group.strip_prefix("FID ")?.split_whitespace().map(str::parse::<u32>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    if let Some((media, rtx)) = pairs.into_iter().next() {
        return (Some(media), Some(rtx));
    }
    (values("ssrc").next().and_then(|line| line.split(' ').next()?.parse().ok()), None)
}

/// The extension with this URI, if the offerer may send by it and its header stays a one-byte one.
fn extension(attributes: &[Attribute], uri: &str) -> Option<Extension> {
    attributes.iter().filter(|a| a.key == "extmap").find_map(|a| {
        let mut words = a.value.as_deref()?.split_whitespace();
        let (id, direction) = match words.next()?.split_once('/') {
            Some((id, direction)) => (id.parse().ok()?, Direction::parse(direction)?),
            None => (a.value.as_deref()?.split_whitespace().next()?.parse().ok()?, Direction::SendRecv),
        };
        let sendonly = match direction {
            Direction::SendRecv => false,
            Direction::SendOnly => true,
            Direction::RecvOnly | Direction::Inactive => return None,
        };
        ((1..=14).contains(&id) && words.next() == Some(uri)).then_some(Extension { id, sendonly })
    })
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

fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|a| a.key == key)
}

fn value<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.key == key)?.value.as_deref().map(str::trim)
}
