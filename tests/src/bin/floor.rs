//! The least that a server could do: seals and sends the synthetic camera's packets to the sockets that are named, as
//! few system calls as the kernel allows, and nothing else. It takes nothing in and keeps no account.
//!
//! It runs until it is killed.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::error::Error;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::time::{Duration, Instant};
use streamsession_tests::stream::{Burst, Stream};
use streamsession_tests::sys::Runs;

const HEADER: usize = 12;
const TAG: usize = 16;
/// Made before it begins, then repeated.
const PREPARED: Duration = Duration::from_secs(10);
/// Sealed before it is sent: stays in a core's cache.
const SLAB: usize = 256 * 1024;
/// Runs of one call.
const RUNS: usize = 256;

struct Viewer {
    to: SocketAddrV4,
    key: LessSafeKey,
    ssrc: u32,
    index: u64,
}

/// Payloads that leave as one run: all but the last are equally long.
struct Run {
    payloads: Vec<Vec<u8>>,
    timestamp: u32,
}

fn runs(burst: Burst) -> Vec<Run> {
    let timestamp = burst.timestamp;
    // A keyframe's parameter sets are short and come first, so they leave alone.
    let (alone, mut rest) = burst.payloads.into_iter().partition::<Vec<_>, _>(|payload| payload.len() < 100);
    let longest = rest.iter().map(Vec::len).max().unwrap_or(0);
    rest.iter_mut().for_each(|payload| payload.resize(longest, 0));
    [alone, rest].into_iter().filter(|run| !run.is_empty()).map(|payloads| Run { payloads, timestamp }).collect()
}

fn seal(viewer: &mut Viewer, run: &Run, slab: &mut [u8]) -> usize {
    let mut at = 0;
    for payload in &run.payloads {
        let (header, rest) = slab[at..].split_at_mut(HEADER);
        header[..2].copy_from_slice(&[0x80, 102]);
        header[2..4].copy_from_slice(&(viewer.index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&run.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&viewer.ssrc.to_be_bytes());
        rest[..payload.len()].copy_from_slice(payload);
        let mut nonce = [7; 12];
        nonce[4..].copy_from_slice(&viewer.index.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (plain, tag) = rest.split_at_mut(payload.len());
        if let Ok(value) = viewer.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), plain) {
            tag[..TAG].copy_from_slice(value.as_ref());
        }
        viewer.index += 1;
        at += HEADER + payload.len() + TAG;
    }
    at
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut viewers = Vec::new();
    for (n, to) in std::env::args().skip(1).enumerate() {
        let key = UnboundKey::new(&AES_256_GCM, &[n as u8; 32]).map_err(|_| "no key")?;
        viewers.push(Viewer { to: to.parse()?, key: LessSafeKey::new(key), ssrc: n as u32, index: 0 });
    }
    let prepared: Vec<(Duration, Vec<Run>)> =
        Stream::default().take_while(|burst| burst.at < PREPARED).map(|burst| (burst.at, runs(burst))).collect();
    let mut sender = Runs::new(RUNS)?;
    let mut slab = vec![0; SLAB];
    let mut sealed: Vec<(SocketAddrV4, Range<usize>, Option<u16>)> = Vec::with_capacity(RUNS);
    let start = Instant::now();
    for round in 0.. {
        for (at, runs) in &prepared {
            std::thread::sleep((start + PREPARED * round + *at).saturating_duration_since(Instant::now()));
            let mut used = 0;
            for viewer in &mut viewers {
                for run in runs {
                    let size = HEADER + run.payloads[0].len() + TAG;
                    if SLAB - used < size * run.payloads.len() || sealed.len() == RUNS {
                        send(&mut sender, &slab, &mut sealed)?;
                        used = 0;
                    }
                    let len = seal(viewer, run, &mut slab[used..]);
                    let segment = (run.payloads.len() > 1).then_some(size as u16);
                    sealed.push((viewer.to, used..used + len, segment));
                    used += len;
                }
            }
            send(&mut sender, &slab, &mut sealed)?;
        }
    }
    Ok(())
}

fn send(
    sender: &mut Runs,
    slab: &[u8],
    sealed: &mut Vec<(SocketAddrV4, Range<usize>, Option<u16>)>,
) -> std::io::Result<()> {
    let runs: Vec<_> = sealed.iter().map(|(to, range, segment)| (*to, &slab[range.clone()], *segment)).collect();
    let mut rest = &runs[..];
    while !rest.is_empty() {
        let sent = sender.send(rest)?;
        rest = &rest[sent..];
    }
    sealed.clear();
    Ok(())
}
