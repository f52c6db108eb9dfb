//! The fuzz bodies on their seeds and on damaged copies of them, so that they compile and hold wherever the tests run.

#![allow(unreachable_pub, missing_docs, reason = "the same files are a library under media-server/fuzz")]

#[path = "../../fuzz/src/recorder.rs"]
mod bodies;
#[path = "../../fuzz/src/mutate.rs"]
mod mutate;

#[test]
fn whatever_the_packets_are_the_recording_can_be_finalised() {
    for body in [bodies::h264, bodies::vp8, bodies::vp9, bodies::av1, bodies::opus] {
        mutate::run(body, &bodies::codec_seeds(), 300);
    }
}

#[test]
fn a_damaged_folder_is_finalised_or_refused() {
    mutate::run(bodies::repair, &bodies::repair_seeds(), 300);
}
