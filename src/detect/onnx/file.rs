// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file of a model, and its identity by content.
//!
//! Owns reading the file, with limits. Blocking; call it from a thread that may wait.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use once_cell::sync::{Lazy, OnceCell};

use super::modelinfo;
use super::quantised::{self, KernelPreference};
use super::weights;
use crate::detect::error::{Error, Result};

/// Largest model file: the limit of protobuf, and so of ONNX, without external data.
pub const MAX_MODEL: u64 = 2 << 30;

static BUILT_IN: &[u8] = include_bytes!("../../../models/person-320.onnx");

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ModelSource {
    /// The person detector that is built into this library.
    #[default]
    BuiltIn,
    /// An ONNX file.
    File(PathBuf),
}

/// A model in memory.
#[derive(Debug)]
pub(crate) struct ModelBytes {
    /// File name as given, or "the built-in model".
    pub name: String,
    pub content: Content,
    pub identity: Identity,
    /// Whether its convolutions are dynamically quantised.
    pub is_quantised: bool,
    /// The model as rewritten for the CPU provider, once that has been tried.
    for_cpu: OnceCell<Option<Vec<u8>>>,
    /// [`Content::Path`] with embedded weights, once that has been tried.
    embedded: OnceCell<Option<Vec<u8>>>,
    digest: OnceCell<blake3::Hash>,
}

impl ModelBytes {
    fn new(name: String, content: Content, identity: Identity, is_quantised: bool) -> Self {
        Self {
            name,
            content,
            identity,
            is_quantised,
            for_cpu: OnceCell::new(),
            embedded: OnceCell::new(),
            digest: OnceCell::new(),
        }
    }

    /// Returns the model as rewritten for the CPU provider; `None` if that does not make it faster.
    pub fn for_cpu(&self, preference: KernelPreference) -> Option<&[u8]> {
        let LoadFrom::Memory(bytes) = self.load_from() else { return None };
        let make = || cfg!(target_arch = "x86_64").then(|| quantised::for_cpu(bytes, preference)).flatten();
        self.for_cpu.get_or_init(make).as_deref()
    }

    /// Returns what a session is created from: the whole model in memory, or the file if it is too large or its weights are not
    /// found.
    pub fn load_from(&self) -> LoadFrom<'_> {
        let path = match &self.content {
            Content::Static(bytes) => return LoadFrom::Memory(bytes),
            Content::Owned(bytes) => return LoadFrom::Memory(bytes),
            Content::Path(path) => path,
        };
        let make = || {
            let bytes = read_regular(path).ok()?;
            let folder = path.parent().unwrap_or(Path::new(""));
            // Tensors may share values: the embedded model must not be larger than its files.
            let limit = (bytes.len() as u64 + external_size(&bytes, folder)).min(MAX_MODEL - 1);
            let whole = weights::embedded(&bytes, folder, limit)?;
            Some(weights::as_constants(&whole).unwrap_or(whole))
        };
        self.embedded.get_or_init(make).as_deref().map_or(LoadFrom::File(path), LoadFrom::Memory)
    }

    /// Returns a hash of all that a session is created from; `None` if a part of that is in other files.
    pub fn digest(&self) -> Option<blake3::Hash> {
        let LoadFrom::Memory(bytes) = self.load_from() else { return None };
        Some(*self.digest.get_or_init(|| blake3::hash(bytes)))
    }

    /// Returns this model with other bytes, rewritten from its own.
    pub fn rewritten(&self, bytes: Vec<u8>) -> Self {
        Self::new(self.name.clone(), Content::Owned(bytes), self.identity.clone(), self.is_quantised)
    }

    /// Returns the model without rewriting for any provider.
    #[cfg(test)]
    pub fn unchanged(mut self) -> Self {
        self.for_cpu = OnceCell::with_value(None);
        self
    }
}

/// What a session is created from.
pub(crate) enum LoadFrom<'a> {
    Memory(&'a [u8]),
    File(&'a Path),
}

#[derive(Debug)]
pub(crate) enum Content {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    /// A file with weights in separate files, which ONNX Runtime finds only relative to the file.
    Path(PathBuf),
}

/// Identity of a model: equal for equal content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    BuiltIn,
    /// Length and a hash with a random key of this process, so that collisions cannot be constructed.
    Hash(u64, u64),
    /// The same and the path, for models with external weights.
    HashAt(u64, u64, PathBuf),
}

/// Name of the built-in model in messages.
pub(crate) const BUILT_IN_NAME: &str = "the built-in model";

impl ModelSource {
    /// Reads the model, unless its files show that it needs more than `memory` bytes.
    ///
    /// # Errors
    /// [`Error::ModelUnreadable`] for a file that is missing, empty, too large or not a regular file.
    pub(crate) fn read(&self, memory: Option<u64>) -> Result<ModelBytes> {
        let Self::File(path) = self else {
            let name = BUILT_IN_NAME.to_owned();
            return Ok(ModelBytes::new(name, Content::Static(BUILT_IN), Identity::BuiltIn, false));
        };
        let bytes = read(path, memory).map_err(|reason| Error::ModelUnreadable { path: path.clone(), reason })?;
        static KEY: Lazy<RandomState> = Lazy::new(RandomState::new);
        let (length, hash) = (bytes.len() as u64, KEY.hash_one(&bytes));
        let name = path.display().to_string();
        let is_quantised = quantised::is_dynamic(&bytes);
        Ok(if has_external_data(&bytes) {
            let weights = external_size(&bytes, path.parent().unwrap_or(Path::new("")));
            check_memory(length + weights, memory)
                .map_err(|reason| Error::ModelUnreadable { path: path.clone(), reason })?;
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let identity = Identity::HashAt(length, hash, real);
            ModelBytes::new(name, Content::Path(path.clone()), identity, is_quantised)
        } else {
            let bytes = weights::as_constants(&bytes).unwrap_or(bytes);
            ModelBytes::new(name, Content::Owned(bytes), Identity::Hash(length, hash), is_quantised)
        })
    }
}

impl ModelSource {
    /// Returns a hash of everything that loading the model reads: the model, the `.modelinfo` file beside it, and its external
    /// weights. Equal for the same content at any path; other files in the folder have no effect.
    ///
    /// # Errors
    /// [`Error::ModelUnreadable`] for a model or `.modelinfo` file that cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        let Self::File(path) = self else {
            add(BUILT_IN);
            return Ok(hash.finalize().to_hex().to_string());
        };
        let bytes = read(path, None).map_err(|reason| Error::ModelUnreadable { path: path.clone(), reason })?;
        add(&bytes);
        add(modelinfo::beside(path)?.as_bytes());
        let folder = path.parent().unwrap_or(Path::new(""));
        for name in external_names(&bytes) {
            let mut weights = blake3::Hasher::new();
            // A file that cannot be read is reported when the model is loaded.
            let read = open_regular(&folder.join(name)).and_then(|file| weights.update_reader(file).map(|_| ()));
            add(name.as_bytes());
            add(&read.map_or_else(|_| Vec::new(), |()| weights.finalize().as_bytes().to_vec()));
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

/// Reads a regular file.
///
/// # Errors
/// Those of the system, and an error for pipes and devices, which could block.
pub fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file: opening a pipe would block until another process writes to it.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        return File::open(path);
    }
    Err(std::io::Error::other("it is not a regular file"))
}

fn read(path: &Path, memory: Option<u64>) -> Result<Vec<u8>, String> {
    let file = open_regular(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied; change its permissions".to_owned(),
        _ => error.to_string(),
    })?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Err("it is a folder; name the .onnx file in it".to_owned());
    }
    if metadata.len() > MAX_MODEL {
        return Err(format!(
            "it has {} bytes, more than the limit of {MAX_MODEL}; export its weights as external data",
            metadata.len()
        ));
    }
    check_memory(metadata.len(), memory)?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_MODEL + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 {
        0 => Err("it is empty".to_owned()),
        length if length > MAX_MODEL => Err(format!("it grew beyond {MAX_MODEL} bytes while it was read")),
        _ => Ok(bytes),
    }
}

/// Checks that weights of `length` bytes fit into `memory`: they are read, and repacked for the provider.
fn check_memory(length: u64, memory: Option<u64>) -> Result<(), String> {
    let needed = length.saturating_mul(2);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match memory {
        Some(memory) if needed > memory => Err(format!(
            "it needs at least {} MiB of memory, and {} MiB are allowed; use a smaller or quantised model, or raise \
             memory-limit",
            mib(needed),
            memory >> 20
        )),
        _ => Ok(()),
    }
}

/// Returns the total size of the files with external weights, in bytes.
fn external_size(bytes: &[u8], folder: &Path) -> u64 {
    let files = external_names(bytes).into_iter().filter_map(|name| std::fs::metadata(folder.join(name)).ok());
    files.map(|file| file.len()).sum()
}

/// Returns the names of the files with external weights: each external tensor has an entry "location" with the file name, encoded
/// as two strings (fields 1 and 2 of `StringStringEntryProto`). Names that lead out of the model's folder are left out: ONNX does not
/// allow them, and an endless or foreign file must not be read because a model names it.
fn external_names(bytes: &[u8]) -> BTreeSet<&str> {
    const KEY: &[u8] = b"location\x12";
    let names = memchr::memmem::find_iter(bytes, KEY).filter_map(|at| {
        let mut value = &bytes[at + KEY.len()..];
        let length = usize::try_from(prost::encoding::decode_varint(&mut value).ok()?).ok()?;
        value.get(..length).and_then(|name| std::str::from_utf8(name).ok())
    });
    let is_below = |name: &&str| {
        let mut parts = Path::new(name).components();
        !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    names.filter(is_below).collect()
}

/// Whether the model may have external weights: such tensors have an entry with the key "location" (onnx.proto,
/// `TensorProto.external_data`).
///
/// The word may occur for another reason; then the file is only read twice.
fn has_external_data(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"location").is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn external_data_is_found_at_any_offset() {
        assert!(!has_external_data(b"") && !has_external_data(b"locatio") && has_external_data(b"location"));
        for place in [0, 1, 4088, 4089, 4090, 4095, 4096, 9000] {
            let mut bytes = vec![b'l'; 9008];
            assert!(!has_external_data(&bytes));
            bytes[place..place + 8].copy_from_slice(b"location");
            assert!(has_external_data(&bytes), "at {place}");
        }
    }

    #[test]
    fn a_model_over_the_limit_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_MODEL + 1).unwrap();
        let text = read(file.path(), None).unwrap_err();
        assert!(text.contains("more than the limit of 2147483648") && text.contains("external data"), "{text}");
    }

    #[test]
    fn equal_content_is_the_same_model_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            ModelSource::File(path).read(None).unwrap().identity
        };
        assert_eq!(write("a", b"one"), write("b", b"one"));
        assert_ne!(write("a", b"one"), write("b", b"two"));
        assert_ne!(write("a", b"location"), write("b", b"location"));
    }

    #[test]
    fn the_content_hash_covers_what_the_loader_reads_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let path = folder.path().join("external.onnx");
        let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
        write("external.onnx", &std::fs::read(models.join("external.onnx")).unwrap());
        let hash = || ModelSource::File(path.clone()).content_hash().unwrap();
        let mut before = hash();
        let mut changes = |name: &str, content: &[u8]| {
            write(name, content);
            let now = hash();
            std::mem::replace(&mut before, now.clone()) != now
        };
        assert!(changes("external.weights", b"one") && changes("external.weights", b"two"));
        // The second .modelinfo name counts only where the first is missing, as for the loader.
        assert!(changes("external.modelinfo", b"short") && changes("external.onnx.modelinfo", b"long"));
        assert!(!changes("external.modelinfo", b"other") && !changes("image", b"a name in the graph"));
        let copy = tempfile::tempdir().unwrap();
        for name in ["external.onnx", "external.weights", "external.onnx.modelinfo"] {
            std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
        }
        assert_eq!(ModelSource::File(copy.path().join("external.onnx")).content_hash().unwrap(), before);
        assert!(ModelSource::File("/nowhere/m.onnx".into()).content_hash().is_err());
        assert_ne!(ModelSource::BuiltIn.content_hash().unwrap(), before);
    }

    #[test]
    fn files_outside_of_the_folder_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let mut bytes = std::fs::read(models.join("external.onnx")).unwrap();
        let place = memchr::memmem::find(&bytes, b"external.weights").unwrap();
        bytes[place..place + 16].copy_from_slice(b"../elsewhere.bin");
        let path = folder.path().join("below/model.onnx");
        std::fs::create_dir(folder.path().join("below")).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let hash = |content: &str| {
            std::fs::write(folder.path().join("elsewhere.bin"), content).unwrap();
            ModelSource::File(path.clone()).content_hash().unwrap()
        };
        assert_eq!(hash("one"), hash("two"));
        assert_eq!(
            external_names(b"location\x12\x0b/proc/kcorelocation\x12\x02./location\x12\x01a"),
            ["./", "a"].into()
        );
    }

    #[test]
    fn names_of_external_files_of_any_length_are_found() {
        let long = "w".repeat(300);
        let mut bytes = b"location\x12\x03abc.location\x12".to_vec();
        prost::encoding::encode_varint(300, &mut bytes);
        bytes.extend_from_slice(long.as_bytes());
        bytes.extend_from_slice(b"location\x12\x7fcut");
        assert_eq!(external_names(&bytes).into_iter().collect::<Vec<_>>(), ["abc", &long]);
    }

    #[test]
    fn unreadable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.onnx");
        std::fs::write(&empty, b"").unwrap();
        for (path, word) in
            [(dir.path().join("none.onnx"), "no such file"), (dir.path().to_owned(), "folder"), (empty, "empty")]
        {
            let text = ModelSource::File(path.clone()).read(None).unwrap_err().to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains(word), "{text}");
        }
        assert!(ModelSource::File("/dev/null".into()).read(None).unwrap_err().to_string().contains("regular"));
    }
}
