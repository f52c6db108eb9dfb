//! Codecs of an m-section, and which payload type of one peer carries what another peer sends.
//!
//! Rules: RFC 3551 §6 (static payload types 0 and 8), RFC 8866 §6.6 (`a=rtpmap`) and §6.15 (`a=fmtp`), RFC 4585 (`a=rtcp-fb`), RFC 4588 (RTX), RFC 6184 §8.1 (H264
//! profiles), RFC 9628 (VP9 profiles), the AV1 RTP payload format §7.2 (AV1 profiles). Interleaved H264
//! (packetization-mode 2) is not taken.

use crate::parameters::{Codec, MediaKind, PayloadType};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What the attributes of an m-section say of one payload type.
#[derive(Default)]
struct Format<'a> {
    /// Its name without an `a=rtpmap`, where the payload type is a static one.
    fixed: Option<Codec>,
    name: &'a str,
    clock_rate: u32,
    fmtp: &'a str,
    feedback: Vec<&'a str>,
}

/// The codecs of an m-section that this server passes through, in the order of its `m=` line, and the names of all
/// codecs in it, for messages.
pub(super) fn offered<'a>(
    kind: MediaKind,
    formats: impl Iterator<Item = &'a str>,
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
) -> (Vec<PayloadType>, Vec<String>) {
    let mut order: Vec<u8> = Vec::new();
    let mut table: BTreeMap<u8, Format<'a>> = BTreeMap::new();
    for number in formats.filter_map(|f| f.parse::<u8>().ok()).filter(|n| *n < 128) {
        if let std::collections::btree_map::Entry::Vacant(slot) = table.entry(number) {
            slot.insert(Format { fixed: static_format(kind, number), ..Format::default() });
            order.push(number);
        }
    }
    let mut feedback_for_all: Vec<&'a str> = Vec::new();
    for (key, value) in attributes {
        let Some((target, rest)) = value.split_once(' ') else { continue };
        let rest = rest.trim();
        if key == "rtcp-fb" && target == "*" {
            feedback_for_all.push(rest);
            continue;
        }
        let Some(format) = target.parse::<u8>().ok().and_then(|n| table.get_mut(&n)) else { continue };
        match key {
            "rtpmap" if format.name.is_empty() => {
                let mut parts = rest.split('/');
                format.name = parts.next().unwrap_or_default();
                format.clock_rate = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
            }
            "fmtp" if format.fmtp.is_empty() => format.fmtp = rest,
            "rtcp-fb" => format.feedback.push(rest),
            _ => {}
        }
    }
    let mut names: Vec<String> = Vec::new();
    let mut codecs = Vec::new();
    for &number in &order {
        let format = &table[&number];
        let name = match (format.name, format.fixed) {
            ("", Some(codec)) => codec.name().to_owned(),
            ("", None) => number.to_string(),
            (name, _) => super::error::quote(name),
        };
        if !names.contains(&name) && names.len() < 16 {
            names.push(name);
        }
        let Some(codec) = known(kind, format) else { continue };
        let has = |what: &str| format.feedback.iter().chain(&feedback_for_all).any(|f| *f == what);
        codecs.push(PayloadType {
            number,
            codec,
            fmtp: format.fmtp.to_owned(),
            rtx: order.iter().copied().find(|rtx| repairs(&table[rtx], number)),
            nack: has("nack"),
            pli: has("nack pli"),
            fir: has("ccm fir"),
            remb: has("goog-remb"),
            transport_cc: has("transport-cc"),
        });
    }
    (codecs, names)
}

/// RFC 3551 §6.
fn static_format(kind: MediaKind, number: u8) -> Option<Codec> {
    match (kind, number) {
        (MediaKind::Audio, 0) => Some(Codec::Pcmu),
        (MediaKind::Audio, 8) => Some(Codec::Pcma),
        _ => None,
    }
}

fn known(kind: MediaKind, format: &Format<'_>) -> Option<Codec> {
    if format.name.is_empty() {
        return format.fixed;
    }
    let codec = [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1]
        .into_iter()
        .find(|c| c.kind() == kind && c.name().eq_ignore_ascii_case(format.name))?;
    let taken = codec.clock_rate() == format.clock_rate
        && (codec != Codec::H264 || matches!(parameter(format.fmtp, "packetization-mode"), None | Some("0" | "1")));
    taken.then_some(codec)
}

/// `true` when `format` is the RTX of payload type `number`.
fn repairs(format: &Format<'_>, number: u8) -> bool {
    format.name.eq_ignore_ascii_case("rtx")
        && parameter(format.fmtp, "apt").and_then(|apt| apt.parse::<u8>().ok()) == Some(number)
}

/// The value of `name` in an `a=fmtp` value such as `a=1;b=2`.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|p| p.split_once('='))
        .find(|(k, _)| k.trim().eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

/// The payload type of `among` that suits best what is sent as `source`; `None` when no decoder there could take it.
///
/// VP9 and AV1 need the same profile. H264 is matched to the same profile if it is there, else to the next higher one,
/// else to the highest there is, since decoders take more than their profile promises; and a stream with fragmented
/// units (packetization-mode 1) goes to a payload type of mode 1 if there is one.
pub fn best_match<'a>(source: &PayloadType, among: &'a [PayloadType]) -> Option<&'a PayloadType> {
    among.iter().filter(|c| is_compatible(source, c)).min_by(|a, b| {
        if source.codec == Codec::H264 {
            h264_distance(source, a).cmp(&h264_distance(source, b))
        } else {
            Ordering::Equal
        }
    })
}

fn is_compatible(source: &PayloadType, candidate: &PayloadType) -> bool {
    let same = |name, default| {
        parameter(&source.fmtp, name).unwrap_or(default) == parameter(&candidate.fmtp, name).unwrap_or(default)
    };
    source.codec == candidate.codec
        && match source.codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Vp8 | Codec::H264 => true,
            Codec::Vp9 => same("profile-id", "0"),
            Codec::Av1 => same("profile", "0"),
        }
}

/// Less is better: a mode that allows the source's packets, then a profile not below the source's, then the nearest
/// one, then the same mode.
fn h264_distance(source: &PayloadType, candidate: &PayloadType) -> (bool, bool, u8, bool) {
    let mode = |fmtp| parameter(fmtp, "packetization-mode").unwrap_or("0") == "1";
    let (sent, taken) = (mode(&source.fmtp), mode(&candidate.fmtp));
    let (from, to) = (H264Profile::of(&source.fmtp), H264Profile::of(&candidate.fmtp));
    (sent && !taken, to < from, (to as u8).abs_diff(from as u8), sent != taken)
}

/// H264 profiles in the order of what they can decode, nearly: each takes what stands before it in most decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    High444,
    Other,
}

impl H264Profile {
    /// By `profile-level-id` (RFC 6184 table 5). Without one, what browsers take: constrained baseline.
    pub(super) fn of(fmtp: &str) -> H264Profile {
        let Some(id) = parameter(fmtp, "profile-level-id") else { return H264Profile::ConstrainedBaseline };
        let byte = |at: usize| id.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (Some(profile_idc), Some(constraints)) = (byte(0), byte(2)) else { return H264Profile::Other };
        let set = |bit: u8| constraints & (0x80 >> bit) != 0;
        match profile_idc {
            0x42 if set(1) => H264Profile::ConstrainedBaseline,
            0x42 => H264Profile::Baseline,
            0x4D if set(0) => H264Profile::ConstrainedBaseline,
            0x4D => H264Profile::Main,
            0x58 if set(0) && set(1) => H264Profile::ConstrainedBaseline,
            0x58 if set(0) => H264Profile::Baseline,
            0x64 if set(4) && set(5) => H264Profile::ConstrainedHigh,
            0x64 => H264Profile::High,
            0xF4 => H264Profile::High444,
            _ => H264Profile::Other,
        }
    }
}
