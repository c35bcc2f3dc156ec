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

mod detection;
mod engine;
mod error;
mod layouts;
mod model;
mod onnx;
mod pixels;
mod runtime;

pub use detection::{Details, DetectSettings, Detection, Mask, Rotated};
pub use engine::job::{FrameResult, Ticket};
pub use engine::plan::{EngineSpec, MAX_BATCH_SIZE, MAX_THREADS, OptimizeFor};
pub use engine::{Engine, EngineStats};
pub use error::{Error, Result};
pub use layouts::task::Task;
pub use layouts::{COCO, Family, Layout};
pub use model::description::{Batch, Model};
pub use model::labels::{Labels, MAX_LABEL_FILE};
pub use model::reading::{InputRange, Reading};
pub use onnx::file::{MAX_MODEL, ModelSource, read_regular};
pub use onnx::input::{DEFAULT_SIDE, MAX_SIDE};
pub use onnx::python_literal::MAX_CLASSES;
pub use onnx::tensor::{Dimension, ElementType, TensorInfo};
pub use pixels::input_format::{ChannelOrder, Filter, InputForm, Normalise, PADDING, SlotMut};
pub use pixels::letterbox::{Anchor, Letterbox};
pub use pixels::picture::{Area, Frame, MAX_DIMENSION, Matrix, Picture, Plane, Range};
pub use pixels::pixel_format::PixelFormat;
pub use pixels::preparer::Preparer;
pub use runtime::library::{LogLevel, LogSink, Runtime, RuntimeOptions};
pub use runtime::provider::{Precision, Provider, ProviderReport, Tuning};
