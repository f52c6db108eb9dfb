//! Whole recordings of real clips, judged by ffprobe and ffmpeg.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{
    clips::{self, LENGTH, RATE},
    compose, finalize,
    folder::{Disk, carry_out},
    player::{self, Event, Script, Sender, decodes, packet_times, play, probe},
};
use recorder::{Codec, Ending, File, GapReason, Manifest, Output, Track, Tracks};

const BOTH: Tracks = Tracks { audio: true, video: true };
const VIDEO_FRAMES: u64 = (LENGTH * RATE) as u64;
/// Seconds within which sound and picture are to lie as they were sent.
const ALIGNED: f64 = 0.04;

fn record(folder: &Path, expected: Tracks, script: Script) -> Manifest {
    play(player::config(), expected, script, |_, output| carry_out(folder, &output));
    let manifest = finalize(&mut Disk(folder.to_owned()), &Ending::orderly()).unwrap();
    compose(folder, &manifest);
    manifest
}

/// Returns the MP4 files of a folder.
fn composed(folder: &Path) -> usize {
    (1..).take_while(|n| folder.join(File::Export(*n).to_string()).exists()).count()
}

fn clip(codec: Codec) -> Script {
    let (video, audio) = (Sender::video(codec), Sender::audio());
    let mut script = video.send(&clips::video(codec, 320, 240));
    script.extend(audio.send(&clips::audio()));
    script.extend(video.reports(0.3, 5.0));
    script.extend(audio.reports(0.35, 5.0));
    script
}

/// What must hold of an undisturbed recording of a clip.
fn assert_complete(folder: &Path, manifest: &Manifest, codec_name: &str, audio_frames: u64) {
    for file in ["recording.mp4", "index.m3u8"] {
        let path = folder.join(file);
        let streams = probe(&path);
        assert_eq!(streams.len(), 2, "{streams:?}");
        let (video, audio) = (&streams[0], &streams[1]);
        assert_eq!((video.codec.as_str(), video.frames), (codec_name, VIDEO_FRAMES), "{file}");
        assert_eq!((audio.codec.as_str(), audio.frames), ("opus", audio_frames), "{file}");
        let (video_end, audio_end) = (video.start + video.duration, audio.start + audio.duration);
        let sent_later = audio_frames as f64 / 50.0 - f64::from(LENGTH);
        assert!((video.start - audio.start).abs() < ALIGNED, "{file}: {streams:?}");
        assert!((video_end + sent_later - audio_end).abs() < ALIGNED, "{file}: {streams:?}");
        assert!((video.duration - f64::from(LENGTH)).abs() < ALIGNED, "{file}: {streams:?}");
        decodes(&path);
    }
    assert!(!manifest.repaired && manifest.complete);
    assert!(manifest.gaps.is_empty(), "{:?}", manifest.gaps);
    assert_eq!(composed(folder), 1);
    assert_eq!((manifest.width, manifest.height), (Some(320), Some(240)));
    assert!(manifest.segments.iter().all(|segment| segment.keyframe && !segment.discontinuity));
    assert!(manifest.segments.len() >= 2);
    for (number, segment) in (1..).zip(&manifest.segments) {
        let bytes = std::fs::read(folder.join(&segment.file)).unwrap();
        assert_eq!(bytes.len() as u64, segment.bytes);
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        assert_eq!(segment.sha256, digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        decodes(&player::standalone(folder, 1, number));
    }
}

fn records_whole(codec: Codec, codec_name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = record(folder.path(), BOTH, clip(codec));
    assert_complete(folder.path(), &manifest, codec_name, clips::audio().len() as u64);
    assert_eq!(manifest.codecs.len(), 2);
    assert_eq!(manifest.codecs[1], "Opus");
}

#[test]
fn h264_is_recorded_whole() {
    records_whole(Codec::H264, "h264");
}

#[test]
fn vp8_is_recorded_whole() {
    records_whole(Codec::Vp8, "vp8");
}

#[test]
fn vp9_is_recorded_whole() {
    records_whole(Codec::Vp9, "vp9");
}

#[test]
fn av1_is_recorded_whole() {
    records_whole(Codec::Av1, "av1");
}

/// The first frames, with the only IDR picture, are missed: recording starts at the first recovery point. Returns samples
/// and frames that ffmpeg shows of them.
fn record_without_idr(refresh: bool) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (frames, places) = clips::without_idr(refresh);
    let idr = |frame: &Vec<u8>| clips::units(frame).iter().any(|unit| unit[0] & 0x1f == 5);
    assert_eq!(frames.iter().filter(|frame| idr(frame)).count(), 1, "one IDR picture in the clip");
    let video = Tracks { audio: false, video: true };
    let manifest = record(folder.path(), video, Sender::video(Codec::H264).send_in_order(&frames[10..], &places[10..]));
    assert!(manifest.gaps.is_empty(), "{:?}", manifest.gaps);
    assert!(manifest.segments.iter().all(|segment| segment.keyframe), "{:?}", manifest.segments);
    assert!(manifest.segments.len() >= 2, "segments are cut at recovery points");
    let path = folder.path().join("recording.mp4");
    decodes(&path);
    decodes(&folder.path().join("index.m3u8"));
    (packet_times(&path, 0).len(), probe(&path)[0].frames as usize)
}

#[test]
fn intra_refresh_is_recorded_from_recovery_point() {
    // The encoder announces an exact picture after 18 frames.
    assert_eq!(record_without_idr(true), (100, 100 - 18));
}

#[test]
fn open_gop_is_recorded_from_recovery_point() {
    let (samples, shown) = record_without_idr(false);
    // A B-frame across the border refers to the missed group.
    assert!(samples >= 95 && samples - shown <= 1, "{samples} {shown}");
}

#[test]
fn av1_starts_at_key_frame_whatever_the_n_bit_is() {
    for n_bit in [0x00, 0x08] {
        let folder = tempfile::tempdir().unwrap();
        let mut script = Sender::video(Codec::Av1).send(&clips::video(Codec::Av1, 320, 240)[10..]);
        for (_, event) in &mut script {
            if let Event::Packet { payload, .. } = event {
                payload[0] = payload[0] & !0x08 | n_bit;
            }
        }
        let manifest = record(folder.path(), Tracks { audio: false, video: true }, script);
        let path = folder.path().join("recording.mp4");
        assert_eq!(probe(&path)[0].frames, VIDEO_FRAMES - u64::from(RATE), "N {n_bit}: from second 1 on");
        assert!(manifest.gaps.is_empty(), "N {n_bit}: {:?}", manifest.gaps);
        decodes(&path);
    }
}

#[test]
fn one_frame_per_second_is_recorded_from_its_first() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<_> = clips::video(Codec::H264, 320, 240).into_iter().step_by(RATE as usize).collect();
    let mut script = Sender { rate: 1.0, ..Sender::video(Codec::H264) }.send(&frames);
    script.extend(Sender { start: 0.007, ..Sender::audio() }.send(&clips::audio()));
    let manifest = record(folder.path(), BOTH, script);
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!((streams[0].frames, manifest.inits.len()), (u64::from(LENGTH), 1));
    // Audio is written while the first frame of a segment waits, but starts none.
    let starts: Vec<_> = manifest.segments.iter().map(|segment| (segment.start, segment.keyframe)).collect();
    assert_eq!(starts, [(0.0, true), (2.0, true), (4.0, true)]);
    assert!((streams[0].start - streams[1].start).abs() < ALIGNED, "{streams:?}");
    decodes(&folder.path().join("recording.mp4"));
}

/// Records video and returns (time, duration) of its samples in seconds: as ffprobe reads the playlist, and as the
/// fragments state it. A sample must last until the next one.
fn record_exact(folder: &Path, script: Script) -> Vec<(f64, f64)> {
    let manifest = record(folder, Tracks { audio: false, video: true }, script);
    let playlist = folder.join("index.m3u8");
    decodes(&playlist);
    let mut packets = packet_times(&playlist, 0);
    let fragments: Vec<_> = manifest
        .segments
        .iter()
        .flat_map(|segment| player::fragment_times(&std::fs::read(folder.join(&segment.file)).unwrap(), 90_000.0))
        .collect();
    assert_eq!(packets.len(), fragments.len());
    for (packet, (at, duration)) in packets.iter_mut().zip(fragments) {
        assert!((packet.0 - at).abs() < 1e-5, "{packet:?} is at {at} s");
        // Of a fragment with one sample ffprobe knows no duration.
        packet.1 = duration;
    }
    for pair in packets.windows(2) {
        let [(at, duration), (next, _)] = pair else { unreachable!() };
        assert!((next - at - duration).abs() < 1e-5, "{at} s lasts {duration} s, the next is at {next} s");
    }
    let text = std::fs::read_to_string(playlist).unwrap();
    let listed = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:")?.strip_suffix(',')?.parse::<f64>().ok());
    let media: f64 = packets.iter().map(|(_, duration)| duration).sum();
    assert!((listed.sum::<f64>() - media).abs() < 0.001, "{text}");
    packets
}

#[test]
fn one_frame_per_second_lasts_a_second_in_hls() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<_> = clips::video(Codec::H264, 320, 240).into_iter().step_by(RATE as usize).collect();
    let packets = record_exact(folder.path(), Sender { rate: 1.0, ..Sender::video(Codec::H264) }.send(&frames));
    assert_eq!(packets.len(), LENGTH as usize);
    assert!(packets.iter().all(|(_, duration)| (duration - 1.0).abs() < 1e-5), "{packets:?}");
}

#[test]
fn frame_before_a_pause_lasts_through_it_in_hls() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Sender::video(Codec::H264).send(&clips::video(Codec::H264, 320, 240));
    for (at, event) in &mut script {
        let Event::Packet { timestamp, .. } = event else { continue };
        if *at > 2.5 {
            (*at, *timestamp) = (*at + 1.0, timestamp.wrapping_add(90_000));
        }
    }
    let packets = record_exact(folder.path(), script);
    assert_eq!(packets.len() as u64, VIDEO_FRAMES);
    let long: Vec<_> = packets.iter().filter(|(_, duration)| *duration > 0.05).collect();
    assert!(matches!(long[..], [(at, duration)] if (duration - 1.04).abs() < 1e-5 && *at > 2.4), "{long:?}");
}

#[test]
fn sound_alone_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = record(folder.path(), Tracks { audio: true, video: false }, Sender::audio().send(&clips::audio()));
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!((streams.len(), streams[0].frames), (1, clips::audio().len() as u64));
    assert_eq!(manifest.segments.len(), 3);
    decodes(&folder.path().join("index.m3u8"));
}

#[test]
fn a_picture_alone_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let script = Sender::video(Codec::H264).send(&clips::video(Codec::H264, 320, 240));
    record(folder.path(), BOTH, script);
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!((streams.len(), streams[0].frames), (1, VIDEO_FRAMES));
    decodes(&folder.path().join("index.m3u8"));
}

#[test]
fn sound_that_comes_later_lies_where_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Sender::video(Codec::H264).send(&clips::video(Codec::H264, 320, 240));
    script.extend(Sender { start: 3.0, ..Sender::audio() }.send(&clips::audio()));
    let manifest = record(folder.path(), BOTH, script);
    assert_eq!((manifest.inits.len(), composed(folder.path())), (2, 1));
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!(streams[0].frames, VIDEO_FRAMES);
    let sound = player::sound_times(&folder.path().join("recording.mp4"), 1);
    assert_eq!(sound.len(), clips::audio().len());
    assert!((sound[0] - streams[0].start - 3.0).abs() < ALIGNED, "{sound:?}");
    decodes(&folder.path().join("recording.mp4"));
    // Not the playlist: ffmpeg's HLS reader knows no track that comes later.
    decodes(&player::standalone(folder.path(), 1, 1));
    decodes(&player::standalone(folder.path(), 2, 3));
}

#[test]
fn sender_reports_align_what_arrives_apart() {
    for first_report in [0.2, 1.2] {
        let folder = tempfile::tempdir().unwrap();
        let video = Sender { delay: 0.15, ..Sender::video(Codec::Vp8) };
        let audio = Sender::audio();
        let mut script = video.send(&clips::video(Codec::Vp8, 320, 240));
        script.extend(audio.send(&clips::audio()));
        script.extend(video.reports(first_report, 5.0));
        script.extend(audio.reports(first_report, 5.0));
        record(folder.path(), BOTH, script);
        let streams = probe(&folder.path().join("recording.mp4"));
        let (video, audio) = (&streams[0], &streams[1]);
        assert_eq!(video.frames, VIDEO_FRAMES);
        if first_report < 0.5 {
            assert!((video.start - audio.start).abs() < ALIGNED / 2.0, "{streams:?}");
        }
        let sent_later = audio.frames as f64 / 50.0 - f64::from(LENGTH);
        let apart = video.start + video.duration + sent_later - audio.start - audio.duration;
        assert!(apart.abs() < ALIGNED, "first report at {first_report}: {apart}, {streams:?}");
    }
}

#[test]
fn a_sender_that_knows_no_time_is_aligned_by_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let (video, audio) = (Sender::video(Codec::Vp8), Sender::audio());
    let mut script = video.send(&clips::video(Codec::Vp8, 320, 240));
    script.extend(audio.send(&clips::audio()));
    // What would be a difference of a second, if 0 were a time.
    for (at, track, source, rtp) in [(0.1, Track::Video, 1, 90_000), (0.2, Track::Audio, 2, 0)] {
        script.push((at, Event::Report { track, source, ntp: 0, rtp: player::FIRST_RTP.wrapping_add(rtp) }));
    }
    record(folder.path(), BOTH, script);
    let streams = probe(&folder.path().join("recording.mp4"));
    assert!((streams[0].start - streams[1].start).abs() < ALIGNED, "{streams:?}");
}

#[test]
fn clocks_that_drift_apart_are_kept_together() {
    let folder = tempfile::tempdir().unwrap();
    let minutes = |frames: Vec<Vec<u8>>, count: usize| frames.iter().cycle().take(count).cloned().collect::<Vec<_>>();
    // The video's media clock runs 0.2 % fast: 120 ms in a minute.
    let video = Sender { drift: 0.002, ..Sender::video(Codec::Vp8) };
    let audio = Sender::audio();
    let mut script = video.send(&minutes(clips::video(Codec::Vp8, 320, 240), 25 * 60));
    script.extend(audio.send(&minutes(clips::audio(), 50 * 60)));
    script.extend(video.reports(0.2, 60.0));
    script.extend(audio.reports(0.2, 60.0));
    record(folder.path(), BOTH, script);
    let path = folder.path().join("recording.mp4");
    let last = packet_times(&path, 0).last().unwrap().0;
    let sent = (25.0 * 60.0 - 1.0) / 25.0 / 1.002;
    assert!((last - sent).abs() < ALIGNED, "{last} {sent}");
    let times = packet_times(&path, 0);
    assert!(times.windows(2).all(|pair| (0.03..0.05).contains(&(pair[1].0 - pair[0].0))));
}

fn without(script: Script, lost: impl Fn(u64, Codec) -> bool) -> Script {
    let kept = |event: &Event| !matches!(event, Event::Packet { index, codec, .. } if lost(*index, *codec));
    script.into_iter().filter(|(_, event)| kept(event)).collect()
}

#[test]
fn a_lost_packet_leaves_a_gap_up_to_the_next_keyframe() {
    let folder = tempfile::tempdir().unwrap();
    let script = clip(Codec::H264);
    let timestamps: Vec<(u64, f64)> = script
        .iter()
        .filter_map(|(at, event)| match event {
            Event::Packet { codec: Codec::H264, index, .. } => Some((*index, *at)),
            _ => None,
        })
        .collect();
    // The first packet after 1.5 s: keyframes are at full seconds.
    let lost = timestamps.iter().find(|(_, at)| *at > 1.5).unwrap().0;
    let manifest = record(folder.path(), BOTH, without(script, |index, codec| codec == Codec::H264 && index == lost));
    let gaps: Vec<_> = manifest.gaps.iter().map(|gap| (gap.track, gap.reason)).collect();
    assert_eq!(gaps, [(Track::Video, GapReason::Loss)]);
    assert!(
        (manifest.gaps[0].from - 1.52).abs() < 0.001 && (manifest.gaps[0].to - 2.0).abs() < 0.001,
        "{:?}",
        manifest.gaps
    );
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!(streams[0].frames, VIDEO_FRAMES - 12);
    assert!((streams[0].duration - f64::from(LENGTH)).abs() < 0.001, "time does not shrink: {streams:?}");
    assert!(
        std::fs::read_to_string(folder.path().join("index.m3u8")).unwrap().contains("## gap: video 1.520-2.000 loss")
    );
    decodes(&folder.path().join("recording.mp4"));
}

#[test]
fn lost_sound_is_silence_and_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let lost = |index: u64, codec| codec == Codec::Opus && (65_050..65_060).contains(&index);
    let manifest = record(folder.path(), BOTH, without(clip(Codec::Vp8), lost));
    assert_eq!(manifest.gaps.len(), 1);
    let gap = &manifest.gaps[0];
    assert_eq!((gap.track, gap.reason), (Track::Audio, GapReason::Loss));
    assert!((gap.from - 1.0).abs() < 0.001 && (gap.to - 1.2).abs() < 0.001, "{gap:?}");
    let streams = probe(&folder.path().join("recording.mp4"));
    assert_eq!(streams[1].frames, clips::audio().len() as u64);
    decodes(&folder.path().join("recording.mp4"));
}

#[test]
fn a_retransmission_in_time_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = clip(Codec::Vp8);
    for (at, event) in &mut script {
        if matches!(event, Event::Packet { index, .. } if *index % 17 == 3) {
            *at += 0.25;
        }
    }
    let manifest = record(folder.path(), BOTH, script);
    assert_complete(folder.path(), &manifest, "vp8", clips::audio().len() as u64);
}

#[test]
fn change_of_size_stays_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = clips::video(Codec::H264, 320, 240);
    frames.extend(clips::video(Codec::H264, 640, 360));
    let manifest =
        record(folder.path(), Tracks { audio: false, video: true }, Sender::video(Codec::H264).send(&frames));
    let sizes: Vec<_> = manifest.inits.iter().map(|init| (init.width, init.height)).collect();
    assert_eq!(sizes, [(Some(320), Some(240)), (Some(640), Some(360))]);
    assert_eq!(composed(folder.path()), 1);
    for file in ["recording.mp4", "index.m3u8"] {
        let path = folder.path().join(file);
        assert_eq!(probe(&path)[0].frames, 2 * VIDEO_FRAMES, "{file}");
        decodes(&path);
    }
    let playlist = std::fs::read_to_string(folder.path().join("index.m3u8")).unwrap();
    assert_eq!((playlist.matches("#EXT-X-MAP").count(), playlist.matches("#EXT-X-DISCONTINUITY\n").count()), (2, 1));
}

#[test]
fn a_camera_that_comes_back_goes_on_in_the_same_recording() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = clip(Codec::H264);
    script.push((5.5, Event::SourceEnd));
    let video = Sender { source: 3, start: 10.0, ..Sender::video(Codec::H264) };
    let audio = Sender { source: 4, start: 10.0, ..Sender::audio() };
    script.extend(video.send(&clips::video(Codec::H264, 320, 240)));
    script.extend(audio.send(&clips::audio()));
    script.extend(video.reports(0.3, 5.0));
    script.extend(audio.reports(0.3, 5.0));
    let manifest = record(folder.path(), BOTH, script);
    assert_eq!((manifest.inits.len(), composed(folder.path())), (1, 1));
    let gaps: Vec<_> = manifest.gaps.iter().map(|gap| (gap.reason, gap.from.round(), gap.to.round())).collect();
    assert_eq!(gaps, [(GapReason::Source, 5.0, 10.0); 2]);
    assert_eq!(manifest.segments.iter().filter(|segment| segment.discontinuity).count(), 1);
    let path = folder.path().join("recording.mp4");
    let streams = probe(&path);
    assert_eq!(streams[0].frames, 2 * VIDEO_FRAMES);
    assert!((streams[0].duration - 15.0).abs() < ALIGNED, "{streams:?}");
    assert!((streams[1].duration - 15.0).abs() < 2.0 * ALIGNED, "{streams:?}");
    decodes(&path);
    decodes(&folder.path().join("index.m3u8"));
    assert_eq!(manifest.ended_at.duration_since(manifest.description.started_at).as_secs(), 15);
}

#[test]
fn a_camera_that_takes_over_continues_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = clip(Codec::H264);
    // The old camera is cut off at 3 s, just before a keyframe of it; sound of the new one is first by 30 ms.
    script.retain(|(at, _)| *at < 2.99);
    let video = Sender { source: 3, start: 3.05, ..Sender::video(Codec::H264) };
    let audio = Sender { source: 4, start: 3.02, ..Sender::audio() };
    script.extend(video.send(&clips::video(Codec::H264, 320, 240)));
    script.extend(audio.send(&clips::audio()));
    script.extend(video.reports(0.3, 5.0));
    script.extend(audio.reports(0.3, 5.0));
    let manifest = record(folder.path(), BOTH, script);
    assert_eq!(manifest.segments.iter().filter(|segment| segment.discontinuity).count(), 1, "{:?}", manifest.segments);
    assert!(manifest.gaps.iter().all(|gap| gap.reason == GapReason::Source && gap.to - gap.from < 0.1));
    let path = folder.path().join("recording.mp4");
    let streams = probe(&path);
    assert_eq!(streams[0].frames, 75 + VIDEO_FRAMES);
    let (video_end, audio_end) = (streams[0].start + streams[0].duration, streams[1].start + streams[1].duration);
    let sent_later = clips::audio().len() as f64 / 50.0 - f64::from(LENGTH) - 0.03;
    assert!((video_end + sent_later - audio_end).abs() < ALIGNED, "{streams:?}");
    decodes(&path);
    decodes(&folder.path().join("index.m3u8"));
}

#[test]
fn frames_that_are_presented_out_of_order_keep_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let (frames, places) = clips::with_b_frames();
    let script = Sender::video(Codec::H264).send_in_order(&frames, &places);
    record(folder.path(), Tracks { audio: false, video: true }, script);
    let path = folder.path().join("recording.mp4");
    assert_eq!(probe(&path)[0].frames, VIDEO_FRAMES);
    let mut times: Vec<f64> = packet_times(&path, 0).iter().map(|(pts, _)| *pts).collect();
    times.sort_by(f64::total_cmp);
    assert!(times.windows(2).all(|pair| (pair[1] - pair[0] - 0.04).abs() < 0.001), "{times:?}");
    decodes(&path);
}

#[test]
fn frames_held_for_reports_keep_their_decoding_order() {
    let folder = tempfile::tempdir().unwrap();
    let (frames, places) = clips::with_b_frames();
    let (video, audio) = (Sender::video(Codec::H264), Sender::audio());
    let mut script = video.send_in_order(&frames, &places);
    script.extend(audio.send(&clips::audio()));
    script.extend(video.reports(0.5, 5.0));
    script.extend(audio.reports(0.5, 5.0));
    record(folder.path(), BOTH, script);
    let times: Vec<f64> = packet_times(&folder.path().join("recording.mp4"), 0).iter().map(|(pts, _)| *pts).collect();
    let place = |time: &f64| times.iter().filter(|other| *other < time).count() as u32;
    assert_eq!(times.iter().map(place).collect::<Vec<_>>(), places);
}

#[test]
fn what_arrived_a_second_ago_is_on_disk() {
    let mut script = clip(Codec::H264);
    // Retransmissions take their time.
    for (at, event) in &mut script {
        if matches!(event, Event::Packet { index, .. } if *index % 40 == 3) {
            *at += 0.3;
        }
    }
    let mut synced: Vec<(f64, u64)> = Vec::new();
    let mut parts = 0;
    let folder = tempfile::tempdir().unwrap();
    let mut lag: f64 = 0.0;
    play(player::config(), BOTH, script, |at, output| {
        carry_out(folder.path(), &output);
        if let Output::Sync { .. } = output {
            parts += 1;
            synced.push((at, parts));
        }
    });
    let manifest = finalize(&mut Disk(folder.path().to_owned()), &Ending::orderly()).unwrap();
    for pair in synced.windows(2) {
        lag = lag.max(pair[1].0 - pair[0].0);
    }
    assert!(synced[0].0 < 1.0 && lag <= 0.95, "first at {}, then at most {lag} s apart", synced[0].0);
    assert!(manifest.gaps.is_empty());
}

#[test]
fn recordings_in_turns_lose_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = |id: &str| folder.path().join(id);
    let mut id = player::description().id;
    let (mut ids, mut starts) = (vec![id.clone()], vec![player::description().started_at]);
    std::fs::create_dir(path(&id)).unwrap();
    player::play_in_turns(player::config(), BOTH, clip(Codec::H264), 1.5, |_, output| match output {
        Output::Continue { description, untold, .. } => {
            assert_eq!(untold, []);
            id.clone_from(&description.id);
            std::fs::create_dir(path(&id)).unwrap();
            ids.push(id.clone());
            starts.push(description.started_at);
        }
        output => carry_out(&path(&id), &output),
    });
    assert!(ids.len() >= 3, "{ids:?}");
    let (mut video, mut audio, mut end) = (0, 0, None);
    for (id, started_at) in ids.iter().zip(&starts) {
        let manifest = finalize(&mut Disk(path(id)), &Ending::orderly()).unwrap();
        compose(&path(id), &manifest);
        assert_eq!((&manifest.description.id, manifest.description.started_at), (id, *started_at));
        assert!(manifest.gaps.is_empty() && manifest.complete, "{id}: {:?}", manifest.gaps);
        assert!(manifest.segments[0].keyframe && manifest.segments[0].file == "segment-000001.m4s", "{id}");
        for file in ["recording.mp4", "index.m3u8"] {
            decodes(&path(id).join(file));
        }
        let streams = probe(&path(id).join("recording.mp4"));
        assert!((streams[0].start - streams[1].start).abs() < ALIGNED, "{id}: {streams:?}");
        video += streams[0].frames;
        audio += streams[1].frames;
        // One after the other, without a hole.
        let begin = started_at.as_second() as f64 + f64::from(started_at.subsec_nanosecond()) / 1e9;
        assert!(end.is_none_or(|end: f64| (end - begin).abs() < ALIGNED), "{id}: {end:?} {begin}");
        end = Some(begin + manifest.duration);
    }
    assert_eq!((video, audio), (VIDEO_FRAMES, clips::audio().len() as u64));
}
