//! From the ring to the wire: which packets leave together, and how one subscriber's copies are written and sealed.
//!
//! `plan` groups what a burst brought into runs of equal size, once for all subscribers; `outgoing` is one track of one
//! subscriber: where it stands in the ring, its sequence numbers, its retransmissions; `slab` is the buffer that a whole
//! batch is sealed into.

mod budget;
pub mod outgoing;
pub mod plan;
pub mod slab;
#[cfg(test)]
mod tests;
