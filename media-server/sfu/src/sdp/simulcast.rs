//! Simulcast offers: which layer is the best one.
//!
//! Rules: RFC 8853 (`a=simulcast`), RFC 8851 (`a=rid` and its restrictions). The order of a send list is no order of
//! quality: browsers take the last encoding for the largest by default (webrtc-pc, `addTransceiver`), while
//! OBS numbers its layers from 0, the largest, downwards. So restrictions decide, then well-known names, then the order.

use super::section::{repaired_ssrcs, values};
use super::text::is_token;
use rtc_sdp::description::common::Attribute;

/// Layers that are compared; a browser sends at most 3, OBS at most 4.
const MAX_LAYERS: usize = 16;
/// Names of the largest layer, the surest first: `h` is high next to `l`, and half next to `f`.
const LARGEST: [&str; 6] = ["f", "full", "hi", "high", "hd", "h"];

/// The layer that is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Its identifier (`a=rid`).
    pub(super) rid: String,
    /// Its place in the send list.
    index: usize,
    /// Layers in the send list.
    count: usize,
}

/// Restrictions of a layer by `a=rid`; without one it may be as large as the camera's picture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    pixels: u64,
    bitrate: u64,
}

const UNRESTRICTED: Size = Size { pixels: u64::MAX, bitrate: u64::MAX };

impl Layer {
    /// Returns the best of several layers; `None` when one or none is sent.
    pub(super) fn best(attributes: &[Attribute]) -> Option<Layer> {
        let rids = send_list(attributes);
        if rids.len() < 2 {
            return None;
        }
        let sizes: Vec<Size> = rids.iter().map(|rid| size(attributes, rid)).collect();
        let largest = sizes.iter().max()?;
        let candidates: Vec<usize> = (0..rids.len()).filter(|index| sizes[*index] == *largest).collect();
        let named =
            LARGEST.iter().find_map(|name| candidates.iter().find(|i| rids[**i].eq_ignore_ascii_case(name)).copied());
        let numbered = candidates.iter().find(|index| rids[**index] == "0").copied();
        let index = named.or(numbered).or(candidates.last().copied())?;
        Some(Layer { rid: rids[index].to_owned(), index, count: rids.len() })
    }

    /// Returns the SSRCs of the layer, when the offer names those of all layers in the same order.
    pub(super) fn ssrcs(&self, attributes: &[Attribute]) -> (Option<u32>, Option<u32>) {
        let pairs: Vec<(u32, u32)> = repaired_ssrcs(attributes).take(MAX_LAYERS + 1).collect();
        match pairs.get(self.index) {
            Some((media, rtx)) if pairs.len() == self.count => (Some(*media), Some(*rtx)),
            _ => (None, None),
        }
    }
}

/// The identifiers of the send direction: first alternative of each layer, paused ones left out.
fn send_list(attributes: &[Attribute]) -> Vec<&str> {
    let Some(line) = values(attributes, "simulcast").next() else { return Vec::new() };
    let mut words = line.split_whitespace();
    let Some(list) = words.find(|word| *word == "send").and_then(|_| words.next()) else { return Vec::new() };
    let mut rids: Vec<&str> = Vec::new();
    // Firefox once wrote `send rid=a;b`.
    for layer in list.trim_start_matches("rid=").split(';').take(MAX_LAYERS) {
        let first = layer.split(',').next().unwrap_or_default();
        if is_token(first) && !first.starts_with('~') && !rids.contains(&first) {
            rids.push(first);
        }
    }
    rids
}

/// Returns the restrictions of `a=rid:… send`.
fn size(attributes: &[Attribute], rid: &str) -> Size {
    let line = values(attributes, "rid").find_map(|line| {
        let (id, rest) = line.split_once(' ')?;
        (id == rid).then(|| rest.strip_prefix("send")).flatten()
    });
    let Some(line) = line else { return UNRESTRICTED };
    let restriction = |name: &str| {
        let parameter = line.split(';').find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='));
        parameter.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let pixels = match (restriction("max-width"), restriction("max-height")) {
        (Some(width), Some(height)) => width.saturating_mul(height),
        (Some(side), None) | (None, Some(side)) => side.saturating_mul(side),
        // RFC 8851 §5: `max-fs` counts pixels.
        (None, None) => restriction("max-fs").unwrap_or(u64::MAX),
    };
    Size { pixels, bitrate: restriction("max-br").unwrap_or(u64::MAX) }
}
