//! Checks that every SDP body passes before it is parsed, and the grammar of values that we echo.
//!
//! What an answer repeats of an offer (mids, `a=fmtp`) must not be able to open a line of its own: control characters
//! are refused here, once, for the whole text.

use super::error::{SdpError, quote};
use crate::parameters::IceCredentials;

/// The longest body that is parsed. The longest offer of a browser has about 12 KiB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;

/// Size and characters: line ends are LF or CRLF, and there are no other control characters than TAB.
pub(super) fn check(text: &str) -> Result<(), SdpError> {
    if text.len() > MAX_SDP_BYTES {
        return Err(SdpError::TooLarge { bytes: text.len(), limit: MAX_SDP_BYTES });
    }
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(SdpError::Syntax {
                line: index + 1,
                text: quote(&line.escape_debug().to_string()),
                reason: "a control character".to_owned(),
            });
        }
    }
    Ok(())
}

/// `token` of RFC 8866 §9, and short: mids and identifiers.
pub(super) fn is_token(value: &str) -> bool {
    (1..=64).contains(&value.len())
        && value.bytes().all(
            |b| matches!(b, 0x21 | 0x23..=0x27 | 0x2A..=0x2B | 0x2D..=0x2E | 0x30..=0x39 | 0x41..=0x5A | 0x5E..=0x7E),
        )
}

/// Lengths and alphabet of RFC 8839 §5.4.
pub(super) fn ice_credentials(ufrag: &str, pwd: &str) -> Result<IceCredentials, SdpError> {
    let ice_chars = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    if !((4..=256).contains(&ufrag.len()) && ice_chars(ufrag)) {
        return Err(SdpError::InvalidAttribute {
            attribute: "a=ice-ufrag",
            value: quote(ufrag),
            expected: "4 to 256 letters, digits, + or / are valid",
        });
    }
    if !((22..=256).contains(&pwd.len()) && ice_chars(pwd)) {
        return Err(SdpError::InvalidAttribute {
            attribute: "a=ice-pwd",
            value: "…".to_owned(),
            expected: "22 to 256 letters, digits, + or / are valid",
        });
    }
    Ok(IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
}
