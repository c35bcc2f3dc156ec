//! Everything about models: ONNX Runtime, sessions, providers, letterbox, output layouts, suppression, labels, the engine.
//!
//! Pixels come in as borrowed planes ([`Picture`]) behind a [`Frame`]; detections come out in pixels of that frame. The layer
//! knows nothing of GStreamer and FFmpeg, never logs (ONNX Runtime's own log goes to an injected [`LogSink`]), and shows no
//! type of `ort` to anybody.
//!
//! One frame's way: [`Engine::submit`] puts it into the engine's bounded queue; a worker thread, which owns one session,
//! writes the pixels letterboxed and normalised into the model's input (`prepare`), runs the model, reads its output by the
//! model's [`Layout`] (`layouts`, `decode`), suppresses overlaps (`nms`) and maps the boxes back; [`Ticket::wait`] gives the
//! [`FrameResult`].
//!
//! ```no_run
//! use gstvx::detect::{DetectSettings, Engine, EngineSpec, Frame, Labels, Runtime, RuntimeOptions};
//! # fn frame() -> Box<dyn Frame> { unimplemented!() }
//! # fn main() -> Result<(), gstvx::detect::Error> {
//! let (runtime, _note) = Runtime::load(&RuntimeOptions::default())?;
//! let engine = Engine::acquire(runtime, &EngineSpec::default())?;
//! let (labels, _warning) = Labels::resolve(engine.model(), None)?;
//! let result = engine.submit(frame(), DetectSettings::default().into()).wait()?;
//! for found in result.detections {
//!     println!("{} {:.2}", labels.name(found.class_id), found.confidence);
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod accelerator;
mod area;
mod batches;
mod binding;
mod cancel;
mod colour;
mod decode;
mod detection;
mod engine;
mod error;
mod exact;
mod form;
mod format;
mod input;
mod job;
mod label_file;
mod labels;
mod layouts;
mod letterbox;
mod literal;
mod loading;
mod model;
mod modelinfo;
mod nms;
mod picture;
mod plan;
mod prepare;
#[cfg(test)]
mod prepare_tests;
mod processor;
mod provider;
mod quantised;
mod registry;
mod runtime;
mod sanity;
mod session;
mod shutdown;
mod source;
mod taps;
mod task;
mod tensor;
mod trial;
mod weights;
mod worker;

pub use detection::{DetectSettings, Detection};
pub use engine::{Engine, EngineStats};
pub use error::{Error, Result};
pub use form::{ChannelOrder, Filter, InputForm, Normalise, PADDING, SlotMut};
pub use format::PixelFormat;
pub use input::{DEFAULT_SIDE, MAX_SIDE};
pub use job::{FrameResult, Ticket};
pub use labels::{COCO, Labels, MAX_LABEL_FILE};
pub use layouts::{Family, Layout};
pub use letterbox::{Anchor, Letterbox};
pub use literal::MAX_CLASSES;
pub use model::{Batch, Model};
pub use picture::{Area, Frame, MAX_DIMENSION, Matrix, Picture, Plane, Range};
pub use plan::{EngineSpec, InputRange, MAX_BATCH_SIZE, MAX_THREADS, OptimizeFor, Reading};
pub use prepare::Preparer;
pub use provider::{Precision, Provider, ProviderReport, Tuning};
pub use runtime::{LogLevel, LogSink, Runtime, RuntimeOptions};
pub use source::read_regular;
pub use source::{MAX_MODEL, ModelSource};
pub use task::{Details, Mask, Rotated, Task};
pub use tensor::{Dimension, ElementType, TensorInfo};
