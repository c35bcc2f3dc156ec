// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects of GStreamer that outlive a test: `make leaks` runs every element test in a process of its own, with the tracer `leaks`.

use gst::prelude::*;
use std::time::{Duration, Instant};

/// Time in which threads of a stopped pipeline give up what they still hold.
const PATIENCE: Duration = Duration::from_secs(5);

/// At the end of the thread that a test runs in, ends the process with an error if objects are alive.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut objects = alive();
        while !objects.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            objects = alive();
        }
        if !objects.is_empty() {
            eprintln!("alive at the end of the test:\n{}", objects.join("\n"));
            std::process::exit(1);
        }
    }
}

/// Watches the thread of this test if the tracer is active. Threads that a test starts have no name.
pub fn watch() {
    thread_local! { static WATCH: Watch = const { Watch } }
    if tracer().is_some() && std::thread::current().name().is_some() {
        WATCH.with(|_| ());
    }
}

fn tracer() -> Option<gst::Tracer> {
    gst::active_tracers().into_iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer")
}

/// Describes the objects that the tracer watches.
fn alive() -> Vec<String> {
    let Some(objects) =
        tracer().and_then(|tracer| tracer.emit_by_name::<Option<gst::Structure>>("get-live-objects", &[]))
    else {
        return Vec::new();
    };
    let list = objects.get::<gst::List>("live-objects-list").unwrap();
    list.iter().map(|object| object.get::<gst::Structure>().unwrap().to_string()).collect()
}
