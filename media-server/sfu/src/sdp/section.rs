//! One `m=` section of an offer, parsed into its media or the reason why this server cannot carry it.
//!
//! Rules: RFC 8866 §5.14 (`m=`), RFC 9429 §5.3.1 (port 0 and `a=bundle-only`), RFC 8285 (header extensions), RFC 5576
//! (`a=ssrc`), RFC 8858 (`a=rtcp-mux`). A section that is no media for this server is kept, since the answer needs a
//! line for each section.

use super::codecs;
use super::error::{SdpError, kind_name, quote};
use super::simulcast::Layer;
use super::text::is_token;
use crate::parameters::{MediaKind, PayloadType};
use rtc_sdp::MediaDescription;
use rtc_sdp::description::common::Attribute;

pub(super) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(super) const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(super) const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// One `m=` section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// `a=mid`, when there is one.
    pub(super) mid: Option<String>,
    /// The words of `m=`: media, protocol and the first format, for an answer by port 0.
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) format: String,
    /// Its media, or the reason why no session can carry it.
    pub(super) body: Result<Media, SdpError>,
}

/// The attributes of an audio or video section.
#[derive(Clone, Debug)]
pub(super) struct Media {
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_mux_only: bool,
    pub(super) rtcp_rsize: bool,
    /// The offered codecs that this server passes through.
    pub(super) codecs: Vec<PayloadType>,
    /// Names of everything offered, for messages.
    pub(super) offered: String,
    pub(super) mid_extension: Option<Extension>,
    pub(super) transport_cc_extension: Option<Extension>,
    pub(super) rid_extension: Option<Extension>,
    pub(super) repaired_rid_extension: Option<Extension>,
    pub(super) ssrc: Option<u32>,
    pub(super) rtx_ssrc: Option<u32>,
    /// The best layer of a simulcast offer.
    pub(super) layer: Option<Layer>,
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

impl Section {
    /// Parses a section. An error means that the offer is malformed; media that cannot be carried is none.
    pub(super) fn parse(media: &MediaDescription, session: &[Attribute]) -> Result<Section, SdpError> {
        let mid = value(&media.attributes, "mid").map(str::to_owned);
        if let Some(mid) = mid.as_deref().filter(|mid| !is_token(mid)) {
            return Err(SdpError::InvalidAttribute {
                attribute: "a=mid",
                value: quote(mid),
                expected: "a token of at most 64 characters is valid",
            });
        }
        let name = &media.media_name;
        Ok(Section {
            mid,
            media: name.media.clone(),
            protocol: name.protos.join("/"),
            format: name.formats.first().cloned().unwrap_or_else(|| "0".to_owned()),
            body: Media::parse(media, session),
        })
    }

    /// For messages: `m=audio` and its like.
    pub(super) fn name(&self) -> String {
        format!("m={}", quote(&self.media))
    }
}

impl Media {
    fn parse(media: &MediaDescription, session: &[Attribute]) -> Result<Media, SdpError> {
        let kind = match media.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            other => return Err(SdpError::UnsupportedMedia { media: quote(other) }),
        };
        let section = || format!("m={}", kind_name(&kind));
        let attributes = &media.attributes;
        let bundle_only = has(attributes, "bundle-only");
        if media.media_name.port.value == 0 && !bundle_only {
            return Err(SdpError::DisabledSection { section: section() });
        }
        let protocol = media.media_name.protos.join("/");
        if !matches!(protocol.as_str(), "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "RTP/SAVPF") {
            return Err(SdpError::UnsupportedProtocol { section: section(), protocol: quote(&protocol) });
        }
        let rtcp_mux = has(attributes, "rtcp-mux");
        if !rtcp_mux && !bundle_only {
            return Err(SdpError::NoRtcpMux { section: section() });
        }
        let (codecs, names) = codecs::offered(
            kind,
            media.media_name.formats.iter().map(String::as_str),
            attributes.iter().filter_map(|a| Some((a.key.as_str(), a.value.as_deref()?))),
        );
        let layer = Layer::best(attributes).filter(|_| kind == MediaKind::Video);
        let (ssrc, rtx_ssrc) = match &layer {
            Some(layer) => layer.ssrcs(attributes),
            None => ssrcs(attributes),
        };
        let direction = |list: &[Attribute]| list.iter().rev().find_map(|a| Direction::parse(&a.key));
        Ok(Media {
            kind,
            direction: direction(attributes).or(direction(session)).unwrap_or(Direction::SendRecv),
            rtcp_mux,
            rtcp_mux_only: has(attributes, "rtcp-mux-only"),
            rtcp_rsize: has(attributes, "rtcp-rsize"),
            codecs,
            offered: names.join(", "),
            mid_extension: extension(attributes, MID_URI),
            transport_cc_extension: extension(attributes, TRANSPORT_CC_URI),
            rid_extension: extension(attributes, RID_URI),
            repaired_rid_extension: extension(attributes, REPAIRED_RID_URI),
            ssrc,
            rtx_ssrc,
            layer,
        })
    }
}

/// Pairs of media and retransmission SSRCs, in the order of their `a=ssrc-group:FID` lines.
pub(super) fn repaired_ssrcs(attributes: &[Attribute]) -> impl Iterator<Item = (u32, u32)> {
    values(attributes, "ssrc-group").filter_map(|group| {
        let mut words = group.strip_prefix("FID ")?.split_whitespace().map(str::parse::<u32>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    })
}

/// The media SSRC and that of its retransmissions.
fn ssrcs(attributes: &[Attribute]) -> (Option<u32>, Option<u32>) {
    if let Some((media, rtx)) = repaired_ssrcs(attributes).next() {
        return (Some(media), Some(rtx));
    }
    (values(attributes, "ssrc").next().and_then(|line| line.split(' ').next()?.parse().ok()), None)
}

/// The extension with this URI, if the offerer may send by it and its header stays a one-byte one.
fn extension(attributes: &[Attribute], uri: &str) -> Option<Extension> {
    attributes.iter().filter(|a| a.key == "extmap").find_map(|a| {
        let mut words = a.value.as_deref()?.split_whitespace();
        let first = words.next()?;
        let (id, direction) = match first.split_once('/') {
            Some((id, direction)) => (id.parse().ok()?, Direction::parse(direction)?),
            None => (first.parse().ok()?, Direction::SendRecv),
        };
        let sendonly = match direction {
            Direction::SendRecv => false,
            Direction::SendOnly => true,
            Direction::RecvOnly | Direction::Inactive => return None,
        };
        ((1..=14).contains(&id) && words.next() == Some(uri)).then_some(Extension { id, sendonly })
    })
}

pub(super) fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|a| a.key == key)
}

pub(super) fn value<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.key == key)?.value.as_deref().map(str::trim)
}

pub(super) fn values<'a>(attributes: &'a [Attribute], key: &'static str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref())
}
