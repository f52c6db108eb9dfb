//! Bodies of type `application/trickle-ice-sdpfrag`: trickled candidates and ICE restarts.
//!
//! Rules: RFC 8840 §4.4 and §9, RFC 9725 §4.3. Credentials may stand at session or at section level. The candidates of a
//! client are counted and not used: an ICE-lite server learns addresses from checks.

use super::error::{SdpError, quote};
use super::text::{check, ice_credentials, is_token};
use super::write::Lines;
use crate::parameters::{IceCredentials, LocalDescription};

/// An `application/trickle-ice-sdpfrag` body (RFC 8840).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceFragment {
    /// Credentials in it, when it has them. Other credentials than the session's mean a restart.
    pub ice: Option<IceCredentials>,
    /// Its `a=candidate` lines, not judged: this server is ICE-lite and needs none.
    pub candidates: usize,
    /// `a=end-of-candidates` was there.
    pub end_of_candidates: bool,
    /// `a=group:BUNDLE …`, the first pseudo `m=` line and its `a=mid`, for the answer.
    group: Option<String>,
    media: Option<String>,
    mid: Option<String>,
}

impl IceFragment {
    /// Parses and checks `text`.
    pub fn parse(text: &str) -> Result<IceFragment, SdpError> {
        check(text)?;
        let mut fragment = IceFragment::default();
        let (mut ufrags, mut pwds) = (Vec::new(), Vec::new());
        let mut sections = 0;
        for (index, line) in text.lines().enumerate().map(|(i, l)| (i, l.trim())).filter(|(_, l)| !l.is_empty()) {
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
                return Err(SdpError::Syntax {
                    line: index + 1,
                    text: quote(line),
                    reason: "a line of a fragment is a letter, an equals sign and a value".to_owned(),
                });
            };
            if kind == "m" {
                sections += 1;
                fragment.media.get_or_insert_with(|| value.to_owned());
            }
            let (name, value) = match kind {
                "a" => value.split_once(':').map_or((value, ""), |(name, value)| (name, value.trim())),
                _ => continue,
            };
            match name {
                "ice-ufrag" => add_once(&mut ufrags, value),
                "ice-pwd" => add_once(&mut pwds, value),
                "candidate" => fragment.candidates += 1,
                "end-of-candidates" => fragment.end_of_candidates = true,
                "group" if value.split_whitespace().all(is_token) => fragment.group = Some(value.to_owned()),
                "mid" if sections == 1 && is_token(value) => fragment.mid = Some(value.to_owned()),
                _ => {}
            }
        }
        fragment.ice = match (ufrags.as_slice(), pwds.as_slice()) {
            ([], []) => None,
            ([ufrag], [pwd]) => Some(ice_credentials(ufrag, pwd)?),
            ([_], []) | ([], [_]) => {
                return Err(SdpError::MissingAttribute {
                    section: "the fragment".to_owned(),
                    attribute: if pwds.is_empty() { "a=ice-pwd" } else { "a=ice-ufrag" },
                    remedy: "send a=ice-ufrag and a=ice-pwd of the local description together",
                });
            }
            _ => {
                return Err(SdpError::InvalidAttribute {
                    attribute: "a=ice-ufrag",
                    value: quote(&ufrags.join(", ")),
                    expected: "all sections share one transport, so one pair of a=ice-ufrag and a=ice-pwd is valid",
                });
            }
        };
        Ok(fragment)
    }

    /// The fragment that answers an ICE restart: our new credentials and all candidates. Where the client's fragment is
    /// at hand, [`IceFragment::answer`] is better.
    pub fn answer_restart(local: &LocalDescription) -> String {
        IceFragment::default().answer(local)
    }

    /// As [`IceFragment::answer_restart`], in the section that the client's fragment names, so that it finds its way
    /// into the client's remote description (RFC 9725 §4.3.3).
    pub fn answer(&self, local: &LocalDescription) -> String {
        let mut out = Lines(String::with_capacity(512));
        out.push(format_args!("a=ice-lite"));
        out.push(format_args!("a=ice-options:trickle"));
        if let Some(group) = &self.group {
            out.push(format_args!("a=group:{group}"));
        }
        if let (Some(media), Some(mid)) = (&self.media, &self.mid) {
            out.push(format_args!("m={media}"));
            out.push(format_args!("a=mid:{mid}"));
        }
        out.push(format_args!("a=ice-ufrag:{}", local.ice.ufrag));
        out.push(format_args!("a=ice-pwd:{}", local.ice.pwd));
        out.push_candidates(&local.candidates);
        out.0
    }
}

/// At most two different values matter: none, one, or too many.
fn add_once<'a>(values: &mut Vec<&'a str>, value: &'a str) {
    if values.len() < 2 && !values.contains(&value) {
        values.push(value);
    }
}
