//! What of a StreamSession is in force now, and how it changes while streams run.
//!
//! The server starts with what its command line and its document say. From then on an operator may tell a newer spec,
//! the addresses at which the media port is reached, and the relay's URLs: [`Session::apply`]. All of it is checked before
//! anything is changed, and no change ends a session: caps hold for newcomers, addresses for new answers, segments for new
//! recordings. What a running process cannot change (ports, folders, the store) it does not look at: a new pod has it.

use crate::auth::Authorizer;
use crate::config::{
    Config, ConfigError, HttpSettings, TurnConfig, TurnCredentials, answers_of, check_spec, check_turn_urls,
    gop_cache_of, http_of, limits_of,
};
use crate::control::Control;
use crate::recording::RecordingPlane;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamsession_api::{Retention, StreamSessionSpec, Violation};
use tokio::sync::watch;

/// Most addresses that clients are told of.
const MAX_ANNOUNCED: usize = 16;
/// Most URLs of relays that clients are told of.
const MAX_TURN_URLS: usize = 16;

/// Why a change is refused. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The spec contradicts itself.
    #[error("{0}")]
    Violation(Violation),
    /// This version does not do that, or a URL is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address or a list that cannot be.
    #[error("{field} is {value:?}: {remedy}")]
    Value {
        /// The path in the change.
        field: String,
        /// As it was given.
        value: String,
        /// What would be right.
        remedy: &'static str,
    },
}

/// What an operator tells.
#[derive(Clone, Debug)]
pub struct Change {
    /// Of the StreamSession in the cluster.
    pub generation: i64,
    /// All of it.
    pub spec: StreamSessionSpec,
    /// Where the media port is reached, best first; `None`: as before.
    pub announced: Option<Vec<String>>,
    /// Where the relay is reached; `None`: as before.
    pub turn_urls: Option<Vec<String>>,
}

/// What is in force now. A cheap handle.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    control: Control,
    recording: Option<RecordingPlane>,
    authorizer: Authorizer,
    retention: watch::Sender<Retention>,
    state: Mutex<State>,
}

struct State {
    generation: i64,
    turn: Option<TurnConfig>,
    records: bool,
    drain_deadline: Duration,
    http: Arc<HttpSettings>,
}

impl Session {
    /// As the process was started.
    pub fn new(
        config: &Config,
        control: Control,
        recording: Option<RecordingPlane>,
        authorizer: Authorizer,
    ) -> Session {
        Session(Arc::new(Inner {
            control,
            recording,
            authorizer,
            retention: watch::Sender::new(config.recording.retention.clone()),
            state: Mutex::new(State {
                generation: 0,
                turn: config.turn.clone(),
                records: config.recording.enabled,
                drain_deadline: config.drain_deadline,
                http: Arc::new(config.http_settings.clone()),
            }),
        }))
    }

    /// Puts a change in force, whole or not at all.
    pub fn apply(&self, change: Change) -> Result<(), SessionError> {
        let Change { generation, spec, announced, turn_urls } = change;
        if let Some(violation) = spec.validate().into_iter().next() {
            return Err(SessionError::Violation(violation));
        }
        check_spec(&spec)?;
        let announced = announced.map(|addresses| parse_announced(&addresses)).transpose()?;
        if let Some(urls) = turn_urls.as_ref().filter(|urls| !urls.is_empty()) {
            check_turn_urls("turnUrls", urls)?;
            at_most("turnUrls", urls.len(), MAX_TURN_URLS)?;
        }
        let inner = &self.0;
        // Held to the end, so that of two changes the later one is in force whole.
        let mut state = self.state();
        inner.control.set_limits(limits_of(&spec.limits));
        inner.control.set_answers(answers_of(&spec.media));
        inner.control.set_gop_cache(gop_cache_of(&spec.media));
        inner.control.set_idle_timeout(spec.recording.idle_timeout.as_duration());
        inner.control.set_recording(spec.recording.enabled);
        if let Some(recording) = &inner.recording {
            recording.set_segment_duration(spec.recording.segment_duration.as_duration());
            recording.set_max_duration(spec.recording.max_duration.as_duration());
        }
        if let Some(addresses) = announced {
            inner.control.set_announced(addresses);
        }
        inner.authorizer.set_claims(spec.auth.issuer.as_deref(), spec.auth.audience.as_deref());
        inner.retention.send_if_modified(|now| {
            let changed = *now != spec.recording.retention;
            now.clone_from(&spec.recording.retention);
            changed
        });
        state.records = spec.recording.enabled;
        state.drain_deadline = spec.drain.deadline.as_duration();
        state.http = Arc::new(http_of(&spec.http));
        tell_relay(&mut state.turn, turn_urls, spec.turn.credential_ttl.as_duration());
        if state.generation != generation {
            tracing::info!(generation, "a newer spec is in force");
        }
        state.generation = generation;
        metrics::gauge!("media_server_session_generation").set(generation as f64);
        Ok(())
    }

    /// The generation that was applied last; 0 before.
    pub fn generation(&self) -> i64 {
        self.state().generation
    }

    /// The relays that clients are told of.
    pub fn turn(&self) -> Option<TurnConfig> {
        self.state().turn.clone()
    }

    /// Whether streams that begin now are recorded.
    pub fn records(&self) -> bool {
        self.state().records
    }

    /// How long draining may take.
    pub fn drain_deadline(&self) -> Duration {
        self.state().drain_deadline
    }

    /// Returns the origins, proxies and base path in force.
    pub fn http(&self) -> Arc<HttpSettings> {
        self.state().http.clone()
    }

    /// What is deleted by itself, now and whenever it changes.
    pub fn retention(&self) -> watch::Receiver<Retention> {
        self.0.retention.subscribe()
    }

    /// Bytes of recordings under way.
    pub fn bytes_under_way(&self) -> u64 {
        self.0.recording.as_ref().map_or(0, RecordingPlane::bytes_under_way)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Fields that fit each other are set one after the other, by code that does not panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_relay(turn: &mut Option<TurnConfig>, urls: Option<Vec<String>>, lifetime: Duration) {
    if let Some(TurnConfig { credentials: TurnCredentials::Shared { ttl, .. }, .. }) = turn {
        *ttl = lifetime;
    }
    match (urls, turn) {
        (None, _) => {}
        (Some(urls), Some(turn)) => turn.urls = urls,
        (Some(urls), none) => *none = Some(TurnConfig { urls, credentials: TurnCredentials::None }),
    }
}

fn parse_announced(addresses: &[String]) -> Result<Vec<SocketAddr>, SessionError> {
    at_most("announced", addresses.len(), MAX_ANNOUNCED)?;
    let parse = |(index, text): (usize, &String)| match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(address),
        _ => Err(SessionError::Value {
            field: format!("announced[{index}]"),
            value: text.clone(),
            remedy: "write an IP address with its port, such as 203.0.113.7:31189 or [2001:db8::7]:31189",
        }),
    };
    addresses.iter().enumerate().map(parse).collect()
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), SessionError> {
    if count <= most {
        return Ok(());
    }
    let remedy = "write at most 16: clients try them all, one after the other";
    Err(SessionError::Value { field: field.to_owned(), value: format!("{count} entries"), remedy })
}
