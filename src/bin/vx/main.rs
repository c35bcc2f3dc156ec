// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `vx`: command line, terminal, signals and exit statuses. What it does lives in the library.

#![forbid(unsafe_code)]

mod detect;
mod doctor;
mod help;
mod inspect;
mod progress;
mod stop;
mod terminal;

use std::process::ExitCode;

use crate::terminal::{show_bytes, tell};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
        #[arg(value_parser = ["detect", "inspect", "doctor", "completions", "man"])]
        subcommand: Option<String>,
    },
}

/// Returns the complete command line.
fn command() -> clap::Command {
    help::arranged(Arguments::command())
}

fn main() -> ExitCode {
    stop::make_file_limit_an_error();
    let matches = command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match arguments.command {
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "vx", &mut script);
            show_bytes(&script);
            ExitCode::SUCCESS
        }
        Command::Man { subcommand } => {
            let mut page = Vec::new();
            if let Err(error) = print_manual(subcommand.as_deref(), &mut page) {
                tell!("vx: {error}");
                return ExitCode::FAILURE;
            }
            show_bytes(&page);
            ExitCode::SUCCESS
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
