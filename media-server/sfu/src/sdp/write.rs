//! The text of an answer.
//!
//! Rules: RFC 9429 §5.3.1 (`m=`, `c=`, port 0), RFC 9143 §7.3 (the group has the carried sections; its first one has the
//! candidates), RFC 8839 (candidates), RFC 8445 §5.1.2.1 (priorities), RFC 8842 (setup), RFC 8830 (msid), RFC 5576
//! (ssrc), RFC 8851 and RFC 8853 (the one layer that is received). All candidates stand in the answer, since trickling
//! from server to client does not exist in WHIP.

use super::answer::accepted;
use super::codecs::parameter;
use super::error::kind_name;
use super::offer::Offer;
use super::section::{Direction, MID_URI, Media, REPAIRED_RID_URI, RID_URI, Section, TRANSPORT_CC_URI};
use crate::parameters::{Codec, DtlsRole, HeaderExtensions, LocalDescription, PayloadType};
use std::fmt::Arguments;
use std::net::SocketAddr;

/// The CNAME (RFC 7022) of all that we send: one endpoint, one clock. RTCP SDES must carry the same.
pub const CNAME: &str = "media-server";

/// The MediaStream that a subscriber gets its tracks in.
const STREAM: &str = "live";

/// How one section is answered.
pub(super) struct Carried {
    pub(super) direction: Direction,
    pub(super) payload_types: Vec<PayloadType>,
    pub(super) extensions: HeaderExtensions,
    pub(super) max_bitrate: Option<u64>,
    /// Ours: media, and RTX if agreed.
    pub(super) ssrcs: Option<(u32, Option<u32>)>,
    /// For audio that we send: whether it is known to have two channels.
    pub(super) stereo: Option<bool>,
}

/// SDP text under construction.
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn push(&mut self, line: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut self.0, line);
        self.0.push_str("\r\n");
    }

    /// Our candidates, best first, and that there are no more.
    pub(super) fn push_candidates(&mut self, candidates: &[SocketAddr]) {
        for (index, candidate) in candidates.iter().enumerate() {
            // RFC 8445 §5.1.2.1: type preference 126 (host), local preference by order, component 1.
            let local = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
            let priority = (126 << 24) | (local << 8) | 255;
            let (foundation, ip, port) = (index + 1, candidate.ip(), candidate.port());
            self.push(format_args!("a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host"));
        }
        self.push(format_args!("a=end-of-candidates"));
    }
}

/// Writes the answer; a section without a value in `carried` is rejected.
pub(super) fn write(offer: &Offer, local: &LocalDescription, carried: &[Option<Carried>]) -> String {
    let mut out = Lines(String::with_capacity(4096));
    out.push(format_args!("v=0"));
    out.push(format_args!("o=- {} 2 IN IP4 127.0.0.1", local.origin));
    out.push(format_args!("s=-"));
    out.push(format_args!("t=0 0"));
    let mids: Vec<&str> = accepted(offer, carried).filter_map(|(section, _, _)| section.mid.as_deref()).collect();
    let group: Vec<&str> = offer.bundle.iter().map(String::as_str).filter(|mid| mids.contains(mid)).collect();
    if !group.is_empty() {
        out.push(format_args!("a=group:BUNDLE {}", group.join(" ")));
    }
    out.push(format_args!("a=ice-lite"));
    out.push(format_args!("a=ice-options:trickle"));
    let sends = carried.iter().flatten().any(|c| c.ssrcs.is_some());
    out.push(format_args!("a=msid-semantic: WMS{}", if sends { format!(" {STREAM}") } else { String::new() }));
    // The group's first section has the candidates; without a group there is one section alone.
    let tagged = group.first().or(mids.first()).copied();
    for (section, carried) in offer.sections.iter().zip(carried) {
        match (&section.body, carried) {
            (Ok(media), Some(carried)) => {
                let section = Carrying { section, media, carried };
                section.write(&mut out, local, offer.dtls_role, section.section.mid.as_deref() == tagged);
            }
            _ => write_rejected(&mut out, section),
        }
    }
    out.0
}

/// One format is enough of a rejected section (RFC 3264 §6); it keeps its mid and leaves the group.
fn write_rejected(out: &mut Lines, section: &Section) {
    out.push(format_args!("m={} 0 {} {}", section.media, section.protocol, section.format));
    out.push(format_args!("c=IN IP4 0.0.0.0"));
    if let Some(mid) = &section.mid {
        out.push(format_args!("a=mid:{mid}"));
    }
    out.push(format_args!("a=inactive"));
}

struct Carrying<'a> {
    section: &'a Section,
    media: &'a Media,
    carried: &'a Carried,
}

impl Carrying<'_> {
    fn write(&self, out: &mut Lines, local: &LocalDescription, role: DtlsRole, with_candidates: bool) {
        let Carrying { section, media, carried } = self;
        let numbers = carried.payload_types.iter().flat_map(|p| [Some(p.number), p.rtx]).flatten();
        let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
        out.push(format_args!("m={} 9 {} {}", section.media, section.protocol, numbers.join(" ")));
        out.push(format_args!("c=IN IP4 0.0.0.0"));
        if let Some(bits) = carried.max_bitrate {
            out.push(format_args!("b=AS:{}", bits.div_ceil(1000)));
            out.push(format_args!("b=TIAS:{bits}"));
        }
        out.push(format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
        if with_candidates {
            out.push_candidates(&local.candidates);
        }
        // Repeated in every section, as browsers do: some clients look nowhere else.
        out.push(format_args!("a=ice-ufrag:{}", local.ice.ufrag));
        out.push(format_args!("a=ice-pwd:{}", local.ice.pwd));
        out.push(format_args!("a=fingerprint:{}", local.fingerprint));
        out.push(format_args!("a=setup:{}", if role == DtlsRole::Client { "active" } else { "passive" }));
        if let Some(mid) = &section.mid {
            out.push(format_args!("a=mid:{mid}"));
        }
        self.write_extensions(out);
        out.push(format_args!("a={}", carried.direction.name()));
        let track = format!("{STREAM} {STREAM}-{}", kind_name(&media.kind));
        if carried.ssrcs.is_some() {
            out.push(format_args!("a=msid:{track}"));
        }
        for (offered, name) in [
            (media.rtcp_mux, "rtcp-mux"),
            // RFC 9725 §4.4.1 wants it of the server too, RFC 8858 §4.2 of the offerer alone: so only as an echo.
            (media.rtcp_mux_only, "rtcp-mux-only"),
            (media.rtcp_rsize, "rtcp-rsize"),
        ] {
            if offered {
                out.push(format_args!("a={name}"));
            }
        }
        for payload_type in &carried.payload_types {
            write_payload_type(out, payload_type, carried.stereo);
        }
        if let Some((ssrc, rtx)) = carried.ssrcs {
            if let Some(rtx) = rtx {
                out.push(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
            }
            for ssrc in [Some(ssrc), rtx].into_iter().flatten() {
                out.push(format_args!("a=ssrc:{ssrc} cname:{CNAME}"));
                out.push(format_args!("a=ssrc:{ssrc} msid:{track}"));
            }
        }
        if let Some(layer) = media.layer.as_ref().filter(|_| carried.direction == Direction::RecvOnly) {
            out.push(format_args!("a=rid:{} recv", layer.rid));
            out.push(format_args!("a=simulcast:recv {}", layer.rid));
        }
    }

    fn write_extensions(&self, out: &mut Lines) {
        let agreed = self.carried.extensions;
        for (agreed, offered, uri) in [
            (agreed.mid, self.media.mid_extension, MID_URI),
            (agreed.transport_cc, self.media.transport_cc_extension, TRANSPORT_CC_URI),
            (agreed.rid, self.media.rid_extension, RID_URI),
            (agreed.repaired_rid, self.media.repaired_rid_extension, REPAIRED_RID_URI),
        ] {
            if let (Some(id), Some(offered)) = (agreed, offered) {
                out.push(format_args!("a=extmap:{id}{} {uri}", if offered.sendonly { "/recvonly" } else { "" }));
            }
        }
    }
}

fn write_payload_type(out: &mut Lines, payload_type: &PayloadType, stereo: Option<bool>) {
    let PayloadType { number, codec, rtx, nack, pli, fir, remb, transport_cc, .. } = payload_type;
    let channels = if *codec == Codec::Opus { "/2" } else { "" };
    out.push(format_args!("a=rtpmap:{number} {}/{}{channels}", codec.name(), codec.clock_rate()));
    for (agreed, feedback) in
        [(remb, "goog-remb"), (transport_cc, "transport-cc"), (fir, "ccm fir"), (nack, "nack"), (pli, "nack pli")]
    {
        if *agreed {
            out.push(format_args!("a=rtcp-fb:{number} {feedback}"));
        }
    }
    let parameters = format_parameters(payload_type, stereo);
    if !parameters.is_empty() {
        out.push(format_args!("a=fmtp:{number} {parameters}"));
    }
    if let Some(rtx) = rtx {
        out.push(format_args!("a=rtpmap:{rtx} rtx/{}", codec.clock_rate()));
        out.push(format_args!("a=fmtp:{rtx} apt={number}"));
    }
}

/// Returns the offerer's parameters without those of its stream, `sprop-*` (RFC 6184 §8.2.2, RFC 7587 §7). Opus that
/// we send gets `stereo=1`, and `sprop-stereo=1` when the camera sends two channels.
fn format_parameters(payload_type: &PayloadType, stereo: Option<bool>) -> String {
    let echoed = payload_type.fmtp.split(';').map(str::trim).filter(|p| !p.is_empty() && !p.starts_with("sprop-"));
    let mut parameters: Vec<&str> = echoed.collect();
    if let (Codec::Opus, Some(stereo)) = (payload_type.codec, stereo) {
        if parameter(&payload_type.fmtp, "stereo").is_none() {
            parameters.push("stereo=1");
        }
        if stereo {
            parameters.push("sprop-stereo=1");
        }
    }
    parameters.join(";")
}
