//! The router as a client sees it, over a media plane that only remembers.

mod admin;
mod authorization;
mod bench;
mod bodies;
mod connections;
mod cors;
mod notices;
mod operations;
mod recordings;
mod rooms;
mod sessions;
mod streams;
