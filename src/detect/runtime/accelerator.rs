// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sessions on execution providers other than ONNX Runtime's CPU provider: registration, options and devices.
//!
//! Calls `ort`. Any thread.

use std::path::{Path, PathBuf};

use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CUDA, CoreML, DirectML, OpenVINO, TensorRT, WebGPU};
use ort::session::builder::SessionBuilder;

use super::library::Runtime;
use super::processor::{Processor, processor, processor_name};
use super::provider::{DeviceKind, Precision, Provider, ProviderChoice, Tuning};
use super::session::{CPU_PROVIDER, OpenError};
use crate::detect::cache::{CacheKey, ModelCache};

/// How a session uses a provider.
#[derive(Debug, Clone)]
pub(crate) struct Accelerator {
    pub choice: ProviderChoice,
    pub tuning: Tuning,
    /// Threads of one session, if the provider computes on the processor.
    pub threads: usize,
    /// Where compiled models are kept.
    pub cache: Option<ModelCache>,
}

/// Returns ONNX Runtime's name of a built-in provider; `None` for plugin providers.
pub(crate) fn name_of(provider: &Provider) -> Option<&'static str> {
    Some(match provider {
        Provider::Cpu => CPU_PROVIDER,
        Provider::Cuda => "CUDAExecutionProvider",
        Provider::TensorRt => "TensorrtExecutionProvider",
        Provider::CoreMl => "CoreMLExecutionProvider",
        Provider::DirectMl => "DmlExecutionProvider",
        Provider::WebGpu => "WebGpuExecutionProvider",
        Provider::OpenVino => "OpenVINOExecutionProvider",
        Provider::Auto | Provider::TensorRtRtx | Provider::Library(_) => return None,
    })
}

/// What a session runs on.
#[derive(Debug, Clone)]
pub(crate) struct SessionDevice {
    /// ONNX Runtime's name of the provider.
    pub name: String,
    pub device: String,
    pub precision: &'static str,
}

fn open_error(reason: String) -> OpenError {
    OpenError { is_invalid_model: false, reason }
}

impl Accelerator {
    /// Configures a builder so that its sessions run on the provider. Returns the builder and what it runs on.
    ///
    /// # Errors
    /// If the provider or its device is missing, or does not support the precision.
    pub fn apply(
        &self,
        runtime: &'static Runtime,
        builder: SessionBuilder,
    ) -> Result<(SessionBuilder, SessionDevice), OpenError> {
        match &self.choice.library {
            Some(library) => self.apply_plugin(runtime, builder, library),
            None => self.apply_built_in(builder),
        }
    }

    /// Returns a key of all that a compiled model depends on beside the model; `None` if compiled models of this provider are not kept:
    /// only OpenVINO's plugin for the processor returns them to us, and rejects those of other versions.
    pub fn compiled_key(&self, runtime: &Runtime) -> Option<CacheKey> {
        let library = self.choice.library.as_deref().filter(|_| self.choice.provider == Provider::OpenVino)?;
        let device = self.device().unwrap_or(DeviceKind::Cpu);
        let (config, _) = self.openvino_config(device).ok().filter(|_| device == DeviceKind::Cpu)?;
        Some(library_key(CacheKey::new("compiled").with(runtime.version()), library).with(config))
    }

    /// Returns a key of all that the provider's behaviour depends on.
    pub fn provider_key(&self, runtime: &Runtime) -> CacheKey {
        let key = CacheKey::new("provider").with(runtime.version());
        let key = self.choice.library.iter().fold(key, |key, library| library_key(key, library));
        key.with(format!("{:?} {:?} {}", self.choice, self.tuning, self.threads))
    }

    /// Checks that the provider and its device are present, without a session. Loads the provider's library.
    ///
    /// # Errors
    /// If they are missing, or do not support the precision.
    pub fn check(&self, runtime: &'static Runtime) -> Result<(), OpenError> {
        self.apply(runtime, ort::session::Session::builder(&runtime.environment)?).map(|_| ())
    }

    fn option(&self, key: &str) -> Option<&str> {
        self.tuning.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Configures a provider that is built into the ONNX Runtime in use.
    fn apply_built_in(&self, builder: SessionBuilder) -> Result<(SessionBuilder, SessionDevice), OpenError> {
        fn with_options<P: ArbitrarilyConfigurableExecutionProvider>(provider: P, options: &[(String, String)]) -> P {
            options.iter().fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value))
        }
        let (provider, options) = (&self.choice.provider, &self.tuning.options[..]);
        let unsupported = || {
            let precision = self.tuning.precision;
            open_error(format!(
                "it computes in the model's own number format, not in {precision}; export the model in {precision}"
            ))
        };
        let mut device = "GPU".to_owned();
        let (dispatch, precision) = match provider {
            Provider::Cuda => {
                let precision = match self.tuning.precision {
                    Precision::Auto => "as the model",
                    Precision::Fp32 => "f32",
                    _ => return Err(unsupported()),
                };
                // By default CUDA uses TensorFloat-32 for 32-bit floats.
                let cuda = CUDA::default().with_tf32(self.tuning.precision == Precision::Auto);
                device = format!("GPU {}", self.option("device_id").unwrap_or("0"));
                (with_options(cuda, options).build(), precision)
            }
            Provider::TensorRt => {
                let mut tensorrt = TensorRT::default();
                // Building an engine takes minutes.
                if let Some(cache) = self.cache.as_ref().and_then(|cache| cache.subfolder("tensorrt")) {
                    let path = cache.display().to_string();
                    tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(&path);
                    tensorrt = tensorrt.with_timing_cache(true).with_timing_cache_path(&path);
                }
                let (tensorrt, precision) = match self.tuning.precision {
                    Precision::Fp32 => (tensorrt, "f32"),
                    Precision::Bf16 => (tensorrt.with_bf16(true), "bf16"),
                    Precision::Auto | Precision::Fp16 => (tensorrt.with_fp16(true), "f16"),
                };
                device = format!("GPU {}", self.option("device_id").unwrap_or("0"));
                (with_options(tensorrt, options).build(), precision)
            }
            Provider::OpenVino => {
                let kind = self.device().unwrap_or(DeviceKind::Cpu);
                device = kind.to_string();
                let (config, precision) = self.openvino_config(kind)?;
                let openvino = OpenVINO::default().with_device_type(&device);
                (openvino.with_arbitrary_config("load_config", config).build(), precision)
            }
            _ if !matches!(self.tuning.precision, Precision::Auto) => return Err(unsupported()),
            Provider::CoreMl => {
                device = "Core ML".to_owned();
                (with_options(CoreML::default(), options).build(), "as the model")
            }
            Provider::DirectMl => (DirectML::default().build(), "as the model"),
            Provider::WebGpu => (with_options(WebGPU::default(), options).build(), "as the model"),
            other => return Err(open_error(format!("{other} is not a built-in provider"))),
        };
        let name = name_of(provider).unwrap_or_default().to_owned();
        let builder = builder.with_execution_providers([dispatch.error_on_failure()])?;
        Ok((builder, SessionDevice { name, device, precision }))
    }

    fn device(&self) -> Option<DeviceKind> {
        self.tuning.device().ok().flatten()
    }

    /// Returns the options that are passed on to the provider.
    fn own_options(&self) -> impl Iterator<Item = &(String, String)> {
        self.tuning.options.iter().filter(|(key, _)| key != "device")
    }

    /// Returns OpenVINO's configuration of `device` as JSON, and the resulting precision.
    fn openvino_config(&self, device: DeviceKind) -> Result<(String, &'static str), OpenError> {
        let (hint, precision) = self.openvino_precision(device)?;
        let mut config = serde_json::Map::new();
        let mut set = |key: &str, value: &str| config.insert(key.to_owned(), value.into());
        if let Some(hint) = hint {
            set("INFERENCE_PRECISION_HINT", hint);
        }
        if device == DeviceKind::Cpu {
            // One stream for each session: the workers run them in parallel.
            set("NUM_STREAMS", "1");
            set("INFERENCE_NUM_THREADS", &self.threads.to_string());
            set("ENABLE_CPU_PINNING", "NO");
        }
        self.own_options().for_each(|(key, value)| drop(set(key, value)));
        let mut devices = serde_json::Map::new();
        devices.insert(device.to_string(), config.into());
        let is_overridden = self.option("INFERENCE_PRECISION_HINT").is_some();
        let precision = if is_overridden { "as its options say" } else { precision };
        Ok((serde_json::Value::from(devices).to_string(), precision))
    }

    #[cfg(not(feature = "plugin-providers"))]
    fn apply_plugin(
        &self,
        _: &'static Runtime,
        _: SessionBuilder,
        _: &Path,
    ) -> Result<(SessionBuilder, SessionDevice), OpenError> {
        Err(open_error("this build does not support plugin providers".to_owned()))
    }

    /// Configures a provider that is a separate library.
    #[cfg(feature = "plugin-providers")]
    fn apply_plugin(
        &self,
        runtime: &'static Runtime,
        builder: SessionBuilder,
        library: &Path,
    ) -> Result<(SessionBuilder, SessionDevice), OpenError> {
        use ort::memory::DeviceType;

        let name = plugin::register(runtime, library)?;
        let is_openvino = name == plugin::OPENVINO;
        let wanted = self.device().or(is_openvino.then_some(DeviceKind::Cpu)).map(|device| match device {
            DeviceKind::Cpu => DeviceType::CPU,
            DeviceKind::Gpu => DeviceType::GPU,
            DeviceKind::Npu => DeviceType::NPU,
        });
        let devices: Vec<_> = runtime
            .environment
            .devices()
            .filter(|device| device.ep().is_ok_and(|found| found == name))
            .filter(|device| wanted.is_none_or(|wanted| device.hardware_device().ty() == wanted))
            .take(1)
            .collect();
        let Some(device) = devices.first().map(|device| device.hardware_device().ty()) else {
            let kind = self.option("device").unwrap_or(if is_openvino { "CPU" } else { "device" });
            return Err(open_error(format!("{} found no {kind} that it can use", library.display())));
        };
        let device = match device {
            DeviceType::CPU => DeviceKind::Cpu,
            DeviceType::GPU => DeviceKind::Gpu,
            _ => DeviceKind::Npu,
        };
        let (options, precision) = if is_openvino {
            let (config, precision) = self.openvino_config(device)?;
            (vec![(format!("{name}.load_config"), config)], precision)
        } else if self.tuning.precision == Precision::Auto {
            (self.own_options().map(|(key, value)| (format!("{name}.{key}"), value.clone())).collect(), "as the model")
        } else {
            return Err(open_error(
                "its precision is set by its own options; set execution-provider-options and precision=auto".to_owned(),
            ));
        };
        let builder = builder.with_devices(devices, Some(&options))?;
        Ok((builder, SessionDevice { name, device: device.to_string(), precision }))
    }

    /// Returns OpenVINO's precision hint and the resulting precision: bf16 if the processor supports it, which is OpenVINO's own
    /// default. For a format that the processor does not support OpenVINO would silently use another one.
    fn openvino_precision(&self, device: DeviceKind) -> Result<(Option<&'static str>, &'static str), OpenError> {
        let Processor { has_bf16, has_fp16, .. } = processor();
        let is_processor = device == DeviceKind::Cpu;
        let lacks =
            |format: &str| Err(open_error(format!("this processor does not support {format}; set precision=auto")));
        Ok(match self.tuning.precision {
            Precision::Auto if !is_processor => (None, "as the device prefers"),
            Precision::Auto if has_bf16 => (Some("bf16"), "bf16"),
            Precision::Auto | Precision::Fp32 => (Some("f32"), "f32"),
            Precision::Bf16 if is_processor && !has_bf16 => return lacks("bf16"),
            Precision::Fp16 if is_processor && !has_fp16 => return lacks("f16"),
            Precision::Bf16 => (Some("bf16"), "bf16"),
            Precision::Fp16 => (Some("f16"), "f16"),
        })
    }
}

/// Adds a provider's library, and those of OpenVINO beside it.
fn library_key(key: CacheKey, library: &Path) -> CacheKey {
    let beside = library.parent().and_then(|folder| folder.read_dir().ok());
    let is_openvino =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libopenvino"));
    let mut libraries: Vec<_> =
        beside.into_iter().flatten().flatten().map(|file| file.path()).filter(is_openvino).collect();
    libraries.sort();
    libraries.iter().fold(key.with_file(library).with(processor_name()), |key, library| key.with_file(library))
}

#[cfg(feature = "plugin-providers")]
mod plugin {
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};

    use parking_lot::Mutex;

    use super::super::library::Runtime;
    use super::super::provider::PluginProvider;
    use super::super::session::OpenError;
    use super::super::shutdown;
    use super::open_error;

    /// ONNX Runtime's name of OpenVINO, under which its library is registered.
    pub(super) const OPENVINO: &str = "OpenVINOExecutionProvider";

    /// Libraries, and the names of their providers or why they cannot be used.
    type Registered = HashMap<PathBuf, Result<String, String>>;

    /// Registers a library in this process once. Returns the name of its provider.
    ///
    /// One library at a time: its devices are those that ONNX Runtime lists only after the registration.
    pub(super) fn register(runtime: &'static Runtime, library: &Path) -> Result<String, OpenError> {
        static REGISTERED: Mutex<Option<Registered>> = Mutex::new(None);
        register_in(REGISTERED.lock().get_or_insert_default(), runtime, library)
    }

    fn register_in(
        registered: &mut Registered,
        runtime: &'static Runtime,
        library: &Path,
    ) -> Result<String, OpenError> {
        if let Some(known) = registered.get(library) {
            return known.clone().map_err(open_error);
        }
        let names = || -> Vec<String> {
            runtime.environment.devices().filter_map(|device| device.ep().ok().map(str::to_owned)).collect()
        };
        let before = names();
        let is_openvino = library.file_name().is_some_and(|name| name.to_string_lossy().contains("openvino"));
        // OpenVINO's options contain the name under which it is registered.
        let stem = library.file_stem().unwrap_or_default().to_string_lossy();
        let name = if is_openvino { OPENVINO } else { &stem };
        // A library with the same name at another path: the first one is kept.
        if is_openvino && let Some(known) = registered.values().flatten().find(|known| *known == OPENVINO) {
            return Ok(known.clone());
        }
        runtime
            .environment
            .register_ep_library(name, library)
            .map_err(|error| open_error(format!("{} cannot be loaded: {error}", library.display())))?;
        shutdown::arm(name);
        let new = names().into_iter().find(|name| !before.contains(name));
        let new = new.ok_or_else(|| {
            let file = library.file_name().unwrap_or_default();
            let plugin = PluginProvider::ALL.iter().find(|plugin| file == plugin.file_name().as_str());
            let needed = plugin.map_or_else(String::new, |plugin| format!("; it needs {}", plugin.requirement));
            format!("{} found no device that it can use{needed}", library.display())
        });
        registered.insert(library.to_owned(), new.clone());
        new.map_err(open_error)
    }
}
