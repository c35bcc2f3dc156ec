// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder with what loading a model costs: compiled models, and findings about models.
//!
//! Each entry is a file named by a hash of everything it depends on. It ends with a hash of its content, because OpenVINO computes
//! garbage from a compiled model with a changed bit without an error. Entries are written elsewhere and renamed, so that several
//! processes may use the folder at once; no lock is held. The folder is bounded: the entries that were not used for longest are
//! removed. Only files with names of its own are read or removed. Knows no model and no runtime. Any thread.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::onnx::file::open_regular;

/// Most bytes in the folder: some hundred compiled models. The entries that were not used for longest are removed first.
pub const MAX_CACHE: u64 = 2 << 30;
/// Largest entry.
const MAX_ENTRY: u64 = 1 << 30;
/// Age of temporary files and folders that a killed process left behind; a compilation takes less.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// Start of the names of temporary files and folders.
const TEMPORARY: &str = ".new-";
/// Extension of entries. Changes when their content gets another meaning.
const EXTENSION: &str = "vx2";
/// Folder within the user's cache directory.
const USER_FOLDER: &str = "vx";

/// Returns the default folder: `vx` in `XDG_CACHE_HOME` or `~/.cache`; `None` if neither is known.
#[must_use]
pub fn user_cache() -> Option<PathBuf> {
    // Relative paths are invalid (XDG Base Directory Specification).
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join(USER_FOLDER))
}

/// A key: a hash of parts whose boundaries count.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheKey(blake3::Hasher);

impl CacheKey {
    /// Starts a key for entries of this kind. They depend on the version of this crate.
    pub fn new(kind: &str) -> Self {
        Self::default().with(kind).with(env!("CARGO_PKG_VERSION"))
    }

    /// Adds a part.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        self
    }

    /// Adds a file by path, length and time; its content is not read.
    pub fn with_file(self, path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        let length = metadata.as_ref().map(std::fs::Metadata::len);
        let time = metadata.and_then(|metadata| metadata.modified().ok());
        self.with(path.as_os_str().as_encoded_bytes()).with(format!("{length:?} {time:?}"))
    }
}

/// A folder of entries; see the module. Clones share their problem.
#[derive(Debug, Clone)]
pub(crate) struct ModelCache {
    folder: PathBuf,
    limit: u64,
    problem: Arc<Mutex<Option<String>>>,
}

impl ModelCache {
    /// Opens `folder`, creating it if necessary.
    ///
    /// # Errors
    /// Why nothing can be written to it.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let fail = |error: std::io::Error| format!("{} cannot be used: {error}", folder.display());
        create_private(folder).map_err(fail)?;
        // Permissions do not show whether the file system is read-only.
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder).map_err(fail)?;
        Ok(Self { folder: folder.to_owned(), limit: MAX_CACHE, problem: Arc::default() })
    }

    /// Returns why an entry could not be written, if one could not.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Returns a folder within it for a provider that manages its own files. It is bounded here, when it is opened: its oldest files are
    /// removed while it is larger than the limit of the cache.
    pub fn subfolder(&self, name: &str) -> Option<PathBuf> {
        let folder = self.folder.join(name);
        create_private(&folder).ok()?;
        let files = folder.read_dir().ok()?.flatten();
        let entry = |file: std::fs::DirEntry| {
            let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), file.path()))
        };
        remove_oldest(files.filter_map(entry).collect(), self.limit);
        Some(folder)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.folder.join(key.0.finalize().to_hex().as_str()).with_extension(EXTENSION)
    }

    /// Returns an entry. One whose content does not match its hash is removed.
    pub fn get(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let path = self.path(key);
        let file = open_regular(&path).ok()?;
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let content = read_verified(&file, length);
        if content.is_some() {
            // Marks it as used. Without permission it may be removed too early, which costs time only.
            let _ = file.set_modified(SystemTime::now());
        } else {
            self.remove(key);
        }
        content
    }

    /// Removes an entry.
    pub fn remove(&self, key: &CacheKey) {
        // If it cannot be removed, it fails again at the next start.
        let _ = std::fs::remove_file(self.path(key));
    }

    /// Writes an entry, and removes others if the folder is full.
    pub fn put(&self, key: &CacheKey, content: &[u8]) {
        let path = self.path(key);
        if content.len() as u64 > MAX_ENTRY {
            return;
        }
        let write = || {
            let mut new = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.folder)?;
            new.write_all(content)?;
            new.write_all(blake3::hash(content).as_bytes())?;
            new.persist(&path).map_err(|error| error.error).map(|_| ())
        };
        match write() {
            Ok(()) => self.prune(),
            Err(error) => self.report(&error),
        }
    }

    /// Records a problem; the first one is kept.
    pub fn report(&self, error: &std::io::Error) {
        self.problem.lock().get_or_insert_with(|| format!("{} cannot be written: {error}", self.folder.display()));
    }

    /// Creates a temporary folder within it.
    pub fn temporary(&self) -> std::io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.folder)
    }

    /// Removes the entries that were not used for longest while the folder is too large, and what killed processes left behind.
    fn prune(&self) {
        let mut entries = Vec::new();
        let Ok(files) = self.folder.read_dir() else { return };
        for file in files.flatten() {
            let (path, name) = (file.path(), file.file_name());
            let Ok(metadata) = file.metadata() else { continue };
            let Ok(used) = metadata.modified() else { continue };
            if metadata.is_file() && is_entry(&path) {
                entries.push((used, metadata.len(), path));
            } else if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
                && used.elapsed().is_ok_and(|age| age > OLD)
            {
                // Another process may do the same.
                let _ = if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        }
        remove_oldest(entries, self.limit);
    }
}

/// Removes the oldest of `files` (time, length, path) while they are longer than `limit` bytes together.
fn remove_oldest(mut files: Vec<(SystemTime, u64, PathBuf)>, limit: u64) {
    files.sort();
    let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if total <= limit {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            total -= length;
        }
    }
}

/// Creates a folder that only its owner may use: what is in it determines what runs.
fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether a file has the name of an entry.
fn is_entry(path: &Path) -> bool {
    let is_hash = |stem: &std::ffi::OsStr| {
        let stem = stem.as_encoded_bytes();
        stem.len() == 2 * blake3::OUT_LEN && stem.iter().all(u8::is_ascii_hexdigit)
    };
    path.extension().is_some_and(|extension| extension == EXTENSION) && path.file_stem().is_some_and(is_hash)
}

/// Reads an entry of `length` bytes; `None` if its content does not match the hash at its end.
fn read_verified(file: &File, length: u64) -> Option<Vec<u8>> {
    let content = length.checked_sub(blake3::OUT_LEN as u64).filter(|content| *content <= MAX_ENTRY)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).ok()?);
    file.take(length).read_to_end(&mut bytes).ok()?;
    let (content, hash) = bytes.split_at_checked(usize::try_from(content).ok()?)?;
    let is_intact = *blake3::hash(content).as_bytes() == *hash;
    bytes.truncate(bytes.len().saturating_sub(blake3::OUT_LEN));
    is_intact.then_some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<PathBuf> {
        folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn boundaries_of_the_parts_of_a_key_count() {
        let key = |parts: &[&str]| parts.iter().fold(CacheKey::new("a"), |key, part| key.with(part)).0.finalize();
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab", ""]), key(&["ab"]));
    }

    #[test]
    fn a_damaged_entry_is_removed_and_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open(folder.path()).unwrap();
        let key = CacheKey::new("compiled").with("model");
        assert_eq!(cache.get(&key), None);
        for content in [&b""[..], b"compiled"] {
            cache.put(&key, content);
            assert_eq!(cache.get(&key).as_deref(), Some(content));
        }
        let path = cache.path(&key);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.get(&key), None, "{length} bytes");
            assert!(!path.exists());
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get(&key), None, "bit {bit}");
        }
        assert_eq!(entries(folder.path()), Vec::<PathBuf>::new());
        cache.put(&key, b"again");
        assert_eq!(cache.get(&key).unwrap(), b"again");
        assert_eq!(cache.problem(), None);
    }

    #[test]
    fn entries_that_were_not_used_for_longest_are_removed_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = [folder.path().join("notes.txt"), folder.path().join("notes.vx2")];
        foreign.iter().for_each(|path| std::fs::write(path, [0; 100]).unwrap());
        let cache = ModelCache { limit: 3 * 132, ..ModelCache::open(folder.path()).unwrap() };
        let key = |number: u8| CacheKey::new("test").with([number]);
        let made_old = |number: u8, seconds: u64| {
            let file = File::options().append(true).open(cache.path(&key(number))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        for number in 0..3 {
            cache.put(&key(number), &[number; 100]);
            made_old(number, 100 - u64::from(number));
        }
        // The oldest becomes the newest by being used.
        assert!(cache.get(&key(0)).is_some());
        cache.put(&key(3), &[3; 100]);
        let kept: Vec<u8> = (0..4).filter(|number| cache.get(&key(*number)).is_some()).collect();
        assert_eq!(kept, [0, 2, 3]);
        assert!(foreign.iter().all(|path| path.exists()));
    }

    #[test]
    fn the_folder_of_a_provider_is_bounded_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache { limit: 250, ..ModelCache::open(folder.path()).unwrap() };
        let own = cache.subfolder("tensorrt").unwrap();
        for age in 0..4 {
            let file = File::create(own.join(format!("{age}.engine"))).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 60)).unwrap();
        }
        assert_eq!(cache.subfolder("tensorrt"), Some(own.clone()));
        let mut left = entries(&own);
        left.sort();
        assert_eq!(left, [own.join("0.engine"), own.join("1.engine")]);
    }

    #[test]
    fn what_a_killed_process_left_behind_is_removed_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open(folder.path()).unwrap();
        let [old, new, whole] = [".new-old", ".new-new", ".new-folder"].map(|name| folder.path().join(name));
        std::fs::write(&old, "").unwrap();
        std::fs::write(&new, "").unwrap();
        std::fs::create_dir(&whole).unwrap();
        std::fs::write(whole.join("model.onnx"), "").unwrap();
        for path in [&old, &whole] {
            File::open(path).unwrap().set_modified(SystemTime::now() - 2 * OLD).unwrap();
        }
        cache.put(&CacheKey::new("test"), b"entry");
        assert!(!old.exists() && !whole.exists() && new.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below"), "/proc/vx".into()] {
            let reason = ModelCache::open(&path).unwrap_err();
            assert!(reason.contains(&path.display().to_string()), "{reason}");
        }
        let cache = ModelCache::open(&folder.path().join("new/below")).unwrap();
        std::fs::remove_dir_all(folder.path().join("new")).unwrap();
        cache.put(&CacheKey::new("test"), b"entry");
        assert!(cache.problem().unwrap().contains("new/below"));
        // A folder in the place of an entry.
        let cache = ModelCache::open(folder.path()).unwrap();
        let key = CacheKey::new("test");
        std::fs::create_dir(cache.path(&key)).unwrap();
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"entry");
        assert_eq!(cache.get(&key), None);
        assert!(cache.problem().is_some());
    }

    #[test]
    fn a_large_entry_is_neither_kept_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open(folder.path()).unwrap();
        let key = CacheKey::new("test");
        // Never written: the memory of zeros is not touched.
        let len = usize::try_from(MAX_ENTRY).unwrap() + 1;
        cache.put(&key, &vec![0; len]);
        assert_eq!((entries(folder.path()), cache.problem()), (Vec::new(), None));
        // A sparse file with the right hash.
        let mut file = File::create(cache.path(&key)).unwrap();
        file.set_len(MAX_ENTRY + 1).unwrap();
        let (mut hash, zeros) = (blake3::Hasher::new(), vec![0; 1 << 20]);
        for _ in 0..MAX_ENTRY >> 20 {
            hash.update(&zeros);
        }
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(hash.update(&[0]).finalize().as_bytes()).unwrap();
        assert_eq!(cache.get(&key), None);
    }
}
