//! `recordings verify`: every file that a manifest tells of, read from its start to its end.

use super::args::VerifyArgs;
use super::catalogue::{Catalogue, CatalogueError, Found, Kind, State};
use super::shelf::{Holding, Shelf, find};
use super::talk::{self, Progress};
use super::{Done, Failure};
use crate::control::RecordingId;
use crate::objects::Digesting;
use recorder::{File, Manifest};
use serde::Serialize;
use std::io::{self, Read as _};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// The JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    recordings: Vec<Checked>,
    fault_count: usize,
}

/// A copy that was checked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    id: RecordingId,
    room: Option<String>,
    #[serde(rename = "where")]
    lies: &'static str,
    /// That were read.
    files: usize,
    /// That were read.
    bytes: u64,
    faults: Vec<Fault>,
}

/// Something that is not as the manifest says.
#[derive(Serialize)]
struct Fault {
    file: String,
    fault: String,
    remedy: String,
}

/// What a manifest tells of a file.
struct Told {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Checks.
pub(super) fn verify(shelf: &Shelf, args: &VerifyArgs) -> Result<Done, Failure> {
    let holdings = shelf.holdings()?;
    let chosen = match args.ids.as_slice() {
        [] => holdings.iter().collect(),
        ids => ids.iter().map(|id| find(&holdings, id)).collect::<Result<Vec<_>, _>>()?,
    };
    let bytes = chosen.iter().flat_map(|holding| &holding.copies).map(|(_, found)| found.bytes).sum();
    let mut progress = Progress::new("checking", bytes);
    let mut document = Document { recordings: Vec::new(), fault_count: 0 };
    let mut unfinished = 0;
    for holding in chosen {
        if holding.summary().is_none() && !holding.is_damaged() {
            unfinished += 1;
            continue;
        }
        for (number, found) in &holding.copies {
            let Some(checked) = check(shelf, holding, *number, found, &mut progress)? else { continue };
            if !args.json {
                progress.suspend(|| checked.faults.iter().for_each(|fault| talk::print(&fault.line(&checked))));
            }
            document.fault_count += checked.faults.len();
            document.recordings.push(checked);
        }
    }
    progress.done();
    if args.json {
        talk::print_json(&document);
    }
    let files = document.recordings.iter().map(|checked| checked.files).sum();
    let bytes = document.recordings.iter().map(|checked| checked.bytes).sum();
    let faults = match document.fault_count {
        0 => "no fault".to_owned(),
        faults => talk::count(faults, "fault"),
    };
    let copies = document.recordings.len();
    let mut ids: Vec<_> = document.recordings.iter().map(|checked| checked.id.as_str()).collect();
    ids.dedup();
    let recordings = match talk::count(ids.len(), "recording") {
        text if ids.len() == copies => text,
        text => format!("{text} in {copies} copies"),
    };
    talk::tell(&format!("{recordings}, {}, {}: {faults}", talk::count(files, "file"), talk::bytes(bytes)));
    if unfinished > 0 {
        talk::tell(&format!(
            "{} passed over: not finished, so that there is no manifest yet",
            talk::count(unfinished, "recording")
        ));
    }
    // Who names recordings wants to know that they are well: without a manifest nobody does.
    let unknown = !args.ids.is_empty() && unfinished > 0;
    Ok(if document.fault_count > 0 || unknown { Done::Faults } else { Done::Well })
}

impl Fault {
    fn line(&self, of: &Checked) -> String {
        format!("{} {} ({}): {}; {}", of.id, talk::plain(&self.file), of.lies, self.fault, self.remedy)
    }
}

/// Checks one copy. `None` when there is nothing to check it by.
fn check(
    shelf: &Shelf,
    holding: &Holding,
    number: usize,
    found: &Found,
    progress: &mut Progress,
) -> Result<Option<Checked>, Failure> {
    // What was begun in a store and is whole elsewhere is under way.
    if matches!(found.state, State::Unfinished { .. }) {
        return Ok(None);
    }
    let place = shelf.place(number);
    let mut checked = Checked {
        id: found.id.clone(),
        room: found.room.clone(),
        lies: place.kind().as_str(),
        files: 0,
        bytes: 0,
        faults: Vec::new(),
    };
    let other = holding.copies.iter().find(|(other, copy)| *other != number && copy.summary().is_some());
    let other = other.map(|(other, _)| shelf.place(*other).title());
    let manifest = match place.manifest(found) {
        Ok(manifest) => manifest,
        // It was deleted meanwhile.
        Err(CatalogueError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(CatalogueError::Manifest { reason, .. }) => {
            let remedy = remedy(None, other.as_deref());
            checked.faults.push(Fault {
                file: File::Manifest.to_string(),
                fault: format!("it cannot be read: {reason}"),
                remedy,
            });
            return Ok(Some(checked));
        }
        Err(error) => return Err(error.into()),
    };
    for told in files(&manifest) {
        let fault = match told.name.parse::<File>() {
            Ok(file) => check_file(place, found, file, &told, &mut checked, progress)?.map(|fault| (Some(file), fault)),
            Err(_) => Some((None, "the manifest names it, and no recording has such a file".to_owned())),
        };
        if let Some((file, fault)) = fault {
            checked.faults.push(Fault { file: told.name, fault, remedy: remedy(file, other.as_deref()) });
        }
    }
    Ok(Some(checked))
}

/// What is wrong with a file, if anything.
fn check_file(
    place: &dyn Catalogue,
    found: &Found,
    file: File,
    told: &Told,
    checked: &mut Checked,
    progress: &mut Progress,
) -> Result<Option<String>, Failure> {
    let opened = match place.open(found, file) {
        Ok(Some(opened)) => opened,
        // A store has no use for what can be made of the rest.
        Ok(None) if matches!(file, File::Export(_)) && place.kind() == Kind::Store => return Ok(None),
        Ok(None) => return Ok(Some("it is missing".to_owned())),
        Err(CatalogueError::Disk { source, .. }) => return Ok(Some(format!("it cannot be read: {source}"))),
        Err(error) => return Err(error.into()),
    };
    checked.files += 1;
    if opened.bytes != told.bytes {
        progress.advance(opened.bytes);
        return Ok(Some(format!("it has {} bytes, and the manifest says {}", opened.bytes, told.bytes)));
    }
    let mut reader = opened.reader;
    let mut digesting = Digesting::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                digesting.update(&buffer[..count]);
                checked.bytes += count as u64;
                progress.advance(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
        }
    }
    let (digest, bytes) = digesting.finish();
    if bytes != told.bytes {
        return Ok(Some(format!("it has {bytes} bytes, and the manifest says {}", told.bytes)));
    }
    let digest = digest.to_string();
    Ok((digest != told.sha256).then(|| format!("its SHA-256 is {digest}, and the manifest says {}", told.sha256)))
}

/// Every file that the manifest tells of.
fn files(manifest: &Manifest) -> Vec<Told> {
    let told = |name: &str, bytes, sha256: &str| Told { name: name.to_owned(), bytes, sha256: sha256.to_owned() };
    let inits = manifest.inits.iter().map(|init| told(&init.file, init.bytes, &init.sha256));
    let segments = manifest.segments.iter().map(|segment| told(&segment.file, segment.bytes, &segment.sha256));
    let exports = std::iter::once(&manifest.playlist).chain(&manifest.exports);
    let exports = exports.map(|export| told(&export.file, export.bytes, &export.sha256));
    inits.chain(segments).chain(exports).collect()
}

/// What to do about a file that is not as it was. `other`: where the recording lies besides.
fn remedy(file: Option<File>, other: Option<&str>) -> String {
    match (file, other) {
        (Some(File::Export(_)), _) => "nothing is lost: `recordings export` makes it anew from the segments".to_owned(),
        (_, Some(other)) => format!("copy it from {other}"),
        (Some(File::Playlist), None) => "nothing is lost: `recordings export` needs no playlist".to_owned(),
        _ => "restore it from a backup, and look at the disk: only what was recorded before and after it is left"
            .to_owned(),
    }
}
