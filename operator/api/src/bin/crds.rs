//! Writes crds/, which is generated from the types of this crate, and the chart's copy of it.

#![forbid(unsafe_code)]

use std::{error::Error, fs, io::Write, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let yaml = streamsession_api::crd_yaml()?;
    for folder in ["crds", "charts/streamsession/files"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
        fs::create_dir_all(&folder)?;
        let file = folder.join("streamsessions.media.streamsession.io.yaml");
        fs::write(&file, &yaml)?;
        writeln!(std::io::stdout(), "{}: {} bytes", file.canonicalize()?.display(), yaml.len())?;
    }
    Ok(())
}
