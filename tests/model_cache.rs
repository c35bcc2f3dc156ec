// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the folder for compiled models, `cache-dir`: results never depend on it, whatever its state.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;
mod detect_support;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::command::{assert_same, records, vx};
use common::{clip, pipeline, play, quoted, scratch};
use detect_support::{RgbFrame, runtime, settings};
use gst::prelude::*;
use gstvx::detect::{Engine, EngineSpec, Error, Provider};

/// Whether OpenVINO is installed; prints a message if it is not.
fn has_openvino() -> bool {
    let spec = EngineSpec { provider: Provider::OpenVino, ..EngineSpec::default() };
    match Engine::acquire(runtime(), &spec) {
        Err(error @ Error::ProviderUnavailable { .. }) => {
            println!("skipped: {error}");
            false
        }
        engine => engine.is_ok(),
    }
}

/// The outcome of detection in the clip.
struct Detected {
    lines: Vec<String>,
    /// The field `cache` of the detector's statistics.
    cache: String,
    warnings: Vec<String>,
}

/// Detects objects in the clip with a launch line's `properties` of the detector.
fn detect(provider: &str, properties: &str) -> Detected {
    // Elements of one process share engines; the name of the test's thread makes this one its own.
    let own = std::thread::current().name().map_or(0, str::len);
    let launch = format!(
        "filesrc location={} ! vxkeyframedec ! vxyolodetect name=detector execution-provider={provider} batch-timeout={own} {properties} \
         ! vxjsonenc",
        quoted(&clip())
    );
    let (pipeline, sink) = pipeline(&launch);
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("detector").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let lines: Vec<String> = outcome.json().iter().map(ToString::to_string).collect();
    assert!(lines.len() > 10 && lines.iter().any(|line| line.contains("person")), "{lines:?}");
    Detected { lines, cache: stats.get("cache").unwrap(), warnings: outcome.warnings }
}

fn detect_with(provider: &str, folder: &Path) -> Detected {
    detect(provider, &format!("cache-dir={}", quoted(folder)))
}

/// Returns the entries of a cache. Fails for anything else in the folder.
fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    let entries: BTreeSet<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert!(entries.iter().all(|path| path.extension().is_some_and(|extension| extension == "vx2")), "{entries:?}");
    entries
}

/// Returns the length of all entries together, in bytes.
fn total_length(folder: &Path) -> u64 {
    entries(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Whether an entry ends with the hash of its content.
fn is_intact(path: &Path) -> bool {
    let bytes = std::fs::read(path).unwrap();
    let split = bytes.split_at_checked(bytes.len().saturating_sub(blake3::OUT_LEN));
    split.is_some_and(|(content, hash)| *blake3::hash(content).as_bytes() == *hash)
}

/// A way to damage the bytes of a file.
type Damage = fn(&mut Vec<u8>);

fn assert_same_results_in_every_state(provider: &str) {
    let folder = scratch(&format!("states-{provider}"));
    let without = detect(provider, r#"cache-dir="""#);
    assert_eq!(without.cache, "none");
    let cold = detect_with(provider, &folder);
    assert_eq!((&cold.lines, &*cold.cache), (&without.lines, "filled"));
    let filled = entries(&folder);
    assert!(!filled.is_empty());
    let warm = detect_with(provider, &folder);
    assert_eq!((&warm.lines, &*warm.cache), (&without.lines, "used"));
    assert_eq!(entries(&folder), filled, "a warm start has nothing to add");
    let damages: [(&str, Damage); 5] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("with other values in the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..].iter_mut().take(8).for_each(|byte| *byte ^= 0x5a);
        }),
        ("with one other bit near the start", |bytes| bytes[20] ^= 1),
        ("longer", |bytes| bytes.extend([0; 100])),
    ];
    for (what, damage) in damages {
        for path in &filled {
            let mut bytes = std::fs::read(path).unwrap();
            damage(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
        let damaged = detect_with(provider, &folder);
        assert_eq!((&damaged.lines, &*damaged.cache), (&without.lines, "filled"), "{what}");
        // OpenVINO does not compile a model to the same bytes each time.
        assert!(entries(&folder) == filled && filled.iter().all(|path| is_intact(path)), "{what} entries are replaced");
        let again = detect_with(provider, &folder);
        assert_eq!((&again.lines, &*again.cache), (&without.lines, "used"), "after entries were {what}");
    }
    // Opened at once for the input size of the frames, not also for the exported one: only its entries are read.
    let old = SystemTime::now() - Duration::from_secs(3600);
    let open = |path: &PathBuf| File::options().append(true).open(path).unwrap();
    filled.iter().for_each(|path| open(path).set_modified(old).unwrap());
    detect_with(provider, &folder);
    let is_compiled = |path: &&PathBuf| path.metadata().unwrap().len() > 1_000_000;
    let is_used = |path: &&PathBuf| path.metadata().unwrap().modified().unwrap() > old + Duration::from_secs(60);
    let compiled = filled.iter().filter(is_compiled);
    let (all, used) = (compiled.clone().count(), compiled.filter(is_used).count());
    assert!(filled.iter().any(|path| is_used(&path)));
    match provider {
        "openvino" => assert_eq!((all, used), (2, 1), "compiled models and those that were read"),
        _ => assert_eq!(all, 0),
    }
    // A part of the entries, as after the oldest were removed.
    for path in &filled {
        std::fs::remove_file(path).unwrap();
        assert_eq!(detect_with(provider, &folder).lines, without.lines, "without {}", path.display());
        // The compiled model of the exported size is not needed again if another size is known to be usable.
        assert!(entries(&folder).is_subset(&filled));
    }
}

#[test]
fn results_on_the_cpu_provider_do_not_depend_on_the_cache() {
    assert_same_results_in_every_state("cpu");
}

#[test]
fn results_on_openvino_do_not_depend_on_the_cache() {
    if has_openvino() {
        assert_same_results_in_every_state("openvino");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_a_warning() {
    let file = scratch("a-file");
    std::fs::write(&file, "kept").unwrap();
    let without = detect("cpu", r#"cache-dir="""#);
    for folder in [&*file, &file.join("below"), Path::new("/proc/vx"), Path::new("/dev/null/vx")] {
        let detected = detect_with("cpu", folder);
        assert_eq!(detected.lines, without.lines);
        let name = folder.display().to_string();
        assert!(detected.cache.contains(&name), "{}", detected.cache);
        let warning = detected.warnings.iter().find(|warning| warning.contains("cache-dir")).unwrap();
        assert!(warning.contains(&name) && warning.contains("results are not affected"), "{warning}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

/// Returns the command that detects objects in the clip with `provider` and writes to `output`, with `more` arguments.
fn command(provider: &str, output: &Path, more: &[&str]) -> Command {
    let (clip, output) = (clip().display().to_string(), output.display().to_string());
    let mut command = vx(&[&clip, "--quiet", "--provider", provider, "--output", &output]);
    command.args(more).stderr(Stdio::piped());
    command
}

#[test]
fn several_processes_may_use_one_folder_at_once() {
    let provider = if has_openvino() { "openvino" } else { "cpu" };
    let folder = scratch("shared-folder");
    let folder_name = folder.display().to_string();
    let expected = scratch("expected.jsonl");
    let alone = command(provider, &expected, &["--cache-dir", ""]).output().unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    let expected = records(&expected);
    for round in ["cold", "warm"] {
        let outputs: Vec<_> = (0..3).map(|number| scratch(&format!("{round}-{number}.jsonl"))).collect();
        let start = |output: &PathBuf| command(provider, output, &["--cache-dir", &folder_name]).spawn().unwrap();
        let processes: Vec<_> = outputs.iter().map(start).collect();
        for (process, output) in processes.into_iter().zip(&outputs) {
            let ended = process.wait_with_output().unwrap();
            assert!(ended.status.success(), "{round}: {}", String::from_utf8_lossy(&ended.stderr));
            assert_same(&records(output), &expected, round);
        }
        assert!(!entries(&folder).is_empty(), "{round}");
    }
}

#[test]
fn a_cache_that_cannot_grow_does_not_affect_a_run() {
    let provider = if has_openvino() { "openvino" } else { "cpu" };
    let folder = scratch("limited");
    let (clip, folder_name) = (clip().display().to_string(), folder.display().to_string());
    let run = |limit: &str, output: &Path| {
        let output = output.display().to_string();
        let mut command = Command::new("prlimit");
        command.args([limit, env!("CARGO_BIN_EXE_vx"), "detect", &clip, "--quiet", "--provider", provider]);
        let ended = command.args(["--cache-dir", &folder_name, "--output", &output]).output().unwrap();
        assert!(ended.status.success(), "{limit}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    let (limited, free) = (scratch("limited.jsonl"), scratch("free.jsonl"));
    // A compiled model has 6 MB; the lines of the clip take 3 KB, and the profile of a run some 100 KB.
    run("--fsize=1000000", &limited);
    let kept = total_length(&folder);
    assert!(kept < 1_000_000, "{kept} bytes");
    run("--fsize=unlimited", &free);
    assert_same(&records(&limited), &records(&free), "limited");
    if provider == "openvino" {
        let kept = total_length(&folder);
        assert!(kept > 1_000_000, "{kept} bytes");
    }
}

#[test]
fn an_engine_that_expects_frames_closes_without_any() {
    for provider in [Provider::Cpu, Provider::Auto] {
        // One for each, because automatic may be the CPU provider.
        let folder = scratch(&format!("expected-{provider}"));
        for round in 0..3 {
            let spec =
                EngineSpec { provider: provider.clone(), cache_dir: Some(folder.clone()), ..EngineSpec::default() };
            let spec = EngineSpec { batch_timeout: Duration::from_nanos(1), ..spec };
            let engine = Engine::acquire(runtime(), &spec).unwrap();
            let report = engine.provider();
            assert!(report.has_cache && report.is_known == (round > 0), "{provider} {round}: {report:?}");
            engine.expect((640, 360));
            if round == 1 {
                let result = engine.submit(RgbFrame::stop_sign(), settings(0.5)).wait().unwrap();
                // This frame does not state its size in advance: it runs at the exported one.
                assert_eq!(result.input_size, (320, 320));
            }
        }
    }
}
