//! The test clip that is part of the program: a turning hand and a soft arpeggio, eight seconds that join end to end.
//!
//! `assets/make` made both files.

use crate::source::Source;

/// H264 (Annex B, constrained baseline), 640x360, 30 frames a second, a keyframe every 2 s, 8 s.
pub const VIDEO: &[u8] = include_bytes!("../assets/demo.h264");

/// Opus in Ogg, mono, 48 kHz, 8 s.
pub const AUDIO: &[u8] = include_bytes!("../assets/demo.ogg");

/// Both, again and again.
pub fn source() -> Source {
    Source::embedded(VIDEO, AUDIO).expect("the clip that is part of the program can be played").repeated()
}
