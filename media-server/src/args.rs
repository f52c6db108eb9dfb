//! The command line: every flag typed, in groups, and no secret among them.
//!
//! A secret in argv can be read by every process of the machine, so secrets come from a file or from the environment.
//! Flags say what the process is (addresses, folders, log); what a session is (limits, recording, auth) stands in the
//! StreamSession document, and the environment variables in [`crate::config::Environment`] override that.

use crate::auth::Scope;
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use streamsession_api::DurationString;

/// A media server for live cameras: WHIP in, WHEP out, recorded on the way.
///
/// Without a subcommand it serves. Open the URLs that it prints.
#[derive(Debug, Parser)]
#[command(
    name = "media-server",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Environment, overriding --session: MEDIA_MODE, MEDIA_MAX_PUBLISHERS, MEDIA_MAX_SUBSCRIBERS_PER_ROOM,\n\
                  MEDIA_RECORDINGS_DIR, TURN_URLS, TURN_USERNAME, TURN_CREDENTIAL. Secret: MEDIA_JWT_SECRET.\n\
                  Tokens: `media-server token --scope publish --room front-door` makes one; a session without keys has the\n\
                  server make the secret, as jwt.secret in --data-dir.\n\
                  Exit codes: 0 done, 1 failed while running, 2 wrong use or wrong configuration."
)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the server.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Refused: the probe is a command of media-client.
    #[command(hide = true, disable_help_flag = true)]
    Probe {
        /// The arguments of media-client.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Make a bearer token for a camera, a viewer or an operator, and print it to stdout.
    ///
    /// It is signed with the secret of the server: the file of --jwt-secret-file, MEDIA_JWT_SECRET, or the file that the
    /// server made in its data folder. A page takes it as http://HOST/watch/ROOM#token=TOKEN, all else as
    /// "Authorization: Bearer TOKEN".
    Token(Box<TokenArgs>),
    /// List, check, export and prune recordings, in a folder or in an object store.
    Recordings(Box<crate::cli::recordings::RecordingsArgs>),
    /// Run a TURN relay (coturn) and look after it: its configuration, secrets, certificates and end.
    #[command(hide = true)]
    Relay(Box<crate::relay::RelayArgs>),
    /// Copy this program into a folder, for another container to run.
    #[command(hide = true)]
    Install(crate::relay::InstallArgs),
    /// Wait until the server of this pod has ended (a hook of containers that it needs until then).
    #[command(hide = true)]
    Linger(crate::linger::LingerArgs),
    /// Print the completions for a shell to stdout.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff) to stdout.
    Man,
}

/// Flags of `media-server token`.
#[derive(Clone, Debug, ClapArgs)]
pub struct TokenArgs {
    /// What it allows; repeatable, or with commas. admin is everything
    #[arg(long, value_enum, required = true, value_delimiter = ',')]
    pub scope: Vec<Scope>,
    /// Where it allows it; repeatable, or with commas; '*' is every room, which admin has without it
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub room: Vec<String>,
    /// For how long: 1h, 24h, 30d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub lifetime: DurationString,
    /// Who brings it; a camera that comes back under the same name takes its own place at once [default: a random name]
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
    /// The account that its streams count for (limits.maxStreamsPerAccount)
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// File with the secret [default: MEDIA_JWT_SECRET, else jwt.secret in --data-dir]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub jwt_secret_file: Option<PathBuf>,
    /// The server's own --data-dir and --session; the session's auth tells issuer and audience
    #[command(flatten)]
    pub files: FileArgs,
}

/// Flags of the server.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ServeArgs {
    /// Addresses and ports.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Folders and documents.
    #[command(flatten)]
    pub files: FileArgs,
    /// Who may come in.
    #[command(flatten)]
    pub access: AccessArgs,
    /// How it runs.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Addresses and ports.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Where HTTP listens: WHIP, WHEP, the API and the pages [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = http_address)]
    pub http: Option<SocketAddr>,
    /// Where the management routes listen (/admin, /metrics, /healthz, /readyz), which --http then no longer has
    /// [default: they are on --http]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = http_address)]
    pub management: Option<SocketAddr>,
    /// UDP port of all media [default: spec.exposure.mediaPort of the session, 8189]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub udp_port: Option<u16>,
    /// Address to bind for media [default: ::, or 0.0.0.0 where there is no IPv6]
    #[arg(long, value_name = "ADDRESS")]
    pub udp_address: Option<IpAddr>,
    /// Address at which clients reach the media port, if it is not one of this machine's; repeatable
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub announce: Vec<Announce>,
}

/// Folders and documents.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Files")]
pub struct FileArgs {
    /// Holds the registry, the recordings and a secret that was made [default: ./streamsession-data]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// A StreamSession document (YAML), as for Kubernetes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub session: Option<PathBuf>,
}

/// Who may come in.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// File with the HS256 secret for bearer tokens, at least 32 bytes; a final newline does not count
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub jwt_secret_file: Option<PathBuf>,
    /// File with the bearer token for /admin, at least 32 bytes; a file of the same name with .previous beside it is
    /// taken too, and both are read again when they change
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub admin_token_file: Option<PathBuf>,
    /// Folder with the secret that is shared with the TURN relay (a file called secret), from which time-limited
    /// credentials are made
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub turn_secret_dir: Option<PathBuf>,
    /// Directory with the keys of the object store (files called accessKeyId, secretAccessKey and, if it has one,
    /// sessionToken) [default: AWS_ACCESS_KEY_ID and the like, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub store_credentials_dir: Option<PathBuf>,
    /// File with the certificates (PEM) of the authorities that are trusted for the object store [default: the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub store_ca_file: Option<PathBuf>,
    /// Changing requests (POST, PUT, PATCH, DELETE) a second that one address may send on average, with bursts of
    /// four times as many; 0 switches this off [default: 50]
    #[arg(long, value_name = "NUMBER")]
    pub rate_limit: Option<u32>,
}

/// How it runs.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Running")]
pub struct RuntimeArgs {
    /// Play a moving test picture with sound into the room "demo"
    #[arg(long)]
    pub demo: bool,
    /// Threads that carry media [default: half of the cores]
    #[arg(long, value_name = "NUMBER", value_parser = shards)]
    pub shards: Option<NonZeroUsize>,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// An address to announce as an ICE candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// As clients reach it.
    pub ip: IpAddr,
    /// As clients reach it; `None` is the port that is bound.
    pub port: Option<u16>,
}

/// Text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an IP address with an optional port: write 203.0.113.7, 203.0.113.7:31189, 2001:db8::7 or [2001:db8::7]:31189"
)]
pub struct AnnounceError(String);

impl FromStr for Announce {
    type Err = AnnounceError;

    fn from_str(text: &str) -> Result<Announce, AnnounceError> {
        let announce = if let Ok(address) = text.parse::<SocketAddr>() {
            Announce { ip: address.ip(), port: Some(address.port()) }
        } else {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            Announce { ip: bare.parse().map_err(|_| AnnounceError(text.to_owned()))?, port: None }
        };
        if announce.ip.is_unspecified() || announce.port == Some(0) {
            return Err(AnnounceError(text.to_owned()));
        }
        Ok(announce)
    }
}

fn http_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let remedy = "write an IP address and a port: 127.0.0.1:8080 for this machine, 0.0.0.0:8080 or [::]:8080 for all";
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| remedy.to_owned())
}

fn shards(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a whole number of at least 1, or leave it out".to_owned())
}

/// Returns the refusal of `media-server probe`, with the command that does it now.
pub fn probe_moved(args: &[String]) -> String {
    let mut command = "media-client probe".to_owned();
    for arg in args {
        command.push(' ');
        command.push_str(arg);
    }
    format!("the probe moved to media-client, which is in the same image and build: run `{command}`")
}

/// Writes the completions for `shell`.
pub fn write_completions(shell: clap_complete::Shell, out: &mut dyn io::Write) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "media-server", &mut script);
    // A reader that has seen enough (`| head`) is no failure.
    let _ = out.write_all(&script);
}

/// Writes the manual page.
pub fn write_man(out: &mut dyn io::Write) -> io::Result<()> {
    clap_mangen::Man::new(Args::command()).render(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_serving_with_defaults() {
        let args = Args::try_parse_from(["media-server"]).unwrap();
        assert!(args.command.is_none());
        assert_eq!(args.serve.network.http, None);
        assert_eq!(args.serve.runtime.log_format, LogFormat::Text);
    }

    #[test]
    fn probe_with_flags_names_the_new_command() {
        for arguments in [&["--url", "http://x:8080", "--wait", "9"][..], &["--help"], &[]] {
            let command = ["media-server", "probe"].iter().chain(arguments);
            let Some(Command::Probe { args }) = Args::try_parse_from(command).unwrap().command else {
                panic!("{arguments:?} is refused by the parser, without the remedy")
            };
            let text = probe_moved(&args);
            assert!(
                text.contains(&format!(
                    "run `{}`",
                    ["media-client probe"].iter().chain(arguments).copied().collect::<Vec<_>>().join(" ")
                )),
                "{text}"
            );
        }
    }

    #[test]
    fn announce_takes_addresses_with_and_without_port() {
        for (text, ip, port) in [
            ("203.0.113.7", "203.0.113.7", None),
            ("203.0.113.7:31189", "203.0.113.7", Some(31189)),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("[2001:db8::7]:31189", "2001:db8::7", Some(31189)),
        ] {
            assert_eq!(text.parse(), Ok(Announce { ip: ip.parse().unwrap(), port }), "{text}");
        }
    }

    #[test]
    fn announce_refuses_names_and_unusable_addresses() {
        for text in ["", "example.com", "0.0.0.0", "[::]:8189", "203.0.113.7:0", "203.0.113.7:99999", "1.2.3"] {
            assert!(text.parse::<Announce>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_one_that_is() {
        let parse = |http| Args::try_parse_from(["media-server", "--http", http]);
        assert_eq!(parse("localhost:8080").unwrap().serve.network.http, Some("127.0.0.1:8080".parse().unwrap()));
        for http in ["8080", ":8080", "localhost", "example.com:8080", "127.0.0.1"] {
            let text = parse(http).unwrap_err().to_string();
            assert!(text.contains("127.0.0.1:8080") && text.contains("0.0.0.0:8080"), "{text}");
        }
        let text = Args::try_parse_from(["media-server", "--shards", "0"]).unwrap_err().to_string();
        assert!(text.contains("at least 1"), "{text}");
    }

    #[test]
    fn the_secret_itself_is_no_flag() {
        assert!(Args::try_parse_from(["media-server", "--jwt-secret", "x"]).is_err());
    }

    #[test]
    fn completions_and_manual_name_the_flags() {
        let mut bash = Vec::new();
        write_completions(clap_complete::Shell::Bash, &mut bash);
        let mut man = Vec::new();
        write_man(&mut man).unwrap();
        assert!(String::from_utf8(bash).unwrap().contains("--jwt-secret-file"));
        assert!(String::from_utf8(man).unwrap().contains("jwt\\-secret\\-file"));
    }
}
