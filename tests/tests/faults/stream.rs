//! A session with a camera and a viewer, who are not to notice what happens to the control plane.

use crate::aborted::wait_in_force;
use crate::harness::{Background, Kube, Session, camera, number, open_http, until, view};
use crate::local::sleep_until;
use serde_json::json;
use std::time::{Duration, Instant};

/// Frames per second of the built-in clip: pictures, and 20 ms of sound each.
const RATE: f64 = 30.0 + 50.0;
/// Until a viewer has his first frames, at most.
const BEGINS: f64 = 5.0;

/// See the module.
pub(crate) struct Stream {
    pub(crate) session: Session,
    camera: Background,
    viewer: Background,
    begin: Instant,
    seconds: u32,
    pod: String,
}

impl Stream {
    /// In a namespace of its own, by the release's operator; somebody watches for so many seconds from now on.
    pub(crate) fn begin(namespace: &str, seconds: u32) -> Stream {
        Stream::within(&Kube::fresh(namespace), seconds)
    }

    /// In a namespace that is there, by whoever looks after it.
    pub(crate) fn within(kube: &Kube, seconds: u32) -> Stream {
        let spec = json!({
            "recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"},
        });
        let session = Session::apply(kube, "steady", &spec);
        wait_in_force(&session, Duration::from_secs(60));
        let token = session.token("publish subscribe");
        let base = open_http(kube, "steady");
        let camera = camera(&format!("{base}/whip/door"), &token, None);
        let counted = |kind: &str| {
            until(&format!("one of {kind} is counted"), Duration::from_secs(30), || {
                let now = session.get();
                let seen = number(&now, &format!("/status/{kind}"));
                if seen == Some(1.0) { Ok(()) } else { Err(now["status"].to_string()) }
            });
        };
        counted("publishers");
        let (begin, viewer) = (Instant::now(), view(&format!("{base}/whep/door"), &token, None, 1, seconds));
        counted("subscribers");
        let pod = session.pod_uid();
        Stream { session, camera, viewer, begin, seconds, pod }
    }

    /// Patches a live field; how long it took to be in force.
    pub(crate) fn patch(&self, publishers: u32, limit: Duration) -> Duration {
        self.session.patch(json!({"limits": {"maxPublishers": publishers}}));
        wait_in_force(&self.session, limit)
    }

    /// Waits until the viewer's time is over. He lost nothing, and the pod is the same. Says what he saw.
    pub(crate) fn finish(self) -> String {
        let Stream { session, mut camera, viewer, begin, seconds, pod } = self;
        assert!(begin.elapsed().as_secs() < u64::from(seconds), "the viewer's {seconds} s were over before the end");
        sleep_until(begin + Duration::from_secs(seconds.into()));
        let report = viewer.finish();
        camera.assert_running();
        assert_eq!((number(&report, "/failed"), number(&report, "/lost")), (Some(0.0), Some(0.0)), "{report:#}");
        let frames = number(&report, "/frames").unwrap();
        assert!(frames >= RATE * (f64::from(seconds) - BEGINS), "{report:#}");
        assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
        format!("viewer {frames} frames, none lost")
    }
}
