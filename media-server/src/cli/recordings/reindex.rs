//! `recordings reindex`

use super::args::ReindexArgs;
use super::place::Places;
use super::{Done, Failure, registry, talk};
use crate::objects::Objects;
use crate::recording::reindex::{Reindex, ReindexError, Reindexed};
use crate::store::{Store, StoreError};
use serde::Serialize;
use std::io;
use tokio::runtime::Builder;

/// Why the registry cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The flags name no data directory.
    #[error("reindex writes the server's registry; pass --data-dir DIR, as the server has it")]
    NoRegistry,
    #[error("no thread can be started: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Registry(#[from] StoreError),
    #[error(transparent)]
    Reindex(#[from] ReindexError),
}

/// The JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    added: u64,
    unfinished: Vec<String>,
    known: u64,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Unreadable {
    id: String,
    reason: String,
}

/// Rebuilds the registry's recordings.
pub(super) fn reindex(places: &Places, args: &ReindexArgs) -> Result<Done, Failure> {
    let folder = places.folder.as_ref().ok_or(Error::NoRegistry)?;
    let data = folder.data.as_ref().ok_or(Error::NoRegistry)?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::Runtime)?;
    let reindexed = runtime.block_on(async {
        let store = Store::open(&data.join(registry::FILE_NAME)).await?;
        let objects = places.store.as_ref().map(Objects::connect);
        let reindex = Reindex { store: &store, objects: objects.as_ref(), directory: &folder.recordings };
        let reindexed = reindex.run().await;
        store.close().await;
        reindexed.map_err(Error::from)
    })?;
    show(reindexed, args.json)
}

fn show(reindexed: Reindexed, json: bool) -> Result<Done, Failure> {
    let Reindexed { added, unfinished, known, unreadable } = reindexed;
    let done = if unreadable.is_empty() { Done::Well } else { Done::Faults };
    if json {
        let unreadable = unreadable.into_iter().map(|(id, reason)| Unreadable { id: id.to_string(), reason });
        let unfinished = unfinished.iter().map(ToString::to_string).collect();
        talk::print_json(&Document { added, unfinished, known, unreadable: unreadable.collect() });
        return Ok(done);
    }
    talk::print(&format!("added {added}, known before {known}, unfinished {}", unfinished.len()));
    if !unfinished.is_empty() {
        talk::tell("the next start of the server finishes the unfinished ones");
    }
    for (id, reason) in unreadable {
        talk::tell(&format!("{id}: {reason}"));
    }
    Ok(done)
}
