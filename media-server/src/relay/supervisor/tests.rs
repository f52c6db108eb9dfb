//! The loop around a stand-in for coturn: a shell script that notes how it is called and signalled.

use super::*;
use crate::args::LogFormat;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::Instant;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: tempfile::TempDir,
    args: RelayArgs,
}

impl Bench {
    /// `body` is what the stand-in does once it has noted its arguments; it has `$here`.
    fn new(body: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["secrets", "tls"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("secrets").join("secret"), "the-first-secret\n").unwrap();
        let here = folder.path().display();
        let script = format!("here={here}\necho \"$@\" >> $here/calls\necho $$ > $here/pid\n{body}\n");
        fs::write(at("turnserver.sh"), script).unwrap();
        let args = RelayArgs {
            realm: "cams".to_owned(),
            listen_port: 3478,
            tls_port: 5349,
            tls_dir: Some(at("tls")),
            secret_dir: at("secrets"),
            state_dir: at("state"),
            relay_address: "10.0.0.9".parse().unwrap(),
            min_port: 50_000,
            max_port: 50_999,
            allow_peer: vec!["10.0.0.9".parse().unwrap()],
            session_quota: 12,
            total_quota: 100,
            max_bytes_per_second: 0,
            log_format: LogFormat::Text,
            program: vec!["sh".to_owned(), at("turnserver.sh").display().to_string()],
        };
        Bench { folder, args }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.at("calls")).map_or(0, |text| text.lines().count())
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.at("state/turn/turnserver.conf")).unwrap_or_default()
    }

    fn put_certificate(&self, key: &str) {
        fs::write(self.at("tls/tls.crt"), "chain").unwrap();
        fs::write(self.at("tls/tls.key"), key).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let text = fs::read_to_string(self.at("pid")).unwrap();
        kill_process(Pid::from_raw(text.trim().parse().unwrap()).unwrap(), signal).unwrap();
    }

    async fn until(&self, what: &str, mut is: impl FnMut(&Bench) -> bool) {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Notes the signals that coturn knows, and lives until it is told to end.
const OBEDIENT: &str = "trap 'echo reload >> $here/signals' USR2\ntrap 'exit 0' TERM\nwhile :; do sleep 0.05; done";

#[tokio::test]
async fn a_relay_that_dies_is_started_again() {
    let bench = Bench::new(OBEDIENT);
    let work = async {
        bench.until("the first start", |bench| bench.at("pid").exists()).await;
        bench.signal(Signal::KILL);
        bench.until("the second start", |bench| bench.calls() == 2).await;
    };
    tokio::select! {
        ended = supervise(&bench.args) => panic!("{ended:?}"),
        () = work => {}
    }
}

#[tokio::test]
async fn a_relay_that_never_lives_is_given_up_with_its_own_exit_code() {
    let bench = Bench::new("exit 7");
    assert_eq!(supervise(&bench.args).await.unwrap(), 7);
    assert_eq!(bench.calls(), GIVE_UP_AFTER as usize);
}

#[tokio::test]
async fn another_certificate_is_read_without_a_restart_and_the_first_one_brings_tls() {
    let bench = Bench::new(OBEDIENT);
    let work = async {
        bench.until("the start", |bench| bench.at("pid").exists()).await;
        assert!(bench.configuration().contains("\nno-tls\n"));
        bench.put_certificate("one");
        bench.until("the start with TLS", |bench| bench.calls() == 2).await;
        assert!(bench.configuration().contains("tls.crt") && !bench.configuration().contains("\nno-tls\n"));
        bench.put_certificate("two");
        bench.until("the signal", |bench| bench.at("signals").exists()).await;
        assert_eq!(bench.calls(), 2);
    };
    tokio::select! {
        ended = supervise(&bench.args) => panic!("{ended:?}"),
        () = work => {}
    }
}

#[tokio::test]
async fn no_secret_is_in_an_argument_or_in_the_configuration_and_strangers_read_neither() {
    let bench = Bench::new(OBEDIENT);
    let work = bench.until("the start", |bench| bench.at("pid").exists());
    tokio::select! {
        ended = supervise(&bench.args) => panic!("{ended:?}"),
        () = work => {}
    }
    let said = fs::read_to_string(bench.at("calls")).unwrap() + &bench.configuration();
    assert!(said.contains("use-auth-secret") && !said.contains("the-first-secret"), "{said}");
    let mode = |name: &str| fs::metadata(bench.at(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state/turn"), mode("state/turn/turnserver.conf")), (0o700, 0o600));
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_refused_by_name() {
    let refused = async |change: fn(&mut Bench)| {
        let mut bench = Bench::new(OBEDIENT);
        change(&mut bench);
        let error = supervise(&bench.args).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let text = refused(|bench| fs::remove_file(bench.at("secrets/secret")).unwrap()).await;
    assert!(text.contains("secrets/secret"), "{text}");
    let text = refused(|bench| bench.args.program = vec!["no-such-program".to_owned()]).await;
    assert!(text.contains("no-such-program") && text.contains("turnserver"), "{text}");
    let text = refused(|bench| bench.args.min_port = 60_000).await;
    assert!(text.contains("--min-port 60000") && text.contains("50999"), "{text}");
    let text = refused(|bench| bench.args.state_dir = "/proc/none".into()).await;
    assert!(text.contains("/proc/none") && text.contains("--state-dir"), "{text}");
}
