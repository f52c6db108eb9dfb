//! Answers: the sections that are carried, and their codecs.
//!
//! Rules: RFC 9725 §4.2 and §4.4, RFC 9429 §5.3.1 (order, rejection by port 0), RFC 9143 (one transport for all),
//! RFC 8853 (one layer of a simulcast offer is received). Sections that are no media for this server (data channels,
//! inactive, disabled or backward ones, a second one of a kind) are rejected and the rest is answered. Media that it
//! cannot carry is refused by name (RFC 9725 §4.4.2), unless [`AnswerOptions::partial_answers`] allows the rest alone.

use super::codecs::{best_match, parameter};
use super::error::{SdpError, kind_name};
use super::offer::Offer;
use super::section::{Direction, Media, Section};
use super::write::{Carried, write};
use crate::parameters::{
    Codec, HeaderExtensions, IncomingTrack, LocalDescription, MediaKind, OutgoingTrack, PayloadType, PublisherTracks,
    SubscriberTracks,
};

/// The configuration of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Codecs requested from a publisher, in order of preference; others follow in the order of the offer.
    pub codecs: Vec<Codec>,
    /// A section without a codec of ours is rejected alone, where the offer has other media.
    pub partial_answers: bool,
    /// Bits per second, for `b=` of a publisher's video section (RFC 3890).
    pub max_bitrate: Option<u64>,
}

impl AnswerOptions {
    /// The order of codecs when the configuration has none: the codec that plays nearly everywhere is first.
    pub const DEFAULT_CODECS: [Codec; 4] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1];

    /// Place of `codec` in the order; less is better.
    fn rank(&self, codec: Codec) -> usize {
        let listed = self.codecs.iter().position(|wanted| *wanted == codec);
        listed.unwrap_or(self.codecs.len() + usize::from(codec != Codec::Opus))
    }
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self { codecs: Self::DEFAULT_CODECS.to_vec(), partial_answers: false, max_bitrate: None }
    }
}

impl Offer {
    /// Answers a publisher (WHIP): recvonly, its codecs in the order of `options`.
    pub fn answer_publisher(
        &self,
        local: &LocalDescription,
        options: &AnswerOptions,
    ) -> Result<(String, PublisherTracks), SdpError> {
        let carried = self.select(Direction::SendOnly, options, |section, media| {
            let transport_cc = media.transport_cc_extension.filter(|_| media.codecs.iter().any(|c| c.transport_cc));
            let mut payload_types = media.codecs.clone();
            payload_types.sort_by_key(|p| options.rank(p.codec));
            for payload_type in &mut payload_types {
                payload_type.transport_cc &= transport_cc.is_some();
            }
            if payload_types.is_empty() {
                return Err(section.no_common_codec(media, supported(media.kind).to_owned()));
            }
            // Layers are distinguished by their identifiers alone; one stream needs none.
            let rid = media.layer.as_ref().and(media.rid_extension);
            let repaired_rid = media.layer.as_ref().and(media.repaired_rid_extension);
            Ok(Carried {
                direction: Direction::RecvOnly,
                payload_types,
                extensions: HeaderExtensions {
                    mid: media.mid_extension.filter(|_| section.mid.is_some()).map(|e| e.id),
                    transport_cc: transport_cc.map(|e| e.id),
                    rid: rid.map(|e| e.id),
                    repaired_rid: repaired_rid.map(|e| e.id),
                },
                max_bitrate: options.max_bitrate.filter(|_| media.kind == MediaKind::Video),
                ssrcs: None,
                stereo: None,
            })
        })?;
        let mut tracks = PublisherTracks::default();
        for (section, media, carried) in accepted(self, &carried) {
            let track = IncomingTrack {
                mid: section.mid.clone().unwrap_or_default(),
                kind: media.kind,
                payload_types: carried.payload_types.clone(),
                extensions: carried.extensions,
                ssrc: media.ssrc,
                rtx_ssrc: media.rtx_ssrc,
                rid: media.layer.as_ref().filter(|_| carried.extensions.rid.is_some()).map(|layer| layer.rid.clone()),
            };
            match media.kind {
                MediaKind::Audio => tracks.audio = Some(track),
                MediaKind::Video => tracks.video = Some(track),
            }
        }
        Ok((write(self, local, &carried), tracks))
    }

    /// Answers a subscriber (WHEP): sendonly, with codecs of `source` that the offer takes too.
    ///
    /// Payload types that match the source are first, in the source's order; the others that the subscriber knows
    /// follow, for a publisher that returns with another codec. Not all of them need RTX. A kind that the source lacks
    /// now is answered likewise, so that a track that the publisher adds later reaches the subscriber. `ssrcs` are four
    /// different random numbers: video, video RTX, audio, spare.
    pub fn answer_subscriber(
        &self,
        local: &LocalDescription,
        source: &PublisherTracks,
        ssrcs: [u32; 4],
        options: &AnswerOptions,
    ) -> Result<(String, SubscriberTracks), SdpError> {
        let sent = |kind| match kind {
            MediaKind::Audio => source.audio.as_ref(),
            MediaKind::Video => source.video.as_ref(),
        };
        let carried = self.select(Direction::RecvOnly, options, |section, media| {
            let payload_types = match sent(media.kind) {
                Some(track) => common(section, media, track, options)?,
                None => as_sender(&media.codecs, options),
            };
            if payload_types.is_empty() {
                return Err(section.no_common_codec(media, supported(media.kind).to_owned()));
            }
            let ssrcs = match media.kind {
                MediaKind::Audio => (ssrcs[2], None),
                MediaKind::Video => (ssrcs[0], payload_types.iter().find_map(|p| p.rtx).map(|_| ssrcs[1])),
            };
            Ok(Carried {
                direction: Direction::SendOnly,
                payload_types,
                extensions: HeaderExtensions::default(),
                max_bitrate: None,
                ssrcs: Some(ssrcs),
                stereo: (media.kind == MediaKind::Audio).then(|| sent(media.kind).is_some_and(is_stereo)),
            })
        })?;
        let mut tracks = SubscriberTracks::default();
        for (section, media, carried) in accepted(self, &carried) {
            let (ssrc, rtx_ssrc) = carried.ssrcs.unwrap_or_default();
            let track = OutgoingTrack {
                mid: section.mid.clone().unwrap_or_default(),
                kind: media.kind,
                payload_types: carried.payload_types.clone(),
                ssrc,
                rtx_ssrc,
            };
            match media.kind {
                MediaKind::Audio => tracks.audio = Some(track),
                MediaKind::Video => tracks.video = Some(track),
            }
        }
        let present = |kind| sent(kind).is_some();
        if !accepted(self, &carried).any(|(_, media, _)| present(media.kind)) {
            let present = if present(MediaKind::Audio) {
                "audio"
            } else if present(MediaKind::Video) {
                "video"
            } else {
                "nothing yet"
            };
            let kinds: Vec<&str> = accepted(self, &carried).map(|(_, media, _)| kind_name(&media.kind)).collect();
            return Err(SdpError::NoCommonKind { offered: kinds.join(" and "), present: present.to_owned() });
        }
        Ok((write(self, local, &carried), tracks))
    }

    /// Decides section by section. `carry` returns how a usable section is answered, or why it cannot be.
    fn select(
        &self,
        wanted: Direction,
        options: &AnswerOptions,
        carry: impl Fn(&Section, &Media) -> Result<Carried, SdpError>,
    ) -> Result<Vec<Option<Carried>>, SdpError> {
        let mut carried: Vec<Option<Carried>> = Vec::with_capacity(self.sections.len());
        let mut kinds: Vec<MediaKind> = Vec::new();
        let mut refused: Vec<(&Section, SdpError)> = Vec::new();
        for section in &self.sections {
            let answer = match &section.body {
                Ok(media) if kinds.contains(&media.kind) => Ok(None),
                Ok(media) => section
                    .expect_direction(media, wanted)
                    .and_then(|()| carry(section, media))
                    .inspect(|_| kinds.push(media.kind))
                    .map(Some),
                Err(error) => Err(error.clone()),
            };
            carried.push(answer.unwrap_or_else(|error| {
                refused.push((section, error));
                None
            }));
        }
        // Media that would be lost counts, unless another section of its kind is carried.
        let lost = refused.iter().find(|(section, error)| {
            error.is_about_media() && !kinds.iter().any(|kind| kind_name(kind) == section.media)
        });
        match lost {
            Some((_, error)) if kinds.is_empty() || !options.partial_answers => return Err(error.clone()),
            _ => {}
        }
        if kinds.is_empty() {
            let direction = refused.iter().find(|(_, error)| matches!(error, SdpError::WrongDirection { .. }));
            let error = direction.or_else(|| refused.first()).map(|(_, error)| error.clone());
            return Err(error.unwrap_or(SdpError::NoMedia));
        }
        check_bundle(self, &carried)?;
        check_payload_types(&carried)?;
        Ok(carried)
    }
}

/// The sections that are carried.
pub(super) fn accepted<'a>(
    offer: &'a Offer,
    carried: &'a [Option<Carried>],
) -> impl Iterator<Item = (&'a Section, &'a Media, &'a Carried)> {
    offer
        .sections
        .iter()
        .zip(carried)
        .filter_map(|(section, carried)| Some((section, section.body.as_ref().ok()?, carried.as_ref()?)))
}

/// All that is carried shares one transport: several sections need a group, and the first of it RTCP on the same port.
fn check_bundle(offer: &Offer, carried: &[Option<Carried>]) -> Result<(), SdpError> {
    let sections: Vec<(&Section, &Media)> =
        accepted(offer, carried).map(|(section, media, _)| (section, media)).collect();
    if sections.len() > 1 {
        for (section, _) in &sections {
            let Some(mid) = &section.mid else {
                return Err(SdpError::MissingAttribute {
                    section: section.name(),
                    attribute: "a=mid",
                    remedy: "give each section one, as BUNDLE needs it",
                });
            };
            if !offer.bundle.contains(mid) {
                return Err(SdpError::NotBundled { section: section.name() });
            }
        }
    }
    let first = |mid: &String| sections.iter().find(|(section, _)| section.mid.as_ref() == Some(mid));
    match offer.bundle.iter().find_map(first).or(sections.first()) {
        Some((section, media)) if !media.rtcp_mux => Err(SdpError::NoRtcpMux { section: section.name() }),
        _ => Ok(()),
    }
}

/// In a bundle a payload type must mean one thing, since packets may be distinguished by nothing else.
fn check_payload_types(carried: &[Option<Carried>]) -> Result<(), SdpError> {
    let mut seen = [false; 128];
    for codec in carried.iter().flatten().flat_map(|carried| &carried.payload_types) {
        for number in [Some(codec.number), codec.rtx].into_iter().flatten() {
            match seen.get_mut(usize::from(number)) {
                Some(taken) if !*taken => *taken = true,
                _ => return Err(SdpError::PayloadTypeClash { number }),
            }
        }
    }
    Ok(())
}

/// Encoding names of the supported codecs, for messages.
fn supported(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "opus, PCMA or PCMU",
        MediaKind::Video => "H264, VP8, VP9 or AV1",
    }
}

/// Whether a camera sends two channels (RFC 7587 §7): some signal it by `stereo` alone.
fn is_stereo(track: &IncomingTrack) -> bool {
    let says = |fmtp, name| parameter(fmtp, name) == Some("1");
    let opus = track.payload_types.iter().filter(|p| p.codec == Codec::Opus);
    opus.map(|p| p.fmtp.as_str()).any(|fmtp| says(fmtp, "sprop-stereo") || says(fmtp, "stereo"))
}

/// The feedback attributes of payload types that we send with: RTX for video only, and no transport-wide feedback, since a
/// header without extensions is the same for all subscribers.
fn as_sender(codecs: &[PayloadType], options: &AnswerOptions) -> Vec<PayloadType> {
    let audio = |c: &PayloadType| c.codec.kind() == MediaKind::Audio;
    let mut codecs: Vec<PayloadType> = codecs
        .iter()
        .map(|c| PayloadType { transport_cc: false, rtx: c.rtx.filter(|_| !audio(c)), ..c.clone() })
        .collect();
    codecs.sort_by_key(|p| options.rank(p.codec));
    codecs
}

/// The subscriber's payload types: first those that the source may send, in the source's order, then the others.
fn common(
    section: &Section,
    media: &Media,
    source: &IncomingTrack,
    options: &AnswerOptions,
) -> Result<Vec<PayloadType>, SdpError> {
    let offered = as_sender(&media.codecs, options);
    let mut agreed: Vec<PayloadType> = Vec::new();
    for found in source.payload_types.iter().filter_map(|sent| best_match(sent, &offered)) {
        if agreed.iter().all(|a| a.number != found.number) {
            agreed.push(found.clone());
        }
    }
    if let (true, Some(first)) = (agreed.is_empty(), source.payload_types.first()) {
        let profile = if first.fmtp.is_empty() { String::new() } else { format!(" ({})", first.fmtp) };
        let wanted = format!("{}{profile}, which the camera sends", first.codec.name());
        return Err(section.no_common_codec(media, wanted));
    }
    let rest: Vec<PayloadType> = offered.into_iter().filter(|o| agreed.iter().all(|a| a.number != o.number)).collect();
    agreed.extend(rest);
    Ok(agreed)
}

impl Section {
    fn expect_direction(&self, media: &Media, wanted: Direction) -> Result<(), SdpError> {
        if media.direction == wanted || media.direction == Direction::SendRecv {
            return Ok(());
        }
        Err(SdpError::WrongDirection { section: self.name(), offered: media.direction.name(), wanted: wanted.name() })
    }

    fn no_common_codec(&self, media: &Media, wanted: String) -> SdpError {
        let offered = if media.offered.is_empty() { "no payload type".to_owned() } else { media.offered.clone() };
        SdpError::NoCommonCodec { section: self.name(), offered, wanted }
    }
}
