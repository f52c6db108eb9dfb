//! A TURN client (RFC 8656) over UDP, for tests of relays: one allocation, and all that may be asked of it, also what must
//! be refused.
//!
//! It asks with long-term credentials (RFC 8489 §9.2) or without any, repeats what is not answered, and tells a refusal by
//! its code. It refreshes nothing by itself.

use rtc_stun::attributes::{
    ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_ERROR_CODE, ATTR_LIFETIME, ATTR_NONCE, ATTR_REALM,
    ATTR_REQUESTED_ADDRESS_FAMILY, ATTR_REQUESTED_TRANSPORT, ATTR_SOFTWARE, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS,
    ATTR_XOR_RELAYED_ADDRESS, AttrType,
};
use rtc_stun::crypto::RTCCryptoProvider;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE,
    METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message, MessageType,
    Method, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

const REPEAT_EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(4);
/// As asked for; coturn gives at most what it is configured for.
const LIFETIME: Duration = Duration::from_secs(600);
const UDP: u8 = 17;
/// Long enough for what fits into a datagram.
const DATAGRAM: usize = 65_536;

const UNAUTHORIZED: u16 = 401;
const STALE_NONCE: u16 = 438;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The relay said no, with this code (RFC 8656 §19, RFC 8489 §14.8).
    #[error("refused with {0}")]
    Refused(u16),
    /// No answer.
    #[error("no answer within {PATIENCE:?}")]
    Silent,
    /// What came is no answer that makes sense.
    #[error("an answer that makes no sense: {0}")]
    Malformed(String),
    /// The socket failed: nobody listens there.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TurnError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            TurnError::Refused(code) => Some(*code),
            _ => None,
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> TurnError {
    TurnError::Malformed(error.to_string())
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Account {
    /// As the relay's owner gives it.
    pub username: String,
    /// As the relay's owner gives it.
    pub credential: String,
}

/// What the relay has told of itself, with the key that follows from it.
struct Challenge {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Vec<u8>,
}

/// An allocation, as long as the relay keeps it.
pub struct Allocation {
    socket: UdpSocket,
    crypto: Arc<dyn RTCCryptoProvider>,
    account: Option<Account>,
    challenge: Option<Challenge>,
    relayed: SocketAddr,
    software: Option<String>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Allocation {
    /// Asks the relay for one, of the family at which the relay is reached; without an account it says nothing of one.
    pub async fn open(relay: SocketAddr, account: Option<&Account>) -> Result<Allocation, TurnError> {
        let any: IpAddr = if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(relay).await?;
        let mut allocation = Allocation {
            socket,
            crypto: rtc_stun::crypto::default_provider().map_err(malformed)?,
            account: account.cloned(),
            challenge: None,
            relayed: relay,
            software: None,
            inbox: VecDeque::new(),
        };
        let family = if relay.is_ipv4() { 1 } else { 2 };
        let answer = allocation
            .request(METHOD_ALLOCATE, |message| {
                message.add(ATTR_REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);
                message.add(ATTR_LIFETIME, &seconds(LIFETIME));
                message.add(ATTR_REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
            })
            .await?;
        allocation.relayed = address(&answer, ATTR_XOR_RELAYED_ADDRESS)?;
        allocation.software =
            answer.get(ATTR_SOFTWARE).ok().map(|software| String::from_utf8_lossy(&software).into_owned());
        Ok(allocation)
    }

    /// Where peers see what it sends.
    pub fn relayed(&self) -> SocketAddr {
        self.relayed
    }

    /// What the relay says it is.
    pub fn software(&self) -> Option<&str> {
        self.software.as_deref()
    }

    /// Lets this address send to it, and be sent to.
    pub async fn permit(&mut self, peer: IpAddr) -> Result<(), TurnError> {
        let peer = SocketAddr::new(peer, 9);
        self.request(METHOD_CREATE_PERMISSION, |message| add_peer(message, peer)).await.map(drop)
    }

    /// Binds a channel, 0x4000 to 0x4fff, to this address; that permits it too.
    pub async fn bind_channel(&mut self, number: u16, peer: SocketAddr) -> Result<(), TurnError> {
        self.request(METHOD_CHANNEL_BIND, |message| {
            message.add(ATTR_CHANNEL_NUMBER, &(u32::from(number) << 16).to_be_bytes());
            add_peer(message, peer);
        })
        .await
        .map(drop)
    }

    /// Keeps it for so long; zero ends it.
    pub async fn refresh(&mut self, lifetime: Duration) -> Result<(), TurnError> {
        self.request(METHOD_REFRESH, |message| message.add(ATTR_LIFETIME, &seconds(lifetime))).await.map(drop)
    }

    /// Hands the relay a datagram for `peer`; it says nothing if it drops it.
    pub async fn send(&self, peer: SocketAddr, data: &[u8]) -> Result<(), TurnError> {
        let mut message = empty(MessageType::new(METHOD_SEND, CLASS_INDICATION));
        add_peer(&mut message, peer);
        message.add(ATTR_DATA, data);
        self.socket.send(&message.raw).await?;
        Ok(())
    }

    /// Hands the relay a datagram for the peer of a channel.
    pub async fn send_by_channel(&self, number: u16, data: &[u8]) -> Result<(), TurnError> {
        let length = u16::try_from(data.len()).map_err(malformed)?;
        let framed = [&number.to_be_bytes(), &length.to_be_bytes(), data].concat();
        self.socket.send(&framed).await?;
        Ok(())
    }

    /// The next datagram of a peer. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Result<(SocketAddr, Vec<u8>), TurnError> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            if let Some(received) = self.inbox.pop_front() {
                return Ok(received);
            }
            let length = self.socket.recv(&mut buffer).await?;
            self.take(&buffer[..length]);
        }
    }

    async fn request(&mut self, method: Method, fill: impl Fn(&mut Message)) -> Result<Message, TurnError> {
        // The first answer brings the challenge; a later one may bring a newer nonce, once.
        for _ in 0..2 {
            let answer = self.exchange(method, &fill).await?;
            if answer.typ.class == CLASS_SUCCESS_RESPONSE {
                return Ok(answer);
            }
            let code = code(&answer)?;
            let challenged = code == STALE_NONCE || (code == UNAUTHORIZED && self.challenge.is_none());
            let Some(account) = self.account.as_ref().filter(|_| challenged) else {
                return Err(TurnError::Refused(code));
            };
            self.challenge = Some(Challenge::read(&answer, account, &*self.crypto)?);
        }
        let answer = self.exchange(method, &fill).await?;
        if answer.typ.class == CLASS_SUCCESS_RESPONSE { Ok(answer) } else { Err(TurnError::Refused(code(&answer)?)) }
    }

    /// One request, repeated until it is answered; what peers send meanwhile is kept.
    async fn exchange(&mut self, method: Method, fill: &impl Fn(&mut Message)) -> Result<Message, TurnError> {
        let request = self.build(method, fill)?;
        let mut buffer = vec![0; DATAGRAM];
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.socket.send(&request.raw).await?;
            let repeat = (Instant::now() + REPEAT_EVERY).min(end);
            while let Ok(received) = timeout_at(repeat, self.socket.recv(&mut buffer)).await {
                let length = received?;
                if let Some(answer) = self.take(&buffer[..length])
                    && answer.transaction_id == request.transaction_id
                {
                    return Ok(answer);
                }
            }
        }
        Err(TurnError::Silent)
    }

    fn build(&self, method: Method, fill: &impl Fn(&mut Message)) -> Result<Message, TurnError> {
        let mut message = empty(MessageType::new(method, CLASS_REQUEST));
        fill(&mut message);
        if let (Some(account), Some(challenge)) = (&self.account, &self.challenge) {
            message.add(ATTR_USERNAME, account.username.as_bytes());
            message.add(ATTR_REALM, &challenge.realm);
            message.add(ATTR_NONCE, &challenge.nonce);
            let crypto = self.crypto.crypto();
            let integrity = MessageIntegrity::new_raw_integrity_with_provider(challenge.key.clone(), crypto);
            integrity.add_to(&mut message).map_err(malformed)?;
        }
        Ok(message)
    }

    /// Keeps what a peer sent; gives what the relay answered.
    fn take(&mut self, datagram: &[u8]) -> Option<Message> {
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        message.decode().ok()?;
        if message.typ == MessageType::new(METHOD_DATA, CLASS_INDICATION) {
            let (peer, data) = (address(&message, ATTR_XOR_PEER_ADDRESS).ok()?, message.get(ATTR_DATA).ok()?);
            self.inbox.push_back((peer, data));
            return None;
        }
        matches!(message.typ.class, CLASS_SUCCESS_RESPONSE | CLASS_ERROR_RESPONSE).then_some(message)
    }
}

impl Challenge {
    fn read(answer: &Message, account: &Account, crypto: &dyn RTCCryptoProvider) -> Result<Challenge, TurnError> {
        let realm = answer.get(ATTR_REALM).map_err(malformed)?;
        let nonce = answer.get(ATTR_NONCE).map_err(malformed)?;
        let Account { username, credential } = account.clone();
        let name = String::from_utf8_lossy(&realm).into_owned();
        let key = MessageIntegrity::long_term_integrity_key(username, name, credential, crypto.crypto());
        Ok(Challenge { realm, nonce, key: key.map_err(malformed)? })
    }
}

fn empty(kind: MessageType) -> Message {
    let mut message = Message::new();
    message.transaction_id = TransactionId::new();
    message.set_type(kind);
    message.write_header();
    message
}

/// IPv4-mapped addresses are sent as the IPv6 ones that they are.
fn add_peer(message: &mut Message, peer: SocketAddr) {
    let peer = XorMappedAddress { ip: peer.ip(), port: peer.port() };
    // It fails for no address.
    let _ = peer.add_to_as(message, ATTR_XOR_PEER_ADDRESS);
}

fn address(message: &Message, attribute: AttrType) -> Result<SocketAddr, TurnError> {
    let mut address = XorMappedAddress::default();
    address.get_from_as(message, attribute).map_err(malformed)?;
    Ok(SocketAddr::new(address.ip, address.port))
}

fn code(answer: &Message) -> Result<u16, TurnError> {
    match answer.get(ATTR_ERROR_CODE).map_err(malformed)?[..] {
        [_, _, class, number, ..] => Ok(u16::from(class) * 100 + u16::from(number)),
        _ => Err(malformed("an error without its code")),
    }
}

fn seconds(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}
