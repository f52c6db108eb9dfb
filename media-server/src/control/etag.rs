//! Entity tags of sessions: one a generation of ICE credentials (RFC 9725 §4.3.1; comparison by RFC 9110 §13.1.1).

use super::error::ControlError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A new strong entity tag, with its quotes.
pub(super) fn random() -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 12]>()))
}

/// Checks the value of `If-Match` against the current tag.
///
/// `*` fits any generation: it is what a client restarts ICE with. RFC 9725 prints it with quotes in its example, so
/// that is taken too; no tag of ours can look like that. Weak tags never fit.
pub(super) fn check(if_match: Option<&str>, current: &str) -> Result<(), ControlError> {
    let value = if_match.ok_or(ControlError::PreconditionRequired)?.trim();
    if is_star(if_match) || value.split(',').any(|tag| tag.trim() == current) {
        Ok(())
    } else {
        Err(ControlError::PreconditionFailed)
    }
}

/// `If-Match: *`, with quotes or without.
pub(super) fn is_star(if_match: Option<&str>) -> bool {
    matches!(if_match.map(str::trim), Some("*" | "\"*\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_strong_quoted_and_differ() {
        let tag = random();
        assert!(tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"'));
        assert!(!tag[1..tag.len() - 1].contains(['"', ',', '*']));
        assert_ne!(tag, random());
    }

    #[test]
    fn only_the_current_tag_or_a_star_fits() {
        let fits = |value| check(Some(value), "\"now\"").is_ok();
        for good in ["\"now\"", " \"now\" ", "\"old\", \"now\"", "*", "\"*\""] {
            assert!(fits(good), "{good}");
        }
        for bad in ["\"old\"", "now", "W/\"now\"", "", "\"now", ","] {
            assert!(!fits(bad), "{bad}");
        }
        assert!(matches!(check(None, "\"now\""), Err(ControlError::PreconditionRequired)));
        assert!(matches!(check(Some("\"old\""), "\"now\""), Err(ControlError::PreconditionFailed)));
    }
}
