//! What the tests of whole recordings share: clips, a packetizer, a folder, and a clock that is only a number.

#![allow(dead_code, unreachable_pub)]

pub mod clips;
pub mod folder;
pub mod memory;
pub mod packetize;
pub mod player;
