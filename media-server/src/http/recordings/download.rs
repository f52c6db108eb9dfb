//! A file over HTTP: entity tags, dates, conditions and one range (RFC 9110 §8.8, §13 and §14), streamed from the disk or
//! from the object store, or composed of segments. HEAD reads nothing.

use crate::http::media_token;
use crate::objects::{ObjectsError, Reason};
use crate::problem::{Kind, Problem};
use crate::recording::Opened;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use recorder::File;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// When a store that fails may be asked again.
const STORE_RETRY: Duration = Duration::from_secs(10);
/// A playlist is read whole to be rewritten; a longer one, of weeks, goes out as it is.
const LONGEST_PLAYLIST: u64 = 16 << 20;

/// A request for a file.
pub(in crate::http) struct Asked<'a> {
    pub(in crate::http) method: &'a Method,
    pub(in crate::http) headers: &'a HeaderMap,
    pub(in crate::http) file: File,
    /// A file name that is safe in a header, with the disposition.
    pub(in crate::http) save_as: Option<String>,
    /// A token from the query, which a playlist passes on.
    pub(in crate::http) token: Option<&'a str>,
    /// The contents never change.
    pub(in crate::http) immutable: bool,
    /// The end of the recording, if it has ended.
    pub(in crate::http) modified: Option<Timestamp>,
}

/// Returns the pair of the query that holds a token, unchanged, when it fits into another URL as it is.
pub(in crate::http) fn token(query: &str) -> Option<&str> {
    let named = |pair: &&str| pair.starts_with("access_token=") || pair.starts_with(media_token::PARAMETER);
    let pair = query.split('&').find(named)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%+/=".contains(&byte);
    let (_, token) = pair.split_once('=')?;
    (!token.is_empty() && token.bytes().all(plain)).then_some(pair)
}

/// Answers with the opened file.
pub(in crate::http) async fn answer(asked: Asked<'_>, opened: Opened) -> Result<Response<Body>, Problem> {
    let (len, tag, modified) = match &opened {
        Opened::Local(_, metadata) => {
            let modified = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
            (metadata.len(), entity_tag(metadata), modified)
        }
        Opened::Stored(stored) => (stored.len(), format!("\"{}\"", stored.tag()), asked.modified),
        Opened::Composed(mp4) => (mp4.len(), format!("\"{}\"", mp4.tag()), Some(mp4.modified())),
    };
    if let (File::Playlist, Some(token), 0..=LONGEST_PLAYLIST) = (asked.file, asked.token, len) {
        let text = whole(opened).await?;
        return Ok(respond(StatusCode::OK, &asked, vec![], Body::from(with_token(&text, token))));
    }
    let mut headers = vec![(ETAG, tag.clone()), (ACCEPT_RANGES, "bytes".to_owned())];
    headers.extend(
        modified
            .and_then(|at| rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok())
            .map(|date| (LAST_MODIFIED, date)),
    );
    if is_unchanged(asked.headers, &tag, modified) {
        return Ok(respond(StatusCode::NOT_MODIFIED, &asked, headers, Body::empty()));
    }
    let text = |name: HeaderName| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let is_head = asked.method == Method::HEAD;
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|known| known == tag));
    match range.map_or(Wanted::All, |range| wanted(range, len)) {
        Wanted::All => {
            headers.push((CONTENT_LENGTH, len.to_string()));
            let body = if is_head { Body::empty() } else { body(opened, None, len).await? };
            Ok(respond(StatusCode::OK, &asked, headers, body))
        }
        Wanted::Part { from, to } => {
            headers.push((CONTENT_LENGTH, (to - from + 1).to_string()));
            headers.push((CONTENT_RANGE, format!("bytes {from}-{to}/{len}")));
            let body = if is_head { Body::empty() } else { body(opened, Some((from, to)), to - from + 1).await? };
            Ok(respond(StatusCode::PARTIAL_CONTENT, &asked, headers, body))
        }
        Wanted::Beyond => {
            let problem = Problem::new(Kind::RangeNotSatisfiable, format!("the file has {len} bytes"));
            Err(match HeaderValue::from_str(&format!("bytes */{len}")) {
                Ok(value) => problem.header(CONTENT_RANGE, value),
                Err(_) => problem,
            })
        }
    }
}

/// Evaluates `If-None-Match`, or else `If-Modified-Since` (RFC 9110 §13.2.2).
fn is_unchanged(headers: &HeaderMap, tag: &str, modified: Option<Timestamp>) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE), modified) {
        (Some(known), ..) => matches(known, tag),
        (None, Some(since), Some(modified)) => rfc2822::DateTimeParser::new()
            .parse_timestamp(since)
            .is_ok_and(|since| modified.as_second() <= since.as_second()),
        _ => false,
    }
}

fn respond(status: StatusCode, asked: &Asked<'_>, headers: Vec<(HeaderName, String)>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let save = asked.save_as.as_ref().map(|name| (CONTENT_DISPOSITION, name.clone()));
    let kind = match asked.file {
        File::Playlist => "application/vnd.apple.mpegurl",
        File::Manifest => "application/json",
        File::Segment(_) => "video/iso.segment",
        File::Init(_) | File::Export(_) => "video/mp4",
    };
    // A file that may grow is asked for again, and mostly answered by 304. All are for this client alone.
    let cache = if asked.immutable && asked.file != File::Playlist {
        "private, max-age=31536000, immutable"
    } else {
        "private, no-cache"
    };
    let always = [(CONTENT_TYPE, kind.to_owned()), (CACHE_CONTROL, cache.to_owned())];
    for (name, value) in always.into_iter().chain(save).chain(headers) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A part of a file, both ends inclusive, or all of it: not more than was promised, should it grow meanwhile.
async fn body(opened: Opened, part: Option<(u64, u64)>, len: u64) -> Result<Body, Problem> {
    match opened {
        Opened::Local(mut file, _) => {
            if let Some((from, _)) = part {
                file.seek(io::SeekFrom::Start(from)).await.map_err(unreadable)?;
            }
            Ok(Body::from_stream(ReaderStream::with_capacity(file.take(len), CHUNK)))
        }
        Opened::Stored(_) | Opened::Composed(_) if len == 0 => Ok(Body::empty()),
        Opened::Stored(stored) => {
            let bytes = stored.read(part.map(|(from, to)| from..=to)).await;
            Ok(Body::from_stream(bytes.map_err(|error| not_given(&error))?))
        }
        Opened::Composed(mp4) => {
            let (from, to) = part.unwrap_or((0, len - 1));
            Ok(Body::from_stream(mp4.read(from..=to)))
        }
    }
}

/// A short file's text.
async fn whole(opened: Opened) -> Result<String, Problem> {
    let mut text = String::new();
    match opened {
        Opened::Local(mut file, _) => drop(file.read_to_string(&mut text).await.map_err(unreadable)?),
        Opened::Stored(stored) => {
            let bytes = stored.read(None).await.map_err(|error| not_given(&error))?;
            let mut reader = tokio_util::io::StreamReader::new(bytes);
            reader.read_to_string(&mut text).await.map_err(unreadable)?;
        }
        Opened::Composed(_) => {}
    }
    Ok(text)
}

/// What the store has and does not give now.
pub(in crate::http) fn not_given(error: &ObjectsError) -> Problem {
    match error.reason() {
        Reason::NotFound => Problem::new(Kind::RecordingNotFound, "the object store does not have this file any more"),
        reason => {
            tracing::error!(%reason, %error, "a recording's file cannot be had from the store");
            let detail = format!("the file is in the object store, which does not give it now: {reason}");
            Problem::new(Kind::StoreUnavailable, detail).retry_after(STORE_RETRY)
        }
    }
}

/// What the store has, and nobody can tell whether somebody holds it.
pub(super) fn not_asked(error: &ObjectsError) -> Problem {
    let reason = error.reason();
    tracing::error!(%reason, %error, "the store does not tell whether a recording is held");
    let detail = format!("the recording is in the object store, which does not tell whether it is held: {reason}");
    Problem::new(Kind::StoreUnavailable, detail).retry_after(STORE_RETRY)
}

/// Files are replaced by others or grow, nothing is written over: length and time tell versions apart.
fn entity_tag(metadata: &Metadata) -> String {
    let nanos = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    format!("\"{:x}-{nanos:x}\"", metadata.len())
}

/// `If-None-Match` compares weakly.
fn matches(known: &str, tag: &str) -> bool {
    known.split(',').map(str::trim).any(|each| each == "*" || each.strip_prefix("W/").unwrap_or(each) == tag)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// Both inclusive.
    Part {
        from: u64,
        to: u64,
    },
    Beyond,
}

/// Reads a `Range`. What is not one range of bytes is passed over, as RFC 9110 §14.2 allows.
fn wanted(range: &str, len: u64) -> Wanted {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Wanted::All;
    };
    if !digits(first) || !digits(last) {
        return Wanted::All;
    }
    // What has more digits than a number can have lies beyond any file.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first, last) {
        ("", "") => Wanted::All,
        ("", last) => match number(last).min(len) {
            0 => Wanted::Beyond,
            count => Wanted::Part { from: len - count, to: len - 1 },
        },
        (first, _) if number(first) >= len => Wanted::Beyond,
        (first, "") => Wanted::Part { from: number(first), to: len - 1 },
        (first, last) if number(last) < number(first) => Wanted::All,
        (first, last) => Wanted::Part { from: number(first), to: number(last).min(len - 1) },
    }
}

/// Every address in the playlist, with the token.
pub(in crate::http) fn with_token(playlist: &str, token: &str) -> String {
    let mut text = String::with_capacity(playlist.len() * 2);
    for line in playlist.lines() {
        let _ = match line.strip_prefix("#EXT-X-MAP:URI=\"").and_then(|rest| rest.strip_suffix('"')) {
            Some(uri) => writeln!(text, "#EXT-X-MAP:URI=\"{uri}?{token}\""),
            None if line.is_empty() || line.starts_with('#') => writeln!(text, "{line}"),
            None => writeln!(text, "{line}?{token}"),
        };
    }
    text
}

fn unreadable(error: io::Error) -> Problem {
    tracing::error!(%error, "a recording's file cannot be read");
    Problem::new(Kind::Internal, "the reason is in the server's log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let part = |from, to| Wanted::Part { from, to };
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=10-19", part(10, 19)),
            ("bytes=90-", part(90, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=95-1000", part(95, 99)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=5-4", Wanted::All),
            ("bytes=+5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("seconds=0-1", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(range, 100), expected, "{range}");
        }
        assert_eq!(wanted("bytes=0-0", 0), Wanted::Beyond);
        assert_eq!(wanted("bytes=-5", 0), Wanted::Beyond);
    }

    proptest! {
        #[test]
        fn no_range_reaches_beyond_the_file(range in "bytes=[0-9]{0,21}-[0-9]{0,21}|\\PC{0,20}", len in 0u64..1000) {
            if let Wanted::Part { from, to } = wanted(&range, len) {
                prop_assert!(from <= to && to < len);
            }
        }
    }

    #[test]
    fn entity_tags_match_weakly_and_in_lists() {
        assert!(matches("\"a\", W/\"b\"", "\"b\"") && matches("*", "\"b\"") && !matches("\"a\"", "\"b\""));
    }

    #[test]
    fn a_playlist_passes_the_token_on() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"init-1.mp4\"\n#EXTINF:2,\nsegment-000001.m4s\n";
        let expected =
            "#EXTM3U\n#EXT-X-MAP:URI=\"init-1.mp4?access_token=t\"\n#EXTINF:2,\nsegment-000001.m4s?access_token=t\n";
        assert_eq!(with_token(playlist, "access_token=t"), expected);
        assert_eq!(token("a=b&access_token=x.y-z"), Some("access_token=x.y-z"));
        assert_eq!(token("download=1&media_token=x.y"), Some("media_token=x.y"));
        assert_eq!(token("media_token="), None);
        assert_eq!(token("access_token=x\"y"), None);
    }
}
