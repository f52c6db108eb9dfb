//! What goes wrong with which request: a pure function of a seed and the request's number, so that a run can be repeated
//! as far as the operator asks in the same order.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Shares of requests, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Calls that are answered with a failure and not carried out.
    pub refused: f64,
    /// Calls that are carried out and answered with a failure.
    pub lost: f64,
    /// Watches with which something goes wrong.
    pub watches: f64,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { refused: 0.12, lost: 0.12, watches: 0.6 }
    }
}

impl Rates {
    /// Nothing goes wrong by itself.
    pub const NONE: Rates = Rates { refused: 0.0, lost: 0.0, watches: 0.0 };
}

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It passes.
    Passes,
    /// It is not carried out, and answered with this status.
    Refused(u16),
    /// It is carried out, and answered with this status all the same.
    Lost(u16),
}

/// What a watch meets, after so many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// It passes.
    Passes,
    /// No further byte comes; the connection stays.
    Freezes(u32),
    /// One event is left out. The watch ends with 410 when the storm is over, as that of a server that has lost its place.
    Drops(u32),
    /// It ends with 410 Gone in the stream.
    Gone(u32),
    /// The connection ends.
    Cut(u32),
}

/// Answers to reads that fail; a list may be told that its place is gone.
const READ: [u16; 4] = [410, 429, 500, 504];
/// Answers to writes that fail.
const WRITE: [u16; 5] = [409, 410, 429, 500, 504];
/// Most lines before something goes wrong with a watch: lists come first, so each of them is a change.
const LINES: u32 = 6;

fn random(seed: u64, request: u64) -> StdRng {
    // Neighbours of a seed shall share nothing.
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ request.wrapping_mul(0xd134_2543_de82_ef95))
}

/// What the `request`-th one meets, a call.
pub fn call(seed: u64, request: u64, writes: bool, rates: &Rates) -> Call {
    let mut random = random(seed, request);
    let (roll, which) = (random.random::<f64>(), random.random_range(0..usize::MAX));
    let code = if writes { WRITE[which % WRITE.len()] } else { READ[which % READ.len()] };
    if roll < rates.refused {
        Call::Refused(code)
    } else if roll < rates.refused + rates.lost {
        Call::Lost(code)
    } else {
        Call::Passes
    }
}

/// What the `request`-th one meets, a watch.
pub fn watch(seed: u64, request: u64, rates: &Rates) -> Watch {
    let mut random = random(seed, request);
    let (roll, lines) = (random.random::<f64>(), random.random_range(0..LINES));
    if roll >= rates.watches {
        return Watch::Passes;
    }
    match random.random_range(0..4) {
        0 => Watch::Freezes(lines),
        1 => Watch::Drops(lines),
        2 => Watch::Gone(lines),
        _ => Watch::Cut(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_another_one_is_another() {
        let of = |seed| (0..200).map(|n| call(seed, n, true, &Rates::default())).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let watches = |seed| (0..50).map(|n| watch(seed, n, &Rates::default())).collect::<Vec<_>>();
        assert_eq!(watches(7), watches(7));
        assert_ne!(watches(7), watches(8));
    }

    #[test]
    fn shares_are_as_asked_for() {
        let rates = Rates { refused: 0.2, lost: 0.1, watches: 0.5 };
        let all: Vec<Call> = (0..10_000).map(|n| call(1, n, false, &rates)).collect();
        let share = |of: fn(&Call) -> bool| all.iter().filter(|call| of(call)).count();
        assert!((1_800..2_200).contains(&share(|call| matches!(call, Call::Refused(_)))));
        assert!((850..1_150).contains(&share(|call| matches!(call, Call::Lost(_)))));
        assert!(!all.iter().any(|call| matches!(call, Call::Refused(409) | Call::Lost(409))), "reads do not conflict");
        let frozen = (0..10_000).filter(|n| matches!(watch(1, *n, &rates), Watch::Freezes(_))).count();
        assert!((1_050..1_450).contains(&frozen), "{frozen}");
        assert!((0..100).all(|n| call(1, n, true, &Rates::NONE) == Call::Passes));
    }
}
