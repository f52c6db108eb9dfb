//! The RTCP that a publisher is owed: reports, NACKs, keyframe requests and congestion feedback.

use super::{CONGESTION_EVERY, KEYFRAME_EVERY, KEYFRAME_PATIENCE, Publisher, REPORT_EVERY};
use crate::feedback::write;
use crate::parameters::{MediaKind, PayloadType};
use std::time::Instant;

impl Publisher {
    pub(in crate::shard) fn is_missing_any(&self) -> bool {
        // Packets that a local source left out cannot be requested.
        self.transport.is_some()
            && self.streams.used().any(|stream| {
                let missing = stream.reception.as_ref().is_some_and(|reception| reception.is_missing_any());
                missing && self.agreed(stream.kind, |p| p.nack)
            })
    }

    /// Returns when [`Publisher::feedback`] is due for a report or for congestion feedback; never for a local source.
    pub(in crate::shard) fn feedback_at(&self) -> Option<Instant> {
        self.transport.as_ref()?;
        let report = self.reported + REPORT_EVERY;
        Some(match self.arrivals.is_empty() {
            true => report,
            false => report.min(self.congestion_reported + CONGESTION_EVERY),
        })
    }

    /// Returns when [`Publisher::feedback`] is due for a NACK or a keyframe request, `soon` at the earliest.
    pub(in crate::shard) fn request_at(&self, soon: Instant) -> Option<Instant> {
        if self.is_missing_any() {
            return Some(soon);
        }
        let since = self.keyframe_wanted?;
        Some(self.keyframe_asked.map_or(since, |asked| since.max(asked + KEYFRAME_EVERY)).max(soon))
    }

    /// Appends the feedback that is due to `out` as one compound packet, or nothing.
    pub(in crate::shard) fn feedback(&mut self, now: Instant, out: &mut Vec<u8>) {
        out.clear();
        let report_due = now.saturating_duration_since(self.reported) >= REPORT_EVERY;
        if report_due {
            self.reported = now;
            let blocks = self.report_blocks(now);
            write::receiver_report(out, self.ssrc, &blocks);
            if let Some(reference) = self.round_trip.reference(now) {
                write::reference_time(out, self.ssrc, reference);
            }
            self.maximum_bitrate(out);
        } else {
            // A compound packet starts with a report (RFC 3550 §6.1), if only an empty one.
            write::receiver_report(out, self.ssrc, &[]);
        }
        let reports = out.len();
        self.missing(now, out);
        self.keyframe(now, out);
        if now.saturating_duration_since(self.congestion_reported) >= CONGESTION_EVERY && !self.arrivals.is_empty() {
            self.congestion_reported = now;
            let media = [MediaKind::Video, MediaKind::Audio].into_iter().find_map(|kind| self.streams.media_ssrc(kind));
            let media = media.unwrap_or(0);
            while out.len() < 900 && self.arrivals.write(self.ssrc, media, out) {}
        }
        if !report_due && out.len() == reports {
            out.clear();
        }
    }

    /// Returns a block for each SSRC in use; others are over.
    pub(super) fn report_blocks(&mut self, now: Instant) -> Vec<write::ReportBlock> {
        let used = self.streams.used_ssrcs().into_iter().flatten();
        used.filter_map(|ssrc| self.streams.get_mut(ssrc)?.reception.as_mut()?.report(now)).collect()
    }

    fn agreed(&self, kind: MediaKind, what: impl Fn(&PayloadType) -> bool) -> bool {
        self.track(kind).is_some_and(|track| track.payload_types.iter().any(what))
    }

    fn maximum_bitrate(&self, out: &mut Vec<u8>) {
        let (Some(limit), Some(ssrc)) = (self.max_bitrate, self.streams.media_ssrc(MediaKind::Video)) else { return };
        if self.agreed(MediaKind::Video, |p| p.remb) {
            write::maximum_bitrate(out, self.ssrc, limit, &[ssrc]);
        }
    }

    fn missing(&mut self, now: Instant, out: &mut Vec<u8>) {
        let mut sequences = Vec::new();
        let retry = self.round_trip.retry();
        for ssrc in self.streams.used_ssrcs().into_iter().flatten() {
            let Some(kind) = self.streams.get(ssrc).map(|stream| stream.kind) else { continue };
            if !self.agreed(kind, |p| p.nack) {
                continue;
            }
            let reception = self.streams.get_mut(ssrc).and_then(|stream| stream.reception.as_mut());
            if let Some(reception) = reception.filter(|reception| reception.is_missing_any()) {
                reception.nacks(now, retry, &mut sequences);
                if !sequences.is_empty() {
                    write::nack(out, self.ssrc, ssrc, &sequences);
                    self.nacks += sequences.len() as u64;
                }
            }
        }
    }

    /// Takes a keyframe request that is due: one is pending, and the last one was not sent too recently.
    pub(in crate::shard) fn take_keyframe_request(&mut self, now: Instant) -> bool {
        let Some(since) = self.keyframe_wanted else { return false };
        if now.saturating_duration_since(since) > KEYFRAME_PATIENCE {
            self.keyframe_wanted = None;
            return false;
        }
        if self.keyframe_asked.is_some_and(|asked| now.saturating_duration_since(asked) < KEYFRAME_EVERY) {
            return false;
        }
        self.keyframe_asked = Some(now);
        self.keyframe_requests += 1;
        true
    }

    fn keyframe(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(ssrc) = self.streams.media_ssrc(MediaKind::Video) else { return };
        if !self.take_keyframe_request(now) {
            return;
        }
        if self.agreed(MediaKind::Video, |p| p.pli) {
            write::picture_loss(out, self.ssrc, ssrc);
        } else if self.agreed(MediaKind::Video, |p| p.fir) {
            self.full_intra = self.full_intra.wrapping_add(1);
            write::full_intra(out, self.ssrc, ssrc, self.full_intra);
        }
    }
}
