// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress of a run: a bar on a terminal, a line now and then elsewhere, a table at the end.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::terminal::{print_error, printable};
use console::Term;
use gstvx::memory;
use gstvx::path::path_of;
use gstvx::run::{Progress, Report, Status, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    None,
    Normal,
    /// Also the time of each stage for each file.
    Stages,
}

/// Time between two lines without a terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Most files in the table at the end that failed, and as many that are damaged.
const FAILURES_SHOWN: usize = 100;

/// Columns of a terminal below which there is text and no bar.
const COLUMNS_WITH_BAR: u16 = 100;

/// Columns for the name of a file that is being read.
const NAME_COLUMNS: usize = 24;

/// See the module.
pub struct ProgressView {
    detail: Detail,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    total: usize,
    /// Sizes of the files, to estimate the time left.
    sizes: HashMap<String, u64>,
    bytes: Bytes,
    /// Files that have begun and are not done.
    current: BTreeSet<String>,
    /// How far they are, where that is known.
    running: Vec<Progress>,
    sums: Sums,
}

/// Bytes of files.
#[derive(Default)]
struct Bytes {
    all: u64,
    done: u64,
    /// Bytes of `done` whose results were in the cache, which took no time.
    cached: u64,
}

#[derive(Default)]
struct Sums {
    done: usize,
    cached: usize,
    /// Files, with reasons.
    failed: Vec<(String, String)>,
    damaged: Vec<(String, String)>,
    keyframes: u64,
    between: u64,
    detections: u64,
    bytes: u64,
    bytes_read: u64,
    stages: [f64; 6],
}

/// The places of results, for the table at the end.
#[derive(Debug, Default, Clone, Copy)]
pub struct Places<'a> {
    pub output: Option<&'a Path>,
    pub pictures: Option<&'a Path>,
}

impl ProgressView {
    /// Creates it for a run over `files`. `lines_on_screen`: results are printed where the bar would be.
    pub fn new(detail: Detail, files: &[String], lines_on_screen: bool) -> Self {
        let size = |file: &String| {
            let metadata = std::fs::metadata(path_of(file)).ok().filter(std::fs::Metadata::is_file);
            metadata.map_or(0, |file| file.len())
        };
        let sizes: HashMap<String, u64> = files.iter().map(|file| (file.clone(), size(file))).collect();
        let all = sizes.values().sum();
        // A terminal that cannot move its cursor (TERM=dumb, or not set) gets lines.
        let has_bar = detail != Detail::None && !ProgressDrawTarget::stderr().is_hidden() && !lines_on_screen;
        let bar = has_bar.then(|| {
            let target = ProgressDrawTarget::stderr();
            let (_, columns) = Term::stderr().size();
            let template = if columns < COLUMNS_WITH_BAR { "{percent} %, {wide_msg}" } else { "{bar:20} {wide_msg}" };
            let bar = ProgressBar::with_draw_target(Some(all), target);
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        Self {
            detail,
            bar,
            started: now,
            last_line: now,
            total: files.len(),
            sizes,
            bytes: Bytes { all, ..Bytes::default() },
            current: BTreeSet::new(),
            running: Vec::new(),
            sums: Sums::default(),
        }
    }

    /// Returns the bar, for other threads that print beside it.
    pub fn bar(&self) -> Option<ProgressBar> {
        self.bar.clone()
    }

    /// Prints a line.
    pub fn print(&self, text: &str) {
        match &self.bar {
            _ if self.detail == Detail::None => {}
            Some(bar) => bar.suspend(|| print_error!("{text}")),
            None => print_error!("{text}"),
        }
    }

    /// Prints a line even where nothing else is printed.
    pub fn print_always(&self, text: &str) {
        match self.detail {
            Detail::None => print_error!("{text}"),
            _ => self.print(text),
        }
    }

    /// Shows that a file has begun.
    pub fn begin(&mut self, file: String) {
        if self.detail == Detail::Stages {
            self.print(&format!("{}: started", printable(&file)));
        }
        self.current.insert(file);
        self.update();
    }

    /// Shows that a file is done.
    pub fn end(&mut self, summary: &Summary, is_cached: bool) {
        self.current.remove(&summary.file);
        self.running.retain(|running| running.file != summary.file);
        let sums = &mut self.sums;
        sums.done += 1;
        sums.cached += usize::from(is_cached);
        sums.keyframes += summary.keyframes;
        sums.between += summary.frames_between;
        sums.detections += summary.detection_count;
        if !is_cached {
            sums.bytes += summary.bytes.unwrap_or(0);
            sums.bytes_read += summary.bytes_read;
            let seconds = &summary.seconds;
            let stages =
                [seconds.open, seconds.read, seconds.decode, seconds.prepare, seconds.infer, seconds.lock_wait];
            sums.stages.iter_mut().zip(stages).for_each(|(sum, stage)| *sum += stage);
        }
        if summary.status == Status::Failed {
            let reason = summary.error.as_ref().map_or("", |error| error.message.as_str()).to_owned();
            self.sums.failed.push((summary.file.clone(), reason));
        }
        if summary.status == Status::Damaged {
            self.sums.damaged.push((summary.file.clone(), summary.problems.join("; ")));
        }
        if self.detail == Detail::Stages {
            summary
                .warnings
                .iter()
                .for_each(|warning| self.print(&format!("{}: warning: {warning}", printable(&summary.file))));
            self.print(&stages_of(summary, is_cached));
        }
        let size = self.sizes.get(&summary.file).copied().unwrap_or(0);
        self.bytes.done += size;
        self.bytes.cached += if is_cached { size } else { 0 };
        self.update();
    }

    /// Shows how far the files are that are being read.
    pub fn observe(&mut self, running: Vec<Progress>) {
        // Files that are done meanwhile are in the sums.
        self.running = running.into_iter().filter(|running| self.current.contains(&running.file)).collect();
        self.update();
    }

    /// Returns the bytes that are done; of files that are being read, by their share of the duration.
    fn bytes_done(&self) -> f64 {
        let part = |running: &Progress| running.share() * self.sizes.get(&running.file).copied().unwrap_or(0) as f64;
        self.bytes.done as f64 + self.running.iter().map(part).sum::<f64>()
    }

    /// Estimates the seconds until the end.
    fn seconds_left(&self) -> Option<f64> {
        let (all, done) = (self.bytes.all - self.bytes.cached, self.bytes_done() - self.bytes.cached as f64);
        let elapsed = self.started.elapsed().as_secs_f64();
        (done > 0.0).then(|| elapsed / done * (all as f64 - done).max(0.0))
    }

    fn update(&mut self) {
        let sums = &self.sums;
        let elapsed = self.started.elapsed().as_secs_f64().max(1e-3);
        let frames = sums.keyframes + sums.between + self.running.iter().map(|running| running.frames).sum::<u64>();
        let detections = sums.detections + self.running.iter().map(|running| running.detections).sum::<u64>();
        let left = self.seconds_left().map_or(String::new(), |left| format!(", {} left", clock(left)));
        let some = |number: usize, word: &str| if number > 0 { format!(", {number} {word}") } else { String::new() };
        let text = format!(
            "{} of {} files{}{}{left}, {:.1} frames/s, {}",
            sums.done,
            self.total,
            some(sums.failed.len(), "failed"),
            some(sums.damaged.len(), "damaged"),
            frames as f64 / elapsed,
            count(detections, "detection")
        );
        if let Some(bar) = &self.bar {
            let names: Vec<String> = self.current.iter().map(|file| self.name_of(file)).collect();
            bar.set_position(self.bytes_done() as u64);
            bar.set_message(if names.is_empty() { text } else { format!("{text} | {}", names.join(", ")) });
        } else if self.detail != Detail::None && self.last_line.elapsed() > BETWEEN_LINES {
            self.last_line = Instant::now();
            self.print(&text);
        }
    }

    /// Returns the name of a file that is being read, and how far it is.
    fn name_of(&self, file: &str) -> String {
        let name = printable(file.rsplit('/').next().unwrap_or(file));
        let name = console::truncate_str(&name, NAME_COLUMNS, "…");
        let running = self.running.iter().find(|running| running.file == file);
        match running.filter(|running| running.duration_seconds.is_some()) {
            Some(running) => format!("{name} {:.0} %", 100.0 * running.share()),
            None => name.into_owned(),
        }
    }

    /// Prints the table at the end.
    pub fn finish(&self, report: &Report, places: Places<'_>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let sums = &self.sums;
        let wall = self.started.elapsed().as_secs_f64();
        let ok = sums.done - sums.failed.len() - sums.damaged.len();
        let cached = if sums.cached > 0 { format!(", {} of them from the cache", sums.cached) } else { String::new() };
        let damaged = match sums.damaged.len() {
            0 => String::new(),
            count => format!(", {count} damaged"),
        };
        self.print(&format!("files       {ok} ok{damaged}, {} failed, of {}{cached}", sums.failed.len(), self.total));
        for (word, files, elsewhere) in [
            ("failed ", &sums.failed, "see `error` in the summaries of the output"),
            ("damaged", &sums.damaged, "see `problems` in the summaries of the output"),
        ] {
            for (file, reason) in files.iter().take(FAILURES_SHOWN) {
                self.print(&format!("  {word}   {}: {reason}", printable(file)));
            }
            if files.len() > FAILURES_SHOWN {
                self.print(&format!("  {word}   {} more, {elsewhere}", files.len() - FAILURES_SHOWN));
            }
        }
        for (word, place) in [("output  ", places.output), ("pictures", places.pictures)] {
            if let Some(place) = place {
                self.print(&format!("{word}    {}", place.display()));
            }
        }
        let rate = (sums.keyframes + sums.between) as f64 / wall.max(1e-3);
        let between = match sums.between {
            0 => String::new(),
            between => format!(" and {} between", count(between, "frame")),
        };
        self.print(&format!(
            "keyframes   {}{between} in {wall:.1} s, {rate:.1} a second; {}",
            sums.keyframes,
            count(sums.detections, "detection")
        ));
        if sums.cached == sums.done {
            return;
        }
        let [open, read, decode, prepare, infer, lock_wait] = sums.stages;
        self.print(&format!(
            "stages      open {open:.2} s (waited {lock_wait:.2} s for others), read {read:.2} s, decode {decode:.2} s, \
             prepare {prepare:.2} s, model {infer:.2} s, over all lanes"
        ));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.print(&format!("bytes       {:.1} of {:.1} MiB read", mib(sums.bytes_read), mib(sums.bytes)));
        let cores = num_cpus::get();
        if let Some(busy) = cpu_seconds() {
            self.print(&format!(
                "efficiency  {:.0} % of {cores} cores, {busy:.1} s of processor time",
                100.0 * busy / (wall * cores as f64).max(1e-3)
            ));
        }
        if let Some(engine) = &report.engine {
            self.print(&format!(
                "model       {}: {} on {}, {}, {} sessions of {} threads, loaded {} time(s)",
                engine.model,
                engine.provider,
                engine.device,
                engine.precision,
                engine.sessions,
                engine.intra_op_threads,
                engine.model_loads
            ));
            self.print(&format!("plan        {} lanes, {} decoder threads each", engine.lanes, engine.decoder_threads));
        }
        if let Some(workers) = &report.workers {
            self.print(&format!("model       loaded {} time(s), by each worker process", workers.started));
            self.print(&format!("memory      {:.0} MiB at most in a worker process", mib(workers.peak_bytes)));
        } else if let Some(peak) = memory::peak() {
            self.print(&format!("memory      {:.0} MiB at most", mib(peak)));
        }
    }
}

/// Formats a count: `1 detection`, `2 detections`.
pub fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Formats a time: `45 s`, `3 min 20 s`, `2 h 5 min`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Formats the times of a file.
fn stages_of(summary: &Summary, is_cached: bool) -> String {
    let Summary { keyframes, detection_count: detections, bytes_read, seconds, .. } = summary;
    let file = printable(&summary.file);
    if is_cached {
        return format!("{file}: {keyframes} keyframes, {detections} detections, from the cache");
    }
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    format!(
        "{file}: {keyframes} keyframes, {detections} detections, {bytes_read} of {} bytes in {}; open {} (waited {}), read {}, \
         decode {}, queued {}, prepare {}, model {}",
        summary.bytes.unwrap_or(0),
        ms(seconds.total),
        ms(seconds.open),
        ms(seconds.lock_wait),
        ms(seconds.read),
        ms(seconds.decode),
        ms(seconds.queued),
        ms(seconds.prepare),
        ms(seconds.infer)
    )
}

/// Returns the processor time of this process and its ended children (`proc(5)`, `stat`: fields 14 to 17, in hundredths of a second).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().unwrap_or(0.0));
    Some(ticks.sum::<f64>() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(file: &str) -> Summary {
        Summary { keyframes: 10, ..Summary::new(file) }
    }

    #[test]
    fn the_time_left_counts_parts_of_files_and_nothing_from_the_cache() {
        let mut progress = ProgressView::new(Detail::None, &["a".into(), "b".into(), "c".into()], false);
        progress.sizes = [("a", 100), ("b", 100), ("c", 200)].map(|(file, size)| (file.to_owned(), size)).into();
        progress.bytes.all = 400;
        progress.started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap_or_else(Instant::now);
        assert_eq!(progress.seconds_left(), None);
        progress.end(&summary("a"), true);
        assert_eq!(progress.seconds_left(), None);
        progress.begin("b".to_owned());
        progress.begin("c".to_owned());
        let half = Progress {
            file: "b".to_owned(),
            position_seconds: 30.0,
            duration_seconds: Some(60.0),
            ..Progress::default()
        };
        let gone = Progress { file: "a".to_owned(), ..half.clone() };
        progress.observe(vec![half, gone]);
        // 50 of 300 bytes in 10 s.
        assert_eq!(progress.seconds_left().map(f64::round), Some(50.0));
        assert_eq!((progress.name_of("x/b"), progress.name_of("b")), ("b".into(), "b 50 %".into()));
        progress.end(&summary("b"), false);
        assert_eq!(progress.seconds_left().map(f64::round), Some(20.0));
    }

    #[test]
    fn counts_and_times_are_formatted() {
        assert_eq!((count(1, "detection"), count(0, "frame")), ("1 detection".into(), "0 frames".into()));
        assert_eq!([45.4, 200.0, 7500.0].map(clock), ["45 s", "3 min 20 s", "2 h 5 min"]);
    }
}
