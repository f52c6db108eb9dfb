//! Packets on this side of the peer connection: counting them in, answering reports, and finding
//! complete frames again. Time is an argument throughout.

pub(crate) mod feedback;
pub(crate) mod frames;
pub(crate) mod loss;
pub(crate) mod reception;
