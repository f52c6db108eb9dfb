//! `/problems/{slug}`: the page that a problem's `type` names, with cause and remedy, from the same catalogue. Its links are
//! relative, so that they work below any base path.

use super::app::App;
use super::pages::with_policy;
use crate::problem::{Kind, Problem};
use axum::Router;
use axum::extract::Path;
use axum::response::{Html, Response};
use axum::routing::get;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/problems", get(index)).route("/problems/{slug}", get(show))
}

async fn index() -> Response {
    let mut items = String::from("<h1>Problems</h1><ul>");
    for kind in Kind::ALL {
        items.push_str(&format!(
            "<li><a href=\"problems/{}\">{}</a> ({})</li>",
            kind.slug(),
            escaped(kind.title()),
            kind.status().as_u16()
        ));
    }
    items.push_str("</ul>");
    page("Problems", &items)
}

async fn show(Path(slug): Path<String>) -> Result<Response, Problem> {
    let kind = Kind::ALL
        .iter()
        .find(|kind| kind.slug() == slug)
        .ok_or_else(|| Problem::new(Kind::NotFound, "no problem has this name; /problems lists them"))?;
    let body = format!(
        "<h1>{}</h1><p>Status {}, <code>{}</code></p><h2>Cause</h2><p>{}</p><h2>Remedy</h2><p>{}</p>\
         <p><a href=\"../problems\">All problems</a></p>",
        escaped(kind.title()),
        kind.status(),
        kind.slug(),
        escaped(kind.cause()),
        escaped(kind.remedy())
    );
    Ok(page(kind.title(), &body))
}

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><main>{body}</main></html>",
        escaped(title)
    );
    with_policy(Html(html), false)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
