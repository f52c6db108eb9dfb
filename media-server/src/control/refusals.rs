//! How many newcomers were refused, and why: for the operator who wonders whether the caps are right.

use super::error::{Cap, ControlError};
use std::sync::atomic::{AtomicU64, Ordering};

const REASONS: [&str; 6] = ["publishers", "subscribers", "streams", "busy", "no-publisher", "draining"];

/// Counters since start.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; REASONS.len()]);

impl Refusals {
    /// Counts `result` when it is a refusal, and hands it on.
    pub(super) fn note<T>(&self, result: Result<T, ControlError>) -> Result<T, ControlError> {
        if let Some(reason) = result.as_ref().err().and_then(reason) {
            self.0[reason].fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        REASONS.iter().zip(&self.0).map(|(reason, count)| (*reason, count.load(Ordering::Relaxed))).collect()
    }
}

/// An index into `REASONS`.
fn reason(error: &ControlError) -> Option<usize> {
    match error {
        ControlError::Full { what: Cap::Publishers, .. } => Some(0),
        ControlError::Full { what: Cap::SubscribersPerRoom, .. } => Some(1),
        ControlError::Full { what: Cap::StreamsPerAccount | Cap::StreamsAhead, .. } => Some(2),
        ControlError::Busy | ControlError::StreamExists { .. } => Some(3),
        ControlError::NoPublisher { .. } => Some(4),
        ControlError::Draining { .. } => Some(5),
        _ => None,
    }
}
