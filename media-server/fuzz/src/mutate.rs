//! For the tests on stable: each seed, and the same damaged in ways that are the same each time.

/// Calls `body` with each seed, with each seed cut short, and `rounds` times with damaged copies.
pub fn run(body: fn(&[u8]), seeds: &[Vec<u8>], rounds: u32) {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |limit: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % limit.max(1) as u64) as usize
    };
    body(&[]);
    for seed in seeds {
        body(seed);
        for _ in 0..rounds {
            let mut bytes = seed.clone();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(5) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, below(256) as u8),
                    2 if !bytes.is_empty() => {
                        bytes.remove(at);
                    }
                    3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                    _ if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                    _ => {}
                }
            }
            body(&bytes);
        }
    }
}
