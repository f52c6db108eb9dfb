//! Uploads' behaviour, on real files, with a store that a test breaks and mends.

pub(crate) mod bench;
mod change;
mod disk;
mod evict;
mod failures;
mod order;
mod owner;
mod removal;
mod whole;
