//! What can be asked of `vx detect`, and the properties of `vxbulkbin` that it stands for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bulk::Properties;
use crate::files::Shard;
use crate::frames::Frames;
use crate::help::ProviderParser;
use crate::quantity::{duration, size};

/// What can be asked for.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    /// Files, folders (searched recursively for the extensions of media), patterns in quotes (** for folders at any depth); - for a list of paths on standard input
    #[arg(required_unless_present = "worker")]
    pub inputs: Vec<OsString>,

    /// Output file; its extension selects the format: .jsonl, .csv, .parquet, .json (COCO) [default: JSON lines on standard output]
    #[arg(short, long)]
    pub output: Option<PathBuf>,

    /// Format of the output, whatever its extension; yolo writes a folder of pictures and label files; jsonl and csv also go to standard output
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(crate::tables::names()))]
    pub format: Option<String>,

    /// Continue an output, interrupted or complete: files that are not in it, or have changed since, are read; all others are kept
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,

    /// With --resume, read files again that failed before
    #[arg(long, requires = "resume")]
    pub retry_failed: bool,

    /// Replace an output that exists already
    #[arg(long)]
    pub overwrite: bool,

    /// ONNX model [default: the built-in person detector]
    #[arg(short, long)]
    pub model: Option<PathBuf>,

    /// Class names, one in a line, or an Ultralytics data.yaml
    #[arg(long)]
    pub labels: Option<PathBuf>,

    /// Confidence above which a detection counts, 0 to 1 [default: 0.25]
    #[arg(short, long)]
    pub confidence: Option<f32>,

    /// Overlap above which the less confident of two boxes is dropped, 0 to 1 [default: 0.7]
    #[arg(long)]
    pub iou: Option<f32>,

    /// Names or numbers of the classes to detect, separated by commas [default: all]
    #[arg(long)]
    pub classes: Option<String>,

    /// What runs the model, or the path of a plugin provider's library [default: auto]
    #[arg(long, value_parser = ProviderParser)]
    pub provider: Option<String>,

    /// Detect on frames this far apart: keyframes where they come often enough, and frames between them where they do not. None
    /// is closer to the one before. Decodes whole stretches, so it takes longer than keyframes alone
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub every: Option<Duration>,

    /// Any other property of vxbulkbin or of the elements inside it: max-gap=1s, detector::precision=bf16
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub properties: Vec<(String, String)>,

    /// Files read at once [default: planned]
    #[arg(long)]
    pub lanes: Option<u32>,

    /// Order in which files are taken
    #[arg(long, value_enum, default_value = "largest-first")]
    pub order: Order,

    /// Start no other file after one has failed
    #[arg(long)]
    pub stop_on_error: bool,

    /// Memory to plan with: 800M, 4G [default: 80 % of what is available]
    #[arg(long, value_parser = size)]
    pub memory_limit: Option<u64>,

    /// Time after which a file fails: 90s, 5m, 1h; without a unit in seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub file_timeout: Option<Duration>,

    /// The list on standard input is separated by NUL bytes (find -print0); a list that contains any is so without this option
    #[arg(short = '0', long)]
    pub null: bool,

    /// Read one of several shares of the files, for as many machines: 3/16. A file's path as it is named decides on its share
    #[arg(long)]
    pub shard: Option<Shard>,

    /// In folders, also look into files without the extension of a media file, and take those that are media or pictures
    #[arg(long)]
    pub probe: bool,

    /// Folder in which results are kept, and found again while file, model, settings, execution provider and versions are the
    /// same; it may be shared; not looked into with --save-frames
    #[arg(long)]
    pub cache: Option<PathBuf>,

    #[command(flatten)]
    pub frames: Frames,

    /// Read files in separate processes, so that a crash costs only one file
    #[arg(long)]
    pub isolate: bool,

    /// Print only errors of the run itself
    #[arg(short, long, conflicts_with = "debug")]
    pub quiet: bool,

    /// Print what each stage did to each file
    #[arg(long)]
    pub debug: bool,

    /// Print the files and the plan, then exit
    #[arg(long)]
    pub dry_run: bool,

    /// Be a worker of --isolate.
    #[arg(long, hide = true)]
    pub worker: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    LargestFirst,
    AsGiven,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The properties of `vxbulkbin` that the arguments stand for.
pub fn properties(arguments: &Arguments) -> Properties {
    let mut properties = arguments.properties.clone();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.push((name.to_owned(), value));
        }
    };
    let every = arguments.every.map(|every| every.as_nanos().to_string());
    add("decoder::min-interval", every.clone());
    add("decoder::max-gap", every);
    let path = |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    add("model-file", path(&arguments.model));
    add("label-file", path(&arguments.labels));
    add("confidence-threshold", arguments.confidence.map(|number| number.to_string()));
    add("iou-threshold", arguments.iou.map(|number| number.to_string()));
    add("classes", arguments.classes.clone());
    add("execution-provider", arguments.provider.clone());
    add("lanes", arguments.lanes.map(|lanes| lanes.to_string()));
    add("order", (arguments.order == Order::AsGiven).then(|| "as-given".to_owned()));
    add("on-error", (arguments.stop_on_error && !arguments.isolate).then(|| "stop".to_owned()));
    add("memory-limit", arguments.memory_limit.map(|bytes| bytes.to_string()));
    add("file-timeout", arguments.file_timeout.map(|time| time.as_nanos().to_string()));
    properties
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
