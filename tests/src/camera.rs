//! A lean camera, sans-IO: WHIP's transport and the synthetic [`Stream`], a frame's packets in one go.
//!
//! It repeats what it is asked for (RFC 4588), sends sender reports every second, and answers a keyframe request with a
//! keyframe only if it is told to be responsive: many IP cameras are not.

use crate::peer::{IceRole, Identity, Peer};
use crate::sdp::Description;
use crate::stream::{AUDIO_CLOCK, Burst, Stream, VIDEO_CLOCK};
use rtc_rtcp::packet::Packet;
use rtc_rtcp::sender_report::SenderReport;
use sfu::feedback::read::{Feedback, read};
use sfu::packet::{Kind, classify};
use sfu::parameters::{IceCredentials, MediaKind};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Video packets that can be repeated: more than a keyframe interval.
const HISTORY: usize = 1024;

/// Payload type and SSRC of picture, its retransmissions and sound, as [`crate::sdp::camera_offer`] has them.
const VIDEO: u8 = 96;
const REPAIR: u8 = 97;
const AUDIO: u8 = 111;

/// Counts since the camera began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Media packets, without retransmissions.
    pub packets: u64,
    /// Video frames.
    pub frames: u64,
    /// Audio packets.
    pub sounds: u64,
    /// Retransmissions.
    pub repaired: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
    /// Feedback compounds that came.
    pub feedback: u64,
    /// Longest time by which a burst left too late.
    pub latest: Duration,
}

/// What the camera is to do.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// A keyframe request is answered at the next frame.
    pub responsive: bool,
    /// The picture's first sequence number; the others follow from it.
    pub first_sequence: u16,
    /// SSRCs of picture, its retransmissions, and sound.
    pub ssrcs: [u32; 3],
}

#[derive(Default)]
struct Counter {
    sequence: u16,
    packets: u32,
    bytes: u32,
    /// Timestamp of the newest burst and when it left.
    newest: Option<(u32, Instant)>,
}

/// See the module.
pub struct Camera {
    peer: Peer,
    behaviour: Behaviour,
    stream: Stream,
    start: Option<Instant>,
    video: Counter,
    audio: Counter,
    repair_sequence: u16,
    transport_cc: Option<u8>,
    transport_sequence: u16,
    history: VecDeque<(u16, Vec<u8>)>,
    ready: VecDeque<(SocketAddr, Vec<u8>)>,
    report_at: Option<Instant>,
    paused: bool,
    /// It sends no sender reports.
    reportless: bool,
    totals: Totals,
}

impl Camera {
    /// A camera that starts as soon as it is connected.
    pub fn new(
        now: Instant,
        identity: &Identity,
        local: IceCredentials,
        description: Description,
        behaviour: Behaviour,
    ) -> Self {
        Self {
            transport_cc: description.sections.iter().find_map(|section| section.transport_cc),
            peer: Peer::new(now, identity, IceRole::Controlling, local, description.remote),
            stream: Stream::default(),
            start: None,
            video: Counter { sequence: behaviour.first_sequence, ..Counter::default() },
            audio: Counter { sequence: behaviour.first_sequence.wrapping_add(1000), ..Counter::default() },
            repair_sequence: behaviour.first_sequence.wrapping_add(2000),
            behaviour,
            transport_sequence: 0,
            history: VecDeque::new(),
            ready: VecDeque::new(),
            report_at: None,
            paused: false,
            reportless: false,
            totals: Totals::default(),
        }
    }

    /// Its transport.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Counts so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The media it sends, to replace it before it connects.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// No more media from now on; the connection stays.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Sends again after a pause, from the burst that is due now on.
    pub fn resume(&mut self, now: Instant) {
        self.paused = false;
        while self.start.is_some_and(|start| start + self.stream.next_at() < now) {
            self.stream.next();
        }
        self.report_at = Some(now);
    }

    /// Sends no sender reports, as many IP cameras.
    pub fn omit_reports(&mut self) {
        self.reportless = true;
    }

    /// The video encoder restarts: other SSRCs of picture and retransmissions, other sequence numbers, a keyframe first.
    pub fn restart_video(&mut self, ssrc: u32, repair: u32) {
        (self.behaviour.ssrcs[0], self.behaviour.ssrcs[1]) = (ssrc, repair);
        let sequence = (ssrc.wrapping_mul(0x9e37_79b9) >> 16) as u16;
        self.video = Counter { sequence, ..Counter::default() };
        self.repair_sequence = sequence.wrapping_add(2000);
        self.history.clear();
        self.stream.force_keyframe();
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// Takes one datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        match classify(datagram) {
            Some(Kind::Rtcp) => {
                let Some(compound) = self.peer.open_rtcp(datagram) else { return };
                self.totals.feedback += 1;
                for feedback in read(&compound) {
                    match feedback {
                        Feedback::Nack { ssrc, sequences } if ssrc == self.behaviour.ssrcs[0] => {
                            self.repair(&sequences)
                        }
                        Feedback::KeyframeRequest { .. } => {
                            self.totals.keyframe_requests += 1;
                            if self.behaviour.responsive {
                                self.stream.force_keyframe();
                            }
                        }
                        _ => {}
                    }
                }
            }
            Some(Kind::Rtp) | None => {}
            Some(_) => {
                self.peer.handle_datagram(now, from, datagram);
                if self.peer.is_connected() {
                    self.start.get_or_insert(now);
                    self.report_at.get_or_insert(now);
                }
            }
        }
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
        let Some(start) = self.start else { return };
        while !self.paused && start + self.stream.next_at() <= now {
            let Some(burst) = self.stream.next() else { return };
            self.totals.latest = self.totals.latest.max(now - (start + burst.at));
            self.send(now, &burst);
        }
        if self.report_at.is_some_and(|at| at <= now) && !self.paused {
            self.report_at = Some(now + REPORT_EVERY);
            if !self.reportless {
                self.report(now, start);
            }
        }
    }

    fn send(&mut self, now: Instant, burst: &Burst) {
        let video = burst.kind == MediaKind::Video;
        self.totals.frames += u64::from(video);
        self.totals.sounds += u64::from(!video);
        let last = burst.payloads.len() - 1;
        for (n, payload) in burst.payloads.iter().enumerate() {
            let (counter, number, ssrc) = match burst.kind {
                MediaKind::Video => (&mut self.video, VIDEO, self.behaviour.ssrcs[0]),
                MediaKind::Audio => (&mut self.audio, AUDIO, self.behaviour.ssrcs[2]),
            };
            let sequence = counter.sequence;
            counter.sequence = sequence.wrapping_add(1);
            counter.packets += 1;
            counter.bytes += payload.len() as u32;
            counter.newest = Some((burst.timestamp, now));
            let plain = self.packet(number, video && n == last, sequence, burst.timestamp, ssrc, payload);
            self.totals.packets += 1;
            self.queue(&plain);
            if video {
                self.history.push_back((sequence, plain));
                if self.history.len() > HISTORY {
                    self.history.pop_front();
                }
            }
        }
    }

    fn packet(
        &mut self,
        number: u8,
        marker: bool,
        sequence: u16,
        timestamp: u32,
        ssrc: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut packet = header(number, marker, sequence, timestamp, ssrc);
        if let Some(id) = self.transport_cc {
            let [high, low] = self.transport_sequence.to_be_bytes();
            self.transport_sequence = self.transport_sequence.wrapping_add(1);
            packet[0] |= 0x10;
            packet.extend_from_slice(&[0xbe, 0xde, 0, 1, id << 4 | 1, high, low, 0]);
        }
        packet.extend_from_slice(payload);
        packet
    }

    fn queue(&mut self, plain: &[u8]) {
        if let (Some(to), Some(sealed)) = (self.peer.selected(), self.peer.seal_rtp(plain)) {
            self.ready.push_back((to, sealed));
        }
    }

    fn repair(&mut self, sequences: &[u16]) {
        for wanted in sequences {
            let Some((_, plain)) = self.history.iter().find(|(sequence, _)| sequence == wanted) else { continue };
            let start = if plain[0] & 0x10 == 0 { 12 } else { 20 };
            let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
            let mut payload = wanted.to_be_bytes().to_vec();
            payload.extend_from_slice(&plain[start..]);
            let (sequence, marker) = (self.repair_sequence, plain[1] & 0x80 != 0);
            self.repair_sequence = sequence.wrapping_add(1);
            let packet = self.packet(REPAIR, marker, sequence, timestamp, self.behaviour.ssrcs[1], &payload);
            self.totals.repaired += 1;
            self.queue(&packet);
        }
    }

    fn report(&mut self, now: Instant, start: Instant) {
        let mut packets: Vec<Box<dyn Packet>> = Vec::new();
        for (counter, ssrc, clock) in
            [(&self.video, self.behaviour.ssrcs[0], VIDEO_CLOCK), (&self.audio, self.behaviour.ssrcs[2], AUDIO_CLOCK)]
        {
            let Some((timestamp, at)) = counter.newest else { continue };
            let ticks = (now - at).as_micros() * u128::from(clock) / 1_000_000;
            let elapsed = (now - start).as_nanos();
            packets.push(Box::new(SenderReport {
                ssrc,
                ntp_time: (3_900_000_000 << 32) + ((elapsed << 32) / 1_000_000_000) as u64,
                rtp_time: timestamp.wrapping_add(ticks as u32),
                packet_count: counter.packets,
                octet_count: counter.bytes,
                ..SenderReport::default()
            }));
        }
        if let Ok(compound) = rtc_rtcp::packet::marshal(&packets)
            && !packets.is_empty()
        {
            self.peer.send_rtcp(&compound);
        }
    }

    /// When to call [`Camera::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.start.filter(|_| !self.paused).map(|start| start + self.stream.next_at());
        let report = self.report_at.filter(|_| !self.paused);
        [next, report, self.peer.poll_timeout()].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.peer.poll_datagram().or_else(|| self.ready.pop_front())
    }
}

/// An RTP header without extensions (RFC 3550 §5.1).
pub fn header(number: u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1500);
    packet.extend_from_slice(&[0x80, u8::from(marker) << 7 | number]);
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet
}
