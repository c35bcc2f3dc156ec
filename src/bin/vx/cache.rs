//! Results kept from earlier runs, under what they depend on: file, size and time, model, settings.
//!
//! A result is a file of its own that appears whole, so that several runs may use one folder at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gstvx::detect::read_regular;

use crate::unit::{Unit, Units};

/// A folder of results.
pub struct Cache {
    folder: PathBuf,
    /// Of the program, the model and the settings.
    common: blake3::Hash,
}

impl Cache {
    /// Opens `folder`, which is made if it is not there. `model` is the model file, `None` the built-in one; `settings` is all
    /// else that results depend on.
    ///
    /// # Errors
    /// What keeps the folder or the model from being read, with its name.
    pub fn open(folder: &Path, model: Option<&Path>, settings: &str) -> Result<Self, String> {
        let failed =
            |path: &Path, error: std::io::Error| format!("the model {} cannot be read: {error}", path.display());
        std::fs::create_dir_all(folder).map_err(|error| {
            format!("the cache {} cannot be used: {error}; name a folder that can be written", folder.display())
        })?;
        let mut hash = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(settings.as_bytes());
        match model {
            None => add(b"built-in"),
            Some(path) => {
                let content = read_regular(path).map_err(|error| failed(path, error))?;
                add(&content);
                neighbours(path, &content).iter().for_each(|neighbour| add(neighbour.as_bytes()));
            }
        }
        Ok(Self { folder: folder.to_owned(), common: hash.finalize() })
    }

    /// Where the result for `file` as it is now would be; `None` for what is no file.
    pub fn place(&self, file: &str) -> Option<PathBuf> {
        let metadata = std::fs::metadata(file).ok().filter(|metadata| metadata.is_file())?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let mut hash = blake3::Hasher::new();
        hash.update(self.common.as_bytes());
        // Lines tell the path as it was given, so this is part of them.
        hash.update(file.as_bytes());
        hash.update(&[0]);
        hash.update(std::fs::canonicalize(file).ok()?.as_os_str().as_encoded_bytes());
        hash.update(&metadata.len().to_le_bytes());
        hash.update(&changed.as_nanos().to_le_bytes());
        let name = hash.finalize().to_hex();
        Some(self.folder.join(&name[..2]).join(&name[2..]))
    }

    /// The result in `place`, if there is one.
    pub fn get(place: &Path) -> Option<Unit> {
        let bytes = std::fs::read(place).ok()?;
        let (hash, lines) = bytes.split_at_checked(blake3::OUT_LEN)?;
        // What is not as it was written is none.
        let is_whole = *blake3::hash(lines).as_bytes() == *hash;
        let mut units = Units::default().push(lines);
        (is_whole && units.len() == 1 && units[0].lines.len() == lines.len()).then(|| units.remove(0))
    }

    /// Keeps a result.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub fn put(place: &Path, unit: &Unit) -> Result<(), String> {
        let write = || {
            let folder = place.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(blake3::hash(&unit.lines).as_bytes())?;
            new.write_all(&unit.lines)?;
            new.persist(place).map_err(|error| error.error).map(|_| ())
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", place.display()))
    }
}

/// Files beside a model that belong to it, since it names them (its weights) or they it (`.modelinfo`): names, sizes, times.
fn neighbours(model: &Path, content: &[u8]) -> Vec<String> {
    let own = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let belongs = name == format!("{own}.modelinfo") || memchr::memmem::find(content, name.as_bytes()).is_some();
        if let (true, Ok(metadata)) = (belongs && name != own, entry.metadata()) {
            found.push(format!("{name} {} {:?}", metadata.len(), metadata.modified().ok()));
        }
    }
    found.sort();
    found
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
        let open = |settings: &str| Cache::open(&folder.path().join("cache"), None, settings).unwrap();
        let cache = open("x");
        let place = cache.place(name).unwrap();
        assert!(Cache::get(&place).is_none());
        let unit = Unit::bare(Summary::new(name));
        Cache::put(&place, &unit).unwrap();
        assert_eq!(Cache::get(&open("x").place(name).unwrap()), Some(unit));
        assert!(Cache::get(&open("y").place(name).unwrap()).is_none());
        let whole = std::fs::read(&place).unwrap();
        std::fs::write(&place, String::from_utf8_lossy(&whole).replace("\"file\"", "\"fool\"").as_bytes()).unwrap();
        assert!(Cache::get(&place).is_none());
        std::fs::write(&place, "cut").unwrap();
        assert!(Cache::get(&place).is_none());
        std::fs::write(&file, "other").unwrap();
        assert_ne!(cache.place(name).unwrap(), place);
        assert!(cache.place("/nowhere").is_none());
        let model = folder.path().join("m.onnx");
        assert!(Cache::open(folder.path(), Some(&model), "").err().unwrap().contains("m.onnx"));
    }

    #[test]
    fn a_model_is_also_what_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        std::fs::write(&model, "model with m.weights").unwrap();
        let key = || Cache::open(&folder.path().join("cache"), Some(&model), "").unwrap().common;
        let alone = key();
        std::fs::write(folder.path().join("else"), "x").unwrap();
        assert_eq!(key(), alone);
        std::fs::write(folder.path().join("m.weights"), "x").unwrap();
        let with_weights = key();
        std::fs::write(folder.path().join("m.onnx.modelinfo"), "x").unwrap();
        assert!(with_weights != alone && key() != with_weights);
    }
}
