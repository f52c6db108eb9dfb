//! The control plane's behaviour, with a media plane and a recorder that only remember.

mod fake;
mod sessions;
mod slots;
mod streams;
mod troubles;
