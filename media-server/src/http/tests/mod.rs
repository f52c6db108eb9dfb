//! The router as a client sees it, over a media plane that only remembers.

mod admin;
mod authorization;
mod bench;
mod bodies;
mod connections;
mod cors;
mod media_tokens;
mod notices;
mod operations;
mod proxies;
mod recordings;
mod rooms;
mod session_list;
mod sessions;
mod streams;
