// SPDX-License-Identifier: MIT OR Apache-2.0
//! Object detection with ONNX models: pictures, models, output layouts, ONNX Runtime, and the engine that runs them.
//!
//! Pixels come in as borrowed planes ([`Picture`]) behind a [`Frame`]; detections are returned in pixels of that frame. The layer
//! knows nothing of GStreamer and FFmpeg, never logs (ONNX Runtime's own log goes to an injected [`LogSink`]), and exposes no
//! type of `ort`.
//!
//! The path of one frame: [`Engine::submit`] puts it into the engine's bounded queue; a worker thread, which owns one session,
//! writes the letterboxed and normalised pixels into the model's input (`pixels`), runs the model (`runtime`), decodes its
//! outputs by the model's [`OutputLayout`], suppresses overlaps and maps the boxes back (`layouts`); [`Ticket::wait`] returns the
//! [`FrameResult`].
//!
//! Each module uses only those before it: `pixels`, `onnx`, `layouts`, `runtime`, `model`, `engine`.
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

mod cache;
mod detection;
mod engine;
mod error;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod layouts;
mod model;
mod onnx;
mod pixels;
mod runtime;

pub use cache::{MAX_CACHE, user_cache};
pub use detection::{DEFAULT_CONFIDENCE, Details, DetectSettings, Detection, Mask, Rotated};
pub use engine::job::{FrameResult, OnAnswer, Ticket};
pub use engine::plan::{EngineSpec, MAX_BATCH_SIZE, MAX_THREADS, OptimizeFor};
pub use engine::{Engine, EngineStats};
pub use error::{Error, Result};
pub(crate) use layouts::selectable_layouts;
pub use layouts::task::Task;
pub use layouts::{COCO, ModelLayout, OutputLayout};
pub use model::description::{Batch, Model};
pub use model::hints::{InputRange, InputSize, ModelHints};
pub use model::labels::{Labels, MAX_LABEL_FILE};
pub use onnx::file::{MAX_MODEL, ModelSource, read_regular};
pub use onnx::input::{DEFAULT_SIDE, MAX_SIDE};
pub use onnx::python_literal::MAX_CLASSES;
pub use onnx::tensor::{Dimension, ElementType, TensorInfo};
pub use pixels::input_format::{ChannelOrder, Filter, InputFormat, Normalise, PADDING, SlotMut};
pub use pixels::letterbox::{Letterbox, ResizeMode};
pub use pixels::picture::{Area, Frame, MAX_DIMENSION, Matrix, Picture, Plane, Range};
pub use pixels::pixel_format::PixelFormat;
pub(crate) use pixels::pixel_format::{ColourModel, Component, SampleLayout};
pub use pixels::preparer::Preparer;
pub use runtime::library::{LogLevel, LogSink, Runtime, RuntimeOptions};
pub use runtime::provider::{OperatorCounts, PluginProvider, Precision, Provider, ProviderReport, Tuning};
