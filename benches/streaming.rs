// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares streaming, where each keyframe is detected while the next one is decoded, with decoding the whole file before
//! detection.
//!
//! `cargo bench --bench streaming`. Both ways use one thread for decoding and one for the built-in model, in separate processes,
//! and are timed from the loaded model to the last detection. In one of the sizes, decoding and detection take about the same time.
//! The output shows medians and extremes, and the peak memory of each way.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::time::Instant;

use common::{clip, made, play_to_end};
use gst::prelude::*;
use gstvx::memory;

const ROUNDS: usize = 7;
const SIZES: [&str; 3] = ["1920:1080", "2880:1620", "3840:2160"];
const KEYFRAMES: [usize; 3] = [10, 20, 50];

/// The cost of one run: seconds; seconds of decoding and of the model; peak MiB.
type Taken = [f64; 4];

/// Runs one way on `file` in this process.
fn run(file: &str, way: &str) -> Taken {
    common::init();
    let hold =
        if way == "apart" { "queue name=hold max-size-buffers=0 max-size-bytes=0 max-size-time=0 !" } else { "" };
    let launch = format!(
        "filesrc location={file} ! vxkeyframedec name=dec thread-type=none ! {hold} vxyolodetect name=det \
         execution-provider=cpu sessions=1 intra-op-threads=1 ! fakesink sync=false"
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let [decoder, detector] = ["dec", "det"].map(|name| pipeline.by_name(name).unwrap());
    if let Some(hold) = pipeline.by_name("hold") {
        let source = hold.static_pad("src").unwrap();
        let kinds = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        let block = parking_lot::Mutex::new(source.add_probe(kinds, |_, _| gst::PadProbeReturn::Ok));
        hold.static_pad("sink").unwrap().add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos)
                && let Some(block) = block.lock().take()
            {
                source.remove_probe(block);
            }
            gst::PadProbeReturn::Ok
        });
    }
    pipeline.set_state(gst::State::Ready).unwrap();
    let started = Instant::now();
    play_to_end(pipeline.upcast_ref());
    let seconds = started.elapsed().as_secs_f64();
    let stage = |element: &gst::Element, name: &str| {
        element.property::<gst::Structure>("stats").get::<u64>(name).unwrap() as f64 / 1e9
    };
    let (decode, infer) = (stage(&decoder, "decode-time"), stage(&detector, "infer-time"));
    pipeline.set_state(gst::State::Null).unwrap();
    [seconds, decode, infer, memory::peak().unwrap_or(0) as f64 / f64::from(1 << 20)]
}

fn in_a_process(file: &str, way: &str) -> Taken {
    let output = Command::new(std::env::current_exe().unwrap()).args(["--run", file, way]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, file, way] = &arguments[..]
        && flag == "--run"
    {
        let taken = run(file, way);
        return println!("{}", taken.map(|number| number.to_string()).join(" "));
    }
    common::init();
    let source = clip();
    for size in SIZES {
        for keyframes in KEYFRAMES {
            let file = made(
                &format!("streamed_{}_{keyframes}.mp4", size.replace(':', "x")),
                &[
                    "-stream_loop",
                    "-1",
                    "-i",
                    source.to_str().unwrap(),
                    "-an",
                    "-r",
                    "5",
                    "-g",
                    "5",
                    "-sc_threshold",
                    "0",
                    "-t",
                    &keyframes.to_string(),
                    "-vf",
                    &format!("scale={size}"),
                    "-c:v",
                    "libx264",
                    "-preset",
                    "ultrafast",
                ],
            );
            let file = file.to_str().unwrap();
            let taken: Vec<[Taken; 2]> =
                (0..ROUNDS).map(|_| ["apart", "streamed"].map(|way| in_a_process(file, way))).collect();
            let of = |way: usize, number: usize| {
                median(&mut taken.iter().map(|round| round[way][number]).collect::<Vec<_>>())
            };
            let mut ratios: Vec<f64> = taken.iter().map(|[apart, streamed]| apart[0] / streamed[0]).collect();
            let ratio = median(&mut ratios);
            println!(
                "{size:9} {keyframes:3} keyframes: apart {:.3} s and {:.0} MiB, streamed {:.3} s and {:.0} MiB: {ratio:.2} times ({:.2} to {:.2}); \
                 decoding costs {:.2} of detection",
                of(0, 0),
                of(0, 3),
                of(1, 0),
                of(1, 3),
                ratios[0],
                ratios[ratios.len() - 1],
                of(0, 1) / of(0, 2)
            );
        }
    }
}
