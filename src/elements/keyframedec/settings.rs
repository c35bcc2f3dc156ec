// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of `vxkeyframedec` and their defaults.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use crate::av;

/// How the decoder may use several threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxThreadType")]
pub enum ThreadType {
    /// Several keyframes at once, the best choice for most uses.
    #[default]
    #[enum_value(name = "Auto: several keyframes at once", nick = "auto")]
    Auto,
    /// Several keyframes at once.
    #[enum_value(name = "Frame: several keyframes at once (throughput)", nick = "frame")]
    Frame,
    /// Several slices of one keyframe at once.
    #[enum_value(name = "Slice: several slices of one keyframe at once (latency)", nick = "slice")]
    Slice,
    /// One keyframe after the other.
    #[enum_value(name = "None: one keyframe after the other", nick = "none")]
    None,
}

/// What decodes. The nicks are FFmpeg's names of device kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxHardware")]
pub enum Hardware {
    /// The processor.
    #[default]
    #[enum_value(name = "None: the processor decodes", nick = "none")]
    None,
    /// A device, or the processor.
    #[enum_value(name = "Auto: a device if there is one for the file, else the processor", nick = "auto")]
    Auto,
    /// NVDEC.
    #[enum_value(name = "NVIDIA NVDEC", nick = "cuda")]
    Cuda,
    /// VA-API.
    #[enum_value(name = "VA-API (Intel, AMD)", nick = "vaapi")]
    Vaapi,
    /// Quick Sync.
    #[enum_value(name = "Intel Quick Sync Video", nick = "qsv")]
    Qsv,
    /// macOS and iOS.
    #[enum_value(name = "Apple VideoToolbox", nick = "videotoolbox")]
    VideoToolbox,
    /// Windows, from 8 on.
    #[enum_value(name = "Direct3D 11", nick = "d3d11va")]
    D3d11va,
    /// Windows, before 8.
    #[enum_value(name = "DirectX Video Acceleration 2", nick = "dxva2")]
    Dxva2,
    /// X11.
    #[enum_value(name = "VDPAU", nick = "vdpau")]
    Vdpau,
    /// Vulkan Video, from FFmpeg 7 on.
    #[enum_value(name = "Vulkan Video", nick = "vulkan")]
    Vulkan,
    /// Stateless decoders of ARM boards.
    #[enum_value(name = "Direct Rendering Manager", nick = "drm")]
    Drm,
    /// Android.
    #[enum_value(name = "Android MediaCodec", nick = "mediacodec")]
    MediaCodec,
}

impl Hardware {
    fn nick(self) -> &'static str {
        glib::EnumValue::from_value(&self.to_value()).map_or("none", |(_, value)| value.nick())
    }
}

/// Orientation of output frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxOrientation")]
pub enum Orientation {
    /// As players show them.
    #[default]
    #[enum_value(name = "Upright: rotated as the container specifies, as in players", nick = "upright")]
    Upright,
    /// As they are stored.
    #[enum_value(name = "Stored: as coded, with an image-orientation tag", nick = "stored")]
    Stored,
}

/// Frames of which the decoder skips the in-loop deblocking filter. The nicks are FFmpeg's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxSkipLoopFilter")]
pub enum SkipLoopFilter {
    /// No frame: pixels are those of a complete decode.
    #[default]
    #[enum_value(name = "None: complete decode", nick = "none")]
    None,
    /// Every frame.
    #[enum_value(name = "All: faster, pixels differ slightly", nick = "all")]
    All,
}

/// Values of the properties.
#[derive(Debug, Clone)]
pub struct Settings {
    pub thread_count: u32,
    pub thread_type: ThreadType,
    pub hardware: Hardware,
    pub hardware_device: Option<String>,
    pub skip_loop_filter: SkipLoopFilter,
    pub orientation: Orientation,
    pub stream_index: i32,
    pub min_interval: u64,
    pub max_gap: u64,
    pub max_frames: u64,
    pub max_pixels: u64,
    pub io_timeout: u64,
    pub spool_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thread_count: 0,
            thread_type: ThreadType::default(),
            hardware: Hardware::default(),
            hardware_device: None,
            skip_loop_filter: SkipLoopFilter::default(),
            orientation: Orientation::default(),
            stream_index: -1,
            min_interval: 0,
            max_gap: 0,
            max_frames: 0,
            max_pixels: av::DEFAULT_MAX_PIXELS,
            io_timeout: 30_000_000_000,
            spool_limit: 4 << 30,
        }
    }
}

/// Returns the other name of a property that has two.
pub fn alias_of(name: &str) -> Option<&'static str> {
    match name {
        "threads" => Some("thread-count"),
        "thread-count" => Some("threads"),
        _ => None,
    }
}

/// Most threads of the automatic choice: more only add latency and memory when all frames are keyframes.
const AUTOMATIC_THREADS: usize = 4;

impl Settings {
    /// Converts the settings into the options of the FFmpeg layer, with frame memory from `pool`.
    pub fn to_options(&self, pool: &av::FramePool, log: av::LogSink) -> av::Options {
        av::Options {
            decoder: av::DecoderOptions {
                threads: self.threads(),
                hardware: self.hardware(),
                max_pixels: self.max_pixels,
                skip_loop_filter: self.skip_loop_filter == SkipLoopFilter::All,
            },
            stream_index: u32::try_from(self.stream_index).ok(),
            min_interval_ns: self.min_interval,
            max_gap_ns: self.max_gap,
            max_frames: self.max_frames,
            pool: pool.clone(),
            log,
        }
    }

    fn hardware(&self) -> av::Hardware {
        match self.hardware {
            Hardware::None => av::Hardware::None,
            Hardware::Auto => av::Hardware::Auto,
            named => {
                let device = self.hardware_device.clone().filter(|device| !device.is_empty());
                av::Hardware::Named { kind: named.nick().to_owned(), device }
            }
        }
    }

    /// Returns the longest wait for upstream's next bytes.
    pub fn io_timeout(&self) -> Option<Duration> {
        (self.io_timeout > 0).then(|| Duration::from_nanos(self.io_timeout))
    }

    /// Returns the decoder's threads. Automatic is one for each core, four at most.
    fn threads(&self) -> av::ThreadOptions {
        let automatic = num_cpus::get().min(AUTOMATIC_THREADS) as u32;
        av::ThreadOptions {
            count: if self.thread_count == 0 { automatic } else { self.thread_count },
            kind: match self.thread_type {
                ThreadType::Auto | ThreadType::Frame => av::ThreadType::Frame,
                ThreadType::Slice => av::ThreadType::Slice,
                ThreadType::None => av::ThreadType::None,
            },
        }
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let fits = "GObject has checked the value against the property's type";
        match name {
            "threads" | "thread-count" => self.thread_count = value.get().expect(fits),
            "thread-type" => self.thread_type = value.get().expect(fits),
            "hardware" => self.hardware = value.get().expect(fits),
            "hardware-device" => self.hardware_device = value.get().expect(fits),
            "skip-loop-filter" => self.skip_loop_filter = value.get().expect(fits),
            "orientation" => self.orientation = value.get().expect(fits),
            "stream-index" => self.stream_index = value.get().expect(fits),
            "min-interval" => self.min_interval = value.get().expect(fits),
            "max-gap" => self.max_gap = value.get().expect(fits),
            "max-frames" => self.max_frames = value.get().expect(fits),
            "max-pixels" => self.max_pixels = value.get().expect(fits),
            "io-timeout" => self.io_timeout = value.get().expect(fits),
            "spool-limit" => self.spool_limit = value.get().expect(fits),
            _ => unreachable!("GObject passes on only properties of the list below"),
        }
    }

    /// Returns a property's value; `None` for those that are not settings.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "threads" | "thread-count" => self.thread_count.to_value(),
            "thread-type" => self.thread_type.to_value(),
            "hardware" => self.hardware.to_value(),
            "hardware-device" => self.hardware_device.to_value(),
            "skip-loop-filter" => self.skip_loop_filter.to_value(),
            "orientation" => self.orientation.to_value(),
            "stream-index" => self.stream_index.to_value(),
            "min-interval" => self.min_interval.to_value(),
            "max-gap" => self.max_gap.to_value(),
            "max-frames" => self.max_frames.to_value(),
            "max-pixels" => self.max_pixels.to_value(),
            "io-timeout" => self.io_timeout.to_value(),
            "spool-limit" => self.spool_limit.to_value(),
            _ => return None,
        })
    }
}

/// The properties.
pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Decoder threads (0 = automatic: one for each core, at most 4)")
            .maximum(64)
            .default_value(defaults.thread_count)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("thread-count")
            .nick("Thread count")
            .blurb("Alias of threads")
            .maximum(64)
            .default_value(defaults.thread_count)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<ThreadType>("thread-type")
            .nick("Thread type")
            .blurb("Work that the decoder threads share: frames or slices")
            .default_value(defaults.thread_type)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Hardware>("hardware")
            .nick("Hardware")
            .blurb("Device that decodes, through FFmpeg; naming one that is missing is an error")
            .default_value(defaults.hardware)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("hardware-device")
            .nick("Hardware device")
            .blurb("Device by FFmpeg's name, if there are several: an index for cuda, a path for vaapi (unset = the first)")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<SkipLoopFilter>("skip-loop-filter")
            .nick("Skip loop filter")
            .blurb("Frames to decode without the in-loop deblocking filter: faster, pixels differ slightly")
            .default_value(defaults.skip_loop_filter)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Orientation>("orientation")
            .nick("Orientation")
            .blurb("Apply the container's rotation (phone recordings), or output frames as stored")
            .default_value(defaults.orientation)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("stream-index")
            .nick("Stream index")
            .blurb("Index of the stream to decode, as in ffprobe (-1 = the video that players show)")
            .minimum(-1)
            .default_value(defaults.stream_index)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("min-interval")
            .nick("Minimum interval")
            .blurb("Skip keyframes that follow another by less than this, in nanoseconds (0 = none)")
            .default_value(defaults.min_interval)
            .mutable_playing()
            .build(),
        number(
            "max-gap",
            "Maximum gap",
            "Where keyframes are further apart than this, in nanoseconds, output frames between them too (0 = keyframes only)",
            defaults.max_gap,
        ),
        number("max-frames", "Maximum frames", "End after this many frames (0 = all)", defaults.max_frames),
        number("max-pixels", "Maximum pixels", "Reject pictures with more pixels than this", defaults.max_pixels),
        number(
            "io-timeout",
            "Input timeout",
            "Fail when upstream delivers nothing for this long, in nanoseconds (0 = never)",
            defaults.io_timeout,
        ),
        glib::ParamSpecUInt64::builder("spool-limit")
            .nick("Spool limit")
            .blurb(
                "Most bytes in a temporary file when a source without random access delivers a file that needs it (an mp4 \
                 with its index at the end, avi)",
            )
            .default_value(defaults.spool_limit)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts, bytes, and times in nanoseconds of what was read and decoded so far")
            .read_only()
            .build(),
    ]
});

fn number(name: &str, nick: &str, blurb: &str, default: u64) -> glib::ParamSpec {
    glib::ParamSpecUInt64::builder(name).nick(nick).blurb(blurb).default_value(default).mutable_ready().build()
}
