//! The command line: every flag typed, each with an environment variable, since a Deployment sets them that way.
//!
//! A value that makes no sense is refused at the start with the flag's name and what would be right; nothing is guessed.
//! No secret is among them: how to reach the API server comes from the service account or the kubeconfig.

use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;
use streamsession_api::DurationString;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// To run the operator.
    Run(Box<Args>),
    /// To prepare that it is taken away.
    Release(ReleaseArgs),
}

impl Invocation {
    /// By this process's arguments; what is wrong is told on stderr, and ends the process.
    pub fn parse() -> Invocation {
        Invocation::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// By these arguments, of which the first is the program.
    pub fn try_parse_from<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Invocation, clap::Error> {
        let matches = Invocation::command().try_get_matches_from(arguments)?;
        match matches.subcommand() {
            Some((_, matches)) => ReleaseArgs::from_arg_matches(matches).map(Invocation::Release),
            None => Args::from_arg_matches(&matches).map(|args| Invocation::Run(Box::new(args))),
        }
    }

    /// The operator without a subcommand, and its subcommands, for which none of its own flags is needed.
    fn command() -> clap::Command {
        Args::command()
            .subcommand(ReleaseArgs::command())
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
    }

    /// Form of the log on stderr.
    pub fn log_format(&self) -> LogFormat {
        match self {
            Invocation::Run(args) => args.runtime.log_format,
            Invocation::Release(args) => args.log_format,
        }
    }
}

/// Prepares that the operator is taken away: waits for sessions that are being deleted, stops the operator, and frees the sessions that stay of its finalizer
#[derive(Clone, Debug, Parser)]
#[command(
    name = "release",
    after_help = "Exit codes: 0 nothing needs the operator any more, 1 something does or it is not known, 2 wrong use or wrong configuration."
)]
pub struct ReleaseArgs {
    /// The operator's Deployment, which is scaled to zero
    #[arg(long, value_name = "NAME", env = "STREAMSESSION_DEPLOYMENT", default_value = "streamsession-operator", value_parser = subdomain)]
    pub deployment: String,
    /// Its namespace [default: that of this process's service account]
    #[arg(long, value_name = "NAMESPACE", env = "STREAMSESSION_OPERATOR_NAMESPACE", value_parser = label)]
    pub operator_namespace: Option<String>,
    /// Namespace whose sessions are this operator's; repeatable, or with commas [default: all]
    #[arg(long, value_name = "NAMESPACE", env = "STREAMSESSION_WATCH_NAMESPACES", value_delimiter = ',', value_parser = label)]
    pub watch_namespace: Vec<String>,
    /// Delete all these sessions first: their definition goes too, and the operator is to carry out their reclaimPolicy before
    #[arg(long, env = "STREAMSESSION_DELETE_SESSIONS")]
    pub delete_sessions: bool,
    /// In which time all of it must be done
    #[arg(long, value_name = "DURATION", env = "STREAMSESSION_RELEASE_DEADLINE", default_value = "5m", value_parser = deadline)]
    pub deadline: Deadline,
    /// Form of the log on stderr
    #[arg(long, value_enum, env = "STREAMSESSION_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

impl ReleaseArgs {
    /// Namespaces of the sessions, each once; empty for all.
    pub fn namespaces(&self) -> Vec<String> {
        distinct(&self.watch_namespace)
    }
}

/// A time that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Duration);

/// The operator of StreamSessions: makes of each one a pod that takes cameras, shows them and records them.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "operator",
    version,
    after_help = "The API server is found by the service account of the pod, or by KUBECONFIG and ~/.kube/config.\n\
                  RUST_LOG filters the log [default: info].\n\
                  Exit codes: 0 ended by a signal, 1 failed while running, 2 wrong use or wrong configuration."
)]
pub struct Args {
    /// What pods run.
    #[command(flatten)]
    pub images: ImageArgs,
    /// What is watched, and how.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Which of several operators works.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// How it runs.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// What pods run.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// Image of the media server, unless spec.pod.image names another
    #[arg(long, value_name = "IMAGE", env = "STREAMSESSION_MEDIA_SERVER_IMAGE", value_parser = image)]
    pub media_server_image: String,
    /// Image with coturn's turnserver, for spec.turn.mode Managed
    #[arg(long, value_name = "IMAGE", env = "STREAMSESSION_COTURN_IMAGE", value_parser = image)]
    pub coturn_image: String,
    /// Image with MinIO, for spec.storage.mode Managed
    #[arg(long, value_name = "IMAGE", env = "STREAMSESSION_MINIO_IMAGE", value_parser = image)]
    pub minio_image: String,
    /// When nodes pull images
    #[arg(long, value_name = "POLICY", env = "STREAMSESSION_IMAGE_PULL_POLICY", value_enum, default_value_t)]
    pub image_pull_policy: PullPolicy,
    /// Secret with credentials for the images' registry, in each session's namespace; repeatable, or with commas
    #[arg(long, value_name = "NAME", env = "STREAMSESSION_IMAGE_PULL_SECRETS", value_delimiter = ',', value_parser = subdomain)]
    pub image_pull_secret: Vec<String>,
}

/// When nodes pull images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the node has none of that name.
    #[default]
    IfNotPresent,
    /// The node must have it.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

/// What is watched, and how.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Sessions")]
pub struct ScopeArgs {
    /// Namespace whose sessions are this operator's; repeatable, or with commas [default: all]
    #[arg(long, value_name = "NAMESPACE", env = "STREAMSESSION_WATCH_NAMESPACES", value_delimiter = ',', value_parser = label)]
    pub watch_namespace: Vec<String>,
    /// Namespace that the operator runs in [default: that of its service account]
    #[arg(long, value_name = "NAMESPACE", env = "STREAMSESSION_OPERATOR_NAMESPACE", value_parser = label)]
    pub operator_namespace: Option<String>,
    /// Name of the operator's pod, told in events [default: the host's name]
    #[arg(long, value_name = "NAME", env = "STREAMSESSION_POD_NAME", value_parser = subdomain)]
    pub pod_name: Option<String>,
    /// Age at which the secrets that the operator makes are rotated, at least 1h; 0 rotates them by annotation alone
    #[arg(long, value_name = "DURATION", env = "STREAMSESSION_ROTATE_SECRETS_AFTER", default_value = "30d", value_parser = rotation)]
    pub rotate_secrets_after: Rotation,
    /// Proxy of sessions' pods to stores elsewhere with https://, such as `http://proxy.example.com:3128`; without a password
    #[arg(long, value_name = "URL", env = "STREAMSESSION_STORE_HTTPS_PROXY", value_parser = proxy)]
    pub store_https_proxy: Option<String>,
    /// The same for stores with http://
    #[arg(long, value_name = "URL", env = "STREAMSESSION_STORE_HTTP_PROXY", value_parser = proxy)]
    pub store_http_proxy: Option<String>,
    /// Hosts, domains and networks that pods reach without a proxy, with commas between them
    #[arg(long, value_name = "LIST", env = "STREAMSESSION_STORE_NO_PROXY")]
    pub store_no_proxy: Option<String>,
    /// Sessions that are worked on at once
    #[arg(long, value_name = "NUMBER", env = "STREAMSESSION_CONCURRENCY", default_value = "4", value_parser = concurrency)]
    pub concurrency: NonZeroU16,
}

/// When secrets are rotated by their age: never (`None`), or when they are older than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation(pub Option<Duration>);

/// Which of several operators works.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Election")]
pub struct ElectionArgs {
    /// Work only while holding the Lease, so that several operators can run; without it there must be one alone
    #[arg(long, env = "STREAMSESSION_LEADER_ELECT")]
    pub leader_elect: bool,
    /// Name of the Lease, in the namespace that the operator runs in
    #[arg(long, value_name = "NAME", env = "STREAMSESSION_LEASE_NAME", default_value = "streamsession-operator", value_parser = subdomain)]
    pub lease_name: String,
}

/// How it runs.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Running")]
pub struct RuntimeArgs {
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS:PORT", env = "STREAMSESSION_LISTEN", default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Form of the log on stderr
    #[arg(long, value_enum, env = "STREAMSESSION_LOG_FORMAT", default_value_t)]
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

impl ScopeArgs {
    /// Namespaces to watch, each once; empty for all.
    pub fn namespaces(&self) -> Vec<String> {
        distinct(&self.watch_namespace)
    }
}

fn proxy(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if host.contains('@') => {
            Err("a pod's environment is no place for a password: leave it out".to_owned())
        }
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("write a URL such as http://proxy.example.com:3128".to_owned()),
    }
}

fn distinct(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}

fn image(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./:@_-".contains(c);
    if text.is_empty() || !text.chars().all(plain) || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(
            "write an image's name with its tag or digest: registry.example.com/streamsession/media-server:0.1.0"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// A DNS label (RFC 1123), as names of namespaces are.
fn label(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || edges || !text.chars().all(inner) {
        return Err("write a namespace's name: at most 63 of a-z, 0-9 and -, with no - at either end".to_owned());
    }
    Ok(text.to_owned())
}

/// A DNS subdomain (RFC 1123), as names of most objects are.
fn subdomain(text: &str) -> Result<String, String> {
    if text.len() > 253 || text.split('.').any(|part| label(part).is_err()) {
        return Err("write an object's name: at most 253 of a-z, 0-9, - and .".to_owned());
    }
    Ok(text.to_owned())
}

fn rotation(text: &str) -> Result<Rotation, String> {
    const LEAST: Duration = Duration::from_secs(3600);
    let remedy =
        || "write a duration of at least 1h, such as 24h or 30d, or 0 to rotate by annotation alone".to_owned();
    if text == "0" {
        return Ok(Rotation(None));
    }
    let age = text.parse::<DurationString>().map_err(|_| remedy())?.as_duration();
    match age {
        Duration::ZERO => Ok(Rotation(None)),
        age if age < LEAST => Err(remedy()),
        age => Ok(Rotation(Some(age))),
    }
}

fn deadline(text: &str) -> Result<Deadline, String> {
    let time = text.parse::<DurationString>().map(|time| time.as_duration()).ok().filter(|time| !time.is_zero());
    time.map(Deadline).ok_or_else(|| "write a duration such as 90s or 5m".to_owned())
}

fn concurrency(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| "write a whole number from 1 to 65535".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port: 0.0.0.0:8080 or [::]:8080 for all, 127.0.0.1:8080 for this machine".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: [&str; 3] =
        ["--media-server-image=a/media:1", "--coturn-image=b/coturn:2", "--minio-image=c/minio:3"];

    fn parse(more: &[&str]) -> Result<Args, String> {
        Args::try_parse_from(["operator"].iter().chain(&IMAGES).chain(more)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Invocation::command().debug_assert();
    }

    #[test]
    fn images_are_enough() {
        let args = parse(&[]).unwrap();
        assert!(args.scope.namespaces().is_empty(), "all namespaces");
        assert_eq!(args.scope.concurrency.get(), 4);
        assert_eq!(args.scope.rotate_secrets_after, Rotation(Some(Duration::from_secs(30 * 24 * 3600))));
        assert_eq!(args.runtime.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(args.images.image_pull_policy.as_str(), "IfNotPresent");
        assert!(!args.election.leader_elect, "one operator needs no election");
    }

    #[test]
    fn without_an_image_the_flag_is_named() {
        let text = Args::try_parse_from(["operator"]).unwrap_err().to_string();
        for flag in ["--media-server-image", "--coturn-image", "--minio-image"] {
            assert!(text.contains(flag), "{text}");
        }
    }

    #[test]
    fn namespaces_repeat_take_commas_and_count_once() {
        let args = parse(&["--watch-namespace", "b,a", "--watch-namespace", "a"]).unwrap();
        assert_eq!(args.scope.namespaces(), ["a", "b"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_flag_and_what_is_right() {
        for (flag, value, remedy) in [
            ("--media-server-image", "with space", "registry.example.com"),
            ("--media-server-image", "", "registry.example.com"),
            ("--watch-namespace", "Cameras", "a-z"),
            ("--watch-namespace", "-x", "at either end"),
            ("--operator-namespace", "a.b", "a-z"),
            ("--image-pull-secret", "a..b", "at most 253"),
            ("--rotate-secrets-after", "59m", "at least 1h"),
            ("--rotate-secrets-after", "monthly", "30d"),
            ("--lease-name", "Operator", "at most 253"),
            ("--concurrency", "0", "from 1"),
            ("--concurrency", "-3", "from 1"),
            ("--listen", ":8080", "0.0.0.0:8080"),
            ("--listen", "localhost:80", "127.0.0.1:8080"),
            ("--image-pull-policy", "sometimes", "IfNotPresent"),
            ("--log-format", "xml", "json"),
        ] {
            let argument = format!("{flag}={value}");
            let others = IMAGES.iter().copied().filter(|image| !image.starts_with(flag));
            let arguments = ["operator"].into_iter().chain(others).chain([argument.as_str()]);
            let text = Args::try_parse_from(arguments).unwrap_err().to_string();
            assert!(text.contains(flag) && text.contains(remedy), "{argument}: {text}");
        }
    }

    #[test]
    fn rotation_by_age_can_be_switched_off() {
        for off in ["0", "0s"] {
            let args = parse(&["--rotate-secrets-after", off]).unwrap();
            assert_eq!(args.scope.rotate_secrets_after, Rotation(None), "{off}");
        }
    }

    #[test]
    fn an_election_has_a_lease_of_a_known_name() {
        let args = parse(&["--leader-elect"]).unwrap();
        assert!(args.election.leader_elect);
        assert_eq!(args.election.lease_name, "streamsession-operator");
        assert_eq!(parse(&["--lease-name=cams"]).unwrap().election.lease_name, "cams");
    }

    #[test]
    fn release_is_another_command_that_needs_no_image() {
        let parse = |more: &[&str]| Invocation::try_parse_from(["operator"].iter().chain(more));
        let Ok(Invocation::Release(args)) = parse(&["release", "--watch-namespace=b,a,b", "--deadline=90s"]) else {
            panic!("it is taken for something else");
        };
        assert_eq!(
            (args.namespaces(), args.deadline),
            (vec!["a".to_owned(), "b".to_owned()], Deadline(Duration::from_secs(90)))
        );
        assert!(!args.delete_sessions, "only if told so");
        for (flag, remedy) in [("--deadline=0", "5m"), ("--deadline=soon", "5m"), ("--deployment=A", "at most 253")] {
            let text = parse(&["release", flag]).unwrap_err().to_string();
            assert!(text.contains(remedy), "{flag}: {text}");
        }
        assert!(parse(&["--media-server-image=a:1", "release"]).is_err(), "flags of the operator do not belong to it");
        assert!(parse(&[]).unwrap_err().to_string().contains("--media-server-image"), "without it, all is as before");
        assert!(matches!(parse(&IMAGES), Ok(Invocation::Run(_))));
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let commands = [Args::command(), ReleaseArgs::command()];
        let arguments = commands.iter().flat_map(|command| command.get_arguments());
        for argument in arguments.filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
            let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(variable.starts_with("STREAMSESSION_"), "{}: {variable:?}", argument.get_id());
        }
    }
}
