//! What can go wrong in the detection layer, said for people.
//!
//! Owns the one error type of the layer; knows nothing of who shows it. Values are cheap to clone, because everybody who
//! waits for the same model to load gets the same answer.

use std::path::PathBuf;

/// Result of the detection layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail in the detection layer.
///
/// Each message names the file or the value at fault and says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A frame's planes do not hold the picture that its format and size promise, or the frame cannot be mapped.
    #[error("this frame cannot be read: {reason}")]
    Picture {
        /// What does not fit, with the numbers.
        reason: String,
    },

    /// No ONNX Runtime library anywhere.
    #[error(
        "ONNX Runtime (libonnxruntime.so) was not found; looked in: {}. Run `make setup` in the source tree, or \
         `pip install onnxruntime` and set ORT_DYLIB_PATH to the libonnxruntime.so.* in its onnxruntime/capi folder, or \
         `apt install libonnxruntime-dev` on Debian 13 or newer",
        list(.looked_in)
    )]
    RuntimeNotFound {
        /// Every folder and file that was tried, in order.
        looked_in: Vec<PathBuf>,
    },

    /// A library is there but does not work as ONNX Runtime.
    #[error(
        "{} cannot be used as ONNX Runtime: {reason}. Point the property or ORT_DYLIB_PATH at the libonnxruntime.so of \
         ONNX Runtime {minimum} or newer for this machine",
        .library.display()
    )]
    RuntimeUnusable {
        /// The library that was tried.
        library: PathBuf,
        /// The loader's or the library's own words.
        reason: String,
        /// Oldest usable release, for example "1.22".
        minimum: String,
    },

    /// The model's file cannot be read at all.
    #[error("the model {} cannot be read: {reason}", .path.display())]
    ModelUnreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// A model that was not loaded in the time that was allowed.
    #[error(
        "{model} did not finish loading within {:.1} s: it may contain an endless loop, or need longer. Raise load-timeout \
         (file-timeout of vxbulkbin, --file-timeout of vx detect), or use another model",
        .limit.as_secs_f64()
    )]
    LoadTimeout {
        /// File name or "the built-in model".
        model: String,
        /// The time that was allowed.
        limit: std::time::Duration,
    },

    /// The bytes are not a model that ONNX Runtime can run.
    #[error("{model} is not a usable ONNX model: {reason}")]
    ModelInvalid {
        /// File name or "the built-in model".
        model: String,
        /// ONNX Runtime's words, and what to do.
        reason: String,
    },

    /// A model that runs, but not one whose output this layer can read.
    #[error("{model} is not a detector that can be read: {reason}. Its tensors: {tensors}. {advice}")]
    ModelUnsupported {
        /// File name or "the built-in model".
        model: String,
        /// What does not fit.
        reason: String,
        /// Inputs and outputs with types and shapes.
        tensors: String,
        /// Nearest layout and what to do.
        advice: String,
    },

    /// An execution provider was asked for by name and cannot be had.
    #[error("the execution provider \"{provider}\" is not available: {reason}")]
    ProviderUnavailable {
        /// Name as in the property.
        provider: String,
        /// Why, and what to do.
        reason: String,
    },

    /// A label file that cannot be used.
    #[error("the label file {} cannot be used: {reason}", .path.display())]
    LabelFile {
        /// The file that was asked for.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },

    /// A class that the model does not have.
    #[error("the model has no class \"{class}\"; {known}")]
    UnknownClass {
        /// As it was asked for.
        class: String,
        /// What there is instead, as a phrase.
        known: String,
    },

    /// A setting outside its range.
    #[error("{setting}: {reason}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What is allowed.
        reason: String,
    },

    /// ONNX Runtime failed while it ran the model.
    #[error("running {model} failed: {reason}")]
    Inference {
        /// File name or "the built-in model".
        model: String,
        /// ONNX Runtime's words, or what is wrong with its output.
        reason: String,
    },

    /// A worker panicked on this frame; it goes on with the next.
    #[error("a detection worker panicked on this frame ({reason}); this is a bug, please report it")]
    WorkerPanicked {
        /// The panic's message.
        reason: String,
    },

    /// The engine was closed while the frame was waiting.
    #[error("the detection engine was closed before this frame's turn")]
    EngineClosed,

    /// The system gave no thread.
    #[error("no thread could be started for detection: {reason}. Ask for fewer sessions")]
    NoThread {
        /// The system's words.
        reason: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

/// The message inside a caught panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
/// ONNX Runtime's words without the place in its own source that they begin with: "/onnxruntime_src/a.cc:12 void f(int) It
/// failed" is "It failed", also where that is the status of an operator.
pub(crate) fn plain_words(message: &str) -> String {
    const SOURCE: &str = ": /onnxruntime";
    if let Some((_, words)) = message.split_once("[OpenVINO-EP] ") {
        // Lines of its own that only name places in its source.
        let lines = words.lines().map(|line| line.split(": Exception from ").next().unwrap_or(line));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Exception from "));
        let lines: Vec<_> = lines.collect();
        return lines.join(": ");
    }
    match message.find(SOURCE) {
        Some(at) => format!("{}: {}", &message[..at], without_place(&message[at + 2..])),
        None => without_place(message).to_owned(),
    }
}

fn without_place(message: &str) -> &str {
    let mut words = message.trim();
    if words.starts_with('/')
        && let Some(signature) = words.find('(')
    {
        let mut depth = 0_usize;
        for (at, character) in words[signature..].char_indices() {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                words = words[signature + at + 1..].trim_start();
                break;
            }
        }
        words = words.strip_prefix("const").unwrap_or(words).trim_start();
    }
    // "[ONNXRuntimeError] : 1 : FAIL : It failed".
    if words.starts_with("[ONNXRuntimeError]")
        && let Some(text) = words.splitn(4, " : ").nth(3)
    {
        words = text;
    }
    if words.is_empty() { message } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_onnx_runtimes_source_are_left_out() {
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
            assert_eq!(plain_words(message), words);
        }
    }
}
