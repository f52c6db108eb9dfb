//! Parameter sets of one H264 source: those seen in band, and until then those of the offer.
//!
//! Bounds: 16 sets of each kind with at most 512 bytes each, the latest first; longer ones are not kept.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{PPS, SPS, ue, units};

/// Sets kept of each kind; more than any encoder uses.
const MAX_SETS: usize = 16;
/// Bytes of the longest set that is kept.
const MAX_SET: usize = 512;
/// Bytes of the longest payload that [`ParameterSets::to_stap_a`] returns: it fits every path that carries video.
pub const MAX_STAP: usize = 1100;

type Sets = Vec<(u32, Vec<u8>)>;

/// Parameter sets of a stream, in band or from the offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterSets {
    /// Latest first, with their ids.
    sps: Sets,
    pps: Sets,
}

impl ParameterSets {
    /// Keeps the sets of `sprop-parameter-sets` in the value of an `a=fmtp` attribute (RFC 6184 section 8.1).
    pub fn offer(&mut self, fmtp: &str) {
        for parameter in fmtp.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            if !name.trim().eq_ignore_ascii_case("sprop-parameter-sets") {
                continue;
            }
            for set in value.trim().split(',').take(2 * MAX_SETS) {
                let set = set.trim();
                if let Ok(unit) = STANDARD.decode(set).or_else(|_| STANDARD_NO_PAD.decode(set)) {
                    self.insert(&unit);
                }
            }
        }
    }

    /// Keeps the sets of an RTP payload; they replace those of the same id. Returns whether anything changed, and allocates
    /// only then.
    pub fn observe(&mut self, payload: &[u8]) -> bool {
        units(payload).filter_map(|unit| unit.whole).fold(false, |changed, unit| self.insert(unit) | changed)
    }

    /// Keeps a complete NAL unit when it is a parameter set. Returns whether that changed anything.
    pub fn insert(&mut self, unit: &[u8]) -> bool {
        let Some((header, body)) = unit.split_first().filter(|_| unit.len() <= MAX_SET) else { return false };
        match header & 0x1f {
            SPS => {
                // seq_parameter_set_id follows profile, constraints and level.
                let Some(id) = body.get(3..).and_then(|rest| ue(rest.iter().copied())) else { return false };
                let changed = remember(&mut self.sps, id, unit);
                if changed {
                    // Picture parameter sets belong to the previous sequence.
                    self.pps.clear();
                }
                changed
            }
            PPS => {
                let Some(id) = ue(body.iter().copied()) else { return false };
                remember(&mut self.pps, id, unit)
            }
            _ => false,
        }
    }

    /// Adds the sets of an offer while a kind is missing; the sets that are here keep precedence.
    pub fn complete_from(&mut self, offered: &ParameterSets) {
        if self.is_complete() || !offered.is_complete() {
            return;
        }
        let seen = std::mem::replace(self, offered.clone());
        for (_, unit) in seen.sps.iter().rev().chain(seen.pps.iter().rev()) {
            self.insert(unit);
        }
    }

    /// Returns whether a decoder can be set up: there is a set of each kind.
    pub fn is_complete(&self) -> bool {
        !self.sps.is_empty() && !self.pps.is_empty()
    }

    /// Returns the latest sequence parameter set.
    pub fn sps(&self) -> Option<&[u8]> {
        self.sps.first().map(|(_, set)| &set[..])
    }

    /// Returns the picture parameter sets, in the order of their ids.
    pub fn pps(&self) -> Vec<Vec<u8>> {
        let mut sets: Vec<_> = self.pps.iter().collect();
        sets.sort();
        sets.into_iter().map(|(_, set)| set.clone()).collect()
    }

    /// Returns an RTP payload (STAP-A) with the latest SPS and as many PPS as fit; `None` while a kind is missing.
    pub fn to_stap_a(&self) -> Option<Vec<u8>> {
        const HEADER: u8 = 0x60 | super::STAP_A;
        let sps = self.sps()?;
        let mut payload = vec![HEADER];
        let mut count = 0;
        for set in [sps].into_iter().chain(self.pps.iter().map(|(_, set)| &set[..])) {
            if payload.len() + 2 + set.len() <= MAX_STAP {
                payload.extend_from_slice(&(set.len() as u16).to_be_bytes());
                payload.extend_from_slice(set);
                count += 1;
            }
        }
        (count >= 2).then_some(payload)
    }
}

/// Puts a set in front; returns whether it differs from the one known under its id.
fn remember(sets: &mut Sets, id: u32, unit: &[u8]) -> bool {
    if let Some(at) = sets.iter().position(|(known, set)| *known == id && set == unit) {
        sets[..=at].rotate_right(1);
        return false;
    }
    sets.retain(|(known, _)| *known != id);
    sets.insert(0, (id, unit.to_vec()));
    sets.truncate(MAX_SETS);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    // 320x240 Baseline, and a PPS for it.
    const SPS_320: &[u8] =
        &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0xc0, 0x44, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xf0];
    const PPS_0: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const FMTP: &str = "packetization-mode=1;profile-level-id=42c00d; \
         sprop-parameter-sets=Z0LADdoFB+TARAAAAwAEAAADAPA=,aM48gA==";

    #[test]
    fn offered_sets_become_a_stap_a() {
        let mut sets = ParameterSets::default();
        assert_eq!(sets.to_stap_a(), None);
        sets.offer(FMTP);
        assert!(sets.is_complete());
        let stap = [&[0x78, 0, 20][..], SPS_320, &[0, 4], PPS_0].concat();
        assert_eq!(sets.to_stap_a().unwrap(), stap);
        let mut seen = ParameterSets::default();
        seen.observe(&stap);
        assert_eq!(seen, sets, "sent sets are read unchanged");
    }

    #[test]
    fn unpadded_and_malformed_values_are_tolerated() {
        let mut sets = ParameterSets::default();
        sets.offer("SPROP-Parameter-Sets = Z0LADdoFB+TARAAAAwAEAAADAPA , aM48gA,!!!,,AAAA");
        assert!(sets.is_complete());
        let mut none = ParameterSets::default();
        none.offer("sprop-parameter-sets;sprop-parameter-sets=;profile-level-id=42e01f");
        assert_eq!(none, ParameterSets::default());
    }

    #[test]
    fn set_in_band_replaces_the_offered_one() {
        let mut sets = ParameterSets::default();
        sets.offer(FMTP);
        let mut other = SPS_320.to_vec();
        other[3] = 0x1f;
        sets.observe(&other);
        assert_eq!(sets.sps(), Some(&other[..]));
        assert!(!sets.is_complete(), "the picture parameter set was of the other one");
        sets.observe(PPS_0);
        assert_eq!(sets.pps(), [PPS_0.to_vec()]);
    }

    #[test]
    fn offer_completes_missing_parameter_sets() {
        let mut offered = ParameterSets::default();
        offered.offer(FMTP);
        let mut sets = ParameterSets::default();
        assert!(sets.observe(SPS_320) && !sets.observe(SPS_320));
        sets.complete_from(&offered);
        assert_eq!(sets, offered, "the same SPS: the offered PPS belongs to it");
        let mut other = SPS_320.to_vec();
        other[3] = 0x1f;
        let mut sets = ParameterSets::default();
        sets.observe(&other);
        sets.complete_from(&offered);
        assert!(!sets.is_complete() && sets.sps() == Some(&other[..]));
    }

    #[test]
    fn number_and_size_of_sets_are_bounded() {
        let mut sets = ParameterSets::default();
        sets.observe(SPS_320);
        // ue codes of 5 bits: ids 3 to 6; of 9 bits: 15 to 30.
        for id in 16..32u8 {
            sets.observe(&[&[0x68, id >> 1, id << 7 | 0x40][..], &[7; 200]].concat());
        }
        assert!(sets.pps.len() <= MAX_SETS);
        assert!(sets.to_stap_a().unwrap().len() <= MAX_STAP);
        sets.observe(&[&[0x68, 0xce][..], &[7; MAX_SET]].concat());
        assert!(sets.pps().iter().all(|set| set.len() <= MAX_SET));
    }
}
