//! TURN and STUN servers as clients are told of them: `Link` headers (RFC 9725 §4.6) and, for pages, JSON.
//!
//! Where a secret is shared with the relay, each telling has credentials of its own, good for a limited time. A relay
//! whose credentials cannot be made is left out: the direct path remains, and the log says why.

use crate::config::{TurnConfig, TurnCredentials};
use crate::turn::{Credentials, issue};
use axum::http::HeaderValue;
use serde::Serialize;
use std::time::SystemTime;
use utoipa::ToSchema;

/// The `Link` headers of a 201, one for each URL.
pub(super) fn links(turn: &TurnConfig) -> Vec<HeaderValue> {
    let telling = Telling::of(turn);
    let link = |url: &String, credentials: &Option<Credentials>| {
        let mut link = format!("<{url}>; rel=\"ice-server\"");
        if let Some(Credentials { username, credential }) = credentials {
            link.push_str(&format!(
                "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
                quoted(username),
                quoted(credential)
            ));
        }
        HeaderValue::from_str(&link).ok()
    };
    let others = telling.others.iter().filter_map(|url| link(url, &None));
    others.chain(telling.relays.iter().filter_map(|url| link(url, &telling.credentials))).collect()
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
    let Telling { others, relays, credentials } = Telling::of(turn);
    let mut servers = Vec::new();
    if !others.is_empty() {
        servers.push(IceServer { urls: others, username: None, credential: None });
    }
    if !relays.is_empty() {
        let (username, credential) = credentials.map(|given| (given.username, given.credential)).unzip();
        servers.push(IceServer { urls: relays, username, credential });
    }
    servers
}

/// What one client is told.
struct Telling {
    others: Vec<String>,
    relays: Vec<String>,
    /// For the relays.
    credentials: Option<Credentials>,
}

impl Telling {
    fn of(turn: &TurnConfig) -> Telling {
        let (relays, others): (Vec<_>, Vec<_>) = turn.urls.iter().cloned().partition(|url| url.starts_with("turn"));
        let credentials = match &turn.credentials {
            _ if relays.is_empty() => None,
            TurnCredentials::None => None,
            TurnCredentials::Fixed(username, credential) => {
                let credential = String::from_utf8_lossy(credential.expose()).into_owned();
                Some(Credentials { username: username.clone(), credential })
            }
            TurnCredentials::Shared { dir, ttl } => match issue(dir, *ttl, SystemTime::now()) {
                Ok(credentials) => Some(credentials),
                Err(error) => {
                    tracing::error!(%error, "a client is not told of the relay: there are no credentials for it");
                    return Telling { others, relays: Vec::new(), credentials: None };
                }
            },
        };
        Telling { others, relays, credentials }
    }
}

/// As a quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;
    use std::time::Duration;

    fn turn(credentials: TurnCredentials) -> TurnConfig {
        TurnConfig { urls: vec!["stun:s.example:3478".into(), "turn:t.example:3478?transport=udp".into()], credentials }
    }

    fn fixed() -> TurnConfig {
        turn(TurnCredentials::Fixed("cam".into(), Secret::new("se\"cret")))
    }

    #[test]
    fn links_carry_credentials_for_turn_only() {
        let links = links(&fixed());
        assert_eq!(links[0], "<stun:s.example:3478>; rel=\"ice-server\"");
        assert_eq!(
            links[1],
            "<turn:t.example:3478?transport=udp>; rel=\"ice-server\"; username=\"cam\"; credential=\"se\\\"cret\"; \
             credential-type=\"password\""
        );
    }

    #[test]
    fn servers_have_the_form_of_rtc_configuration() {
        let json = serde_json::to_value(servers(&fixed())).unwrap();
        assert_eq!(json[0], serde_json::json!({"urls": ["stun:s.example:3478"]}));
        assert_eq!(json[1]["credential"], "se\"cret");
    }

    #[test]
    fn each_session_is_given_credentials_of_its_own_from_a_shared_secret() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "north").unwrap();
        let turn = turn(TurnCredentials::Shared { dir: folder.path().to_owned(), ttl: Duration::from_secs(60) });
        let told: Vec<String> = (0..2).map(|_| links(&turn)[1].to_str().unwrap().to_owned()).collect();
        assert_ne!(told[0], told[1]);
        assert!(told.iter().all(|link| link.contains("username=\"") && link.contains("credential=\"")), "{told:?}");
        let page = servers(&turn);
        assert!(page[1].username.is_some() && page[1].credential.is_some());
    }

    #[test]
    fn a_relay_without_a_secret_is_left_out_and_the_rest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let turn = turn(TurnCredentials::Shared { dir: folder.path().to_owned(), ttl: Duration::from_secs(60) });
        assert_eq!(links(&turn), ["<stun:s.example:3478>; rel=\"ice-server\""]);
        assert_eq!(servers(&turn).len(), 1);
    }
}
