//! Watches that freeze: no byte comes, and the connection stays open, as when something between the two has gone.
//! Somebody watches a camera all the while.

use crate::aborted::wait_in_force;
use crate::chosen;
use crate::harness::{alone, figure};
use crate::local::{Post, sleep_until};
use crate::release::Away;
use crate::stream::Stream;
use serde_json::json;
use std::time::{Duration, Instant};
use streamsession_tests::faults::storm::Rates;

/// For which they freeze.
const FROZEN: Duration = Duration::from_secs(60);
/// The operator asks for watches of 120 s, gives up one that is silent 20 s longer, and backs off.
const GIVEN_UP: Duration = Duration::from_secs(170);
/// For an update to be in force once the watches thaw.
const THAWED: Duration = Duration::from_secs(20);

#[test]
fn an_update_that_no_watch_tells_of_is_in_force_once_they_thaw_or_are_given_up() {
    if chosen::short() {
        return;
    }
    let _turn = alone();
    let _away = Away::begin();
    let post = Post::new("faults-blind");
    let mut operator = post.behind("frozen", 0, Rates::NONE).wait_ready();
    let watched = FROZEN + THAWED + GIVEN_UP + Duration::from_secs(10);
    let stream = Stream::within(&post.kube, u32::try_from(watched.as_secs()).unwrap());

    operator.order("freeze");
    let begin = Instant::now();
    stream.session.patch(json!({"limits": {"maxPublishers": 7}}));
    sleep_until(begin + FROZEN);
    operator.order("thaw");
    wait_in_force(&stream.session, THAWED);
    let thawed = begin.elapsed().as_secs_f64();

    operator.order("freeze");
    let begin = Instant::now();
    stream.patch(8, GIVEN_UP);
    let given_up = begin.elapsed().as_secs_f64();
    operator.assert_running();
    let seen = stream.finish();
    figure(&format!(
        "watches frozen for {FROZEN:?}: in force after {thawed:.1} s; for good: in force after {given_up:.1} s; {seen}",
    ));
}
