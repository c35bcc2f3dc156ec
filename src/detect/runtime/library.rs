// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ONNX Runtime library: found and loaded once for the process, never unloaded.
//!
//! Owns the search for the library and the one `ort::Environment` that a process may have. Nothing else of `ort` may be called
//! before [`Runtime::load`] has succeeded, because it would panic; therefore everything else takes a `&'static Runtime`.
//! [`Runtime::load`] may be called from any thread, and again after it failed.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::processor::processor;
use super::provider::{Provider, Tuning, wants_built_in_openvino};
use crate::detect::error::{Error, Result, panic_message};
use crate::detect::onnx::quantised::KernelPreference;

/// Severity of a message in ONNX Runtime's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    Verbose,
    /// State.
    Info,
    /// Degraded.
    Warning,
    /// Failed.
    Error,
    /// About to abort.
    Fatal,
}

/// Receives ONNX Runtime's log, from any thread and possibly from several at once.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Where to search for ONNX Runtime, and where its log goes.
#[derive(Clone)]
pub struct RuntimeOptions {
    /// The library, or the folder that contains it; if set, nothing else is tried.
    pub library: Option<PathBuf>,
    /// Folders to search after `ORT_DYLIB_PATH` and before the system's. A folder `openvino` in one of them contains an ONNX
    /// Runtime with OpenVINO built in, which is used if it suits `provider` best.
    pub search_dirs: Vec<PathBuf>,
    /// The execution provider that will be used.
    pub provider: Provider,
    /// Its precision and options.
    pub tuning: Tuning,
    /// Receives the log.
    pub log: LogSink,
    /// Lowest level that is logged; lower levels cost time.
    pub log_level: LogLevel,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            library: None,
            search_dirs: Vec::new(),
            provider: Provider::Auto,
            tuning: Tuning::default(),
            log: Arc::new(|_, _| {}),
            log_level: LogLevel::Warning,
        }
    }
}

/// The loaded ONNX Runtime.
pub struct Runtime {
    library: PathBuf,
    version: String,
    pub(super) environment: ort::environment::Environment,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("library", &self.library)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

/// File name of the library, without its version.
const LIBRARY: &str = "libonnxruntime.so";
/// Subfolder of `search_dirs` that contains an ONNX Runtime with OpenVINO built in.
const WITH_OPENVINO: &str = "openvino";
/// The environment variable that names the library, as in `ort` and other programs.
const VARIABLE: &str = "ORT_DYLIB_PATH";

impl Runtime {
    /// Loads ONNX Runtime, or returns the one that is already loaded.
    ///
    /// The library is searched in this order: `options.library`, `ORT_DYLIB_PATH`, `openvino` in `options.search_dirs` if it suits
    /// the provider better, `options.search_dirs`, `LD_LIBRARY_PATH`, the system's library folders. The second value is a note for
    /// the user if another library is already in use; a process can have only one.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`] with every path that was tried, [`Error::RuntimeUnusable`] if the library cannot be loaded or
    /// is too old. Both may be retried.
    pub fn load(options: &RuntimeOptions) -> Result<(&'static Self, Option<String>)> {
        if let Some(runtime) = RUNTIME.get() {
            return Ok((runtime, runtime.note(options)));
        }
        let runtime = RUNTIME.get_or_try_init(|| Self::open(options))?;
        Ok((runtime, runtime.note(options)))
    }

    /// Returns the runtime, if it is loaded.
    pub fn get() -> Option<&'static Self> {
        RUNTIME.get()
    }

    /// Returns the absolute path of the library.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Returns the folder of the library, with links resolved.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let real = self.library.canonicalize().unwrap_or_else(|_| self.library.clone());
        real.parent().map(Path::to_path_buf)
    }

    /// Whether the library was built with this provider. Whether a device is present for it is known only when a session is
    /// opened.
    pub(crate) fn has_provider(&self, provider: &Provider) -> bool {
        use ort::ep::{CUDA, CoreML, DirectML, ExecutionProvider, OpenVINO, TensorRT, WebGPU};
        let available = match provider {
            Provider::Cpu => return true,
            Provider::Cuda => CUDA::is_available(),
            Provider::TensorRt => TensorRT::is_available(),
            Provider::CoreMl => CoreML::is_available(),
            Provider::DirectMl => DirectML::is_available(),
            Provider::WebGpu => WebGPU::is_available(),
            Provider::OpenVino => OpenVINO::is_available(),
            Provider::Auto | Provider::TensorRtRtx | Provider::Library(_) => return false,
        };
        available.unwrap_or(false)
    }

    /// Returns its version, for example "1.31.1", or "unknown".
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns its minor version, 31 for "1.31.1".
    pub(crate) fn minor_version(&self) -> Option<u32> {
        self.version.strip_prefix("1.")?.split('.').next()?.parse().ok()
    }

    /// Returns the types that this version's CPU kernels for quantised models compute fastest with on this processor.
    pub(super) fn kernel_preference(&self) -> KernelPreference {
        let is_recent = self.minor_version().is_some_and(|minor| minor >= 25);
        if is_recent && processor().has_vnni {
            KernelPreference::SignedActivations
        } else {
            KernelPreference::UnsignedWeights
        }
    }

    fn note(&self, options: &RuntimeOptions) -> Option<String> {
        let (wanted, why) = match &options.library {
            Some(wanted) => (requested(wanted).ok()?, "was requested"),
            None => (with_openvino(options)?, "has OpenVINO built in, which suits this processor best"),
        };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        (real(&wanted) != real(&self.library)).then(|| {
            format!(
                "{} {why}, but this process already uses {}; a process can load only one ONNX Runtime",
                wanted.display(),
                self.library.display()
            )
        })
    }

    fn open(options: &RuntimeOptions) -> Result<Self> {
        // If the better library cannot be loaded, the usual one is used instead.
        let better = with_openvino(options).map(|library| Self::open_library(options, library));
        match better {
            Some(Ok(runtime)) => Ok(runtime),
            Some(Err(error)) if options.provider != Provider::Auto => Err(error),
            _ => Self::open_library(options, find(options)?),
        }
    }

    fn open_library(options: &RuntimeOptions, library: PathBuf) -> Result<Self> {
        let unusable = |reason: String| Error::RuntimeUnusable {
            library: library.clone(),
            reason,
            minimum: format!("1.{}", ort::MINOR_VERSION),
        };
        // ort panics on libraries with invalid answers.
        let environment = catch_unwind(AssertUnwindSafe(|| {
            let builder = ort::init_from(&library).map_err(|error| error.to_string())?;
            let (sink, least) = (Arc::clone(&options.log), options.log_level);
            builder
                .with_name("vx")
                .with_telemetry(false)
                .with_logger(Arc::new(move |level, _category: &str, _id: &str, location: &str, message: &str| {
                    let level = from_ort(level);
                    if level >= least {
                        // The caller is C++: a panic of the sink must not reach it.
                        let _ = catch_unwind(AssertUnwindSafe(|| {
                            sink(level, &format!("{message} ({location})"));
                        }));
                    }
                }))
                .build()
                .map_err(|error| error.to_string())
        }))
        .unwrap_or_else(|panic| Err(panic_message(panic.as_ref())))
        .map_err(unusable)?;
        environment.set_log_level(to_ort(options.log_level));
        let version = version(ort::info(), &library);
        Ok(Self { library, version, environment })
    }
}

fn from_ort(level: ort::logging::LogLevel) -> LogLevel {
    match level {
        ort::logging::LogLevel::Verbose => LogLevel::Verbose,
        ort::logging::LogLevel::Info => LogLevel::Info,
        ort::logging::LogLevel::Warning => LogLevel::Warning,
        ort::logging::LogLevel::Error => LogLevel::Error,
        ort::logging::LogLevel::Fatal => LogLevel::Fatal,
    }
}

fn to_ort(level: LogLevel) -> ort::logging::LogLevel {
    match level {
        LogLevel::Verbose => ort::logging::LogLevel::Verbose,
        LogLevel::Info => ort::logging::LogLevel::Info,
        LogLevel::Warning => ort::logging::LogLevel::Warning,
        LogLevel::Error => ort::logging::LogLevel::Error,
        LogLevel::Fatal => ort::logging::LogLevel::Fatal,
    }
}

/// Returns the version in ONNX Runtime's build information ("git-branch=rel-1.31.1"), or in the library's file name.
fn version(build_info: &str, library: &Path) -> String {
    let of_branch =
        build_info.split("git-branch=rel-").nth(1).map(|rest| rest.split([',', ' ']).next().unwrap_or(rest));
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let of_file = real.file_name().and_then(|name| name.to_str()).and_then(|name| name.split(".so.").nth(1));
    of_branch.or(of_file).unwrap_or("unknown").to_owned()
}

/// Returns the absolute path of the library.
fn find(options: &RuntimeOptions) -> Result<PathBuf> {
    if let Some(wanted) = &options.library {
        return requested(wanted);
    }
    if let Some(wanted) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return requested(Path::new(&wanted));
    }
    let from_variable = std::env::var_os("LD_LIBRARY_PATH");
    let from_variable = from_variable.iter().flat_map(std::env::split_paths).filter(|dir| !dir.as_os_str().is_empty());
    let mut searched = Vec::new();
    for dir in options.search_dirs.iter().cloned().chain(from_variable).chain(system_dirs()) {
        let dir = absolute(&dir);
        if searched.contains(&dir) {
            continue;
        }
        if let Some(library) = library_in(&dir) {
            return Ok(library);
        }
        searched.push(dir);
    }
    Err(Error::RuntimeNotFound { searched })
}

/// Returns the library with OpenVINO built in, if there is one.
pub(super) fn built_in_openvino(dirs: &[PathBuf]) -> Option<PathBuf> {
    dirs.iter().find_map(|dir| library_in(&absolute(dir).join(WITH_OPENVINO)))
}

/// Returns the library with OpenVINO built in, if it exists and suits the provider better, and no library is requested.
fn with_openvino(options: &RuntimeOptions) -> Option<PathBuf> {
    let is_free = options.library.is_none() && std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty());
    let is_wanted = is_free && wants_built_in_openvino(&options.provider, &options.tuning, processor());
    is_wanted.then(|| built_in_openvino(&options.search_dirs)).flatten()
}

/// Returns the library at a requested path, which may be a folder.
fn requested(wanted: &Path) -> Result<PathBuf> {
    let path = absolute(wanted);
    let found = if path.is_dir() { library_in(&path) } else { path.is_file().then(|| path.clone()) };
    found.ok_or(Error::RuntimeNotFound { searched: vec![path] })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns `libonnxruntime.so` in `dir`, or the newest `libonnxruntime.so.*`.
fn library_in(dir: &Path) -> Option<PathBuf> {
    let plain = dir.join(LIBRARY);
    if plain.is_file() {
        return Some(plain);
    }
    let prefix = format!("{LIBRARY}.");
    let numbered = dir.read_dir().ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let numbers = name.to_str()?.strip_prefix(&prefix)?.split('.');
        let numbers: Vec<u32> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
        entry.path().is_file().then(|| (Reverse(numbers), entry.path()))
    });
    numbered.min().map(|(_, path)| path)
}

/// Returns the folders where Linux distributions keep shared libraries.
fn system_dirs() -> impl Iterator<Item = PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let multiarch = [format!("/usr/lib/{triplet}"), format!("/lib/{triplet}"), format!("/usr/local/lib/{triplet}")];
    let plain = ["/usr/local/lib", "/usr/local/lib64", "/usr/lib64", "/usr/lib", "/lib64", "/lib"];
    plain
        .into_iter()
        .take(2)
        .map(str::to_owned)
        .chain(multiarch)
        .chain(plain.into_iter().skip(2).map(str::to_owned))
        .map(PathBuf::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_in_a_folder_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(library_in(dir.path()), None);
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime.so.1", "libonnxruntime.so.old"]
        {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(library_in(dir.path()), Some(dir.path().join("libonnxruntime.so.1.31.1")));
        std::fs::write(dir.path().join(LIBRARY), "").unwrap();
        assert_eq!(library_in(dir.path()), Some(dir.path().join(LIBRARY)));
        assert_eq!(requested(dir.path()).unwrap(), dir.path().join(LIBRARY));
    }

    #[test]
    fn versions_are_read_from_the_build_or_the_file_name() {
        let info = "ORT Build Info: git-branch=rel-1.31.1, git-commit-id=abc, build type=Release";
        assert_eq!(version(info, Path::new("x.so")), "1.31.1");
        assert_eq!(version("ORT Build Info: ", Path::new("/x/libonnxruntime.so.1.21.0")), "1.21.0");
        assert_eq!(version("", Path::new("/x/libonnxruntime.so")), "unknown");
    }

    #[test]
    fn a_library_asked_for_by_name_that_is_not_there_is_requested() {
        let text = requested(Path::new("/no/such/libonnxruntime.so")).unwrap_err().to_string();
        assert!(text.contains("/no/such/libonnxruntime.so") && text.contains("make setup"), "{text}");
    }
}
