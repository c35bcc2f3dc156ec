// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxbulkbin` in a pipeline of its own: its lines assembled into file records, its messages as updates.
//!
//! The element's threads send [`Update`]s to a channel. Calls of a [`Pipeline`] may wait for these threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;
use gst::prelude::*;
use parking_lot::Mutex;

use super::error::Error;
use super::event::{Progress, Warning};
use super::file_record::{Assembler, FileRecord};
use super::libraries;
use super::properties::{self, Properties};
use crate::elements::bulkbin::{BulkBin, FILE_MESSAGE};
use crate::elements::error_details::MODEL_DETAILS;
use crate::elements::{latency, library_paths};

/// What happens in a pipeline or in worker processes.
#[derive(Debug)]
pub(super) enum Update {
    /// A file is being read from now on.
    Started(String),
    /// Lines as they come, where [`Delivery::Lines`] is selected.
    Lines(Vec<u8>),
    /// A file is done.
    Done(Box<FileRecord>),
    /// A warning.
    Warning(Warning),
    /// The run cannot continue.
    Error(String),
    /// The run stops because a file failed.
    Stopped(String),
    /// All files are done.
    End,
    /// Wakes the receiver: the run was cancelled.
    Wake,
}

/// How results are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// A file's lines at once, when the file is done.
    Files,
    /// Lines as they come, and at the end of a file its summary.
    Lines,
}

/// A `vxbulkbin` that runs.
pub(super) struct Pipeline {
    pipeline: gst::Pipeline,
    bin: gst::Element,
    pad: gst::Pad,
    /// The first error of the elements since the last change of state began.
    error: Arc<Mutex<Option<String>>>,
}

/// Starts GStreamer with the elements that are linked into this program. [`Run::start`](super::Run::start) does so too.
///
/// # Errors
/// GStreamer's.
pub fn init() -> Result<(), Error> {
    static DONE: OnceLock<Result<(), Error>> = OnceLock::new();
    gst::init().map_err(|error| Error::GStreamer(error.to_string()))?;
    DONE.get_or_init(|| {
        // Before the elements of this program replace those of an installed plugin.
        let installed = gst::Registry::get().find_plugin("vx").and_then(|plugin| plugin.filename());
        library_paths::set_library_dirs(libraries::library_dirs(installed.as_deref()));
        crate::plugin_register_static().map_err(|error| Error::GStreamer(error.to_string()))?;
        // What FFmpeg reports about broken files is in their summaries, and with the file's name in the debug log.
        crate::av::capture_log();
        latency::start_if_requested();
        Ok(())
    })
    .clone()
}

impl Pipeline {
    /// Creates it, without loading the model; what happens is sent to `updates`.
    ///
    /// # Errors
    /// An unknown property or an invalid value.
    pub fn new(properties: &Properties, updates: &Sender<Update>, delivery: Delivery) -> Result<Self, String> {
        let bin = properties::new_bin()?;
        for (name, value) in properties {
            properties::set(&bin, name, value)?;
        }
        if delivery == Delivery::Files
            && let Some(bin) = bin.downcast_ref::<BulkBin>()
        {
            bin.output_whole_files();
        }
        let pipeline = gst::Pipeline::new();
        pipeline.add(&bin).map_err(|error| error.to_string())?;
        let pad = line_pad(updates.clone(), delivery);
        let source = bin.static_pad("src").ok_or("vxbulkbin has no pad src")?;
        source.link(&pad).map_err(|error| error.to_string())?;
        let (updates, graph) = (updates.clone(), pipeline.downgrade());
        let is_drawn = AtomicBool::new(false);
        let error = Arc::<Mutex<Option<String>>>::default();
        let first_error = Arc::clone(&error);
        pipeline.bus().ok_or("the pipeline has no bus")?.set_sync_handler(move |_bus, message| {
            if let Some(update) = update_of(message) {
                // Only if GST_DEBUG_DUMP_DOT_DIR is set.
                if let (Update::Started(_), Some(graph)) = (&update, graph.upgrade())
                    && !is_drawn.swap(true, Ordering::Relaxed)
                {
                    graph.debug_to_dot_file(gst::DebugGraphDetails::all(), "vx-detect");
                }
                if let Update::Error(reason) = &update {
                    first_error.lock().get_or_insert_with(|| reason.clone());
                }
                // There may be no receiver any more.
                let _ = updates.send(update);
            }
            gst::BusSyncReply::Drop
        });
        Ok(Self { pipeline, bin, pad, error })
    }

    /// Loads the model.
    ///
    /// # Errors
    /// The elements' reason, or a general one.
    pub fn load(&self) -> Result<(), String> {
        self.set_state(gst::State::Ready, "the model could not be loaded")
    }

    /// Reads `files`.
    ///
    /// # Errors
    /// The elements' reason, or a general one.
    pub fn start(&self, files: &[String]) -> Result<(), String> {
        self.bin.set_property("files", files.to_vec());
        self.pad.set_active(true).map_err(|error| error.to_string())?;
        self.set_state(gst::State::Playing, "the run could not be started")
    }

    fn set_state(&self, state: gst::State, general: &str) -> Result<(), String> {
        *self.error.lock() = None;
        let result = self.pipeline.set_state(state);
        result.map(|_| ()).map_err(|_| self.error.lock().take().unwrap_or_else(|| general.to_owned()))
    }

    /// Prepares for another list of files after [`Update::End`].
    ///
    /// # Errors
    /// The elements do not reach the state READY.
    pub fn reset(&self) -> Result<(), String> {
        let _ = self.pad.set_active(false);
        self.set_state(gst::State::Ready, "the run could not be ended")
    }

    /// Begins no other file.
    pub fn finish(&self) {
        self.bin.send_event(gst::event::Eos::new());
    }

    /// Returns the statistics so far.
    pub fn stats(&self) -> gst::Structure {
        self.bin.property("stats")
    }

    /// Returns how far the files are that are being read.
    pub fn progress(&self) -> Vec<Progress> {
        let running = self.stats().get::<gst::Array>("running").unwrap_or_default();
        let files = running.iter().filter_map(|file| file.get::<gst::Structure>().ok());
        files.map(|file| progress_of(&file)).collect()
    }

    /// Returns the element.
    pub fn element(&self) -> gst::Element {
        self.bin.clone()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.pad.set_active(false);
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn progress_of(structure: &gst::StructureRef) -> Progress {
    let number = |field: &str| structure.get::<u64>(field).unwrap_or(0);
    let seconds = |field: &str| structure.get::<gst::ClockTime>(field).ok().map(gst::ClockTime::seconds_f64);
    Progress {
        file: structure.get("file").unwrap_or_default(),
        frames: number("keyframes") + number("frames-between"),
        detections: number("detections"),
        position_seconds: seconds("position").unwrap_or(0.0),
        duration_seconds: seconds("duration").filter(|seconds| *seconds > 0.0),
    }
}

/// Returns the update that a message on the bus stands for, if any.
fn update_of(message: &gst::Message) -> Option<Update> {
    match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element.structure().filter(|structure| structure.name() == FILE_MESSAGE)?;
            let is_start = structure.get::<&str>("status") == Ok("started");
            is_start.then(|| structure.get::<String>("file").ok().map(Update::Started)).flatten()
        }
        gst::MessageView::Error(error) => {
            let is_about_file = error.details().is_some_and(|details| details.name() == FILE_MESSAGE);
            let reason = error.error().message().to_owned();
            Some(if is_about_file { Update::Stopped(reason) } else { Update::Error(reason) })
        }
        // A file's warnings are in its summary; the others are about the run.
        gst::MessageView::Warning(warning) => {
            let is_about_file = warning.details().is_some_and(|details| details.name() == FILE_MESSAGE);
            let is_about_run = message.src().is_none_or(|source| {
                let name = source.name();
                !is_about_file && !["source", "decoder", "encoder"].iter().any(|own| name.starts_with(own))
            });
            let is_about_model = warning.details().is_some_and(|details| details.name() == MODEL_DETAILS);
            let text = warning.error().message().to_owned();
            is_about_run.then_some(Update::Warning(Warning { is_about_model, text }))
        }
        _ => None,
    }
}

fn line_pad(updates: Sender<Update>, delivery: Delivery) -> gst::Pad {
    let assembler = match delivery {
        Delivery::Lines => Assembler::of_summaries(),
        Delivery::Files => Assembler::default(),
    };
    let (assembler, at_end) = (Mutex::new(assembler), updates.clone());
    gst::Pad::builder(gst::PadDirection::Sink)
        .name("lines")
        .chain_function(move |_pad, _parent, buffer| {
            let bytes = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            if delivery == Delivery::Lines {
                updates.send(Update::Lines(bytes.to_vec())).map_err(|_| gst::FlowError::Eos)?;
            }
            let complete = assembler.lock().push(&bytes);
            for file in complete {
                updates.send(Update::Done(Box::new(file))).map_err(|_| gst::FlowError::Eos)?;
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_pad, _parent, event| {
            if event.type_() == gst::EventType::Eos {
                let _ = at_end.send(Update::End);
            }
            true
        })
        .build()
}
