//! The fan-out step alone: what one video frame costs once it stands in the room's ring, up to the sealed runs for all
//! subscribers. The kernel's part is measured by tests/load.

#![allow(missing_docs, reason = "criterion_group! makes functions without")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails loudly and reports to whoever runs it")]

#[path = "../tests/fanout/mod.rs"]
mod fanout;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{FRAME, Fanout};
use sfu::transport::SrtpProfile;
use std::time::{Duration, Instant};

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    group.measurement_time(Duration::from_secs(3));
    for profile in [SrtpProfile::Aes128Gcm, SrtpProfile::Aes256Gcm, SrtpProfile::Aes128CmSha1] {
        for subscribers in [10, 100] {
            let mut fanout = Fanout::new(profile, subscribers);
            let packets = FRAME * subscribers;
            assert_eq!(fanout.frame(), packets);
            let info = allocation_counter::measure(|| {
                for _ in 0..100 {
                    fanout.frame();
                }
            });
            println!(
                "{profile:?}, {subscribers} subscribers: {} allocations in {} packets",
                info.count_total,
                100 * packets
            );
            assert_eq!(info.count_total, 0, "the fan-out allocates in the steady state");
            group.throughput(Throughput::Elements(packets as u64));
            group.bench_function(BenchmarkId::new(format!("{profile:?}"), subscribers), |bencher| {
                bencher.iter_custom(|rounds| {
                    // What stands before the fan-out, filling the ring, is not part of it.
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        fanout.receive();
                        let start = Instant::now();
                        fanout.send();
                        spent += start.elapsed();
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
