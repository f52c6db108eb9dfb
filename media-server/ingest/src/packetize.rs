//! Cuts encoded frames into RTP packets, with timestamps that come from the time of each frame alone.
//!
//! All tracks of a camera count from the same start ([`MediaClock`]), so that sender reports tie them to one wall clock
//! (RFC 3550 §6.4.1) exactly, and not by when the machine got round to sending.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rtc_rtp as rtp;
use rtc_rtp::packetizer::Payloader;
use rtc_shared::error::Error as RtcError;

use crate::codec::{Codec, vp9};

/// Bytes of the largest RTP packet unless [`TrackWriter::with_packet_size`] sets another, as WebRTC senders have it: header
/// and extensions included, before SRTP adds its tag.
pub const PACKET_SIZE: usize = 1200;
/// The fixed header, and room for the extensions that are offered: transport-wide sequence number and MID.
const HEADERS: usize = 12 + 12;

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// Why a frame could not be cut into packets.
#[derive(Debug, thiserror::Error)]
#[error("the frame cannot be packetized: {0}")]
pub struct PacketizeError(#[from] RtcError);

/// How frames become payloads.
#[derive(Debug)]
enum Cutter {
    Library(Box<dyn Payloader>),
    /// With the next picture id, 15 bits.
    Vp9(u16),
}

impl Cutter {
    fn payloads(&mut self, frame: &Bytes, most: usize) -> Result<Vec<Bytes>, RtcError> {
        match self {
            Cutter::Library(payloader) => payloader.payload(most, frame),
            Cutter::Vp9(picture_id) => {
                let payloads = vp9::payloads(frame, *picture_id, most);
                *picture_id = (*picture_id + 1) & 0x7fff;
                Ok(payloads)
            }
        }
    }
}

/// One track being sent.
#[derive(Debug)]
pub struct TrackWriter {
    payloader: Cutter,
    packet_size: usize,
    codec: Codec,
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    base: u32,
}

impl TrackWriter {
    /// A track with a random first sequence number and timestamp (RFC 3550 §5.1).
    pub fn new(codec: Codec, ssrc: u32, payload_type: u8) -> TrackWriter {
        let payloader = match codec {
            Codec::H264 => Cutter::Library(Box::<rtp::codec::h264::H264Payloader>::default()),
            Codec::Vp8 => {
                let mut payloader = rtp::codec::vp8::Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Cutter::Library(Box::new(payloader))
            }
            Codec::Vp9 => Cutter::Vp9(rand::random::<u16>() & 0x7fff),
            Codec::Av1 => Cutter::Library(Box::<rtp::codec::av1::Av1Payloader>::default()),
            Codec::Opus => Cutter::Library(Box::<rtp::codec::opus::OpusPayloader>::default()),
        };
        let (sequence_number, base, packet_size) = (rand::random(), rand::random(), PACKET_SIZE);
        TrackWriter { payloader, packet_size, codec, ssrc, payload_type, sequence_number, base }
    }

    /// Sets the bytes of the largest packet, at least 100.
    pub fn with_packet_size(mut self, bytes: usize) -> TrackWriter {
        self.packet_size = bytes.max(100);
        self
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Its codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the packets of a frame that is due at `at`, in order; the last of a picture has the marker.
    pub fn packets(&mut self, at: Duration, frame: &Bytes) -> Result<Vec<rtp::Packet>, PacketizeError> {
        let timestamp = self.base.wrapping_add(ticks(at, self.codec.clock_rate()));
        let payloads = self.payloader.payloads(frame, self.packet_size - HEADERS)?;
        let last = payloads.len().saturating_sub(1);
        let packets = payloads.into_iter().enumerate().map(|(index, payload)| {
            let header = rtp::Header {
                version: 2,
                marker: index == last && self.codec != Codec::Opus,
                payload_type: self.payload_type,
                sequence_number: self.sequence_number.wrapping_add(index as u16),
                timestamp,
                ssrc: self.ssrc,
                ..rtp::Header::default()
            };
            rtp::Packet { header, payload }
        });
        let packets: Vec<_> = packets.collect();
        self.sequence_number = self.sequence_number.wrapping_add(packets.len() as u16);
        Ok(packets)
    }
}

/// Ties the RTP timestamps of a camera's tracks to one wall clock.
#[derive(Debug)]
pub struct MediaClock {
    start: Instant,
    /// Wall clock at `start`, since 1970.
    wall: Duration,
    /// RTP timestamp at `start` and clock rate in hertz, by SSRC.
    tracks: HashMap<u32, (u32, u32)>,
}

impl MediaClock {
    /// A clock that started at `start`, when the wall clock showed `wall`.
    pub fn new<'a>(start: Instant, wall: SystemTime, tracks: impl Iterator<Item = &'a TrackWriter>) -> MediaClock {
        let tracks = tracks.map(|track| (track.ssrc, (track.base, track.codec.clock_rate()))).collect();
        MediaClock { start, wall: wall.duration_since(UNIX_EPOCH).unwrap_or_default(), tracks }
    }

    /// Returns the NTP time (seconds in the upper half) and RTP timestamp of the track at `now`.
    pub fn at(&self, now: Instant, ssrc: u32) -> Option<(u64, u32)> {
        let (base, clock_rate) = *self.tracks.get(&ssrc)?;
        let elapsed = now.saturating_duration_since(self.start);
        let wall = self.wall + elapsed;
        let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = (wall.as_secs() + NTP_EPOCH) << 32 | fraction;
        Some((ntp, base.wrapping_add(ticks(elapsed, clock_rate))))
    }
}

/// To the nearest tick; wraps as RTP timestamps do.
fn ticks(time: Duration, clock_rate: u32) -> u32 {
    let ticks = (time.as_nanos() * u128::from(clock_rate) + 500_000_000) / 1_000_000_000;
    ticks as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MediaKind;
    use rtc_rtp::packetizer::Depacketizer;

    #[test]
    fn timestamps_follow_the_frames_and_sequence_numbers_the_packets() {
        let source = crate::demo::source();
        let mut writer = TrackWriter::new(Codec::H264, 1, 102);
        let (base, mut sequence) = (writer.base, writer.sequence_number);
        let frames = source.schedule().filter(|item| item.kind == MediaKind::Video).take(300);
        for (index, item) in frames.enumerate() {
            let packets = writer.packets(item.due, &item.frame.data).unwrap();
            for packet in &packets {
                assert_eq!(packet.header.timestamp, base.wrapping_add(3000 * index as u32));
                assert_eq!(packet.header.sequence_number, sequence);
                assert!(packet.payload.len() + HEADERS <= PACKET_SIZE);
                sequence = sequence.wrapping_add(1);
            }
            let markers: Vec<_> = packets.iter().map(|packet| packet.header.marker).collect();
            assert_eq!(markers.iter().position(|marker| *marker), Some(markers.len() - 1));
        }
    }

    #[test]
    fn a_frame_comes_out_of_its_packets_again() {
        let clip = crate::demo::source().video.unwrap();
        let mut writer = TrackWriter::new(Codec::H264, 1, 102);
        let mut depacketizer = rtp::codec::h264::H264Packet::default();
        for frame in &clip.frames[..70] {
            let mut bytes = Vec::new();
            for packet in writer.packets(frame.at, &frame.data).unwrap() {
                bytes.extend(depacketizer.depacketize(&packet.payload).unwrap());
            }
            // Start codes may become longer on the way.
            let units = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\0\0\0\u{1}", "\0\0\u{1}");
            assert!(units(&frame.data) == units(&bytes), "the frame at {:?} has changed", frame.at);
        }
    }

    #[test]
    fn packets_are_as_large_as_they_are_set() {
        let clip = crate::demo::source().video.unwrap();
        for size in [300, 1400] {
            let mut writer = TrackWriter::new(Codec::H264, 1, 102).with_packet_size(size);
            let packets = writer.packets(clip.frames[0].at, &clip.frames[0].data).unwrap();
            let largest = packets.iter().map(|packet| packet.payload.len() + HEADERS).max().unwrap();
            assert!((size - 2..=size).contains(&largest), "{largest} of {size}");
        }
    }

    #[test]
    fn reports_tie_both_tracks_to_one_clock() {
        let (video, audio) = (TrackWriter::new(Codec::H264, 1, 102), TrackWriter::new(Codec::Opus, 2, 111));
        let start = Instant::now();
        let clock = MediaClock::new(start, UNIX_EPOCH + Duration::from_millis(1500), [&video, &audio].into_iter());
        let now = start + Duration::from_secs(2);
        let ntp = (NTP_EPOCH + 3) << 32 | 1 << 31;
        assert_eq!(clock.at(now, 1), Some((ntp, video.base.wrapping_add(180_000))));
        assert_eq!(clock.at(now, 2), Some((ntp, audio.base.wrapping_add(96_000))));
        assert_eq!(clock.at(now, 3), None);
    }
}
