//! The HTTP surface: WHIP, WHEP, streams, events, operations and pages on one router.
//!
//! It translates and nothing else: a request becomes a call of the control plane after the authorizer agreed, and a
//! refusal becomes a problem document (RFC 9457). Nothing here touches a packet or waits for the media plane.

mod admin;
mod app;
mod base_path;
mod body;
mod cors;
mod crowd;
mod error;
mod events;
mod forwarded;
mod ice;
mod layers;
mod live;
mod media_token;
mod notices;
mod openapi;
mod operations;
mod pages;
mod paging;
mod patience;
mod problems;
mod rate;
mod recordings;
mod refusals;
mod rooms;
mod serve;
mod session_list;
mod sessions;
mod share;
mod streams;

pub use app::{App, AppParts, ReadyCheck, SnapshotSource};
pub use body::{JSON_LIMIT, read_json, read_text};
pub use layers::RequestId;
pub use media_token::MediaTokens;
pub use openapi::document as openapi_document;
pub use recordings::routes as recording_routes;
pub use serve::{ConnectionLimits, serve};
pub use streams::identity_to_principal;

use axum::Router;
use axum::middleware::from_fn_with_state;

/// Every route, with the layers around them. Serve it with [`serve`], which tells the limit per address of the peer.
pub fn router(app: App) -> Router {
    router_with(app, Router::new())
}

/// As [`router`], with routes of other planes (recordings) under the same layers. The management routes are among them
/// unless they have an address of their own.
pub fn router_with(app: App, more: Router<App>) -> Router {
    let management = match app.config.management {
        None => management_routes(),
        Some(_) => Router::new(),
    };
    let routes = Router::new()
        .merge(sessions::routes())
        .merge(notices::routes())
        .merge(streams::routes())
        .merge(session_list::routes())
        .merge(events::routes())
        .merge(operations::routes())
        .merge(problems::routes())
        .merge(pages::routes())
        .merge(management)
        .merge(more);
    layered(app, routes)
}

/// The management routes alone, for an address that only operators reach; and the pages that explain their problems.
pub fn management_router(app: App) -> Router {
    layered(app, management_routes().merge(problems::routes()))
}

fn management_routes() -> Router<App> {
    admin::routes().merge(operations::management_routes())
}

/// The layers wrap all routes together, so that they see the `Allow` header, which a route adds to its 405.
fn layered(app: App, routes: Router<App>) -> Router {
    let routes = routes.fallback(layers::not_found).with_state(app.clone());
    Router::new()
        .fallback_service(routes)
        // The last layer is the outermost: `resolve` finds client and path, `finish` completes every answer of the others.
        .layer(from_fn_with_state(app.clone(), layers::same_origin))
        .layer(from_fn_with_state(app.clone(), layers::local_name))
        .layer(from_fn_with_state(app.clone(), rate::limit))
        .layer(from_fn_with_state(app.clone(), share::limit))
        .layer(from_fn_with_state(app.clone(), cors::allow))
        .layer(from_fn_with_state(app.clone(), layers::finish))
        .layer(from_fn_with_state(app, base_path::resolve))
}

#[cfg(test)]
mod tests;
