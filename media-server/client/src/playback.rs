//! The other half of a smoke test: what was just published is to be a recording, and each byte of it what the manifest says.
//!
//! Read over the API as a player does, so it does not matter whether a file lies on the server's disk or in its store.
//! Waits until the recording is finished and, where the server has a store, until it is there. Nothing is decoded.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::signal::{Access, SignalError, innermost};

/// Between two looks at a recording that is not finished.
const LOOK: Duration = Duration::from_millis(250);
/// The longest list, playlist or manifest that is read.
const LONGEST_DOCUMENT: usize = 4 << 20;

/// A recording that was read back.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// Its id.
    pub id: String,
    /// Milliseconds from the camera's end until it could be read.
    pub finished_ms: f64,
    /// As its manifest says.
    pub seconds: f64,
    /// Files that were read: those that the manifest has a checksum for, MP4 files aside.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether it is in a store; `None` if the server has none.
    pub stored: Option<bool>,
}

/// Why it could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum PlaybackError {
    /// The server cannot be asked.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// Nothing was recorded.
    #[error("there is no recording of room {0}")]
    None(String),
    /// It did not become what it should in time.
    #[error("recording {id} is {state} after {seconds:.0} s")]
    NotFinished {
        /// Which.
        id: String,
        /// What the server says of it.
        state: String,
        /// How long was waited.
        seconds: f64,
    },
    /// It never will.
    #[error("recording {id} failed: {}", .trouble.as_deref().unwrap_or("no reason is told"))]
    Failed {
        /// Which.
        id: String,
        /// What the server says of it.
        trouble: Option<String>,
    },
    /// A document of it cannot be read.
    #[error("{url}: {what}")]
    Document {
        /// Which.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file is not what the manifest says.
    #[error("{url} has {found}, and the manifest says {wanted}")]
    Differs {
        /// Which.
        url: String,
        /// Bytes and checksum, as read.
        found: String,
        /// Bytes and checksum, as they should be.
        wanted: String,
    },
}

impl PlaybackError {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            PlaybackError::Signal(SignalError::Refused { status, .. }) if matches!(status.as_u16(), 401 | 403) => {
                "give a token that may subscribe in this room (--token)"
            }
            PlaybackError::None(_) => "switch recording on (spec.recording.enabled), or leave out --recording",
            PlaybackError::NotFinished { .. } => {
                "wait longer (--recording-timeout): a recording is finished spec.recording.idleTimeout after its camera left, and then uploaded; else see the server's log and the condition StorageReady"
            }
            PlaybackError::Differs { .. } => "see what else writes to the volume or the bucket, and the server's log",
            _ => "see the server's log",
        }
    }
}

/// What `/recordings` says of one.
#[derive(Debug, Deserialize)]
struct View {
    id: String,
    state: String,
    #[serde(default)]
    trouble: Option<String>,
    #[serde(default)]
    stored: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Page {
    recordings: Vec<View>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    duration: f64,
    playlist: Part,
    inits: Vec<Part>,
    segments: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    file: String,
    bytes: u64,
    sha256: String,
}

/// Waits for the newest recording of `room` at the server at `base`, up to `limit`, and reads it.
pub(crate) async fn play(base: &str, room: &str, access: &Access, limit: Duration) -> Result<Played, PlaybackError> {
    let started = Instant::now();
    let source = Source::new(base, access)?;
    let view = source.finished(room, limit).await?;
    let finished = started.elapsed();
    let manifest_url = source.file(&view.id, "manifest.json");
    let manifest: Manifest = source.json(&manifest_url).await?;
    if manifest.segments.is_empty() {
        return Err(document(&manifest_url, "it names no segment".to_owned()));
    }
    let playlist_url = source.file(&view.id, &manifest.playlist.file);
    let playlist = source.text(&playlist_url).await?;
    if let Some(missing) = manifest.segments.iter().find(|part| !playlist.contains(&part.file)) {
        return Err(document(&playlist_url, format!("it does not name {}", missing.file)));
    }
    let mut bytes = 0;
    let parts: Vec<&Part> =
        std::iter::once(&manifest.playlist).chain(&manifest.inits).chain(&manifest.segments).collect();
    for part in &parts {
        source.compare(&view.id, part).await?;
        bytes += part.bytes;
    }
    Ok(Played {
        finished_ms: finished.as_secs_f64() * 1000.0,
        seconds: manifest.duration,
        files: parts.len(),
        bytes,
        stored: view.stored,
        id: view.id,
    })
}

fn document(url: &str, what: String) -> PlaybackError {
    PlaybackError::Document { url: url.to_owned(), what }
}

/// A server's recordings.
pub(crate) struct Source {
    base: String,
    token: Option<String>,
    client: Client,
}

impl Source {
    pub(crate) fn new(base: &str, access: &Access) -> Result<Source, SignalError> {
        let url =
            Url::parse(base).map_err(|error| SignalError::Url { url: base.to_owned(), reason: error.to_string() })?;
        Ok(Source { base: base.to_owned(), token: access.token.clone(), client: access.client(&url)? })
    }

    fn file(&self, id: &str, name: &str) -> String {
        format!("{}/recordings/{id}/{name}", self.base)
    }

    async fn finished(&self, room: &str, limit: Duration) -> Result<View, PlaybackError> {
        let started = Instant::now();
        let url = format!("{}/recordings?room={room}&limit=1", self.base);
        loop {
            let newest = self.json::<Page>(&url).await?.recordings.into_iter().next();
            let state = match newest {
                Some(view) if matches!(view.state.as_str(), "complete" | "repaired") && view.stored != Some(false) => {
                    return Ok(view);
                }
                Some(View { id, state, trouble, .. }) if state == "failed" => {
                    return Err(PlaybackError::Failed { id, trouble });
                }
                newest => newest,
            };
            if started.elapsed() >= limit {
                let Some(View { id, state, stored, trouble }) = state else {
                    return Err(PlaybackError::None(room.to_owned()));
                };
                let state = if stored == Some(false) { format!("{state}, and not in the store") } else { state };
                let state = trouble.map_or(state.clone(), |trouble| format!("{state} ({trouble})"));
                return Err(PlaybackError::NotFinished { id, state, seconds: limit.as_secs_f64() });
            }
            sleep(LOOK).await;
        }
    }

    async fn compare(&self, id: &str, part: &Part) -> Result<(), PlaybackError> {
        let url = self.file(id, &part.file);
        let mut response = self.ask(&url).await?;
        let (mut digest, mut length) = (Context::new(&SHA256), 0u64);
        while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(&url, source))? {
            digest.update(&chunk);
            length += chunk.len() as u64;
        }
        let sha256: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if length == part.bytes && sha256 == part.sha256 {
            return Ok(());
        }
        let tell = |bytes: u64, sha256: &str| format!("{bytes} bytes with SHA-256 {sha256}");
        Err(PlaybackError::Differs { url, found: tell(length, &sha256), wanted: tell(part.bytes, &part.sha256) })
    }

    pub(crate) async fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, PlaybackError> {
        serde_json::from_str(&self.text(url).await?)
            .map_err(|error| document(url, format!("not as the API has it: {error}")))
    }

    async fn text(&self, url: &str) -> Result<String, PlaybackError> {
        let mut response = self.ask(url).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(url, source))? {
            if bytes.len() + chunk.len() > LONGEST_DOCUMENT {
                return Err(document(url, format!("it is longer than {LONGEST_DOCUMENT} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| document(url, "it is no text".to_owned()))
    }

    async fn ask(&self, url: &str) -> Result<reqwest::Response, SignalError> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|source| unreachable(url, source))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let detail = crate::signal::problem(response).await;
        Err(SignalError::Refused { url: url.to_owned(), status, detail, retry_after: None })
    }
}

fn unreachable(url: &str, source: reqwest::Error) -> SignalError {
    tracing::debug!(url, error = innermost(&source), "no answer");
    SignalError::Unreachable { url: url.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers GETs from a function of path and of how many requests came before.
    async fn server(answer: impl Fn(&str, usize) -> Option<String> + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            let mut asked = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let size = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..size]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default();
                let (status, body) = match answer(path, asked) {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", r#"{"title":"No such recording"}"#.to_owned()),
                };
                asked += 1;
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        base
    }

    fn part(file: &str, content: &str) -> serde_json::Value {
        let sha256: String = ring::digest::digest(&SHA256, content.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        serde_json::json!({"file": file, "bytes": content.len(), "sha256": sha256})
    }

    const PLAYLIST: &str = "#EXTM3U\nsegment-000001.m4s\n";

    fn manifest() -> String {
        serde_json::json!({
            "duration": 3.0, "playlist": part("index.m3u8", PLAYLIST),
            "inits": [part("init-1.mp4", "ftyp")], "segments": [part("segment-000001.m4s", "moof")],
        })
        .to_string()
    }

    /// A recording `r` in the states given, one a look, then as the last; `segment` is what its segment is.
    async fn recorded(views: &'static [&'static str], segment: &'static str) -> String {
        server(move |path, asked| match path.rsplit('/').next()? {
            "manifest.json" => Some(manifest()),
            "index.m3u8" => Some(PLAYLIST.to_owned()),
            "init-1.mp4" => Some("ftyp".to_owned()),
            "segment-000001.m4s" => Some(segment.to_owned()),
            list if list.starts_with("recordings?room=door") => {
                let view = views.get(asked.min(views.len() - 1)).map_or("", |view| view);
                Some(format!(r#"{{"recordings":[{view}]}}"#))
            }
            _ => None,
        })
        .await
    }

    async fn read(base: &str, limit: Duration) -> Result<Played, PlaybackError> {
        play(base, "door", &Access::default(), limit).await
    }

    #[tokio::test]
    async fn a_recording_is_waited_for_until_it_is_stored_and_read_whole() {
        let base = recorded(
            &[
                "",
                r#"{"id":"r","state":"recording"}"#,
                r#"{"id":"r","state":"complete","stored":false}"#,
                r#"{"id":"r","state":"complete","stored":true}"#,
            ],
            "moof",
        )
        .await;
        let played = read(&base, Duration::from_secs(30)).await.unwrap();
        assert_eq!((played.id.as_str(), played.files, played.stored), ("r", 3, Some(true)));
        assert_eq!(played.bytes, PLAYLIST.len() as u64 + 8);
    }

    #[tokio::test]
    async fn a_changed_byte_is_found() {
        let base = recorded(&[r#"{"id":"r","state":"complete"}"#], "mooF").await;
        let error = read(&base, Duration::from_secs(30)).await.unwrap_err();
        assert!(matches!(&error, PlaybackError::Differs { url, .. } if url.ends_with("segment-000001.m4s")), "{error}");
    }

    #[tokio::test]
    async fn what_does_not_come_is_told_by_what_there_is() {
        for (view, words) in [
            ("", "no recording of room door"),
            (r#"{"id":"r","state":"recording"}"#, "is recording after"),
            (r#"{"id":"r","state":"complete","stored":false}"#, "not in the store"),
            (r#"{"id":"r","state":"failed","trouble":"disk"}"#, "failed: disk"),
        ] {
            let views: &'static [&'static str] = vec![view].leak();
            let error = read(&recorded(views, "moof").await, Duration::ZERO).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.fix().is_empty());
        }
    }
}
