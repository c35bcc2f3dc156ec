//! Results kept from earlier runs, under what they depend on: file, size and time, model, settings.
//!
//! A result is a file of its own that appears whole, so that several runs, and several users, may use one folder at once. Files
//! and folders have the permissions that the user's umask leaves them.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gstvx::elements::bulkbin::modified_ns;
use gstvx::path::path_of;

use crate::unit::{Unit, Units};

/// A folder of results.
pub struct Cache {
    folder: PathBuf,
    /// Of all that results depend on beside the file.
    common: blake3::Hash,
}

impl Cache {
    /// Opens `folder`, which is made if it is not there; `key` is all that results depend on beside the file.
    ///
    /// # Errors
    /// What keeps the folder from being used, with its name.
    pub fn open(folder: &Path, key: &str) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| {
            format!("the cache {} cannot be used: {error}; name a folder that can be written", folder.display())
        })?;
        Ok(Self { folder: folder.to_owned(), common: blake3::hash(key.as_bytes()) })
    }

    /// Where the result for `file` as it is now would be; `None` for what is no file.
    pub fn place(&self, file: &str) -> Option<PathBuf> {
        let path = path_of(file);
        let metadata = std::fs::metadata(&path).ok().filter(|metadata| metadata.is_file())?;
        let mut hash = blake3::Hasher::new();
        hash.update(self.common.as_bytes());
        // Lines contain the path as it was given, so this is part of them.
        hash.update(file.as_bytes());
        hash.update(&[0]);
        hash.update(std::fs::canonicalize(&path).ok()?.as_os_str().as_encoded_bytes());
        hash.update(&metadata.len().to_le_bytes());
        hash.update(&modified_ns(&metadata)?.to_le_bytes());
        let name = hash.finalize().to_hex();
        Some(self.folder.join(&name[..2]).join(&name[2..]))
    }

    /// The result in `place`, if there is one.
    ///
    /// # Errors
    /// Why one that is there is not usable. It is as good as none, and may be replaced.
    pub fn get(place: &Path) -> Result<Option<Unit>, String> {
        let bytes = match std::fs::read(place) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", place.display())),
        };
        let unit = bytes.split_at_checked(blake3::OUT_LEN).and_then(|(hash, lines)| {
            let is_whole = *blake3::hash(lines).as_bytes() == *hash;
            let mut units = Units::default().push(lines);
            (is_whole && units.len() == 1 && units[0].lines.len() == lines.len()).then(|| units.remove(0))
        });
        unit.map(Some).ok_or_else(|| format!("{} is damaged", place.display()))
    }

    /// Keeps a result.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub fn put(place: &Path, unit: &Unit) -> Result<(), String> {
        // The umask takes from this what it takes from any file.
        const ALL: u32 = 0o666;
        let write = || {
            let folder = place.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::Builder::new().permissions(Permissions::from_mode(ALL)).tempfile_in(folder)?;
            new.write_all(blake3::hash(&unit.lines).as_bytes())?;
            new.write_all(&unit.lines)?;
            new.persist(place).map_err(|error| error.error).map(|_| ())
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", place.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use gstvx::elements::bulkbin::Summary;

    use super::*;

    #[test]
    fn results_are_found_again_until_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        std::fs::write(&file, "one").unwrap();
        let name = file.to_str().unwrap();
        let open = |key: &str| Cache::open(&folder.path().join("cache"), key).unwrap();
        let cache = open("x");
        let place = cache.place(name).unwrap();
        assert_eq!(Cache::get(&place), Ok(None));
        let unit = Unit::bare(Summary::new(name));
        Cache::put(&place, &unit).unwrap();
        assert_eq!(Cache::get(&open("x").place(name).unwrap()), Ok(Some(unit.clone())));
        assert_eq!(Cache::get(&open("y").place(name).unwrap()), Ok(None));
        let whole = std::fs::read(&place).unwrap();
        for damaged in [String::from_utf8_lossy(&whole).replace("\"file\"", "\"fool\"").as_bytes(), b"cut", b""] {
            std::fs::write(&place, damaged).unwrap();
            assert!(Cache::get(&place).unwrap_err().contains("damaged"));
        }
        Cache::put(&place, &unit).unwrap();
        assert_eq!(Cache::get(&place), Ok(Some(unit)));
        std::fs::write(&file, "other").unwrap();
        assert_ne!(cache.place(name).unwrap(), place);
        assert!(cache.place("/nowhere").is_none());
    }

    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        std::fs::write(&file, "one").unwrap();
        let usual = std::fs::metadata(&file).unwrap().permissions();
        let name = file.to_str().unwrap();
        let place = Cache::open(folder.path(), "").unwrap().place(name).unwrap();
        Cache::put(&place, &Unit::bare(Summary::new(name))).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().permissions(), usual);
    }
}
