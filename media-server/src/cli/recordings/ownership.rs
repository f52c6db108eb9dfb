//! The owner of a prefix in a store: it alone deletes there. `recordings take-over` makes this server the owner.

use super::args::{PruneArgs, TakeOverArgs};
use super::catalogue::CatalogueError;
use super::place::{Folder, Places};
use super::prune::PruneError;
use super::registry;
use super::store::Store;
use super::talk;
use super::{Done, Failure};
use streamsession_api::StorageMode;

/// Why a prefix is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeOverError {
    #[error("no store is named: give --session and --data-dir of the server, or run this in its pod")]
    NoStore,
    #[error("no registry is in the data directory: start the server there once, so that it has an id")]
    NoRegistry,
    #[error("{prefix} belongs to {}, not to {named}: name its owner", owner.as_deref().unwrap_or("no server yet"))]
    OtherOwner { prefix: String, owner: Option<String>, named: String },
}

/// Refuses to delete below a prefix that another server owns.
pub(super) fn check(places: &Places, args: &PruneArgs) -> Result<(), Failure> {
    let Some(store) = shared(places)? else { return Ok(()) };
    let Some(found) = store.owner().map_err(CatalogueError::from)? else { return Ok(()) };
    match args.owner.clone().or(registered(places)?) {
        Some(owner) if owner == found => Ok(()),
        Some(_) => Err(CatalogueError::from(store.owned_by(&found)).into()),
        None => Err(PruneError::NotOwner { prefix: store.identity(), owner: found }.into()),
    }
}

/// Removes the owner's marker, once nothing else is below the prefix.
pub(super) fn release(places: &Places) -> Result<(), Failure> {
    match shared(places)? {
        Some(store) => Ok(store.release().map_err(CatalogueError::from)?),
        None => Ok(()),
    }
}

/// Makes this server the owner of its prefix, in place of the one that is named.
pub(super) fn take_over(args: &TakeOverArgs, places: &Places) -> Result<Done, Failure> {
    let Some(store) = shared(places)? else { return Err(TakeOverError::NoStore.into()) };
    let Some(own) = registered(places)? else { return Err(TakeOverError::NoRegistry.into()) };
    let prefix = store.identity();
    match store.owner().map_err(CatalogueError::from)? {
        Some(found) if found == own => {}
        Some(found) if found == args.owner => store.take_over(&own).map_err(CatalogueError::from)?,
        owner => return Err(TakeOverError::OtherOwner { prefix, owner, named: args.owner.clone() }.into()),
    }
    talk::print(&format!("{prefix} belongs to this server, {own}"));
    Ok(Done::Well)
}

fn registered(places: &Places) -> Result<Option<String>, Failure> {
    let registry = places.folder.as_ref().and_then(Folder::registry);
    Ok(registry.map(|registry| registry::owner(&registry)).transpose()?.flatten())
}

/// The store, if other servers may write to it.
fn shared(places: &Places) -> Result<Option<Store>, Failure> {
    let config = places.store.as_ref().filter(|store| store.mode == StorageMode::External);
    Ok(config.map(Store::connect).transpose().map_err(super::place::PlaceError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::recordings::{PlaceArgs, RecordingsCommand};
    use crate::objects::fake::FakeStore;
    use clap::Parser as _;
    use std::path::Path;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// Returns the store with the data directory of a server, and its id.
    fn places(runtime: &Runtime, fake: &FakeStore, data: &Path) -> (Places, String) {
        let owner = runtime.block_on(async {
            let registry = crate::store::Store::open(&data.join(registry::FILE_NAME)).await.unwrap();
            let owner = registry.store_owner().await.unwrap();
            registry.close().await;
            owner
        });
        let folder = Folder { recordings: data.to_owned(), data: Some(data.to_owned()), named: true, in_pod: false };
        (Places { folder: Some(folder), store: Some(fake.config()), retention: None }, owner)
    }

    fn prune(owner: Option<&str>) -> PruneArgs {
        let mut words = vec!["media-server", "recordings", "prune", "--all", "--yes"];
        words.extend(owner.iter().flat_map(|owner| ["--owner", owner]));
        match crate::args::Args::try_parse_from(words).unwrap().command {
            Some(crate::args::Command::Recordings(args)) => match args.command {
                RecordingsCommand::Prune(args) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_owner_prunes() {
        let (runtime, data) = (runtime(), tempfile::tempdir().unwrap());
        let fake = runtime.block_on(FakeStore::start());
        let (here, own) = places(&runtime, &fake, data.path());
        let alone = Places { folder: None, ..here.clone() };
        check(&here, &prune(None)).expect("nobody owns the prefix yet");
        check(&alone, &prune(None)).expect("nobody owns the prefix yet");
        runtime.block_on(fake.objects().claim(&own)).unwrap();
        check(&here, &prune(None)).unwrap();
        check(&alone, &prune(Some(&own))).unwrap();
        let error = check(&alone, &prune(None)).unwrap_err().to_string();
        assert!(error.contains(&own) && error.contains("--owner"), "{error}");
        runtime.block_on(fake.objects().take_over("another")).unwrap();
        for (places, owner) in [(&here, None), (&alone, Some(own.as_str()))] {
            let error = check(places, &prune(owner)).unwrap_err().to_string();
            assert!(error.contains("belongs to another server, another"), "{error}");
        }
    }

    #[test]
    fn prefix_is_taken_over_from_the_named_owner() {
        let (runtime, data) = (runtime(), tempfile::tempdir().unwrap());
        let fake = runtime.block_on(FakeStore::start());
        let (places, own) = places(&runtime, &fake, data.path());
        let from = |owner: &str| TakeOverArgs { owner: owner.to_owned(), place: PlaceArgs::default() };
        let error = take_over(&from("another"), &places).unwrap_err().to_string();
        assert!(error.contains("no server yet"), "{error}");
        runtime.block_on(fake.objects().take_over("another")).unwrap();
        let error = take_over(&from("a third"), &places).unwrap_err().to_string();
        assert!(error.contains("another, not to a third"), "{error}");
        take_over(&from("another"), &places).unwrap();
        assert_eq!(runtime.block_on(fake.objects().owner()).unwrap(), Some(own));
        take_over(&from("another"), &places).expect("it is so already");
        let none = Places { store: None, ..places };
        let error = take_over(&from("another"), &none).unwrap_err();
        assert!(matches!(error, Failure::TakeOver(TakeOverError::NoStore)), "{error}");
    }
}
