//! Opus in Ogg (RFC 3533 pages, RFC 7845 mapping): packets of the first Opus stream, each as long as its first byte says.
//!
//! Checksums are not checked and granule positions are not used: packets are sent one after the other, and their
//! lengths (RFC 6716 §3.1) are all the time there is. The pre-skip is not cut off; it shifts sound by a few milliseconds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Clip, Frame, SourceError};
use crate::codec::{Codec, opus};

const PAGE_HEADER: usize = 27;

pub(super) fn parse(data: &Bytes) -> Result<Clip, SourceError> {
    let broken = |what, at| SourceError::Ogg { what, at };
    let mut packets = Packets::default();
    let mut channels = None;
    let mut tags = false;
    let mut serial = None;
    let mut frames = Vec::new();
    let mut time = Duration::ZERO;
    let mut at = 0;
    while at < data.len() {
        let header = data.get(at..at + PAGE_HEADER).ok_or(broken("ends within a page's header", at))?;
        if &header[..4] != b"OggS" || header[4] != 0 {
            return Err(broken("has no page where one should begin", at));
        }
        let page_serial = [header[14], header[15], header[16], header[17]];
        let table = at + PAGE_HEADER..at + PAGE_HEADER + usize::from(header[26]);
        let lacing = data.get(table.clone()).ok_or(broken("ends within a page's header", at))?;
        let body: usize = lacing.iter().map(|length| usize::from(*length)).sum();
        let end = table.end + body;
        if end > data.len() {
            return Err(broken("ends within a page", at));
        }
        let begins_stream = header[5] & 2 != 0;
        if serial.is_none() && begins_stream && data[table.end..end].starts_with(b"OpusHead") {
            serial = Some(page_serial);
        }
        if serial == Some(page_serial) {
            let continued = header[5] & 1 != 0;
            for packet in packets.of_page(data, table.end, lacing, continued) {
                if channels.is_none() {
                    channels = Some(*packet.get(9).ok_or(broken("has a short OpusHead", at))?);
                } else if !tags {
                    tags = true;
                } else {
                    let length = opus::duration(&packet).ok_or(broken("has a packet that is not Opus", at))?;
                    frames.push(Frame { at: time, data: packet, keyframe: true });
                    time += length;
                }
            }
        }
        at = end;
    }
    let Some(channels) = channels else { return Err(broken("holds no Opus stream", 0)) };
    if frames.is_empty() {
        return Err(broken("holds no sound", at));
    }
    let stereo = if channels > 1 { ";stereo=1;sprop-stereo=1" } else { "" };
    let fmtp = format!("minptime=10;useinbandfec=1{stereo}");
    Ok(Clip { codec: Codec::Opus, frames, duration: time, fmtp })
}

/// Joins the segments of pages into packets.
#[derive(Default)]
struct Packets {
    /// The beginning of a packet that the last page did not end.
    open: BytesMut,
}

impl Packets {
    fn of_page(&mut self, data: &Bytes, body: usize, lacing: &[u8], continued: bool) -> Vec<Bytes> {
        if !continued {
            // The rest of what was open never came.
            self.open.clear();
        }
        // A page that goes on with a packet whose beginning is unknown: skip to its end.
        let mut orphan = continued && self.open.is_empty();
        let mut packets = Vec::new();
        let (mut start, mut at) = (body, body);
        for length in lacing {
            at += usize::from(*length);
            if *length == 255 {
                continue;
            }
            let packet = if self.open.is_empty() {
                data.slice(start..at)
            } else {
                self.open.extend_from_slice(&data[start..at]);
                self.open.split().freeze()
            };
            if !std::mem::take(&mut orphan) {
                packets.push(packet);
            }
            start = at;
        }
        if start < at && !orphan {
            self.open.extend_from_slice(&data[start..at]);
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(flags: u8, serial: u8, lacing: &[u8], body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\x00".to_vec();
        page.push(flags);
        page.extend([0; 8]);
        page.extend([serial, 0, 0, 0]);
        page.extend([0; 8]);
        page.push(lacing.len() as u8);
        page.extend(lacing);
        page.extend(body);
        page
    }

    fn head(serial: u8, channels: u8) -> Vec<u8> {
        let mut body = b"OpusHead\x01".to_vec();
        body.push(channels);
        body.extend([0; 9]);
        page(2, serial, &[body.len() as u8], &body)
    }

    fn tags(serial: u8) -> Vec<u8> {
        page(0, serial, &[8], b"OpusTags")
    }

    /// SILK, 20 ms, one frame.
    const PACKET: &[u8] = &[0x08, 1, 2];

    #[test]
    fn the_demo_is_a_little_over_eight_seconds() {
        let clip = parse(&Bytes::from_static(crate::demo::AUDIO)).unwrap();
        assert_eq!(clip.frames.len(), 401);
        assert_eq!(clip.duration, Duration::from_millis(8020));
        assert_eq!(clip.frames[1].at, Duration::from_millis(20));
    }

    #[test]
    fn a_packet_over_two_pages_is_joined_and_another_stream_is_passed_over() {
        let mut long = PACKET.to_vec();
        long.resize(300, 7);
        let file = [
            head(1, 2),
            tags(1),
            page(2, 9, &[3], b"abc"),
            page(0, 1, &[255], &long[..255]),
            page(0, 9, &[3], b"def"),
            page(1, 1, &[45, 3], &[&long[255..], PACKET].concat()),
        ]
        .concat();
        let clip = parse(&Bytes::from(file)).unwrap();
        assert_eq!(clip.frames.iter().map(|frame| frame.data.len()).collect::<Vec<_>>(), [300, 3]);
        assert_eq!(clip.frames[0].data, long);
        assert!(clip.fmtp.contains("stereo=1"));
    }

    #[test]
    fn broken_files_are_refused_with_the_place() {
        let whole = [head(1, 1), tags(1), page(0, 1, &[3], PACKET)].concat();
        assert!(parse(&Bytes::from(whole.clone())).is_ok());
        let short = [page(2, 1, &[8], b"OpusHead"), tags(1)].concat();
        for (data, what) in [
            (whole[..whole.len() - 1].to_vec(), "ends within a page"),
            (whole[..60].to_vec(), "header"),
            ([&whole[..], b"garbage that is long enough to be a header"].concat(), "no page"),
            (page(2, 1, &[3], b"abc"), "no Opus stream"),
            ([head(1, 1), tags(1)].concat(), "no sound"),
            (short, "short OpusHead"),
            ([head(1, 1), tags(1), page(0, 1, &[0], b"")].concat(), "not Opus"),
        ] {
            let error = parse(&Bytes::from(data)).unwrap_err().to_string();
            assert!(error.contains(what), "{error} lacks {what}");
        }
    }
}
