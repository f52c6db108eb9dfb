//! Simulcast offers: one layer is received, and it is the best one.

use super::*;

/// Chrome's offer with other layers; `rids` are the `a=rid` values.
fn layered(rids: &[&str], list: &str) -> String {
    let offer = without(fixture("chrome-publish-simulcast"), "a=rid:");
    let lines: Vec<String> = rids.iter().map(|rid| format!("a=rid:{rid}\r\n")).collect();
    with(&offer, "a=simulcast:send h;l", &format!("{}a=simulcast:{list}", lines.concat()))
}

fn chosen(rids: &[&str], list: &str) -> Option<String> {
    publish(&layered(rids, list)).1.video.unwrap().rid
}

#[test]
fn simulcast_answer_receives_one_layer() {
    let (answer, tracks) = publish(fixture("chrome-publish-simulcast"));
    assert!(answer.has("video", "a=rid:h recv") && answer.has("video", "a=simulcast:recv h"));
    assert!(!answer.text.contains("a=rid:l"));
    let video = tracks.video.unwrap();
    for (id, uri) in [
        (video.extensions.rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
        (video.extensions.repaired_rid, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
    ] {
        assert!(answer.has("video", &format!("a=extmap:{} {uri}", id.unwrap())));
    }
}

#[test]
fn simulcast_ssrcs_are_those_of_the_layer() {
    let offer = fixture("firefox-publish-simulcast");
    let video = publish(offer).1.video.unwrap();
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(4_217_341_059), Some(2_731_042_260)));
    let renamed = with(&with(offer, "a=rid:l send", "a=rid:f send"), "a=simulcast:send h;l", "a=simulcast:send h;f");
    let video = publish(&renamed).1.video.unwrap();
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(3_758_001_966), Some(162_485_788)), "the second layer");
}

#[test]
fn best_layer_is_found_by_restriction_name_and_order() {
    for (rids, list, best) in [
        // Restrictions decide first.
        (&["a send max-width=1920;max-height=1080", "b send max-width=640;max-height=360"][..], "send a;b", "a"),
        (&["a send max-width=640;max-height=360", "f send max-width=320;max-height=180"], "send a;f", "a"),
        (&["0 send max-br=300000", "1 send max-br=2500000"], "send 0;1", "1"),
        (&["q send max-width=320", "x send"], "send x;q", "x"),
        // Names of browsers' applications.
        (&["q send", "h send", "f send"], "send q;h;f", "f"),
        (&["f send", "h send", "q send"], "send f;h;q", "f"),
        (&["h send", "m send", "l send"], "send h;m;l", "h"),
        (&["low send", "mid send", "high send"], "send low;mid;high", "high"),
        // OBS numbers from the largest, others from the smallest.
        (&["0 send", "1 send", "2 send"], "send 2;1;0", "0"),
        (&["0 send", "1 send", "2 send"], "send 0;1;2", "0"),
        (&["r0 send", "r1 send", "r2 send"], "send r0;r1;r2", "r2"),
        (&["1 send", "2 send", "3 send"], "send 1;2;3", "3"),
        // Alternatives and paused layers.
        (&["a send", "b send", "c send"], "send a;b,c", "b"),
        (&["a send", "b send", "f send"], "send a;b;~f", "b"),
        (&["h send", "l send"], "recv x send h;l", "h"),
    ] {
        assert_eq!(chosen(rids, list).as_deref(), Some(best), "{list}");
    }
}

#[test]
fn one_layer_is_no_simulcast() {
    for (rids, list) in [(&["h send"][..], "send h"), (&[], "recv h;l"), (&[], "send"), (&["h send"], "send h;h")] {
        let (answer, tracks) = publish(&layered(rids, list));
        let video = tracks.video.unwrap();
        assert_eq!((video.rid, video.extensions.rid), (None, None), "{list}");
        assert!(!answer.text.contains("a=simulcast") && !answer.text.contains("a=rid"), "{list}");
    }
}
