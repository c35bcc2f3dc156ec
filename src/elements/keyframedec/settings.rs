//! The properties of `vxkeyframedec` and their defaults.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::av;

/// How the decoder may use several threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxThreadType")]
pub enum ThreadType {
    /// Whatever is best for most: several keyframes at once.
    #[default]
    #[enum_value(name = "Auto: several keyframes at once", nick = "auto")]
    Auto,
    /// Several keyframes at once.
    #[enum_value(name = "Frame: several keyframes at once (throughput)", nick = "frame")]
    Frame,
    /// Several slices of one keyframe at once.
    #[enum_value(name = "Slice: several slices of one keyframe at once (latency)", nick = "slice")]
    Slice,
}

/// Which way up frames are put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxOrientation")]
pub enum Orientation {
    /// As players show them.
    #[default]
    #[enum_value(name = "Upright: turned as the container asks, as players show them", nick = "upright")]
    Upright,
    /// As they are stored.
    #[enum_value(name = "Stored: as coded, with an image-orientation tag", nick = "stored")]
    Stored,
}

/// What a user can set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub thread_count: u32,
    pub thread_type: ThreadType,
    pub orientation: Orientation,
    pub spool_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thread_count: 0,
            thread_type: ThreadType::default(),
            orientation: Orientation::default(),
            spool_limit: 4 << 30,
        }
    }
}

/// Most threads that the automatic choice gives one decoder: more only add latency and memory when frames are keyframes.
const AUTOMATIC_THREADS: usize = 4;

impl Settings {
    /// The decoder's threads. Automatic is one for each core, four at most.
    pub fn threads(&self) -> av::ThreadOptions {
        let automatic = num_cpus::get().min(AUTOMATIC_THREADS) as u32;
        av::ThreadOptions {
            count: if self.thread_count == 0 { automatic } else { self.thread_count },
            kind: match self.thread_type {
                ThreadType::Auto | ThreadType::Frame => av::ThreadType::Frame,
                ThreadType::Slice => av::ThreadType::Slice,
            },
        }
    }

    /// Takes a property's new value.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let fits = "GObject has checked the value against the property's type";
        match name {
            "thread-count" => self.thread_count = value.get().expect(fits),
            "thread-type" => self.thread_type = value.get().expect(fits),
            "orientation" => self.orientation = value.get().expect(fits),
            "spool-limit" => self.spool_limit = value.get().expect(fits),
            _ => unreachable!("GObject passes on only properties of the list below"),
        }
    }

    /// A property's value; `None` for those that are not settings.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "thread-count" => self.thread_count.to_value(),
            "thread-type" => self.thread_type.to_value(),
            "orientation" => self.orientation.to_value(),
            "spool-limit" => self.spool_limit.to_value(),
            _ => return None,
        })
    }
}

/// The properties.
pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecUInt::builder("thread-count")
            .nick("Thread count")
            .blurb("Threads of the decoder (0 = automatic: one for each core, 4 at most)")
            .maximum(64)
            .default_value(defaults.thread_count)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<ThreadType>("thread-type")
            .nick("Thread type")
            .blurb("What the decoder's threads share: frames or slices")
            .default_value(defaults.thread_type)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Orientation>("orientation")
            .nick("Orientation")
            .blurb("Whether frames of turned recordings (phones) are put upright")
            .default_value(defaults.orientation)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("spool-limit")
            .nick("Spool limit")
            .blurb(
                "Most bytes kept in a temporary file when a source without random access delivers a file that has to \
                 be searched (an mp4 with its index at the end, avi)",
            )
            .default_value(defaults.spool_limit)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("What was read and decoded so far: counts, bytes, and times in nanoseconds")
            .read_only()
            .build(),
    ]
});
