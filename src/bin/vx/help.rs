//! The command line as people see it: sections of the help, examples, what shells complete.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, ValueHint};
use gstvx::detect::Provider;

/// Sections of `vx detect --help`, and the arguments in each.
const SECTIONS: [(&str, &[&str]); 7] = [
    ("Input", &["inputs", "null", "shard", "probe"]),
    ("Output", &["output", "format", "resume", "retry_failed", "overwrite", "cache"]),
    ("Model", &["model", "labels", "confidence", "iou", "classes", "provider", "properties"]),
    ("Sampling", &["every"]),
    ("Pictures", &["save_frames", "which_frames", "draw"]),
    ("Run", &["lanes", "order", "stop_on_error", "memory_limit", "file_timeout", "isolate", "dry_run"]),
    ("Display", &["quiet", "debug"]),
];

pub const DETECT_EXAMPLES: &str = "\
Examples:
  vx detect recordings/
  vx detect clip.mp4 --output people.csv --classes person --confidence 0.5
  vx detect recordings/ --output people.jsonl --overwrite
  vx detect 'recordings/*.mp4' --every 2s --output people.json
  vx detect clip.mp4 --save-frames pictures --draw
  vx detect recordings/ --dry-run
  find recordings -name '*.mp4' | vx detect -";

pub const INSPECT_EXAMPLES: &str = "\
Examples:
  vx inspect clip.mp4
  vx inspect model.onnx --try picture.jpg
  vx inspect --json recordings/*.mp4";

pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  vx completions bash > vx.bash
  vx completions zsh > _vx";

pub const MAN_EXAMPLES: &str = "\
Examples:
  vx man > vx.1
  vx man detect > vx-detect.1";

/// `command` with its sections and hints.
pub fn arranged(command: Command) -> Command {
    command.mut_subcommand("detect", |detect| detect.mut_args(|argument| hinted(in_section(argument))))
}

fn in_section(argument: Arg) -> Arg {
    let section = SECTIONS.iter().find(|(_, arguments)| arguments.contains(&argument.get_id().as_str()));
    section.map_or(argument.clone(), |(section, _)| argument.help_heading(*section))
}

fn hinted(argument: Arg) -> Arg {
    match argument.get_id().as_str() {
        "inputs" => argument.value_hint(ValueHint::AnyPath),
        "model" | "labels" | "output" => argument.value_hint(ValueHint::FilePath),
        "cache" | "save_frames" => argument.value_hint(ValueHint::DirPath),
        _ => argument,
    }
}

/// A provider by name, or the path of a plugin provider's library.
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
            // For its message, with the names and the nearest of them.
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
    #[test]
    fn every_argument_of_detect_is_in_a_section() {
        let command = crate::command();
        let detect = command.find_subcommand("detect").unwrap();
        let visible = detect.get_arguments().filter(|argument| !argument.is_hide_set());
        let lost: Vec<_> = visible.filter(|argument| argument.get_help_heading().is_none()).collect();
        assert!(lost.is_empty(), "give these a section in help.rs: {lost:?}");
    }
}
