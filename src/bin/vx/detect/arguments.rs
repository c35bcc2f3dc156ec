// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `vx detect`, and the settings of a run that they stand for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use gstvx::run::quantity::{duration, size};
use gstvx::run::{
    self, Canceller, Existing, Input, Output, SamplingSettings, Settings, Shard, format_names, read_list,
};

use crate::help::ProviderParser;
use crate::program;

/// The arguments.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    /// Files, HTTP URLs, folders, quoted patterns; - for a list on stdin
    ///
    /// Folders are searched recursively for files with the extensions of media. In a pattern, ** stands for folders at any depth. The list has
    /// one path or URL per line, or paths separated by NUL bytes. Of URLs (http, https) only the needed ranges are fetched.
    #[arg(required_unless_present = "worker", value_name = "INPUT")]
    pub inputs: Vec<OsString>,

    /// ONNX model [default: the built-in person detector]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// File with class names, one per line, or an Ultralytics data.yaml
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Confidence above which a detection counts, 0 to 1 [default: the model's recommendation, or 0.25]
    #[arg(short, long, value_name = "NUMBER")]
    pub confidence: Option<f32>,

    /// Overlap above which the less confident of two boxes is dropped, 0 to 1 [default: 0.7]
    #[arg(long, value_name = "NUMBER")]
    pub iou: Option<f32>,

    /// Classes to detect, separated by commas [default: all]
    ///
    /// Names, or numbers.
    #[arg(long, value_name = "LIST")]
    pub classes: Option<String>,

    /// Execution provider [default: auto]
    #[arg(long, value_name = "NAME", value_parser = ProviderParser, hide_possible_values = true)]
    pub provider: Option<String>,

    /// Folder for compiled models [default: ~/.cache/vx]
    ///
    /// Compiled models make later starts faster and do not affect results. The default is vx in $XDG_CACHE_HOME, if that is set. "" stands
    /// for no folder. Results are kept with --cache.
    #[arg(long, value_name = "FOLDER", value_parser = clap::builder::OsStringValueParser::new())]
    pub cache_dir: Option<OsString>,

    /// Detect on frames this far apart [default: on all keyframes]
    ///
    /// Uses keyframes where they come often enough, and frames between them where they do not. No frame is closer to the one
    /// before. Decodes whole stretches, so it takes longer than keyframes alone.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub every: Option<Duration>,

    /// Set another property of vxbulkbin or of an element in it: max-gap=1s, detector::precision=bf16
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub properties: Vec<(String, String)>,

    /// Output file; its extension selects the format [default: stdout]
    ///
    /// Extensions: .jsonl, .csv, .parquet, .json (COCO). Without an output file, JSON lines go to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Format of the output, whatever its extension
    #[arg(long, value_name = "FORMAT", value_parser = clap::builder::PossibleValuesParser::new(format_names()), hide_possible_values = true)]
    pub format: Option<String>,

    /// Continue an output; unchanged files in it are kept
    ///
    /// The output may be interrupted or complete. Files that are not in it or have changed since are read.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,

    /// With --resume, read files again that failed before
    #[arg(long, requires = "resume")]
    pub retry_failed: bool,

    /// Replace an output that exists
    #[arg(long)]
    pub overwrite: bool,

    /// Number of files read at once [default: planned]
    #[arg(long, value_name = "COUNT")]
    pub lanes: Option<u32>,

    /// Order in which files are read
    #[arg(long, value_enum, value_name = "ORDER", default_value = "largest-first")]
    pub order: Order,

    /// Start no other file after one has failed
    #[arg(long)]
    pub stop_on_error: bool,

    /// Memory to plan with: 800M, 4G [default: 80 % of the available memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<u64>,

    /// Time after which a file fails: 90s, 5m, 1h
    ///
    /// A number without a unit is in seconds.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub file_timeout: Option<Duration>,

    /// Paths in the list on standard input are separated by NUL bytes (find -print0)
    ///
    /// Not needed for a list that contains any.
    #[arg(short = '0', long)]
    pub null: bool,

    /// Read one shard of the files, one for each machine: 3/16
    ///
    /// A hash of the path as given selects the shard of a file.
    #[arg(long, value_name = "NUMBER/COUNT")]
    pub shard: Option<Shard>,

    /// Also read files in folders that are media by content
    ///
    /// Examines files without the extension of a media file, and reads those that are media or pictures.
    #[arg(long)]
    pub probe: bool,

    /// Folder for results that are reused while nothing has changed
    ///
    /// Results depend on file, model, settings, execution provider and versions. Several users may share the folder. It is not
    /// used with --save-frames.
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,

    /// Save keyframes as JPEG files
    ///
    /// Each file gets a folder in FOLDER: 000012-00h03m07.480s.jpg is its twelfth line, at 3 min 7.48 s.
    #[arg(long, value_name = "FOLDER")]
    pub save_frames: Option<PathBuf>,

    /// Select the keyframes to save, with --save-frames or --format yolo [default: detections]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub which_frames: Option<WhichFrames>,

    /// Draw detections into the saved keyframes
    #[arg(long, requires = "save_frames")]
    pub draw: bool,

    /// Also write the results as an HTML page, as vx report does
    ///
    /// The page is about all results in the output, with --resume also about earlier ones.
    #[arg(long, value_name = "FILE", requires = "output")]
    pub report: Option<PathBuf>,

    /// Read files in separate processes; a crash costs one file
    #[arg(long)]
    pub isolate: bool,

    /// Print only errors of the run
    #[arg(short, long, conflicts_with = "debug")]
    pub quiet: bool,

    /// Print the time of each stage for each file; of one file, for each frame
    #[arg(long)]
    pub debug: bool,

    /// Print the files and the plan, then exit
    #[arg(long)]
    pub dry_run: bool,

    /// Run as a worker process of --isolate.
    #[arg(long, hide = true)]
    pub worker: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By falling size
    LargestFirst,
    /// As the inputs are named
    AsGiven,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhichFrames {
    /// Keyframes with detections
    Detections,
    /// All keyframes
    All,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Arguments {
    /// Returns whether results go to standard output.
    pub fn writes_to_stdout(&self) -> bool {
        self.output.as_deref().is_none_or(|path| path == Path::new("-"))
    }

    /// Returns the settings of the run, which `canceller` cancels. Reads the list on standard input.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn to_settings(&self, canceller: Canceller) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.canceller = canceller;
        for input in &self.inputs {
            settings.inputs.push(if input == "-" {
                let list = read_list(std::io::stdin().lock(), self.null);
                Input::List(list.map_err(|reason| format!("standard input (-): {reason}"))?)
            } else {
                Input::Path(input.clone())
            });
        }
        (settings.probe, settings.shard) = (self.probe, self.shard);
        settings.detector.model.clone_from(&self.model);
        settings.detector.labels.clone_from(&self.labels);
        (settings.detector.confidence, settings.detector.iou) = (self.confidence, self.iou);
        settings.detector.classes = self.classes.iter().cloned().collect();
        settings.detector.provider.clone_from(&self.provider);
        settings.detector.cache_dir = self.cache_dir.as_ref().map(PathBuf::from);
        settings.sampling = self.every.map(SamplingSettings::every).unwrap_or_default();
        settings.properties.clone_from(&self.properties);
        settings.output = match &self.output {
            Some(path) if !self.writes_to_stdout() => Output::File(path.clone()),
            _ => Output::Writer(Box::new(std::io::stdout())),
        };
        settings.format.clone_from(&self.format);
        settings.existing = match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        };
        settings.retry_failed = self.retry_failed;
        settings.cache.clone_from(&self.cache);
        settings.save_frames.clone_from(&self.save_frames);
        settings.which_frames = self.which_frames.map(|which| match which {
            WhichFrames::Detections => run::WhichFrames::Detections,
            WhichFrames::All => run::WhichFrames::All,
        });
        settings.draw = self.draw;
        settings.lanes = self.lanes;
        settings.order = match self.order {
            Order::LargestFirst => run::Order::LargestFirst,
            Order::AsGiven => run::Order::AsGiven,
        };
        settings.stop_on_error = self.stop_on_error;
        (settings.memory_limit, settings.file_timeout) = (self.memory_limit, self.file_timeout);
        if self.isolate {
            let program = program::with_arguments(["detect", "--worker"]).map_err(|error| error.to_string())?;
            settings.isolate = Some(program);
        }
        Ok(settings)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        assert!(pair("a").is_err());
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
    }
}
