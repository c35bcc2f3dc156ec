// SPDX-License-Identifier: MIT OR Apache-2.0
//! Execution providers: which one is requested, and which ones are tried.
//!
//! Owns the choice; opens no session. Plain functions, any thread.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::library::{Runtime, built_in_openvino};
use super::processor::{Processor, has_nvidia, processor};
use crate::detect::error::{Error, Result};

/// The execution provider that runs the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Provider {
    /// The fastest that is available: CUDA if ONNX Runtime was built with it and there is an NVIDIA driver, Core ML on Apple
    /// systems, OpenVINO if it is found and the processor is Intel's or supports bf16, otherwise the CPU provider. Dynamically
    /// quantised models run on the CPU provider.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU provider.
    Cpu,
    /// Intel's OpenVINO, built into ONNX Runtime or as a plugin provider, which supports Intel devices only.
    OpenVino,
    /// NVIDIA's CUDA.
    Cuda,
    /// NVIDIA's TensorRT.
    TensorRt,
    /// NVIDIA's TensorRT for RTX, a plugin provider.
    TensorRtRtx,
    /// Apple's Core ML.
    CoreMl,
    /// Microsoft's DirectML.
    DirectMl,
    /// WebGPU, built into ONNX Runtime or as a plugin provider.
    WebGpu,
    /// The library of a plugin provider.
    Library(PathBuf),
}

impl Provider {
    /// Every provider with a name.
    pub const ALL: &[Self] = &[
        Self::Auto,
        Self::Cpu,
        Self::OpenVino,
        Self::Cuda,
        Self::TensorRt,
        Self::TensorRtRtx,
        Self::CoreMl,
        Self::DirectMl,
        Self::WebGpu,
    ];

    /// Whether it computes on another device than the processor, so that processor cores need not be divided among sessions.
    pub(crate) fn is_device(&self) -> bool {
        !matches!(self, Self::Auto | Self::Cpu | Self::OpenVino)
    }

    /// Whether its device copies faster from pinned memory.
    pub(super) fn has_pinned_memory(&self) -> bool {
        matches!(self, Self::Cuda | Self::TensorRt)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::TensorRtRtx => "tensorrt-rtx",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
            Self::WebGpu => "webgpu",
            Self::Library(path) => return path.display().fmt(f),
        })
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(named) = Self::ALL.iter().find(|provider| provider.to_string() == text.to_ascii_lowercase()) {
            return Ok(named.clone());
        }
        let path = Path::new(text);
        let is_library = path.extension().is_some_and(|kind| ["so", "dll", "dylib"].iter().any(|known| kind == *known));
        if is_library || path.components().count() > 1 {
            return Ok(Self::Library(path.to_owned()));
        }
        let known: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
        Err(Error::ProviderUnavailable {
            provider: text.to_owned(),
            reason: format!(
                "it is not a known provider; use one of {}, or the path of a plugin provider's library",
                known.join(", ")
            ),
        })
    }
}

/// Number format of the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// The fastest format that preserves accuracy according to the provider's vendor.
    #[default]
    Auto,
    /// 32-bit floats.
    Fp32,
    /// 16-bit brain floats.
    Bf16,
    /// 16-bit floats.
    Fp16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}

/// Precision and options of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tuning {
    /// Number format.
    pub precision: Precision,
    /// Options of the provider, by its own names; `device` of OpenVINO and plugin providers selects CPU, GPU or NPU.
    pub options: Vec<(String, String)>,
}

impl Tuning {
    /// Whether the CPU provider supports the precision and options.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.precision, Precision::Auto | Precision::Fp32) && self.options.is_empty()
    }

    /// Returns the option `device`, by OpenVINO's names.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other name.
    pub(crate) fn device(&self) -> Result<Option<DeviceKind>> {
        let Some((_, wanted)) = self.options.iter().find(|(key, _)| key == "device") else { return Ok(None) };
        let mut known = [DeviceKind::Cpu, DeviceKind::Gpu, DeviceKind::Npu].into_iter();
        let known = known.find(|known| wanted.eq_ignore_ascii_case(&known.to_string()));
        known.map(Some).ok_or_else(|| Error::Setting {
            setting: "execution-provider-options",
            reason: format!("\"{wanted}\" is not a device; set device to CPU, GPU or NPU"),
        })
    }

    /// Whether the option `device` selects another device than the processor.
    fn is_for_another_device(&self) -> bool {
        self.device().is_ok_and(|device| device.is_some_and(|device| device != DeviceKind::Cpu))
    }

    /// Parses "key=value,key=value".
    ///
    /// # Errors
    /// [`Error::Setting`] if a part has no "=".
    pub fn parse_options(text: &str) -> Result<Vec<(String, String)>> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let pairs = parts.map(|part| {
            let (key, value) = part.split_once('=').ok_or_else(|| Error::Setting {
                setting: "execution-provider-options",
                reason: format!("\"{part}\" has no \"=\"; write key=value,key=value"),
            })?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        });
        pairs.collect()
    }
}

/// Type of a device that OpenVINO or a plugin provider computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Cpu,
    Gpu,
    Npu,
}

impl fmt::Display for DeviceKind {
    /// Writes OpenVINO's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Npu => "NPU",
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
    /// Type of the device.
    pub device: String,
    /// Number format of the arithmetic: "as the model", "bf16", "f16" or "f32".
    pub precision: String,
    /// Why the preferred provider is not used.
    pub fallback: Option<String>,
    /// Where the operators of the model run; all 0 for the CPU provider itself.
    pub operators: OperatorCounts,
    /// Whether the model was rewritten so that the CPU provider computes the same results faster.
    pub is_rewritten: bool,
    /// Whether all this was found out by an earlier start ([`EngineSpec::cache_dir`](crate::detect::EngineSpec::cache_dir)).
    pub is_known: bool,
    /// Whether what was found out is kept for later starts.
    pub has_cache: bool,
    /// Sessions, each with its own worker thread.
    pub sessions: usize,
    /// Threads inside one operator, for each session.
    pub intra_op_threads: usize,
    /// Operators that run in parallel, for each session.
    pub inter_op_threads: usize,
    /// Most frames in one run.
    pub batch_size: usize,
}

/// Numbers of operators of a model, by where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct OperatorCounts {
    /// On the provider in use.
    pub on_provider: usize,
    /// On the CPU provider, because the provider in use does not support them.
    pub on_cpu: usize,
}

/// A named provider that is a library of its own.
#[derive(Debug)]
#[non_exhaustive]
pub struct PluginProvider {
    /// Its name.
    pub provider: Provider,
    /// Name of the library, without the system's prefix and extension.
    library: &'static str,
    /// The Python package that contains the library.
    pub package: &'static str,
    /// The folder of that package.
    folder: &'static str,
    /// What it needs besides the library.
    pub requirement: &'static str,
}

impl PluginProvider {
    /// Every plugin provider with a name.
    pub const ALL: &[Self] = &[
        Self {
            provider: Provider::OpenVino,
            library: "onnxruntime_providers_openvino_plugin",
            package: "onnxruntime-ep-openvino",
            folder: "onnxruntime_ep_openvino",
            requirement: "an Intel device; for other processors `VX_OPENVINO=all make setup` installs an ONNX Runtime with OpenVINO \
                          built in",
        },
        Self {
            provider: Provider::WebGpu,
            library: "onnxruntime_providers_webgpu",
            package: "onnxruntime-ep-webgpu",
            folder: "onnxruntime_ep_webgpu",
            requirement: "ONNX Runtime 1.24.4 or newer and a GPU, on Linux with its Vulkan driver and libvulkan.so.1; \
                          ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 permits a Vulkan driver that computes on the processor",
        },
        Self {
            provider: Provider::TensorRtRtx,
            library: "onnxruntime_providers_nv_tensorrt_rtx",
            package: "onnxruntime-ep-nv-tensorrt-rtx-cu13",
            folder: "onnxruntime_ep_nv_tensorrt_rtx",
            requirement: "an NVIDIA RTX GPU with its driver (libcuda.so.1), CUDA's libcudart, and links to the libraries of its package \
                          under their short names in LD_LIBRARY_PATH, for example libtensorrt_rtx.so.1",
        },
    ];

    fn of(provider: &Provider) -> Option<&'static Self> {
        Self::ALL.iter().find(|plugin| plugin.provider == *provider)
    }

    /// Returns the file name of the library.
    pub fn file_name(&self) -> String {
        use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
        format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.library)
    }

    /// Returns where its library was searched, and how to install it.
    pub fn missing(&self, searched: &[PathBuf]) -> String {
        let setup = if self.provider == Provider::OpenVino {
            "run `make setup` in the source tree (x86-64 only; VX_OPENVINO=all make setup for processors other than Intel's), or "
        } else {
            ""
        };
        format!(
            "{} was not found in {}; {setup}`pip install {}` and copy the libraries of its package beside ONNX Runtime, or set \
             execution-provider to the path of the library",
            self.file_name(),
            searched.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
            self.package
        )
    }

    /// Returns the absolute path of the library. It is searched in `dirs`, in ONNX Runtime's own folder, and in the folder of its
    /// Python package beside that of the package `onnxruntime`.
    ///
    /// # Errors
    /// The folders that were searched, if it is in none of them.
    pub fn find(&self, runtime: &Runtime, dirs: &[PathBuf]) -> std::result::Result<PathBuf, Vec<PathBuf>> {
        let beside = runtime.library().parent().map(Path::to_path_buf);
        let packages = runtime.folder().and_then(|capi| Some(capi.parent()?.parent()?.join(self.folder)));
        let mut folders = dirs.to_vec();
        folders.extend(beside.into_iter().chain(runtime.folder()).chain(packages.filter(|folder| folder.is_dir())));
        let mut seen = HashSet::new();
        folders.retain(|folder| seen.insert(folder.clone()));
        match folders.iter().map(|dir| dir.join(self.file_name())).find(|path| path.is_file()) {
            Some(path) => Ok(std::path::absolute(&path).unwrap_or(path)),
            None => Err(folders),
        }
    }
}

/// Why a build cannot use plugin providers.
const WITHOUT_PLUGINS: &str =
    "this build does not support plugin providers; build with the cargo feature plugin-providers";

/// A provider to try.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProviderChoice {
    pub provider: Provider,
    /// The library of a plugin provider.
    pub library: Option<PathBuf>,
}

impl ProviderChoice {
    fn built_in(provider: Provider) -> Self {
        Self { provider, library: None }
    }

    /// Returns how many sessions may run at the same time. Those of WebGPU share one command encoder: with two threads its plugin
    /// 0.4 fails with "Command encoding already finished".
    pub fn max_sessions(&self) -> usize {
        let is_webgpu = |plugin: &PluginProvider| {
            let file = self.library.as_deref().and_then(Path::file_name);
            plugin.provider == Provider::WebGpu && file.is_some_and(|file| file == plugin.file_name().as_str())
        };
        let is_one = self.provider == Provider::WebGpu || PluginProvider::ALL.iter().any(is_webgpu);
        if is_one { 1 } else { usize::MAX }
    }
}

/// Whether OpenVINO is the fastest provider for a model that is not dynamically quantised. In 32-bit floats it is faster than the
/// CPU provider only on Intel's processors.
fn suits_openvino(tuning: &Tuning, processor: Processor) -> bool {
    let uses_bf16 = processor.has_bf16 && matches!(tuning.precision, Precision::Auto | Precision::Bf16);
    processor.is_intel || uses_bf16 || tuning.is_for_another_device()
}

/// Whether `wanted` is fastest, or possible only, with an ONNX Runtime that has OpenVINO built in: the plugin supports Intel
/// devices only.
pub(super) fn wants_built_in_openvino(wanted: &Provider, tuning: &Tuning, processor: Processor) -> bool {
    let is_wanted = match wanted {
        Provider::OpenVino => true,
        Provider::Auto => suits_openvino(tuning, processor),
        _ => false,
    };
    is_wanted && !processor.is_intel && !tuning.is_for_another_device()
}

/// Returns the providers to try, in this order, for a model that is dynamically quantised or not. `dirs` are searched for plugin
/// providers before ONNX Runtime's own folder.
///
/// # Errors
/// [`Error::ProviderUnavailable`] for a provider that is requested by name and not available.
pub(crate) fn choose(
    wanted: &Provider,
    tuning: &Tuning,
    runtime: &Runtime,
    dirs: &[PathBuf],
    is_quantised: bool,
) -> Result<Vec<ProviderChoice>> {
    let unavailable = |reason: String| Error::ProviderUnavailable { provider: wanted.to_string(), reason };
    let has_plugins = cfg!(feature = "plugin-providers");
    match wanted {
        Provider::Auto => {
            let mut choices = Vec::new();
            let built_in = [(Provider::Cuda, has_nvidia()), (Provider::CoreMl, cfg!(target_vendor = "apple"))];
            for (provider, has_device) in built_in {
                if has_device && runtime.has_provider(&provider) {
                    choices.push(ProviderChoice::built_in(provider));
                }
            }
            let has_openvino = runtime.has_provider(&Provider::OpenVino);
            if suits_openvino(tuning, processor()) {
                if has_openvino {
                    choices.push(ProviderChoice::built_in(Provider::OpenVino));
                } else if has_plugins
                    && processor().is_intel
                    && let Some(Ok(library)) =
                        PluginProvider::of(&Provider::OpenVino).map(|plugin| plugin.find(runtime, dirs))
                {
                    choices.push(ProviderChoice { provider: Provider::OpenVino, library: Some(library) });
                }
            }
            // CUDA has no `ConvInteger`; OpenVINO rejects most such models, or computes them in 32-bit floats, at less than half
            // the speed of the CPU provider.
            if is_quantised && tuning.is_plain() {
                choices.clear();
            }
            choices.push(ProviderChoice::built_in(Provider::Cpu));
            Ok(choices)
        }
        named if runtime.has_provider(named) => Ok(vec![ProviderChoice::built_in(named.clone())]),
        Provider::Library(_) if !has_plugins => Err(unavailable(WITHOUT_PLUGINS.to_owned())),
        Provider::Library(path) => {
            if !path.is_file() {
                return Err(unavailable("no such file; check the path".to_owned()));
            }
            let library = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Ok(vec![ProviderChoice { provider: wanted.clone(), library: Some(library) }])
        }
        named => {
            if let Some(plugin) = PluginProvider::of(named) {
                if !has_plugins {
                    return Err(unavailable(format!(
                        "{WITHOUT_PLUGINS}, and the ONNX Runtime in use has no such provider built in"
                    )));
                }
                if wants_built_in_openvino(wanted, tuning, processor())
                    && let Some(better) = built_in_openvino(dirs)
                {
                    return Err(unavailable(format!(
                        "{} has it built in, but this process already uses {}. A process has one ONNX Runtime, that of the element \
                         that starts first, which is the last one in the pipeline: set execution-provider of that element to openvino \
                         or auto too, and leave runtime-library and ORT_DYLIB_PATH unset",
                        better.display(),
                        runtime.library().display()
                    )));
                }
                let library = plugin.find(runtime, dirs).map_err(|searched| {
                    unavailable(format!("{}; it needs {}", plugin.missing(&searched), plugin.requirement))
                })?;
                return Ok(vec![ProviderChoice { provider: named.clone(), library: Some(library) }]);
            }
            let advice = match named {
                Provider::Cuda | Provider::TensorRt => {
                    "`pip install onnxruntime-gpu` and set runtime-library or ORT_DYLIB_PATH to the libonnxruntime.so.* in \
                     its onnxruntime/capi folder"
                }
                _ => "use an ONNX Runtime that was built with it",
            };
            let library = runtime.library().display();
            Err(unavailable(format!("the ONNX Runtime in use ({library}) was built without it; {advice}")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn provider_names_parse_to_themselves() {
        for provider in Provider::ALL {
            assert_eq!(provider.to_string().parse::<Provider>().unwrap(), *provider);
        }
        for path in ["/opt/ep/libep.so", "./libep.so", "ep.dll"] {
            assert_eq!(path.parse::<Provider>().unwrap(), Provider::Library(path.into()));
        }
        let text = "tpu".parse::<Provider>().unwrap_err().to_string();
        assert!(text.contains("tpu") && text.contains("openvino"), "{text}");
    }

    #[test]
    fn webgpu_runs_one_session_at_a_time() {
        let of = |provider, library: Option<&str>| {
            ProviderChoice { provider, library: library.map(PathBuf::from) }.max_sessions()
        };
        let library = "/opt/libonnxruntime_providers_webgpu.so";
        assert_eq!(of(Provider::WebGpu, None), 1);
        assert_eq!(of(Provider::Library(library.into()), Some(library)), 1);
        assert!(of(Provider::Library("/opt/libep.so".into()), Some("/opt/libep.so")) > 8);
        assert!(of(Provider::Cuda, None) > 8);
    }

    #[test]
    fn openvino_is_chosen_where_it_is_fastest() {
        let intel = Processor { is_intel: true, ..Processor::default() };
        let zen4 = Processor { has_bf16: true, has_vnni: true, ..Processor::default() };
        let zen2 = Processor::default();
        let tuning = |precision, options| Tuning { precision, options: Tuning::parse_options(options).unwrap() };
        let plain = tuning(Precision::Auto, "");
        let suits = [intel, zen4, zen2].map(|processor| suits_openvino(&plain, processor));
        assert_eq!(suits, [true, true, false]);
        let built_in = |wanted, tuning: &Tuning| {
            [intel, zen4, zen2].map(|processor| wants_built_in_openvino(&wanted, tuning, processor))
        };
        assert_eq!(built_in(Provider::Auto, &plain), [false, true, false]);
        assert_eq!(built_in(Provider::Auto, &tuning(Precision::Fp32, "")), [false; 3]);
        assert_eq!(built_in(Provider::OpenVino, &plain), [false, true, true]);
        // Only the plugin supports other devices.
        assert_eq!(built_in(Provider::OpenVino, &tuning(Precision::Auto, "device=GPU")), [false; 3]);
        assert_eq!(built_in(Provider::OpenVino, &tuning(Precision::Auto, "device=cpu")), [false, true, true]);
        assert_eq!(built_in(Provider::Cpu, &plain), [false; 3]);
        assert!(plain.is_plain() && !tuning(Precision::Bf16, "").is_plain());
        assert!(!tuning(Precision::Auto, "device=GPU").is_plain());
    }

    #[test]
    fn options_are_pairs() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let parsed = Tuning::parse_options(" device=GPU, NUM_STREAMS = 2,").unwrap();
        assert_eq!(parsed, [pair("device", "GPU"), pair("NUM_STREAMS", "2")]);
        assert!(Tuning::parse_options("").unwrap().is_empty());
        assert!(Tuning::parse_options("fast").unwrap_err().to_string().contains("\"fast\""));
    }
}
