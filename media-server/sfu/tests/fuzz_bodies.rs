//! The fuzz bodies on their seeds and on damaged copies of them, so that they compile and hold wherever the tests run.

#![allow(unreachable_pub, missing_docs, reason = "the same files are a library under media-server/fuzz")]

#[path = "../../fuzz/src/sfu.rs"]
mod bodies;
#[path = "../../fuzz/src/mutate.rs"]
mod mutate;

#[test]
fn connectivity_checks_never_panic() {
    mutate::run(bodies::stun, &bodies::stun_seeds(), 5_000);
}

#[test]
fn offers_never_panic_and_every_answer_has_the_offers_sections() {
    mutate::run(bodies::sdp_offer, &bodies::sdp_offer_seeds(), 500);
}

#[test]
fn ice_fragments_never_panic() {
    mutate::run(bodies::ice_fragment, &bodies::ice_fragment_seeds(), 2_000);
}

#[test]
fn rtp_never_panics() {
    mutate::run(bodies::rtp, &bodies::rtp_seeds(), 5_000);
}

#[test]
fn rtcp_never_panics() {
    mutate::run(bodies::rtcp, &bodies::rtcp_seeds(), 5_000);
}

#[test]
fn a_shard_sends_nothing_to_an_address_without_an_authentic_check() {
    mutate::run(bodies::shard, &bodies::shard_seeds(), 500);
}
