//! `vx`, the command beside the plugin.

#![forbid(unsafe_code)]

mod bulk;
mod cache;
mod canvas;
mod detect;
mod doctor;
mod files;
mod frames;
mod inspect;
mod isolate;
mod libraries;
mod output;
mod progress;
mod quantity;
mod source;
mod tables;
mod terminal;
mod unit;

use std::process::ExitCode;

use crate::terminal::{show_bytes, tell};
use clap::{CommandFactory, Parser, Subcommand};

/// Finds things in video files, with the GStreamer plugin vx.
#[derive(Parser)]
#[command(name = "vx", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is on the keyframes of files: people, or what a model of yours knows
    ///
    /// Exit status: 0 if every file was read (damaged files as far as possible), 1 if some failed, 2 if the run could not start, 130 if it was interrupted.
    Detect(Box<detect::Arguments>),
    /// Say what is in media files and models, and how they would be read
    ///
    /// Exit status: 0 if everything can be read, 1 if something cannot, 2 for wrong usage.
    Inspect(inspect::Arguments),
    /// Say what is installed, found and missing, and what to do about it
    ///
    /// Exit status: 0 if everything is there, 1 if something has to be done, 2 for wrong usage.
    Doctor,
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Doctor => doctor::run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "vx", &mut script);
            show_bytes(&script);
            ExitCode::SUCCESS
        }
        Command::Man => {
            let mut page = Vec::new();
            if let Err(error) = print_manual(&mut page) {
                tell!("vx: {error}");
                return ExitCode::FAILURE;
            }
            show_bytes(&page);
            ExitCode::SUCCESS
        }
    }
}

/// One page: the command, then what follows it.
fn print_manual(out: &mut impl std::io::Write) -> std::io::Result<()> {
    let command = Arguments::command();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        let manual = clap_mangen::Man::new(part.clone());
        writeln!(out, ".SH \"VX {}\"", part.get_name().to_uppercase())?;
        manual.render_description_section(out)?;
        manual.render_options_section(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }
}
