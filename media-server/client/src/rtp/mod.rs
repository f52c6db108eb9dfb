//! What happens to packets on this side of the peer connection: cutting frames into them, counting them in, and
//! finding whole frames again. Time is an argument throughout.

pub(crate) mod feedback;
pub(crate) mod frames;
pub(crate) mod loss;
pub(crate) mod reception;
pub(crate) mod writer;
