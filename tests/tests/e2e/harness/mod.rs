//! What all tests of the whole server share.

mod api;
mod assets;
mod fleet;
mod lean;
mod link;
mod media;
mod namespace;
mod people;
mod recorded;
mod server;
mod token;
mod volatile_disk;
mod watch;

pub(crate) use api::{Answer, Api, camera_offer, viewer_offer};
pub(crate) use assets::{FLASH_CLIP_SECONDS, FLASHES, Files, Picture, dense_clip, flash_clip, slow_clip};
pub(crate) use fleet::Fleet;
pub(crate) use lean::{Client, Lean, lean_camera, lean_viewer};
pub(crate) use link::Link;
pub(crate) use media::{beeps, decode_errors, decoded, flashes, frames_in, packets_in};
pub(crate) use namespace::Network;
pub(crate) use people::{camera, camera_of, camera_with_token, listen, publishing, viewer, viewer_with_token};
pub(crate) use recorded::Recorded;
pub(crate) use server::{Server, Setup, media_client, media_server};
pub(crate) use token::{SECRET, signed, token};
pub(crate) use volatile_disk::VolatileDisk;
pub(crate) use watch::{Sample, Watch};

use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, MutexGuard};

/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Longest test that records.
const LONGEST_TEST: u64 = 120;

/// Keeps tests apart: they share two cores and measure. None runs across a full hour, at which recordings end.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let left = 3600 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 3600;
    if left < LONGEST_TEST {
        tokio::time::sleep(Duration::from_secs(left + 1)).await;
    }
    turn
}

/// Tells what was measured, past the runner's capture.
pub(crate) fn figure(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "    {text}");
}

/// Looks until `look` finds something; panics at the deadline with `what` did not come.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Panics when `what` takes longer.
pub(crate) async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// The value that `share` of all are not above (nearest rank); `values` gets sorted.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1]
}
