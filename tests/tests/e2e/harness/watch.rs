//! Samples a server while it works: memory, CPU time, its disk, and gauges of `/metrics`.

use super::{Server, figure};
use std::path::Path;
use std::time::{Duration, Instant};
use streamsession_tests::sys::disk_space;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(300);

/// The state of a server at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the start of the watch.
    pub(crate) at: Duration,
    /// Resident bytes.
    pub(crate) memory: u64,
    /// CPU time since the server's start.
    pub(crate) cpu: Duration,
    /// Share of the disk that is used, 0 to 1.
    pub(crate) disk: f64,
    /// Recordings that are paused.
    pub(crate) paused: f64,
    /// Files that wait for their upload.
    pub(crate) pending: f64,
}

/// Samples of a span of time, a second apart.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) samples: Vec<Sample>,
}

impl Watch {
    /// Samples `server` and the disk of `path` until `done` is true of the newest sample.
    pub(crate) async fn run(server: &Server, path: &Path, mut done: impl FnMut(&Sample) -> bool) -> Watch {
        let (start, mut watch, mut told_at) = (Instant::now(), Watch::default(), Duration::ZERO);
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let sample = sample(server, path, start).await;
            if sample.at >= told_at + PROGRESS_EVERY {
                told_at = sample.at;
                figure(&format!("{sample:?}"));
            }
            let over = done(&sample);
            watch.samples.push(sample);
            if over {
                return watch;
            }
        }
    }

    /// Returns the mean resident bytes of the samples from `from` to `to`.
    pub(crate) fn mean_memory(&self, from: Duration, to: Duration) -> f64 {
        let window = self.samples.iter().filter(|sample| sample.at >= from && sample.at <= to);
        let (sum, count) = window.fold((0, 0), |(sum, count), sample| (sum + sample.memory, count + 1));
        assert!(count > 0, "no sample from {from:?} to {to:?}");
        sum as f64 / f64::from(count)
    }

    /// Returns the share of a core that the server used from the first to the last sample.
    pub(crate) fn cores(&self) -> f64 {
        let (first, last) = (self.samples.first().expect("a sample"), self.samples.last().expect("a sample"));
        (last.cpu - first.cpu).as_secs_f64() / (last.at - first.at).as_secs_f64()
    }

    /// Returns the largest value of a figure.
    pub(crate) fn most(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(figure).fold(f64::NEG_INFINITY, f64::max)
    }
}

async fn sample(server: &Server, path: &Path, start: Instant) -> Sample {
    let metrics = server.metrics().await;
    let (size, free) = disk_space(path).unwrap();
    Sample {
        at: start.elapsed(),
        memory: server.memory(),
        cpu: server.cpu(),
        disk: 1.0 - free as f64 / size as f64,
        paused: metrics.value("media_server_recorder_paused"),
        pending: metrics.value("media_server_uploads_pending"),
    }
}

/// The text of `/metrics`.
pub(crate) struct Metrics(pub(super) String);

impl Metrics {
    /// Returns the sum of a metric over its labels; panics when it is not there.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_else(|| panic!("no {name} in /metrics"))
    }

    /// Returns the sum of a metric over its labels.
    pub(crate) fn find(&self, name: &str) -> Option<f64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit_once(' ')?.1.parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value)
    }
}
