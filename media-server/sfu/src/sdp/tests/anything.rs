//! Text of any kind, and clients' offers damaged at random: nothing panics, and what is accepted is answered well.

use super::*;
use proptest::prelude::*;

/// Whatever is accepted is answered in a form that stands the checks of an answer.
fn feed(text: &str) {
    let _ = IceFragment::parse(text).map(|f| f.answer(&local()));
    let Ok(offer) = Offer::parse(text) else { return };
    let source = source(&[payload(96, Codec::Vp8, ""), payload(97, Codec::H264, &h264("42e01f", 1))]);
    let answers = [
        offer
            .answer_publisher(
                &local(),
                &AnswerOptions { max_bitrate: Some(1), partial_answers: true, ..AnswerOptions::default() },
            )
            .map(|a| a.0),
        offer.answer_subscriber(&local(), &source, SSRCS, &AnswerOptions::default()).map(|a| a.0),
    ];
    for answer in answers.into_iter().flatten() {
        let answer = Answer::parse(answer);
        assert_eq!(answer.media.len(), offer.section_count());
        for line in answer.session.iter().chain(answer.media.iter().flatten()) {
            assert!(line.len() > 2 && line.as_bytes()[1] == b'=', "{line:?}");
            assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
        }
        let carried = answer.media.iter().filter(|section| !is_rejected(section)).count();
        assert!(carried > 0);
        for once in ["a=setup:", "a=ice-ufrag:Aabcdefg"] {
            assert_eq!(answer.text.matches(once).count(), carried);
        }
    }
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..PUBLISH.len() + VIEW.len()).prop_map(|i| PUBLISH.iter().chain(&VIEW).nth(i).expect("in range").1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}") {
        feed(&text);
    }

    #[test]
    fn any_lines_are_survived(lines in prop::collection::vec("[a-z]=[ -~\u{80}-\u{2ff}]{0,40}", 0..30)) {
        feed(&lines.join("\r\n"));
        feed(&format!("v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\n{}\r\n", lines.join("\r\n")));
    }

    #[test]
    fn a_truncated_offer_is_survived(offer in any_fixture(), cut in 0.0..1.0_f64) {
        let end = (offer.len() as f64 * cut) as usize;
        feed(&offer[..end]);
        feed(&offer[end..]);
    }

    #[test]
    fn offers_with_lines_removed_doubled_swapped_and_overwritten_are_survived(
        offer in any_fixture(),
        edits in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,12}"), 1..12),
    ) {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (edit, at, other, text) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match edit {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                _ => {
                    let from = other % (lines[at].len() + 1);
                    let to = (from + text.len()).min(lines[at].len());
                    lines[at].replace_range(from..to, &text);
                }
            }
        }
        feed(&(lines.join("\r\n") + "\r\n"));
    }

    #[test]
    fn offers_with_bytes_overwritten_are_survived(
        offer in any_fixture(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = offer.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        feed(&String::from_utf8_lossy(&bytes));
    }
}
