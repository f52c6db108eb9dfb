//! A folder on disk, and what the shell does with outputs.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use recorder::{Folder, Output};

/// A folder on disk, without the syncs.
pub struct Disk(pub PathBuf);

impl Folder for Disk {
    type Reader = fs::File;
    type Writer = fs::File;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        fs::read_dir(&self.0)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
            })
            .collect()
    }

    fn open(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::open(self.0.join(name))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(self.0.join(name))?.set_len(len)
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn create(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::create(self.0.join(format!("{name}.tmp")))
    }

    fn commit(&mut self, name: &str, _: fs::File) -> io::Result<()> {
        fs::rename(self.0.join(format!("{name}.tmp")), self.0.join(name))
    }
}

/// Carries out one output.
pub fn carry_out(folder: &Path, output: &Output) {
    match output {
        Output::Create { file } => {
            fs::File::create_new(folder.join(file.to_string())).unwrap();
        }
        Output::Append { file, bytes } => {
            let mut file = fs::OpenOptions::new().append(true).open(folder.join(file.to_string())).unwrap();
            file.write_all(bytes).unwrap();
        }
        Output::Replace { file, bytes } => fs::write(folder.join(file.to_string()), bytes).unwrap(),
        Output::Close { file, record } => {
            let written = fs::read(folder.join(file.to_string())).unwrap();
            assert_eq!(written.len() as u64, record.bytes);
            let digest = ring::digest::digest(&ring::digest::SHA256, &written);
            let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, record.sha256);
        }
        Output::Sync { .. } | Output::RequestKeyframe | Output::Continue { .. } | Output::Finished => {}
    }
}
