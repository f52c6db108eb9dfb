//! From the ring to the wire: which packets leave together, and how one subscriber's copies are written and sealed.
//!
//! `plan` groups what a burst brought into runs of equal size, once for all subscribers; `outgoing` is one track of one
//! subscriber: its position in the ring and its sequence numbers; `retransmissions` and `catch_up` limit the packets
//! beyond the live stream; `slab` is the buffer that a batch is sealed into.

mod budget;
pub mod catch_up;
pub mod outgoing;
pub(crate) mod pacing;
pub mod plan;
mod retransmissions;
pub mod slab;
#[cfg(test)]
mod tests;
