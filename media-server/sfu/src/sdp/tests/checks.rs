//! What holds for the answer to every client.

/// An answer, cut into sections by hand, so that the writer is not checked by its own parser.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) session: Vec<String>,
    pub(super) media: Vec<Vec<String>>,
}

impl Answer {
    pub(super) fn parse(text: String) -> Answer {
        assert!(text.ends_with("\r\n") && !text.contains("\r\n\r\n"));
        let (mut session, mut media) = (Vec::new(), Vec::<Vec<String>>::new());
        for line in text.split_terminator("\r\n") {
            if line.starts_with("m=") {
                media.push(Vec::new());
            }
            media.last_mut().unwrap_or(&mut session).push(line.to_owned());
        }
        Answer { text, session, media }
    }

    pub(super) fn section(&self, kind: &str) -> &[String] {
        self.media.iter().find(|m| m[0].starts_with(&format!("m={kind} "))).expect("the section")
    }

    pub(super) fn has(&self, kind: &str, line: &str) -> bool {
        self.section(kind).iter().any(|l| l == line)
    }

    pub(super) fn numbers(&self, kind: &str) -> Vec<u8> {
        self.section(kind)[0].split(' ').skip(3).map(|n| n.parse().unwrap()).collect()
    }

    pub(super) fn values(&self, kind: &str, prefix: &str) -> Vec<&str> {
        self.section(kind).iter().filter_map(|l| l.strip_prefix(prefix)).collect()
    }
}

/// Rejected by port 0.
pub(super) fn is_rejected(section: &[String]) -> bool {
    section[0].split(' ').nth(1) == Some("0")
}

pub(super) fn lines<'a>(offer: &'a str, prefix: &'a str) -> Vec<&'a str> {
    offer.lines().filter_map(|l| l.strip_prefix(prefix)).collect()
}

/// Order of sections, mids, the group without rejected sections, roles, one transport everywhere, candidates in the tagged
/// section.
pub(super) fn check_frame(name: &str, offer: &str, answer: &Answer) {
    let kinds = |texts: Vec<&str>| texts.iter().map(|m| m.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(lines(offer, "m=")), kinds(lines(&answer.text, "m=")), "{name}: order of sections");
    assert_eq!(lines(offer, "a=mid:"), lines(&answer.text, "a=mid:"), "{name}: mids");
    let mid = |section: &[String]| section.iter().find_map(|l| l.strip_prefix("a=mid:")).map(str::to_owned);
    let carried: Vec<String> = answer.media.iter().filter(|s| !is_rejected(s)).filter_map(|s| mid(s)).collect();
    let offered = lines(offer, "a=group:BUNDLE ").first().map(|group| group.split(' ').collect::<Vec<_>>());
    let group = offered.map(|mids| mids.into_iter().filter(|mid| carried.iter().any(|c| c == mid)).collect::<Vec<_>>());
    let group: Vec<String> = group.filter(|mids| !mids.is_empty()).map(|mids| mids.join(" ")).into_iter().collect();
    assert_eq!(lines(&answer.text, "a=group:BUNDLE "), group, "{name}: group");
    let setup = if offer.contains("a=setup:passive") { "a=setup:active" } else { "a=setup:passive" };
    assert_eq!(answer.session[..4], ["v=0", "o=- 42 2 IN IP4 127.0.0.1", "s=-", "t=0 0"], "{name}");
    assert!(answer.session.iter().any(|l| l == "a=ice-lite"), "{name}");
    for section in &answer.media {
        if is_rejected(section) {
            let said =
                section[1..].iter().all(|l| l.starts_with("a=mid:") || l == "c=IN IP4 0.0.0.0" || l == "a=inactive");
            assert!(said, "{name}: a rejected section has no other lines: {section:?}");
            continue;
        }
        let words: Vec<&str> = section[0].split(' ').collect();
        assert_eq!(words[1..3], ["9", "UDP/TLS/RTP/SAVPF"], "{name}");
        assert_eq!(section[1], "c=IN IP4 0.0.0.0", "{name}");
        let digest = format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":"));
        for wanted in
            ["a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:Aabcdefg", "a=ice-pwd:0123456789abcdefghijklmn", setup, &digest]
        {
            assert_eq!(section.iter().filter(|l| *l == wanted).count(), 1, "{name}: {wanted}");
        }
    }
    let candidates = [
        "a=candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host",
        "a=candidate:2 1 udp 2130706175 2001:db8::7 8189 typ host",
        "a=end-of-candidates",
    ];
    let tagged =
        lines(&answer.text, "a=group:BUNDLE ").first().map(|g| format!("a=mid:{}", g.split(' ').next().unwrap()));
    let is_tagged = |section: &Vec<String>| match &tagged {
        Some(mid) => section.contains(mid),
        None => !is_rejected(section),
    };
    let tagged = answer.media.iter().position(is_tagged).expect("a section with candidates");
    for (index, section) in answer.media.iter().enumerate() {
        let expected = index == tagged;
        for candidate in candidates {
            assert_eq!(section.iter().any(|l| l == candidate), expected, "{name}: {candidate}");
        }
    }
    for unanswered in ["a=bundle-only", "a=extmap-allow-mixed", "a=crypto"] {
        assert!(!answer.text.contains(unanswered), "{name}: {unanswered}");
    }
}

/// Every number in the answer is the client's own, with the client's own codec, format and RTX pair, and its feedback.
pub(super) fn check_payload_types(name: &str, offer: &str, answer: &Answer) {
    for section in answer.media.iter().filter(|section| !is_rejected(section)) {
        let numbers: Vec<&str> = section[0].split(' ').skip(3).collect();
        assert!(!numbers.is_empty(), "{name}");
        for number in &numbers {
            let rtpmap =
                section.iter().find_map(|l| l.strip_prefix(&format!("a=rtpmap:{number} "))).expect("an rtpmap");
            let offered = lines(offer, "a=rtpmap:");
            let offered = offered.iter().find_map(|l| l.strip_prefix(&format!("{number} "))).expect("offered");
            assert!(rtpmap.eq_ignore_ascii_case(offered), "{name}: {number} is {rtpmap}, offered {offered}");
            let apt = section.iter().find_map(|l| l.strip_prefix(&format!("a=fmtp:{number} apt=")));
            assert_eq!(rtpmap.starts_with("rtx/"), apt.is_some(), "{name}: {number}");
            if let Some(apt) = apt {
                assert!(numbers.contains(&apt), "{name}: RTX of {apt}, which is not answered");
                assert!(offer.contains(&format!("a=fmtp:{number} apt={apt}\r\n")), "{name}: apt as offered");
            }
        }
        let described = section.iter().filter(|l| l.starts_with("a=rtpmap:")).count();
        assert_eq!(numbers.len(), described, "{name}: no rtpmap beyond the m= line, none twice");
        for feedback in section.iter().filter(|l| l.starts_with("a=rtcp-fb:")) {
            assert!(offer.contains(&format!("{feedback}\r\n")), "{name}: {feedback} only if offered");
        }
        for fmtp in section.iter().filter(|l| l.starts_with("a=fmtp:")) {
            assert!(!fmtp.replace("sprop-stereo", "").contains("sprop-"), "{name}: {fmtp}");
        }
    }
}
