//! SDP offers, answers and ICE fragments: parsed, checked, answered.
//!
//! The answerer of WHIP (RFC 9725) and WHEP: ICE-lite, either DTLS role, one transport for all (BUNDLE), at most one
//! audio and one video. It never makes offers and never renegotiates. Sections that are no media for it are rejected by
//! port 0. Every refusal is an [`SdpError`] that names the thing and the remedy; no input panics.

mod answer;
mod codecs;
mod error;
mod fragment;
mod offer;
mod section;
mod simulcast;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub use answer::AnswerOptions;
pub use codecs::best_match;
pub use error::SdpError;
pub use fragment::IceFragment;
pub use offer::Offer;
pub use text::MAX_SDP_BYTES;
pub use write::CNAME;
