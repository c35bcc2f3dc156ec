// SPDX-License-Identifier: MIT OR Apache-2.0
//! The help of the command line: sections, examples, exit statuses, hints for shells. Knows the arguments by name only.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, ValueHint};
use gstvx::detect::Provider;
use gstvx::run::format_names;

/// Sections of `vx detect --help`, and the arguments in each.
const SECTIONS: [(&str, &[&str]); 5] = [
    ("Input", &["inputs", "null", "shard", "probe"]),
    ("Model", &["model", "labels", "confidence", "iou", "classes", "provider", "every", "properties"]),
    (
        "Output",
        &[
            "output",
            "format",
            "resume",
            "retry_failed",
            "overwrite",
            "cache",
            "save_frames",
            "which_frames",
            "draw",
            "report",
            "quiet",
            "debug",
            "dry_run",
        ],
    ),
    ("Performance", &["lanes", "order", "memory_limit", "cache_dir"]),
    ("Robustness", &["isolate", "file_timeout", "stop_on_error"]),
];

/// Arguments of `vx detect` that `-h` leaves out, so that it fits on a screen.
const LONG_HELP_ONLY: [&str; 11] = [
    "null",
    "labels",
    "iou",
    "properties",
    "retry_failed",
    "which_frames",
    "draw",
    "debug",
    "order",
    "memory_limit",
    "cache_dir",
];

/// The end of `vx detect -h`.
pub const DETECT_MORE: &str = "vx detect --help prints all options, exit statuses, signals and examples.";

/// The end of `vx detect --help`.
pub const DETECT_EXAMPLES: &str = "\
Exit status:
  0    every file was read, damaged files as far as possible
  1    some files failed
  2    wrong usage, or the run could not start or continue
  130  the run was stopped by a signal
  141  standard output was closed by its reader

Signals:
  SIGINT (Ctrl-C)  finishes the files that have begun
  SIGTERM, SIGHUP  give these files 10 seconds; --resume reads those that are not done by then
  A second signal stops at once.

Examples:
  vx detect recordings/
  vx detect clip.mp4 --output people.csv --classes person --confidence 0.5
  vx detect recordings/ --output people.jsonl --overwrite
  vx detect 'recordings/*.mp4' --every 2s --output people.json
  vx detect clip.mp4 --save-frames pictures --draw
  vx detect recordings/ --dry-run
  find recordings -name '*.mp4' | vx detect -";

/// The end of `vx events --help`.
pub const EVENTS_EXAMPLES: &str = "\
Examples:
  vx events people.jsonl
  vx events people.jsonl --gap 30s --output events.csv
  vx detect clip.mp4 --quiet | vx events -";

/// The end of `vx report --help`.
pub const REPORT_EXAMPLES: &str = "\
Examples:
  vx report people.jsonl
  vx report people.jsonl --pictures pictures --output people.html
  vx detect recordings/ --output people.parquet --report people.html";

/// The end of `vx inspect --help`.
pub const INSPECT_EXAMPLES: &str = "\
Examples:
  vx inspect clip.mp4
  vx inspect model.onnx --try picture.jpg
  vx inspect --json recordings/*.mp4";

/// The end of `vx completions --help`.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  vx completions bash > vx.bash
  vx completions zsh > _vx";

/// The end of `vx man --help`.
pub const MAN_EXAMPLES: &str = "\
Examples:
  vx man > vx.1
  vx man detect > vx-detect.1";

/// Adds sections and hints to `command`.
pub fn arranged(command: Command) -> Command {
    command
        .mut_subcommand("detect", |detect| detect.mut_args(|argument| hinted(in_section(argument))))
        .mut_subcommand("events", |events| events.mut_args(hinted))
        .mut_subcommand("report", |report| report.mut_args(hinted))
}

fn in_section(argument: Arg) -> Arg {
    let id = argument.get_id().as_str().to_owned();
    let argument = if LONG_HELP_ONLY.contains(&&*id) { argument.hide_short_help(true) } else { argument };
    match SECTIONS.iter().find(|(_, arguments)| arguments.contains(&&*id)) {
        Some((section, _)) => argument.help_heading(*section),
        None => argument,
    }
}

fn hinted(argument: Arg) -> Arg {
    match argument.get_id().as_str() {
        "inputs" => argument.value_hint(ValueHint::AnyPath),
        "model" | "labels" | "output" | "report" | "found" => argument.value_hint(ValueHint::FilePath),
        "cache" | "save_frames" | "pictures" => argument.value_hint(ValueHint::DirPath),
        // The names are in the long help only: on one line they would not fit.
        "format" => argument.long_help(format!(
            "Format of the output, whatever its extension: {}\n\nyolo writes a folder of pictures and label files; jsonl and csv can \
             also be written to standard output.",
            format_names().collect::<Vec<_>>().join(", ")
        )),
        "provider" => argument.long_help(format!(
            "Execution provider: {}; or the path of a plugin provider's library [default: auto]",
            provider_names().join(", ")
        )),
        _ => argument,
    }
}

/// Parses a provider: a name, or the path of a plugin provider's library.
#[derive(Clone)]
pub struct ProviderParser;

impl TypedValueParser for ProviderParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        match value.to_str().filter(|text| text.parse::<Provider>().is_ok()) {
            Some(known) => Ok(known.to_owned()),
            // For its message, with the names and the most similar ones.
            None => PossibleValuesParser::new(provider_names()).parse_ref(command, argument, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(provider_names().into_iter().map(PossibleValue::new)))
    }
}

fn provider_names() -> Vec<String> {
    Provider::ALL.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::{LONG_HELP_ONLY, SECTIONS};

    #[test]
    fn every_argument_of_detect_is_in_a_section() {
        let command = crate::command();
        let detect = command.find_subcommand("detect").unwrap();
        let visible = detect.get_arguments().filter(|argument| !argument.is_hide_set());
        let lost: Vec<_> = visible.filter(|argument| argument.get_help_heading().is_none()).collect();
        assert!(lost.is_empty(), "give these a section in help.rs: {lost:?}");
        let exists = |id: &str| detect.get_arguments().any(|argument| argument.get_id() == id);
        let listed = SECTIONS.iter().flat_map(|(_, ids)| ids.iter()).chain(&LONG_HELP_ONLY);
        assert!(listed.clone().all(|id| exists(id)), "an argument in help.rs does not exist");
    }

    #[test]
    fn the_short_help_fits_on_a_screen() {
        let mut command = crate::command().term_width(100);
        command.build();
        let text = command.find_subcommand("detect").unwrap().clone().term_width(100).render_help().to_string();
        assert!(text.lines().count() <= 42, "{} lines:\n{text}", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
