//! The `StreamSession` resource (`media.streamsession.io/v1alpha1`): its types, its rules, its YAML.
//!
//! The types are the source. The CustomResourceDefinition in crds/ is generated from them by [`crd()`], and the same
//! document is read without a cluster by [`from_yaml`]. What the API server refuses by CEL, [`StreamSession::validate`]
//! refuses as well, with the same words: both come from one table, `rules`.
//!
//! Fields take effect either live (the running server takes them over, no stream notices) or when the pod is replaced;
//! each field's documentation says which. What a field does is the server's and the operator's business, not this
//! crate's: nothing here opens a file or a connection.

#![forbid(unsafe_code)]

mod auth;
mod crd;
mod exposure;
mod http;
mod media;
mod network;
mod recording;
mod rules;
mod scalars;
mod session;
mod status;
mod storage;
mod turn;
mod yaml;

pub use auth::{Auth, AuthMode, Callback, Jwks};
pub use crd::{crd, crd_yaml};
pub use exposure::{Exposure, ExposureType, Ingress};
pub use http::Http;
pub use media::{Media, MediaCodec};
pub use network::{Network, ParseNetworkError};
pub use recording::{ReclaimPolicy, Recording, Retention};
pub use rules::Violation;
pub use scalars::{DurationString, KeepFree, ParseScalarError, Quantity};
pub use session::{
    Database, DatabaseMode, Drain, Limits, PodOverrides, SecretKeyRef, SecretRef, StreamSession, StreamSessionSpec,
    UpdatePolicy,
};
pub use status::{Endpoints, EnforcedLimits, LastCleanup, RecordingTotals, StreamSessionStatus, condition};
pub use storage::{CaBundle, ConfigMapKeyRef, ExternalStorage, Storage, StorageMode, WebIdentity};
pub use turn::{ExternalTurn, Turn, TurnMode};
pub use yaml::{Location, MAX_YAML_BYTES, YamlError, YamlProblem, from_yaml, locate};
