//! `vx doctor`: looks at everything that has to be there, in the order in which elements need it.

use std::path::PathBuf;
use std::process::ExitCode;

use gstvx::av;
use gstvx::detect::{Engine, EngineSpec, Runtime, RuntimeOptions};

use crate::libraries;
use crate::terminal::show;

/// A finding: what is there, or what is wrong with the advice what to do.
type Finding = Result<String, String>;

/// Looks at everything and prints it.
pub fn run() -> ExitCode {
    show!("vx {}", env!("CARGO_PKG_VERSION"));
    let gstreamer = gst::init().map(|()| gst::version_string().to_string()).map_err(|error| error.to_string());
    let has_gstreamer = gstreamer.is_ok();
    let mut is_well = report("GStreamer", gstreamer);
    is_well &= report("FFmpeg", av::check_version().map(|()| av::version()).map_err(|error| error.to_string()));
    let plugin = if has_gstreamer { plugin() } else { Err("GStreamer has to be mended first".into()) };
    let dirs = libraries::dirs(plugin.as_deref().ok());
    is_well &= report("plugin", plugin.map(|file| file.display().to_string()));
    is_well &= runtime(dirs);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(what: &str, finding: Finding) -> bool {
    match &finding {
        Ok(found) => show!("  ok    {what}: {found}"),
        Err(advice) => show!("  FAIL  {what}: {advice}"),
    }
    finding.is_ok()
}

/// The plugin as GStreamer knows it.
fn plugin() -> Result<PathBuf, String> {
    let registry = gst::Registry::get();
    if let Some(plugin) = registry.find_plugin("vx")
        && let Some(file) = plugin.filename()
    {
        return Ok(file);
    }
    let blacklisted = registry.plugins().into_iter().find(|plugin| {
        let file = plugin.filename().unwrap_or_default();
        plugin.plugin_flags().contains(gst::PluginFlags::BLACKLISTED) && file.to_string_lossy().contains("libgstvx.")
    });
    Err(match blacklisted.and_then(|plugin| plugin.filename()) {
        Some(file) => format!(
            "{} is on GStreamer's blacklist, because it could not be loaded once. `ldd {0}` shows a library that is missing; \
             then remove GStreamer's registry (rm ~/.cache/gstreamer-1.0/registry.*.bin), which is where the blacklist is",
            file.display()
        ),
        None => "GStreamer does not find libgstvx.so. Set GST_PLUGIN_PATH to its folder, or run `make install`".into(),
    })
}

/// Loads ONNX Runtime and the built-in model, as vxyolodetect does.
fn runtime(dirs: Vec<PathBuf>) -> bool {
    let options = RuntimeOptions { search_dirs: dirs.clone(), ..RuntimeOptions::default() };
    let runtime = match Runtime::load(&options) {
        Ok((runtime, note)) => {
            report("ONNX Runtime", Ok(format!("{} ({})", runtime.version(), runtime.library().display())));
            note.iter().for_each(|note| show!("        {note}"));
            runtime
        }
        Err(error) => return report("ONNX Runtime", Err(error.to_string())),
    };
    let spec = EngineSpec { provider_dirs: dirs, ..EngineSpec::default() };
    let engine = match Engine::acquire(runtime, &spec) {
        Ok(engine) => engine,
        Err(error) => return report("model", Err(error.to_string())),
    };
    let provider = engine.provider();
    report("model", Ok(engine.model().source.clone()));
    report(
        "provider",
        Ok(format!(
            "{} on {}, {}, {} sessions of {} threads",
            provider.name, provider.device, provider.precision, provider.sessions, provider.intra_op_threads
        )),
    );
    if let Some(reason) = &provider.fallback {
        show!("        slower than it could be: {reason}");
    }
    true
}
