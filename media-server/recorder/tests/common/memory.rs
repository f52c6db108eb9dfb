//! A folder in memory, which can be made to fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Cursor},
};

use recorder::{File, Folder, Output};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    pub files: BTreeMap<String, Vec<u8>>,
    /// So many changes still succeed.
    pub patience: Option<u32>,
    /// What was synced.
    pub synced: BTreeSet<String>,
}

impl Memory {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.patience {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn file(&mut self, file: File) -> &mut Vec<u8> {
        self.files.get_mut(&file.to_string()).expect("the file is there")
    }

    /// Does what the shell does.
    pub fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Create { file } => {
                assert!(self.files.insert(file.to_string(), Vec::new()).is_none());
            }
            Output::Append { file, bytes } => self.file(*file).extend_from_slice(bytes),
            Output::Replace { file, bytes } => {
                self.files.insert(file.to_string(), bytes.clone());
            }
            Output::Sync { .. }
            | Output::Close { .. }
            | Output::RequestKeyframe
            | Output::Continue { .. }
            | Output::Finished => {}
        }
    }
}

impl Folder for Memory {
    type Reader = Cursor<Vec<u8>>;
    type Writer = Vec<u8>;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<Cursor<Vec<u8>>> {
        self.files.get(name).cloned().map(Cursor::new).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.change()?;
        self.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.synced.insert(name.to_owned());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change()?;
        self.files.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, _: &str) -> io::Result<Vec<u8>> {
        self.change()?;
        Ok(Vec::new())
    }

    fn commit(&mut self, name: &str, file: Vec<u8>) -> io::Result<()> {
        self.change()?;
        self.files.insert(name.to_owned(), file);
        Ok(())
    }
}
