//! ONNX Runtime itself: found, loaded once for the process, kept for ever.
//!
//! Owns the search for the library and the one `ort::Environment` that a process may have. Until [`Runtime::load`] has
//! succeeded nothing else of `ort` may be called: it would panic; that is why everything else takes a `&'static Runtime`.
//! [`Runtime::load`] may be called from any thread, and again after it failed.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::processor::processor;
use super::provider::{Provider, Tuning, wants_built_in_openvino};
use crate::detect::error::{Error, Result, panic_message};
use crate::detect::onnx::quantised::Gain;

/// Severity of a line of ONNX Runtime's own log.
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

/// Takes ONNX Runtime's log, from any thread and possibly many at once.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// How to find ONNX Runtime and where its log goes.
#[derive(Clone)]
pub struct RuntimeOptions {
    /// The library, or the folder that holds it; nothing else is tried then.
    pub library: Option<PathBuf>,
    /// Folders to look in after `ORT_DYLIB_PATH` and before the system's. A folder `openvino` in one of them holds an ONNX
    /// Runtime with OpenVINO built in, which is taken where `provider` runs best with that.
    pub search_dirs: Vec<PathBuf>,
    /// What models will be run on.
    pub provider: Provider,
    /// How.
    pub tuning: Tuning,
    /// Takes the log.
    pub log: LogSink,
    /// Least severe level that is logged; the lower ones cost time.
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

/// ONNX Runtime, loaded.
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

/// What the file is called, before its version.
const LIBRARY: &str = "libonnxruntime.so";
/// Where in a folder of `search_dirs` the one is that has OpenVINO built in.
const WITH_OPENVINO: &str = "openvino";
/// The environment variable that names the library, as `ort` and others use it.
const VARIABLE: &str = "ORT_DYLIB_PATH";

impl Runtime {
    /// Loads ONNX Runtime, or gives the one that is loaded already.
    ///
    /// The library is looked for in this order: `options.library`, `ORT_DYLIB_PATH`, `openvino` in `options.search_dirs` where
    /// that is the better one, `options.search_dirs`, `LD_LIBRARY_PATH`, the system's library folders. The second value is a
    /// note for the user where another library than the wanted one is in use already; a process can have only one.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`] with every place that was tried, [`Error::RuntimeUnusable`] if what is there cannot be
    /// loaded or is too old. Both may be retried.
    pub fn load(options: &RuntimeOptions) -> Result<(&'static Self, Option<String>)> {
        if let Some(runtime) = RUNTIME.get() {
            return Ok((runtime, runtime.note(options)));
        }
        let runtime = RUNTIME.get_or_try_init(|| Self::open(options))?;
        Ok((runtime, runtime.note(options)))
    }

    /// The runtime, if it has been loaded.
    pub fn get() -> Option<&'static Self> {
        RUNTIME.get()
    }

    /// Absolute path of the library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The folder of the library in use, with links followed.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let real = self.library.canonicalize().unwrap_or_else(|_| self.library.clone());
        real.parent().map(Path::to_path_buf)
    }

    /// Whether the library was built with a provider that is part of it. Whether there is a device for it shows only when a
    /// session is opened.
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
            Provider::Auto | Provider::Library(_) => return false,
        };
        available.unwrap_or(false)
    }

    /// Its version, for example "1.31.1", or "unknown".
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its minor version, 31 of "1.31.1".
    pub(crate) fn minor_version(&self) -> Option<u32> {
        self.version.strip_prefix("1.")?.split('.').next()?.parse().ok()
    }

    /// Returns the change to quantised models that this version's CPU kernels gain most from on this processor.
    pub(super) fn quantised_gain(&self) -> Gain {
        let is_recent = self.minor_version().is_some_and(|minor| minor >= 25);
        if is_recent && processor().has_vnni { Gain::SignedPictures } else { Gain::UnsignedWeights }
    }

    fn note(&self, options: &RuntimeOptions) -> Option<String> {
        let (wanted, why) = match &options.library {
            Some(wanted) => (named(wanted).ok()?, "was asked for"),
            None => (with_openvino(options)?, "has OpenVINO, which is the best here"),
        };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        (real(&wanted) != real(&self.library)).then(|| {
            format!(
                "{} {why}, but this process already uses {}; only one ONNX Runtime can be loaded, so the first one stays",
                wanted.display(),
                self.library.display()
            )
        })
    }

    fn open(options: &RuntimeOptions) -> Result<Self> {
        // One that cannot be loaded after all is no reason to fail where it is merely the better one.
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
        // ort asserts on libraries that answer nonsense.
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

/// The version in ONNX Runtime's build information ("git-branch=rel-1.31.1"), else in the library's file name.
fn version(build_info: &str, library: &Path) -> String {
    let of_branch =
        build_info.split("git-branch=rel-").nth(1).map(|rest| rest.split([',', ' ']).next().unwrap_or(rest));
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let of_file = real.file_name().and_then(|name| name.to_str()).and_then(|name| name.split(".so.").nth(1));
    of_branch.or(of_file).unwrap_or("unknown").to_owned()
}

/// The library's absolute path.
fn find(options: &RuntimeOptions) -> Result<PathBuf> {
    if let Some(wanted) = &options.library {
        return named(wanted);
    }
    if let Some(wanted) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return named(Path::new(&wanted));
    }
    let from_variable = std::env::var_os("LD_LIBRARY_PATH");
    let from_variable = from_variable.iter().flat_map(std::env::split_paths).filter(|dir| !dir.as_os_str().is_empty());
    let mut looked_in = Vec::new();
    for dir in options.search_dirs.iter().cloned().chain(from_variable).chain(system_dirs()) {
        let dir = absolute(&dir);
        if looked_in.contains(&dir) {
            continue;
        }
        if let Some(library) = library_in(&dir) {
            return Ok(library);
        }
        looked_in.push(dir);
    }
    Err(Error::RuntimeNotFound { looked_in })
}

/// The library with OpenVINO built in, if there is one.
pub(super) fn built_in_openvino(dirs: &[PathBuf]) -> Option<PathBuf> {
    dirs.iter().find_map(|dir| library_in(&absolute(dir).join(WITH_OPENVINO)))
}

/// The library with OpenVINO built in, if that is there and is the better one, and none is asked for by name.
fn with_openvino(options: &RuntimeOptions) -> Option<PathBuf> {
    let is_free = options.library.is_none() && std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty());
    let is_wanted = is_free && wants_built_in_openvino(&options.provider, &options.tuning, processor());
    is_wanted.then(|| built_in_openvino(&options.search_dirs)).flatten()
}

/// A library or folder that was asked for by name.
fn named(wanted: &Path) -> Result<PathBuf> {
    let path = absolute(wanted);
    let found = if path.is_dir() { library_in(&path) } else { path.is_file().then(|| path.clone()) };
    found.ok_or(Error::RuntimeNotFound { looked_in: vec![path] })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `libonnxruntime.so` in `dir`, or the newest `libonnxruntime.so.*`.
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

/// Folders where Linux distributions keep shared libraries.
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
    fn the_newest_library_of_a_folder_is_taken() {
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
        assert_eq!(named(dir.path()).unwrap(), dir.path().join(LIBRARY));
    }

    #[test]
    fn versions_are_told_from_the_build_or_the_file() {
        let info = "ORT Build Info: git-branch=rel-1.31.1, git-commit-id=abc, build type=Release";
        assert_eq!(version(info, Path::new("x.so")), "1.31.1");
        assert_eq!(version("ORT Build Info: ", Path::new("/x/libonnxruntime.so.1.21.0")), "1.21.0");
        assert_eq!(version("", Path::new("/x/libonnxruntime.so")), "unknown");
    }

    #[test]
    fn a_library_asked_for_by_name_that_is_not_there_is_named() {
        let text = named(Path::new("/no/such/libonnxruntime.so")).unwrap_err().to_string();
        assert!(text.contains("/no/such/libonnxruntime.so") && text.contains("make setup"), "{text}");
    }
}
