//! TURN and STUN servers as clients are told of them: `Link` headers (RFC 9725 §4.6) and, for pages, JSON.

use crate::config::{TurnConfig, TurnCredentials};
use axum::http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

/// The `Link` headers of a 201, one for each URL.
pub(super) fn links(turn: &TurnConfig) -> Vec<HeaderValue> {
    turn.urls
        .iter()
        .filter_map(|url| {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if let (true, TurnCredentials::Fixed(username, credential)) = (is_turn(url), &turn.credentials) {
                let credential = String::from_utf8_lossy(credential.expose()).into_owned();
                link.push_str(&format!(
                    "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
                    quoted(username),
                    quoted(&credential)
                ));
            }
            HeaderValue::from_str(&link).ok()
        })
        .collect()
}

/// One server in the form of `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct IceServer {
    /// `turn:`, `turns:`, `stun:` or `stuns:` URLs.
    urls: Vec<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

/// The servers for a page that may know them.
pub(super) fn servers(turn: &TurnConfig) -> Vec<IceServer> {
    let (relays, others): (Vec<_>, Vec<_>) = turn.urls.iter().cloned().partition(|url| is_turn(url));
    let mut servers = Vec::new();
    if !others.is_empty() {
        servers.push(IceServer { urls: others, username: None, credential: None });
    }
    if !relays.is_empty() {
        let (username, credential) = match &turn.credentials {
            TurnCredentials::Fixed(username, credential) => {
                (Some(username.clone()), Some(String::from_utf8_lossy(credential.expose()).into_owned()))
            }
            TurnCredentials::None | TurnCredentials::Shared { .. } => (None, None),
        };
        servers.push(IceServer { urls: relays, username, credential });
    }
    servers
}

fn is_turn(url: &str) -> bool {
    url.starts_with("turn")
}

/// As a quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    fn turn() -> TurnConfig {
        TurnConfig {
            urls: vec!["stun:s.example:3478".into(), "turn:t.example:3478?transport=udp".into()],
            credentials: TurnCredentials::Fixed("cam".into(), Secret::new("se\"cret")),
        }
    }

    #[test]
    fn links_carry_credentials_for_turn_only() {
        let links = links(&turn());
        assert_eq!(links[0], "<stun:s.example:3478>; rel=\"ice-server\"");
        assert_eq!(
            links[1],
            "<turn:t.example:3478?transport=udp>; rel=\"ice-server\"; username=\"cam\"; credential=\"se\\\"cret\"; \
             credential-type=\"password\""
        );
    }

    #[test]
    fn servers_have_the_form_of_rtc_configuration() {
        let json = serde_json::to_value(servers(&turn())).unwrap();
        assert_eq!(json[0], serde_json::json!({"urls": ["stun:s.example:3478"]}));
        assert_eq!(json[1]["credential"], "se\"cret");
    }
}
