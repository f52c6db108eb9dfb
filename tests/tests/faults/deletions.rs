//! A session is deleted, in every order: whatever its policy, wherever its recordings are, with uploads pending, with the
//! store away for a while or for good, and with its namespace. Each ends within its deadline, and what is left is what the
//! policy says.

use crate::aborted::{wait_in_force, words};
use crate::chosen::short;
use crate::harness::{
    Bucket, Credentials, Kube, Session, alone, camera, figure, install, number, open_http, second_store, text, until,
};
use crate::local::at_once;
use crate::oracle::in_node;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// `spec.drain.deadline` of these sessions.
const DRAIN: u64 = 20;
/// From the deletion, or from when what was in the way is gone, until the session is: the drain, the pod's end, a Job and
/// what it is tried again after, and as much again, since several end at once on a small machine.
const ENDS: Duration = Duration::from_secs(DRAIN + 70);
/// Until a session that cannot go says why.
const TOLD: Duration = Duration::from_secs(60);
/// The store's namespace outlives those of the sessions.
const STORE: &str = "faults-store";
const BUCKET: &str = "deletions";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Local,
    Managed,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    /// The camera has gone, and everything is where it belongs.
    Plain,
    /// The camera streams on.
    Streaming,
    /// The store is away, and comes back once the session has said so.
    StoreAway,
    /// The store never comes back: the documented way out.
    StoreGone,
    /// It is the namespace that is deleted.
    Namespace,
    /// One recording is held.
    Held,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    policy: &'static str,
    storage: Storage,
    situation: Situation,
    /// Whether the volume is there afterwards.
    volume: bool,
    /// Recordings in the store elsewhere afterwards.
    objects: usize,
}

const fn case(policy: &'static str, storage: Storage, situation: Situation, volume: bool, objects: usize) -> Case {
    Case { policy, storage, situation, volume, objects }
}

/// Those that matter most come first.
const CASES: [Case; 18] = {
    use Situation::{Held, Namespace, Plain, StoreAway, StoreGone, Streaming};
    use Storage::{External, Local, Managed};
    [
        case("WaitForUploads", External, Streaming, false, 1),
        case("Delete", External, Held, false, 1),
        case("WaitForUploads", External, StoreAway, false, 1),
        case("Delete", External, StoreAway, false, 0),
        case("WaitForUploads", External, StoreGone, true, 0),
        case("Delete", External, Namespace, false, 0),
        case("WaitForUploads", External, Namespace, false, 1),
        case("Delete", External, Streaming, false, 0),
        case("Retain", External, Plain, true, 1),
        case("WaitForUploads", Managed, Streaming, true, 0),
        case("WaitForUploads", Local, Streaming, true, 0),
        case("Delete", Local, Streaming, false, 0),
        case("Delete", External, StoreGone, true, 1),
        case("WaitForUploads", External, Plain, false, 1),
        case("Delete", Managed, Plain, false, 0),
        case("Retain", Managed, Plain, true, 0),
        case("Retain", Local, Streaming, true, 0),
        case("Delete", Local, Namespace, false, 0),
    ]
};
/// So many of them in a short run.
const FIRST: usize = 8;

#[test]
fn deleted_in_every_order_a_session_ends_in_time_and_leaves_what_its_policy_says() {
    let _turn = alone();
    install();
    let (store, credentials) = second_store(&Kube::restricted(STORE));
    let bucket = Bucket::at(store.local, BUCKET, credentials.clone());
    bucket.create();
    let count = if short() { FIRST } else { CASES.len() };
    let queue: Mutex<VecDeque<Case>> = Mutex::new(CASES[..count].iter().copied().collect());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once().min(3) {
            let (queue, failures, bucket, credentials) = (&queue, &failures, &bucket, &credentials);
            scope.spawn(move || {
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| judge(case, bucket, credentials))) {
                        failures.lock().unwrap().push(format!("{case:?}: {}", words(&*panic)));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {count} deletions:\n{}", failures.len(), failures.join("\n"));
}

fn judge(case: Case, bucket: &Bucket, credentials: &Credentials) {
    let namespace = format!("faults-{:?}-{:?}-{}", case.storage, case.situation, case.policy).to_lowercase();
    let kube = Kube::fresh(&namespace);
    credentials.store(&kube, "store-keys");
    let way = Way::new(&namespace);
    let session = Session::apply(&kube, "cam", &spec(case, &namespace));
    wait_in_force(&session, Duration::from_secs(120));
    let token = session.token("publish subscribe");
    let camera = camera(&format!("{}/whip/door", open_http(&kube, "cam")), &token, None);
    let prefix = format!("{namespace}/cam/");
    let recorded = |session: &Session| {
        until("there is a recording", Duration::from_secs(60), || {
            let now = session.get();
            let bytes = number(&now, "/status/recordings/bytes").unwrap_or_default();
            if bytes > 300_000.0 { Ok(()) } else { Err(now["status"].to_string()) }
        });
    };
    recorded(&session);
    let away = matches!(case.situation, Situation::StoreAway | Situation::StoreGone);
    if away && case.policy == "WaitForUploads" {
        // With what is recorded from now on.
        way.close();
    }
    let streams = matches!(case.situation, Situation::Streaming | Situation::StoreAway | Situation::StoreGone)
        && !(away && case.policy == "Delete");
    let camera = streams.then_some(camera);
    if !streams && case.storage == Storage::External {
        until("the recording is in the store", Duration::from_secs(90), || match bucket.whole_recordings(&prefix) {
            (1, _, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    if case.situation == Situation::Held {
        let keys = bucket.list();
        let manifest = keys.keys().find(|key| key.starts_with(&prefix) && key.ends_with("/manifest.json")).unwrap();
        bucket.touch(&manifest.replace("manifest.json", "hold"));
    }
    if away {
        way.close();
    }

    let mut begin = Instant::now();
    match case.situation {
        Situation::Namespace => {
            drop(Kube::namespace("default").kubectl(&["delete", "namespace", &namespace, "--wait=false"]))
        }
        _ => drop(kube.kubectl(&["delete", "streamsession", "cam", "--wait=false"])),
    }
    let mut told = String::new();
    if away {
        told = session.wait_condition("Ready", "False", "ReclaimFailed", TOLD);
        assert!(told.contains("reclaimPolicy"), "it does not say the way out: {told}");
        begin = Instant::now();
        match case.situation {
            Situation::StoreAway => way.open(),
            _ => session.patch(json!({"recording": {"reclaimPolicy": "Retain"}})),
        }
    }
    until("the session has gone", ENDS, || match kube.find("streamsession", "cam") {
        None => Ok(()),
        Some(session) => Err(session["status"]["conditions"].to_string()),
    });
    let took = begin.elapsed();
    until("its pod has gone", Duration::from_secs(60), || {
        kube.find("pod", "cam-0").map_or(Ok(()), |pod| Err(pod["status"]["phase"].to_string()))
    });
    drop(camera);
    left(case, &kube, bucket, &prefix);
    figure(&format!(
        "{} × {:?} × {:?}: gone after {:.1} s{}{}",
        case.policy,
        case.storage,
        case.situation,
        took.as_secs_f64(),
        if told.is_empty() { "" } else { "; meanwhile: " },
        told,
    ));
    let _ = kube.attempt(&["delete", "namespace", &namespace, "--wait=false"], "");
}

/// What is left is what the policy says.
fn left(case: Case, kube: &Kube, bucket: &Bucket, prefix: &str) {
    if case.situation == Situation::Namespace {
        until("the namespace has gone", ENDS, || {
            let there = Kube::namespace("default").find("namespace", &kube.namespace);
            there.map_or(Ok(()), |namespace| Err(namespace["status"].to_string()))
        });
    } else if case.volume {
        let claim = kube.get("pvc", "cam-data");
        assert!(
            claim["metadata"]["ownerReferences"].is_null() && claim["metadata"]["deletionTimestamp"].is_null(),
            "{claim:#}"
        );
    } else {
        until("the volume has gone", Duration::from_secs(30), || {
            kube.find("pvc", "cam-data").map_or(Ok(()), |claim| Err(claim["metadata"].to_string()))
        });
    }
    let keys: Vec<String> = bucket.list().into_keys().filter(|key| key.starts_with(prefix)).collect();
    if case.policy == "WaitForUploads" && case.situation == Situation::StoreGone {
        // What had been uploaded before is there; what had not is on the volume.
        return;
    }
    let (recordings, files, _) = bucket.whole_recordings(prefix);
    assert_eq!(recordings, case.objects, "{keys:?}");
    if case.objects == 0 {
        assert!(keys.is_empty(), "{keys:?}");
    } else {
        assert!(files >= 3, "{keys:?}");
    }
}

fn spec(case: Case, namespace: &str) -> Value {
    let mut storage = json!({"mode": format!("{:?}", case.storage), "size": "1Gi"});
    if case.storage == Storage::External {
        storage["external"] = json!({
            "endpoint": format!("http://{namespace}.{STORE}.svc:7070"), "bucket": BUCKET,
            "credentialsSecretRef": {"name": "store-keys"},
        });
    }
    json!({
        "turn": {"mode": "Disabled"}, "storage": storage, "drain": {"deadline": format!("{DRAIN}s")},
        "recording": {"segmentDuration": "2s", "idleTimeout": "2s", "reclaimPolicy": case.policy},
    })
}

/// A session's own way to the store: a Service that can be led nowhere.
struct Way {
    kube: Kube,
    name: String,
}

impl Way {
    fn new(name: &str) -> Way {
        let way = Way { kube: Kube::namespace(STORE), name: name.to_owned() };
        way.lead("second-store");
        way
    }

    fn lead(&self, app: &str) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name},
            "spec": {"selector": {"app": app}, "ports": [{"port": 7070}]},
        });
        self.kube.apply(&service.to_string());
    }

    /// Connections that are open end, too: what a kept one uploads would leave nothing to wait for.
    fn close(&self) {
        self.lead("nothing");
        let service = self.kube.get("service", &self.name);
        let address = text(&service, "/spec/clusterIP");
        let begin = Instant::now();
        // Until kube-proxy has heard of it, too.
        while begin.elapsed() < Duration::from_secs(2) {
            in_node("conntrack -D -p tcp -d \"$1\" 2>&1 || true", &[&address]);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn open(&self) {
        self.lead("second-store");
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.kube.attempt(&["delete", "service", &self.name, "--ignore-not-found", "--wait=false"], "");
    }
}
