//! Subcommands that work on recordings without a server.

pub mod recordings;
