//! A headless camera: plays a [`Source`] into a WHIP endpoint in real time.
//!
//! Frames leave when they are due, from the moment the connection stands; one that is late leaves at once and keeps its
//! timestamp. What a receiver asks to have again is sent again; a keyframe that it asks for is counted and not made.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::call::Call;
use crate::error::Error;
use crate::outgoing::{Outgoing, Progress};
use crate::rtp::feedback::FeedbackState;
use crate::signal::Access;
use ingest::packetize::PACKET_SIZE;
use ingest::source::Source;

pub use crate::outgoing::SentTrack;
pub use crate::rtp::feedback::Feedback;

/// A camera that has not started.
#[derive(Clone, Debug)]
pub struct Camera {
    url: String,
    access: Access,
    source: Source,
    packet_size: usize,
}

/// What a camera has done since it started.
#[derive(Clone, Debug, Serialize)]
pub struct CameraStats {
    /// Milliseconds from the POST to the answer.
    pub answer_ms: f64,
    /// Milliseconds from the POST until media could flow.
    pub connected_ms: f64,
    /// Seconds that it has been sending.
    pub seconds: f64,
    /// The picture.
    pub video: Option<SentTrack>,
    /// The sound.
    pub audio: Option<SentTrack>,
    /// Milliseconds by which the latest frame was late, at worst.
    pub latest_ms: f64,
    /// What came back.
    pub feedback: Feedback,
}

/// Why a camera is no longer sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The source was played to its end.
    Played,
    /// The connection was lost.
    Lost,
}

impl Camera {
    /// A camera for the WHIP endpoint at `url`.
    pub fn new(url: impl Into<String>, source: Source) -> Camera {
        Camera { url: url.into(), access: Access::default(), source, packet_size: PACKET_SIZE }
    }

    /// Sets the bytes of the largest RTP packet, before encryption.
    pub fn with_packet_size(mut self, bytes: usize) -> Camera {
        self.packet_size = bytes;
        self
    }

    /// Authenticates with a bearer token.
    pub fn with_token(mut self, token: Option<String>) -> Camera {
        self.access.token = token;
        self
    }

    /// Trusts certificates (PEM) of these authorities alone for https, in place of the system's.
    pub fn with_authorities(mut self, pem: Option<Vec<u8>>) -> Camera {
        self.access.authorities = pem;
        self
    }

    /// Connects and begins to send. Comes back when media flows.
    pub async fn start(self) -> Result<RunningCamera, Error> {
        let (call, outgoing, writers) =
            Call::connect(&self.url, &self.access, || Outgoing::new(&self.source, self.packet_size)).await?;
        let progress = Arc::new(Progress::default());
        let (stop, stopped) = watch::channel(false);
        let (ended_sender, ended) = watch::channel(None);
        let lost = call.peer.ended();
        let feedback = Arc::clone(&outgoing.feedback);
        let (source, shared, clock) = (self.source, Arc::clone(&progress), outgoing.feedback);
        let task = tokio::spawn(async move {
            let how = tokio::select! {
                () = writers.play(&source, &clock, &shared, stopped) => Ended::Played,
                () = lost => Ended::Lost,
            };
            ended_sender.send_replace(Some(how));
        });
        let started = Instant::now();
        Ok(RunningCamera { call, feedback, progress, started, stop, ended, task })
    }
}

/// A camera that is sending. Dropping it stops the frames; only [`stop`](RunningCamera::stop) tells the server.
pub struct RunningCamera {
    call: Call,
    feedback: Arc<FeedbackState>,
    progress: Arc<Progress>,
    started: Instant,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<Option<Ended>>,
    task: JoinHandle<()>,
}

impl RunningCamera {
    /// What it has done so far.
    pub fn stats(&self) -> CameraStats {
        let progress = self.progress.read();
        CameraStats {
            answer_ms: self.call.answered.as_secs_f64() * 1000.0,
            connected_ms: self.call.connected.as_secs_f64() * 1000.0,
            seconds: self.started.elapsed().as_secs_f64(),
            video: progress.video,
            audio: progress.audio,
            latest_ms: progress.late.as_secs_f64() * 1000.0,
            feedback: self.feedback.counts(),
        }
    }

    /// The session's URL at the server.
    pub fn session_url(&self) -> &str {
        self.call.url()
    }

    /// Waits until the source has been played or the connection is lost.
    pub async fn ended(&mut self) -> Ended {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| *ended).unwrap_or(Ended::Lost)
    }

    /// Stops sending and ends the session at the server. The error is that of the DELETE.
    pub async fn stop(mut self) -> Result<CameraStats, Error> {
        self.stop.send_replace(true);
        // It ends at once; had it panicked, the runtime would have said so.
        let _ = (&mut self.task).await;
        let stats = self.stats();
        self.call.end().await?;
        Ok(stats)
    }
}
