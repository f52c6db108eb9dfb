//! A call: from an endpoint's URL to a session whose media can flow, and to its end. Camera and viewer differ only in the
//! [`Half`] of the media that they bring.
//!
//! A handshake that is stuck is begun anew, as a session of its own; any other failure is told at once. What fails after
//! the answer ends the session at the server, and what fails at all closes the connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use webrtc::peer_connection::{MediaEngine, Registry};

use crate::error::Error;
use crate::peer::{HANDSHAKES, Peer, PeerError, local_addresses};
use crate::signal::{Access, Endpoint, Session};

/// One half of the media: what sends, or what receives.
pub(crate) trait Half: Send + Sync {
    /// Tracks that are in the offer, if the half needs them later.
    type Tracks: Send;
    /// What they are once the connection stands.
    type Agreed: Send;

    fn media_engine(&self) -> Result<MediaEngine, PeerError>;

    fn interceptors(&self) -> Registry;

    /// Adds what is to be negotiated; the offer is made after.
    fn add_tracks(&self, peer: &Peer) -> impl Future<Output = Result<Self::Tracks, PeerError>> + Send;

    /// Reads what was agreed.
    fn agreed(tracks: Self::Tracks) -> impl Future<Output = Result<Self::Agreed, PeerError>> + Send;
}

/// A session that stands. Dropping it leaves the server to notice; [`end`](Call::end) tells it.
pub(crate) struct Call {
    pub(crate) peer: Peer,
    session: Session,
    /// When the first offer was posted: sessions that got stuck count.
    pub(crate) posted: Instant,
    /// From then to the answer.
    pub(crate) answered: Duration,
    /// From then until media could flow.
    pub(crate) connected: Duration,
}

impl Call {
    /// Connects to the endpoint at `url`, each time with a half as `half` makes it.
    pub(crate) async fn connect<H: Half>(
        url: &str,
        access: &Access,
        half: impl Fn() -> H + Send,
    ) -> Result<(Call, H, H::Agreed), Error> {
        let endpoint = Endpoint::new(url, access)?;
        let addresses = local_addresses(&endpoint.addresses().await);
        if addresses.is_empty() {
            return Err(PeerError::NoAddress(endpoint.url().to_string()).into());
        }
        let mut first_post = None;
        let mut handshakes = 1;
        loop {
            let half = half();
            match attempt(&endpoint, &addresses, &half, &mut first_post).await {
                Err(error) if error.is_stuck_handshake() && handshakes < HANDSHAKES => {
                    tracing::info!("the handshake is stuck: once more");
                    handshakes += 1;
                }
                done => return done.map(|(call, agreed)| (call, half, agreed)),
            }
        }
    }

    /// The session's URL at the server.
    pub(crate) fn url(&self) -> &str {
        self.session.url().as_str()
    }

    /// Ends the session at the server, and the connection. The error is that of the DELETE.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        let deleted = self.session.delete().await;
        self.peer.close().await;
        Ok(deleted?)
    }
}

/// One session; times count from the first POST.
async fn attempt<H: Half>(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    half: &H,
    first_post: &mut Option<Instant>,
) -> Result<(Call, H::Agreed), Error> {
    let peer = Peer::new(addresses.to_vec(), half.media_engine()?, half.interceptors()).await?;
    let started = async {
        let tracks = half.add_tracks(&peer).await?;
        let offer = peer.offer().await?;
        let posted = *first_post.get_or_insert_with(Instant::now);
        let session = endpoint.post(offer).await?;
        let answered = posted.elapsed();
        let connect = async {
            peer.accept(session.answer.clone()).await?;
            peer.connected().await?;
            let connected = posted.elapsed();
            Ok::<_, PeerError>((connected, H::agreed(tracks).await?))
        };
        match connect.await {
            Ok((connected, agreed)) => Ok((session, posted, answered, connected, agreed)),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = session.delete().await;
                Err(Error::from(error))
            }
        }
    };
    match started.await {
        Ok((session, posted, answered, connected, agreed)) => {
            Ok((Call { peer, session, posted, answered, connected }, agreed))
        }
        Err(error) => {
            peer.close().await;
            Err(error)
        }
    }
}
