//! The node of a session is drained while a camera streams: viewers are told to come again, the recording is finished and
//! in the store before the deadline, and the session comes back when the node does.

use crate::aborted::wait_in_force;
use crate::harness::{
    Bucket, Credentials, Kube, Place, Session, alone, answer_of, camera, command, figure, install, number, open_http,
    second_store, until,
};
use crate::oracle::NODE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// `spec.drain.deadline`.
const DEADLINE: Duration = Duration::from_secs(30);
const STORE: &str = "faults-store";
const BUCKET: &str = "drained";

/// A node that takes no pods, until this is dropped.
struct Cordon;

impl Cordon {
    /// Drains it of what belongs to a session of this namespace.
    fn drain(kube: &Kube) -> Cordon {
        let cordon = Cordon;
        let selector = "app.kubernetes.io/name=streamsession";
        let limit = format!("--timeout={}s", DEADLINE.as_secs() + 30);
        // Of all namespaces, says kubectl; the others have no session that runs.
        let mut drain = command(Place::Cluster, "kubectl");
        drain.args([
            "drain",
            NODE,
            "--pod-selector",
            selector,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            &limit,
        ]);
        let output = crate::harness::run(drain, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl drain: {said}\n{:?}", kube.attempt(&["get", "pods"], ""));
        cordon
    }
}

impl Drop for Cordon {
    fn drop(&mut self) {
        let _ = Kube::namespace("default").attempt(&["uncordon", NODE], "");
    }
}

/// What a viewer is told besides media.
struct Told {
    curl: Child,
    lines: BufReader<ChildStdout>,
}

impl Told {
    /// A viewer's session of a room, and its events (the server-sent events extension of WHEP).
    fn listen(base: &str, token: &str) -> Told {
        let answer = answer_of(&format!("{base}/whep/door"), token);
        assert_eq!(answer.status, 201, "{answer:?}");
        let links = answer.headers("link");
        let events = links.iter().find(|link| link.contains("urn:ietf:params:whep:ext:core:server-sent-events"));
        let path =
            events.and_then(|link| link.strip_prefix('<')?.split_once('>')).unwrap_or_else(|| panic!("{links:?}")).0;
        let url = |path: &str| if path.starts_with("http") { path.to_owned() } else { format!("{base}{path}") };
        let mut curl = command(Place::Outside, "curl");
        curl.args([
            "-sS",
            "-i",
            "-K",
            "-",
            "-H",
            "Content-Type: application/json",
            "-d",
            r#"["reconnect"]"#,
            &url(path),
        ]);
        let made = crate::harness::run(curl, &format!("header = \"Authorization: Bearer {token}\"\n"));
        let made = String::from_utf8_lossy(&made.stdout).into_owned();
        let location = made
            .lines()
            .find_map(|line| line.to_lowercase().starts_with("location:").then(|| line[9..].trim().to_owned()));
        let location = location.unwrap_or_else(|| panic!("no event stream: {made}"));
        let mut curl = command(Place::Outside, "curl");
        curl.args(["-sS", "-N", &url(&location)]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut curl = curl.spawn().unwrap();
        let mut lines = BufReader::new(curl.stdout.take().unwrap());
        // The server listens to it when it has said the first word.
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "the event stream ended at once");
        Told { curl, lines }
    }

    /// All that was told, when it has ended.
    fn all(mut self) -> String {
        let mut text = String::new();
        // Cut off or ended: what came before counts.
        let _ = self.lines.read_to_string(&mut text);
        let _ = self.curl.wait();
        text
    }
}

fn spec(storage: Value) -> Value {
    json!({
        "turn": {"mode": "Disabled"}, "storage": storage, "drain": {"deadline": format!("{}s", DEADLINE.as_secs())},
        "recording": {"segmentDuration": "2s", "idleTimeout": "2s"},
    })
}

#[test]
fn a_drained_node_tells_viewers_to_reconnect_and_loses_no_recording() {
    let _turn = alone();
    install();
    let (store, credentials) = second_store(&Kube::restricted(STORE));
    let bucket = Bucket::at(store.local, BUCKET, credentials.clone());
    bucket.create();
    let kube = Kube::fresh("faults-drained");
    credentials.store(&kube, "store-keys");
    let external = json!({
        "endpoint": format!("http://second-store.{STORE}.svc:7070"), "bucket": BUCKET,
        "credentialsSecretRef": {"name": "store-keys"},
    });
    drained(&kube, "elsewhere", json!({"mode": "External", "external": external, "size": "1Gi"}), |_| {
        bucket.whole_recordings("faults-drained/elsewhere/")
    });
    // This store ends with the pod: it has to outlive the server, and is looked at when it is back.
    drained(&kube, "inside", json!({"mode": "Managed", "size": "1Gi"}), |session| {
        wait_in_force(session, Duration::from_secs(90));
        let store = kube.forward("service/inside-store", 9000);
        let bucket = Bucket::at(store.local, "recordings", Credentials::of(&kube, "inside-store"));
        bucket.whole_recordings("faults-drained/inside/")
    });
}

/// `uploaded` tells what is in the store.
fn drained(kube: &Kube, name: &str, storage: Value, uploaded: impl FnOnce(&Session) -> (usize, usize, u64)) {
    let managed = storage["mode"] == "Managed";
    let session = Session::apply(kube, name, &spec(storage));
    wait_in_force(&session, Duration::from_secs(90));
    let token = session.token("publish subscribe");
    let base = open_http(kube, name);
    let _camera = camera(&format!("{base}/whip/door"), &token, None);
    until("there is a recording", Duration::from_secs(60), || {
        let now = session.get();
        let bytes = number(&now, "/status/recordings/bytes").unwrap_or_default();
        if bytes > 300_000.0 { Ok(()) } else { Err(now["status"].to_string()) }
    });
    let before = session.pod_uid();
    let listening = Told::listen(&base, &token);
    let begin = Instant::now();
    let cordon = Cordon::drain(kube);
    let took = begin.elapsed();
    let told = listening.all();
    assert!(told.contains("event: reconnect"), "{told:?}");
    assert!(took <= DEADLINE, "the drain took {took:?}");
    let found = if managed {
        drop(cordon);
        uploaded(&session)
    } else {
        let found = uploaded(&session);
        drop(cordon);
        wait_in_force(&session, Duration::from_secs(90));
        found
    };
    assert!(found.0 == 1 && found.1 >= 3, "(recordings, files, bytes) in the store: {found:?}");
    assert_ne!(session.pod_uid(), before);
    figure(&format!(
        "node drained ({name}): the pod was gone after {:.1} s, viewers were told to reconnect, {} files and {} bytes are in the store",
        took.as_secs_f64(),
        found.1,
        found.2,
    ));
}
