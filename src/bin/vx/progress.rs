//! What a run shows of itself: a bar on a terminal, a line now and then elsewhere, a table at its end.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::isolate::Seen;
use crate::terminal::{printable, tell};
use gstvx::elements::bulkbin::{Status, Summary};
use gstvx::memory;
use gstvx::path::path_of;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Nothing,
    Usual,
    /// Also what each stage did to each file.
    Stages,
}

/// Time between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Files that failed, and as many that are damaged, in the table at the end.
const FAILURES_SHOWN: usize = 100;

/// See the module.
pub struct Progress {
    show: Show,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    total: usize,
    /// Bytes of all files, and of those that are done: by these, what is left is estimated, since files differ in size.
    bytes: (u64, u64),
    cached_bytes: u64,
    current: BTreeSet<String>,
    /// Frames of files that have not ended, too, where they can be counted.
    frames: u64,
    sums: Sums,
}

#[derive(Default)]
struct Sums {
    done: usize,
    cached: usize,
    /// Files and why.
    failed: Vec<(String, String)>,
    damaged: Vec<(String, String)>,
    keyframes: u64,
    detections: u64,
    bytes: u64,
    bytes_read: u64,
    stages: [f64; 6],
}

impl Progress {
    /// For a run over `files`. `lines_on_screen` is whether results go where the bar would be.
    pub fn new(show: Show, files: &[String], lines_on_screen: bool) -> Self {
        let bytes: u64 = files
            .iter()
            .filter_map(|file| std::fs::metadata(path_of(file)).ok())
            .filter(|file| file.is_file())
            .map(|file| file.len())
            .sum();
        let has_bar = show != Show::Nothing && std::io::stderr().is_terminal() && !lines_on_screen;
        let bar = has_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:30} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        Self {
            show,
            bar,
            started: now,
            last_line: now,
            total: files.len(),
            bytes: (bytes, 0),
            cached_bytes: 0,
            current: BTreeSet::new(),
            frames: 0,
            sums: Sums::default(),
        }
    }

    /// A line for the user.
    pub fn say(&self, text: &str) {
        match &self.bar {
            _ if self.show == Show::Nothing => {}
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
    }

    /// A line for the user even where nothing else is shown.
    pub fn insist(&self, text: &str) {
        match self.show {
            Show::Nothing => tell!("{text}"),
            _ => self.say(text),
        }
    }

    pub fn begin(&mut self, file: String) {
        if self.show == Show::Stages {
            self.say(&format!("{}: begun", printable(&file)));
        }
        self.current.insert(file);
        self.update();
    }

    pub fn end(&mut self, summary: &Summary, is_cached: bool) {
        self.current.remove(&summary.file);
        let sums = &mut self.sums;
        sums.done += 1;
        sums.cached += usize::from(is_cached);
        sums.keyframes += summary.keyframes;
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
            self.say(&format!("vx: {}: {reason}", printable(&summary.file)));
            self.sums.failed.push((summary.file.clone(), reason));
        }
        if summary.status == Status::Damaged {
            self.sums.damaged.push((summary.file.clone(), summary.problems.join("; ")));
        }
        if self.show == Show::Stages {
            summary
                .warnings
                .iter()
                .for_each(|warning| self.say(&format!("{}: warning: {warning}", printable(&summary.file))));
            self.say(&stages_of(summary, is_cached));
        }
        self.bytes.1 += summary.bytes.unwrap_or(0);
        self.cached_bytes += summary.bytes.filter(|_| is_cached).unwrap_or(0);
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes.1);
        }
        self.update();
    }

    /// Takes the number of frames looked at so far.
    pub fn count(&mut self, frames: u64) {
        self.frames = frames;
        self.update();
    }

    fn update(&mut self) {
        let sums = &self.sums;
        let elapsed = self.started.elapsed().as_secs_f64().max(1e-3);
        let rate = sums.keyframes.max(self.frames) as f64 / elapsed;
        let (all, done) = self.bytes;
        // What came from the cache took no time.
        let (all, done) = (all.saturating_sub(self.cached_bytes), done.saturating_sub(self.cached_bytes));
        let left = match done {
            0 => String::new(),
            done => format!(", {:.0} s left", elapsed / done as f64 * all.saturating_sub(done) as f64),
        };
        let count = |count: usize, word: &str| if count > 0 { format!(", {count} {word}") } else { String::new() };
        let text = format!(
            "{} of {} files{}{}, {rate:.1} keyframes/s, {} detections{left}",
            sums.done,
            self.total,
            count(sums.failed.len(), "failed"),
            count(sums.damaged.len(), "damaged"),
            sums.detections
        );
        if let Some(bar) = &self.bar {
            let names: Vec<_> = self.current.iter().map(|file| file.rsplit('/').next().unwrap_or(file)).collect();
            bar.set_message(format!("{text} | {}", printable(&names.join(" "))));
        } else if self.show != Show::Nothing && self.last_line.elapsed() > BETWEEN_LINES {
            self.last_line = Instant::now();
            self.say(&text);
        }
    }

    /// Files of which nothing was heard.
    pub fn missing(&self) -> usize {
        self.total.saturating_sub(self.sums.done)
    }

    /// Files that failed so far; damaged ones did not.
    pub fn failures(&self) -> usize {
        self.sums.failed.len()
    }

    /// The table at the end. `stats` is what the element says, if one ran in this process, `workers` what was seen of others.
    pub fn finish(&self, stats: Option<&gst::Structure>, workers: Option<&Seen>) {
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
        self.say(&format!("files       {ok} ok{damaged}, {} failed, of {}{cached}", sums.failed.len(), self.total));
        for (word, files, elsewhere) in [
            ("failed ", &sums.failed, "see above"),
            ("damaged", &sums.damaged, "see `status` and `problems` of the summaries in the output"),
        ] {
            for (file, reason) in files.iter().take(FAILURES_SHOWN) {
                self.say(&format!("  {word}   {}: {reason}", printable(file)));
            }
            if files.len() > FAILURES_SHOWN {
                self.say(&format!("  {word}   {} more, {elsewhere}", files.len() - FAILURES_SHOWN));
            }
        }
        let rate = sums.keyframes as f64 / wall.max(1e-3);
        self.say(&format!(
            "keyframes   {} in {wall:.1} s, {rate:.1} a second; {} detections",
            sums.keyframes, sums.detections
        ));
        if sums.cached == sums.done {
            return;
        }
        let [open, read, decode, prepare, infer, lock_wait] = sums.stages;
        self.say(&format!(
            "stages      open {open:.2} s (waited {lock_wait:.2} s for others), read {read:.2} s, decode {decode:.2} s, \
             prepare {prepare:.2} s, model {infer:.2} s, over all lanes"
        ));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.say(&format!("bytes       {:.1} of {:.1} MiB read", mib(sums.bytes_read), mib(sums.bytes)));
        let cores = num_cpus::get();
        if let Some(busy) = cpu_seconds() {
            self.say(&format!(
                "efficiency  {:.0} % of {cores} cores, {busy:.1} s of processor time",
                100.0 * busy / (wall * cores as f64).max(1e-3)
            ));
        }
        if let Some(stats) = stats {
            let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
            let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
            self.say(&format!(
                "model       {}: {} on {}, {}, {} sessions of {} threads, loaded {} time(s)",
                text("model"),
                text("provider"),
                text("device"),
                text("precision"),
                number("sessions"),
                number("intra-op-threads"),
                stats.get::<u64>("model-loads").unwrap_or(0)
            ));
            self.say(&format!(
                "plan        {} lanes, {} decoder threads each",
                number("lanes"),
                number("decoder-threads")
            ));
        }
        if let Some(workers) = workers {
            let (started, peak) = (workers.started.load(Ordering::Relaxed), workers.memory.load(Ordering::Relaxed));
            self.say(&format!("model       loaded {started} time(s), by each worker process"));
            self.say(&format!("memory      {:.0} MiB at most in a worker process", mib(peak)));
        } else if let Some(peak) = memory::peak() {
            self.say(&format!("memory      {:.0} MiB at most", mib(peak)));
        }
    }
}

/// What each stage did to a file.
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

/// Processor time of this process and its ended children (`proc(5)`, `stat`: fields 14 to 17, in hundredths of a second).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().unwrap_or(0.0));
    Some(ticks.sum::<f64>() / 100.0)
}
