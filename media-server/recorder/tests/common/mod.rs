//! What the tests of whole recordings share: clips, a packetizer, a folder, and a clock that is only a number.

#![allow(dead_code, unreachable_pub)]

pub mod clips;
pub mod folder;
pub mod memory;
pub mod packetize;
pub mod player;

use std::{fs, path::Path};

use recorder::{Ending, File, FinalizeError, Folder, Manifest, composition};

/// Finalises a folder of which nothing is known.
pub fn finalize(folder: &mut impl Folder, ending: &Ending) -> Result<Manifest, FinalizeError> {
    recorder::finalize(folder, ending, &[])
}

/// Writes `recording.mp4`, `recording-2.mp4` … of a finished recording. Returns how many.
pub fn compose(folder: &Path, manifest: &Manifest) -> usize {
    let open = |name: &str| fs::File::open(folder.join(name));
    for number in 1.. {
        let path = folder.join(File::Export(number).to_string());
        if !composition::write(manifest, number, open, &mut fs::File::create(&path).unwrap()).unwrap() {
            fs::remove_file(path).unwrap();
            return number as usize - 1;
        }
    }
    unreachable!("no recording has that many")
}
