//! RTP payloads of a frame, small enough for a datagram.

use recorder::Codec;

use super::clips::units;

const MOST: usize = 1100;

/// The payloads of one frame, in order; the last one is to have the marker.
pub fn packetize(codec: Codec, frame: &[u8], number: u16) -> Vec<Vec<u8>> {
    match codec {
        Codec::Opus => vec![frame.to_vec()],
        Codec::H264 => h264(frame),
        Codec::Vp8 => vp8(frame, number),
        Codec::Vp9 => vp9(frame, number),
        Codec::Av1 => av1(frame),
    }
}

fn h264(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut sets = vec![0x78];
    for unit in units(frame) {
        match unit[0] & 0x1f {
            9 => {}
            7 | 8 => {
                sets.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                sets.extend_from_slice(unit);
            }
            _ if unit.len() <= MOST => payloads.push(unit.to_vec()),
            kind => {
                let chunks: Vec<_> = unit[1..].chunks(MOST - 2).collect();
                for (n, chunk) in chunks.iter().enumerate() {
                    let start = if n == 0 { 0x80 } else { 0 };
                    let end = if n + 1 == chunks.len() { 0x40 } else { 0 };
                    payloads.push([&[unit[0] & 0xe0 | 28, start | end | kind], *chunk].concat());
                }
            }
        }
    }
    if sets.len() > 1 {
        payloads.insert(0, sets);
    }
    payloads
}

fn vp8(frame: &[u8], number: u16) -> Vec<Vec<u8>> {
    let id = (0x8000 | number & 0x7fff).to_be_bytes();
    let start = |n| if n == 0 { 0x90 } else { 0x80 };
    frame.chunks(MOST).enumerate().map(|(n, chunk)| [&[start(n), 0x80, id[0], id[1]], chunk].concat()).collect()
}

fn vp9(frame: &[u8], number: u16) -> Vec<Vec<u8>> {
    let id = (0x8000 | number & 0x7fff).to_be_bytes();
    let predicted = if frame[0] & 0x04 == 0 { 0 } else { 0x40 };
    let chunks: Vec<_> = frame.chunks(MOST).collect();
    let flags = |n| {
        let begin = if n == 0 { 0x08 } else { 0 };
        let end = if n + 1 == chunks.len() { 0x04 } else { 0 };
        0x80 | predicted | begin | end
    };
    chunks.iter().enumerate().map(|(n, chunk)| [&[flags(n), id[0], id[1]], *chunk].concat()).collect()
}

/// Each OBU by itself, without its size field; the temporal delimiter stays, as some senders leave it.
fn av1(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(&header) = unit.first() {
        assert_eq!(header & 0x06, 0x02, "a size field and no extension");
        let (mut size, mut bytes) = (0, 1);
        loop {
            size |= usize::from(unit[bytes] & 0x7f) << (7 * (bytes - 1));
            bytes += 1;
            if unit[bytes - 1] & 0x80 == 0 {
                break;
            }
        }
        let obu = [&[header & !0x02], &unit[bytes..bytes + size]].concat();
        unit = &unit[bytes + size..];
        let chunks: Vec<_> = obu.chunks(MOST).collect();
        for (n, chunk) in chunks.iter().enumerate() {
            let continues = if n == 0 { 0 } else { 0x80 };
            let goes_on = if n + 1 == chunks.len() { 0 } else { 0x40 };
            payloads.push([&[continues | goes_on | 0x10], *chunk].concat());
        }
    }
    payloads
}
