//! `media-server recordings`: lists, checks, exports and prunes recordings, in a folder and in an object store alike.
//!
//! It asks no server and no database: what it says it reads from manifests and files, so that it works when all else is
//! gone. `reindex` alone writes the registry. Beside a running server it leaves alone what is not finished. Where both a folder and a store are named (by
//! --session, or by flags for both) a recording that lies in both is one.
//!
//! Data goes to stdout and talk to stderr. It ends with 0 when all is well, with 1 when something failed or is not as it
//! should be, and with 2 when it was asked the wrong way.

mod args;
mod catalogue;
mod disk;
mod export;
mod list;
#[cfg(test)]
#[path = "../../../tests/made/mod.rs"]
#[allow(dead_code)]
mod made;
mod ownership;
mod place;
mod prune;
mod registry;
mod reindex;
mod report;
mod shelf;
mod store;
mod talk;
mod verify;

pub use args::{
    ExportArgs, ListArgs, PlaceArgs, PruneArgs, RecordingsArgs, RecordingsCommand, ReindexArgs, TakeOverArgs,
    VerifyArgs,
};

use crate::config::Environment;
use catalogue::CatalogueError;
use export::ExportError;
use jiff::Timestamp;
use ownership::TakeOverError;
use place::PlaceError;
use prune::PruneError;
use registry::RegistryError;
use report::{Report, ReportFile};
use shelf::NotFound;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Well,
    /// It did what it was asked, and what it found is not well.
    Faults,
}

/// Why it could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Prune(#[from] PruneError),
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Reindex(#[from] reindex::Error),
    /// Of whoever writes, who knows what to.
    #[error("writing failed: {0}")]
    Write(io::Error),
}

impl Failure {
    /// It was asked the wrong way.
    fn is_use(&self) -> bool {
        match self {
            Failure::Place(error) => !matches!(error, PlaceError::Runtime(_)),
            Failure::Prune(_) | Failure::TakeOver(_) => true,
            Failure::NotFound(error) => matches!(error, NotFound::Several(..)),
            Failure::Export(error) => {
                use ExportError::{NoName, NoPart, Several, Terminal};
                matches!(error, NoName(_) | NoPart { .. } | Several { .. } | Terminal)
            }
            Failure::Reindex(error) => matches!(error, reindex::Error::NoRegistry),
            Failure::Catalogue(_) | Failure::Registry(_) | Failure::Write(_) => false,
        }
    }
}

/// Does what was asked for.
pub fn run(args: &RecordingsArgs) -> ExitCode {
    let report = match &args.command {
        RecordingsCommand::Prune(args) => args.report.as_deref(),
        _ => None,
    };
    let report = match report.map(ReportFile::open).transpose() {
        Ok(report) => report,
        Err(error) => {
            talk::tell(&format!("media-server recordings: {error}"));
            return ExitCode::from(2);
        }
    };
    let acted = act(args, &Environment::of_process(), Timestamp::now());
    let mut reported = Ok(());
    if let Some(file) = report {
        let failed = |failure: &Failure| Report::Failed { error: failure.to_string() };
        if let Some(report) = acted.as_ref().map_or_else(|failure| Some(failed(failure)), |(_, report)| report.clone())
        {
            reported = file.write(&report);
        }
    }
    let code = match acted {
        Ok((Done::Well, _)) => 0,
        Ok((Done::Faults, _)) => 1,
        // Who reads from us has read enough.
        Err(Failure::Export(ExportError::Stdout(error))) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(failure) => {
            talk::tell(&format!("media-server recordings: {failure}"));
            if failure.is_use() { 2 } else { 1 }
        }
    };
    if let Err(error) = reported {
        talk::tell(&format!("media-server recordings: {error}"));
        return ExitCode::from(code.max(1));
    }
    ExitCode::from(code)
}

/// How it ended, and what a report says of that, where there is something to report.
type Ended = (Done, Option<Report>);

fn act(args: &RecordingsArgs, environment: &Environment, now: Timestamp) -> Result<Ended, Failure> {
    let place = match &args.command {
        RecordingsCommand::List(args) => &args.place,
        RecordingsCommand::Verify(args) => &args.place,
        RecordingsCommand::Export(args) => &args.place,
        RecordingsCommand::Prune(args) => &args.place,
        RecordingsCommand::Reindex(args) => &args.place,
        RecordingsCommand::TakeOver(args) => &args.place,
    };
    let places = place::places(&place::in_pod(place, environment, Path::new("/")), environment)?;
    match &args.command {
        RecordingsCommand::Reindex(args) => return reindex::reindex(&places, args).map(|done| (done, None)),
        RecordingsCommand::TakeOver(args) => return ownership::take_over(args, &places).map(|done| (done, None)),
        _ => {}
    }
    let shelf = place::open(&places)?;
    if let RecordingsCommand::List(_) | RecordingsCommand::Verify(_) = &args.command {
        report_elsewhere(&places)?;
    }
    match &args.command {
        RecordingsCommand::List(args) => list::list(&shelf, args, now).map(|()| (Done::Well, None)),
        RecordingsCommand::Verify(args) => verify::verify(&shelf, args).map(|done| (done, None)),
        RecordingsCommand::Export(args) => export::export(&shelf, args).map(|()| (Done::Well, None)),
        RecordingsCommand::Prune(args) => prune::prune(&shelf, args, &places, now)
            .map(|(done, pruned)| (done, Some(Report::Pruned(Box::new(pruned))))),
        RecordingsCommand::Reindex(_) | RecordingsCommand::TakeOver(_) => Ok((Done::Well, None)),
    }
}

/// Names the stores that hold recordings which none of the places has.
fn report_elsewhere(places: &place::Places) -> Result<(), Failure> {
    let Some(registry) = places.folder.as_ref().and_then(place::Folder::registry) else { return Ok(()) };
    for (store, count) in registry::elsewhere(&registry)? {
        let count = talk::count(usize::try_from(count).unwrap_or(0), "recording");
        talk::tell(&format!(
            "not here, but only in the store {store}: {count}; copy their objects into the present store below the same keys, or configure that store again"
        ));
    }
    Ok(())
}
