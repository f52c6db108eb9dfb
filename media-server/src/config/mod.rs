//! What the server runs with: command line, environment and StreamSession document merged and checked, once, at start.
//!
//! The environment overrides the document, the command line names what the document does not (addresses, folders).
//! [`resolve`] is pure: it reads no file, no variable and no clock. Each error names the field, its value and what
//! would be right. What only a cluster can do is refused by name instead of being passed over in silence.

mod answers;
mod document;
mod environment;
mod error;
mod http;
mod resolve;
mod store;

pub use document::SessionDocument;
pub use environment::Environment;
pub use error::ConfigError;
pub use http::HttpSettings;
pub use resolve::{DEFAULT_DATA_DIR, resolve};
pub use store::{Proxies, StoreConfig, StoreFiles, store_of};

pub(crate) use answers::{answers_of, gop_cache_of};
pub(crate) use environment::check_ice_urls as check_turn_urls;
pub(crate) use http::http_of;
pub(crate) use resolve::{limits_of, refuse_unsupported as check_spec};
pub(crate) use store::region_of;

use crate::args::{Announce, LogFormat, ServeArgs};
use crate::auth::{AdminTokens, AuthPlan, Secret};
use crate::control::Limits;
use sfu::sdp::AnswerOptions;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamsession_api::{Retention, TurnMode};

/// Everything the server was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where the management routes listen; `None`: on `http`.
    pub management: Option<SocketAddr>,
    /// File with the bearer token for `/admin`; `None`: tokens with the scope admin do.
    pub admin_token_file: Option<PathBuf>,
    /// Where media listens.
    pub udp: UdpConfig,
    /// `None`: `MEDIA_MODE` names another mode, so the control API runs without media.
    pub media: MediaMode,
    /// Threads that carry media; `None` means half of the cores, at least one.
    pub shards: Option<NonZeroUsize>,
    /// The StreamSession document, for what is printed.
    pub session: Option<PathBuf>,
    /// Holds the registry; and the recordings, unless they have a folder of their own. Made when it is not there.
    pub data_dir: PathBuf,
    /// Holds the recordings. Made when it is not there.
    pub recordings_dir: PathBuf,
    /// Caps to begin with.
    pub limits: Limits,
    /// How offers are answered, at the start.
    pub answers: AnswerOptions,
    /// Bytes of video that each room keeps at most, at the start.
    pub gop_cache: usize,
    /// What is recorded and how, to begin with.
    pub recording: RecordingConfig,
    /// The object store that recordings go to; `None`: they stay in `recordings_dir`.
    pub store: Option<StoreConfig>,
    /// How long a stream outlives its camera.
    pub idle_timeout: Duration,
    /// TURN and STUN servers that clients are told of; `None` when there are none.
    pub turn: Option<TurnConfig>,
    /// Where the relay is: in this pod, elsewhere, or nowhere.
    pub turn_mode: TurnMode,
    /// How requests are authenticated.
    pub auth: AuthPlan,
    /// Requests may name any host. Not so for an open server on a loopback address, unless its session says that open is
    /// meant: see `http::layers`.
    pub any_host: bool,
    /// Origins, proxies and base path, at the start.
    pub http_settings: HttpSettings,
    /// How long draining may take.
    pub drain_deadline: Duration,
    /// Changing requests a second from one address; 0 is no limit.
    pub rate_limit: u32,
    /// Play the test picture into the room `demo`.
    pub demo: bool,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Things that were said and have no effect here, for the log at start.
    pub notes: Vec<String>,
}

/// Where media listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// `None`: all addresses, of IPv6 and IPv4 where the machine has both.
    pub address: Option<IpAddr>,
    /// The one port of all media.
    pub port: u16,
    /// Announced in place of this machine's own addresses.
    pub announce: Vec<Announce>,
    /// This pod's own address, announced last: relays and peers in the cluster reach it.
    pub pod_ip: Option<IpAddr>,
}

/// What `MEDIA_MODE` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaMode {
    /// `single_server_sfu`, the default: this process carries the media.
    SingleServerSfu,
    /// Any other mode: the control API runs, and WHIP and WHEP answer 503.
    ControlOnly(String),
}

/// What is recorded and how.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingConfig {
    /// Streams are recorded.
    pub enabled: bool,
    /// A segment is cut at the first keyframe after this time.
    pub segment_duration: Duration,
    /// After this time a recording ends and the stream's next one begins.
    pub max_duration: Duration,
    /// After this time without media a recording is finalised.
    pub idle_timeout: Duration,
    /// What is deleted by itself.
    pub retention: Retention,
}

/// TURN and STUN servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnConfig {
    /// `turn:`, `turns:`, `stun:` or `stuns:` URLs (RFC 7065, RFC 7064). Empty until the operator tells the relay's.
    pub urls: Vec<String>,
    /// For the TURN ones.
    pub credentials: TurnCredentials,
}

/// What clients are given to use a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnCredentials {
    /// Nothing.
    None,
    /// User name and credential, the same for all.
    Fixed(String, Secret),
    /// Time-limited ones, made for each session from a secret that the relay knows too.
    Shared {
        /// Holds the file `secret`.
        dir: PathBuf,
        /// How long they are good.
        ttl: Duration,
    },
}

impl Config {
    /// True when this process carries media.
    pub fn carries_media(&self) -> bool {
        self.media == MediaMode::SingleServerSfu
    }
}

/// Reads the files that the arguments name, and resolves.
pub fn load(args: &ServeArgs, environment: &Environment) -> Result<Config, ConfigError> {
    let session = args.files.session.as_deref().map(SessionDocument::read).transpose()?;
    let secret = args.access.jwt_secret_file.as_deref().map(document::read_secret).transpose()?;
    let config = resolve(args, environment, secret, session.as_ref())?;
    if let Some(path) = &config.admin_token_file {
        // Read again where it is used; but what is wrong with it is said before anything is started.
        AdminTokens::read(path).map_err(ConfigError::from)?;
    }
    if let Some(path) = config.store.as_ref().and_then(|store| store.ca_file.as_deref()) {
        check_ca_file(path)?;
    }
    Ok(config)
}

/// Checks that a file has certificates. It is read again where it is used.
pub(crate) fn check_ca_file(path: &Path) -> Result<(), ConfigError> {
    crate::objects::read_authorities(path)
        .map(drop)
        .map_err(|error| ConfigError::value("--store-ca-file", path.display(), error.to_string()))
}
