// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the times of all stages in histograms, and logs them when a pipeline stops.
//!
//! Lock order: the histograms alone; not held while logging.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use hdrhistogram::Histogram;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;

use super::NAME;
use crate::elements::log::Category;
use crate::elements::stages::{self, FrameStage, StageTime, Watcher};

static CAT: Category = Category::new(NAME, "latency of the stages of vx");

static IS_ACTIVE: AtomicBool = AtomicBool::new(false);

/// Whether the tracer exists.
pub(super) fn is_active() -> bool {
    IS_ACTIVE.load(Ordering::Acquire)
}

/// Significant digits of the histograms.
const DIGITS: u8 = 2;

/// Histograms of microseconds.
type Histograms = BTreeMap<FrameStage, Histogram<u64>>;

#[derive(Default)]
pub struct Latency {
    histograms: Arc<Mutex<Histograms>>,
    watcher: OnceCell<Watcher>,
}

#[glib::object_subclass]
impl ObjectSubclass for Latency {
    const NAME: &'static str = "GstVxLatencyTracer";
    type Type = super::Latency;
    type ParentType = gst::Tracer;
}

impl ObjectImpl for Latency {
    fn constructed(&self) {
        self.parent_constructed();
        IS_ACTIVE.store(true, Ordering::Release);
        // Whoever asks for the tracer wants to see what it logs.
        if CAT.threshold() < gst::DebugLevel::Info {
            CAT.set_threshold(gst::DebugLevel::Info);
        }
        let histograms = Arc::clone(&self.histograms);
        let _ = self.watcher.set(stages::watch(move |time| record(&mut histograms.lock(), time)));
        self.register_hook(TracerHook::ElementChangeStatePost);
    }
}

impl GstObjectImpl for Latency {}

impl TracerImpl for Latency {
    fn element_change_state_post(
        &self,
        _ts: u64,
        element: &gst::Element,
        change: gst::StateChange,
        _result: Result<gst::StateChangeSuccess, gst::StateChangeError>,
    ) {
        // Each element of a pipeline changes its state; the outermost bin is the last.
        if change != gst::StateChange::PausedToReady || element.parent().is_some() {
            return;
        }
        let histograms = std::mem::take(&mut *self.histograms.lock());
        if !histograms.is_empty() {
            gst::info!(CAT, "{}{}", element.name(), table(&histograms));
        }
    }
}

fn record(histograms: &mut Histograms, time: &StageTime) {
    let Ok(new) = Histogram::new(DIGITS) else { return };
    let histogram = histograms.entry(time.stage).or_insert(new);
    // It grows as necessary, and holds any number of microseconds.
    let _ = histogram.record(u64::try_from(time.took.as_micros()).unwrap_or(u64::MAX));
}

/// Returns a table with a line for each stage.
fn table(histograms: &Histograms) -> String {
    let mut text = format!("\n{:24}{:>8}{:>10}{:>10}{:>10}{:>10}", "stage", "count", "p50", "p95", "p99", "max");
    for (stage, histogram) in histograms {
        let at = |percentile| milliseconds(histogram.value_at_percentile(percentile));
        let (name, count, max) = (format!("{} {stage}", stage.element()), histogram.len(), histogram.max());
        let (half, most, nearly_all) = (at(50.0), at(95.0), at(99.0));
        // Writing to a string does not fail.
        let _ = write!(text, "\n{name:24}{count:>8}{half:>10}{most:>10}{nearly_all:>10}{:>10}", milliseconds(max));
    }
    text
}

fn milliseconds(microseconds: u64) -> String {
    format!("{:.2} ms", Duration::from_micros(microseconds).as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_percentiles_of_each_stage_in_order() {
        let mut histograms = Histograms::new();
        for milliseconds in 1..=100 {
            let took = Duration::from_millis(milliseconds);
            record(&mut histograms, &StageTime { stage: FrameStage::Infer, pts: None, took });
        }
        record(&mut histograms, &StageTime { stage: FrameStage::Read, pts: None, took: Duration::from_micros(50) });
        let table = table(&histograms);
        let lines: Vec<Vec<&str>> = table.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..4], ["vxkeyframedec", "read", "1", "0.05"]);
        assert_eq!(lines[1][..3], ["vxyolodetect", "model", "100"]);
        for (column, expected) in [(3, 50.0), (5, 95.0), (7, 99.0), (9, 100.0)] {
            let value: f64 = lines[1][column].parse().unwrap_or(0.0);
            assert!((value - expected).abs() / expected < 0.02, "{table}");
        }
    }
}
