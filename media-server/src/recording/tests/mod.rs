//! The recording plane's behaviour, on real files, with a tap that a test feeds.

pub(crate) mod bench;
mod disk;
mod repair;
mod streams;
