//! The registry: which rooms, streams and sessions there are, and what follows from what happens to them.
//!
//! Pure but for the slots it holds: time comes in, [`Effect`]s come out, in the order in which they must take effect.
//! The caller holds one lock over a transition and the performing of its effects, so their order is the registry's.
//!
//! A room is there exactly as long as a stream of it is not over. Its publisher's seat holds the *current* session,
//! and while the same identity takes over also the *incoming* one, on one slot; whenever there is no current one there
//! is no incoming one either.

mod sessions;
mod streams;

pub(super) use streams::{late_end, owns, past};

use super::admission::{Claim, Gate, Slot};
use super::error::{ControlError, DRAINING_RETRY_AFTER, NO_PUBLISHER_RETRY_AFTER};
use super::etag;
use super::events::News;
use super::media::EndReason;
use super::notices::Channel;
use super::troubles::Troubles;
use super::types::{Principal, Role, RoomName, SessionKey, StreamId, StreamState, TroubleInfo};
use crate::auth::TokenDigest;
use crate::store::{Change, SessionRow, StreamRow};
use jiff::Timestamp;
use serde_json::Value;
use sfu::parameters::{IceCredentials, LocalDescription, PublisherTracks, RoomId, SessionId};
use sfu::shard::trouble::TroubleChange;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Something that must be done because of a transition.
#[derive(Debug)]
pub(super) enum Effect {
    Close {
        room: RoomId,
        session: SessionId,
    },
    CloseRoom(RoomId),
    StartRecording {
        room: RoomId,
        stream: StreamId,
        name: RoomName,
        publisher: String,
        tracks: PublisherTracks,
        at: Timestamp,
    },
    SourceChanged {
        room: RoomId,
        publisher: String,
        tracks: PublisherTracks,
    },
    FinishRecording(RoomId),
    Write(Change),
    Tell(News),
}

/// The moment of a transition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For the books; whole microseconds, as they are stored.
    pub(super) wall: Timestamp,
    /// For timers.
    pub(super) instant: Instant,
}

impl Now {
    pub(super) fn new() -> Now {
        let wall = Timestamp::now();
        let wall = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        Now { wall, instant: Instant::now() }
    }
}

/// A session that was let in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) role: Role,
    pub(super) room: RoomName,
    /// Its room in the media plane.
    pub(super) media: RoomId,
    /// Its tag for the generation of ICE credentials that is current.
    pub(super) etag: String,
    /// The peer's credentials of that generation.
    pub(super) remote: IceCredentials,
    /// Our half of the last restart.
    pub(super) restarted: Option<LocalDescription>,
    /// The client's credentials before its last restart: its late candidates still carry them.
    pub(super) previous: Option<IceCredentials>,
    subject: String,
    /// Of the bearer token that started it.
    token: Option<TokenDigest>,
    /// When it was let in.
    started_at: Timestamp,
    /// Its row in the store.
    row: String,
    connected: bool,
    /// Its media came (publishers).
    started: bool,
    /// What it sends (publishers).
    tracks: PublisherTracks,
    /// What it is told (subscribers), while it listens.
    pub(super) notices: Option<Channel>,
    /// Shared with the session it takes over from.
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Room {
    /// Opened with the first publisher.
    media: Option<RoomId>,
    /// It was opened to be recorded.
    recorded: bool,
    stream: StreamRow,
    /// The account's slot.
    account: Option<Slot>,
    /// The slot among the streams made ahead, until it starts.
    ahead: Option<Slot>,
    current: Option<SessionId>,
    incoming: Option<SessionId>,
    subscribers: BTreeSet<SessionId>,
    /// When the stream ends unless a publisher comes.
    idle_at: Option<Instant>,
    troubles: Troubles,
}

/// Somebody who comes in.
#[derive(Debug)]
pub(super) struct Peer<'a> {
    pub(super) room: &'a RoomName,
    pub(super) who: &'a Principal,
    /// The room in the media plane.
    pub(super) media: RoomId,
    /// What it offered.
    pub(super) remote: IceCredentials,
}

/// What was reserved for a publisher before anything is allocated; dropping it gives it back.
#[derive(Debug)]
pub(super) struct PublisherClaim {
    /// The room in the media plane, when there is one.
    pub(super) media: Option<RoomId>,
    /// It is recorded, or is to be.
    pub(super) recorded: bool,
    seat: Arc<Slot>,
    account: Option<Slot>,
}

/// What was reserved for a subscriber.
#[derive(Debug)]
pub(super) struct SubscriberClaim {
    pub(super) media: RoomId,
    /// What the publisher sends now.
    pub(super) source: PublisherTracks,
    stream: StreamId,
    slot: Slot,
}

/// A session, as its maker needs it.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) session: SessionId,
    pub(super) key: SessionKey,
    pub(super) etag: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Registry {
    rooms: HashMap<RoomName, Room>,
    sessions: HashMap<SessionId, Session>,
    keys: HashMap<SessionKey, SessionId>,
    streams: HashMap<StreamId, RoomName>,
    last_session: u64,
    pub(super) draining: bool,
    /// Streams that begin are recorded.
    pub(super) recording: bool,
    idle_timeout: Duration,
}

impl Registry {
    /// `idle_timeout`: how long a stream outlives its publisher.
    pub(super) fn new(idle_timeout: Duration, recording: bool) -> Registry {
        Registry { idle_timeout, recording, ..Registry::default() }
    }

    /// Streams whose publisher is away already have the new time too, from when he left.
    pub(super) fn set_idle_timeout(&mut self, idle_timeout: Duration) {
        let before = std::mem::replace(&mut self.idle_timeout, idle_timeout);
        for at in self.rooms.values_mut().filter_map(|room| room.idle_at.as_mut()) {
            // Before the clock's beginning is as good as now.
            *at = (*at + idle_timeout).checked_sub(before).unwrap_or(*at);
        }
    }

    /// May `who` publish in `room`? Takes the slots it needs.
    pub(super) fn claim_publisher(
        &self,
        room: &RoomName,
        who: &Principal,
        gate: &Gate,
    ) -> Result<PublisherClaim, ControlError> {
        let account_slot = || who.account.clone().map(|account| gate.slot(Claim::Stream(account))).transpose();
        let Some(room) = self.rooms.get(room) else {
            let seat = Arc::new(gate.slot(Claim::Publisher)?);
            return Ok(PublisherClaim { media: None, recorded: self.recording, seat, account: account_slot()? });
        };
        // What one account streams must not end up in the recording of another.
        if room.stream.account.is_some() && room.stream.account != who.account && !who.admin {
            return Err(ControlError::Busy);
        }
        let recorded = if room.media.is_some() { room.recorded } else { self.recording };
        match room.current.and_then(|current| self.sessions.get(&current)) {
            Some(current) if current.subject != who.subject => Err(ControlError::Busy),
            Some(current) => {
                Ok(PublisherClaim { media: room.media, recorded, seat: current.slot.clone(), account: None })
            }
            None => {
                let seat = Arc::new(gate.slot(Claim::Publisher)?);
                let account = if room.stream.account.is_none() { account_slot()? } else { None };
                Ok(PublisherClaim { media: room.media, recorded, seat, account })
            }
        }
    }

    /// Lets a publisher in whose claim was granted under the same lock.
    pub(super) fn admit_publisher(
        &mut self,
        peer: Peer<'_>,
        claim: PublisherClaim,
        tracks: PublisherTracks,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Entered {
        let name = peer.room;
        if !self.rooms.contains_key(name) {
            let stream = streams::new_stream(name, peer.who, None, false, now);
            out.push(Effect::Write(Change::Stream(Box::new(stream.clone()))));
            self.insert_room(stream);
        }
        let room = self.rooms.get_mut(name).expect("there, or made above");
        (room.media, room.recorded) = (Some(peer.media), claim.recorded);
        room.idle_at = None;
        if let Some(slot) = claim.account {
            room.account = Some(slot);
            room.stream.account.clone_from(&peer.who.account);
        }
        let stream = room.stream.id.clone();
        let replaced = room.incoming.take();
        let entered = self.enter(Role::Publisher, peer, stream, claim.seat, now, out);
        if let Some(session) = self.sessions.get_mut(&entered.session) {
            session.tracks = tracks;
        }
        if let Some(room) = self.rooms.get_mut(name) {
            match room.current {
                Some(_) => room.incoming = Some(entered.session),
                None => room.current = Some(entered.session),
            }
        }
        if let Some(older) = replaced {
            self.dismiss(older, "replaced", now, out);
        }
        entered
    }

    /// May somebody watch `room`? Takes the slot.
    pub(super) fn claim_subscriber(&self, room: &RoomName, gate: &Gate) -> Result<SubscriberClaim, ControlError> {
        let nobody = || ControlError::NoPublisher { retry_after: NO_PUBLISHER_RETRY_AFTER };
        let room = self.rooms.get(room).ok_or_else(nobody)?;
        let publisher = room.current.and_then(|current| self.sessions.get(&current)).ok_or_else(nobody)?;
        let slot = gate.slot(Claim::Subscriber(publisher.media))?;
        let (stream, source) = (room.stream.id.clone(), publisher.tracks.clone());
        Ok(SubscriberClaim { media: publisher.media, source, stream, slot })
    }

    /// Lets a subscriber in, unless the stream ended, or all is ending, since the claim was granted.
    pub(super) fn admit_subscriber(
        &mut self,
        peer: Peer<'_>,
        claim: SubscriberClaim,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Entered, ControlError> {
        let name = peer.room;
        if self.draining {
            return Err(ControlError::Draining { retry_after: DRAINING_RETRY_AFTER });
        }
        if self.rooms.get(name).is_none_or(|room| room.stream.id != claim.stream) {
            return Err(ControlError::NoPublisher { retry_after: NO_PUBLISHER_RETRY_AFTER });
        }
        let entered = self.enter(Role::Subscriber, peer, claim.stream, Arc::new(claim.slot), now, out);
        if let Some(room) = self.rooms.get_mut(name) {
            room.subscribers.insert(entered.session);
        }
        Ok(entered)
    }

    /// The session connected.
    pub(super) fn connected(&mut self, id: SessionId, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if std::mem::replace(&mut session.connected, true) {
            return;
        }
        out.push(Effect::Write(Change::SessionConnected { id: session.row.clone(), at: now.wall }));
        if session.role == Role::Subscriber {
            let room = session.room.clone();
            self.tell_viewers(&room, now, out);
        }
    }

    /// The first media of a publisher came: it starts the stream, or takes over.
    pub(super) fn media_started(&mut self, id: SessionId, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.role == Role::Publisher) else {
            return;
        };
        if std::mem::replace(&mut session.started, true) {
            return;
        }
        let (subject, media, tracks) = (session.subject.clone(), session.media, session.tracks.clone());
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        let replaced = if room.incoming == Some(id) {
            room.incoming = None;
            room.current.replace(id)
        } else {
            None
        };
        room.idle_at = None;
        room.stream.publisher = Some(subject.clone());
        let starts = room.stream.state == StreamState::Created;
        if starts {
            room.stream.state = StreamState::Live;
            room.stream.started_at = Some(now.wall);
            room.ahead = None;
        }
        out.push(Effect::Write(Change::Stream(Box::new(room.stream.clone()))));
        let (stream, name, recorded) = (room.stream.id.clone(), room.stream.room.clone(), room.recorded);
        let publisher = || vec![("publisher", Value::from(subject.as_str()))];
        if starts {
            out.push(Effect::Tell(news("stream:started", &room.stream, now, publisher())));
        }
        out.push(Effect::Tell(news("publisher:joined", &room.stream, now, publisher())));
        match (recorded, starts) {
            (true, true) => {
                out.push(Effect::StartRecording { room: media, stream, name, publisher: subject, tracks, at: now.wall })
            }
            (true, false) => out.push(Effect::SourceChanged { room: media, publisher: subject, tracks }),
            (false, _) => {}
        }
        if let Some(older) = replaced {
            self.dismiss(older, "replaced", now, out);
        }
    }

    /// A session is connected and dark, or is no longer. One that has ended took its trouble with it.
    pub(super) fn trouble(&mut self, change: TroubleChange, now: Now, out: &mut Vec<Effect>) {
        let TroubleChange { session: id, reason, began, .. } = change;
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        if !began {
            let over = room.troubles.end(id, Some(reason));
            over.iter().for_each(|info| report_trouble(room, info, false, now, out));
        } else if let Some(info) = room.troubles.begin(id, session.role, reason, now.wall) {
            report_trouble(room, &info, true, now, out);
        }
    }

    /// The media plane has ended a session, which is still here. If it never connected, that is listed for a while.
    pub(super) fn never_connected(&mut self, id: SessionId, why: &EndReason, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.connected) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        if let Some(info) = room.troubles.fail(session.role, why, now.instant, now.wall) {
            report_trouble(room, &info, true, now, out);
        }
    }

    /// The media plane has ended a session: its slot comes back.
    pub(super) fn ended(&mut self, id: SessionId, reason: &str, now: Now, out: &mut Vec<Effect>) {
        let Some(session) = self.remove(id, reason, now, out) else { return };
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        room.subscribers.remove(&id);
        let over = room.troubles.end(id, None);
        over.iter().for_each(|info| report_trouble(room, info, false, now, out));
        if room.incoming == Some(id) {
            room.incoming = None;
        }
        if room.current == Some(id) {
            room.current = room.incoming.take();
            if session.started {
                let more = vec![("publisher", Value::from(session.subject.as_str())), ("reason", reason.into())];
                out.push(Effect::Tell(news("publisher:left", &room.stream, now, more)));
            }
        }
        if session.role == Role::Subscriber && session.connected {
            self.tell_viewers(&session.room, now, out);
        }
        self.settle(&session.room, now, out);
    }

    /// Ends a session from our side.
    pub(super) fn dismiss(&mut self, id: SessionId, reason: &str, now: Now, out: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get(&id) {
            out.push(Effect::Close { room: session.media, session: id });
            self.ended(id, reason, now, out);
        }
    }

    /// What becomes of a room that lost a session.
    fn settle(&mut self, name: &RoomName, now: Now, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.current.is_none()) else { return };
        let waits = room.stream.state == StreamState::Created;
        if waits && !room.stream.ahead && room.subscribers.is_empty() {
            self.end_room(name, "never-started", now, out);
        } else if !(waits && room.stream.ahead) {
            room.idle_at.get_or_insert(now.instant + self.idle_timeout);
        }
    }

    fn enter(
        &mut self,
        role: Role,
        peer: Peer<'_>,
        stream: StreamId,
        slot: Arc<Slot>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Entered {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let (key, etag, row) = (SessionKey::random(), etag::random(), uuid::Uuid::now_v7().to_string());
        out.push(Effect::Write(Change::SessionStarted(Box::new(SessionRow {
            id: row.clone(),
            stream,
            role,
            subject: peer.who.subject.clone(),
            account: peer.who.account.clone(),
            started_at: now.wall,
            connected_at: None,
            ended_at: None,
            reason: None,
        }))));
        self.keys.insert(key.clone(), id);
        let session = Session {
            key: key.clone(),
            role,
            room: peer.room.clone(),
            media: peer.media,
            etag: etag.clone(),
            remote: peer.remote,
            restarted: None,
            previous: None,
            subject: peer.who.subject.clone(),
            token: peer.who.token.clone(),
            started_at: now.wall,
            row,
            connected: false,
            started: false,
            tracks: PublisherTracks::default(),
            notices: None,
            slot,
        };
        self.sessions.insert(id, session);
        Entered { session: id, key, etag }
    }

    fn remove(&mut self, id: SessionId, reason: &str, now: Now, out: &mut Vec<Effect>) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.keys.remove(&session.key);
        let (id, reason) = (session.row.clone(), reason.to_owned());
        out.push(Effect::Write(Change::SessionEnded { id, at: now.wall, reason }));
        Some(session)
    }

    fn tell_viewers(&self, name: &RoomName, now: Now, out: &mut Vec<Effect>) {
        if let Some(room) = self.rooms.get(name) {
            let more = vec![("viewers", self.viewers(room).into())];
            out.push(Effect::Tell(news("viewers:changed", &room.stream, now, more)));
        }
    }
}

/// Logs the start or end of a trouble, and queues its event.
fn report_trouble(room: &Room, info: &TroubleInfo, began: bool, now: Now, out: &mut Vec<Effect>) {
    let (name, stream, reason, peer) = (room.stream.room.as_str(), room.stream.id.as_str(), info.reason, info.peer);
    let event = if began {
        tracing::warn!(room = name, stream, reason, peer, detail = info.message, "stream trouble started");
        "trouble:started"
    } else {
        tracing::info!(room = name, stream, reason, peer, "stream trouble ended");
        "trouble:ended"
    };
    let more = vec![("reason", reason.into()), ("message", info.message.as_str().into()), ("peer", peer.into())];
    out.push(Effect::Tell(news(event, &room.stream, now, more)));
}

fn news(name: &'static str, stream: &StreamRow, now: Now, more: Vec<(&'static str, Value)>) -> News {
    News { name, at: now.wall, room: stream.room.clone(), stream: stream.id.clone(), more }
}
