// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of a run, typed, and their defaults. Knows no command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::cancel::Canceller;
use super::inputs::Shard;
use super::properties::Properties;

/// The settings of a run. Start with [`Settings::new`] and set fields:
///
/// ```
/// let mut settings = gstvx::run::Settings::new(["recordings/"]);
/// settings.detector.confidence = Some(0.5);
/// settings.output = gstvx::run::Output::File("found.parquet".into());
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// What to read.
    pub inputs: Vec<Input>,
    /// Examines files in folders that do not have the extension of a media file, and reads those that are media or pictures.
    pub probe: bool,
    /// Reads one of several shares of the files.
    pub shard: Option<Shard>,
    /// The model and what to detect with it.
    pub detector: DetectorSettings,
    /// Which frames to analyse.
    pub sampling: SamplingSettings,
    /// Other properties of `vxbulkbin` or of the elements inside it, by name (`decoder::max-frames`, or `max-frames` where only one
    /// element has it), with values as `gst-launch-1.0` reads them; durations and sizes may have units (`1.5s`, `800M`). For what has
    /// no setting of its own.
    pub properties: Vec<(String, String)>,
    /// Where the results go, beside the events.
    pub output: Output,
    /// Format of the output by name, one of [`format_names`](super::format_names). `None`: by the extension of the output, JSON lines
    /// for a writer.
    pub format: Option<String>,
    /// What to do with an output file that exists.
    pub existing: Existing,
    /// With [`Existing::Resume`]: reads files again that failed before.
    pub retry_failed: bool,
    /// Folder for each file's results; they are reused while path, size, time, model, settings, execution provider and versions are
    /// the same. Several runs may share it.
    pub cache: Option<PathBuf>,
    /// Folder for keyframes as JPEG files, with a folder within it for each file. Formats that contain pictures (`yolo`) have their
    /// own.
    pub save_frames: Option<PathBuf>,
    /// Which keyframes to save; `None`: those with detections.
    pub which_frames: Option<WhichFrames>,
    /// Draws detections into saved keyframes.
    pub draw: bool,
    /// Files read at once; `None`: planned.
    pub lanes: Option<u32>,
    /// The order in which files are read.
    pub order: Order,
    /// Begins no other file after one has failed; the run then ends with [`Error::Stopped`](super::Error::Stopped).
    pub stop_on_error: bool,
    /// Bytes of memory to plan with; `None`: 80 % of what is available.
    pub memory_limit: Option<u64>,
    /// Time after which a file fails; `None`: never.
    pub file_timeout: Option<Duration>,
    /// Reads files in worker processes, started with this program, so that a crash costs one file.
    pub isolate: Option<WorkerProgram>,
    /// Reports each frame as an event. Without it nothing is parsed, for callers that only want the output.
    pub frame_events: bool,
    /// Cancels the run; one may be given here to have it before the run starts.
    pub canceller: Canceller,
}

impl Settings {
    /// Creates settings with defaults that read `inputs`: all results as events, no output.
    pub fn new(inputs: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let inputs = inputs.into_iter().map(|path| Input::Path(path.into())).collect();
        Self { inputs, frame_events: true, ..Self::default() }
    }

    /// Returns the properties of `vxbulkbin` that the settings stand for, in the order in which they are set; those of
    /// [`RunSettings`] are added by it.
    pub(super) fn to_properties(&self) -> Properties {
        let mut properties = self.properties.clone();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                properties.push((name.to_owned(), value));
            }
        };
        let path = |path: &Option<PathBuf>| path.as_deref().map(|path| path.display().to_string());
        let time = |time: Option<Duration>| time.map(|time| time.as_nanos().to_string());
        let SamplingSettings { min_interval, max_gap, max_frames } = self.sampling;
        add("decoder::min-interval", time(min_interval));
        add("decoder::max-gap", time(max_gap));
        add("decoder::max-frames", max_frames.map(|frames| frames.to_string()));
        let detector = &self.detector;
        add("model-file", path(&detector.model));
        add("label-file", path(&detector.labels));
        add("confidence-threshold", detector.confidence.map(|number| number.to_string()));
        add("iou-threshold", detector.iou.map(|number| number.to_string()));
        add("classes", (!detector.classes.is_empty()).then(|| detector.classes.join(",")));
        add("execution-provider", detector.provider.clone());
        add("runtime-library", path(&detector.runtime_library));
        add("cache-dir", path(&detector.cache_dir));
        properties
    }
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file; a folder, which is searched; or a pattern (`*`, `?` and `[…]` within a name, `**` for folders at any depth).
    Path(OsString),
    /// Paths from a list, for example of [`read_list`](super::read_list). Unlike an input of its own, a URL in a list is a file that
    /// fails and not an error of the run.
    List(Vec<String>),
}

/// The model and what to detect with it. `None` and empty lists stand for the defaults of `vxyolodetect`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct DetectorSettings {
    /// ONNX model; `None`: the built-in person detector.
    pub model: Option<PathBuf>,
    /// Class names: a text file with one name per line, or an Ultralytics `data.yaml`.
    pub labels: Option<PathBuf>,
    /// Confidence above which a detection counts, 0 to 1.
    pub confidence: Option<f32>,
    /// Overlap (intersection over union) above which the less confident of two boxes is dropped, 0 to 1.
    pub iou: Option<f32>,
    /// Names or numbers of the classes to detect.
    pub classes: Vec<String>,
    /// Execution provider by name (`auto`, `cpu`, `openvino`, …), or the path of a plugin provider's library.
    pub provider: Option<String>,
    /// ONNX Runtime's library; `None`: searched for.
    pub runtime_library: Option<PathBuf>,
    /// Folder for compiled models, which make later starts faster; `None`: `vx` in the user's cache directory; empty: none. Results
    /// do not depend on it. [`Settings::cache`] is for results.
    pub cache_dir: Option<PathBuf>,
}

/// Which frames to analyse. `None` everywhere: all keyframes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SamplingSettings {
    /// Skips keyframes that are closer than this to the one before.
    pub min_interval: Option<Duration>,
    /// Also analyses frames between keyframes that are farther apart than this.
    pub max_gap: Option<Duration>,
    /// Most frames of a file.
    pub max_frames: Option<u64>,
}

impl SamplingSettings {
    /// Analyses frames this far apart: keyframes where they come often enough, and frames between them where they do not.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self { min_interval: Some(interval), max_gap: Some(interval), max_frames: None }
    }
}

/// Where the results go.
#[derive(Default)]
pub enum Output {
    /// Nowhere: the events are all there is.
    #[default]
    None,
    /// A file or, depending on the format, a folder.
    File(PathBuf),
    /// A writer, which gets JSON lines or, in a format that can be written file by file, rows. It is flushed after each piece. The
    /// run's thread writes to it.
    Writer(Box<dyn Write + Send>),
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
        }
    }
}

/// What to do with an output file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Fail.
    #[default]
    Refuse,
    /// Continue it: files that are in it and have not changed are kept, all others are read.
    Resume,
    /// Replace it, when the first result is there.
    Overwrite,
}

/// Which keyframes are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhichFrames {
    /// Keyframes with detections.
    #[default]
    Detections,
    /// All keyframes.
    All,
}

/// The order in which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By falling size, so that the largest file does not begin when all others are done.
    #[default]
    LargestFirst,
    /// As the inputs name them.
    AsGiven,
}

/// The program of a worker process: one that calls [`serve_worker`](super::serve_worker) when it is started with these arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProgram {
    /// The executable. `/proc/self/exe` on Linux is the running program, also after the file was replaced.
    pub program: PathBuf,
    /// The name under which it is started; `None`: the executable.
    pub name: Option<OsString>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl WorkerProgram {
    /// Returns the running program with these arguments.
    ///
    /// # Errors
    /// The system's, where the path of the program is not known.
    pub fn current(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> std::io::Result<Self> {
        let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        Ok(Self {
            program,
            name: std::env::args_os().next(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_properties() {
        let mut settings = Settings::new(["a.mp4"]);
        assert!(settings.to_properties().is_empty());
        settings.detector.classes = vec!["person".into(), "7".into()];
        settings.sampling = SamplingSettings::every(Duration::from_secs(2));
        settings.properties.push(("detector::precision".into(), "bf16".into()));
        let expected = [
            ("detector::precision", "bf16"),
            ("decoder::min-interval", "2000000000"),
            ("decoder::max-gap", "2000000000"),
            ("classes", "person,7"),
        ];
        assert_eq!(settings.to_properties(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
