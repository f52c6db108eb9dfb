//! Draining on the operator's word, while the process goes on.
//!
//! It is what a signal does (`server`): newcomers are refused, viewers are told to reconnect, streams end, recordings are
//! finalised, and all of it goes to the store; and it is never undone. But then nothing ends: whoever gave the word asks
//! [`Drain::is_done`] until it is safe to take the disk away. So that says yes only where nothing is left that could still
//! be lost with it: a recording that is finalised late, one whose manifest cannot be read, or a file that the store does not
//! take keep it at no.

use crate::control::Control;
use crate::recording::RecordingPlane;
use crate::store::{Store, StoreError};
use crate::upload::Uploads;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module. A cheap handle.
#[derive(Clone)]
pub struct Drain(Arc<Inner>);

struct Inner {
    control: Control,
    recording: Option<RecordingPlane>,
    uploads: Option<Uploads>,
    store: Store,
    begun: AtomicBool,
}

impl Drain {
    /// Touches nothing yet. Without `uploads` recordings stay here, and are safe once they are finalised.
    pub fn new(control: Control, recording: Option<RecordingPlane>, uploads: Option<Uploads>, store: Store) -> Drain {
        Drain(Arc::new(Inner { control, recording, uploads, store, begun: AtomicBool::new(false) }))
    }

    /// Begins, unless it has. When this returns newcomers are refused and streams end; the rest goes on by itself.
    pub fn begin(&self) {
        if self.0.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::info!("draining: the operator wants it; the process goes on");
        self.0.control.begin_drain();
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            inner.control.drain().await;
            if let Some(uploads) = &inner.uploads {
                uploads.drained().await;
            }
            tracing::info!("drained; waiting to be told to end");
        });
    }

    /// Whether everything has ended, is finalised and, where there is a store, is there. Never before the word was given.
    pub async fn is_done(&self) -> Result<bool, StoreError> {
        let Inner { control, recording, uploads, store, .. } = &*self.0;
        if !control.has_drained() || store.recordings_unfinished().await? > 0 {
            return Ok(false);
        }
        // After the registry: what it has for finished has been told to the uploads once nobody is finishing any more.
        if recording.as_ref().is_some_and(RecordingPlane::is_finishing) {
            return Ok(false);
        }
        match uploads {
            Some(uploads) => Ok(uploads.nothing_waits().await),
            None => Ok(true),
        }
    }
}
