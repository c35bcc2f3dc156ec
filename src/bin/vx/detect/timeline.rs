// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx detect --debug FILE`: a table with the stages of each frame of one file.

use std::time::Duration;

use gstvx::run::{FrameStage, StageTimes};

/// Stages in the order of the columns. The frame waits in the decoder's push while the detector's queue is full.
const COLUMNS: [(FrameStage, &str); 7] = [
    (FrameStage::Read, "read"),
    (FrameStage::Decode, "decode"),
    (FrameStage::PushFrame, "push"),
    (FrameStage::Queue, "queue"),
    (FrameStage::Prepare, "letterbox"),
    (FrameStage::Infer, "model"),
    (FrameStage::Outputs, "outputs"),
];

/// Returns the lines of the table.
pub fn table(times: &StageTimes) -> Vec<String> {
    let heads: String = COLUMNS.iter().map(|(_, head)| format!("{head:>11}")).collect();
    let mut lines: Vec<String> = times.open.iter().map(|open| format!("opened in {}", milliseconds(*open))).collect();
    lines.push(format!("{:14}{heads}", "time"));
    for (pts, stages) in &times.frames {
        let cell = |stage| stages.get(stage).map_or_else(|| "-".to_owned(), |took| milliseconds(*took));
        let cells: String = COLUMNS.iter().map(|(stage, _)| format!("{:>11}", cell(stage))).collect();
        lines.push(format!("{:14}{cells}", clock(*pts)));
    }
    if times.left_out > 0 {
        lines.push(format!("{} times of further frames, or of frames without a time, are left out", times.left_out));
    }
    lines
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Returns a time as hours, minutes, seconds and milliseconds.
fn clock(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
