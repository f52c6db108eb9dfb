//! One measurement: a camera, a warm-up, N viewers, a window.

use super::LoadError;
use crate::crowd::{Crowd, Report};
use crate::peer::Identity;
use crate::source::Source;
use crate::sys::Udp;
use crate::viewer::Viewer;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Retransmissions may still fill what was lost in the window.
const GRACE: Duration = Duration::from_millis(1500);
/// The camera's stream must begin, and everyone who joined must be connected, within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is measured, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Viewers.
    pub viewers: usize,
    /// Length of the window.
    pub window: Duration,
    /// With the camera alone, before anything is measured: the server's packet ring fills.
    pub warm_up: Duration,
    /// Between two joins.
    pub spacing: Duration,
    /// Between the last join and the window.
    pub settle: Duration,
    /// The viewers' rest between two looks at their sockets.
    pub nap: Duration,
    /// The viewers take runs of datagrams as one message.
    pub coalesce: bool,
    /// One packet in so many is opened.
    pub sample: u64,
}

/// A viewer that has been let in.
pub struct Joined {
    /// Its socket.
    pub socket: Udp,
    /// Its state; `None` for a socket that only drains.
    pub viewer: Option<Viewer>,
    /// When it was asked for.
    pub posted: Instant,
}

/// What can be measured.
pub trait Subject {
    /// For the table.
    fn name(&self) -> &'static str;
    /// Starts the camera, if the subject takes one.
    fn camera(&mut self, identity: &Identity) -> Result<Option<Source>, LoadError>;
    /// Lets one more viewer in.
    fn join(&mut self, identity: &Identity, plan: &Plan) -> Result<Joined, LoadError>;
    /// Everyone has joined: begin to send, if the subject is not a server.
    fn ready(&mut self) -> Result<(), LoadError> {
        Ok(())
    }
    /// CPU time of its process.
    fn cpu(&mut self) -> Result<Duration, LoadError>;
    /// Memory of its process, bytes.
    fn memory(&mut self) -> Result<u64, LoadError>;
    /// It answers offers. What does not is only drained.
    fn is_server(&self) -> bool {
        true
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Of what.
    pub subject: &'static str,
    /// Viewers.
    pub viewers: usize,
    /// Seconds of the window.
    pub seconds: f64,
    /// Media packets that the camera sent in the window.
    pub camera_packets: u64,
    /// RTP packets that the viewers got in the window.
    pub packets: u64,
    /// CPU seconds of the process in the window.
    pub cpu_seconds: f64,
    /// Microseconds of CPU time for each of these packets.
    pub cpu_us_per_packet: f64,
    /// Different media packets that came, of all that the camera sent to all viewers, percent.
    pub delivered_percent: Option<f64>,
    /// Packets that did not come even by retransmission, of all that were to come, percent.
    pub loss_percent: Option<f64>,
    /// Packets that came by retransmission.
    pub repaired: u64,
    /// Packets that were opened, and those of them that were not authentic or not what the camera sends.
    pub opened: u64,
    /// See `opened`.
    pub bad: u64,
    /// Growth of the process from no viewer to all, bytes for each viewer.
    pub memory_per_viewer: f64,
    /// Bytes of the process with all viewers.
    pub memory: u64,
    /// From the request to the first packet, milliseconds, median.
    pub first_packet_p50_ms: Option<f64>,
    /// The 95th of a hundred.
    pub first_packet_p95_ms: Option<f64>,
    /// From the request to the first packet of a keyframe, milliseconds, median.
    pub first_keyframe_p50_ms: Option<f64>,
    /// The 95th of a hundred.
    pub first_keyframe_p95_ms: Option<f64>,
    /// As negotiated.
    pub profile: Option<String>,
    /// CPU seconds of this process, the viewers and the camera, in the window.
    pub generator_cpu_seconds: f64,
    /// The latest that the camera sent a frame, milliseconds.
    pub camera_latest_ms: f64,
}

/// Measures `subject` once.
pub fn measure(subject: &mut dyn Subject, plan: &Plan, identity: &Identity) -> Result<Measured, LoadError> {
    let camera = subject.camera(identity)?;
    if let Some(camera) = &camera {
        until("the camera to connect", || camera.packets() > 0)?;
    }
    std::thread::sleep(plan.warm_up);
    let memory_before = subject.memory()?;
    let crowd = Crowd::start()?;
    for _ in 0..plan.viewers {
        let next = Instant::now() + plan.spacing;
        let joined = subject.join(identity, plan)?;
        match joined.viewer {
            Some(viewer) => crowd.join(joined.socket, viewer, joined.posted),
            None => crowd.sink(joined.socket),
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    subject.ready()?;
    if subject.is_server() {
        let all = |report: &Report| report.viewers.iter().filter(|viewer| viewer.first_packet.is_some()).count();
        until("every viewer to get packets", || all(&crowd.report()) == plan.viewers).map_err(|error| {
            let report = crowd.report();
            let reason = report.viewers.iter().find_map(|viewer| viewer.error.clone());
            LoadError::Server(format!("{error}: {} of {} did; {reason:?}", all(&report), plan.viewers))
        })?;
    }
    crowd.nap(plan.nap);
    std::thread::sleep(plan.settle);
    let sent = || camera.as_ref().map_or(0, Source::packets);
    let own = || crate::sys::process_cpu(std::process::id()).unwrap_or_default();
    let (before, sent_before, cpu_before) = (crowd.mark(), sent(), subject.cpu()?);
    let (start, own_before) = (Instant::now(), own());
    std::thread::sleep(plan.window);
    let (cpu_after, sent_after, after) = (subject.cpu()?, sent(), crowd.mark());
    let (seconds, own_after) = (start.elapsed().as_secs_f64(), own());
    let memory = subject.memory()?;
    std::thread::sleep(GRACE);
    let last = crowd.report();
    let latest = camera.as_ref().map_or(Duration::ZERO, |camera| camera.totals().latest);
    crowd.leave();
    if let Some(camera) = camera {
        camera.stop();
    }
    let packets = (after.packets() + after.sunk) - (before.packets() + before.sunk);
    let unique = (after.unique() + after.sunk) - (before.unique() + before.sunk);
    let spans = last.viewers.iter().filter_map(|viewer| viewer.spans.first());
    let (expected, lost) = spans.fold((0, 0), |sums, span| (sums.0 + span.0, sums.1 + span.1));
    let cpu_seconds = (cpu_after - cpu_before).as_secs_f64();
    let camera_packets = sent_after - sent_before;
    let total = camera_packets * plan.viewers as u64;
    let first = |of: fn(&crate::crowd::Standing) -> Option<Duration>, share: f64| {
        percentile(last.viewers.iter().filter_map(of).map(|span| span.as_secs_f64() * 1000.0).collect(), share)
    };
    Ok(Measured {
        subject: subject.name(),
        viewers: plan.viewers,
        seconds,
        camera_packets,
        packets,
        cpu_seconds,
        cpu_us_per_packet: cpu_seconds * 1e6 / packets.max(1) as f64,
        // At both ends a frame may be on its way.
        delivered_percent: (total > 0).then(|| (unique as f64 * 100.0 / total as f64).min(100.0)),
        loss_percent: (expected > 0).then(|| lost as f64 * 100.0 / expected as f64),
        repaired: last.viewers.iter().map(|viewer| viewer.totals.repaired).sum(),
        opened: last.viewers.iter().map(|viewer| viewer.totals.opened).sum(),
        bad: last.viewers.iter().map(|viewer| viewer.totals.forged + viewer.totals.damaged).sum(),
        memory_per_viewer: memory.saturating_sub(memory_before) as f64 / plan.viewers.max(1) as f64,
        memory,
        first_packet_p50_ms: first(|viewer| viewer.first_packet, 0.5),
        first_packet_p95_ms: first(|viewer| viewer.first_packet, 0.95),
        first_keyframe_p50_ms: first(|viewer| viewer.first_keyframe, 0.5),
        first_keyframe_p95_ms: first(|viewer| viewer.first_keyframe, 0.95),
        profile: last.viewers.iter().find_map(|viewer| viewer.profile.clone()),
        generator_cpu_seconds: own_after.saturating_sub(own_before).as_secs_f64(),
        camera_latest_ms: latest.as_secs_f64() * 1000.0,
    })
}

/// Waits for a condition, with a deadline.
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), LoadError> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return Err(LoadError::Server(format!("waited {PATIENCE:?} for {what}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}
