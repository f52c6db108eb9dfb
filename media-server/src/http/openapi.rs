//! The OpenAPI document, made from the handlers and types. docs/openapi.json is a copy that a test compares.

use super::refusals::ProblemBodies;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Media server",
        description = "WHIP in, WHEP out, streams, events and recordings. Every answer that is not 2xx or 3xx is a \
                       problem document (RFC 9457) whose type is a page of this server."
    ),
    paths(
        super::sessions::whip_endpoint,
        super::sessions::whip_post,
        super::sessions::whip_patch,
        super::sessions::whip_delete,
        super::sessions::whep_endpoint,
        super::sessions::whep_post,
        super::sessions::whep_patch,
        super::sessions::whep_delete,
        super::notices::create,
        super::notices::listen,
        super::notices::end,
        super::streams::list,
        super::streams::create,
        super::streams::show,
        super::streams::end,
        super::session_list::list,
        super::session_list::end,
        super::media_token::create,
        super::recordings::list,
        super::recordings::show,
        super::recordings::file,
        super::recordings::remove,
        super::rooms::timeline,
        super::rooms::playlist,
        super::rooms::clip,
        super::events::listen,
        super::admin::show_limits,
        super::admin::set_limits,
        super::admin::session::show,
        super::admin::session::change,
        super::operations::healthz,
        super::operations::readyz,
        super::operations::metrics,
        super::operations::config,
        super::operations::openapi,
    ),
    components(schemas(crate::problem::ProblemDocument)),
    modifiers(&Bearer, &ProblemBodies),
    security(("bearer" = []))
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.bearer_format = Some("JWT".to_owned());
        api.components
            .get_or_insert_default()
            .security_schemes
            .insert("bearer".to_owned(), SecurityScheme::Http(http).into());
    }
}

/// The document as JSON, indented, with a final newline.
pub fn document() -> String {
    let mut text = Api::openapi().to_pretty_json().unwrap_or_else(|_| "{}".to_owned());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_copy_in_docs_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, document()).unwrap();
        }
        let copy = fs::read_to_string(&path).unwrap_or_default();
        let hint = "docs/openapi.json is old: UPDATE_GENERATED=1 cargo test -p media-server openapi";
        assert!(copy == document(), "{hint}");
    }
}
