//! Answers: what a publisher and a subscriber are told.
//!
//! Rules: RFC 9725 §4.2 and §4.4, RFC 9429 §5.3.1 (order, ports, `c=`), RFC 9143 (one transport for all), RFC 8839
//! (candidates), RFC 8445 §5.1.2.1 (priorities), RFC 8830 (msid), RFC 5576 (ssrc). All candidates stand in the answer,
//! in the tagged section, since trickling from server to client does not exist in WHIP. Simulcast is not answered, so
//! that a publisher sends one layer. No section is ever rejected by port 0: either everything is answered or nothing.

use super::codecs::best_match;
use super::error::{SdpError, kind_name};
use super::offer::{Direction, Offer, Section};
use crate::parameters::{
    HeaderExtensions, IncomingTrack, LocalDescription, MediaKind, OutgoingTrack, PayloadType, PublisherTracks,
    SubscriberTracks,
};
use std::fmt::Arguments;
use std::net::SocketAddr;

/// The CNAME (RFC 7022) of all that we send: one endpoint, one clock. RTCP SDES must carry the same.
pub const CNAME: &str = "media-server";

/// The MediaStream that a subscriber gets its tracks in.
const STREAM: &str = "live";

impl Offer {
    /// Answers a publisher (WHIP): recvonly. `max_bitrate` in bits per second goes into `b=` of the video section.
    pub fn answer_publisher(
        &self,
        local: &LocalDescription,
        max_bitrate: Option<u64>,
    ) -> Result<(String, PublisherTracks), SdpError> {
        let mut streams = self.sections.iter().filter_map(|s| s.stream.as_ref());
        if let Some(first) = streams.next()
            && let Some(second) = streams.find(|s| *s != first)
        {
            return Err(SdpError::TooManyStreams { first: first.clone(), second: second.clone() });
        }
        let mut tracks = PublisherTracks::default();
        let mut answers = Vec::new();
        for section in &self.sections {
            section.expect_direction(Direction::SendOnly)?;
            let transport_cc = section.transport_cc_extension.filter(|_| section.codecs.iter().any(|c| c.transport_cc));
            let mut payload_types = section.codecs.clone();
            for payload_type in &mut payload_types {
                payload_type.transport_cc &= transport_cc.is_some();
            }
            if payload_types.is_empty() {
                return Err(section.no_common_codec(supported(section.kind).to_owned()));
            }
            let extensions =
                HeaderExtensions { mid: section.mid_extension.map(|e| e.id), transport_cc: transport_cc.map(|e| e.id) };
            answers.push(SectionAnswer {
                section,
                direction: Direction::RecvOnly,
                payload_types: payload_types.clone(),
                extensions,
                max_bitrate: max_bitrate.filter(|_| section.kind == MediaKind::Video),
                ssrcs: None,
            });
            let track = IncomingTrack {
                mid: section.mid.clone(),
                kind: section.kind,
                payload_types,
                extensions,
                ssrc: section.ssrc,
                rtx_ssrc: section.rtx_ssrc,
            };
            match section.kind {
                MediaKind::Audio => tracks.audio = Some(track),
                MediaKind::Video => tracks.video = Some(track),
            }
        }
        Ok((write(self, local, &answers), tracks))
    }

    /// Answers a subscriber (WHEP): sendonly, with codecs of `source` that the offer takes too.
    ///
    /// The first payload type of a source track is taken for what the publisher sends now: put it first. Behind those
    /// that match the source stand the others that the subscriber knows, for a publisher that comes back with another
    /// codec: not all of them need have RTX. A kind that the source lacks is answered `a=inactive`. `ssrcs` are four different random numbers: video,
    /// video RTX, audio, spare.
    pub fn answer_subscriber(
        &self,
        local: &LocalDescription,
        source: &PublisherTracks,
        ssrcs: [u32; 4],
    ) -> Result<(String, SubscriberTracks), SdpError> {
        let mut tracks = SubscriberTracks::default();
        let mut answers = Vec::new();
        for section in &self.sections {
            section.expect_direction(Direction::RecvOnly)?;
            let sent = match section.kind {
                MediaKind::Audio => &source.audio,
                MediaKind::Video => &source.video,
            };
            let payload_types = match sent {
                Some(track) => common(section, track)?,
                None => as_sender(&section.codecs),
            };
            if payload_types.is_empty() {
                return Err(section.no_common_codec(supported(section.kind).to_owned()));
            }
            let (ssrc, rtx) = match section.kind {
                MediaKind::Audio => (ssrcs[2], None),
                MediaKind::Video => (ssrcs[0], payload_types.iter().find_map(|p| p.rtx).map(|_| ssrcs[1])),
            };
            answers.push(SectionAnswer {
                section,
                direction: if sent.is_some() { Direction::SendOnly } else { Direction::Inactive },
                payload_types: payload_types.clone(),
                extensions: HeaderExtensions::default(),
                max_bitrate: None,
                ssrcs: sent.is_some().then_some((ssrc, rtx)),
            });
            if sent.is_none() {
                continue;
            }
            let track =
                OutgoingTrack { mid: section.mid.clone(), kind: section.kind, payload_types, ssrc, rtx_ssrc: rtx };
            match section.kind {
                MediaKind::Audio => tracks.audio = Some(track),
                MediaKind::Video => tracks.video = Some(track),
            }
        }
        if tracks == SubscriberTracks::default() {
            let present = match (&source.audio, &source.video) {
                (Some(_), _) => "audio",
                (None, Some(_)) => "video",
                (None, None) => "nothing yet",
            };
            return Err(SdpError::NoCommonKind {
                offered: self.sections.iter().map(|s| kind_name(&s.kind)).collect::<Vec<_>>().join(" and "),
                present: present.to_owned(),
            });
        }
        Ok((write(self, local, &answers), tracks))
    }
}

/// Encoding names of what is passed through, for messages.
fn supported(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "opus",
        MediaKind::Video => "H264, VP8, VP9 or AV1",
    }
}

/// What we may say of payload types that we send with: RTX for video only, and no transport-wide feedback, since a
/// header without extensions is the same for all subscribers.
fn as_sender(codecs: &[PayloadType]) -> Vec<PayloadType> {
    let audio = |c: &PayloadType| c.codec.kind() == MediaKind::Audio;
    codecs.iter().map(|c| PayloadType { transport_cc: false, rtx: c.rtx.filter(|_| !audio(c)), ..c.clone() }).collect()
}

/// The subscriber's payload types: first those for what the source sends, in the source's order, then the others.
fn common(section: &Section, source: &IncomingTrack) -> Result<Vec<PayloadType>, SdpError> {
    let offered = as_sender(&section.codecs);
    let mut agreed: Vec<PayloadType> = Vec::new();
    for (index, sent) in source.payload_types.iter().enumerate() {
        match best_match(sent, &offered) {
            Some(found) if agreed.iter().all(|a| a.number != found.number) => agreed.push(found.clone()),
            Some(_) => {}
            None if index == 0 => {
                let profile = if sent.fmtp.is_empty() { String::new() } else { format!(" ({})", sent.fmtp) };
                return Err(section.no_common_codec(format!("{}{profile}, which the camera sends", sent.codec.name())));
            }
            None => {}
        }
    }
    let rest: Vec<PayloadType> = offered.into_iter().filter(|o| agreed.iter().all(|a| a.number != o.number)).collect();
    agreed.extend(rest);
    Ok(agreed)
}

impl Section {
    fn expect_direction(&self, wanted: Direction) -> Result<(), SdpError> {
        if self.direction == wanted || self.direction == Direction::SendRecv {
            return Ok(());
        }
        Err(SdpError::WrongDirection { section: self.name(), offered: self.direction.name(), wanted: wanted.name() })
    }

    fn no_common_codec(&self, wanted: String) -> SdpError {
        let offered = if self.offered.is_empty() { "no payload type".to_owned() } else { self.offered.clone() };
        SdpError::NoCommonCodec { section: self.name(), offered, wanted }
    }
}

/// What is said of one section.
struct SectionAnswer<'a> {
    section: &'a Section,
    direction: Direction,
    payload_types: Vec<PayloadType>,
    extensions: HeaderExtensions,
    max_bitrate: Option<u64>,
    /// Ours: media, and RTX if agreed.
    ssrcs: Option<(u32, Option<u32>)>,
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

fn write(offer: &Offer, local: &LocalDescription, answers: &[SectionAnswer<'_>]) -> String {
    let mut out = Lines(String::with_capacity(4096));
    out.push(format_args!("v=0"));
    out.push(format_args!("o=- {} 2 IN IP4 127.0.0.1", local.origin));
    out.push(format_args!("s=-"));
    out.push(format_args!("t=0 0"));
    if !offer.bundle.is_empty() {
        out.push(format_args!("a=group:BUNDLE {}", offer.bundle.join(" ")));
    }
    out.push(format_args!("a=ice-lite"));
    out.push(format_args!("a=ice-options:trickle"));
    let sends = answers.iter().any(|a| a.ssrcs.is_some());
    out.push(format_args!("a=msid-semantic: WMS{}", if sends { format!(" {STREAM}") } else { String::new() }));
    // Candidates belong into the tagged section (RFC 9143 §7.1.3). Some clients skip inactive sections, candidates
    // included, so they stand in the first active one too.
    let tagged = answers.iter().position(|answer| answer.section.mid == offer.tagged_mid());
    let active = answers.iter().position(|answer| answer.direction != Direction::Inactive);
    let skipped = tagged.is_some_and(|tagged| answers[tagged].direction == Direction::Inactive);
    for (index, answer) in answers.iter().enumerate() {
        let here = Some(index);
        answer.write(&mut out, local, here == tagged || skipped && here == active);
    }
    out.0
}

impl SectionAnswer<'_> {
    fn write(&self, out: &mut Lines, local: &LocalDescription, with_candidates: bool) {
        let section = self.section;
        let numbers = self.payload_types.iter().flat_map(|p| [Some(p.number), p.rtx]).flatten();
        let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
        out.push(format_args!("m={} 9 {} {}", kind_name(&section.kind), section.protocol, numbers.join(" ")));
        out.push(format_args!("c=IN IP4 0.0.0.0"));
        if let Some(bits) = self.max_bitrate {
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
        out.push(format_args!("a=setup:passive"));
        out.push(format_args!("a=mid:{}", section.mid));
        for (agreed, offered, uri) in [
            (self.extensions.mid, section.mid_extension, super::offer::MID_URI),
            (self.extensions.transport_cc, section.transport_cc_extension, super::offer::TRANSPORT_CC_URI),
        ] {
            if let (Some(id), Some(offered)) = (agreed, offered) {
                out.push(format_args!("a=extmap:{id}{} {uri}", if offered.sendonly { "/recvonly" } else { "" }));
            }
        }
        out.push(format_args!("a={}", self.direction.name()));
        let track = format!("{STREAM} {STREAM}-{}", kind_name(&section.kind));
        if self.ssrcs.is_some() {
            out.push(format_args!("a=msid:{track}"));
        }
        for (offered, name) in [
            (section.rtcp_mux, "rtcp-mux"),
            // RFC 9725 §4.4.1 wants it of the server too, RFC 8858 §4.2 of the offerer alone: so only as an echo.
            (section.rtcp_mux_only, "rtcp-mux-only"),
            (section.rtcp_rsize, "rtcp-rsize"),
        ] {
            if offered {
                out.push(format_args!("a={name}"));
            }
        }
        for payload_type in &self.payload_types {
            write_payload_type(out, payload_type);
        }
        if let Some((ssrc, rtx)) = self.ssrcs {
            if let Some(rtx) = rtx {
                out.push(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
            }
            for ssrc in [Some(ssrc), rtx].into_iter().flatten() {
                out.push(format_args!("a=ssrc:{ssrc} cname:{CNAME}"));
                out.push(format_args!("a=ssrc:{ssrc} msid:{track}"));
            }
        }
    }
}

fn write_payload_type(out: &mut Lines, payload_type: &PayloadType) {
    let PayloadType { number, codec, fmtp, rtx, nack, pli, fir, remb, transport_cc } = payload_type;
    let channels = if codec.kind() == MediaKind::Audio { "/2" } else { "" };
    out.push(format_args!("a=rtpmap:{number} {}/{}{channels}", codec.name(), codec.clock_rate()));
    for (agreed, feedback) in
        [(remb, "goog-remb"), (transport_cc, "transport-cc"), (fir, "ccm fir"), (nack, "nack"), (pli, "nack pli")]
    {
        if *agreed {
            out.push(format_args!("a=rtcp-fb:{number} {feedback}"));
        }
    }
    // What begins with sprop- tells of the offerer's own stream (RFC 6184 §8.2.2, RFC 7587 §7): it is not echoed.
    let echoed: Vec<&str> = fmtp.split(';').filter(|p| !p.trim_start().starts_with("sprop-")).collect();
    let echoed = echoed.join(";");
    if !echoed.trim().is_empty() {
        out.push(format_args!("a=fmtp:{number} {}", echoed.trim()));
    }
    if let Some(rtx) = rtx {
        out.push(format_args!("a=rtpmap:{rtx} rtx/{}", codec.clock_rate()));
        out.push(format_args!("a=fmtp:{rtx} apt={number}"));
    }
}
