//! One peer connection of `webrtc`, set up so that it connects as fast as it can.
//!
//! Host candidates only, all of them in the offer: no STUN server, no mDNS, no trickle. The far end is ICE-lite, so it
//! never checks on its own; our checks and the nomination after them go out every few milliseconds, where the library's
//! default of 200 ms would cost two intervals. We offer `actpass`; a passive far end makes us the DTLS client, whose
//! ClientHello goes with the nomination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use tokio::sync::watch;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceConnectionState,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry, SrtpProtectionProfile,
};

use ingest::{Codec, MediaKind};

/// Between two connectivity checks, and from the first answer to the nomination.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Checks of a pair before it counts as failed: for as long as a connection may take.
const CHECKS: u16 = 2000;
/// How long checks may take, from the answer on.
const ICE_LIMIT: Duration = Duration::from_secs(8);
/// How long a handshake may take. The library's DTLS client forgets to repeat its last flight once it has seen the server
/// repeat its own, so a lost datagram can leave a handshake stuck: what takes longer is begun anew.
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(2500);
/// Sessions that are tried until a handshake is done.
pub(crate) const HANDSHAKES: usize = 4;
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(2);

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The library refused something.
    #[error("WebRTC: {0}")]
    Rtc(#[from] rtc::shared::error::Error),
    /// No local address to send from.
    #[error("no local address reaches {0}: is the network up?")]
    NoAddress(String),
    /// Host candidates did not come.
    #[error("gathering local candidates took longer than {} s", .0.as_secs())]
    Gathering(Duration),
    /// Neither ICE nor DTLS failed, but it took too long, or one of them failed.
    #[error("{cause}")]
    NotConnected {
        /// How far it came.
        cause: NotConnected,
        /// Our candidates, as address:port.
        local: Vec<String>,
        /// The far end's candidates, as address:port.
        remote: Vec<String>,
    },
    /// An audio or video section was refused.
    #[error("the server did not take {0}")]
    CodecRefused(Codec),
    /// The connection was there and is lost.
    #[error("the connection was lost")]
    Lost,
}

/// How far a connection came that did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConnected {
    /// No answer to our connectivity checks.
    #[error("no UDP packet came back from the server's media address (ICE)")]
    Ice,
    /// Checks were answered; the handshake was not finished.
    #[error("the server's media address answered, but the DTLS handshake did not finish")]
    Dtls,
}

/// What the handler lets others wait for.
#[derive(Clone, Copy, Debug)]
struct State {
    gathered: bool,
    ice: bool,
    connection: RTCPeerConnectionState,
}

struct Handler(watch::Sender<State>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.0.send_modify(|shared| shared.gathered |= state == RTCIceGatheringState::Complete);
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        tracing::debug!(%state, "ICE");
        let connected = matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed);
        self.0.send_modify(|shared| shared.ice |= connected);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "peer connection");
        self.0.send_modify(|shared| shared.connection = state);
    }
}

/// A peer connection and what it is doing.
pub(crate) struct Peer {
    pub(crate) connection: Arc<dyn PeerConnection>,
    state: watch::Receiver<State>,
}

impl Peer {
    /// Binds a socket on each of `addresses` and gets ready to negotiate.
    pub(crate) async fn new(
        addresses: Vec<SocketAddr>,
        media: MediaEngine,
        interceptors: Registry,
    ) -> Result<Peer, PeerError> {
        let (sender, state) =
            watch::channel(State { gathered: false, ice: false, connection: RTCPeerConnectionState::New });
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
            .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEPALIVE))
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_srtp_replay_protection_window(1024)
            .with_srtcp_replay_protection_window(128)
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_setting_engine(settings)
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_handler(Arc::new(Handler(sender)))
            .with_udp_addrs(addresses)
            .build()
            .await?;
        Ok(Peer { connection: Arc::new(connection), state })
    }

    /// An offer with all candidates in it.
    pub(crate) async fn offer(&self) -> Result<String, PeerError> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        self.described().await
    }

    /// Answers an offer, with all candidates.
    #[cfg(test)]
    pub(crate) async fn answer(&self, offer: String) -> Result<String, PeerError> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.connection.create_answer(None).await?;
        self.connection.set_local_description(answer).await?;
        self.described().await
    }

    async fn described(&self) -> Result<String, PeerError> {
        const LIMIT: Duration = Duration::from_secs(5);
        let mut state = self.state.clone();
        let gathered = tokio::time::timeout(LIMIT, state.wait_for(|state| state.gathered)).await;
        gathered.map_err(|_| PeerError::Gathering(LIMIT))?.map_err(|_| PeerError::Lost)?;
        let description = self.connection.local_description().await;
        Ok(description.ok_or(PeerError::Lost)?.sdp)
    }

    /// Takes the far end's answer; checks begin.
    pub(crate) async fn accept(&self, answer: String) -> Result<(), PeerError> {
        Ok(self.connection.set_remote_description(RTCSessionDescription::answer(answer)?).await?)
    }

    /// Waits until media can flow.
    pub(crate) async fn connected(&self) -> Result<(), PeerError> {
        self.connected_within(ICE_LIMIT).await
    }

    pub(crate) async fn connected_within(&self, limit: Duration) -> Result<(), PeerError> {
        let checked = self.reached(limit, |state| state.ice).await;
        let settled = if checked.ice { self.reached(HANDSHAKE_LIMIT, |_| false).await } else { checked };
        if settled.connection == RTCPeerConnectionState::Connected {
            return Ok(());
        }
        let local = self.connection.local_description().await.map(|description| description.sdp).unwrap_or_default();
        let remote = self.connection.remote_description().await.map(|description| description.sdp).unwrap_or_default();
        let cause = if settled.ice { NotConnected::Dtls } else { NotConnected::Ice };
        Err(PeerError::NotConnected { cause, local: candidates(&local), remote: candidates(&remote) })
    }

    /// Waits until it is as `wanted`, or settled in any other way.
    async fn reached(&self, limit: Duration, wanted: impl Fn(&State) -> bool) -> State {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| {
            wanted(state)
                || matches!(
                    state.connection,
                    RTCPeerConnectionState::Connected | RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
                )
        });
        match tokio::time::timeout(limit, settled).await {
            Ok(Ok(state)) => *state,
            _ => *self.state.borrow(),
        }
    }

    /// Waits until the connection is over. The handle is independent of the peer.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        async move {
            let over = |state: &State| {
                matches!(state.connection, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
            };
            // A sender that is gone means the same.
            let _ = state.wait_for(over).await;
        }
    }

    /// Holds the connection until it is over.
    #[cfg(test)]
    pub(crate) async fn kept(self) {
        self.ended().await;
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing the peer connection");
        }
    }
}

/// Addresses of the `a=candidate` lines of a session description, each once, as address:port.
pub(crate) fn candidates(sdp: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a=candidate:")) {
        let fields: Vec<&str> = line.split(' ').collect();
        if let (Some(address), Some(port)) = (fields.get(4), fields.get(5)) {
            let ipv6 = address.contains(':');
            let text = if ipv6 { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
            if !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found
}

/// The local addresses from which `server` and the rest of the network are reached, port 0. Loopback comes first, and
/// only where the server is on it.
pub(crate) fn local_addresses(server: &[IpAddr]) -> Vec<SocketAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut add = |address: IpAddr| {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    for address in server {
        if address.is_loopback() {
            // Signalling on one family says nothing of the family that media is announced on.
            add(Ipv4Addr::LOCALHOST.into());
            if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
                add(Ipv6Addr::LOCALHOST.into());
            }
        }
    }
    for address in server {
        route_to(*address).into_iter().for_each(&mut add);
    }
    // Documentation addresses: nothing is sent, the routing table is only asked where it would leave.
    let elsewhere = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    elsewhere.into_iter().filter_map(route_to).for_each(&mut add);
    addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect()
}

/// The local address that the system would send from.
fn route_to(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|local| !local.is_unspecified())
}

/// A codec as it is offered: payload type, what its retransmissions use, and its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    pub(crate) rtx: Option<u8>,
    pub(crate) fmtp: String,
}

/// What can be negotiated: `offered`, each with NACK, keyframe requests and transport-wide feedback.
pub(crate) fn media_engine(offered: &[Offered]) -> Result<MediaEngine, PeerError> {
    let mut media = MediaEngine::default();
    for entry in offered {
        let kind = rtc_kind(entry.codec.kind());
        media.register_codec(
            RTCRtpCodecParameters { rtp_codec: rtc_codec(entry.codec, &entry.fmtp), payload_type: entry.payload_type },
            kind,
        )?;
        if let Some(rtx) = entry.rtx {
            let rtp_codec = RTCRtpCodec {
                mime_type: "video/rtx".to_owned(),
                clock_rate: entry.codec.clock_rate(),
                sdp_fmtp_line: format!("apt={}", entry.payload_type),
                ..RTCRtpCodec::default()
            };
            media.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: rtx }, kind)?;
        }
    }
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        for uri in [MID, TRANSPORT_CC] {
            let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
            media.register_header_extension(extension, kind, None)?;
        }
    }
    Ok(media)
}

pub(crate) fn rtc_kind(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
    }
}

pub(crate) fn rtc_codec(codec: Codec, fmtp: &str) -> RTCRtpCodec {
    let feedback: &[(&str, &str)] = match codec.kind() {
        MediaKind::Audio => &[("nack", ""), ("transport-cc", "")],
        MediaKind::Video => &[("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")],
    };
    RTCRtpCodec {
        mime_type: codec.mime_type().to_owned(),
        clock_rate: codec.clock_rate(),
        channels: if codec == Codec::Opus { 2 } else { 0 },
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: feedback
            .iter()
            .map(|(typ, parameter)| RTCPFeedback { typ: (*typ).to_owned(), parameter: (*parameter).to_owned() })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_loopback_is_reached_from_loopback_first() {
        let addresses = local_addresses(&[Ipv4Addr::LOCALHOST.into()]);
        assert_eq!(addresses[0], SocketAddr::from(([127, 0, 0, 1], 0)));
    }

    #[test]
    fn candidates_are_named_once() {
        let sdp = "v=0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host\r\nm=video 9\r\n\
                   a=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host\r\na=candidate:2 1 udp 1 ::1 8189 typ host\r\na=candidate:3\r\n";
        assert_eq!(candidates(sdp), ["127.0.0.1:8189", "[::1]:8189"]);
    }
}
