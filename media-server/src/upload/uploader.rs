//! The one task that decides: takes notes into the journal, starts what the gate allows, and acts on what comes of it.

mod elsewhere;
mod report;

pub(super) use elsewhere::report_without_store;

use super::disk::{self, blocking};
use super::due::DueClock;
use super::evict::Evictor;
use super::gate::{By, Gate, Permit};
use super::transfer;
use super::{Note, UploadParts, UploadSettings, measure};
use crate::control::RecordingId;
use crate::objects::{Digest, Objects, ObjectsError, Reason};
use crate::status::StatusBoard;
use crate::store::{Removal, Store, StoreError, Upload, UploadBacklog};
use elsewhere::Elsewhere;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// With work to do, look up this often.
const BUSY: Duration = Duration::from_secs(1);
/// Finished recordings that are taken into the journal at a time.
const TAKEN: usize = 8;
/// Notes that are taken into the journal at a time.
const NOTES: usize = 64;
/// Files that have waited so long fall behind.
const LATE: Duration = Duration::from_secs(300);
/// Between two looks at the owner of the prefix, at most.
const OWNER_CHECK: Duration = Duration::from_secs(60);
/// How often a store that goes on failing is told of in the log.
const REMIND: Duration = Duration::from_secs(60);

/// Something that runs.
#[derive(Debug)]
enum Work {
    Probe,
    Upload(Upload),
    Removal(Removal),
    /// A recording that is in another store is looked for in this one.
    Search(RecordingId),
}

/// See the module.
pub(super) struct Uploader {
    settings: UploadSettings,
    objects: Objects,
    store: Store,
    status: StatusBoard,
    notes: mpsc::UnboundedReceiver<Note>,
    stop: CancellationToken,
    running: JoinSet<Result<(), ObjectsError>>,
    /// With the time of its start.
    work: HashMap<Id, (Work, Instant)>,
    gate: Gate,
    due_clock: DueClock,
    evictor: Evictor,
    /// Finished recordings that are not in the journal yet.
    finished: BTreeSet<RecordingId>,
    /// Finished recordings that cannot be, and why: their manifests cannot be read.
    unreadable: BTreeMap<RecordingId, String>,
    waiting: Vec<oneshot::Sender<()>>,
    asking: Vec<oneshot::Sender<bool>>,
    backlog: UploadBacklog,
    /// The database failed: nothing is started before this.
    rest_until: Instant,
    probed_at: Instant,
    told_at: Option<Instant>,
    /// What the keys were when they were refused.
    refused_keys: Option<Digest>,
    /// What is wrong with single files, for people.
    trouble: Option<String>,
    /// The journal describes this store. Before it does, none of its rows counts.
    journal_ready: bool,
    elsewhere: Elsewhere,
}

impl Uploader {
    pub(super) fn new(parts: UploadParts, notes: mpsc::UnboundedReceiver<Note>, stop: CancellationToken) -> Uploader {
        let UploadParts { settings, objects, store, status } = parts;
        let now = Instant::now();
        Uploader {
            gate: Gate::new(now, settings.delays()),
            due_clock: DueClock::new(now, Timestamp::now()),
            evictor: Evictor::new(&settings, store.clone()),
            settings,
            objects,
            store,
            status,
            notes,
            stop,
            running: JoinSet::new(),
            work: HashMap::new(),
            finished: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            waiting: Vec::new(),
            asking: Vec::new(),
            backlog: UploadBacklog::default(),
            rest_until: now,
            probed_at: now,
            told_at: None,
            refused_keys: None,
            trouble: None,
            journal_ready: false,
            elsewhere: Elsewhere::default(),
        }
    }

    /// The task's body, until it is stopped.
    pub(super) async fn run(mut self) {
        let message = "the store has not answered yet".to_owned();
        self.status.set_store(false, Some("Connecting".to_owned()), Some(message));
        let stop = self.stop.clone();
        loop {
            if !self.journal_ready {
                self.begin().await;
            }
            self.take_finished().await;
            self.start().await;
            self.tell().await;
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(note) = self.notes.recv() => {
                    self.take(note).await;
                    for _ in 1..NOTES {
                        let Ok(note) = self.notes.try_recv() else { break };
                        self.take(note).await;
                    }
                }
                Some(ended) = self.running.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, outcome),
                        Err(error) => {
                            tracing::error!(%error, "an upload ended in a panic");
                            (error.id(), Err(ObjectsError::new(Reason::Failed, "the transfer failed here")))
                        }
                    };
                    if let Some((work, started)) = self.work.remove(&id) {
                        self.ended(work, started, outcome).await;
                    }
                }
                () = self.evictor.due(), if self.journal_ready => {
                    // A manifest may have been repaired.
                    self.finished.extend(self.unreadable.keys().cloned());
                    self.evictor.run_pass().await;
                }
                () = tokio::time::sleep(pause) => {}
            }
            self.check_store().await;
        }
    }

    /// Takes up recordings of earlier processes. It is tried again until the journal describes this store.
    async fn begin(&mut self) {
        if Instant::now() < self.rest_until {
            return;
        }
        let folder = self.settings.folder.clone();
        let begun = match blocking(move || disk::leftovers(&folder)).await {
            Ok(found) => self.begin_with(found).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match begun {
            Ok(()) => self.journal_ready = true,
            Err(error) => {
                tracing::error!(%error, "recordings of before not taken up, nothing is uploaded");
                self.rest_until = Instant::now() + BUSY;
            }
        }
    }

    async fn begin_with(&mut self, found: disk::Leftovers) -> Result<(), StoreError> {
        for recording in &found.evicted {
            self.store.evicted(recording, Timestamp::now()).await?;
        }
        for recording in &found.finished {
            self.store.returned(recording).await?;
        }
        self.name_store().await?;
        self.store.uploads_at_once(self.due_now()).await?;
        self.finished.extend(found.finished);
        Ok(())
    }

    async fn take(&mut self, note: Note) {
        match note {
            Note::File { recording, room, file } => {
                if let Err(error) = self.store.upload_queued(&recording, &room, &file).await {
                    tracing::warn!(%recording, file = %file.file, %error, "not in the journal: it is uploaded when the recording is finished");
                }
            }
            Note::Finished(recording) => drop(self.finished.insert(recording)),
            Note::Removed => {}
            Note::Follow(retention) => self.evictor.follow(retention),
            Note::Drain(done) => {
                self.waiting.push(done);
                self.hurry().await;
            }
            Note::Ask(answer) => self.asking.push(answer),
        }
    }

    /// Reads the manifests of finished recordings, some at a time.
    async fn take_finished(&mut self) {
        if Instant::now() < self.rest_until {
            return;
        }
        for _ in 0..TAKEN {
            let Some(recording) = self.finished.pop_first() else { return };
            let (folder, name) = (self.settings.folder.clone(), recording.clone());
            match blocking(move || disk::finished(&folder, &name)).await {
                Ok(Some(finished)) => {
                    self.unreadable.remove(&recording);
                    let disk::Finished { room, files, gaps } = finished;
                    if let Err(error) = self.store.upload_recording(&recording, &room, &files, &gaps).await {
                        tracing::error!(%recording, %error, "a recording cannot be noted for upload yet");
                        self.rest_until = Instant::now() + BUSY;
                        self.finished.insert(recording);
                        return;
                    }
                }
                // It was deleted, or it is in the store.
                Ok(None) => drop(self.unreadable.remove(&recording)),
                Err(error) => {
                    let said = format!(
                        "recording {recording} is not uploaded: its manifest cannot be read ({error}); restore it, or delete the \
                         recording"
                    );
                    // It is looked at again and again, as somebody may mend it.
                    if self.unreadable.insert(recording, said.clone()).is_none() {
                        tracing::error!("{said}");
                    }
                }
            }
        }
    }

    /// Starts what may be started now.
    async fn start(&mut self) {
        let now = Instant::now();
        let free = match self.gate.permit(now) {
            Permit::Wait(_) => return,
            Permit::Probe if self.running.is_empty() => return self.probe(),
            Permit::Probe => return,
            Permit::Transfers(most) => most.saturating_sub(self.running.len()),
        };
        if free == 0 || now < self.rest_until || !self.journal_ready {
            return;
        }
        match self.due(free).await {
            Ok(due) => due.into_iter().for_each(|work| self.spawn(work)),
            Err(error) => {
                tracing::error!(%error, "the journal of uploads cannot be read; it is tried again");
                self.rest_until = now + BUSY;
            }
        }
    }

    async fn due(&mut self, free: usize) -> Result<Vec<Work>, StoreError> {
        let (now, longest, most) = (self.due_now(), self.settings.longest_delay, free + self.work.len());
        let mut due = Vec::new();
        for upload in self.store.uploads_due(now, longest, most).await? {
            if !self.runs(|work| matches!(work, Work::Upload(other) if (&other.recording, other.file) == (&upload.recording, upload.file))) {
                due.push(Work::Upload(upload));
            }
        }
        for removal in self.store.removals_due(now, longest, most).await? {
            // What is still being put would come back.
            if !self.runs(|work| match work {
                Work::Probe => false,
                Work::Upload(Upload { recording, .. })
                | Work::Removal(Removal { recording, .. })
                | Work::Search(recording) => *recording == removal.recording,
            }) {
                due.push(Work::Removal(removal));
            }
        }
        due.truncate(free);
        if due.len() < free
            && let Some(recording) = self.search_due().await?
        {
            due.push(Work::Search(recording));
        }
        Ok(due)
    }

    fn runs(&self, is: impl Fn(&Work) -> bool) -> bool {
        self.work.values().any(|(work, _)| is(work))
    }

    fn probe(&mut self) {
        self.probed_at = Instant::now();
        self.spawn(Work::Probe);
    }

    fn spawn(&mut self, work: Work) {
        let (objects, store, folder) = (self.objects.clone(), self.store.clone(), self.settings.folder.clone());
        let task = match &work {
            Work::Probe => self.running.spawn(async move { transfer::probe(&objects, &store).await }),
            Work::Upload(upload) => {
                let upload = upload.clone();
                self.running.spawn(async move { transfer::upload(&objects, &store, &folder, &upload).await })
            }
            Work::Removal(removal) => {
                let removal = removal.clone();
                self.running.spawn(async move { transfer::remove(&objects, &removal).await })
            }
            Work::Search(recording) => {
                let recording = recording.clone();
                self.running.spawn(async move { transfer::find(&objects, &store, &recording).await })
            }
        };
        self.work.insert(task.id(), (work, Instant::now()));
    }

    async fn ended(&mut self, work: Work, started: Instant, outcome: Result<(), ObjectsError>) {
        let by = if matches!(work, Work::Probe | Work::Search(_)) { By::Probe } else { By::Transfer };
        let Err(error) = outcome else {
            let was_failing = self.gate.is_failing();
            let now = Instant::now();
            self.gate.succeeded(now, by);
            if matches!(work, Work::Upload(_)) {
                self.gate.transferred(now.saturating_duration_since(started));
            }
            if was_failing && !self.gate.is_failing() {
                self.noted(self.store.uploads_at_once(self.due_now()).await);
            }
            return match work {
                Work::Probe => {}
                Work::Upload(upload) => self.uploaded(&upload).await,
                Work::Removal(removal) => {
                    tracing::info!(recording = %removal.recording, "a deleted recording has left the store");
                    self.noted(self.store.removal_done(&removal.recording).await);
                }
                Work::Search(recording) => self.found(&recording).await,
            };
        };
        if matches!(work, Work::Search(_)) && !is_of_the_store(error.reason()) {
            // Not there, or not complete: the search is repeated.
            return tracing::debug!(%error, "recording in another store not found in this one");
        }
        measure::failed(error.reason());
        if is_of_the_store(error.reason()) {
            self.store_failed(by, started, &error);
        }
        match work {
            Work::Probe | Work::Search(_) => {}
            Work::Upload(upload) => self.upload_failed(&upload, &error).await,
            Work::Removal(removal) => {
                let next_at = self.next_at(removal.attempts);
                self.noted(self.store.removal_failed(&removal.recording, next_at, error.reason().as_str()).await);
            }
        }
    }

    async fn uploaded(&mut self, upload: &Upload) {
        match self.store.upload_verified(upload, Timestamp::now()).await {
            Ok(whole) => {
                measure::uploaded(upload.bytes);
                tracing::debug!(key = upload.key, bytes = upload.bytes, "uploaded and verified");
                if whole {
                    tracing::info!(recording = %upload.recording, "a recording is in the store");
                    self.evictor.run_pass().await;
                }
            }
            Err(error) => {
                tracing::error!(key = upload.key, %error, "it is in the store, but the journal cannot be told yet");
                self.rest_until = Instant::now() + BUSY;
            }
        }
    }

    async fn upload_failed(&mut self, upload: &Upload, error: &ObjectsError) {
        if !is_of_the_store(error.reason()) {
            // Deleted while it waited?
            if let (Reason::FileUnreadable, Ok(None)) = (error.reason(), self.store.recording(&upload.recording).await)
            {
                return self.noted(self.store.upload_forgotten(&upload.recording).await);
            }
            tracing::error!(recording = %upload.recording, file = %upload.file, %error, "a file is not uploaded; it is tried again");
            self.trouble = Some(error.to_string());
        }
        let next_at = self.next_at(upload.attempts);
        self.noted(self.store.upload_failed(upload, next_at, error.reason().as_str()).await);
    }

    fn store_failed(&mut self, by: By, started: Instant, error: &ObjectsError) {
        let now = Instant::now();
        if !self.gate.has_counted(started) {
            self.gate.failed(now, by, rand::random());
        }
        let keys = matches!(error.reason(), Reason::AccessDenied | Reason::CredentialsMissing);
        self.refused_keys = keys.then(|| self.keys()).flatten();
        self.status.set_store(false, Some(error.reason().to_string()), Some(error.to_string()));
        if self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= REMIND) {
            self.told_at = Some(now);
            tracing::warn!(reason = %error.reason(), %error, "the object store fails; recordings stay on the disk until it is well");
        }
    }

    /// Of the files that hold the keys, when there are any.
    fn keys(&self) -> Option<Digest> {
        let folder = self.settings.credentials.as_ref()?;
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
        let keys = [read("accessKeyId"), read("secretAccessKey"), read("sessionToken")];
        Some(Digest::of(&keys.join(&0)))
    }

    /// Retries with changed keys at once, and probes a store that was not used for a while.
    async fn check_store(&mut self) {
        let now = Instant::now();
        if self.refused_keys.is_some() && self.keys() != self.refused_keys {
            tracing::info!("the store's keys have changed: it is asked again");
            self.refused_keys = None;
            self.hurry().await;
        }
        let silent = now.saturating_duration_since(self.gate.contact()) >= self.settings.probe_every;
        let unchecked = now.saturating_duration_since(self.probed_at) >= OWNER_CHECK;
        let due = silent && self.running.is_empty() || unchecked && !self.runs(|work| matches!(work, Work::Probe));
        if due && !matches!(self.gate.permit(now), Permit::Wait(_)) {
            self.probe();
        }
    }

    async fn hurry(&mut self) {
        self.gate.open(Instant::now());
        self.elsewhere.search_now();
        self.noted(self.store.uploads_at_once(self.due_now()).await);
    }

    fn due_now(&self) -> Timestamp {
        self.due_clock.at(Instant::now())
    }

    fn next_at(&self, attempts: u32) -> Timestamp {
        self.due_now() + self.settings.delays().after(attempts.saturating_add(1), rand::random())
    }

    /// What the journal did not take is at worst done again.
    fn noted(&self, noted: Result<(), StoreError>) {
        if let Err(error) = noted {
            tracing::error!(%error, "the journal of uploads cannot be written");
        }
    }
}

/// What fails for one file would fail for all; else it is the file.
fn is_of_the_store(reason: Reason) -> bool {
    !matches!(reason, Reason::FileUnreadable | Reason::ChecksumMismatch | Reason::NotFound)
}
