//! SDP offers, answers and ICE fragments: parsed, checked, answered.
//!
//! The answerer of WHIP (RFC 9725) and WHEP: ICE-lite, DTLS server, one transport for all (BUNDLE), at most one audio and
//! one video. It never makes offers, never renegotiates, never rejects an offer in part. Every refusal is an
//! [`SdpError`] that names the thing and the remedy; no input panics.

mod answer;
mod codecs;
mod error;
mod fragment;
mod offer;
#[cfg(test)]
mod tests;
mod text;

pub use answer::CNAME;
pub use codecs::best_match;
pub use error::SdpError;
pub use fragment::IceFragment;
pub use offer::Offer;
pub use text::MAX_SDP_BYTES;
