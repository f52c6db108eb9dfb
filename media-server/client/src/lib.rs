//! A headless camera and a headless viewer for WHIP and WHEP servers, on `webrtc`.
//!
//! [`camera`] plays encoded files into a room in real time, [`viewer`] counts what comes out of one, and [`probe`] does
//! both and returns a verdict. Nothing is encoded or decoded. Files are read and packetized by `ingest`;
//! its test clip is part of the program.

#![forbid(unsafe_code)]

mod call;
pub mod camera;
pub mod cli;
mod error;
mod outgoing;
mod peer;
pub mod playback;
pub mod probe;
mod rtp;
mod signal;
#[cfg(test)]
mod tests;
pub mod trouble;
pub mod viewer;

pub use error::Error;
pub use ingest::{Codec, MediaKind, demo, source};
pub use peer::{NotConnected, PeerError};
pub use signal::SignalError;
