//! What can be wrong with a store, in a word and with the remedy.
//!
//! Codes are those of the S3 API's error responses, besides MinIO's own (`XMinio…`). A HEAD has no body: its status alone
//! tells.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::fmt;
use std::path::Path;

/// Why the store did not do what it was asked. Its text says what is wrong and what to do; no secret stands in it.
#[derive(Debug, thiserror::Error)]
#[error("{said}: {}", reason.remedy())]
pub struct ObjectsError {
    reason: Reason,
    said: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What is wrong, in a word. Shown in CamelCase, as Kubernetes conditions have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There are no keys to sign with.
    CredentialsMissing,
    /// The keys are not known, the signature does not fit, or the keys may not do this.
    AccessDenied,
    /// The clocks are too far apart for a signature to hold.
    ClockSkewed,
    /// The bucket does not exist.
    NoSuchBucket,
    /// The store is of another region.
    WrongRegion,
    /// The object does not exist.
    NotFound,
    /// No connection: name, network, TLS, or nobody listens.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// It asks for fewer requests.
    SlowDown,
    /// It has no space, or the quota is used up.
    Full,
    /// What arrived is not what was sent.
    ChecksumMismatch,
    /// It failed, or answered what is no answer.
    Failed,
    /// It refuses for another reason.
    Refused,
    /// The file that was to be sent cannot be read here.
    FileUnreadable,
    /// Another store than the present one holds it.
    InAnotherStore,
    /// The prefix is another server's.
    OwnedByAnother,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 16] = [
        Reason::CredentialsMissing,
        Reason::AccessDenied,
        Reason::ClockSkewed,
        Reason::NoSuchBucket,
        Reason::WrongRegion,
        Reason::NotFound,
        Reason::Unreachable,
        Reason::TimedOut,
        Reason::SlowDown,
        Reason::Full,
        Reason::ChecksumMismatch,
        Reason::Failed,
        Reason::Refused,
        Reason::FileUnreadable,
        Reason::InAnotherStore,
        Reason::OwnedByAnother,
    ];

    /// In CamelCase.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::CredentialsMissing => "CredentialsMissing",
            Reason::AccessDenied => "AccessDenied",
            Reason::ClockSkewed => "ClockSkewed",
            Reason::NoSuchBucket => "NoSuchBucket",
            Reason::WrongRegion => "WrongRegion",
            Reason::NotFound => "NotFound",
            Reason::Unreachable => "Unreachable",
            Reason::TimedOut => "TimedOut",
            Reason::SlowDown => "SlowDown",
            Reason::Full => "Full",
            Reason::ChecksumMismatch => "ChecksumMismatch",
            Reason::Failed => "Failed",
            Reason::Refused => "Refused",
            Reason::FileUnreadable => "FileUnreadable",
            Reason::InAnotherStore => "InAnotherStore",
            Reason::OwnedByAnother => "OwnedByAnother",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Reason::CredentialsMissing => "give it accessKeyId and secretAccessKey, in the Secret or the environment",
            Reason::AccessDenied => {
                "put valid keys into the Secret (accessKeyId, secretAccessKey), and allow them to list, read, write and delete in the bucket"
            }
            Reason::ClockSkewed => "set the clock of this machine or of the store right",
            Reason::NoSuchBucket => "make the bucket, or name one that exists",
            Reason::WrongRegion => "name the store's region",
            Reason::NotFound => "it may have been deleted",
            Reason::Unreachable => {
                "check the endpoint, the network to it (proxies, too) and the authorities of its certificate (caBundle, --store-ca-file)"
            }
            Reason::TimedOut => "check the network to the store and its load",
            Reason::SlowDown => "it is tried again more slowly",
            Reason::Full => "free space in the store, or raise its quota",
            Reason::ChecksumMismatch => "it is sent again; look at the network and the store's disks",
            Reason::Failed => "look at the store's log",
            Reason::Refused => "check endpoint, bucket, region and pathStyle",
            Reason::FileUnreadable => "look at the disk",
            Reason::InAnotherStore => {
                "copy its objects into the present store below the same keys, or configure that store again"
            }
            Reason::OwnedByAnother => {
                "set another prefix (spec.storage.external.prefix), or, if that server no longer exists, take the prefix over with `media-server recordings take-over OWNER`"
            }
        }
    }

    /// A moment later it may work without anybody doing anything.
    pub fn is_transient(self) -> bool {
        use Reason::{ChecksumMismatch, Failed, SlowDown, TimedOut, Unreachable};
        matches!(self, ChecksumMismatch | Failed | SlowDown | TimedOut | Unreachable)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ObjectsError {
    /// What is wrong.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub(crate) fn new(reason: Reason, said: impl Into<String>) -> ObjectsError {
        ObjectsError { reason, said: said.into(), source: None }
    }

    /// Adds the method and URL of the request to the message.
    pub(super) fn requested(mut self, url: Option<String>) -> ObjectsError {
        if let Some(url) = url {
            self.said = format!("{} [{url}]", self.said);
        }
        tracing::debug!(reason = %self.reason, said = self.said, "request to the store failed");
        self
    }

    pub(super) fn timed_out(place: &Place) -> ObjectsError {
        ObjectsError::new(Reason::TimedOut, format!("{place} did not answer in time"))
    }

    pub(crate) fn unreadable(path: &Path, source: impl Error + Send + Sync + 'static) -> ObjectsError {
        let said = format!("cannot read {}: {source}", path.display());
        ObjectsError { reason: Reason::FileUnreadable, said, source: Some(Box::new(source)) }
    }

    /// From what the client gave. `on_404`: what is not there, when the answer does not say.
    pub(super) fn from_sdk<E>(place: &Place, error: SdkError<E, HttpResponse>, on_404: Reason) -> ObjectsError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let (reason, said) = match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let code = service.err().code().unwrap_or_default();
                let reason = judge(status, code, on_404);
                (reason, refused(place, reason, status, code, service.err().message()))
            }
            SdkError::TimeoutError(_) => (Reason::TimedOut, format!("{place} did not answer in time")),
            other => match cause::<CredentialsError>(other) {
                Some(error) => {
                    let why = innermost(error);
                    (Reason::CredentialsMissing, format!("there are no keys for {place} ({why})"))
                }
                None => {
                    let timed_out = matches!(other, SdkError::DispatchFailure(failure) if failure.is_timeout());
                    let failed = matches!(other, SdkError::ResponseError(_));
                    let why = innermost(other);
                    match (timed_out, failed) {
                        (true, _) => (Reason::TimedOut, format!("{place} did not answer in time")),
                        (_, true) => (Reason::Failed, format!("{place} gave an answer that cannot be read ({why})")),
                        _ => (Reason::Unreachable, format!("{place} cannot be reached ({why})")),
                    }
                }
            },
        };
        ObjectsError { reason, said, source: Some(Box::new(error)) }
    }
}

/// Which store and bucket, for people.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) endpoint: String,
    pub(super) bucket: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store at {}", self.endpoint)
    }
}

fn judge(status: u16, code: &str, on_404: Reason) -> Reason {
    match (code, status) {
        ("NoSuchBucket", _) => Reason::NoSuchBucket,
        ("NoSuchKey" | "NotFound", 404) => on_404,
        // Not all stores say that with 403.
        ("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken", _)
        | ("InvalidToken" | "NoSuchUser" | "XAdminUserNotFound", _) => Reason::AccessDenied,
        ("RequestTimeTooSkewed" | "RequestExpired", _) => Reason::ClockSkewed,
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _) => {
            Reason::WrongRegion
        }
        ("BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody", _) => {
            Reason::ChecksumMismatch
        }
        ("SlowDown" | "SlowDownRead" | "SlowDownWrite" | "TooManyRequests" | "ServiceUnavailable", _) => {
            Reason::SlowDown
        }
        ("RequestTimeout", _) => Reason::TimedOut,
        ("XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded" | "EntityTooLarge", _) => {
            Reason::Full
        }
        ("NotImplemented", _) | (_, 501) => Reason::Refused,
        (_, 507) => Reason::Full,
        (_, 301 | 307) => Reason::WrongRegion,
        (_, 401 | 403) => Reason::AccessDenied,
        (_, 404) => on_404,
        (_, 408) => Reason::TimedOut,
        (_, 429 | 503) => Reason::SlowDown,
        (_, 500..) => Reason::Failed,
        _ => Reason::Refused,
    }
}

/// What the store said, in a sentence without its end.
fn refused(place: &Place, reason: Reason, status: u16, code: &str, message: Option<&str>) -> String {
    let said = match (code, message) {
        ("", _) => format!("HTTP {status}"),
        (code, Some(message)) if !message.is_empty() => format!("{code}: {}", message.trim_end_matches('.')),
        (code, _) => code.to_owned(),
    };
    let bucket = &place.bucket;
    match reason {
        Reason::NoSuchBucket => format!("{place} has no bucket {bucket:?} ({said})"),
        Reason::AccessDenied => format!("{place} denies access to the bucket {bucket:?} ({said})"),
        Reason::SlowDown => format!("{place} asks for fewer requests ({said})"),
        Reason::Full => format!("{place} is full ({said})"),
        Reason::Failed => format!("{place} failed ({said})"),
        _ => format!("{place} refused ({said})"),
    }
}

/// The first error of this type in the chain.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The end of the chain says what happened; what is above says only that something did.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (status, code, expected) in [
            (403, "InvalidAccessKeyId", Reason::AccessDenied),
            (403, "SignatureDoesNotMatch", Reason::AccessDenied),
            (403, "RequestTimeTooSkewed", Reason::ClockSkewed),
            (404, "XAdminUserNotFound", Reason::AccessDenied),
            (404, "NoSuchBucket", Reason::NoSuchBucket),
            (404, "NoSuchKey", Reason::NotFound),
            (404, "", Reason::NotFound),
            (400, "AuthorizationHeaderMalformed", Reason::WrongRegion),
            (400, "XAmzContentSHA256Mismatch", Reason::ChecksumMismatch),
            (507, "XMinioStorageFull", Reason::Full),
            (503, "SlowDown", Reason::SlowDown),
            (503, "", Reason::SlowDown),
            (500, "InternalError", Reason::Failed),
            (400, "InvalidArgument", Reason::Refused),
        ] {
            assert_eq!(judge(status, code, Reason::NotFound), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_error_names_the_store_and_the_remedy() {
        let place = Place { endpoint: "http://s3:9000".into(), bucket: "recordings".into() };
        let said = refused(&place, Reason::NoSuchBucket, 404, "NoSuchBucket", Some("It is not there."));
        let error = ObjectsError::new(Reason::NoSuchBucket, said);
        assert_eq!(
            error.to_string(),
            "the store at http://s3:9000 has no bucket \"recordings\" (NoSuchBucket: It is not there): make the bucket, or name one that exists"
        );
        for reason in Reason::ALL {
            assert!(!reason.remedy().is_empty() && reason.as_str().chars().all(|c| c.is_ascii_alphabetic()));
        }
    }
}
