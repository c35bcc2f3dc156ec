//! `vx detect`: what is on the keyframes of many files.

mod arguments;
mod continuing;
mod dry_run;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gstvx::elements::bulkbin::Summary;
use gstvx::memory;
use gstvx::path::path_of;

pub use self::arguments::Arguments;
use self::arguments::{Order, properties};
use self::continuing::compare;
use crate::bulk::{Bulk, Event, Hand, Properties, Running, resolve};
use crate::cache::Cache;
use crate::conditions::Current;
use crate::files::{self, Found, Search};
use crate::frames::Frames;
use crate::isolate::{self, Usage, Workers, work};
use crate::output::{self, Existing, Output};
use crate::progress::{Places, Progress, Show};
use crate::stop::{INTERRUPTED, Request, Stop};
use crate::tables::{Form, Format};
use crate::terminal::{UNREAD, printable, tell};
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
    let search = Search { probe: arguments.probe, shard: arguments.shard, is_null: arguments.null };
    let Found { files, failures, duplicates, pictures, notes } = files::find(&arguments.inputs, search)?;
    let pictures = match pictures {
        0 => String::new(),
        count => format!("{count} pictures in folders; name them, or take all with --probe"),
    };
    if files.is_empty() && failures.is_empty() && arguments.shard.is_none() {
        let pictures = if pictures.is_empty() { pictures } else { format!(". Left out: {pictures}") };
        return Err(format!(
            "no file to read: folders were searched for files with the extension of media; --probe looks into the others \
             too{pictures}"
        ));
    }
    if arguments.dry_run {
        dry_run::show(&properties, &files)?;
        return Ok(OK);
    }
    let form = form(arguments, &properties)?;
    let frames = frames(arguments, form)?;
    let is_standard = arguments.output.as_deref().is_none_or(|path| path == Path::new("-"));
    // Pictures may be all that is wanted.
    if is_standard && frames.save_frames.is_none() {
        output::check_standard()?;
    }
    let current = match is_standard && arguments.cache.is_none() {
        true => None,
        false => Some(Current::new(&properties)?),
    };
    let existing = match (arguments.resume, arguments.overwrite) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    };
    let (mut output, done) = stop.open_output(|| {
        let (output, done) = Output::open(arguments.output.as_deref(), form, existing, current.as_ref())?;
        let new = output.new_file().map(Path::to_owned);
        Ok(((output, done), new))
    })?;
    frames.prepare()?;
    let mut before = compare(files, &done, arguments.retry_failed);
    let mut files = std::mem::take(&mut before.left);
    output.replace(std::mem::take(&mut before.replaced));
    let show = match (arguments.quiet, arguments.debug) {
        (true, _) => Show::Nothing,
        (_, true) => Show::Stages,
        _ => Show::Usual,
    };
    let all: Vec<String> = files.iter().chain(failures.iter().map(|(name, _)| name)).cloned().collect();
    let mut progress = Progress::new(show, &all, is_standard && std::io::stdout().is_terminal());
    stop.print_beside(progress.bar());
    notes.iter().for_each(|note| progress.say(&format!("vx: {note}")));
    if show == Show::Stages {
        for (other, first) in &duplicates {
            progress.say(&format!("{}: the same file as {}, left out", printable(other), printable(first)));
        }
    }
    if !done.is_empty() {
        progress.say(&before.opening_line(files.len()));
    }
    if output.lacks_header() {
        progress.say(
            "vx: the output has no header, so that its model and settings cannot be compared with those of this run",
        );
    }
    for (name, reason) in failures {
        progress.end(&failed(&name, &reason), false);
    }
    let mut kept = match (&arguments.cache, &current) {
        (Some(folder), Some(current)) if !files.is_empty() => {
            Some(Kept::new(Cache::open(folder, &current.cache_key()?)?, &files))
        }
        _ => None,
    };
    // What is kept there has no pictures.
    if let Some(kept) = kept.as_mut().filter(|_| frames.save_frames.is_none()) {
        let mut left = Vec::new();
        for file in files {
            match kept.get(&file, &progress) {
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
    let has_work = !all.is_empty();
    if !files.is_empty() {
        // On standard output lines come at once; workers' lines would mix, and the cache wants them together.
        let is_streamed = is_standard && matches!(form, Form::Lines { .. }) && !arguments.isolate && kept.is_none();
        let how = if is_streamed { Hand::Lines } else { Hand::Units };
        if how == Hand::Units && !has_header_setting(&properties) {
            // Tables need the names of all classes; the output leaves the lines out again.
            properties.push((HEADER.to_owned(), "true".to_owned()));
        }
        let mut take = |event: Event| take(event, &mut progress, &mut output, kept.as_mut(), how);
        outcome = if arguments.isolate {
            isolated(arguments, &frames, properties, files, &stop, &mut take)?
        } else {
            in_process(&frames, &properties, &files, how, &stop, &mut take)?
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
        pictures: frames.save_frames.as_deref(),
    };
    if has_work || done.is_empty() {
        progress.finish(outcome.stats.as_ref(), outcome.workers.as_deref(), places);
    } else if let Some(path) = &arguments.output {
        progress.say(&format!("vx: {} is complete: nothing to be done", path.display()));
    }
    before.closing_lines().iter().for_each(|line| progress.say(line));
    match duplicates.len() {
        0 => {}
        1 => progress.say("duplicates  1 name of a file that has another name was left out"),
        count => progress.say(&format!("duplicates  {count} names of files that have other names were left out")),
    }
    if !pictures.is_empty() {
        progress.say(&format!("left out    {pictures}"));
    }
    let has_failures = progress.failures() + before.failed > 0;
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

/// Whether a file's lines begin with one about the detector.
const HEADER: &str = "encoder::header";

fn has_header_setting(properties: &Properties) -> bool {
    properties.iter().any(|(name, _)| name == HEADER)
}

/// The form of the output.
fn form(arguments: &Arguments, properties: &Properties) -> Result<Form, String> {
    let form = Form::choose(arguments.format.as_deref(), arguments.output.as_deref())?;
    Ok(match form {
        Form::Lines { .. } => Form::Lines { with_headers: has_header_setting(properties) },
        table => table,
    })
}

/// The frames to save: those asked for, or those that belong to the output.
fn frames(arguments: &Arguments, form: Form) -> Result<Frames, String> {
    let mut frames = arguments.frames.clone();
    if let (Form::Table(Format { name, pictures: Some(pictures), .. }), Some(output)) = (form, &arguments.output) {
        if frames.save_frames.is_some() {
            return Err(format!(
                "--format {name} saves frames in {}: leave --save-frames out",
                output.join(pictures).display()
            ));
        }
        frames.save_frames = Some(output.join(pictures));
    }
    Ok(frames)
}

/// Whether something is in a file.
fn is_filled(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// The summary of what cannot be read and is not a file.
fn failed(name: &str, reason: &str) -> Summary {
    let mut summary = Summary::new(name);
    summary.bytes = None;
    summary.fail(&gst::glib::Error::new(gst::ResourceError::OpenRead, reason));
    summary
}

/// The cache, and where in it the results of files belong as they were before the run.
struct Kept {
    cache: Cache,
    places: HashMap<String, PathBuf>,
    /// Only the first of many is said.
    has_complained: bool,
}

impl Kept {
    fn new(cache: Cache, files: &[String]) -> Self {
        let places = files.iter().filter_map(|file| Some((file.clone(), cache.place(file)?))).collect();
        Self { cache, places, has_complained: false }
    }

    fn get(&mut self, file: &str, progress: &Progress) -> Option<Unit> {
        let found = Cache::get(self.places.get(file)?);
        found
            .unwrap_or_else(|reason| {
                self.complain(&format!("a result in the cache is not used: {reason}"), progress);
                None
            })
            .filter(|unit| unit.summary.file == file)
    }

    /// Keeps a result, unless its file has changed meanwhile.
    fn put(&mut self, unit: &Unit, progress: &Progress) {
        let file = &unit.summary.file;
        // Its place is that of results of the provider that comes first.
        if let Some(reason) = &unit.summary.fallback {
            self.complain(&format!("results are not kept in the cache, because of a fallback: {reason}"), progress);
            return;
        }
        if let (Some(before), Some(now)) = (self.places.get(file), self.cache.place(file))
            && *before == now
            && let Err(reason) = Cache::put(&now, unit)
        {
            self.complain(&format!("a result is not kept in the cache: {reason}"), progress);
        }
    }

    fn complain(&mut self, text: &str, progress: &Progress) {
        if !std::mem::replace(&mut self.has_complained, true) {
            progress.say(&format!("vx: {text} (said once)"));
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
    kept: Option<&mut Kept>,
    how: Hand,
) -> Result<bool, String> {
    match event {
        Event::Lines(lines) => output::print(&lines)?,
        Event::Begun(file) => progress.begin(file),
        Event::Running(running) => progress.observe(running),
        Event::Tick => {}
        Event::Done(unit) => {
            if how == Hand::Units {
                output.add(&unit)?;
            }
            if let Some(kept) = kept.filter(|_| unit.summary.error.is_none()) {
                kept.put(&unit, progress);
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
    frames: &Frames,
    properties: &Properties,
    files: &[String],
    how: Hand,
    stop: &Stop,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Result<Outcome, String> {
    let (events, happened) = bounded(1024);
    let bulk = Bulk::new(properties, &events, how)?;
    frames.save_from(&bulk.handle());
    bulk.load().map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    // `listen` sees to it: calls of the element may wait for its threads.
    stop.begin_reading(move |_| drop(events.try_send(Event::Tick)));
    bulk.start(files).map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    if stop.is_interrupted() {
        // That was before there was a run to end.
        bulk.wind_down();
    }
    let error = listen(&happened, || bulk.running(), stop, || bulk.wind_down(), take);
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
    frames: &Frames,
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
        files.sort_by_cached_key(|file| {
            std::cmp::Reverse(std::fs::metadata(path_of(file)).map_or(0, |file| file.len()))
        });
    }
    let settings = isolate::Settings {
        properties,
        frames: frames.clone(),
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
    let error = listen(&happened, || handle.running(), stop, || handle.wind_down(), &mut |event| {
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
    wind_down: impl Fn(),
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Option<String> {
    let mut failure = None;
    let mut is_winding_down = false;
    let mut looked = Instant::now();
    loop {
        let event = match happened.recv_timeout(BETWEEN_LOOKS) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return failure,
        };
        if stop.is_interrupted() && !std::mem::replace(&mut is_winding_down, true) {
            wind_down();
        }
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
