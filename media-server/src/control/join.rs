//! Coming in: an offer becomes a session.
//!
//! The order is always the same: parse, cheap checks, reserve, and only then allocate and answer. Reserved slots are
//! values, so whatever fails after that gives them back.

use super::error::{ControlError, DRAINING_RETRY_AFTER};
use super::media::{Media, Publish, Subscribe};
use super::registry::{Now, Peer};
use super::types::{Established, LocalSource, Principal, Role, RoomName};
use super::{Control, Inner};
use sfu::Feed;
use sfu::parameters::{IceCredentials, PublisherTracks, SessionId, TransportParameters};
use sfu::sdp::Offer;

impl Control {
    /// Lets a publisher in (WHIP POST). The identity that publishes in the room already may come again: it takes over
    /// as soon as its new media comes.
    pub async fn publish(&self, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
        self.inner.refusals.note(publish(&self.inner, room, who, offer))
    }

    /// Adds a source in this process, which is then a publisher like any other: it has a slot, a stream and a recording, and
    /// takes over from an earlier source of the same identity. Feed it with [`MediaPlane::feed`](crate::net::MediaPlane::feed),
    /// as long as [`Control::has_session`]; end it with [`Control::delete`].
    pub fn add_source(
        &self,
        room: &RoomName,
        who: &Principal,
        tracks: PublisherTracks,
    ) -> Result<LocalSource, ControlError> {
        add_source(&self.inner, room, who, tracks)
    }

    /// Returns whether a session has not ended.
    pub fn has_session(&self, session: SessionId) -> bool {
        self.inner.registry().has_session(session)
    }

    /// Lets a subscriber in (WHEP POST). A publisher must have been answered in the room; it may still be connecting.
    pub async fn subscribe(&self, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
        self.inner.refusals.note(subscribe(&self.inner, room, who, offer))
    }
}

fn publish(inner: &Inner, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
    let media = inner.media.as_deref().ok_or(ControlError::NoMedia)?;
    let offer = Offer::parse(offer)?;
    // One lock over all of it: publishers are few, and two that race for a room must not both find it empty.
    let mut registry = inner.registry();
    if registry.draining {
        return Err(ControlError::Draining { retry_after: DRAINING_RETRY_AFTER });
    }
    let claim = registry.claim_publisher(room, who, &inner.gate)?;
    let options = inner.answers();
    let max_bitrate = options.max_bitrate;
    let opened = OpenedRoom::of(media, claim.media, claim.recorded);
    let local = media.describe(opened.room);
    let (answer, tracks) = offer.answer_publisher(&local, &options)?;
    let peer = Peer { room, who, media: opened.keep(), remote: offer.ice.clone() };
    let at = peer.media;
    let mut effects = Vec::new();
    let entered = registry.admit_publisher(peer, claim, tracks.clone(), Now::new(), &mut effects);
    let transport = TransportParameters {
        local: local.ice,
        remote: offer.ice,
        fingerprint: offer.fingerprint,
        dtls_role: offer.dtls_role,
    };
    let feed = Feed::Peer(transport);
    media.publish(Publish { room: at, session: entered.session, feed, tracks, max_bitrate });
    inner.perform(effects);
    Ok(Established { key: entered.key, answer, etag: entered.etag, role: Role::Publisher })
}

fn add_source(
    inner: &Inner,
    room: &RoomName,
    who: &Principal,
    tracks: PublisherTracks,
) -> Result<LocalSource, ControlError> {
    let media = inner.media.as_deref().ok_or(ControlError::NoMedia)?;
    let mut registry = inner.registry();
    if registry.draining {
        return Err(ControlError::Draining { retry_after: DRAINING_RETRY_AFTER });
    }
    let claim = registry.claim_publisher(room, who, &inner.gate)?;
    let max_bitrate = inner.gate.limits().max_bitrate;
    let at = OpenedRoom::of(media, claim.media, claim.recorded).keep();
    // Without ICE, there are no credentials; the key of the session stays in this process.
    let remote = IceCredentials { ufrag: String::new(), pwd: String::new() };
    let mut effects = Vec::new();
    let peer = Peer { room, who, media: at, remote };
    let entered = registry.admit_publisher(peer, claim, tracks.clone(), Now::new(), &mut effects);
    media.publish(Publish { room: at, session: entered.session, feed: Feed::Local, tracks, max_bitrate });
    inner.perform(effects);
    Ok(LocalSource { room: at, session: entered.session, key: entered.key })
}

fn subscribe(inner: &Inner, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
    let media = inner.media.as_deref().ok_or(ControlError::NoMedia)?;
    let offer = Offer::parse(offer)?;
    let claim = {
        let registry = inner.registry();
        if registry.draining {
            return Err(ControlError::Draining { retry_after: DRAINING_RETRY_AFTER });
        }
        registry.claim_subscriber(room, &inner.gate)?
    };
    // The slot is held; the answer is made without the lock, so that joins do not wait for each other.
    let at = claim.media;
    let local = media.describe(at);
    let (answer, tracks) = offer.answer_subscriber(&local, &claim.source, ssrcs(), &inner.answers())?;
    let transport = TransportParameters {
        local: local.ice,
        remote: offer.ice.clone(),
        fingerprint: offer.fingerprint,
        dtls_role: offer.dtls_role,
    };
    let peer = Peer { room, who, media: at, remote: offer.ice };
    let mut effects = Vec::new();
    let mut registry = inner.registry();
    let entered = registry.admit_subscriber(peer, claim, Now::new(), &mut effects)?;
    // Under the lock: whoever ends the session must find it in the media plane.
    media.subscribe(Subscribe { room: at, session: entered.session, transport, tracks });
    inner.perform(effects);
    Ok(Established { key: entered.key, answer, etag: entered.etag, role: Role::Subscriber })
}

/// Four different random numbers, none of them 0.
fn ssrcs() -> [u32; 4] {
    loop {
        let ssrcs: [u32; 4] = rand::random();
        let differ = (1..4).all(|i| !ssrcs[..i].contains(&ssrcs[i]));
        if differ && !ssrcs.contains(&0) {
            return ssrcs;
        }
    }
}

/// A room in the media plane that is closed again unless it is kept.
struct OpenedRoom<'a> {
    media: &'a dyn Media,
    room: sfu::parameters::RoomId,
    new: bool,
}

impl OpenedRoom<'_> {
    fn of(media: &dyn Media, room: Option<sfu::parameters::RoomId>, recorded: bool) -> OpenedRoom<'_> {
        OpenedRoom { media, room: room.unwrap_or_else(|| media.open_room(recorded)), new: room.is_none() }
    }

    fn keep(mut self) -> sfu::parameters::RoomId {
        self.new = false;
        self.room
    }
}

impl Drop for OpenedRoom<'_> {
    fn drop(&mut self) {
        if self.new {
            self.media.close_room(self.room);
        }
    }
}
