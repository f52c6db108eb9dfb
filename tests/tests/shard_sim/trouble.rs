//! Streams that are connected and dark, as the detector reports them from a shard's counters.

use super::*;
use sfu::shard::trouble::TroubleDetector;

/// A change: seconds since the start of the observation, the seat's session, the reason, and whether it began.
type Change = (u64, u64, &'static str, bool);

/// Runs for `seconds`, observed once a second.
fn observe(world: &mut World, detector: &mut TroubleDetector, seconds: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for second in 1..=seconds {
        world.run(Duration::from_secs(1));
        let found = detector.observe(world.now, &world.shard.stats(world.now));
        changes.extend(found.iter().map(|change| (second, change.session.0, change.reason.as_str(), change.began)));
    }
    changes
}

fn reasons(changes: &[Change]) -> Vec<(u64, &'static str, bool)> {
    changes.iter().map(|(_, session, reason, began)| (*session, *reason, *began)).collect()
}

fn began_within(changes: &[Change], limit: u64) {
    let late = changes.iter().find(|(second, ..)| *second > limit);
    assert_eq!(late, None, "of {changes:?}");
}

#[test]
fn healthy_room_has_no_trouble() {
    let (mut world, mut detector) = (World::new(50), TroubleDetector::default());
    world.camera(SMOOTH, false, 500);
    world.viewer(SMOOTH, true);
    assert_eq!(observe(&mut world, &mut detector, 40), []);
}

#[test]
fn sustained_excess_is_reported_as_policed() {
    let (mut world, mut detector) = (World::new(51), TroubleDetector::default());
    let camera = world.camera(SMOOTH, false, 500);
    world.viewer(SMOOTH, true);
    // The camera sends 2.5 Mbit/s.
    world.shard.handle_command(world.now, Command::SetMaxBitrate(Some(2_700_000)));
    assert_eq!(observe(&mut world, &mut detector, 10), []);
    world.shard.handle_command(world.now, Command::SetMaxBitrate(Some(1_670_000)));
    let changes = observe(&mut world, &mut detector, 10);
    assert_eq!(reasons(&changes), [(1, "policed", true)]);
    world.shard.handle_command(world.now, Command::SetMaxBitrate(None));
    assert_eq!(reasons(&observe(&mut world, &mut detector, 20)), [(1, "policed", false)]);
    assert!(world.camera_at(camera).totals().frames > 0);
}

#[test]
fn long_group_of_a_deaf_camera_is_reported() {
    let (mut world, mut detector) = (World::new(52), TroubleDetector::default());
    let camera = world.camera(SMOOTH, false, 500);
    *world.camera_at(camera).stream() = Stream::sized(2400, 9600, 30 * 120);
    world.viewer(SMOOTH, true);
    assert_eq!(observe(&mut world, &mut detector, 22), [], "the first viewer has its picture");
    let joiner = world.viewer(SMOOTH, true);
    let changes = observe(&mut world, &mut detector, 8);
    assert_eq!(reasons(&changes), [(1, "group-too-long", true)]);
    assert!(video(world.viewer_at(joiner).kept()).is_empty());
}

#[test]
fn long_group_of_a_responsive_camera_is_no_trouble() {
    let (mut world, mut detector) = (World::new(53), TroubleDetector::default());
    let camera = world.camera(SMOOTH, true, 500);
    *world.camera_at(camera).stream() = Stream::sized(2400, 9600, 30 * 600);
    world.viewer(SMOOTH, true);
    let mut changes = observe(&mut world, &mut detector, 40);
    world.viewer(SMOOTH, true);
    changes.extend(observe(&mut world, &mut detector, 40));
    assert_eq!(changes, []);
}

#[test]
fn keyframes_without_parameter_sets_are_reported() {
    let (mut world, mut detector) = (World::new(54), TroubleDetector::default());
    let camera = world.camera(SMOOTH, false, 500);
    world.camera_at(camera).stream().omit_parameters();
    world.viewer(SMOOTH, true);
    let changes = observe(&mut world, &mut detector, 10);
    assert_eq!(reasons(&changes), [(1, "no-parameter-sets", true)]);
    began_within(&changes, 6);
}

#[test]
fn offered_parameter_sets_are_no_trouble() {
    let (mut world, mut detector) = (World::new(55), TroubleDetector::default());
    let sets = "profile-level-id=42e01f;sprop-parameter-sets=Z0IAH5WoFAFuQA==,aM48gA==";
    let camera = world.camera_offering(SMOOTH, false, 500, |offer| offer.replace("profile-level-id=42e01f", sets));
    world.camera_at(camera).stream().omit_parameters();
    world.viewer(SMOOTH, true);
    assert_eq!(observe(&mut world, &mut detector, 10), []);
}

#[test]
fn narrow_link_is_reported_with_its_cause() {
    let (mut world, mut detector) = (World::new(56), TroubleDetector::default());
    world.camera(SMOOTH, true, 100);
    world.viewer(SMOOTH, true);
    world.viewer(Link { rate: Some(1_000_000), ..SMOOTH }, true);
    let changes = observe(&mut world, &mut detector, 20);
    assert_eq!(reasons(&changes), [(3, "link-too-narrow", true)]);
    began_within(&changes, 8);
}

#[test]
fn codec_that_a_viewer_lacks_is_reported_as_such() {
    let (mut world, mut detector) = (World::new(57), TroubleDetector::default());
    // The camera may send VP8, too, and sends H264.
    world.camera_offering(SMOOTH, false, 500, |offer| {
        offer
            .replace("SAVPF 96 97", "SAVPF 96 97 98")
            .replace("a=rtpmap:96 H264", "a=rtpmap:98 VP8/90000\r\na=rtpmap:96 H264")
    });
    world.viewer(SMOOTH, true);
    let lacking = world.viewer_offering(SMOOTH, |offer| {
        let lines = offer.split("\r\n").filter(|line| !line.starts_with("a=fmtp:102"));
        lines.collect::<Vec<_>>().join("\r\n").replace("a=rtpmap:102 H264", "a=rtpmap:102 VP8")
    });
    let changes = observe(&mut world, &mut detector, 10);
    assert_eq!(reasons(&changes), [(3, "codec-mismatch", true)]);
    began_within(&changes, 6);
    assert!(video(world.viewer_at(lacking).kept()).is_empty());
}
