//! Whether a camera answers keyframe requests: many do not, and of those alone old groups of pictures have to be kept for joiners.

use std::time::{Duration, Instant};

/// A keyframe within this time after a request is taken for its answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Answers in a row that are no coincidence.
const ANSWERS: u8 = 3;

/// The answers of one camera to keyframe requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Responsiveness {
    asked: Option<Instant>,
    answers: u8,
}

impl Responsiveness {
    /// Takes note of a request, unless an earlier one is still unanswered.
    pub(super) fn on_request(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// Takes note of a keyframe. Returns whether the camera answers requests.
    pub(super) fn on_keyframe(&mut self, now: Instant) -> bool {
        if let Some(asked) = self.asked.take() {
            let answered = now.saturating_duration_since(asked) < ANSWER;
            self.answers = if answered { self.answers.saturating_add(1) } else { 0 };
        }
        self.answers >= ANSWERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_known_by_its_answers() {
        let now = Instant::now();
        let mut camera = Responsiveness::default();
        let mut ask = |wait: u64| {
            camera.on_request(now);
            camera.on_keyframe(now + Duration::from_millis(wait))
        };
        assert_eq!([100, 400, 80].map(&mut ask), [false, false, true]);
        assert!(!ask(3000));
        assert_eq!([100, 400, 80].map(&mut ask), [false, false, true]);
        assert!(camera.on_keyframe(now + Duration::from_secs(60)), "an unrequested keyframe changes nothing");
    }
}
