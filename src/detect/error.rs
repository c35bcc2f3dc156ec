// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error type of the detection layer.
//!
//! Values are cheap to clone, because everyone who waits for the same model to load gets the same error.

use std::path::PathBuf;

/// Result of the detection layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail in the detection layer.
///
/// Each message names the file or the value at fault and says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A frame's planes do not match its format and size, or the frame cannot be mapped.
    #[error("this frame cannot be read: {reason}")]
    Picture {
        /// What does not fit, with the numbers.
        reason: String,
    },

    /// The ONNX Runtime library was not found.
    #[error(
        "ONNX Runtime (libonnxruntime.so) was not found in: {}. Run `make setup` in the source tree, or \
         `pip install onnxruntime` and set ORT_DYLIB_PATH to the libonnxruntime.so.* in its onnxruntime/capi folder, or \
         `apt install libonnxruntime-dev` on Debian 13 or newer",
        list(.searched)
    )]
    RuntimeNotFound {
        /// Every folder and file that was tried, in order.
        searched: Vec<PathBuf>,
    },

    /// A library cannot be used as ONNX Runtime.
    #[error(
        "{} cannot be used as ONNX Runtime: {reason}. Point the property or ORT_DYLIB_PATH at the libonnxruntime.so of \
         ONNX Runtime {minimum} or newer for this machine",
        .library.display()
    )]
    RuntimeUnusable {
        /// The library that was tried.
        library: PathBuf,
        /// The message of the loader or the library.
        reason: String,
        /// Oldest supported release, for example "1.22".
        minimum: String,
    },

    /// The model's file cannot be read.
    #[error("the model {} cannot be read: {reason}", .path.display())]
    ModelUnreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// The model did not load within the time limit.
    #[error(
        "{model} did not finish loading within {:.1} s: it may contain an endless loop, or need more time. Raise load-timeout \
         (file-timeout of vxbulkbin, --file-timeout of vx detect), or use another model",
        .limit.as_secs_f64()
    )]
    LoadTimeout {
        /// File name or "the built-in model".
        model: String,
        /// The time limit.
        limit: std::time::Duration,
    },

    /// ONNX Runtime cannot run the model.
    #[error("{model} is not a usable ONNX model: {reason}")]
    ModelInvalid {
        /// File name or "the built-in model".
        model: String,
        /// ONNX Runtime's message, and what to do.
        reason: String,
    },

    /// The model runs, but its outputs have no supported layout.
    #[error("{model} is not a supported detector: {reason}. Its tensors: {tensors}. {advice}")]
    ModelUnsupported {
        /// File name or "the built-in model".
        model: String,
        /// What does not fit.
        reason: String,
        /// Inputs and outputs with types and shapes.
        tensors: String,
        /// The nearest layout, and what to do.
        advice: String,
    },

    /// A requested execution provider is not available.
    #[error("the execution provider \"{provider}\" is not available: {reason}")]
    ProviderUnavailable {
        /// Its name, as in the property.
        provider: String,
        /// Why, and what to do.
        reason: String,
    },

    /// The label file cannot be used.
    #[error("the label file {} cannot be used: {reason}", .path.display())]
    LabelFile {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// The model does not have the class.
    #[error("the model has no class \"{class}\"; {known}")]
    UnknownClass {
        /// The requested class.
        class: String,
        /// The classes that the model has, as a phrase.
        known: String,
    },

    /// A setting has an invalid value.
    #[error("{setting}: {reason}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Why it is invalid, and what is allowed.
        reason: String,
    },

    /// ONNX Runtime failed while it ran the model.
    #[error("running {model} failed: {reason}")]
    Inference {
        /// File name or "the built-in model".
        model: String,
        /// ONNX Runtime's message, or what is wrong with the outputs.
        reason: String,
    },

    /// A worker panicked on this frame; it continues with the next one.
    #[error("a detection worker panicked on this frame ({reason}); this is a bug, please report it")]
    WorkerPanicked {
        /// The panic's message.
        reason: String,
    },

    /// The engine was closed while the frame was waiting.
    #[error("the detection engine was closed before this frame was processed")]
    EngineClosed,

    /// The system did not start a thread.
    #[error("a detection thread could not be started: {reason}. Use fewer sessions")]
    NoThread {
        /// The system's message.
        reason: String,
    },
}

/// Why a model is not supported, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub reason: String,
    pub advice: String,
}

impl Unsupported {
    pub fn new(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { reason: reason.into(), advice: advice.into() }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

/// Returns the message of a caught panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Returns ONNX Runtime's message without the location in its own source: "/onnxruntime_src/a.cc:12 void f(int) It failed" becomes
/// "It failed", also in the status of an operator.
pub(crate) fn without_source_location(message: &str) -> String {
    const SOURCE: &str = ": /onnxruntime";
    if let Some((_, text)) = message.split_once("[OpenVINO-EP] ") {
        // Some lines only name locations in its source.
        let lines = text.lines().map(|line| line.split(": Exception from ").next().unwrap_or(line));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Exception from "));
        let lines: Vec<_> = lines.collect();
        return lines.join(": ");
    }
    match message.find(SOURCE) {
        Some(at) => format!("{}: {}", &message[..at], without_prefix(&message[at + 2..])),
        None => without_prefix(message).to_owned(),
    }
}

fn without_prefix(message: &str) -> &str {
    let mut text = message.trim();
    if text.starts_with('/')
        && let Some(signature) = text.find('(')
    {
        let mut depth = 0_usize;
        for (at, character) in text[signature..].char_indices() {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                text = text[signature + at + 1..].trim_start();
                break;
            }
        }
        text = text.strip_prefix("const").unwrap_or(text).trim_start();
    }
    // "[ONNXRuntimeError] : 1 : FAIL : It failed".
    if text.starts_with("[ONNXRuntimeError]")
        && let Some(rest) = text.splitn(4, " : ").nth(3)
    {
        text = rest;
    }
    if text.is_empty() { message } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_in_onnx_runtimes_source_are_removed() {
        let cases = [
            (
                "/onnxruntime_src/a/b.h:46 void f(const std::map<std::string, int>&, bool (*)(int), int) ONNX Runtime (1) only",
                "ONNX Runtime (1) only",
            ),
            (
                "/src/p.cc:2043 Provider& Library::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load : x",
                "Failed to load : x",
            ),
            (
                "Non-zero status code returned while running Add node. Name:'/a' Status Message: /onnxruntime/e.h:583 void f() 12 by 20",
                "Non-zero status code returned while running Add node. Name:'/a' Status Message: 12 by 20",
            ),
            (
                "/o/b.cc:136 B::B(int) /o/i.cc:28 auto f(int) [OpenVINO-EP] While loading g: Exception from src/core.cpp:114:\n\
                 Exception from src/config.cpp:475:\nNotFound: no property NOPE\n\n\n",
                "While loading g: NotFound: no property NOPE",
            ),
            ("Protobuf parsing failed.", "Protobuf parsing failed."),
            ("/no/brackets", "/no/brackets"),
            ("/open(", "/open("),
            ("", ""),
        ];
        for (message, words) in cases {
            assert_eq!(without_source_location(message), words);
        }
    }
}
