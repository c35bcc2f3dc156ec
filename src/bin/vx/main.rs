// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `vx`: command line, terminal, signals and exit statuses. What it does lives in the library.
//!
//! It is a program, and a library for programs that are this command under another name (`python -m vx`).

#![forbid(unsafe_code)]

mod detect;
mod doctor;
mod events;
mod help;
mod inspect;
mod program;
mod progress;
mod report;
mod stop;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::terminal::{print_error, show_bytes};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use gstvx::run::WorkerProgram;

/// Exit status of a command that has done its work.
const SUCCESS: u8 = 0;
/// Exit status of a command that could not do all of it.
const FAILURE: u8 = 1;
/// Exit status for wrong usage, and of a command that could not do anything.
const WRONG: u8 = 2;

/// Detects objects on the keyframes of media files, with the GStreamer plugin vx.
#[derive(Parser)]
#[command(name = "vx", version, arg_required_else_help = true, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Detect objects on the keyframes of media files
    ///
    /// Reads the keyframes of each file and writes the detected objects as JSON lines or as a table, with a summary for each file. A
    /// file that cannot be read does not stop the others.
    #[command(after_help = help::DETECT_MORE, after_long_help = help::DETECT_EXAMPLES)]
    Detect(Box<detect::Arguments>),
    /// Merge detections into events with start and end times
    ///
    /// Merges the detections on keyframes into stretches of time, for each file and class: start, end, number of frames, most objects at
    /// once, best confidence. An object is known only at the frames: it may have appeared up to one frame earlier and disappeared up to
    /// one frame later.
    ///
    /// Exit status: 0 if the events are complete, 2 for wrong usage or results that cannot be read.
    #[command(after_help = help::EVENTS_EXAMPLES)]
    Events(events::Arguments),
    /// Write results as one HTML page with timelines and pictures
    ///
    /// The page shows what is in the files, when, and which files failed. It needs no network and no other file.
    ///
    /// Exit status: 0 if the page is written, 2 for wrong usage or results that cannot be read.
    #[command(after_help = help::REPORT_EXAMPLES)]
    Report(report::Arguments),
    /// Print what media files and models contain, and how they would be read
    ///
    /// Exit status: 0 if all files can be read, 1 if some cannot, 2 for wrong usage.
    #[command(after_help = help::INSPECT_EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Check the installation and print how to repair it
    ///
    /// Exit status: 0 if nothing is missing, 1 if something is, 2 for wrong usage.
    Doctor(doctor::Arguments),
    /// Print the completion script of a shell
    #[command(after_help = help::COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(after_help = help::MAN_EXAMPLES)]
    Man {
        /// Subcommand of the page [default: vx itself]
        #[arg(value_parser = ["detect", "events", "report", "inspect", "doctor", "completions", "man"])]
        subcommand: Option<String>,
    },
}

/// Returns the complete command line.
fn command() -> clap::Command {
    help::arranged(Arguments::command())
}

/// Runs the program.
pub fn main() -> ExitCode {
    let this_program = WorkerProgram::current(std::iter::empty::<OsString>())
        .map(|program| WorkerProgram { name: Some("vx".into()), ..program });
    match this_program {
        Ok(this_program) => ExitCode::from(run(std::env::args_os(), this_program)),
        Err(error) => {
            print_error!("vx: the path of this program is not known: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command with `arguments`, of which the first is the name of the program, and returns its exit status. `this_program` is the
/// program that calls this function with the arguments that follow its own: worker processes are started with it.
pub fn run(arguments: impl IntoIterator<Item = OsString>, this_program: WorkerProgram) -> u8 {
    program::set(this_program);
    stop::make_file_limit_an_error();
    let parsed = command().try_get_matches_from(arguments).and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing else can be done if it cannot be printed.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(FAILURE);
        }
    };
    match arguments.command {
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "vx", &mut script);
            show_bytes(&script);
            SUCCESS
        }
        Command::Man { subcommand } => {
            let mut page = Vec::new();
            if let Err(error) = print_manual(subcommand.as_deref(), &mut page) {
                print_error!("vx: {error}");
                return FAILURE;
            }
            show_bytes(&page);
            SUCCESS
        }
    }
}

/// Writes the manual page of a subcommand, or of the command.
fn print_manual(subcommand: Option<&str>, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut command = command().disable_help_subcommand(true);
    // Sets the full names of subcommands.
    command.build();
    let command = subcommand.and_then(|name| command.find_subcommand(name)).unwrap_or(&command);
    clap_mangen::Man::new(command.clone()).render(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        command().debug_assert();
    }
}
