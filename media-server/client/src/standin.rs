//! For tests: a WHIP and WHEP endpoint in the test's own process, whose far end is this crate's own other half, and
//! whose link loses what the test wants lost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use webrtc::peer_connection::Registry;

use crate::outgoing::{Outgoing, Progress};
use crate::peer::Peer;
use crate::source::Source;
use crate::viewer::Incoming;

/// Drops every n-th RTP packet that comes in; 0 drops none.
struct Lossy {
    every: usize,
    seen: usize,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

pub(crate) fn lossy(registry: Registry, every: usize) -> Registry {
    registry.with(Slot::from(10), Lossy { every, seen: 0, inbound: VecDeque::new(), outbound: VecDeque::new() })
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Lossy {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        if matches!(packet.message.packet, Packet::Rtp(_)) {
            self.seen += 1;
            if self.every > 0 && self.seen.is_multiple_of(self.every) {
                return Ok(());
            }
        }
        self.inbound.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        self.outbound.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }
}

impl Interceptor for Lossy {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

/// The endpoint. `/whip/…` watches whoever publishes, `/whep/…` plays a source; any other path answers 503.
pub(crate) struct StandIn {
    pub(crate) url: String,
    pub(crate) deleted: Arc<AtomicUsize>,
    /// What publishers sent.
    pub(crate) incoming: Arc<Mutex<Vec<Arc<Incoming>>>>,
    pub(crate) offers: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    pub(crate) async fn start(source: Source, lose_every: usize) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn {
            url: format!("http://{}", listener.local_addr().unwrap()),
            deleted: Arc::default(),
            incoming: Arc::default(),
            offers: Arc::default(),
        };
        let (deleted, incoming, offers) =
            (Arc::clone(&stand_in.deleted), Arc::clone(&stand_in.incoming), Arc::clone(&stand_in.offers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (deleted, incoming, offers) = (Arc::clone(&deleted), Arc::clone(&incoming), Arc::clone(&offers));
                let source = source.clone();
                tokio::spawn(async move {
                    serve(stream, source, lose_every, &deleted, &incoming, &offers).await;
                });
            }
        });
        stand_in
    }
}

async fn serve(
    mut stream: TcpStream,
    source: Source,
    lose_every: usize,
    deleted: &AtomicUsize,
    all: &Mutex<Vec<Arc<Incoming>>>,
    offers: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    loop {
        while !is_whole(&request) {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(size) => request.extend_from_slice(&chunk[..size]),
            }
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let response = if head.starts_with("DELETE") {
            deleted.fetch_add(1, Ordering::SeqCst);
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else if head.starts_with("POST /whip/") {
            offers.lock().unwrap().push(body.to_owned());
            let incoming = Arc::new(Incoming::default());
            let interceptors = lossy(incoming.interceptors(), lose_every);
            let peer = Peer::new(loopback(), incoming.media_engine().unwrap(), interceptors).await.unwrap();
            let answer = peer.answer(body.to_owned()).await.unwrap();
            all.lock().unwrap().push(incoming);
            tokio::spawn(peer.kept());
            created(&answer)
        } else if head.starts_with("POST /whep/") {
            offers.lock().unwrap().push(body.to_owned());
            let outgoing = Outgoing::new(&source);
            let peer = Peer::new(loopback(), outgoing.media_engine().unwrap(), outgoing.interceptors()).await.unwrap();
            let tracks = outgoing.add_tracks(&peer).await.unwrap();
            let answer = peer.answer(body.to_owned()).await.unwrap();
            let source = source.clone();
            tokio::spawn(async move {
                peer.connected().await.unwrap();
                let (_stop, stopped) = watch::channel(false);
                let writers = tracks.writers().await.unwrap();
                writers.play(&source, &outgoing.feedback, &Progress::default(), stopped).await;
            });
            created(&answer)
        } else {
            let problem = r#"{"title":"Room full","detail":"1 of 1 viewers","status":503}"#;
            format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{problem}",
                problem.len()
            )
        };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn loopback() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 0))]
}

fn created(answer: &str) -> String {
    format!(
        "HTTP/1.1 201 Created\r\nLocation: /session/1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    body.len() >= length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{Camera, Ended};
    use crate::codec::{Codec, MediaKind};
    use crate::error::Error;
    use crate::signal::SignalError;
    use crate::source::Clip;
    use crate::viewer::Viewer;

    const LIMIT: Duration = Duration::from_secs(20);

    /// The first part of the demo, once.
    fn short(milliseconds: u64) -> Source {
        let cut = |clip: Option<Clip>| {
            clip.map(|mut clip| {
                clip.duration = Duration::from_millis(milliseconds);
                clip.frames.retain(|frame| frame.at < clip.duration);
                clip
            })
        };
        let whole = crate::demo::source();
        Source::new(cut(whole.video), cut(whole.audio)).unwrap()
    }

    #[tokio::test]
    async fn what_a_camera_sends_arrives_whole() {
        let stand_in = StandIn::start(Source::default(), 0).await;
        let begun = Instant::now();
        let mut camera = Camera::new(format!("{}/whip/a", stand_in.url), short(1000)).start().await.unwrap();
        assert_eq!(tokio::time::timeout(LIMIT, camera.ended()).await.unwrap(), Ended::Played);
        let stats = camera.stop().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1), "frames left before they were due");
        assert_eq!(stand_in.deleted.load(Ordering::SeqCst), 1);
        let (video, audio) = (stats.video.unwrap(), stats.audio.unwrap());
        assert_eq!((video.frames, video.keyframes, audio.frames), (30, 1, 50));

        let reception = Arc::clone(&stand_in.incoming.lock().unwrap()[0].reception);
        let seen = reception.report(MediaKind::Video, begun).unwrap();
        assert_eq!((seen.codec, seen.frames, seen.keyframes, seen.lost), (Codec::H264, 30, 1, 0));
        assert_eq!((seen.packets, seen.bytes), (video.packets, video.bytes));
        assert!(seen.sender_reports >= 1);
        let heard = reception.report(MediaKind::Audio, begun).unwrap();
        assert_eq!((heard.frames, heard.lost), (50, 0));
        assert!(heard.sender_reports >= 1);
    }

    #[tokio::test]
    async fn lost_packets_are_asked_for_and_sent_again() {
        let stand_in = StandIn::start(Source::default(), 10).await;
        let mut camera = Camera::new(format!("{}/whip/a", stand_in.url), short(1500)).start().await.unwrap();
        tokio::time::timeout(LIMIT, camera.ended()).await.unwrap();
        let stats = camera.stop().await.unwrap();
        let reception = Arc::clone(&stand_in.incoming.lock().unwrap()[0].reception);
        let seen = reception.report(MediaKind::Video, Instant::now()).unwrap();
        assert_eq!(reception.retransmission_streams(), 1, "retransmissions should come by a stream of their own");
        // The very last packets are missed by nobody.
        assert!(seen.lost == 0 && seen.frames >= 44, "{seen:?}");
        assert!(seen.recovered >= 10 && seen.requested >= seen.recovered, "{seen:?}");
        assert!(stats.feedback.nacked >= seen.recovered, "{:?}", stats.feedback);
        assert!(stats.feedback.retransmitted >= seen.recovered, "{:?}", stats.feedback);
        assert!(stats.feedback.receiver_reports > 0 && stats.feedback.transport_feedbacks > 0, "{:?}", stats.feedback);
    }

    #[tokio::test]
    async fn a_viewer_sees_a_keyframe_soon_after_its_post() {
        let stand_in = StandIn::start(crate::demo::source(), 0).await;
        let watching = Viewer::new(format!("{}/whep/a", stand_in.url)).start().await.unwrap();
        let seen = watching.wait_for(|report| {
            let begun = |track: &Option<crate::viewer::TrackReport>| {
                track.as_ref().is_some_and(|track| track.first_keyframe_ms.is_some())
            };
            begun(&report.video) && begun(&report.audio)
        });
        assert!(tokio::time::timeout(LIMIT, seen).await.unwrap());
        let report = watching.stop().await.unwrap();
        assert_eq!(report.strangers, 0);
        assert_eq!(report.video.unwrap().lost, 0);
        assert_eq!(stand_in.deleted.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_full_room_is_told_with_the_remedy() {
        let stand_in = StandIn::start(Source::default(), 0).await;
        let Err(error) = Viewer::new(format!("{}/full", stand_in.url)).start().await else { panic!("let in") };
        assert!(matches!(&error, Error::Signal(SignalError::Refused { status, .. }) if status.as_u16() == 503));
        assert!(error.to_string().contains("Room full: 1 of 1 viewers"), "{error}");
        assert!(error.fix().unwrap().contains("7 s"), "{:?}", error.fix());
    }

    #[tokio::test]
    async fn a_silent_media_address_is_named() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let (outgoing, incoming) = (Outgoing::new(&crate::demo::source()), Incoming::default());
        let camera = Peer::new(loopback(), outgoing.media_engine().unwrap(), outgoing.interceptors()).await.unwrap();
        let _tracks = outgoing.add_tracks(&camera).await.unwrap();
        let other = Peer::new(loopback(), incoming.media_engine().unwrap(), incoming.interceptors()).await.unwrap();
        let answer = other.answer(camera.offer().await.unwrap()).await.unwrap();
        other.close().await;
        let real = crate::peer::candidates(&answer)[0].rsplit_once(':').unwrap().1.to_owned();
        let answer = answer.replace(&format!(" {real} "), &format!(" {} ", address.port()));
        camera.accept(answer).await.unwrap();
        let error = Error::from(camera.connected_within(Duration::from_millis(200)).await.unwrap_err());
        let (local, remote) = error.candidates().unwrap();
        assert!(!local.is_empty());
        assert_eq!(remote, [address.to_string()]);
        assert!(error.fix().unwrap().contains(&address.to_string()), "{:?}", error.fix());
    }

    #[tokio::test]
    async fn offers_have_what_a_server_needs() {
        let stand_in = StandIn::start(crate::demo::source(), 0).await;
        let camera = Camera::new(format!("{}/whip/a", stand_in.url), crate::demo::source()).start().await.unwrap();
        camera.stop().await.unwrap();
        let offer = stand_in.offers.lock().unwrap()[0].clone();
        for line in [
            "a=group:BUNDLE ",
            "a=setup:actpass",
            "a=sendonly",
            "a=rtcp-mux",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtcp-fb:96 transport-cc",
            "profile-level-id=42c01e",
            "a=fmtp:97 apt=96",
            "a=ssrc-group:FID ",
            "a=candidate:",
        ] {
            assert!(offer.contains(line), "{line} is not in\n{offer}");
        }
    }
}
