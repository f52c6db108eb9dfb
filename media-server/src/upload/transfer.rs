//! One file to the store, and one recording out of it.

use crate::control::RecordingId;
use crate::objects::{Digest, Digesting, Objects, ObjectsError, Reason, Source};
use crate::store::{Removal, Store, Upload, UploadState};
use futures_util::StreamExt as _;
use recorder::File;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Lists that are made at most, for one removal.
const ROUNDS: usize = 3;

/// Checks that the bucket exists and that the prefix belongs to this server.
pub(super) async fn probe(objects: &Objects, store: &Store) -> Result<(), ObjectsError> {
    objects.ensure_bucket().await?;
    let owner = store.store_owner().await;
    let owner = owner.map_err(|error| ObjectsError::new(Reason::Failed, format!("no owner known: {error}")))?;
    objects.claim(&owner).await
}

/// Puts a file, unless it is there already, and has the store show that it holds it.
pub(super) async fn upload(
    objects: &Objects,
    store: &Store,
    folder: &Path,
    upload: &Upload,
) -> Result<(), ObjectsError> {
    if upload.state == UploadState::Uploaded {
        match verify(objects, upload).await {
            Err(error) if matches!(error.reason(), Reason::NotFound | Reason::ChecksumMismatch) => {}
            answer => return answer,
        }
    }
    if upload.file == File::Manifest {
        sweep(objects, store, upload).await?;
    }
    let path = folder.join(upload.recording.as_str()).join(upload.file.to_string());
    match objects.put(&upload.key, &Source::File(path.clone()), upload.sha256).await {
        Err(error) if error.reason() == Reason::ChecksumMismatch => return Err(judge(&path, upload, error).await),
        answer => answer?,
    }
    if let Err(error) = store.upload_put(upload).await {
        tracing::warn!(key = upload.key, %error, "not noted as uploaded: after a crash it would be put again");
    }
    verify(objects, upload).await
}

/// Whether the store holds what was recorded. One that keeps no SHA-256 has to give it back.
async fn verify(objects: &Objects, upload: &Upload) -> Result<(), ObjectsError> {
    let differs = |what: &str| {
        let said = format!("the store holds another {} than was sent ({what})", upload.key);
        Err(ObjectsError::new(Reason::ChecksumMismatch, said))
    };
    let head = objects.head(&upload.key).await?;
    if head.len != upload.bytes {
        return differs(&format!("{} bytes, not {}", head.len, upload.bytes));
    }
    let sha256 = match head.sha256 {
        Some(sha256) => sha256,
        None => read_back(objects, upload).await?,
    };
    if sha256 != upload.sha256 { differs(&format!("its SHA-256 is {sha256}")) } else { Ok(()) }
}

async fn read_back(objects: &Objects, upload: &Upload) -> Result<Digest, ObjectsError> {
    tracing::debug!(key = upload.key, "the store keeps no SHA-256: the object is read back");
    let mut content = objects.get(&upload.key, None).await?;
    let mut digesting = Digesting::default();
    while let Some(bytes) = content.bytes.next().await {
        let failed = |error: io::Error| {
            ObjectsError::new(Reason::Failed, format!("the store does not give {} back ({error})", upload.key))
        };
        digesting.update(&bytes.map_err(failed)?);
    }
    Ok(digesting.finish().0)
}

/// The store got other bytes than were to be sent: from the network, or from our own disk?
async fn judge(path: &Path, upload: &Upload, error: ObjectsError) -> ObjectsError {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Digest::read(std::fs::File::open(file)?)).await;
    match read.unwrap_or_else(|_| Err(io::Error::other("cancelled"))) {
        Ok((sha256, _)) if sha256 == upload.sha256 => error,
        Ok(_) => {
            let said = format!("{} is not what was recorded: its SHA-256 has changed", path.display());
            ObjectsError::new(Reason::FileUnreadable, said)
        }
        Err(error) => ObjectsError::unreadable(path, error),
    }
}

/// Before a recording is declared whole: removes segments that went up while it ran and are no part of it any more. Of what
/// else may lie there nothing is touched.
async fn sweep(objects: &Objects, store: &Store, manifest: &Upload) -> Result<(), ObjectsError> {
    let prefix = manifest.key.strip_suffix(&File::Manifest.to_string()).unwrap_or(&manifest.key);
    let mut strays = Vec::new();
    for object in objects.list_all(prefix).await? {
        let file = object.key.strip_prefix(prefix).and_then(|name| name.parse::<File>().ok());
        let Some(file @ (File::Segment(_) | File::Init(_))) = file else { continue };
        match store.upload_known(&manifest.recording, file).await {
            Ok(false) => strays.push(object.key),
            Ok(true) => {}
            Err(error) => tracing::warn!(key = object.key, %error, "it is left in the store"),
        }
    }
    if !strays.is_empty() {
        tracing::info!(recording = %manifest.recording, objects = strays.len(), "segments that are no part of the recording are removed");
    }
    objects.delete(&strays).await
}

/// Looks whether the store holds all objects of a recording: each with its length, and the manifest with its digest.
pub(super) async fn find(objects: &Objects, store: &Store, recording: &RecordingId) -> Result<(), ObjectsError> {
    let files = store.stored_files(recording).await;
    let files = files.map_err(|error| ObjectsError::new(Reason::FileUnreadable, error.to_string()))?;
    let absent = |what: &str| ObjectsError::new(Reason::NotFound, format!("the store does not hold {what}"));
    let Some(manifest) = files.iter().find(|file| file.file == File::Manifest) else {
        return Err(absent("a recording without a manifest"));
    };
    // The last one that is put. Most recordings that are not there cost one request.
    objects.head(&manifest.key).await?;
    let prefix = manifest.key.strip_suffix(&File::Manifest.to_string()).unwrap_or(&manifest.key);
    let held: HashMap<String, u64> =
        objects.list_all(prefix).await?.into_iter().map(|object| (object.key, object.len)).collect();
    match files.iter().find(|file| held.get(&file.key) != Some(&file.bytes)) {
        Some(file) => Err(absent(&format!("{} with {} bytes", file.key, file.bytes))),
        None => verify(objects, manifest).await,
    }
}

/// Removes all objects of a recording, the manifest first: what is half removed is not taken for whole.
pub(super) async fn remove(objects: &Objects, removal: &Removal) -> Result<(), ObjectsError> {
    objects.delete(&[format!("{}{}", removal.prefix, File::Manifest)]).await?;
    for _ in 0..ROUNDS {
        let left: Vec<String> = objects.list_all(&removal.prefix).await?.into_iter().map(|object| object.key).collect();
        if left.is_empty() {
            return Ok(());
        }
        objects.delete(&left).await?;
    }
    match objects.list(&removal.prefix, None).await?.objects.len() {
        0 => Ok(()),
        left => {
            let said = format!("the store still lists {left} objects of {} that it deleted", removal.prefix);
            Err(ObjectsError::new(Reason::Failed, said))
        }
    }
}
