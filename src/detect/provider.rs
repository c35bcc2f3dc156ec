//! Execution providers: which one is asked for, which one is taken, and why.
//!
//! Owns the choice and what is known of the machine's processor; opens no session. Plain functions, any thread.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::{Error, Result};
use super::runtime::Runtime;

/// Who runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Provider {
    /// The best that is present: OpenVINO on Intel processors where its library is found, else the CPU provider.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU provider.
    Cpu,
    /// Intel's OpenVINO as a plugin provider, on the CPU.
    OpenVino,
}

impl Provider {
    /// Every value, for help texts.
    pub const ALL: &[Self] = &[Self::Auto, Self::Cpu, Self::OpenVino];
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
        })
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|provider| provider.to_string() == text.to_ascii_lowercase()).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            Error::ProviderUnavailable {
                provider: text.to_owned(),
                reason: format!("there is none of that name; known are {}", known.join(", ")),
            }
        })
    }
}

/// What an engine runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderReport {
    /// The provider in use, never [`Provider::Auto`].
    pub provider: Provider,
    /// ONNX Runtime's name for it.
    pub name: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic: "as the model", "bf16" or "f32".
    pub precision: String,
    /// Why the CPU provider is used although another was to be taken.
    pub fallback: Option<String>,
    /// Sessions, each with a worker thread of its own.
    pub sessions: usize,
    /// Threads inside one operator, for each session.
    pub intra_op_threads: usize,
    /// Operators side by side, for each session.
    pub inter_op_threads: usize,
    /// Most frames in one run.
    pub batch_size: usize,
}

/// File name of the OpenVINO plugin provider.
const OPENVINO_LIBRARY: &str = "libonnxruntime_providers_openvino_plugin.so";

/// The provider to start with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    Cpu,
    OpenVino {
        library: PathBuf,
        /// Whether the CPU provider takes over if it fails.
        may_fall_back: bool,
    },
}

/// Decides what to start with; `dirs` are searched before ONNX Runtime's own folder.
///
/// # Errors
/// [`Error::ProviderUnavailable`] for a provider asked for by name that is not there.
pub(super) fn choose(wanted: Provider, runtime: &Runtime, dirs: &[PathBuf]) -> Result<Choice> {
    match wanted {
        Provider::Cpu => Ok(Choice::Cpu),
        Provider::Auto if !cfg!(feature = "plugin-providers") || !processor().is_intel => Ok(Choice::Cpu),
        Provider::Auto => Ok(match find_openvino(runtime, dirs) {
            Ok(library) => Choice::OpenVino { library, may_fall_back: true },
            Err(_) => Choice::Cpu,
        }),
        Provider::OpenVino if !cfg!(feature = "plugin-providers") => Err(Error::ProviderUnavailable {
            provider: wanted.to_string(),
            reason: "this build has no plugin providers; build it with the cargo feature plugin-providers".to_owned(),
        }),
        Provider::OpenVino => {
            let library = find_openvino(runtime, dirs).map_err(|looked_in| Error::ProviderUnavailable {
                provider: wanted.to_string(),
                reason: format!(
                    "{OPENVINO_LIBRARY} is not in {}; run `make setup` in the source tree, or \
                     `pip install onnxruntime-ep-openvino` and copy the libraries of its package beside ONNX Runtime",
                    looked_in.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
                ),
            })?;
            Ok(Choice::OpenVino { library, may_fall_back: false })
        }
    }
}

/// The plugin library, or the folders in which it is not.
fn find_openvino(runtime: &Runtime, dirs: &[PathBuf]) -> Result<PathBuf, Vec<PathBuf>> {
    let beside = runtime.library().parent().map(Path::to_path_buf);
    let mut folders = dirs.to_vec();
    folders.extend(beside.into_iter().chain(runtime.folder()));
    folders.dedup();
    match folders.iter().map(|dir| dir.join(OPENVINO_LIBRARY)).find(|path| path.is_file()) {
        Some(path) => Ok(std::path::absolute(&path).unwrap_or(path)),
        None => Err(folders),
    }
}

/// What matters about the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Processor {
    pub is_intel: bool,
    /// Whether it multiplies 16-bit brain floats.
    pub has_bf16: bool,
}

/// This machine's processor, as Linux describes it; all false where it does not.
pub(super) fn processor() -> Processor {
    std::fs::read_to_string("/proc/cpuinfo").map(|text| parse_processor(&text)).unwrap_or_default()
}

fn parse_processor(cpuinfo: &str) -> Processor {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim())
    };
    let flags = field("flags");
    let has = |flag: &str| flags.split_whitespace().any(|found| found == flag);
    Processor { is_intel: field("vendor_id") == "GenuineIntel", has_bf16: has("amx_bf16") || has("avx512_bf16") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn provider_names_lead_back_to_themselves() {
        for &provider in Provider::ALL {
            assert_eq!(provider.to_string().parse::<Provider>().unwrap(), provider);
        }
        let text = "tpu".parse::<Provider>().unwrap_err().to_string();
        assert!(text.contains("tpu") && text.contains("openvino"), "{text}");
    }

    #[test]
    fn processors_are_told_by_vendor_and_flags() {
        let xeon = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 sse\n";
        assert_eq!(parse_processor(xeon), Processor { is_intel: true, has_bf16: true });
        assert_eq!(parse_processor("vendor_id : AuthenticAMD\nflags : fpu\n"), Processor::default());
        assert_eq!(parse_processor(""), Processor::default());
    }
}
