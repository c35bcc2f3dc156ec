//! OpenVINO as a plugin execution provider: its library registered once, its options, its device.
//!
//! Part of the small circle of files that call `ort`. Any thread.

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;

use super::provider::processor;
use super::runtime::Runtime;
use super::session::OpenError;

/// ONNX Runtime's name of the provider.
pub(super) const NAME: &str = "OpenVINOExecutionProvider";

/// How a session uses OpenVINO.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub library: PathBuf,
    /// Threads of one session.
    pub threads: usize,
}

/// Number format that OpenVINO is told to use: brain floats where the processor multiplies them, as is its own default.
pub(super) fn precision() -> &'static str {
    if processor().has_bf16 { "bf16" } else { "f32" }
}

/// Registers the library in this process; the first one stays.
fn register(runtime: &'static Runtime, library: &Path) -> Result<(), OpenError> {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED
        .get_or_try_init(|| {
            runtime.environment.register_ep_library(NAME, library).map_err(|error| OpenError {
                is_no_model: false,
                reason: format!("{} cannot be loaded: {error}", library.display()),
            })
        })
        .copied()
}

impl Setup {
    /// A builder whose sessions run on OpenVINO's CPU device.
    pub fn apply(&self, runtime: &'static Runtime, builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
        register(runtime, &self.library)?;
        // One stream for each session: the workers run them side by side.
        let config = format!(
            r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{}","NUM_STREAMS":"1","INFERENCE_NUM_THREADS":"{}","ENABLE_CPU_PINNING":"NO"}}}}"#,
            precision(),
            self.threads
        );
        let options = [(format!("{NAME}.load_config"), config)];
        let devices: Vec<_> = runtime
            .environment
            .devices()
            .filter(|device| device.ep().is_ok_and(|name| name == NAME))
            .filter(|device| device.hardware_device().ty() == DeviceType::CPU)
            .collect();
        if devices.is_empty() {
            let reason = format!("{} finds no CPU that it can use", self.library.display());
            return Err(OpenError { is_no_model: false, reason });
        }
        Ok(builder.with_devices(devices, Some(&options))?)
    }
}
