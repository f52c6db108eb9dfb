//! Streams in the registry: made, listed, and ended.

use super::{Effect, Now, Registry, Room, news};
use crate::control::admission::{Claim, Gate};
use crate::control::error::ControlError;
use crate::control::events::News;
use crate::control::troubles::Troubles;
use crate::control::types::{Principal, Role, RoomName, StreamId, StreamInfo, StreamMedia, StreamState};
use crate::store::{Change, StreamRow};
use std::collections::BTreeSet;
use tokio::time::Instant;

impl Registry {
    /// When the next stream ends for want of a publisher.
    pub(in crate::control) fn next_idle(&self) -> Option<Instant> {
        self.rooms.values().filter_map(|room| room.idle_at).min()
    }

    /// Ends the streams whose publisher has been away for too long.
    pub(in crate::control) fn end_idle(&mut self, now: Now, out: &mut Vec<Effect>) {
        let over = |room: &Room| room.idle_at.is_some_and(|at| at <= now.instant);
        let names: Vec<_> = self.rooms.iter().filter(|(_, room)| over(room)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let started = self.rooms.get(&name).is_some_and(|room| room.stream.state == StreamState::Live);
            self.end_room(&name, if started { "idle" } else { "never-started" }, now, out);
        }
    }

    /// Makes a stream that waits for its publisher.
    pub(in crate::control) fn create_stream(
        &mut self,
        name: &RoomName,
        who: &Principal,
        label: Option<String>,
        gate: &Gate,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<StreamInfo, ControlError> {
        if let Some(room) = self.rooms.get(name) {
            return Err(ControlError::StreamExists { stream: room.stream.id.to_string() });
        }
        let ahead = gate.slot(Claim::Ahead)?;
        let account = who.account.clone().map(|account| gate.slot(Claim::Stream(account))).transpose()?;
        let stream = new_stream(name, who, label, true, now);
        out.push(Effect::Write(Change::Stream(Box::new(stream.clone()))));
        let room = self.insert_room(stream);
        (room.ahead, room.account) = (Some(ahead), account);
        let id = room.stream.id.clone();
        Ok(self.stream(&id).expect("made above"))
    }

    /// Takes a stream back in that an earlier process left waiting. Caps do not hold for it: it was let in then.
    pub(in crate::control) fn restore(&mut self, stream: StreamRow, gate: &Gate) {
        let account = stream.account.clone();
        let room = self.insert_room(stream);
        room.ahead = gate.slot(Claim::Ahead).ok();
        room.account = account.and_then(|account| gate.slot(Claim::Stream(account)).ok());
    }

    /// Ends a stream that is not over. `None` when it is not here.
    pub(in crate::control) fn end_stream(
        &mut self,
        id: &StreamId,
        who: &Principal,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Option<StreamInfo>, ControlError> {
        let Some(room) = self.streams.get(id).and_then(|name| self.rooms.get(name)) else { return Ok(None) };
        if !owns(who, &room.stream) {
            return Err(ControlError::NotYours);
        }
        let name = room.stream.room.clone();
        Ok(self.end_room(&name, "ended", now, out))
    }

    /// Ends everything, but for streams that wait for their publisher: they wait on for the next process.
    pub(in crate::control) fn end_all(&mut self, reason: &str, now: Now, out: &mut Vec<Effect>) {
        let names: Vec<_> = self.rooms.keys().cloned().collect();
        for name in names {
            let Some(room) = self.rooms.get(&name) else { continue };
            if room.stream.ahead && room.stream.state == StreamState::Created {
                let sessions: Vec<_> = [room.current, room.incoming]
                    .into_iter()
                    .flatten()
                    .chain(room.subscribers.iter().copied())
                    .collect();
                for session in sessions {
                    self.dismiss(session, reason, now, out);
                }
            } else {
                self.end_room(&name, reason, now, out);
            }
        }
    }

    /// All streams that are not over, newest first.
    pub(in crate::control) fn streams(&self) -> Vec<StreamInfo> {
        let mut streams: Vec<_> = self.rooms.values().map(|room| self.info(room)).collect();
        streams.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        streams
    }

    /// One stream that is not over.
    pub(in crate::control) fn stream(&self, id: &StreamId) -> Option<StreamInfo> {
        self.streams.get(id).and_then(|name| self.rooms.get(name)).map(|room| self.info(room))
    }

    /// Connected publishers, connected subscribers, rooms, and sessions that are still connecting.
    pub(in crate::control) fn counts(&self) -> (usize, usize, usize, usize) {
        let connected = |role| self.sessions.values().filter(|s| s.connected && s.role == role).count();
        let (publishers, subscribers) = (connected(Role::Publisher), connected(Role::Subscriber));
        (publishers, subscribers, self.rooms.len(), self.sessions.len() - publishers - subscribers)
    }

    pub(super) fn insert_room(&mut self, stream: StreamRow) -> &mut Room {
        let name = stream.room.clone();
        self.streams.insert(stream.id.clone(), name.clone());
        let room = Room {
            media: None,
            recorded: false,
            stream,
            account: None,
            ahead: None,
            current: None,
            incoming: None,
            subscribers: BTreeSet::new(),
            idle_at: None,
            troubles: Troubles::default(),
        };
        self.rooms.entry(name).insert_entry(room).into_mut()
    }

    pub(super) fn end_room(
        &mut self,
        name: &RoomName,
        reason: &str,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Option<StreamInfo> {
        let mut room = self.rooms.remove(name)?;
        self.streams.remove(&room.stream.id);
        for session in [room.current, room.incoming].into_iter().flatten().chain(room.subscribers) {
            self.remove(session, reason, now, out);
        }
        if let Some(media) = room.media {
            out.push(Effect::CloseRoom(media));
            if room.recorded && room.stream.started_at.is_some() {
                out.push(Effect::FinishRecording(media));
            }
        }
        room.stream.state = StreamState::Ended;
        room.stream.ended_at = Some(now.wall);
        room.stream.end_reason = Some(reason.to_owned());
        out.push(Effect::Write(Change::Stream(Box::new(room.stream.clone()))));
        if room.stream.started_at.is_some() {
            out.push(Effect::Tell(news("stream:ended", &room.stream, now, vec![("reason", reason.into())])));
        }
        Some(past(room.stream))
    }

    pub(super) fn viewers(&self, room: &Room) -> usize {
        room.subscribers.iter().filter(|id| self.sessions.get(id).is_some_and(|session| session.connected)).count()
    }

    fn info(&self, room: &Room) -> StreamInfo {
        let current = room.current.and_then(|current| self.sessions.get(&current));
        StreamInfo {
            publishing: current.is_some_and(|session| session.started),
            viewers: self.viewers(room),
            trouble: room.troubles.list(Instant::now()),
            media: room.media.map(|media| StreamMedia {
                room: media,
                publisher: room.current,
                subscribers: room.subscribers.iter().copied().collect(),
            }),
            ..past(room.stream.clone())
        }
    }
}

/// May `who` end it?
pub(in crate::control) fn owns(who: &Principal, stream: &StreamRow) -> bool {
    who.admin
        || (!stream.owner.is_empty() && stream.owner == who.subject)
        || stream.publisher.as_ref() == Some(&who.subject)
        || (stream.account.is_some() && stream.account == who.account)
}

/// Returns the announcement of a stream's end that an earlier process did not make; `None` when its start was not announced.
pub(in crate::control) fn late_end(row: &StreamRow) -> Option<News> {
    row.started_at?;
    let more = vec![("reason", row.end_reason.as_deref().into())];
    Some(News { name: "stream:ended", at: row.ended_at?, room: row.room.clone(), stream: row.id.clone(), more })
}

/// A stream as the books have it, with nobody there.
pub(in crate::control) fn past(row: StreamRow) -> StreamInfo {
    StreamInfo {
        id: row.id,
        room: row.room,
        name: row.name,
        account: row.account,
        publisher: row.publisher,
        state: row.state,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        end_reason: row.end_reason,
        publishing: false,
        viewers: 0,
        trouble: Vec::new(),
        media: None,
    }
}

pub(super) fn new_stream(room: &RoomName, who: &Principal, name: Option<String>, ahead: bool, now: Now) -> StreamRow {
    StreamRow {
        id: StreamId::random(),
        room: room.clone(),
        name,
        owner: who.subject.clone(),
        account: who.account.clone(),
        publisher: (!ahead).then(|| who.subject.clone()),
        state: StreamState::Created,
        ahead,
        created_at: now.wall,
        started_at: None,
        ended_at: None,
        end_reason: None,
    }
}
