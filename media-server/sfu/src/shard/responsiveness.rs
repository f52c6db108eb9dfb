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
    /// The request before the pending one was not answered in time.
    ignored: bool,
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
            self.ignored = !answered;
        }
        self.answers >= ANSWERS
    }

    /// Returns whether the camera ignored the last request that is due.
    pub(super) fn ignores_requests(&self, now: Instant) -> bool {
        self.ignored || self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= ANSWER)
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

    #[test]
    fn unanswered_request_is_an_ignored_one() {
        let now = Instant::now();
        let at = |ms: u64| now + Duration::from_millis(ms);
        let mut camera = Responsiveness::default();
        assert!(!camera.ignores_requests(at(60_000)), "without a request");
        camera.on_request(now);
        assert_eq!([999, 1000].map(|ms| camera.ignores_requests(at(ms))), [false, true]);
        camera.on_keyframe(at(5000));
        camera.on_request(at(6000));
        assert!(camera.ignores_requests(at(6000)), "until a request is answered");
        camera.on_keyframe(at(6100));
        assert!(!camera.ignores_requests(at(60_000)));
    }
}
