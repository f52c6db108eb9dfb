//! What a viewer gets of what the camera sends: payload types matched, SSRCs named, errors.

use super::*;
use crate::sdp::codecs::H264Profile;

#[test]
fn h264_profiles_are_told_by_profile_and_constraints() {
    for (id, profile) in [
        ("42e01f", H264Profile::ConstrainedBaseline),
        ("42c015", H264Profile::ConstrainedBaseline),
        ("4D8028", H264Profile::ConstrainedBaseline),
        ("58f00a", H264Profile::ConstrainedBaseline),
        ("42001f", H264Profile::Baseline),
        ("4d001f", H264Profile::Main),
        ("4d4028", H264Profile::Main),
        ("640c1f", H264Profile::ConstrainedHigh),
        ("64001f", H264Profile::High),
        ("640032", H264Profile::High),
        ("f4001f", H264Profile::High444),
        ("6e0028", H264Profile::Other),
        ("x", H264Profile::Other),
        ("ßßß", H264Profile::Other),
    ] {
        assert_eq!(H264Profile::of(&format!("profile-level-id={id}")), profile, "{id}");
    }
    assert_eq!(H264Profile::of("packetization-mode=1"), H264Profile::ConstrainedBaseline);
}

#[test]
fn h264_goes_to_the_same_profile_then_the_next_higher_then_the_highest() {
    let offer = |ids: &[(&str, u8)]| -> Vec<PayloadType> {
        let numbered = ids.iter().zip(100..);
        numbered.map(|((id, mode), number)| payload(number, Codec::H264, &h264(id, *mode))).collect()
    };
    let all = offer(&[("42001f", 1), ("42001f", 0), ("42e01f", 1), ("42e01f", 0), ("4d001f", 1), ("64001f", 1)]);
    let pick = |id, mode, among: &[PayloadType]| {
        best_match(&payload(1, Codec::H264, &h264(id, mode)), among).map(|p| p.number)
    };
    for (id, mode, number) in [
        ("42001f", 1, 100),
        ("42001f", 0, 101),
        ("42e034", 1, 102),
        ("42e01f", 0, 103),
        ("4d0028", 1, 104),
        ("640028", 1, 105),
        ("640c28", 1, 105),
        ("f4001f", 1, 105),
    ] {
        assert_eq!(pick(id, mode, &all), Some(number), "{id} in mode {mode}");
    }
    assert_eq!(pick("42e01f", 1, &offer(&[("4d001f", 1), ("64001f", 1)])), Some(100), "the next higher");
    assert_eq!(pick("42e01f", 1, &offer(&[("42e01f", 0), ("64001f", 1)])), Some(101), "fragments need mode 1");
    assert_eq!(pick("64001f", 1, &offer(&[("42e01f", 0)])), Some(100), "better than nothing");
    assert_eq!(pick("64001f", 1, &[payload(1, Codec::Vp8, "")]), None);
}

#[test]
fn vp9_and_av1_need_the_same_profile() {
    let offered = [
        payload(98, Codec::Vp9, "profile-id=0"),
        payload(100, Codec::Vp9, "profile-id=2"),
        payload(45, Codec::Av1, "level-idx=5;profile=0;tier=0"),
    ];
    let pick = |codec, fmtp| best_match(&payload(1, codec, fmtp), &offered).map(|p| p.number);
    assert_eq!(pick(Codec::Vp9, ""), Some(98));
    assert_eq!(pick(Codec::Vp9, "profile-id=2"), Some(100));
    assert_eq!(pick(Codec::Vp9, "profile-id=1"), None);
    assert_eq!(pick(Codec::Av1, ""), Some(45));
    assert_eq!(pick(Codec::Av1, "profile=1"), None);
}

#[test]
fn a_viewer_without_the_codec_that_is_sent_is_told_so() {
    let error = view_error(fixture("gstreamer-view"), &source(&[payload(45, Codec::Av1, "")]));
    assert_eq!(
        error.to_string(),
        "m=video offers VP8, H264, VP9, rtx, and none of them can be used; offer AV1, which the camera sends"
    );
    assert!(error.is_unprocessable());
}

#[test]
fn the_source_s_order_decides_the_order_for_the_viewer() {
    let sent = [payload(1, Codec::Vp9, ""), payload(2, Codec::H264, &h264("42e01f", 1)), payload(3, Codec::Vp8, "")];
    let (_, tracks) = view(fixture("gstreamer-view"), &source(&sent));
    let numbers: Vec<u8> = tracks.video.unwrap().payload_types.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [99, 98, 97]);
    // Only VP8 (97) has RTX there, and it stands last: its SSRC is told all the same.
    let (answer, tracks) = view(fixture("gstreamer-view"), &source(&sent));
    assert_eq!((answer.numbers("video"), tracks.video.unwrap().rtx_ssrc), (vec![99, 98, 97, 100], Some(1002)));
}

#[test]
fn viewer_is_matched_over_all_codecs_of_the_camera() {
    let sent = [payload(45, Codec::Av1, ""), payload(102, Codec::H264, &h264("42e01f", 1))];
    let (_, tracks) = view(fixture("gstreamer-view"), &source(&sent));
    assert_eq!(tracks.video.unwrap().payload_types[0].codec, Codec::H264, "the first that both know");
}

#[test]
fn viewer_gets_both_kinds_of_a_camera_with_one() {
    for kind in ["audio", "video"] {
        let mut source = source(&[payload(96, Codec::Vp8, "")]);
        match kind {
            "audio" => source.audio = None,
            _ => source.video = None,
        }
        let (answer, tracks) = view(fixture("chrome-view"), &source);
        check_frame(kind, fixture("chrome-view"), &answer);
        check_payload_types(kind, fixture("chrome-view"), &answer);
        for offered in ["audio", "video"] {
            assert!(answer.has(offered, "a=sendonly") && !answer.values(offered, "a=ssrc").is_empty());
        }
        let (audio, video) = (tracks.audio.unwrap(), tracks.video.unwrap());
        assert_eq!((audio.ssrc, video.ssrc, video.rtx_ssrc), (1003, 1001, Some(1002)));
        assert_eq!(audio.payload_types[0].codec, Codec::Opus);
    }
}

#[test]
fn stereo_of_the_camera_reaches_the_viewer() {
    let with_audio = |fmtp: &str| {
        let mut source = source(&[payload(96, Codec::Vp8, "")]);
        source.audio.as_mut().unwrap().payload_types = vec![payload(111, Codec::Opus, fmtp)];
        view(fixture("chrome-view"), &source).0
    };
    let stereo = "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1";
    for fmtp in ["stereo=1;sprop-stereo=1", "sprop-stereo=1", "minptime=10;stereo=1"] {
        assert!(with_audio(fmtp).has("audio", stereo), "{fmtp}");
    }
    let unknown = "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1";
    for fmtp in ["", "stereo=0;sprop-stereo=0"] {
        assert!(with_audio(fmtp).has("audio", unknown), "{fmtp}");
    }
    let mut silent = source(&[payload(96, Codec::Vp8, "")]);
    silent.audio = None;
    assert!(view(fixture("chrome-view"), &silent).0.has("audio", unknown), "no camera's audio yet");
}

#[test]
fn no_kind_in_common_is_an_error() {
    let offer = fixture("chrome-publish-simulcast");
    let offer = with(offer, "a=sendonly", "a=recvonly");
    let mut source = source(&[payload(96, Codec::Vp8, "")]);
    source.video = None;
    let error = view_error(&offer, &source);
    assert_eq!(
        error.to_string(),
        "the offer asks for video alone, and the stream has audio; ask for what the stream has"
    );
}
