//! Writes crds/, which is generated from the types of this crate.

#![forbid(unsafe_code)]

use std::{error::Error, fs, io::Write, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    fs::create_dir_all(&folder)?;
    let file = folder.join("streamsessions.media.streamsession.io.yaml");
    let yaml = streamsession_api::crd_yaml()?;
    fs::write(&file, &yaml)?;
    writeln!(std::io::stdout(), "{}: {} bytes", file.canonicalize()?.display(), yaml.len())?;
    Ok(())
}
