// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file that appears in its place when it is complete: it is written beside it, as `PATH.part`, and removed if it is given up.
//!
//! Knows no format. Any thread.

use std::fs::File;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

use super::inputs::with_suffix;

/// See the module. Writes are not buffered.
#[derive(Debug)]
pub(super) struct PartFile {
    /// Its later place.
    path: PathBuf,
    file: File,
    is_complete: bool,
}

impl PartFile {
    /// Creates the file for `path`. What an interrupted run has left beside it is replaced.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::create(part_of(path))?, is_complete: false })
    }

    /// Syncs the file to the disk and moves it to its place, where it replaces another file in one step; returns its length.
    ///
    /// # Errors
    /// The system's; a folder is in this place.
    pub fn commit(mut self) -> Result<u64> {
        self.file.sync_all()?;
        std::fs::rename(part_of(&self.path), &self.path)?;
        self.is_complete = true;
        if let Some(folder) = self.path.parent().and_then(|folder| File::open(folder).ok()) {
            // Not all file systems can; after a failure of power there may be the old file then, which is complete, too.
            let _ = folder.sync_all();
        }
        Ok(self.file.metadata()?.len())
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // An incomplete file is of no use.
            let _ = std::fs::remove_file(part_of(&self.path));
        }
    }
}

fn part_of(path: &Path) -> PathBuf {
    with_suffix(path, ".part")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_in_one_step_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let names = || {
            let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        std::fs::write(&path, "old").unwrap();
        let reader = File::open(&path).unwrap();
        let mut part = PartFile::create(&path).unwrap();
        part.write_all(b"half").unwrap();
        drop(part);
        assert_eq!((names(), std::fs::read_to_string(&path).unwrap()), (vec!["t.csv".to_owned()], "old".to_owned()));
        let mut part = PartFile::create(&path).unwrap();
        part.write_all(b"new one").unwrap();
        assert_eq!(part.commit().unwrap(), 7);
        assert_eq!(
            (names(), std::fs::read_to_string(&path).unwrap()),
            (vec!["t.csv".to_owned()], "new one".to_owned())
        );
        assert_ne!(reader.metadata().unwrap().ino(), std::fs::metadata(&path).unwrap().ino());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(PartFile::create(&path).unwrap().commit().is_err());
        assert_eq!(names(), ["t.csv"]);
    }
}
