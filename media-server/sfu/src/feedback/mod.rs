//! What receivers tell senders: reports, NACKs, keyframe requests and congestion feedback, made and read.
//!
//! `reception` and `arrivals` watch what a publisher sends us; `write` makes RTCP; `read` understands what subscribers and
//! publishers send.

pub mod arrivals;
pub mod read;
pub mod reception;
pub mod write;
