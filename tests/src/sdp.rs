//! Offers of a camera and of a viewer, and what a client reads of a server's description.
//!
//! Only what the load test needs: H264 (packetization mode 1, constrained baseline) with RTX, and Opus.

use crate::peer::Remote;
use sfu::parameters::{Fingerprint, IceCredentials, MediaKind};
use std::fmt::Write;
use std::net::SocketAddr;

const H264: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Identifier of the transport-wide sequence number in the camera's packets.
pub const TRANSPORT_CC_ID: u8 = 3;

/// Why a description is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the server's description has no usable {0}")]
pub struct DescriptionError(pub &'static str);

/// What a client says of its transport.
pub struct Local<'a> {
    /// Its credentials.
    pub ice: &'a IceCredentials,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Where its socket is bound.
    pub address: SocketAddr,
}

/// Payload types and SSRCs of one m-section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Sound or picture.
    pub kind: MediaKind,
    /// Payload types that carry media, first choice first.
    pub media: Vec<u8>,
    /// Payload types that carry retransmissions.
    pub repair: Vec<u8>,
    /// In the order of `a=ssrc`, each once.
    pub ssrcs: Vec<u32>,
    /// Value of `a=mid`.
    pub mid: String,
    /// The identifier of the transport-wide sequence number, if agreed.
    pub transport_cc: Option<u8>,
}

/// A server's offer or answer.
#[derive(Clone, Debug)]
pub struct Description {
    /// How to reach it.
    pub remote: Remote,
    /// Sound and picture, those that are not rejected.
    pub sections: Vec<Section>,
}

fn transport(out: &mut String, local: &Local<'_>, setup: &str) {
    let (ip, port) = (local.address.ip(), local.address.port());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{}\r\na=setup:{setup}\r\n\
         a=rtcp-mux\r\na=rtcp-rsize\r\na=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n",
        local.ice.ufrag, local.ice.pwd, local.fingerprint,
    );
}

fn head(out: &mut String, mids: &str) {
    let _ =
        write!(out, "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\n");
}

fn codecs(out: &mut String, kind: MediaKind, media: u8, repair: u8) {
    let _ = match kind {
        MediaKind::Video => write!(
            out,
            "a=rtpmap:{media} H264/90000\r\na=fmtp:{media} {H264}\r\na=rtcp-fb:{media} nack\r\na=rtcp-fb:{media} nack pli\r\n\
             a=rtcp-fb:{media} transport-cc\r\na=rtpmap:{repair} rtx/90000\r\na=fmtp:{repair} apt={media}\r\n"
        ),
        MediaKind::Audio => {
            write!(out, "a=rtpmap:{media} opus/48000/2\r\na=fmtp:{media} minptime=10;useinbandfec=1\r\n")
        }
    };
}

/// A WHIP offer: picture on payload type 96 (RTX 97), sound on 111. `ssrcs` are those of picture, its RTX, and sound.
pub fn camera_offer(local: &Local<'_>, ssrcs: [u32; 3]) -> String {
    let mut out = String::new();
    head(&mut out, "0 1");
    for (mid, kind, formats) in [
        (0, MediaKind::Video, "video 9 UDP/TLS/RTP/SAVPF 96 97"),
        (1, MediaKind::Audio, "audio 9 UDP/TLS/RTP/SAVPF 111"),
    ] {
        let _ = write!(out, "m={formats}\r\n");
        transport(&mut out, local, "actpass");
        let _ = write!(
            out,
            "a=mid:{mid}\r\na=sendonly\r\na=msid:camera camera{mid}\r\na=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}\r\n"
        );
        match kind {
            MediaKind::Video => {
                codecs(&mut out, kind, 96, 97);
                let _ = write!(out, "a=ssrc-group:FID {} {}\r\n", ssrcs[0], ssrcs[1]);
                let _ = write!(out, "a=ssrc:{} cname:camera\r\na=ssrc:{} cname:camera\r\n", ssrcs[0], ssrcs[1]);
            }
            MediaKind::Audio => {
                codecs(&mut out, kind, 111, 0);
                let _ = write!(out, "a=ssrc:{} cname:camera\r\n", ssrcs[2]);
            }
        }
    }
    out
}

/// A WHEP offer: picture on payload type 102 (RTX 103), sound on 109.
pub fn viewer_offer(local: &Local<'_>) -> String {
    let mut out = String::new();
    head(&mut out, "0 1");
    for (mid, kind, formats) in [
        (0, MediaKind::Video, "video 9 UDP/TLS/RTP/SAVPF 102 103"),
        (1, MediaKind::Audio, "audio 9 UDP/TLS/RTP/SAVPF 109"),
    ] {
        let _ = write!(out, "m={formats}\r\n");
        transport(&mut out, local, "actpass");
        let _ = write!(out, "a=mid:{mid}\r\na=recvonly\r\n");
        match kind {
            MediaKind::Video => codecs(&mut out, kind, 102, 103),
            MediaKind::Audio => codecs(&mut out, kind, 109, 0),
        }
    }
    out
}

/// Answers a server that offers (Janus): everything is taken as it is, as an ICE-lite DTLS client.
pub fn viewer_answer(offer: &Description, offered: &str, local: &Local<'_>) -> String {
    let mut out = String::new();
    let mids: Vec<&str> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
    head(&mut out, &mids.join(" "));
    out.push_str("a=ice-lite\r\n");
    for section in sections(offered) {
        let Some(first) = section.first().filter(|line| line.starts_with("m=")) else { continue };
        let _ = write!(out, "{first}\r\n");
        transport(&mut out, local, "active");
        let kept = ["a=mid:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"];
        for line in section.iter().filter(|line| kept.iter().any(|prefix| line.starts_with(prefix))) {
            let _ = write!(out, "{line}\r\n");
        }
        out.push_str("a=recvonly\r\n");
    }
    out
}

fn sections(text: &str) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("m=") {
            all.push(Vec::new());
        }
        if let Some(section) = all.last_mut() {
            section.push(line);
        }
    }
    all
}

fn value<'a>(lines: impl IntoIterator<Item = &'a &'a str>, prefix: &str) -> Option<&'a str> {
    lines.into_iter().find_map(|line| line.strip_prefix(prefix))
}

impl Description {
    /// Reads a description; transport attributes may stand in any section, and hold for all.
    pub fn parse(text: &str) -> Result<Self, DescriptionError> {
        let lines: Vec<&str> = text.lines().collect();
        let ufrag = value(&lines, "a=ice-ufrag:").ok_or(DescriptionError("a=ice-ufrag"))?.to_owned();
        let pwd = value(&lines, "a=ice-pwd:").ok_or(DescriptionError("a=ice-pwd"))?.to_owned();
        let digest = value(&lines, "a=fingerprint:sha-256 ").ok_or(DescriptionError("a=fingerprint:sha-256"))?;
        let bytes: Vec<u8> = digest.trim().split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let fingerprint =
            bytes.try_into().map(Fingerprint::Sha256).map_err(|_| DescriptionError("a=fingerprint:sha-256"))?;
        let mut candidates: Vec<SocketAddr> = lines.iter().filter_map(|line| candidate(line)).collect();
        candidates.dedup();
        let sections = sections(text).iter().filter_map(|lines| section(lines)).collect();
        Ok(Self { remote: Remote { ice: IceCredentials { ufrag, pwd }, fingerprint, candidates }, sections })
    }
}

/// A UDP candidate of component 1.
fn candidate(line: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.strip_prefix("a=candidate:")?.split_whitespace().collect();
    let udp = fields.get(1) == Some(&"1") && fields.get(2)?.eq_ignore_ascii_case("udp");
    let address = SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
    udp.then_some(address)
}

fn section(lines: &[&str]) -> Option<Section> {
    let formats: Vec<&str> = lines.first()?.strip_prefix("m=")?.split_whitespace().collect();
    let kind = match *formats.first()? {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        _ => return None,
    };
    if formats.get(1) == Some(&"0") || lines.contains(&"a=inactive") {
        return None;
    }
    let numbers: Vec<u8> = formats.iter().skip(3).filter_map(|format| format.parse().ok()).collect();
    let is_repair = |number: &u8| {
        let prefix = format!("a=rtpmap:{number} ");
        value(lines, &prefix).is_some_and(|name| name.to_ascii_lowercase().starts_with("rtx/"))
    };
    let (repair, media) = numbers.into_iter().partition(is_repair);
    let mut ssrcs = Vec::new();
    for ssrc in lines.iter().filter_map(|line| line.strip_prefix("a=ssrc:")?.split_whitespace().next()?.parse().ok()) {
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
    }
    let extension = lines.iter().filter_map(|line| line.strip_prefix("a=extmap:")?.split_once(' '));
    let transport_cc = extension.clone().find(|(_, uri)| *uri == TRANSPORT_CC);
    Some(Section {
        kind,
        media,
        repair,
        ssrcs,
        mid: value(lines, "a=mid:").unwrap_or_default().to_owned(),
        transport_cc: transport_cc.and_then(|(id, _)| id.split('/').next()?.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::parameters::{LocalDescription, PublisherTracks};
    use sfu::sdp::{AnswerOptions, Offer};

    #[test]
    fn our_server_takes_both_offers_and_we_take_its_answers() {
        let ice = crate::peer::credentials();
        let local =
            Local { ice: &ice, fingerprint: Fingerprint::Sha256([7; 32]), address: "127.0.0.1:4000".parse().unwrap() };
        let server = LocalDescription {
            ice: crate::peer::credentials(),
            fingerprint: Fingerprint::Sha256([9; 32]),
            candidates: vec!["127.0.0.1:8189".parse().unwrap(), "[::1]:8189".parse().unwrap()],
            origin: 1,
        };
        let offer = Offer::parse(&camera_offer(&local, [1, 2, 3])).unwrap();
        let (answer, tracks) = offer.answer_publisher(&server, &AnswerOptions::default()).unwrap();
        let read = Description::parse(&answer).unwrap();
        assert_eq!(read.remote.candidates, server.candidates);
        assert_eq!(read.remote.fingerprint, server.fingerprint);
        assert_eq!(read.sections[0].transport_cc, Some(TRANSPORT_CC_ID));
        let PublisherTracks { video: Some(video), audio: Some(audio) } = &tracks else { panic!("{tracks:?}") };
        assert_eq!((video.ssrc, video.rtx_ssrc, audio.ssrc), (Some(1), Some(2), Some(3)));

        let offer = Offer::parse(&viewer_offer(&local)).unwrap();
        let (answer, _) =
            offer.answer_subscriber(&server, &tracks, [11, 12, 13, 14], &AnswerOptions::default()).unwrap();
        let read = Description::parse(&answer).unwrap();
        let [video, audio] = &read.sections[..] else { panic!("{read:?}") };
        assert_eq!(
            (video.media.as_slice(), video.repair.as_slice(), video.ssrcs.as_slice()),
            (&[102][..], &[103][..], &[11, 12][..])
        );
        assert_eq!((audio.media.as_slice(), audio.ssrcs.as_slice()), (&[109][..], &[13][..]));
    }
}
