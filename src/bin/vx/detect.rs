// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx detect`: runs the library with the arguments of the command line; prints progress, warnings, a table and errors.

mod arguments;
mod dry_run;
mod messages;
mod timeline;

use std::io::IsTerminal;

use gstvx::run::{
    Canceller, Error, Event, Report, ReportSettings, Run, StageRecorder, check_report, lines_of, serve_worker,
    write_report,
};

pub use self::arguments::Arguments;
pub use self::messages::message_of;
use self::messages::{resumed, resuming, with_options};
use crate::progress::{Detail, Places, ProgressView};
use crate::stop::{self, INTERRUPTED, Signals};
use crate::terminal::{CLOSED, is_stdout_closed, print_error, printable};

/// Every file was read, damaged ones as far as possible.
const OK: u8 = 0;
/// Some files failed.
const SOME_FAILED: u8 = 1;
/// The run itself failed.
const FAILED: u8 = 2;

/// What detects if no model is named.
const BUILT_IN_MODEL: &str = "vx: without --model, the small built-in model detects persons only, and misses many; docs/models.md lists better ones";

/// Why the command ends.
enum Failure {
    Run(Error),
    Usage(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> u8 {
    if arguments.worker {
        return work();
    }
    let reason = match detect(arguments) {
        Ok(status) => return status,
        Err(Failure::Run(Error::Closed)) => return CLOSED,
        Err(Failure::Run(error)) => message_of(&error),
        Err(Failure::Usage(reason)) => reason,
    };
    print_error!("vx: {reason}");
    FAILED
}

/// Runs a worker process.
fn work() -> u8 {
    stop::ignore_signals();
    match serve_worker() {
        Ok(()) => crate::SUCCESS,
        Err(error) => {
            // The supervisor reports what fails later.
            if let Error::Setting { reason } = error {
                print_error!("vx: {reason}");
            }
            crate::FAILURE
        }
    }
}

fn detect(arguments: &Arguments) -> Result<u8, Failure> {
    let canceller = Canceller::new();
    let signals = Signals::handle(&canceller);
    let settings = arguments.to_settings(canceller).map_err(Failure::Usage)?;
    if arguments.dry_run {
        dry_run::print(&Run::plan(&settings)?);
        return Ok(OK);
    }
    let is_stdout = arguments.writes_to_stdout();
    if let Some(report) = &arguments.report {
        if is_stdout {
            return Err(Failure::Usage("--report needs a file of results: set --output".to_owned()));
        }
        // Before a long run.
        check_report(report)?;
    }
    // With pictures, the lines may not be wanted.
    if is_stdout && arguments.save_frames.is_none() && is_stdout_closed() {
        return Err(Failure::Usage("standard output is closed: write to a file with --output".to_owned()));
    }
    let mut run = Run::start(settings)?;
    let overview = run.overview().clone();
    let detail = match (arguments.quiet, arguments.debug) {
        (true, _) => Detail::None,
        (_, true) => Detail::Stages,
        _ => Detail::Normal,
    };
    let failures = overview.failures.iter().map(|failure| &failure.name);
    let all: Vec<String> = overview.files.iter().chain(failures).cloned().collect();
    let mut progress = ProgressView::new(detail, &all, is_stdout && std::io::stdout().is_terminal());
    signals.print_beside(progress.bar());
    overview.notes.iter().for_each(|note| progress.print(&format!("vx: {note}")));
    if arguments.model.is_none() && !all.is_empty() {
        progress.print(BUILT_IN_MODEL);
    }
    if detail == Detail::Stages {
        for duplicate in &overview.duplicates {
            let (name, read_as) = (printable(&duplicate.name), printable(&duplicate.read_as));
            progress.print(&format!("{name}: the same file as {read_as}, left out"));
        }
    }
    if let Some(comparison) = &overview.comparison {
        progress.print(&resuming(comparison, overview.files.len()));
    }
    if overview.lacks_header {
        progress
            .print("vx: the output has no header, so its model and settings cannot be compared with those of this run");
    }
    // Workers have processes of their own.
    let is_recorded = detail == Detail::Stages && all.len() == 1 && !arguments.isolate;
    let recorder = is_recorded.then(StageRecorder::start);
    let report = show_events(&mut run, &mut progress);
    for line in recorder.iter().flat_map(|recorder| timeline::table(&recorder.times())) {
        progress.print(&line);
    }
    if !report.has_started
        && let Some(error) = report.error
    {
        return Err(error.into());
    }
    let places =
        Places { output: arguments.output.as_deref().filter(|_| !is_stdout), pictures: overview.pictures.as_deref() };
    match &arguments.output {
        Some(path) if all.is_empty() && overview.comparison.is_some() => {
            progress.print(&format!("vx: {} is complete: nothing to be done", path.display()));
        }
        _ => progress.finish(&report, places),
    }
    if let Some(comparison) = &overview.comparison {
        resumed(comparison).iter().for_each(|line| progress.print(line));
    }
    match overview.duplicates.len() {
        0 => {}
        1 => progress.print("duplicates  1 name of a file that has another name was left out"),
        count => progress.print(&format!("duplicates  {count} names of files that have other names were left out")),
    }
    if overview.pictures_left_out > 0 {
        let count = overview.pictures_left_out;
        progress.print(&format!("left out    {count} pictures in folders; name them, or select all with --probe"));
    }
    write_page(arguments, &report, overview.pictures, &mut progress)?;
    let failed_before = overview.comparison.map_or(0, |comparison| comparison.failed);
    end(report, failed_before)
}

/// Writes the page of --report.
fn write_page(
    arguments: &Arguments,
    report: &Report,
    pictures: Option<std::path::PathBuf>,
    progress: &mut ProgressView,
) -> Result<(), Error> {
    let (Some(page), Some(output)) = (&arguments.report, &arguments.output) else { return Ok(()) };
    if report.error.is_some() || report.is_cancelled {
        progress.print("report      not written, because the run did not end; --resume continues it");
        return Ok(());
    }
    let mut settings = ReportSettings::default();
    settings.found = vec![lines_of(output, arguments.format.as_deref())?];
    (settings.output, settings.pictures) = (page.clone(), pictures);
    let counts = write_report(&settings)?;
    crate::report::lines(&counts, page).iter().for_each(|line| progress.print(line));
    Ok(())
}

/// Shows the events of a run up to its report.
fn show_events(run: &mut Run, progress: &mut ProgressView) -> Report {
    for event in run {
        match event {
            Event::FileStarted(file) => progress.begin(file),
            Event::FileDone(done) => progress.end(&done.summary, done.is_cached),
            Event::Progress(files) => progress.observe(files),
            Event::Warning(warning) => {
                let text = format!("vx: {}", with_options(&warning.text));
                if warning.is_about_model { progress.print_always(&text) } else { progress.print(&text) }
            }
            Event::End(report) => return *report,
            _ => {}
        }
    }
    Report::default()
}

/// Prints why a run ended, and returns its exit status.
fn end(report: Report, failed_before: usize) -> Result<u8, Failure> {
    let kept = report.kept_in.map_or_else(String::new, |place| {
        format!("; the results so far are kept in {}, --resume continues", place.display())
    });
    match report.error {
        Some(Error::Stopped { reason }) => {
            print_error!("vx: stopped: {}{kept}", with_options(&reason));
            Ok(SOME_FAILED)
        }
        // These messages say so themselves.
        Some(error @ (Error::Closed | Error::Write { .. })) => Err(error.into()),
        Some(error) => Err(Failure::Usage(message_of(&error) + &kept)),
        None if report.is_cancelled && !report.has_started => {
            print_error!("vx: interrupted before the first file");
            Ok(INTERRUPTED)
        }
        None if report.is_cancelled => {
            print_error!("vx: interrupted{kept}");
            Ok(INTERRUPTED)
        }
        None => Ok(if report.failed + failed_before > 0 { SOME_FAILED } else { OK }),
    }
}
