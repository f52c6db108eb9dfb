//! The pages in the binary: `web/index.html` (console), `publish.html`, `watch.html` and `assets/`.
//!
//! A debug build reads them from disk at each request, so that a changed page needs no build.

use rust_embed::RustEmbed;
use std::borrow::Cow;
use std::fmt::Write as _;

#[derive(RustEmbed)]
#[folder = "web/"]
#[allow_missing = true]
struct Files;

/// One file.
#[derive(Debug)]
pub struct Page {
    /// Its contents.
    pub bytes: Cow<'static, [u8]>,
    /// Its type, with the charset for text.
    pub mime: String,
    /// A strong entity tag, with its quotes, from the SHA-256 of the contents.
    pub etag: String,
}

/// The file at `path`, relative to `web/`. Hidden files and paths that climb are not there.
pub fn get(path: &str) -> Option<Page> {
    if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return None;
    }
    let file = Files::get(path)?;
    let mime = file.metadata.mimetype();
    let text = mime.starts_with("text/") || mime == "application/javascript" || mime == "image/svg+xml";
    let mut etag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..12] {
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    Some(Page { mime: if text { format!("{mime}; charset=utf-8") } else { mime.to_owned() }, bytes: file.data, etag })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_climb() {
        for path in ["../Cargo.toml", "assets/../../Cargo.toml", "/etc/passwd", ".git", "assets//x", ""] {
            assert!(get(path).is_none(), "{path}");
        }
    }
}
