//! Two operators on one namespace, neither of which knows of the other: what an election is to prevent, and must survive.
//! Somebody watches a camera there all the while.

use crate::aborted::wait_in_force;
use crate::harness::{Session, alone, figure};
use crate::local::{Post, sleep_until};
use crate::objects::{difference, snapshot};
use crate::oracle::{log, told, wait_quiet, written};
use crate::release::Away;
use crate::stream::Stream;
use serde_json::json;
use std::time::{Duration, Instant};

/// For which somebody watches.
const WATCHED: u32 = 120;

#[test]
fn split_brain_converges_and_comes_to_rest() {
    let _turn = alone();
    let _away = Away::begin();
    let post = Post::new("faults-twins");
    let spec = json!({"storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"}});
    let patch = json!({"limits": {"maxPublishers": 7}, "exposure": {"announce": ["203.0.113.9"]}});

    let alone = post.operator().wait_ready();
    let session = Session::apply(&post.kube, "single", &spec);
    wait_in_force(&session, Duration::from_secs(60));
    session.patch(patch.clone());
    wait_in_force(&session, Duration::from_secs(60));
    let wanted = snapshot(&post.kube, "single");
    session.delete();
    drop(alone);

    let (mut first, mut second) = (post.operator(), post.operator());
    (first, second) = (first.wait_ready(), second.wait_ready());
    let stream = Stream::within(&post.kube, WATCHED);
    let mark = log().mark();
    let session = Session::apply(&post.kube, "double", &spec);
    let ready = wait_in_force(&session, Duration::from_secs(60));
    let pod = session.pod_uid();
    session.patch(patch);
    let patched = wait_in_force(&session, Duration::from_secs(60));
    wait_quiet(&post.kube.namespace, &post.user, Duration::from_secs(3), Duration::from_secs(60));
    let writes = written(&mark, &post.kube.namespace, &post.user);
    if let Some(words) = difference(&wanted, &snapshot(&post.kube, "double")) {
        panic!("{words}");
    }
    let rest = log().mark();
    sleep_until(Instant::now() + Duration::from_secs(35));
    let restless = written(&rest, &post.kube.namespace, &post.user);
    assert!(restless.is_empty(), "they write at rest:\n{}", told(&restless));
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
    let pods = log().about(&mark, &post.kube.namespace);
    let pods = pods.iter().filter(|entry| entry.resource == "pods" && entry.name == "double-0" && entry.created());
    assert_eq!(pods.count(), 1);
    stream.patch(8, Duration::from_secs(30));
    let seen = stream.finish();
    session.delete();
    for operator in [&mut first, &mut second] {
        operator.assert_running();
    }
    let left = snapshot(&post.kube, "double");
    assert!(left.keys().all(|name| name.starts_with("PersistentVolumeClaim")), "{:?}", left.keys());
    figure(&format!(
        "two operators: ready after {:.1} s, a patch in force after {:.1} s, {} writes until then, 0 at rest; {seen}",
        ready.as_secs_f64(),
        patched.as_secs_f64(),
        writes.len(),
    ));
}
