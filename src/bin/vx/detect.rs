//! `vx detect`: what is on the keyframes of many files.

mod arguments;
mod dry_run;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gst::prelude::*;
use gstvx::elements::bulkbin::Status;
use gstvx::memory;

pub use self::arguments::Arguments;
use self::arguments::{Order, properties, relevant};
use crate::bulk::{Bulk, Event, Hand, Properties, Running, model_of, resolve};
use crate::cache::Cache;
use crate::files::{self, Search};
use crate::isolate::{self, Usage, Workers, work};
use crate::output::{self, Existing, Output};
use crate::progress::{Places, Progress, Show};
use crate::stop::{INTERRUPTED, Request, Stop};
use crate::terminal::{UNREAD, tell};
use crate::unit::Unit;

/// Every file was read, damaged ones as far as possible.
const OK: u8 = 0;
/// Some files failed.
const SOME_FAILED: u8 = 1;
/// The run itself failed.
const FAILED: u8 = 2;
/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.worker {
        return work(&arguments.properties, &arguments.frames);
    }
    match detect(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(reason) if reason == output::UNREAD => ExitCode::from(UNREAD),
        Err(reason) => {
            tell!("vx: {reason}");
            ExitCode::from(FAILED)
        }
    }
}

fn detect(arguments: &Arguments) -> Result<u8, String> {
    let stop = Stop::on_signals();
    crate::bulk::init()?;
    // What it says of broken files is in their summaries, in words, and with the file's name in the debug log.
    gstvx::av::capture_log();
    let mut properties = properties(arguments);
    resolve(&mut properties)?;
    let files = files::find(&arguments.inputs, Search { probe: arguments.probe, shard: arguments.shard })?;
    if files.is_empty() && arguments.shard.is_none() {
        return Err("no file to read: folders were searched for files with the extension of media; --probe looks into the others too".to_owned());
    }
    if arguments.dry_run {
        dry_run::show(&properties, &files)?;
        return Ok(OK);
    }
    arguments.frames.prepare()?;
    let existing = match (arguments.resume, arguments.overwrite) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    };
    let (mut output, done) = stop.open_output(|| {
        let (output, done) = Output::open(arguments.output.as_deref(), existing)?;
        let new = output.new_file().map(Path::to_owned);
        Ok(((output, done), new))
    })?;
    // However a path was written then and is now.
    let place = |file: &str| std::path::absolute(file).unwrap_or_else(|_| file.into());
    let done: HashMap<PathBuf, Status> = done.into_iter().map(|(file, status)| (place(&file), status)).collect();
    let (known, mut files): (Vec<String>, Vec<String>) =
        files.into_iter().partition(|file| done.contains_key(&place(file)));
    let before = |status| known.iter().filter(|file| done[&place(file)] == status).count();
    let (failed_before, damaged_before) = (before(Status::Failed), before(Status::Damaged));
    if let Output::Complete(path) = &output {
        if !files.is_empty() {
            return Err(format!(
                "{} is complete, and {} of the files named now are not in it: give these another output, or begin anew with \
                 --overwrite",
                path.display(),
                files.len()
            ));
        }
        tell!("vx: {} is complete: nothing to be done; --overwrite begins anew", path.display());
        return Ok(if failed_before > 0 { SOME_FAILED } else { OK });
    }
    let show = match (arguments.quiet, arguments.debug) {
        (true, _) => Show::Nothing,
        (_, true) => Show::Stages,
        _ => Show::Usual,
    };
    let is_standard = matches!(output, Output::Standard);
    let mut progress = Progress::new(show, &files, is_standard && std::io::stdout().is_terminal());
    stop.print_beside(progress.bar());
    if !known.is_empty() {
        progress.say(&format!(
            "{} files are in the output already, {failed_before} of them failed, {damaged_before} damaged; {} are left",
            known.len(),
            files.len()
        ));
    }
    let kept = match &arguments.cache {
        Some(folder) => Some(Kept::new(Cache::open(folder, model_of(&properties), &relevant(&properties))?, &files)),
        None => None,
    };
    // What is kept there has no pictures.
    if let Some(kept) = kept.as_ref().filter(|_| arguments.frames.save_frames.is_none()) {
        let mut left = Vec::new();
        for file in files {
            match kept.get(&file) {
                Some(unit) => {
                    stop.keep_output();
                    output.add(&unit)?;
                    progress.end(&unit.summary, true);
                }
                None => left.push(file),
            }
        }
        files = left;
    }
    let mut outcome = Outcome::default();
    if !files.is_empty() {
        // On standard output lines come at once; workers' lines would mix, and the cache wants them together.
        let how = if is_standard && !arguments.isolate && kept.is_none() { Hand::Lines } else { Hand::Units };
        let mut take = |event: Event| take(event, &mut progress, &mut output, kept.as_ref(), how);
        outcome = if arguments.isolate {
            isolated(arguments, properties, files, &stop, &mut take)?
        } else {
            in_process(arguments, &properties, &files, how, &stop, &mut take)?
        };
    }
    stop.end_reading();
    // Told to stop when there was nothing left to do, it is done.
    let is_interrupted = stop.is_interrupted() && progress.missing() > 0;
    if outcome.error.is_none() && !is_interrupted && progress.missing() > 0 {
        outcome.error = Some(format!("{} files were not read, which is a fault of this program", progress.missing()));
    }
    if outcome.error.is_none() && !is_interrupted {
        output.finish()?;
    } else if let Some(place) = output.kept_in().filter(|place| is_filled(place)) {
        outcome.hint = format!("; what was found is kept in {}, --resume goes on", place.display());
    }
    let places = Places {
        output: arguments.output.as_deref().filter(|_| !is_standard),
        pictures: arguments.frames.save_frames.as_deref(),
    };
    progress.finish(outcome.stats.as_ref(), outcome.workers.as_deref(), places);
    let has_failures = progress.failures() + failed_before > 0;
    match outcome.error {
        Some(reason) if reason == output::UNREAD => Err(reason),
        Some(reason) if arguments.stop_on_error && progress.failures() > 0 => {
            tell!("vx: stopped: {reason}{}", outcome.hint);
            Ok(SOME_FAILED)
        }
        // What cannot be written says so itself.
        Some(reason) if reason.contains("--resume") => Err(reason),
        Some(reason) => Err(reason + &outcome.hint),
        None if is_interrupted => {
            tell!("vx: interrupted{}", outcome.hint);
            Ok(INTERRUPTED)
        }
        None => Ok(if has_failures { SOME_FAILED } else { OK }),
    }
}

/// Whether something is in a file.
fn is_filled(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// The cache, and where in it the results of files belong as they were before the run.
struct Kept {
    cache: Cache,
    places: HashMap<String, PathBuf>,
}

impl Kept {
    fn new(cache: Cache, files: &[String]) -> Self {
        let places = files.iter().filter_map(|file| Some((file.clone(), cache.place(file)?))).collect();
        Self { cache, places }
    }

    fn get(&self, file: &str) -> Option<Unit> {
        Cache::get(self.places.get(file)?).filter(|unit| unit.summary.file == file)
    }

    /// Keeps a result, unless its file has changed meanwhile.
    fn put(&self, unit: &Unit) -> Result<(), String> {
        let file = &unit.summary.file;
        match (self.places.get(file), self.cache.place(file)) {
            (Some(before), Some(now)) if *before == now => Cache::put(before, unit),
            _ => Ok(()),
        }
    }
}

/// How a run ended.
#[derive(Default)]
struct Outcome {
    /// Of the element, if it ran in this process.
    stats: Option<gst::Structure>,
    /// Of the processes, if they did the work.
    workers: Option<Arc<Usage>>,
    error: Option<String>,
    /// What can be done about it.
    hint: String,
}

/// Takes an event; false after the last.
fn take(
    event: Event,
    progress: &mut Progress,
    output: &mut Output,
    kept: Option<&Kept>,
    how: Hand,
) -> Result<bool, String> {
    match event {
        Event::Lines(lines) => output::print(&lines)?,
        Event::Begun(file) => progress.begin(file),
        Event::Running(running) => progress.observe(running),
        Event::Done(unit) => {
            if how == Hand::Units {
                output.add(&unit)?;
            }
            if let Some(kept) = kept.filter(|_| unit.summary.error.is_none())
                && let Err(reason) = kept.put(&unit)
            {
                progress.say(&format!("vx: not kept in the cache: {reason}"));
            }
            progress.end(&unit.summary, false);
        }
        Event::Warning(text) => progress.say(&format!("vx: {text}")),
        Event::ModelWarning(text) => progress.insist(&format!("vx: {text}")),
        Event::Error(text) => return Err(text),
        Event::End => return Ok(false),
    }
    Ok(true)
}

fn in_process(
    arguments: &Arguments,
    properties: &Properties,
    files: &[String],
    how: Hand,
    stop: &Stop,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Result<Outcome, String> {
    let (events, happened) = bounded(1024);
    let bulk = Bulk::new(properties, &events, how)?;
    arguments.frames.save_from(&bulk.handle(), &events);
    bulk.load().map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    let bin = bulk.handle();
    stop.begin_reading(move |request| {
        // To abandon the run is for `listen`: whoever changes the element's state waits for its threads.
        if request == Request::WindDown {
            bin.send_event(gst::event::Eos::new());
        }
    });
    bulk.start(files).map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    if stop.is_interrupted() {
        // That was before there was a run to end.
        bulk.wind_down();
    }
    let error = listen(&happened, || bulk.running(), stop, take);
    if error.is_some() {
        bulk.wind_down();
    }
    let stats = bulk.stats();
    // Nobody listens any more: whoever wants to tell something must not wait for it.
    drop(happened);
    Ok(Outcome { stats: Some(stats), error, ..Outcome::default() })
}

fn isolated(
    arguments: &Arguments,
    mut properties: Properties,
    mut files: Vec<String>,
    stop: &Stop,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Result<Outcome, String> {
    let cores = num_cpus::get();
    let asked = properties.iter().rfind(|(name, _)| name == "lanes").and_then(|(_, lanes)| lanes.parse().ok());
    let workers = asked.filter(|lanes| *lanes > 0).unwrap_or(cores).clamp(1, 64).min(files.len());
    // Each worker has its share of the cores, and of the memory; what is about the run is done here.
    properties.retain(|(name, _)| !["lanes", "memory-limit", "on-error", "file-timeout"].contains(&name.as_str()));
    if arguments.order == Order::LargestFirst {
        files.sort_by_cached_key(|file| std::cmp::Reverse(std::fs::metadata(file).map_or(0, |file| file.len())));
    }
    let settings = isolate::Settings {
        properties,
        frames: arguments.frames.clone(),
        workers,
        cores,
        timeout: arguments.file_timeout,
        memory: memory::budget(arguments.memory_limit.unwrap_or(0)),
        is_interrupted: stop.interrupted_flag(),
    };
    let (events, happened): (Sender<Event>, _) = bounded(1024);
    let workers = Workers::start(settings, files, &events)?;
    drop(events);
    let handle = workers.handle();
    let at_request = handle.clone();
    stop.begin_reading(move |request| match request {
        Request::WindDown => at_request.wind_down(),
        Request::Abandon => at_request.abandon(),
    });
    let stop_on_error = arguments.stop_on_error;
    let mut failed = None;
    let error = listen(&happened, || handle.running(), stop, &mut |event| {
        if let (true, Event::Done(unit)) = (stop_on_error, &event)
            && let Some(error) = &unit.summary.error
        {
            handle.wind_down();
            failed.get_or_insert_with(|| format!("{}: {}", unit.summary.file, error.message));
        }
        take(event)
    });
    handle.wind_down();
    drop(happened);
    if error.is_some() || stop.is_abandoned() {
        // Nobody takes what they find.
        handle.abandon();
    }
    let usage = workers.usage();
    workers.join();
    Ok(Outcome { workers: Some(usage), error: error.or(failed), ..Outcome::default() })
}

/// How often it is asked how far files are.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Takes events to the last, or until the run is abandoned, and now and then how far `running` files are; why the run failed, if it
/// did.
fn listen(
    happened: &Receiver<Event>,
    running: impl Fn() -> Vec<Running>,
    stop: &Stop,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Option<String> {
    let mut failure = None;
    let mut looked = Instant::now();
    loop {
        let event = match happened.recv_timeout(BETWEEN_LOOKS) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return failure,
        };
        if stop.is_abandoned() {
            return failure;
        }
        if looked.elapsed() >= BETWEEN_LOOKS {
            looked = Instant::now();
            let _ = take(Event::Running(running()));
        }
        let Some(event) = event else { continue };
        let is_error = matches!(event, Event::Error(_));
        match take(event) {
            Ok(true) => {}
            Ok(false) => return failure,
            // The element says that it is in error, and then ends what is begun.
            Err(reason) if is_error => {
                failure.get_or_insert(reason);
            }
            Err(reason) => return Some(failure.unwrap_or(reason)),
        }
    }
}

fn reason_in(happened: &Receiver<Event>) -> Option<String> {
    happened.try_iter().find_map(|event| if let Event::Error(text) = event { Some(text) } else { None })
}
