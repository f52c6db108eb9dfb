//! What can go wrong in the shell around the planner, and how it is told.
//!
//! An error names what was tried and what was said to it. Whatever a Secret holds is in no error: of calls that carry
//! one, only the API server's reason is kept.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Why the operator cannot start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Neither a service account nor a kubeconfig leads to an API server.
    #[error("no way to an API server: {0}; run it in a pod with a service account, or set KUBECONFIG")]
    NoCluster(String),
    /// The endpoints' address cannot be had.
    #[error("--listen {address}: {source}; is another process there?")]
    Listen {
        /// As it was given.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refuses what every process needs.
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
    /// What was asked for is done in the operator's own namespace.
    #[error(
        "{flag}: the operator's namespace is not known, since there is no service account to take it from; give --operator-namespace"
    )]
    NoNamespace {
        /// What needs it.
        flag: &'static str,
    },
    /// Another may lead from now on.
    #[error("leadership is lost: {0}; this process ends, and one that starts anew stands by")]
    LeadershipLost(String),
    /// The operator cannot be taken away yet; nothing that a session needs was taken from it.
    #[error("{0}")]
    NotReleased(String),
    /// A part that runs until the end has ended before.
    #[error("{0} has ended by itself; the log says more")]
    Ended(&'static str),
}

impl StartError {
    /// Whether other flags or another environment would help, and trying again would not.
    pub fn is_configuration(&self) -> bool {
        matches!(self, StartError::NoCluster(_) | StartError::Listen { .. } | StartError::NoNamespace { .. })
    }
}

/// Why a pass over a session did not come to its end. It is tried again after a back-off.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Some of what the plan says could not be done; the rest was.
    #[error("{}", Joined(.0))]
    Incomplete(Vec<ApiError>),
    /// The system gives no random bytes, so no secret can be made.
    #[error("the system gives no random bytes, so no secret can be made")]
    NoRandomness,
    /// All of it took too long.
    #[error("not done within {} s; the API server may be slow, or unreachable from here", .0.as_secs())]
    Timeout(Duration),
}

/// A call to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ApiError {
    /// What was tried: `apply Service front-door`.
    pub what: String,
    /// What was said to it, with a remedy where there is one.
    pub why: String,
    /// The HTTP status, 0 when there was no answer.
    pub code: u16,
}

impl ApiError {
    /// From kube's error.
    pub fn new(what: impl Into<String>, error: &kube::Error) -> ApiError {
        ApiError { what: what.into(), why: explain(error), code: code(error) }
    }

    /// From the error of a call whose body or answer holds a Secret: what could quote it is left out.
    pub fn without_words(what: impl Into<String>, error: &kube::Error) -> ApiError {
        let why = match error {
            kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
            kube::Error::SerdeError(_) => "the answer cannot be read".to_owned(),
            other => explain(other),
        };
        ApiError { what: what.into(), why, code: code(error) }
    }

    /// Whether trying the same again cannot help before somebody changes something: refused by its content, or by rights.
    pub fn is_lasting(&self) -> bool {
        matches!(self.code, 400 | 403 | 405 | 413 | 415 | 422)
    }
}

/// The HTTP status of an answer, 0 when there was none.
pub fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// In one line, without the doubling of kube's own form; with a remedy where the cause is known.
pub fn explain(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return chain(error);
    };
    let message = if status.message.is_empty() { &status.reason } else { &status.message };
    match status.code {
        403 => format!(
            "{message}; the operator's role lacks this (docs/rbac.md), or a quota or policy of the namespace forbids it"
        ),
        _ => message.clone(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// In one line, what led to a watch's error.
pub fn explain_watch(error: &kube::runtime::watcher::Error) -> String {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => explain(error),
        Error::WatchError(status) => status.message.clone(),
        Error::NoResourceVersion => error.source().map_or_else(|| error.to_string(), chain),
    }
}

struct Joined<'a>(&'a [ApiError]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn a_refusal_is_told_once_with_its_remedy() {
        let error = ApiError::new("apply Service x", &refused(403, "Forbidden", "services \"x\" is forbidden"));
        let text = error.to_string();
        assert_eq!(text.matches("is forbidden").count(), 1, "{text}");
        assert!(text.starts_with("apply Service x: ") && text.contains("docs/rbac.md"), "{text}");
        assert!(error.is_lasting());
        assert!(!ApiError::new("x", &refused(503, "ServiceUnavailable", "")).is_lasting());
    }

    #[test]
    fn what_a_secret_holds_is_in_no_error() {
        let error =
            ApiError::without_words("create Secret x", &refused(422, "Invalid", "data: Invalid value: \"hunter2\""));
        assert_eq!(error.to_string(), "create Secret x: Invalid (422)");
        let parse = serde_json::from_str::<u8>("\"hunter2\"").unwrap_err();
        let error = ApiError::without_words("read Secret x", &kube::Error::SerdeError(parse));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn all_that_failed_is_told() {
        let one = |what: &str| ApiError { what: what.to_owned(), why: "no".to_owned(), code: 0 };
        assert_eq!(PassError::Incomplete(vec![one("a"), one("b")]).to_string(), "a: no; b: no");
    }
}
