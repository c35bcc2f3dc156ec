//! `vx detect`: what is on the keyframes of many files.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossbeam_channel::{Receiver, Sender, bounded};
use gst::prelude::*;
use gstvx::elements::bulkbin::{Plan, Situation};
use gstvx::memory;

use crate::bulk::{Bulk, Event, Properties, model_of};
use crate::cache::Cache;
use crate::files::{self, Search, Shard};
use crate::isolate::{Watch, Workers, work};
use crate::output::{Existing, Output};
use crate::progress::{Progress, Show};

/// What can be asked for.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    /// Files, folders (searched through and through), patterns in quotes; - for a list on standard input
    #[arg(required_unless_present = "worker")]
    inputs: Vec<String>,

    /// Where results go, in the form of the extension: .jsonl, .csv, .parquet, .json (COCO) [default: lines on standard output]
    #[arg(short, long)]
    output: Option<PathBuf>,

    /// Take up an output that was cut: what is complete in it stays
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,

    /// Write over an output that is there already
    #[arg(long)]
    overwrite: bool,

    /// ONNX model [default: the built-in one, which knows people]
    #[arg(short, long)]
    model: Option<PathBuf>,

    /// Class names, one in a line
    #[arg(long)]
    labels: Option<PathBuf>,

    /// Confidence above which a detection counts, 0 to 1 [default: 0.25]
    #[arg(short, long)]
    confidence: Option<f32>,

    /// Overlap above which the less confident of two boxes is left out, 0 to 1 [default: 0.7]
    #[arg(long)]
    iou: Option<f32>,

    /// Names or numbers of the classes to look for, separated by commas [default: all]
    #[arg(long)]
    classes: Option<String>,

    /// What runs the model: auto, cpu, openvino, cuda, tensorrt, … [default: auto]
    #[arg(long)]
    provider: Option<String>,

    /// Any other property of vxbulkbin, or of its elements: decoder::min-interval=1000000000
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,

    /// Files read at once [default: planned]
    #[arg(long)]
    lanes: Option<u32>,

    /// Order in which files are taken
    #[arg(long, value_enum, default_value = "largest-first")]
    order: Order,

    /// Begin no other file when one has failed
    #[arg(long)]
    stop_on_error: bool,

    /// Memory to plan with: 800M, 4G [default: 80 % of what is available]
    #[arg(long, value_parser = size)]
    memory_limit: Option<u64>,

    /// Seconds after which a file fails
    #[arg(long, value_parser = seconds)]
    file_timeout: Option<Duration>,

    /// Take one of several equal shares of the files: 3/16
    #[arg(long)]
    shard: Option<Shard>,

    /// Take every file in a folder, not only those with the extension of a media file
    #[arg(long)]
    all_files: bool,

    /// Folder in which results are kept, and found again while file, model and settings are the same
    #[arg(long)]
    cache: Option<PathBuf>,

    /// Read files in processes of their own, so that one that crashes costs only its file
    #[arg(long)]
    isolate: bool,

    /// Show nothing but errors of the run itself
    #[arg(short, long, conflicts_with = "debug")]
    quiet: bool,

    /// Show what each stage did to each file
    #[arg(long)]
    debug: bool,

    /// Show files and plan, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Be a worker of --isolate.
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    LargestFirst,
    AsGiven,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("{unit} is none of K, M, G, T")),
    };
    let number: f64 = digits.parse().map_err(|_| "it is no number with K, M, G or T behind it".to_owned())?;
    let bytes = number * (1_u64 << shift) as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("it is too small or too large".to_owned()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be more than 0".to_owned()),
    }
}

/// Everything was found.
const OK: u8 = 0;
/// Some files failed.
const SOME_FAILED: u8 = 1;
/// The run itself failed.
const FAILED: u8 = 2;
/// It was told to end before it was done.
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.worker {
        return work(&arguments.properties);
    }
    match detect(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(reason) => {
            eprintln!("vx: {reason}");
            ExitCode::from(FAILED)
        }
    }
}

fn detect(arguments: &Arguments) -> Result<u8, String> {
    crate::bulk::init()?;
    // What it says of broken files is in their summaries, in words.
    if !arguments.debug {
        gstvx::av::silence();
    }
    let properties = properties(arguments);
    let files = files::find(&arguments.inputs, Search { all_names: arguments.all_files, shard: arguments.shard })?;
    if files.is_empty() {
        return Err("no file to read: folders were searched for media files; --all-files takes every file".to_owned());
    }
    if arguments.dry_run {
        return dry_run(&properties, &files);
    }
    let existing = match (arguments.resume, arguments.overwrite) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    };
    let (mut output, done) = Output::open(arguments.output.as_deref(), existing)?;
    if let Output::Complete(path) = &output {
        eprintln!("vx: {} is complete: nothing to be done; --overwrite begins anew", path.display());
        return Ok(OK);
    }
    let mut files: Vec<String> = files.into_iter().filter(|file| !done.contains(file)).collect();
    let show = match (arguments.quiet, arguments.debug) {
        (true, _) => Show::Nothing,
        (_, true) => Show::Stages,
        _ => Show::Usual,
    };
    let is_standard = matches!(output, Output::Standard);
    let mut progress = Progress::new(show, files.len(), is_standard && std::io::stdout().is_terminal());
    if !done.is_empty() {
        progress.say(&format!("{} files are in the output already, {} are left", done.len(), files.len()));
    }
    let cache = match &arguments.cache {
        Some(folder) => Some(Cache::open(folder, model_of(&properties), &relevant(&properties))?),
        None => None,
    };
    if let Some(cache) = &cache {
        let mut left = Vec::new();
        for file in files {
            match cache.place(&file).and_then(|place| Cache::get(&place)) {
                Some(unit) => {
                    output.add(&unit)?;
                    progress.end(&unit.summary, true);
                }
                None => left.push(file),
            }
        }
        files = left;
    }
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let mut outcome = Outcome { stats: None, error: None };
    if !files.is_empty() {
        let mut take = |event: Event| take(event, &mut progress, &mut output, cache.as_ref());
        outcome = if arguments.isolate {
            isolated(arguments, properties, files, &is_interrupted, &mut take)?
        } else {
            in_process(&properties, &files, &is_interrupted, &mut take)?
        };
    }
    progress.finish(outcome.stats.as_ref());
    if let Some(error) = outcome.error {
        return Err(error);
    }
    if is_interrupted.load(Ordering::Acquire) {
        eprintln!("vx: interrupted; what was found is kept, --resume goes on");
        return Ok(INTERRUPTED);
    }
    output.finish()?;
    Ok(if progress.failures() > 0 { SOME_FAILED } else { OK })
}

/// How a run ended.
struct Outcome {
    stats: Option<gst::Structure>,
    error: Option<String>,
}

/// Takes an event; false after the last.
fn take(event: Event, progress: &mut Progress, output: &mut Output, cache: Option<&Cache>) -> Result<bool, String> {
    match event {
        Event::Begun(file) => progress.begin(file),
        Event::Done(unit) => {
            output.add(&unit)?;
            let is_whole = unit.summary.error.is_none();
            if let Some(place) = cache.filter(|_| is_whole).and_then(|cache| cache.place(&unit.summary.file))
                && let Err(reason) = Cache::put(&place, &unit)
            {
                progress.say(&format!("vx: not kept in the cache: {reason}"));
            }
            progress.end(&unit.summary, false);
        }
        Event::Warning(text) => progress.say(&format!("vx: {text}")),
        Event::Error(text) => return Err(text),
        Event::End => return Ok(false),
    }
    Ok(true)
}

fn in_process(
    properties: &Properties,
    files: &[String],
    is_interrupted: &Arc<AtomicBool>,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Result<Outcome, String> {
    let (events, happened) = bounded(1024);
    let bulk = Bulk::new(properties, &events)?;
    bulk.load().map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    let bin = bulk.handle();
    on_interrupt(is_interrupted, move || {
        bin.send_event(gst::event::Eos::new());
    });
    bulk.start(files).map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    let error = listen(&happened, take);
    if error.is_some() {
        bulk.wind_down();
    }
    let stats = bulk.stats();
    // Nobody listens any more: whoever wants to tell something must not wait for it.
    drop(happened);
    Ok(Outcome { stats: Some(stats), error })
}

fn isolated(
    arguments: &Arguments,
    mut properties: Properties,
    mut files: Vec<String>,
    is_interrupted: &Arc<AtomicBool>,
    take: &mut impl FnMut(Event) -> Result<bool, String>,
) -> Result<Outcome, String> {
    let cores = num_cpus::get();
    let workers = arguments.lanes.map_or(cores, |lanes| lanes as usize).clamp(1, 64).min(files.len());
    let budget = memory::budget(arguments.memory_limit.unwrap_or(0));
    // Each worker has its share of the cores, and of the memory.
    properties.retain(|(name, _)| name != "lanes" && name != "memory-limit");
    for (name, value) in [("detector::sessions", 1), ("detector::intra-op-threads", (cores / workers).max(1))] {
        if !properties.iter().any(|(other, _)| other == name) {
            properties.push((name.to_owned(), value.to_string()));
        }
    }
    if arguments.order == Order::LargestFirst {
        files.sort_by_cached_key(|file| std::cmp::Reverse(std::fs::metadata(file).map_or(0, |file| file.len())));
    }
    let watch =
        Watch { workers, timeout: arguments.file_timeout, memory: budget.map(|budget| budget / workers as u64) };
    let (events, happened): (Sender<Event>, _) = bounded(1024);
    let workers = Workers::start(&properties, files, &watch, &events);
    drop(events);
    let queue = workers.queue();
    let stop = Arc::clone(&queue);
    on_interrupt(is_interrupted, move || stop.lock().clear());
    let stop_on_error = arguments.stop_on_error;
    let mut failed = None;
    let error = listen(&happened, &mut |event| {
        if let (true, Event::Done(unit)) = (stop_on_error, &event)
            && let Some(error) = &unit.summary.error
        {
            queue.lock().clear();
            failed.get_or_insert_with(|| format!("{}: {}", unit.summary.file, error.message));
        }
        take(event)
    });
    queue.lock().clear();
    drop(happened);
    workers.join();
    Ok(Outcome { stats: None, error: error.or(failed) })
}

/// Takes events to the last; why the run failed, if it did.
fn listen(happened: &Receiver<Event>, take: &mut impl FnMut(Event) -> Result<bool, String>) -> Option<String> {
    let mut failure = None;
    for event in happened {
        let is_error = matches!(event, Event::Error(_));
        match take(event) {
            Ok(true) => {}
            Ok(false) => break,
            // The element says that it is in error, and then ends what is begun.
            Err(reason) if is_error => {
                failure.get_or_insert(reason);
            }
            Err(reason) => return Some(failure.unwrap_or(reason)),
        }
    }
    failure
}

fn reason_in(happened: &Receiver<Event>) -> Option<String> {
    happened.try_iter().find_map(|event| if let Event::Error(text) = event { Some(text) } else { None })
}

/// Calls `stop` when the user asks for the end; asked twice, everything ends at once.
fn on_interrupt(is_interrupted: &Arc<AtomicBool>, stop: impl Fn() + Send + 'static) {
    let is_interrupted = Arc::clone(is_interrupted);
    let handled = ctrlc::set_handler(move || {
        if is_interrupted.swap(true, Ordering::AcqRel) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("vx: ending the files that are begun; once more to end at once");
        stop();
    });
    if let Err(error) = handled {
        eprintln!("vx: interrupts end the run at once: {error}");
    }
}

/// The properties of `vxbulkbin` that the arguments stand for.
fn properties(arguments: &Arguments) -> Properties {
    let mut properties = arguments.properties.clone();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.push((name.to_owned(), value));
        }
    };
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

/// Of the properties those that results depend on, as a text that is the same for the same.
fn relevant(properties: &Properties) -> String {
    const HOW: [&str; 5] = ["lanes", "order", "on-error", "memory-limit", "file-timeout"];
    let mut relevant: Vec<String> = properties
        .iter()
        .filter(|(name, _)| !HOW.contains(&name.as_str()) && name != "model-file")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    relevant.sort();
    relevant.join("\n")
}

fn dry_run(properties: &Properties, files: &[String]) -> Result<u8, String> {
    let (events, happened) = bounded(1024);
    let bulk = Bulk::new(properties, &events)?;
    bulk.load().map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    let stats = bulk.stats();
    let bin = bulk.handle();
    let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
    let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
    let budget = memory::budget(bin.property("memory-limit"));
    let plan = Plan::new(Situation {
        cores: num_cpus::get(),
        memory: budget,
        files: files.len(),
        lanes: bin.property::<u32>("lanes") as usize,
        sessions: number("sessions") as usize,
    });
    let mut sizes: Vec<u64> = files.iter().map(|file| std::fs::metadata(file).map_or(0, |file| file.len())).collect();
    sizes.sort_unstable();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!(
        "files       {}, {} in all, {} the largest",
        files.len(),
        mib(sizes.iter().sum()),
        mib(sizes[sizes.len() - 1])
    );
    println!("machine     {} cores, {} of memory to plan with", num_cpus::get(), budget.map_or("unknown".into(), mib));
    println!("model       {} ({})", text("model"), text("layout"));
    println!(
        "provider    {} on {}, {}; {} sessions of {} threads, {} frames in a run",
        text("provider"),
        text("device"),
        text("precision"),
        number("sessions"),
        number("intra-op-threads"),
        number("batch-size").max(1)
    );
    println!(
        "plan        {} lanes, {} decoder threads and {} frames in flight each, {} for frames",
        plan.lanes,
        plan.decoder_threads,
        plan.frames_in_flight,
        plan.frame_memory.map_or("no limit".into(), mib)
    );
    files.iter().for_each(|file| println!("  {file}"));
    Ok(OK)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(size("800M").unwrap(), 800 << 20);
        assert_eq!(size("1.5GiB").unwrap(), 3 << 29);
        assert_eq!(size("4g").unwrap(), 4 << 30);
        assert_eq!(size("123").unwrap(), 123);
        for wrong in ["", "G", "1X", "-1", "0", "nan", "1e30"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        for wrong in ["0", "-1", "x", "inf", "nan"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(pair("a").is_err());
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
    }

    #[test]
    fn results_depend_on_settings_in_any_order_and_not_on_lanes() {
        let of = |pairs: &[(&str, &str)]| {
            relevant(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(
            of(&[("classes", "a"), ("lanes", "3"), ("iou-threshold", "1")]),
            of(&[("iou-threshold", "1"), ("classes", "a")])
        );
        assert_ne!(of(&[("classes", "a")]), of(&[("classes", "b")]));
    }
}
