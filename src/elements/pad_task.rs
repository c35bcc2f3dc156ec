// SPDX-License-Identifier: MIT OR Apache-2.0
//! The streaming task of a pad, which can be stopped even if its thread could not be started.

use std::sync::atomic::{AtomicBool, Ordering};

use gst::glib;
use gst::prelude::*;
use parking_lot::Mutex;

/// Starts and stops the task of one pad.
#[derive(Debug, Default)]
pub struct PadTask {
    has_failed: AtomicBool,
    /// The task, from its creation until it is stopped.
    task: Mutex<Option<gst::Task>>,
}

impl PadTask {
    /// Takes note of the task when GStreamer announces it. Elements call this for each message that they post.
    pub fn observe(&self, element: &impl IsA<gst::Object>, message: &gst::Message) {
        let gst::MessageView::StreamStatus(status) = message.view() else { return };
        // Bins also post the messages of their elements.
        let is_own =
            message.src().is_some_and(|pad| pad.parent().as_ref() == Some(element.upcast_ref::<gst::Object>()));
        if is_own && status.get().0 == gst::StreamStatusType::Create {
            *self.task.lock() = status.stream_status_object().and_then(|object| object.get().ok());
        }
    }

    /// Starts the task, or continues it after a pause. If its thread cannot be started, posts an error message.
    ///
    /// # Errors
    /// If its thread cannot be started, now or at an earlier attempt.
    pub fn start(&self, pad: &gst::Pad, iterate: impl FnMut() + Send + 'static) -> Result<(), glib::BoolError> {
        let failed = || glib::bool_error!("no thread could be started for the streaming task");
        if self.has_failed.load(Ordering::Acquire) {
            return Err(failed());
        }
        if let Some(task) = &*self.task.lock() {
            // gst_pad_start_task would not free the function that it does not need (GStreamer 1.20 to 1.26).
            return task.start();
        }
        pad.start_task(iterate).map_err(|_| {
            self.has_failed.store(true, Ordering::Release);
            // GLib keeps the task and runs it on the next thread that is free (g_thread_pool_push).
            let _ = pad.pause_task();
            // A pad that is disposed waits for its task.
            std::mem::forget(pad.clone());
            if let Some(element) = pad.parent_element() {
                gst::element_error!(
                    element,
                    gst::ResourceError::Failed,
                    ("No thread could be started: there are too many, or there is too little memory for another")
                );
            }
            failed()
        })
    }

    /// Stops the task and waits for its end.
    ///
    /// # Errors
    /// Those of [`PadExt::stop_task`](gst::prelude::PadExtManual::stop_task).
    pub fn stop(&self, pad: &gst::Pad) -> Result<(), glib::BoolError> {
        self.task.lock().take();
        // GStreamer counts a task without a thread as running and would wait for its end for ever (gst_task_join in 1.20 to 1.26).
        if self.has_failed.load(Ordering::Acquire) { Ok(()) } else { pad.stop_task() }
    }
}
