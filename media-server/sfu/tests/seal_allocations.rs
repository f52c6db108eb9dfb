//! Sealing is done once a packet and viewer: it must not touch the heap.

use allocation_counter::measure;
use sfu::transport::{Sealer, SrtpProfile};

#[test]
fn sealing_does_not_allocate() {
    for profile in [SrtpProfile::Aes256Gcm, SrtpProfile::Aes128Gcm, SrtpProfile::Aes128CmSha1] {
        let key = vec![1; profile.key_len()];
        let sealer = Sealer::new(profile, &key, &vec![2; profile.salt_len()]).unwrap();
        let (mut packet, mut sealed) = ([0; 1300], 0);
        let info = measure(|| {
            for index in 0..1000_u64 {
                packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                sealed += sealer.seal(&mut packet, 212 + index as usize, 12 + 4 * (index % 20) as usize, 7, index);
            }
        });
        assert_eq!(sealed, (212 * 1000) + 499_500 + 1000 * sealer.overhead());
        assert_eq!(info.count_total, 0, "{profile:?}");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}
