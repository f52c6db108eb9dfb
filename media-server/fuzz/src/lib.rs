//! The bodies of the fuzz targets, and inputs to begin with.
//!
//! A body takes any bytes and panics only on a defect. They use nothing but what the crates make public, and `sfu` and
//! `recorder` compile the same files as tests (tests/fuzz_bodies.rs), so they cannot rot.

pub mod mutate;
pub mod recorder;
pub mod sfu;

/// Any bytes in; a panic is a defect.
pub type Body = fn(&[u8]);
/// Inputs that get past the first checks.
pub type Seeds = fn() -> Vec<Vec<u8>>;
