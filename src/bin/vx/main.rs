//! `vx`, the command beside the plugin.

#![forbid(unsafe_code)]

mod bulk;
mod cache;
mod canvas;
mod conditions;
mod detect;
mod doctor;
mod files;
mod frames;
mod help;
mod inspect;
mod isolate;
mod libraries;
mod output;
mod progress;
mod quantity;
mod source;
mod stop;
mod tables;
mod terminal;
mod unit;

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
    /// Exit status: 0 if every file was read (damaged files as far as possible), 1 if some failed, 2 if the run could not start or go on, 130 if it was stopped by a signal.
    ///
    /// SIGINT (Ctrl-C) finishes the files that have begun. SIGTERM and SIGHUP give them 10 seconds; files that are not done by then are left for --resume. A second signal stops at once.
    #[command(after_help = help::DETECT_EXAMPLES)]
    Detect(Box<detect::Arguments>),
    /// Show what media files and models contain, and how they would be read
    ///
    /// Exit status: 0 if everything can be read, 1 if something cannot, 2 for wrong usage.
    #[command(after_help = help::INSPECT_EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Check the installation and print what to do about what is missing
    ///
    /// Exit status: 0 if everything is present, 1 if something has to be done, 2 for wrong usage.
    Doctor(doctor::Arguments),
    /// Print the completions of a shell
    #[command(after_help = help::COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(after_help = help::MAN_EXAMPLES)]
    Man {
        /// Subcommand that the page is about [default: vx itself]
        #[arg(value_parser = ["detect", "inspect", "doctor", "completions", "man"])]
        subcommand: Option<String>,
    },
}

/// The whole command line.
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

/// The page of a subcommand, or of the whole.
fn print_manual(subcommand: Option<&str>, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut command = command().disable_help_subcommand(true);
    // Gives subcommands their full names.
    command.build();
    let command = subcommand.and_then(|name| command.find_subcommand(name)).unwrap_or(&command);
    clap_mangen::Man::new(command.clone()).render(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        command().debug_assert();
    }
}
