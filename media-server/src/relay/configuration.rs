//! What coturn is told, by file and by arguments; option names as of coturn 4.6 (`turnserver -h`).
//!
//! coturn passes over lines of its file that it does not know, and runs with its defaults, which are open, when it finds
//! no file. So what keeps the relay closed (authentication, and which peers are reached) stands among the arguments as
//! well, where a wrong word ends it. Neither holds a secret: those are in the database.
//!
//! The addresses that may be reached are allowed one by one; of all others both families are denied whole, and the
//! second of these ranges holds the IPv4-mapped addresses, by which CVE-2026-27624 gets past lists of IPv4 ranges.

use super::args::RelayArgs;
use super::certificate::Certificate;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// All addresses of both families, IPv4-mapped ones included.
const EVERYTHING: [&str; 2] = ["0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
/// Threads at most: a node's cores are not the pod's.
const MOST_THREADS: usize = 4;
/// Seconds that a nonce is good, and that a relay lives without a refresh (RFC 8656 §3.2).
const LIFETIME: u32 = 600;
/// Seconds that a client may take to be let in.
const ALLOCATE_LIMIT: u32 = 20;

/// Where coturn finds what it needs, in a folder that only its owner can enter.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
    pub(super) userdb: PathBuf,
    pid: PathBuf,
}

impl State {
    pub(super) fn in_folder(folder: &Path) -> State {
        let folder = folder.join("turn");
        State {
            file: folder.join("turnserver.conf"),
            userdb: folder.join("turn.sqlite"),
            pid: folder.join("turnserver.pid"),
            folder,
        }
    }
}

/// The arguments, besides those that stand in [`RelayArgs::program`].
pub(super) fn arguments(args: &RelayArgs, state: &State) -> Vec<String> {
    let mut arguments = vec!["-c".to_owned(), state.file.display().to_string()];
    arguments.extend(guards(args).into_iter().map(|(name, value)| match value {
        Some(value) => format!("--{name}={value}"),
        None => format!("--{name}"),
    }));
    arguments
}

/// The configuration file; TLS exactly when there is a certificate.
pub(super) fn file(args: &RelayArgs, state: &State, certificate: Option<&Certificate>) -> String {
    let mut text = "# Written by media-server relay at its start.\n".to_owned();
    let mut say = |name: &str, value: Option<String>| {
        let _ = match value {
            Some(value) => writeln!(text, "{name}={value}"),
            None => writeln!(text, "{name}"),
        };
    };
    say("listening-ip", Some(args.relay_address.to_string()));
    say("relay-ip", Some(args.relay_address.to_string()));
    say("listening-port", Some(args.listen_port.to_string()));
    say("min-port", Some(args.min_port.to_string()));
    say("max-port", Some(args.max_port.to_string()));
    if args.relay_address.is_ipv6() {
        // Clients that name no family are given one that there is.
        say("allocation-default-address-family", Some("ipv6".to_owned()));
    }
    for (name, value) in guards(args) {
        say(name, value);
    }
    say("userdb", Some(state.userdb.display().to_string()));
    say("user-quota", Some(args.session_quota.to_string()));
    say("total-quota", Some(args.total_quota.to_string()));
    if args.max_bytes_per_second > 0 {
        say("max-bps", Some(args.max_bytes_per_second.to_string()));
    }
    say("stale-nonce", Some(LIFETIME.to_string()));
    say("max-allocate-lifetime", Some(LIFETIME.to_string()));
    say("max-allocate-timeout", Some(ALLOCATE_LIMIT.to_string()));
    match certificate {
        Some(certificate) => {
            say("tls-listening-port", Some(args.tls_port.to_string()));
            say("cert", Some(certificate.chain.display().to_string()));
            say("pkey", Some(certificate.key.display().to_string()));
            say("no-tlsv1", None);
            say("no-tlsv1_1", None);
        }
        None => say("no-tls", None),
    }
    // The realm is the one that was given, whatever a client's ORIGIN says, and no list but the one above counts.
    for name in ["no-dynamic-realms", "no-dynamic-ip-list", "no-auth-pings"] {
        say(name, None);
    }
    // An answer to a stranger says no more than it must, and nothing else listens.
    for name in ["no-rfc5780", "no-stun-backward-compatibility", "response-origin-only-with-rfc5780", "no-dtls"] {
        say(name, None);
    }
    for name in ["fingerprint", "no-software-attribute", "no-cli"] {
        say(name, None);
    }
    let threads = available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
    say("relay-threads", Some(threads.to_string()));
    say("pidfile", Some(state.pid.display().to_string()));
    say("log-file", Some("stdout".to_owned()));
    say("simple-log", None);
    say("new-log-timestamp", None);
    text
}

/// What keeps the relay closed.
fn guards(args: &RelayArgs) -> Vec<(&'static str, Option<String>)> {
    let mut guards = vec![("use-auth-secret", None), ("realm", Some(args.realm.clone()))];
    guards.extend(args.allow_peer.iter().map(|peer| ("allowed-peer-ip", Some(only(*peer)))));
    guards.extend(EVERYTHING.map(|range| ("denied-peer-ip", Some(range.to_owned()))));
    guards.extend([("no-multicast-peers", None), ("no-tcp-relay", None)]);
    guards
}

fn only(peer: IpAddr) -> String {
    format!("{peer}-{peer}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LogFormat;

    fn args() -> RelayArgs {
        RelayArgs {
            realm: "cams.example.com".to_owned(),
            listen_port: 3478,
            tls_port: 5349,
            tls_dir: None,
            secret_dir: "/secret".into(),
            state_dir: "/tmp".into(),
            relay_address: "10.0.0.9".parse().unwrap(),
            min_port: 50_000,
            max_port: 50_999,
            allow_peer: vec!["10.0.0.9".parse().unwrap()],
            session_quota: 12,
            total_quota: 100,
            max_bytes_per_second: 0,
            log_format: LogFormat::Text,
            program: vec!["turnserver".to_owned()],
        }
    }

    fn lines(args: &RelayArgs, certificate: Option<&Certificate>) -> Vec<String> {
        let state = State::in_folder(&args.state_dir);
        file(args, &state, certificate).lines().map(str::to_owned).collect()
    }

    #[test]
    fn all_peers_are_denied_but_the_ones_that_are_named() {
        let args = args();
        let state = State::in_folder(&args.state_dir);
        let (lines, arguments) = (lines(&args, None), arguments(&args, &state));
        for guard in [
            "use-auth-secret",
            "realm=cams.example.com",
            "allowed-peer-ip=10.0.0.9-10.0.0.9",
            "denied-peer-ip=0.0.0.0-255.255.255.255",
            "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "no-multicast-peers",
            "no-tcp-relay",
        ] {
            assert!(lines.iter().any(|line| line == guard), "{guard} is not in the file");
            assert!(arguments.contains(&format!("--{guard}")), "{guard} is no argument");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("allowed-peer-ip")).count(), 1);
        assert!(!lines.iter().any(|line| line.contains("allow-loopback-peers") || line.contains("external-ip")));
    }

    #[test]
    fn there_is_tls_exactly_with_a_certificate_and_never_an_old_one() {
        let plain = lines(&args(), None);
        assert!(plain.contains(&"no-tls".to_owned()) && plain.contains(&"no-dtls".to_owned()));
        assert!(!plain.iter().any(|line| line.starts_with("cert=")));
        let secure = lines(&args(), Some(&Certificate::in_folder(Path::new("/tls"))));
        for line in
            ["cert=/tls/tls.crt", "pkey=/tls/tls.key", "tls-listening-port=5349", "no-tlsv1", "no-tlsv1_1", "no-dtls"]
        {
            assert!(secure.contains(&line.to_owned()), "{line}: {secure:?}");
        }
        assert!(!secure.contains(&"no-tls".to_owned()));
    }

    #[test]
    fn no_limit_is_no_line_and_ipv6_is_what_clients_get_where_there_is_nothing_else() {
        assert!(!lines(&args(), None).iter().any(|line| line.starts_with("max-bps")));
        let v6 = RelayArgs { relay_address: "fd00::9".parse().unwrap(), max_bytes_per_second: 7, ..args() };
        let lines = lines(&v6, None);
        assert!(lines.contains(&"max-bps=7".to_owned()));
        assert!(lines.contains(&"allocation-default-address-family=ipv6".to_owned()), "{lines:?}");
    }
}
