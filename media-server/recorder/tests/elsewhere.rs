//! Progressive MP4 files are made of what the manifest lists, and of nothing else.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Cursor};

use common::{
    clips, finalize,
    memory::Memory,
    player::{self, Script, Sender, play},
};
use recorder::{Codec, Ending, FinalizeError, Manifest, Mp4s, Tracks, describe};

/// Sound and picture; half way another camera takes over, with a picture of another size.
fn recorded() -> (Memory, Manifest) {
    let first = Sender::video(Codec::H264);
    let second = Sender { source: 3, start: 5.5, ..Sender::video(Codec::H264) };
    let mut script: Script = first.send(&clips::video(Codec::H264, 320, 240));
    script.extend(second.send(&clips::video(Codec::H264, 640, 480)));
    script.extend(Sender::audio().send(&clips::audio()));
    let mut folder = Memory::default();
    let tracks = Tracks { audio: true, video: true };
    play(player::config(), tracks, script, |_, output| folder.carry_out(&output));
    let manifest = finalize(&mut folder, &Ending::orderly()).unwrap();
    (folder, manifest)
}

fn open(folder: &Memory) -> impl FnMut(&str) -> io::Result<Cursor<Vec<u8>>> {
    |name| folder.files.get(name).cloned().map(Cursor::new).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[test]
fn progressive_mp4_is_the_same_each_time() {
    let (folder, manifest) = recorded();
    let mp4s = Mp4s::read(&manifest, open(&folder)).unwrap();
    assert_eq!(mp4s.count(), 1, "another size stays in one file");
    let write = || {
        let mut out = Vec::new();
        let export = mp4s.write(1, open(&folder), &mut out).unwrap();
        (export, out)
    };
    let (export, out) = write();
    assert_eq!((export.bytes, write().1 == out), (out.len() as u64, true));
    assert!(mp4s.media_bytes(1) < export.bytes);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("recording.mp4");
    std::fs::write(&path, out).unwrap();
    player::decodes(&path);
    assert_eq!(player::probe(&path)[0].frames, u64::from(2 * clips::LENGTH * clips::RATE));
    let none = mp4s.write(2, open(&folder), &mut io::sink());
    assert!(matches!(none, Err(FinalizeError::Empty)) && mp4s.write(0, open(&folder), &mut io::sink()).is_err());
}

#[test]
fn what_differs_from_the_manifest_goes_into_no_mp4() {
    let (folder, manifest) = recorded();
    let refused = |folder: &Memory, manifest: &Manifest| match Mp4s::read(manifest, open(folder)) {
        Err(FinalizeError::Mp4 { file, .. } | FinalizeError::Io { file, .. }) => file,
        other => panic!("{other:?}"),
    };
    for file in manifest.inits.iter().map(|init| &init.file).chain(manifest.segments.iter().map(|s| &s.file)) {
        let mut flipped = folder.clone();
        *flipped.files.get_mut(file).unwrap().last_mut().unwrap() ^= 1;
        assert_eq!(refused(&flipped, &manifest), *file);
        flipped.files.get_mut(file).unwrap().pop();
        assert_eq!(refused(&flipped, &manifest), *file);
        flipped.files.remove(file);
        assert_eq!(refused(&flipped, &manifest), *file);
    }
    let mut outside = manifest;
    outside.segments[0].file = "../../etc/passwd".into();
    assert_eq!(refused(&folder, &outside), "../../etc/passwd");
}

#[test]
fn an_init_segment_tells_whose_it_is() {
    let (folder, manifest) = recorded();
    assert_eq!(describe(&folder.files["init-1.mp4"]), Some(manifest.description));
    assert_eq!(describe(b"something else"), None);
}
