//! The fan-out runs once a packet and viewer: in the steady state it must not touch the heap.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fanout;

use allocation_counter::measure;
use fanout::{FRAME, Fanout};
use sfu::transport::SrtpProfile;

#[test]
fn fanout_does_not_allocate() {
    for profile in [SrtpProfile::Aes256Gcm, SrtpProfile::Aes128Gcm, SrtpProfile::Aes128CmSha1] {
        let mut fanout = Fanout::new(profile, 5);
        // Many groups of pictures, and more than a measuring span of the ring.
        let mut packets = 0;
        let info = measure(|| packets = (0..1000).map(|_| fanout.frame()).sum());
        assert_eq!(packets, 1000 * 5 * FRAME);
        assert_eq!(info.count_total, 0, "{profile:?}: {info:?}");
    }
}
