//! What the handlers share.

use super::media_token::MediaTokens;
use super::rate::RateLimiter;
use super::share::Shares;
use crate::auth::Authorizer;
use crate::config::Config;
use crate::control::Control;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::net::Snapshot;
use crate::session::Session;
use crate::status::StatusBoard;
use crate::store::Store;
use futures_util::future::BoxFuture;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most clients that listen on `/events` at once.
const MAX_LISTENERS: usize = 512;

/// Gives the media plane's newest numbers; a closure, so that tests need no sockets.
pub type SnapshotSource = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// One thing that must be well for the server to be ready.
#[derive(Clone)]
pub struct ReadyCheck {
    /// As `/readyz` names it: `registry`, `media`, `recordings`.
    pub name: &'static str,
    /// `Err` says what is wrong and what to do, for operators.
    pub check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

/// What an [`App`] is made of.
pub struct AppParts {
    /// The control plane.
    pub control: Control,
    /// What of the StreamSession is in force.
    pub session: Session,
    /// How all of it is ended in good order while the process goes on.
    pub drain: Drain,
    /// How the parts fare.
    pub status: StatusBoard,
    /// The registry.
    pub store: Store,
    /// Decides every request.
    pub authorizer: Authorizer,
    /// Signs media tokens.
    pub media_tokens: MediaTokens,
    /// As the process was started.
    pub config: Arc<Config>,
    /// The media plane's numbers.
    pub snapshot: SnapshotSource,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Asked by `/readyz`, in this order.
    pub ready: Vec<ReadyCheck>,
    /// Cancelled when the server has drained: event streams end, so that connections can close.
    pub shutdown: CancellationToken,
}

/// State of the router. A cheap handle.
#[derive(Clone)]
pub struct App(Arc<Inner>);

pub(super) struct Inner {
    parts: AppParts,
    pub(super) limiter: Option<RateLimiter>,
    pub(super) listeners: Arc<Semaphore>,
    pub(super) shares: Shares,
}

impl App {
    /// Joins the parts.
    pub fn new(parts: AppParts) -> App {
        let limiter = RateLimiter::new(parts.config.rate_limit);
        let listeners = Arc::new(Semaphore::new(MAX_LISTENERS));
        App(Arc::new(Inner { parts, limiter, listeners, shares: Shares::default() }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0.parts
    }
}
