//! Kinds of keyframes: a viewer joins in the middle, and the output of the SFU's track is decoded by ffmpeg, raw and as a
//! recording.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{
    clips::{self, LENGTH, RATE},
    compose, finalize,
    folder::{Disk, carry_out},
    player::{self, Event, Script, Sender, decodes, packet_times, play, probe},
};
use recorder::{Codec, Ending, Tracks};
use sfu::parameters::{self, HeaderExtensions, IncomingTrack, MediaKind, PayloadType, SessionId};
use sfu::track::{SourcePacket, Track};

/// Seconds at which the viewer joins; keyframes are at full seconds.
const JOIN: f64 = 2.3;

fn source_codec(codec: Codec) -> parameters::Codec {
    if codec == Codec::H264 { parameters::Codec::H264 } else { parameters::Codec::Av1 }
}

fn offer(codec: Codec, fmtp: &str) -> IncomingTrack {
    let payload_type = PayloadType {
        number: 96,
        codec: source_codec(codec),
        fmtp: fmtp.to_owned(),
        rtx: None,
        nack: true,
        pli: true,
        fir: false,
        remb: false,
        transport_cc: false,
    };
    IncomingTrack {
        mid: "0".to_owned(),
        kind: MediaKind::Video,
        payload_types: vec![payload_type],
        extensions: HeaderExtensions::default(),
        ssrc: None,
        rtx_ssrc: None,
        rid: None,
    }
}

/// The packets of one viewer.
struct Joined {
    /// Seconds at which the track began, and the viewer started.
    begun: f64,
    started: f64,
    /// The packets sent to it.
    packets: Script,
}

/// Plays packets into a track; `None` when no viewer can start.
fn join(codec: Codec, fmtp: &str, script: Script) -> Option<Joined> {
    let start = Instant::now();
    let mut track = Track::new(MediaKind::Video);
    let (mut begun, mut entry) = (None, None);
    let (mut packets, mut next, mut last) = (Script::new(), 0, 0.0_f64);
    for (at, event) in script {
        let Event::Packet { index, timestamp, marker, payload, .. } = event else { continue };
        let now = start + Duration::from_secs_f64(at);
        let (sequence, codec_of_source) = (index as u16, source_codec(codec));
        let packet =
            SourcePacket { sequence, timestamp, marker, payload_type: 96, codec: codec_of_source, payload: &payload };
        track.put(now, (SessionId(1), 7), &packet);
        if track.ready(now).is_some() {
            track.offer_parameters(&offer(codec, fmtp));
            begun = track.begin_source(now).map(|_| at);
        }
        if at >= JOIN && entry.is_none() {
            entry = track.entry(now).map(|entry| (at, entry.timestamp));
            next = track.entry(now).map_or(0, |entry| entry.index);
        }
        let Some((_, origin)) = entry else { continue };
        // On arrival: the ring drops packets that no later viewer needs.
        for meta in track.ring().range(next..track.ring().head()) {
            last = last.max(f64::from(meta.timestamp.wrapping_sub(origin) as i32) / 90_000.0);
            let (index, timestamp, marker) = (meta.index, meta.timestamp, meta.marker);
            let payload = track.ring().payload(meta).to_vec();
            packets.push((last, Event::Packet { codec, source: 1, index, timestamp, marker, payload }));
        }
        next = track.ring().head();
    }
    let Some((started, _)) = entry else {
        assert!(track.lacks_keyframe(start + Duration::from_secs(5)), "the reason can be reported");
        return None;
    };
    Some(Joined { begun: begun.unwrap(), started, packets })
}

/// The payloads of H264 packets as a stream with start codes.
fn annex_b(packets: &Script) -> Vec<u8> {
    let mut stream = Vec::new();
    for (_, event) in packets {
        let Event::Packet { payload, .. } = event else { continue };
        match payload[0] & 0x1f {
            24 => {
                let mut rest = &payload[1..];
                while let Some((size, tail)) = rest.split_first_chunk::<2>() {
                    let (unit, tail) = tail.split_at(usize::from(u16::from_be_bytes(*size)));
                    stream.extend([&[0, 0, 0, 1], unit].concat());
                    rest = tail;
                }
            }
            28 if payload[1] & 0x80 != 0 => {
                stream.extend([0, 0, 0, 1, payload[0] & 0xe0 | payload[1] & 0x1f]);
                stream.extend(&payload[2..]);
            }
            28 => stream.extend(&payload[2..]),
            _ => stream.extend([&[0, 0, 0, 1], &payload[..]].concat()),
        }
    }
    stream
}

/// Joins, decodes and records; returns samples recorded and frames shown of them.
fn watch(codec: Codec, fmtp: &str, script: Script, usable: f64) -> (usize, u64) {
    let joined = join(codec, fmtp, script).expect("a viewer can start");
    assert!(joined.begun - usable < 1.0, "first usable at {usable}, begun at {}", joined.begun);
    assert!(joined.started - JOIN < 1.0, "started at {}", joined.started);
    let folder = tempfile::tempdir().unwrap();
    if codec == Codec::H264 {
        let raw = folder.path().join("viewer.h264");
        std::fs::write(&raw, annex_b(&joined.packets)).unwrap();
        decodes(&raw);
    }
    let video = Tracks { audio: false, video: true };
    play(player::config(), video, joined.packets, |_, output| carry_out(folder.path(), &output));
    let manifest = finalize(&mut Disk(folder.path().to_owned()), &Ending::orderly()).unwrap();
    compose(folder.path(), &manifest);
    let path = folder.path().join("recording.mp4");
    decodes(&path);
    (packet_times(&path, 0).len(), probe(&path)[0].frames)
}

/// Frames from the keyframe of second 2 on.
const SINCE_KEYFRAME: usize = ((LENGTH - 2) * RATE) as usize;

#[test]
fn viewer_joins_at_recovery_points() {
    for refresh in [true, false] {
        let (frames, places) = clips::without_idr(refresh);
        // The only IDR picture is missed; the first recovery point is 15 frames later.
        let mut script = Sender::video(Codec::H264).send_in_order(&frames[10..], &places[10..]);
        script.iter_mut().for_each(|(at, _)| *at += 0.4);
        let (samples, shown) = watch(Codec::H264, "", script, 1.0);
        let hidden = samples as u64 - shown;
        match refresh {
            true => assert_eq!((samples, hidden), (SINCE_KEYFRAME, 18)),
            false => assert!(samples.abs_diff(SINCE_KEYFRAME) <= 1 && hidden <= 1, "{samples} {hidden}"),
        }
    }
}

#[test]
fn viewer_gets_parameter_sets_of_the_offer() {
    let frames = clips::video(Codec::H264, 320, 240);
    let is_set = |unit: &&[u8]| matches!(unit[0] & 0x1f, 7 | 8);
    let sets: Vec<String> =
        clips::units(&frames[0]).into_iter().filter(is_set).map(|unit| STANDARD.encode(unit)).collect();
    let without = |frame: &Vec<u8>| -> Vec<u8> {
        let kept = clips::units(frame).into_iter().filter(|unit| !is_set(unit));
        kept.flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect()
    };
    let frames: Vec<_> = frames.iter().map(without).collect();
    let fmtp = format!("packetization-mode=1;sprop-parameter-sets={}", sets.join(","));
    let script = Sender::video(Codec::H264).send(&frames);
    assert_eq!(watch(Codec::H264, &fmtp, script, 0.0), (SINCE_KEYFRAME, SINCE_KEYFRAME as u64));
}

#[test]
fn viewer_joins_av1_whatever_the_n_bit_is() {
    for n_bit in [0x00, 0x08] {
        let mut script = Sender::video(Codec::Av1).send(&clips::video(Codec::Av1, 320, 240)[10..]);
        for (at, event) in &mut script {
            *at += 0.4;
            if let Event::Packet { payload, .. } = event {
                payload[0] = payload[0] & !0x08 | n_bit;
            }
        }
        assert_eq!(watch(Codec::Av1, "", script, 1.0), (SINCE_KEYFRAME, SINCE_KEYFRAME as u64), "N {n_bit}");
    }
}

#[test]
fn viewer_of_one_frame_per_second_starts_at_once() {
    let frames: Vec<_> = clips::video(Codec::H264, 320, 240).into_iter().step_by(RATE as usize).collect();
    let script = Sender { rate: 1.0, ..Sender::video(Codec::H264) }.send(&frames);
    let joined = join(Codec::H264, "", script).expect("a viewer can start");
    assert!(joined.begun < 0.1 && joined.started - JOIN < 1.0, "{} {}", joined.begun, joined.started);
}

#[test]
fn sps_without_random_access_starts_no_viewer() {
    let (frames, places) = clips::without_idr(true);
    let without_sei = |frame: &Vec<u8>| -> Vec<u8> {
        let kept = clips::units(frame).into_iter().filter(|unit| unit[0] & 0x1f != 6);
        kept.flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect()
    };
    let frames: Vec<_> = frames[10..].iter().map(without_sei).collect();
    let script = Sender::video(Codec::H264).send_in_order(&frames, &places[10..]);
    assert!(script.iter().any(|(_, event)| matches!(event, Event::Packet { payload, .. } if payload[0] & 0x1f == 24)));
    assert!(join(Codec::H264, "", script).is_none());
}
