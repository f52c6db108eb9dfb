//! From the ring to the wire: which packets leave together, and how one subscriber's copies are written and sealed.
//!
//! `plan` groups what a burst brought into runs of equal size, once for all subscribers; `outgoing` is one track of one
//! subscriber: where it stands in the ring and its sequence numbers; `retransmissions` and `catch_up` limit what it is sent beyond
//! the live stream; `slab` is the buffer that a whole
//! batch is sealed into.

mod budget;
pub mod catch_up;
pub mod outgoing;
pub(crate) mod pacing;
pub mod plan;
mod retransmissions;
pub mod slab;
#[cfg(test)]
mod tests;
