//! Watches that freeze: no byte comes, and the connection stays open, as when something between the two has gone.

use crate::aborted::wait_in_force;
use crate::chosen;
use crate::harness::{Session, alone, figure};
use crate::local::{Post, sleep_until};
use crate::release::Away;
use serde_json::json;
use std::time::{Duration, Instant};
use streamsession_tests::faults::storm::Rates;

/// For which they freeze.
const FROZEN: Duration = Duration::from_secs(60);
/// The operator asks for watches of 120 s, gives up one that is silent 20 s longer, and backs off.
const GIVEN_UP: Duration = Duration::from_secs(170);

#[test]
fn an_update_that_no_watch_tells_of_is_in_force_once_they_thaw_or_are_given_up() {
    if chosen::short() {
        return;
    }
    let _turn = alone();
    let _away = Away::begin();
    let post = Post::new("faults-blind");
    let mut operator = post.behind("frozen", 0, Rates::NONE).wait_ready();
    let spec = json!({"storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"}});
    let session = Session::apply(&post.kube, "unseen", &spec);
    wait_in_force(&session, Duration::from_secs(60));
    let pod = session.pod_uid();

    operator.order("freeze");
    let begin = Instant::now();
    session.patch(json!({"limits": {"maxPublishers": 7}}));
    sleep_until(begin + FROZEN);
    operator.order("thaw");
    wait_in_force(&session, Duration::from_secs(20));
    let thawed = begin.elapsed().as_secs_f64();

    operator.order("freeze");
    let begin = Instant::now();
    session.patch(json!({"limits": {"maxPublishers": 8}}));
    wait_in_force(&session, GIVEN_UP);
    let given_up = begin.elapsed().as_secs_f64();
    operator.assert_running();
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
    figure(&format!(
        "watches frozen for {FROZEN:?}: in force after {thawed:.1} s; for good: in force after {given_up:.1} s"
    ));
}
