//! What the uploader reports: status, metrics, and answers to those who wait for the end.

use super::super::measure;
use super::{BUSY, LATE, Uploader};
use crate::status::UploadStatus;
use crate::store::UploadBacklog;
use crate::upload::gate::Permit;
use jiff::Timestamp;
use std::time::{Duration, Instant};

impl Uploader {
    /// Tells how things are, and those who wait for the end.
    pub(super) async fn tell(&mut self) {
        match self.store.upload_backlog().await {
            Ok(backlog) => self.backlog = backlog,
            Err(error) => {
                self.answer(false);
                return tracing::error!(%error, "the journal of uploads cannot be read");
            }
        }
        let now = Timestamp::now();
        measure::backlog(&self.backlog, now);
        self.read_elsewhere().await;
        let UploadBacklog { files, recordings, removals, oldest, elsewhere_on_volume, .. } = self.backlog;
        self.gate.set_backlog(files.saturating_add(removals));
        if (files, removals) == (0, 0) {
            self.gate.nothing_waits();
            self.trouble = None;
        }
        let well = !self.gate.is_failing() && self.gate.is_reached();
        measure::up(well);
        if well && !self.status.store().ok {
            self.told_at = None;
            self.refused_keys = None;
            tracing::info!("the object store answers");
            self.status.set_store(true, None, None);
        }
        // A file that was queued before the clock stepped back is not late.
        let late =
            oldest.is_some_and(|oldest| Duration::try_from(now.duration_since(oldest)).is_ok_and(|age| age > LATE));
        let waits = files > 0 || removals > 0 || !self.finished.is_empty();
        let trouble = self.trouble.as_ref().or(self.unreadable.values().next());
        let message = match (self.gate.is_failing() && waits, trouble) {
            (true, _) => self.status.store().message,
            (false, Some(trouble)) => Some(trouble.clone()),
            (false, None) if late => Some(format!(
                "{files} files wait, the oldest since {:.0}: the store or the network to it is too slow",
                oldest.unwrap_or(now)
            )),
            _ => None,
        };
        let pending = files + self.finished.len() as u64;
        let (oldest_pending, failing) = (oldest, message.is_some());
        let evicted = self.backlog.evicted;
        let elsewhere = self.elsewhere.status(&self.backlog);
        self.status.set_uploads(UploadStatus {
            pending,
            recordings,
            oldest_pending,
            failing,
            message,
            evicted,
            elsewhere,
        });
        let uploaded = pending == 0 && removals == 0 && self.unreadable.is_empty();
        // What only the managed store of before has is lost with the volume.
        self.answer(self.journal_ready && uploaded && elsewhere_on_volume == 0);
        if self.journal_ready && pending == 0 && self.notes.is_empty() {
            for done in self.waiting.drain(..) {
                // Who no longer waits need not be told.
                let _ = done.send(());
            }
        }
    }

    /// Tells those who asked whether nothing waits. After the end nobody knows any more.
    fn answer(&mut self, nothing: bool) {
        for answer in self.asking.drain(..) {
            // Who no longer asks need not be told.
            let _ = answer.send(nothing && !self.stop.is_cancelled());
        }
    }

    /// How long nothing is to be done, if nothing happens.
    pub(super) fn pause(&self) -> Duration {
        let now = Instant::now();
        let waits = self.backlog.files > 0 || self.backlog.removals > 0 || !self.finished.is_empty();
        let probe = (self.gate.contact() + self.settings.probe_every).saturating_duration_since(now);
        let work = match self.gate.permit(now) {
            // Keys may change before.
            Permit::Wait(until) => until.saturating_duration_since(now).min(BUSY),
            _ if waits => BUSY,
            _ => probe,
        };
        work.max(Duration::from_millis(10))
    }
}
