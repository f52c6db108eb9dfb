//! Trouble that the server reports for the stream of a probe while it is live.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::playback::Source;
use crate::signal::Access;

/// Maximum time that the server has for its answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One reason why a stream, or one viewer of it, is dark.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Trouble {
    /// Stable name of the reason.
    pub reason: String,
    /// One sentence: the fact, then the remedy.
    pub message: String,
    /// `publisher` or `viewer`.
    pub peer: String,
}

#[derive(Deserialize)]
struct Page {
    streams: Vec<View>,
}

#[derive(Deserialize)]
struct View {
    trouble: Option<Vec<Trouble>>,
}

/// Returns the trouble of the live stream in `room`; `None` when the token may not list streams or the server reports none.
pub(crate) async fn read(base: &str, room: &str, access: &Access) -> Option<Vec<Trouble>> {
    let source = Source::new(base, access).ok()?;
    let url = format!("{base}/streams?state=live&room={room}&limit=1");
    match tokio::time::timeout(TIMEOUT, source.json::<Page>(&url)).await {
        Ok(Ok(page)) => page.streams.into_iter().next()?.trouble,
        Ok(Err(error)) => {
            tracing::debug!(%error, "trouble of the stream is unknown");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Reads from a server that answers once with this status and body. Returns the path that was requested, too.
    async fn read_from(status: &str, body: &str) -> (Option<Vec<Trouble>>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let size = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..size]).split(' ').nth(1).unwrap().to_owned()
        });
        let found = read(&base, "door", &Access::default()).await;
        (found, served.await.unwrap())
    }

    #[tokio::test]
    async fn trouble_of_the_live_stream_is_read() {
        let listed = r#"{"streams":[{"room":"door","trouble":[
            {"reason":"policed","message":"m","since":"2026-01-01T00:00:00Z","peer":"publisher"}]}]}"#;
        let (found, path) = read_from("200 OK", listed).await;
        let policed = Trouble { reason: "policed".into(), message: "m".into(), peer: "publisher".into() };
        assert_eq!(found, Some(vec![policed]));
        assert_eq!(path, "/streams?state=live&room=door&limit=1");
    }

    #[tokio::test]
    async fn refused_or_unknown_trouble_is_left_out() {
        for (status, body) in [
            ("403 Forbidden", r#"{"title":"Forbidden"}"#),
            ("200 OK", r#"{"streams":[]}"#),
            ("200 OK", r#"{"streams":[{"room":"door"}]}"#),
            ("200 OK", "no JSON"),
        ] {
            assert_eq!(read_from(status, body).await.0, None, "{status} {body}");
        }
        assert_eq!(read_from("200 OK", r#"{"streams":[{"trouble":[]}]}"#).await.0, Some(Vec::new()));
    }
}
