// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of earlier runs, by what they depend on: path, size and time of the file, model, settings.
//!
//! Each result is a file that is written elsewhere and renamed, so that several runs, and several users, may use one folder at
//! once. Permissions follow the user's umask. Knows no output and no pipeline. Any thread.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::file_record::{Assembler, FileRecord};
use crate::path::path_of;
use crate::record::modified_ns;

/// A folder of results.
pub(super) struct Cache {
    folder: PathBuf,
    /// Hash of all that results depend on beside the file.
    common: blake3::Hash,
}

impl Cache {
    /// Opens `folder`, creating it if necessary; `key` is all that results depend on beside the file.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn open(folder: &Path, key: &str) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::Cache { path: folder.to_owned(), reason: error.to_string() })?;
        Ok(Self { folder: folder.to_owned(), common: blake3::hash(key.as_bytes()) })
    }

    /// Returns the place of the result for `file` in its present state; `None` for what is not a file.
    pub fn place(&self, file: &str) -> Option<PathBuf> {
        let path = path_of(file);
        let metadata = std::fs::metadata(&path).ok().filter(|metadata| metadata.is_file())?;
        let mut hash = blake3::Hasher::new();
        hash.update(self.common.as_bytes());
        // Lines contain the path as it was given, so results depend on it.
        hash.update(file.as_bytes());
        hash.update(&[0]);
        hash.update(std::fs::canonicalize(&path).ok()?.as_os_str().as_encoded_bytes());
        hash.update(&metadata.len().to_le_bytes());
        hash.update(&modified_ns(&metadata)?.to_le_bytes());
        let name = hash.finalize().to_hex();
        Some(self.folder.join(&name[..2]).join(&name[2..]))
    }

    /// Reads the result in `place`; `None` if there is none.
    ///
    /// # Errors
    /// Why a result cannot be used. It may be replaced.
    pub fn get(place: &Path) -> Result<Option<FileRecord>, String> {
        let bytes = match std::fs::read(place) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", place.display())),
        };
        let file = bytes.split_at_checked(blake3::OUT_LEN).and_then(|(hash, lines)| {
            let is_intact = *blake3::hash(lines).as_bytes() == *hash;
            let mut files = Assembler::default().push(lines);
            (is_intact && files.len() == 1 && files[0].lines.len() == lines.len()).then(|| files.remove(0))
        });
        file.map(Some).ok_or_else(|| format!("{} is damaged", place.display()))
    }

    /// Writes a result.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn put(place: &Path, file: &FileRecord) -> Result<(), String> {
        // Reduced by the umask.
        const ALL: u32 = 0o666;
        let write = || {
            let folder = place.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::Builder::new().permissions(Permissions::from_mode(ALL)).tempfile_in(folder)?;
            new.write_all(blake3::hash(&file.lines).as_bytes())?;
            new.write_all(&file.lines)?;
            new.persist(place).map_err(|error| error.error).map(|_| ())
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", place.display()))
    }
}

/// The cache of a run: where the results of its files belong, by the state of the files before the run.
pub(super) struct RunCache {
    cache: Cache,
    places: HashMap<String, PathBuf>,
}

impl RunCache {
    /// Creates it for `files`.
    pub fn new(cache: Cache, files: &[String]) -> Self {
        let places = files.iter().filter_map(|file| Some((file.clone(), cache.place(file)?))).collect();
        Self { cache, places }
    }

    /// Returns the result of a file.
    ///
    /// # Errors
    /// Why a result is not used.
    pub fn get(&self, file: &str) -> Result<Option<FileRecord>, String> {
        let Some(place) = self.places.get(file) else { return Ok(None) };
        let found = Cache::get(place).map_err(|reason| format!("a result in the cache is not used: {reason}"))?;
        Ok(found.filter(|record| record.summary.file == file))
    }

    /// Writes a result, unless its file has changed during the run.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn put(&self, record: &FileRecord) -> Result<(), String> {
        let file = &record.summary.file;
        // Its place is for results of the first choice of provider.
        if let Some(reason) = &record.summary.fallback {
            return Err(format!("results are not kept in the cache, because of a fallback: {reason}"));
        }
        match (self.places.get(file), self.cache.place(file)) {
            (Some(before), Some(now)) if *before == now => {
                Cache::put(&now, record).map_err(|reason| format!("a result is not kept in the cache: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use crate::record::Summary;

    use super::*;

    #[test]
    fn results_are_reused_until_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        std::fs::write(&file, "one").unwrap();
        let name = file.to_str().unwrap();
        let open = |key: &str| Cache::open(&folder.path().join("cache"), key).unwrap();
        let cache = open("x");
        let place = cache.place(name).unwrap();
        assert_eq!(Cache::get(&place), Ok(None));
        let record = FileRecord::of_summary(Summary::new(name));
        Cache::put(&place, &record).unwrap();
        assert_eq!(Cache::get(&open("x").place(name).unwrap()), Ok(Some(record.clone())));
        assert_eq!(Cache::get(&open("y").place(name).unwrap()), Ok(None));
        let intact = std::fs::read(&place).unwrap();
        for damaged in [String::from_utf8_lossy(&intact).replace("\"file\"", "\"fool\"").as_bytes(), b"cut", b""] {
            std::fs::write(&place, damaged).unwrap();
            assert!(Cache::get(&place).unwrap_err().contains("damaged"));
        }
        Cache::put(&place, &record).unwrap();
        assert_eq!(Cache::get(&place), Ok(Some(record)));
        std::fs::write(&file, "other").unwrap();
        assert_ne!(cache.place(name).unwrap(), place);
        assert!(cache.place("/nowhere").is_none());
    }

    #[test]
    fn permissions_follow_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        std::fs::write(&file, "one").unwrap();
        let usual = std::fs::metadata(&file).unwrap().permissions();
        let name = file.to_str().unwrap();
        let place = Cache::open(folder.path(), "").unwrap().place(name).unwrap();
        Cache::put(&place, &FileRecord::of_summary(Summary::new(name))).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().permissions(), usual);
    }
}
