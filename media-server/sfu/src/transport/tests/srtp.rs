//! SRTP and SRTCP against `rtc-srtp` as the peer, in all profiles.

use super::*;
use crate::transport::srtp::Srtp;

const PROFILES: [SrtpProfile; 3] = [SrtpProfile::Aes256Gcm, SrtpProfile::Aes128Gcm, SrtpProfile::Aes128CmSha1];

/// Our side; the peer's sealer; the peer's opener.
fn sides(profile: SrtpProfile) -> (Srtp, Context, Context) {
    let (key, salt) = (profile.key_len(), profile.salt_len());
    let material: Vec<u8> = (0..2 * (key + salt)).map(|at| (at * 37 + 11) as u8).collect();
    let crypto = rtc_srtp::crypto::default_provider().unwrap();
    let protection = match profile {
        SrtpProfile::Aes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::Aes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmSha1 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let context = |at: usize| {
        let (keys, salts) = material.split_at(2 * key);
        let (key, salt) = (&keys[at * key..][..key], &salts[at * salt..][..salt]);
        Context::new(key, salt, protection, None, None, crypto.crypto()).unwrap()
    };
    let peer = (context(0), context(1));
    (Srtp::new(profile, DtlsRole::Server, &material).unwrap(), peer.0, peer.1)
}

fn rtp(ssrc: u32, sequence: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend((0..payload).map(|at| at as u8));
    packet
}

/// An empty receiver report with a picture loss indication.
fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0x81, 206, 0, 2]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 7]);
    packet
}

#[test]
fn what_we_seal_the_peer_opens_across_the_rollover() {
    for profile in PROFILES {
        let (ours, _, mut peer) = sides(profile);
        let overhead = ours.sealer.overhead();
        for index in 0xff80_u64..0x1_0080 {
            let plain = rtp(5, index as u16, (index % 1200) as usize);
            let mut packet = plain.clone();
            packet.resize(plain.len() + overhead, 0xee);
            assert_eq!(ours.sealer.seal(&mut packet, plain.len(), 12, 5, index), packet.len());
            assert_eq!(peer.decrypt_rtp(&packet).unwrap()[..], plain, "{profile:?} {index}");
        }
    }
}

#[test]
fn header_extensions_stay_readable_and_the_rest_is_sealed() {
    for profile in PROFILES {
        let (ours, _, mut peer) = sides(profile);
        let mut plain = rtp(5, 1, 0);
        plain[0] |= 0x10;
        plain.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x11, 7, 8, 0]);
        let header = plain.len();
        plain.extend_from_slice(&[0x55; 300]);
        let mut packet = plain.clone();
        packet.resize(plain.len() + ours.sealer.overhead(), 0);
        ours.sealer.seal(&mut packet, plain.len(), header, 5, 1);
        assert_eq!(packet[..header], plain[..header]);
        assert!(!packet[header..].windows(8).any(|bytes| bytes == [0x55; 8]));
        assert_eq!(peer.decrypt_rtp(&packet).unwrap()[..], plain);
    }
}

#[test]
fn what_the_peer_seals_we_open_across_the_rollover_with_loss_and_reordering() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let mut sealed: Vec<(Vec<u8>, Vec<u8>)> = (0xfe00_u32..0x1_0200)
            .map(|index| rtp(5, index as u16, 40))
            .map(|plain| (peer.encrypt_rtp(&plain).unwrap().to_vec(), plain))
            .collect();
        for at in (0..sealed.len() - 100).step_by(7) {
            sealed.swap(at, at + 100);
        }
        for (at, (packet, plain)) in sealed.iter().enumerate().filter(|(at, _)| at % 13 != 5) {
            let opened = ours.opener.open_rtp(packet);
            assert_eq!(opened.unwrap()[..], plain[..], "{profile:?} {at}");
        }
    }
}

#[test]
fn srtp_replay_is_dropped() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let packets: Vec<_> =
            (65_000_u32..66_000).map(|at| peer.encrypt_rtp(&rtp(5, at as u16, 30)).unwrap()).collect();
        let mut delivered = 0;
        for at in 0..packets.len() + 400 {
            // Each packet five times, over a while.
            for back in [0, 0, 1, 60, 400] {
                if let Some(packet) = at.checked_sub(back).and_then(|at| packets.get(at)) {
                    delivered += usize::from(ours.opener.open_rtp(packet).is_ok());
                }
            }
        }
        assert_eq!(delivered, packets.len(), "{profile:?}");
        assert!(packets.iter().all(|packet| ours.opener.open_rtp(packet).is_err()));
    }
}

#[test]
fn srtcp_replay_is_dropped() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let packets: Vec<_> = (0..300).map(|_| peer.encrypt_rtcp(&rtcp(5)).unwrap()).collect();
        let mut delivered = 0;
        for at in 0..packets.len() + 100 {
            for back in [0, 0, 1, 60, 100] {
                if let Some(packet) = at.checked_sub(back).and_then(|at| packets.get(at)) {
                    delivered += usize::from(ours.opener.open_rtcp(packet).is_ok());
                }
            }
        }
        assert_eq!(delivered, packets.len(), "{profile:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_packet_is_noticed() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let first = peer.encrypt_rtp(&rtp(5, 9, 20)).unwrap();
        ours.opener.open_rtp(&first).unwrap();
        ours.opener.open_rtcp(&peer.encrypt_rtcp(&rtcp(5)).unwrap()).unwrap();
        let (media, report) = (peer.encrypt_rtp(&rtp(5, 10, 20)).unwrap(), peer.encrypt_rtcp(&rtcp(5)).unwrap());
        for bit in 0..media.len() * 8 {
            let mut forged = media.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(ours.opener.open_rtp(&forged).is_err(), "{profile:?} bit {bit}");
        }
        for bit in 0..report.len() * 8 {
            let mut forged = report.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(ours.opener.open_rtcp(&forged).is_err(), "{profile:?} bit {bit}");
        }
        assert!(ours.opener.open_rtp(&media).is_ok() && ours.opener.open_rtcp(&report).is_ok());
    }
}

#[test]
fn rtcp_that_is_not_encrypted_is_refused() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        ours.opener.open_rtcp(&peer.encrypt_rtcp(&rtcp(5)).unwrap()).unwrap();
        for trailer in 4..40 {
            let mut forged = rtcp(5);
            forged.resize(forged.len() + trailer, 0);
            assert!(ours.opener.open_rtcp(&forged).is_err(), "{profile:?} trailer {trailer}");
        }
    }
}

#[test]
fn a_forged_first_packet_does_not_shut_the_window() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let (mut media, mut report) = (rtp(5, 20_000, 60), rtcp(5));
        media.resize(120, 0xaa);
        report.extend_from_slice(&[0xff; 30]);
        assert!(ours.opener.open_rtp(&media).is_err());
        assert!(ours.opener.open_rtcp(&report).is_err());
        assert!(ours.opener.open_rtp(&peer.encrypt_rtp(&rtp(5, 1, 60)).unwrap()).is_ok(), "{profile:?}");
        assert!(ours.opener.open_rtcp(&peer.encrypt_rtcp(&rtcp(5)).unwrap()).is_ok(), "{profile:?}");
    }
}

#[test]
fn thousand_sources_in_turn_are_all_opened() {
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let mut recorded = Vec::new();
        // The microphone speaks once at the beginning and once at the end.
        ours.opener.open_rtp(&peer.encrypt_rtp(&rtp(1, 65_535, 10)).unwrap()).unwrap();
        for ssrc in 1000..2000_u32 {
            for sequence in 0..3 {
                let media = peer.encrypt_rtp(&rtp(ssrc, sequence, 60)).unwrap();
                assert_eq!(ours.opener.open_rtp(&media).unwrap()[..], rtp(ssrc, sequence, 60), "{profile:?} {ssrc}");
                recorded.push(media);
            }
            let report = peer.encrypt_rtcp(&rtcp(ssrc)).unwrap();
            assert_eq!(ours.opener.open_rtcp(&report).unwrap()[..], rtcp(ssrc), "{profile:?} {ssrc}");
            assert!(matches!(ours.opener.open_rtcp(&report), Err(TransportError::Replayed)));
        }
        // None of them is accepted again, parked or not, and all of them may continue.
        assert!(recorded.iter().all(|packet| matches!(ours.opener.open_rtp(packet), Err(TransportError::Replayed))));
        let next = peer.encrypt_rtp(&rtp(1, 0, 10)).unwrap();
        assert_eq!(ours.opener.open_rtp(&next).unwrap()[..], rtp(1, 0, 10), "{profile:?}");
        for ssrc in 1000..2000 {
            assert!(ours.opener.open_rtp(&peer.encrypt_rtp(&rtp(ssrc, 3, 60)).unwrap()).is_ok(), "{profile:?} {ssrc}");
        }
    }
}

#[test]
fn forged_sources_take_no_place() {
    let (mut ours, mut peer, _) = sides(SrtpProfile::Aes256Gcm);
    ours.opener.open_rtp(&peer.encrypt_rtp(&rtp(5, 65_535, 10)).unwrap()).unwrap();
    for ssrc in 1000..4000 {
        let (mut media, mut report) = (rtp(ssrc, 1, 60), rtcp(ssrc));
        media.resize(100, 0xaa);
        report.extend_from_slice(&[0xaa; 40]);
        assert!(matches!(ours.opener.open_rtp(&media), Err(TransportError::NotAuthentic)));
        assert!(matches!(ours.opener.open_rtcp(&report), Err(TransportError::NotAuthentic)));
        let genuine = peer.encrypt_rtp(&rtp(ssrc, 2, 10)).unwrap();
        if ssrc % 100 == 0 {
            assert!(ours.opener.open_rtp(&genuine).is_ok());
        }
    }
    // It was authentic least recently, but its rollover counter is still there.
    assert!(ours.opener.open_rtp(&peer.encrypt_rtp(&rtp(5, 0, 10)).unwrap()).is_ok());
}

#[test]
fn packet_a_second_late_at_50_mbit_is_opened() {
    const SECOND: u16 = 5_500;
    for profile in PROFILES {
        let (mut ours, mut peer, _) = sides(profile);
        let late = peer.encrypt_rtp(&rtp(5, 60_000, 30)).unwrap();
        for ahead in 1..=SECOND + 2_000 {
            let packet = peer.encrypt_rtp(&rtp(5, 60_000_u16.wrapping_add(ahead), 30)).unwrap();
            assert!(ours.opener.open_rtp(&packet).is_ok());
            assert!(ahead != SECOND || ours.opener.open_rtp(&late).is_ok(), "{profile:?}");
        }
        assert!(matches!(ours.opener.open_rtp(&late), Err(TransportError::Replayed)));
    }
}

#[test]
fn every_legal_header_is_measured_right() {
    let extensions: [&[u8]; 6] = [
        &[0xbe, 0xde, 0, 0],
        // Padding between and behind elements; the reserved identifier 15 ends the list.
        &[0xbe, 0xde, 0, 2, 0x10, 1, 0, 0, 0x20, 1, 0, 0],
        &[0xbe, 0xde, 0, 2, 0x10, 1, 0xf3, 9, 9, 9, 9, 9],
        &[0xbe, 0xde, 0, 1, 0xf0, 0, 0, 0],
        // Two-byte headers; an extension of another profile.
        &[0x10, 0x00, 0, 2, 1, 0, 2, 3, 1, 2, 3, 0],
        &[0x12, 0x34, 0, 1, 9, 9, 9, 9],
    ];
    for extension in extensions {
        for sources in [0, 1, 15] {
            let (ours, _, _) = sides(SrtpProfile::Aes128Gcm);
            let mut plain = rtp(5, 1, 0);
            plain[0] |= 0x10 | sources as u8;
            plain.extend_from_slice(&vec![3; 4 * sources]);
            plain.extend_from_slice(extension);
            let header = plain.len();
            plain.extend_from_slice(b"payload");
            // The peer's keys are ours turned round: what is sealed with the same keys must open.
            let mut packet = plain.clone();
            packet.resize(plain.len() + 16, 0);
            ours.sealer.seal(&mut packet, plain.len(), header, 5, 1);
            let mut opener = mirrored();
            assert_eq!(opener.opener.open_rtp(&packet).unwrap()[..], plain, "{extension:x?} {sources}");
        }
    }
}

/// A side that opens what the sealer of `sides(Aes128Gcm)` seals.
fn mirrored() -> Srtp {
    let (key, salt) = (16, 12);
    let material: Vec<u8> = (0..2 * (key + salt)).map(|at| (at * 37 + 11) as u8).collect();
    let (keys, salts) = material.split_at(2 * key);
    let turned = [&keys[key..], &keys[..key], &salts[salt..], &salts[..salt]].concat();
    Srtp::new(SrtpProfile::Aes128Gcm, DtlsRole::Server, &turned).unwrap()
}

#[test]
fn rtcp_that_we_seal_the_peer_opens_and_no_index_comes_twice() {
    for profile in PROFILES {
        let (mut ours, _, mut peer) = sides(profile);
        let mut seen = std::collections::HashSet::new();
        let mut sealed = vec![1; 500];
        for turn in 0..100 {
            let plain = rtcp(1 + turn % 2);
            ours.seal_rtcp(&plain, &mut sealed).unwrap();
            assert_eq!(peer.decrypt_rtcp(&sealed).unwrap()[..], plain, "{profile:?}");
            assert!(seen.insert(sealed.clone()));
        }
        assert!(ours.seal_rtcp(&[0x80, 201], &mut sealed).is_err());
        assert!(sealed.is_empty());
    }
}

#[test]
fn media_flows_both_ways_after_the_handshake() {
    let mut world = connected();
    let (seal, open) = world.client.srtp();
    assert_media_flows(&mut world, seal, open);
}

/// Checks that RTP and RTCP pass both ways, under the contexts with which the client seals and opens.
pub(super) fn assert_media_flows(world: &mut World, mut seal: Context, mut open: Context) {
    let plain = rtp(5, 1, 500);
    let sealed = seal.encrypt_rtp(&plain).unwrap();
    assert_eq!(world.server.open_rtp(world.now, &sealed).unwrap()[..], plain);
    let report = seal.encrypt_rtcp(&rtcp(5)).unwrap();
    assert_eq!(world.server.open_rtcp(world.now, &report).unwrap()[..], rtcp(5));
    let sealer = world.server.sealer().unwrap();
    let mut packet = plain.clone();
    packet.resize(plain.len() + sealer.overhead(), 0);
    sealer.seal(&mut packet, plain.len(), 12, 5, 1);
    assert_eq!(open.decrypt_rtp(&packet).unwrap()[..], plain);
    let mut report = Vec::new();
    world.server.seal_rtcp(&rtcp(6), &mut report).unwrap();
    assert_eq!(open.decrypt_rtcp(&report).unwrap()[..], rtcp(6));
}
