// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the library interface for many files: events and records, cancellation, resuming, worker processes, errors.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{clip, made, scratch};
use gstvx::run::{
    Canceller, Error, Event, Existing, Output, Report, Run, Settings, Stage, Status, Summary, WorkerProgram,
};

/// Returns settings for `files` on the CPU provider.
fn settings(files: &[&Path]) -> Settings {
    let mut settings = Settings::new(files.iter().map(|file| file.as_os_str()));
    settings.detector.provider = Some("cpu".to_owned());
    settings
}

/// Returns all events of a run and its report.
fn events(run: Run) -> (Vec<Event>, Report) {
    let mut events: Vec<Event> = run.collect();
    let Some(Event::End(report)) = events.pop() else { panic!("the last event is not the report") };
    (events, *report)
}

fn finished(events: &[Event]) -> Vec<&Summary> {
    events
        .iter()
        .filter_map(|event| if let Event::FileDone(done) = event { Some(&done.summary) } else { None })
        .collect()
}

/// What a writer received.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Creates a file of 10,000 pictures, which no test reads completely.
fn endless(name: &str) -> PathBuf {
    let source = "testsrc=size=320x240:rate=25:duration=400";
    made(name, &["-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-q:v", "20"])
}

#[test]
fn a_file_start_is_followed_by_its_frames_and_its_summary() {
    let clip = clip();
    let run = Run::start(settings(&[&clip])).unwrap();
    assert_eq!(run.overview().files, [clip.display().to_string()]);
    let (events, report) = events(run);
    assert!(report.error.is_none() && !report.is_cancelled && report.missing == 0, "{report:?}");
    assert_eq!(report.engine.as_ref().unwrap().lanes, 1);
    let order: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::FileStarted(_) => Some("started"),
            Event::Frame(_) => Some("frame"),
            Event::FileDone(_) => Some("done"),
            _ => None,
        })
        .collect();
    assert_eq!(order, [&["started"][..], &["frame"; 16], &["done"]].concat());
    let frames: Vec<_> =
        events.iter().filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None }).collect();
    let first = frames[0];
    assert_eq!((first.pts_ns, first.width, first.height, first.is_keyframe), (Some(0), 640, 480, true));
    let found = &first.detections[0];
    assert_eq!((&*found.label, found.class_id), ("person", Some(0)));
    assert!(found.confidence.unwrap() > 0.5 && found.rectangle[2] > 100.0, "{found:?}");
    let detections: usize = frames.iter().map(|frame| frame.detections.len()).sum();
    let summaries = finished(&events);
    assert_eq!((summaries[0].status, summaries[0].detection_count), (Status::Ok, detections as u64));
}

#[test]
fn lines_tables_and_writers_receive_the_same_frames() {
    let clip = clip();
    let frames = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(&[&clip]);
        change(&mut settings);
        let (events, report) = events(Run::start(settings).unwrap());
        assert!(report.error.is_none(), "{report:?}");
        events
            .into_iter()
            .filter_map(|event| if let Event::Frame(frame) = event { Some(*frame) } else { None })
            .collect::<Vec<_>>()
    };
    let plain = frames(&|_| {});
    let table = scratch("frames.csv");
    assert_eq!(frames(&|settings| settings.output = Output::File(table.clone())), plain);
    assert_eq!(std::fs::read_to_string(&table).unwrap().lines().next().unwrap().split(',').next(), Some("file"));
    let writer = Shared::default();
    assert_eq!(frames(&|settings| settings.output = Output::Writer(Box::new(writer.clone()))), plain);
    let text = String::from_utf8(writer.0.lock().unwrap().clone()).unwrap();
    assert_eq!((text.lines().count(), text.matches("\"status\":\"ok\"").count()), (17, 1));
    // Without frame events the output is the same.
    let writer = Shared::default();
    let silent = |settings: &mut Settings| {
        settings.frame_events = false;
        settings.output = Output::Writer(Box::new(writer.clone()));
    };
    assert!(frames(&silent).is_empty());
    assert_eq!(String::from_utf8(writer.0.lock().unwrap().clone()).unwrap().lines().count(), 17);
}

#[test]
fn a_run_is_cancelled_from_another_thread_and_resumed() {
    let (clip, endless) = (clip(), endless("cancelled.avi"));
    let output = scratch("cancelled.jsonl");
    let mut cancelled = settings(&[&clip, &endless]);
    cancelled.output = Output::File(output.clone());
    cancelled.lanes = Some(1);
    cancelled.order = gstvx::run::Order::AsGiven;
    let mut run = Run::start(cancelled).unwrap();
    let canceller: Canceller = run.canceller();
    let endless_name = endless.display().to_string();
    assert!(run.any(|event| matches!(event, Event::FileStarted(file) if file == endless_name)));
    std::thread::spawn(move || canceller.stop()).join().unwrap();
    let (_, report) = events(run);
    assert!(report.is_cancelled && report.error.is_none() && report.missing == 1, "{report:?}");
    assert_eq!(report.kept_in.as_deref(), Some(&*output.canonicalize().unwrap()));
    // Completed files are kept; the other input has meanwhile been replaced by a short file.
    std::fs::copy(&clip, &endless).unwrap();
    let mut resumed = settings(&[&clip, &endless]);
    resumed.output = Output::File(output.clone());
    resumed.existing = Existing::Resume;
    let run = Run::start(resumed).unwrap();
    assert_eq!(run.overview().comparison.unwrap().known, 1);
    assert_eq!(run.overview().files, [endless_name]);
    let (events, report) = events(run);
    assert!(report.error.is_none() && finished(&events).len() == 1, "{report:?}");
    assert_eq!(std::fs::read_to_string(&output).unwrap().matches("\"status\":\"ok\"").count(), 2);
}

#[test]
fn dropping_a_run_ends_it_and_removes_an_output_without_results() {
    let output = scratch("dropped.jsonl");
    let mut settings = settings(&[&endless("dropped.avi")]);
    settings.output = Output::File(output.clone());
    let mut run = Run::start(settings).unwrap();
    assert!(output.exists() && run.any(|event| matches!(event, Event::FileStarted(_))));
    drop(run);
    assert!(!output.exists());
}

#[test]
fn a_run_that_is_cancelled_before_its_start_reads_nothing() {
    let mut settings = settings(&[&clip()]);
    settings.canceller = Canceller::new();
    settings.canceller.finish();
    let (events, report) = events(Run::start(settings).unwrap());
    assert!(events.is_empty() && report.is_cancelled && !report.has_started, "{events:?} {report:?}");
}

#[test]
fn errors_have_a_stage_and_a_remedy() {
    let clip = clip();
    let error = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(&[&clip]);
        change(&mut settings);
        Run::start(settings).unwrap_err()
    };
    let missing = error(&|settings| settings.detector.model = Some("/nowhere/m.onnx".into()));
    assert!(missing.stage() == Stage::Model && missing.to_string().contains("/nowhere/m.onnx"), "{missing}");
    let property = error(&|settings| settings.properties.push(("max-gp".into(), "1s".into())));
    assert!(property.to_string().contains("did you mean decoder::max-gap"), "{property}");
    let format = error(&|settings| settings.format = Some("parquet".into()));
    assert!(format.to_string().contains("set `output`"), "{format}");
    let existing = scratch("existing.jsonl");
    std::fs::write(&existing, "").unwrap();
    let exists = error(&|settings| settings.output = Output::File(existing.clone()));
    assert!(matches!(&exists, Error::OutputExists { path } if *path == existing), "{exists}");
    assert!(exists.file().is_some() && exists.remedy().unwrap().contains("`overwrite`"));
    let none = Run::start(Settings::new([scratch("empty").parent().unwrap().join("*.none")])).unwrap_err();
    assert_eq!(none.stage(), Stage::Inputs);
    // A file that does not exist is not an error of the run.
    let (events, report) = events(Run::start(settings(&[Path::new("/nowhere/a.mp4")])).unwrap());
    assert!(report.error.is_none() && report.failed == 1, "{report:?}");
    assert!(finished(&events)[0].error.as_ref().unwrap().message.contains("No such file"));
}

#[test]
fn files_are_read_in_worker_processes_of_a_named_program() {
    let clip = clip();
    let mut isolated = settings(&[&clip]);
    isolated.isolate = Some(WorkerProgram {
        program: env!("CARGO_BIN_EXE_vx").into(),
        name: None,
        arguments: ["detect", "--worker"].map(Into::into).into(),
    });
    let (events, report) = events(Run::start(isolated).unwrap());
    assert!(report.error.is_none() && report.workers.unwrap().started == 1, "{report:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Frame(_))).count(), 16);
    assert_eq!(finished(&events)[0].status, Status::Ok);
    let mut wrong = settings(&[&clip]);
    let program = "/nowhere/worker".into();
    wrong.isolate = Some(WorkerProgram { program, name: None, arguments: Vec::new() });
    let report = Run::start(wrong).unwrap().join();
    assert!(report.error.unwrap().to_string().contains("no worker process could be started"));
}

#[test]
fn a_file_is_written_while_a_longer_one_is_being_read() {
    let (long, short) = (endless("longer.avi"), clip());
    let output = scratch("longer.jsonl");
    let mut settings = settings(&[&long, &short]);
    settings.properties = vec![("order".to_owned(), "as-given".to_owned()), ("lanes".to_owned(), "2".to_owned())];
    (settings.output, settings.existing) = (Output::File(output.clone()), Existing::Overwrite);
    let mut run = Run::start(settings).unwrap();
    let first = run.find_map(|event| if let Event::FileDone(done) = event { Some(done.summary) } else { None });
    assert_eq!(first.unwrap().file, short.display().to_string());
    // As if the run was killed now.
    let text = std::fs::read_to_string(&output).unwrap();
    assert_eq!((text.matches("\"status\":\"ok\"").count(), text.matches("longer.avi").count()), (1, 0));
    run.canceller().stop();
}

#[test]
fn a_run_is_stopped_only_by_a_file_that_failed_and_not_by_other_errors() {
    let clip = clip();
    let with_bad_input = |program: Option<&str>| {
        let mut settings = settings(&[&clip, Path::new("/nowhere/a.mp4")]);
        // An input that is not a file counts as a failed one, and stops nothing.
        settings.inputs.push(gstvx::run::Input::List(vec!["rtsp://127.0.0.1/a".to_owned()]));
        settings.properties = vec![("on-error".to_owned(), "stop".to_owned())];
        settings.isolate =
            program.map(|program| WorkerProgram { program: program.into(), name: None, arguments: vec![] });
        Run::start(settings).unwrap().join()
    };
    let report = with_bad_input(Some("/bin/false"));
    assert!(matches!(&report.error, Some(Error::Failed { .. })) && report.failed == 1, "{report:?}");
    let report = with_bad_input(None);
    let Some(Error::Stopped { reason }) = &report.error else { panic!("{report:?}") };
    assert!(reason.contains("/nowhere/a.mp4"), "{reason}");
}

#[test]
fn making_a_plan_reads_no_files() {
    let plan = Run::plan(&settings(&[&clip()])).unwrap();
    assert_eq!((plan.files.len(), plan.lanes, &*plan.provider), (1, 1, "CPUExecutionProvider"));
}
