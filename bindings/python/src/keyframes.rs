// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes as arrays. A thread of its own reads ahead, so that a wait can end with a signal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;

use gstvx::av::{Info, Interrupt};
use gstvx::path::path_of;
use gstvx::run::{self, KeyframeSettings, SamplingSettings};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::plane::Plane;
use crate::settings::duration;
use crate::waiting::SIGNAL_INTERVAL;
use crate::{error, process};

/// Keyframes that are read ahead.
const READ_AHEAD: usize = 2;

/// FFmpeg's names of the formats with names of their own.
const FORMATS: [(&str, &str); 2] = [("rgb", "rgb24"), ("bgr", "bgr24")];

enum Message {
    Opened(Box<Info>),
    Keyframe(Box<gstvx::av::Keyframe>),
    Failed(run::Error),
    /// The end, and why frames may be missing.
    End(Vec<String>),
}

/// The thread that reads, and its messages.
struct Reader {
    messages: Receiver<Message>,
    thread: JoinHandle<()>,
}

/// The keyframes of a file: an iterator. See `vx.keyframes`.
#[pyclass(frozen, module = "vx")]
pub struct Keyframes {
    reader: Mutex<process::Own<Reader>>,
    interrupt: Interrupt,
    path: PathBuf,
    info: std::sync::OnceLock<Box<Info>>,
}

/// Opens a file with the arguments of `vx.keyframes`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "those of the function in Python")]
pub fn keyframes(
    py: Python<'_>,
    path: PathBuf,
    format: &str,
    size: Option<(Option<u32>, Option<u32>)>,
    max_gap: Option<Bound<'_, PyAny>>,
    min_interval: Option<Bound<'_, PyAny>>,
    max_frames: Option<u64>,
    threads: Option<u32>,
    upright: bool,
) -> PyResult<Keyframes> {
    process::enter()?;
    let time = |name: &str, value: Option<Bound<'_, PyAny>>| value.map(|value| duration(name, &value)).transpose();
    let mut sampling = SamplingSettings::default();
    sampling.max_gap = time("max_gap", max_gap)?;
    sampling.min_interval = time("min_interval", min_interval)?;
    sampling.max_frames = max_frames;
    let mut settings = KeyframeSettings::default();
    let ffmpeg = FORMATS.iter().find(|(name, _)| *name == format).map_or(format, |(_, ffmpeg)| *ffmpeg);
    settings.format = (format != "native").then(|| ffmpeg.to_owned());
    settings.size = size.map(|(width, height)| (width.unwrap_or(0), height.unwrap_or(0)));
    settings.is_as_stored = !upright;
    settings.sampling = sampling;
    settings.threads = threads;
    // A file:// URI is how records name a path that is not UTF-8.
    let path = path.to_str().map(|name| path_of(name).into_owned()).unwrap_or(path);
    let keyframes = Keyframes::start(path, settings)?;
    keyframes.next(py)?;
    Ok(keyframes)
}

impl Keyframes {
    fn start(path: PathBuf, settings: KeyframeSettings) -> PyResult<Self> {
        let (sender, messages) = sync_channel(READ_AHEAD);
        let interrupt = settings.interrupt.clone();
        let file = path.clone();
        let read = move || {
            let mut keyframes = match run::Keyframes::open(file, &settings) {
                Ok(keyframes) => keyframes,
                Err(error) => return drop(sender.send(Message::Failed(error))),
            };
            let mut is_wanted = sender.send(Message::Opened(Box::new(keyframes.info().clone()))).is_ok();
            while is_wanted {
                let message = match keyframes.next() {
                    Some(Ok(keyframe)) => Message::Keyframe(Box::new(keyframe)),
                    Some(Err(error)) => Message::Failed(error),
                    None => Message::End(keyframes.problems()),
                };
                let is_last = !matches!(message, Message::Keyframe(_));
                is_wanted = sender.send(message).is_ok() && !is_last;
            }
        };
        let thread = std::thread::Builder::new().name("vxkeyframes".to_owned()).spawn(read);
        let thread = thread.map_err(|error| PyRuntimeError::new_err(format!("no thread could be started: {error}")))?;
        let reader = Mutex::new(process::Own::new(Reader { messages, thread }));
        Ok(Self { reader, interrupt, path, info: std::sync::OnceLock::new() })
    }

    /// Ends reading. Does not hold the interpreter.
    fn stop(&self) {
        self.interrupt.set();
        let reader = self.reader.lock().take();
        if let Some(Reader { messages, thread }) = reader {
            drop(messages);
            let _ = thread.join();
        }
    }

    fn next(&self, py: Python<'_>) -> PyResult<Option<Keyframe>> {
        process::enter()?;
        loop {
            let message = py.detach(|| {
                let guard = self.reader.lock();
                guard
                    .get()
                    .map_or(Err(RecvTimeoutError::Disconnected), |reader| reader.messages.recv_timeout(SIGNAL_INTERVAL))
            });
            match message {
                Ok(Message::Opened(info)) => {
                    let _ = self.info.set(info);
                    return Ok(None);
                }
                Ok(Message::Keyframe(keyframe)) => return Ok(Some(Keyframe::new(*keyframe))),
                Ok(Message::Failed(error)) => {
                    py.detach(|| self.stop());
                    return Err(error::from(&error));
                }
                Ok(Message::End(problems)) => {
                    py.detach(|| self.stop());
                    if !problems.is_empty() {
                        let text = format!("{}: {}", self.path.display(), problems.join("; "));
                        error::warn(py, &text)?;
                    }
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {
                    py.check_signals().inspect_err(|_| py.detach(|| self.stop()))?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

impl Drop for Keyframes {
    fn drop(&mut self) {
        if process::enter().is_ok() && Python::try_attach(|py| py.detach(|| self.stop())).is_none() {
            self.stop();
        }
    }
}

#[pymethods]
impl Keyframes {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Keyframe>> {
        self.next(py)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// Ends reading.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        process::enter()?;
        py.detach(|| self.stop());
        Ok(())
    }

    /// The path of the file.
    #[getter]
    fn path(&self) -> &Path {
        &self.path
    }

    /// The file: container, codec, duration_ns, frame_rate (a pair), is_interlaced, title.
    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        if let Some(info) = self.info.get() {
            fields.set_item("container", &info.container)?;
            fields.set_item("codec", &info.codec)?;
            fields.set_item("duration_ns", info.duration_ns)?;
            fields.set_item("frame_rate", info.frame_rate)?;
            fields.set_item("is_interlaced", info.is_interlaced)?;
            fields.set_item("title", &info.title)?;
        }
        Ok(fields)
    }
}

/// A keyframe.
#[pyclass(frozen, module = "vx")]
pub struct Keyframe {
    pub frame: Arc<gstvx::av::Frame>,
    pts_ns: Option<i64>,
    duration_ns: Option<u64>,
    is_keyframe: bool,
    pixel_aspect_ratio: (i32, i32),
    packet_bytes: u64,
}

impl Keyframe {
    fn new(keyframe: gstvx::av::Keyframe) -> Self {
        Self {
            frame: Arc::new(keyframe.frame),
            pts_ns: keyframe.pts_ns,
            duration_ns: keyframe.duration_ns,
            is_keyframe: keyframe.is_keyframe,
            pixel_aspect_ratio: keyframe.pixel_aspect_ratio,
            packet_bytes: keyframe.packet_bytes,
        }
    }
}

#[pymethods]
impl Keyframe {
    /// Presentation time of the container in nanoseconds; None where the container has none.
    #[getter]
    fn pts_ns(&self) -> Option<i64> {
        self.pts_ns
    }

    /// The same in seconds.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        self.pts_ns.map(|pts_ns| pts_ns as f64 / 1e9)
    }

    /// Duration of the frame itself in nanoseconds.
    #[getter]
    fn duration_ns(&self) -> Option<u64> {
        self.duration_ns
    }

    /// Width in pixels.
    #[getter]
    fn width(&self) -> usize {
        self.frame.width()
    }

    /// Height in pixels.
    #[getter]
    fn height(&self) -> usize {
        self.frame.height()
    }

    /// FFmpeg's name of the pixel format.
    #[getter]
    fn format(&self) -> PyResult<&'static str> {
        self.frame.pixel_format().map(|format| format.name()).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// False for a frame between keyframes.
    #[getter]
    fn is_keyframe(&self) -> bool {
        self.is_keyframe
    }

    /// Whether the decoder concealed errors in the picture, or parts of it are missing.
    #[getter]
    fn is_corrupt(&self) -> bool {
        self.frame.is_corrupt()
    }

    /// Width of a pixel to its height.
    #[getter]
    fn pixel_aspect_ratio(&self) -> (i32, i32) {
        self.pixel_aspect_ratio
    }

    /// Bytes of its packet; 0 for a frame between keyframes.
    #[getter]
    fn packet_bytes(&self) -> u64 {
        self.packet_bytes
    }

    /// The planes as buffers, without a copy.
    #[getter]
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let planes = Plane::all(&self.frame);
        PyTuple::new(py, planes.ok_or_else(|| PyValueError::new_err("the memory of the picture is not plain"))?)
    }

    /// The picture as a numpy array of a format with one plane, without a copy: rows, columns and channels.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let planes = self.planes(py)?;
        if planes.len() != 1 {
            let reason = format!("{} has {} planes: use `planes`, or format=\"rgb\"", self.format()?, planes.len());
            return Err(PyValueError::new_err(reason));
        }
        py.import("numpy")?.call_method1("asarray", (planes.get_item(0)?,))
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = self.array(py)?;
        match (dtype, copy) {
            (Some(dtype), _) => array.call_method1("astype", (dtype,)),
            (None, Some(true)) => array.call_method0("copy"),
            (None, _) => Ok(array),
        }
    }

    fn __repr__(&self) -> PyResult<String> {
        let pts_ns = self.pts_ns.map_or_else(|| "None".to_owned(), |pts_ns| pts_ns.to_string());
        Ok(format!("Keyframe(pts_ns={pts_ns}, {}x{}, {})", self.width(), self.height(), self.format()?))
    }
}
