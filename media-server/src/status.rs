//! How the parts of the server fare, for those who ask: the store, the uploads, the relay.
//!
//! Each part tells its own state when it changes, and nobody waits for anybody. The operator reads all of it by
//! `GET /admin/session`, so `reason` is a word of its conditions (CamelCase) and `message` says what to do.

use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use streamsession_api::{StorageMode, TurnMode};
use tokio::sync::watch;
use utoipa::ToSchema;

/// The store that recordings go to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// `Managed`, `External` or `Local`; Local when recordings stay in a folder.
    #[schema(value_type = String)]
    pub mode: StorageMode,
    /// It can be written.
    pub ok: bool,
    /// What is wrong, in a word: AccessDenied, NoSuchBucket, Unreachable, Refused, Full.
    pub reason: Option<String>,
    /// What is wrong and what to do.
    pub message: Option<String>,
    /// Since when it is so.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Id by which this server marks its prefix in an External store.
    pub owner: Option<String>,
}

/// What waits for the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadStatus {
    /// Files.
    pub pending: u64,
    /// Finished recordings that are not wholly in the store.
    pub recordings: u64,
    /// When the file that waits longest began to wait.
    pub oldest_pending: Option<Timestamp>,
    /// They fail, or fall behind.
    pub failing: bool,
    /// What is wrong and what to do.
    pub message: Option<String>,
    /// Recordings that have left the disk.
    pub evicted: u64,
    /// Recordings that only another store holds.
    pub elsewhere: Option<ElsewhereStatus>,
}

/// Recordings that only a store of before holds: neither the disk nor the present store has them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElsewhereStatus {
    /// Their number.
    pub recordings: u64,
    /// Of those, recordings in the managed store of before, which are lost with the volume.
    pub on_volume: u64,
    /// Their store, and the remedy.
    pub message: String,
}

/// The relay.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnStatus {
    /// `Managed`, `External` or `Disabled`; Disabled when clients are told of no relay.
    #[schema(value_type = String)]
    pub mode: TurnMode,
    /// It answers, as far as that is looked at: only the relay in this pod is.
    pub ok: bool,
    /// What is wrong and what to do.
    pub message: Option<String>,
}

/// The newest state of each part. A cheap handle.
#[derive(Clone)]
pub struct StatusBoard(Arc<Parts>);

struct Parts {
    store: watch::Sender<StoreStatus>,
    uploads: watch::Sender<UploadStatus>,
    turn: watch::Sender<TurnStatus>,
}

impl StatusBoard {
    /// All is well until a part says otherwise.
    pub fn new(store: StorageMode, turn: TurnMode) -> StatusBoard {
        let since = Timestamp::now();
        StatusBoard(Arc::new(Parts {
            store: watch::Sender::new(StoreStatus {
                mode: store,
                ok: true,
                reason: None,
                message: None,
                since,
                owner: None,
            }),
            uploads: watch::Sender::default(),
            turn: watch::Sender::new(TurnStatus { mode: turn, ok: true, message: None }),
        }))
    }

    /// The store.
    pub fn store(&self) -> StoreStatus {
        self.0.store.borrow().clone()
    }

    /// The uploads.
    pub fn uploads(&self) -> UploadStatus {
        self.0.uploads.borrow().clone()
    }

    /// The relay.
    pub fn turn(&self) -> TurnStatus {
        self.0.turn.borrow().clone()
    }

    /// The store's state from now on; `since` changes only with `ok` or the reason.
    pub fn set_store(&self, ok: bool, reason: Option<String>, message: Option<String>) {
        self.0.store.send_if_modified(|now| {
            let turned = now.ok != ok || now.reason != reason;
            if turned {
                now.since = Timestamp::now();
            }
            let changed = turned || now.message != message;
            (now.ok, now.reason, now.message) = (ok, reason, message);
            changed
        });
    }

    /// Sets the id by which this server marks its prefix.
    pub fn set_store_owner(&self, owner: String) {
        self.0.store.send_modify(|now| now.owner = Some(owner));
    }

    /// The uploads' state from now on.
    pub fn set_uploads(&self, uploads: UploadStatus) {
        self.0.uploads.send_replace(uploads);
    }

    /// The relay's state from now on.
    pub fn set_turn(&self, ok: bool, message: Option<String>) {
        self.0.turn.send_modify(|now| (now.ok, now.message) = (ok, message));
    }

    /// Told of each change of the store's state.
    pub fn watch_store(&self) -> watch::Receiver<StoreStatus> {
        self.0.store.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_so_since_it_turned() {
        let board = StatusBoard::new(StorageMode::Managed, TurnMode::Disabled);
        assert!(board.store().ok && board.turn().ok && !board.uploads().failing);
        let start = board.store().since;
        board.set_store(false, Some("AccessDenied".into()), Some("first".into()));
        let turned = board.store().since;
        assert!(turned > start);
        board.set_store(false, Some("AccessDenied".into()), Some("second".into()));
        assert_eq!(board.store().since, turned);
        assert_eq!(board.store().message.as_deref(), Some("second"));
        board.set_store(true, None, None);
        assert!(board.store().ok && board.store().since > turned);
    }
}
