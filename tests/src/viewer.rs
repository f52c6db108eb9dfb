//! A lean viewer, sans-IO: the full handshake, but of the media only a sample is decrypted.
//!
//! RTP headers are in the clear, so packets and gaps are counted without opening them. One packet in `sample` is opened,
//! which proves that the stream is authentic, and compared with what the synthetic camera sends. It reports every second,
//! and asks again for what is missing.

use crate::peer::{IceRole, Identity, Peer};
use crate::reception::{Arrival, Reception};
use crate::sdp::{Description, Section};
use crate::stream::{self, Tag};
use rtc_rtcp::packet::Packet;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use sfu::keyframe::inspect;
use sfu::packet::{Header, Kind, classify};
use sfu::parameters::{Codec, IceCredentials, MediaKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Our own SSRC in reports.
const REPORTER: u32 = 1;

/// Counts since the viewer began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// RTP datagrams of any kind.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Different media packets.
    pub unique: u64,
    /// Media packets that came more than once.
    pub duplicates: u64,
    /// Retransmissions, in RTX or plain, that filled a hole.
    pub repaired: u64,
    /// Packets asked for, each time counted.
    pub asked: u64,
    /// Packets opened.
    pub opened: u64,
    /// Packets that were not authentic.
    pub forged: u64,
    /// Authentic packets whose payload is not what the camera sends.
    pub damaged: u64,
    /// Sender reports.
    pub reports: u64,
}

/// One media packet that was opened and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sound or picture.
    pub kind: MediaKind,
    /// On the wire; for a retransmission, that of the original.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// What the payload says of itself; `None` when it is damaged.
    pub tag: Option<Tag>,
    /// How it counted.
    pub arrival: Arrival,
    /// When it arrived.
    pub at: Instant,
}

#[derive(Debug)]
struct Track {
    section: Section,
    ssrc: Option<u32>,
    reception: Reception,
    /// Middle bits of the last sender report, and when it came.
    report: Option<(u32, Instant)>,
    marks: Vec<u64>,
    /// Media packets received, without retransmissions; and the expected and received counts of the last report.
    received: u64,
    reported: (u64, u64),
}

/// See the module.
pub struct Viewer {
    peer: Peer,
    tracks: Vec<Track>,
    sample: u64,
    keep: bool,
    kept: Vec<Kept>,
    totals: Totals,
    report_at: Option<Instant>,
    connected_at: Option<Instant>,
    first_packet: Option<Instant>,
    first_keyframe: Option<Instant>,
    first_video: Option<bool>,
}

impl Viewer {
    /// A viewer of what `description` says; opens one packet in `sample`.
    pub fn new(
        now: Instant,
        identity: &Identity,
        role: IceRole,
        local: IceCredentials,
        description: Description,
        sample: u64,
    ) -> Self {
        let tracks = description.sections.into_iter().map(|section| Track {
            ssrc: section.ssrcs.first().copied(),
            section,
            reception: Reception::default(),
            report: None,
            marks: Vec::new(),
            received: 0,
            reported: (0, 0),
        });
        Self {
            tracks: tracks.collect(),
            peer: Peer::new(now, identity, role, local, description.remote),
            sample: sample.max(1),
            keep: false,
            kept: Vec::new(),
            totals: Totals::default(),
            report_at: None,
            connected_at: None,
            first_packet: None,
            first_keyframe: None,
            first_video: None,
        }
    }

    /// Keeps every packet that it opens, for [`Viewer::kept`].
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// What was kept, in the order it came.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Its transport.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Counts so far.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        totals.unique = self.tracks.iter().map(|track| track.reception.unique()).sum();
        totals.duplicates = self.tracks.iter().map(|track| track.reception.duplicates()).sum();
        totals
    }

    /// When the first RTP packet came.
    pub fn first_packet(&self) -> Option<Instant> {
        self.first_packet
    }

    /// When the first packet came that a decoder can start with.
    pub fn first_keyframe(&self) -> Option<Instant> {
        self.first_keyframe
    }

    /// Whether the very first video packet was one that a decoder can start with.
    pub fn started_with_keyframe(&self) -> Option<bool> {
        self.first_video
    }

    /// When DTLS was done.
    pub fn connected_at(&self) -> Option<Instant> {
        self.connected_at
    }

    /// Packets that have not come, of all that were sent to it.
    pub fn lost(&self) -> u64 {
        self.tracks.iter().map(|track| track.reception.lost(track.reception.first(), track.reception.head())).sum()
    }

    /// Begins or ends a span that [`Viewer::span`] tells of.
    pub fn mark(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.marks.push(track.reception.head()));
    }

    /// Packets that were to come between mark `n` and the next one, and those of them that have not come.
    pub fn span(&self, n: usize) -> (u64, u64) {
        let mut sums = (0, 0);
        for track in &self.tracks {
            if let [from, until, ..] = track.marks[n.min(track.marks.len())..] {
                let from = from.max(track.reception.first());
                sums.0 += until.saturating_sub(from);
                sums.1 += track.reception.lost(from, until);
            }
        }
        sums
    }

    /// Asks for a keyframe.
    pub fn request_keyframe(&mut self) {
        let video =
            self.tracks.iter().find(|track| track.section.kind == MediaKind::Video).and_then(|track| track.ssrc);
        if let Some(media_ssrc) = video {
            let report = ReceiverReport { ssrc: REPORTER, ..ReceiverReport::default() };
            self.send(&[Box::new(report), Box::new(PictureLossIndication { sender_ssrc: REPORTER, media_ssrc })]);
        }
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// Takes one datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        match classify(datagram) {
            Some(Kind::Rtp) => self.handle_rtp(now, datagram),
            Some(Kind::Rtcp) => self.handle_rtcp(now, datagram),
            Some(_) => {
                self.peer.handle_datagram(now, from, datagram);
                if self.connected_at.is_none() && self.peer.is_connected() {
                    self.connected_at = Some(now);
                    self.report_at = Some(now + REPORT_EVERY);
                }
            }
            None => {}
        }
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        if !self.peer.is_connected() {
            // The server's last flight is still under way: nobody could tell whether this is authentic.
            return;
        }
        let Some(header) = datagram.first_chunk::<12>() else { return };
        let number = header[1] & 0x7f;
        let place = self.tracks.iter().enumerate().find_map(|(position, track)| {
            let repair = track.section.repair.contains(&number);
            (repair || track.section.media.contains(&number)).then_some((position, repair))
        });
        let Some((position, repair)) = place else { return };
        self.totals.packets += 1;
        self.totals.bytes += datagram.len() as u64;
        self.first_packet.get_or_insert(now);
        let kind = self.tracks[position].section.kind;
        let wanted = repair
            || self.keep
            || self.totals.packets.is_multiple_of(self.sample)
            || (kind == MediaKind::Video && self.first_keyframe.is_none());
        let opened = if wanted { self.open(datagram) } else { None };
        if wanted && opened.is_none() {
            return;
        }
        let sequence = match &opened {
            Some((_, payload)) if repair => match payload.first_chunk::<2>() {
                Some(original) => u16::from_be_bytes(*original),
                None => return,
            },
            _ => {
                self.tracks[position].ssrc = Some(u32::from_be_bytes([header[8], header[9], header[10], header[11]]));
                u16::from_be_bytes([header[2], header[3]])
            }
        };
        let arrival = self.tracks[position].reception.received(now, sequence);
        self.tracks[position].received += u64::from(!repair && arrival != Arrival::Duplicate);
        self.totals.repaired += u64::from(arrival == Arrival::Filled);
        if let Some((header, payload)) = opened {
            self.look(now, kind, &header, if repair { &payload[2..] } else { &payload }, sequence, arrival);
        }
    }

    fn open(&mut self, datagram: &[u8]) -> Option<(Header, Vec<u8>)> {
        let plain = self.peer.open_rtp(datagram);
        self.totals.forged += u64::from(plain.is_none());
        self.totals.opened += u64::from(plain.is_some());
        let plain = plain?;
        let header = Header::parse(&plain)?;
        let payload = plain[header.payload.clone()].to_vec();
        Some((header, payload))
    }

    fn look(
        &mut self,
        now: Instant,
        kind: MediaKind,
        header: &Header,
        payload: &[u8],
        sequence: u16,
        arrival: Arrival,
    ) {
        let tag = stream::identify(kind, payload);
        self.totals.damaged += u64::from(tag.is_none());
        if kind == MediaKind::Video {
            let starts = inspect(Codec::H264, payload).may_begin_random_access();
            self.first_video.get_or_insert(starts);
            if starts {
                self.first_keyframe.get_or_insert(now);
            }
        }
        if self.keep {
            let (timestamp, marker) = (header.timestamp, header.marker);
            self.kept.push(Kept { kind, sequence, timestamp, marker, tag, arrival, at: now });
        }
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        if !self.peer.is_connected() {
            return;
        }
        let Some(plain) = self.peer.open_rtcp(datagram) else {
            self.totals.forged += 1;
            return;
        };
        let Ok(packets) = rtc_rtcp::packet::unmarshal(&mut &plain[..]) else { return };
        for packet in &packets {
            if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                self.totals.reports += 1;
                if let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc == Some(report.ssrc)) {
                    track.report = Some(((report.ntp_time >> 16) as u32, now));
                }
            }
        }
    }

    /// Repeats, reports and asks for what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
        for position in 0..self.tracks.len() {
            let sequences = self.tracks[position].reception.nacks(now);
            let Some(media_ssrc) = self.tracks[position].ssrc.filter(|_| !sequences.is_empty()) else { continue };
            self.totals.asked += sequences.len() as u64;
            let nacks = nack_pairs_from_sequence_numbers(&sequences);
            let report = ReceiverReport { ssrc: REPORTER, ..ReceiverReport::default() };
            self.send(&[Box::new(report), Box::new(TransportLayerNack { sender_ssrc: REPORTER, media_ssrc, nacks })]);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT_EVERY);
            let reports: Vec<ReceptionReport> = self.tracks.iter_mut().filter_map(|track| track.block(now)).collect();
            if !reports.is_empty() {
                self.send(&[Box::new(ReceiverReport { ssrc: REPORTER, reports, ..ReceiverReport::default() })]);
            }
        }
    }

    fn send(&mut self, packets: &[Box<dyn Packet>]) {
        if let Ok(compound) = rtc_rtcp::packet::marshal(packets) {
            self.peer.send_rtcp(&compound);
        }
    }

    /// When to call [`Viewer::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let nacks = self.tracks.iter().filter_map(|track| track.reception.poll_timeout());
        nacks.chain(self.report_at).chain(self.peer.poll_timeout()).min()
    }

    /// The next datagram to send.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.peer.poll_datagram()
    }
}

impl Track {
    fn block(&mut self, now: Instant) -> Option<ReceptionReport> {
        let reception = &self.reception;
        let ssrc = self.ssrc.filter(|_| reception.head() > 0)?;
        let (last_sender_report, delay) = self.report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000) as u32)
        });
        // RFC 3550 A.3.
        let counts = (reception.head() - reception.first(), self.received);
        let expected = counts.0 - self.reported.0;
        let lost = expected.saturating_sub(counts.1 - self.reported.1);
        self.reported = counts;
        Some(ReceptionReport {
            ssrc,
            fraction_lost: (lost * 256 / expected.max(1)).min(255) as u8,
            total_lost: reception.lost(reception.first(), reception.head()) as u32,
            last_sequence_number: (reception.head() - 1 - (reception.first() & !0xffff)) as u32,
            last_sender_report,
            delay,
            ..ReceptionReport::default()
        })
    }
}
