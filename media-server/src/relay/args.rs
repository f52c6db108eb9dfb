//! The flags of `media-server relay` and `media-server install`, judged where they are read.

use crate::args::LogFormat;
use clap::{Args as ClapArgs, ValueHint};
use std::net::IpAddr;
use std::path::PathBuf;

/// As many bytes as the relay's database takes.
const LONGEST_REALM: usize = 127;

/// Flags of `media-server relay`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RelayArgs {
    /// Realm of the credentials: letters, digits, '.', '-' and '_'
    #[arg(long, value_name = "NAME", value_parser = realm)]
    pub realm: String,
    /// Port for UDP and TCP
    #[arg(long, value_name = "PORT", default_value_t = crate::turn::PORT)]
    pub listen_port: u16,
    /// Port for TLS
    #[arg(long, value_name = "PORT", default_value_t = 5349)]
    pub tls_port: u16,
    /// Folder with tls.crt and tls.key, read again when they change; without both there is no TLS
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub tls_dir: Option<PathBuf>,
    /// Folder with the files secret and secret.previous, read again when they change
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub secret_dir: PathBuf,
    /// Folder for what the relay needs while it runs
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub state_dir: PathBuf,
    /// Address that is listened on and that relays are made on
    #[arg(long, value_name = "ADDRESS", value_parser = own_address)]
    pub relay_address: IpAddr,
    /// First port of relays
    #[arg(long, value_name = "PORT", default_value_t = 49_152, value_parser = clap::value_parser!(u16).range(1024..))]
    pub min_port: u16,
    /// Last port of relays
    #[arg(long, value_name = "PORT", default_value_t = 65_535, value_parser = clap::value_parser!(u16).range(1024..))]
    pub max_port: u16,
    /// Address that may be reached through a relay; repeatable; no other is
    #[arg(long, value_name = "ADDRESS", required = true, value_parser = peer_address)]
    pub allow_peer: Vec<IpAddr>,
    /// Relays that one session's credentials are good for at once
    #[arg(long, value_name = "NUMBER", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub session_quota: u32,
    /// Relays of all sessions at once
    #[arg(long, value_name = "NUMBER", default_value_t = 1200, value_parser = clap::value_parser!(u32).range(1..))]
    pub total_quota: u32,
    /// Bytes a second that one relay carries, each way; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value_t = 12_500_000)]
    pub max_bytes_per_second: u32,
    /// Form of this program's log on stderr; the relay's own goes to stdout
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// The relay's program, and flags for it
    #[arg(last = true, value_name = "PROGRAM", default_value = "turnserver")]
    pub program: Vec<String>,
}

/// Flags of `media-server install`.
#[derive(Clone, Debug, ClapArgs)]
pub struct InstallArgs {
    /// Where to; it becomes FOLDER/media-server
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
}

/// The relay puts it into SQL and into its configuration as it is.
fn realm(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    if (1..=LONGEST_REALM).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "write a name such as cams.example.com: letters, digits, '.', '-' and '_', at most {LONGEST_REALM}"
        ))
    }
}

fn own_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => Err("write one address of this pod, as in 10.244.0.9".to_owned()),
    }
}

/// To coturn an unspecified address in a list of those allowed means all.
fn peer_address(text: &str) -> Result<IpAddr, String> {
    match own_address(text) {
        Ok(ip) if !ip.is_loopback() => Ok(ip),
        _ => Err("write the address that media is sent to, as in 10.244.0.9; loopback is never relayed to".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RelayArgs,
    }

    fn parse(change: &[(&str, &str)]) -> Result<RelayArgs, String> {
        let mut line = vec!["relay".to_owned()];
        for (flag, value) in [
            ("--realm", "cams.example.com"),
            ("--secret-dir", "/s"),
            ("--state-dir", "/t"),
            ("--relay-address", "10.0.0.9"),
            ("--allow-peer", "10.0.0.9"),
        ] {
            let changed = change.iter().find(|(name, _)| *name == flag);
            line.extend([flag.to_owned(), changed.map_or(value, |(_, value)| value).to_owned()]);
        }
        Line::try_parse_from(line).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_operator_says_is_understood() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.listen_port, args.tls_port, args.session_quota), (3478, 5349, 12));
        assert_eq!(args.program, ["turnserver"]);
    }

    #[test]
    fn addresses_that_would_open_the_relay_are_refused() {
        for address in
            ["0.0.0.0", "::", "::ffff:0.0.0.0", "127.0.0.1", "::1", "::ffff:127.0.0.1", "224.0.0.1", "10.0.0.0/8", ""]
        {
            assert!(parse(&[("--allow-peer", address)]).is_err(), "{address}");
        }
        let mapped = parse(&[("--allow-peer", "::ffff:10.0.0.9")]).unwrap();
        assert_eq!(mapped.allow_peer, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_realm_that_could_be_more_than_a_name_is_refused_with_one_that_is() {
        for realm in ["", "a'b", "a b", "a\nno-auth", "a;b", &"a".repeat(128)] {
            let text = parse(&[("--realm", realm)]).unwrap_err();
            assert!(text.contains("cams.example.com"), "{text}");
        }
    }
}
