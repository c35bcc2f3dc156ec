// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx doctor`: checks what has to be installed, in the order in which elements need it.

mod plugin;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use gstvx::av;
use gstvx::detect::{Engine, EngineSpec, Runtime, RuntimeOptions};

use crate::terminal::show;

/// The arguments.
#[derive(Args)]
pub struct Arguments {
    /// Load a plugin, print why that fails, and exit: internal, because loading a broken plugin may end the process.
    #[arg(long, hide = true)]
    load: Option<PathBuf>,
}

/// What is present, or what is wrong and what to do, in one or more lines.
type Finding = Result<String, String>;

/// Checks everything and prints it.
pub fn run(arguments: &Arguments) -> u8 {
    if let Some(file) = &arguments.load {
        return plugin::load(file);
    }
    show!("vx {}", env!("CARGO_PKG_VERSION"));
    let gstreamer = gst::init().map(|()| gst::version_string().to_string()).map_err(|error| error.to_string());
    let has_gstreamer = gstreamer.is_ok();
    let mut is_well = report("GStreamer", gstreamer);
    if has_gstreamer {
        show!("        its list of plugins is {}", plugin::registry_file().display());
    }
    is_well &= report("FFmpeg", av::check_version().map(|()| av::version()).map_err(|error| error.to_string()));
    let plugin =
        if has_gstreamer { plugin::find() } else { Err("not looked for: GStreamer does not start".to_owned()) };
    let dirs = gstvx::run::library_dirs(plugin.as_deref().ok());
    is_well &= report("plugin", plugin.map(|file| file.display().to_string()));
    is_well &= runtime(dirs);
    if is_well { crate::SUCCESS } else { crate::FAILURE }
}

fn report(what: &str, finding: Finding) -> bool {
    let (mark, text) = match &finding {
        Ok(found) => ("ok  ", found),
        Err(advice) => ("FAIL", advice),
    };
    show!("  {mark}  {what}: {}", text.replace('\n', "\n        "));
    finding.is_ok()
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
        Err(error) => {
            let reason = if let gstvx::detect::Error::RuntimeUnusable { library, .. } = &error {
                plugin::loads(library).err().filter(|reason| reason.contains("shared object") || reason.contains("ELF"))
            } else {
                None
            };
            let reason = reason.map_or_else(String::new, |reason| format!("\nThe loader says: {reason}"));
            let advice = other_runtime(&dirs).unwrap_or_default();
            return report("ONNX Runtime", Err(format!("{error}{reason}{advice}")));
        }
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

/// Returns the command that selects another ONNX Runtime, where `ORT_DYLIB_PATH` hides one.
fn other_runtime(dirs: &[PathBuf]) -> Option<String> {
    const VARIABLE: &str = "ORT_DYLIB_PATH";
    let set = std::env::var_os(VARIABLE).filter(|value| !value.is_empty())?;
    let found = dirs.iter().find_map(|dir| {
        let files = dir.read_dir().ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libonnxruntime.so") && path != Path::new(&set) && path.is_file()
        })
    });
    Some(match found {
        Some(library) => {
            format!("\n{VARIABLE} names that one; another is in its place:\n    export {VARIABLE}={}", quoted(&library))
        }
        None => format!("\n{VARIABLE} names that one"),
    })
}

/// Quotes a path for a shell.
fn quoted(path: impl AsRef<OsStr>) -> String {
    let text = path.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn paths_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("/usr/lib/x86_64-linux-gnu/vx"), "/usr/lib/x86_64-linux-gnu/vx");
        assert_eq!(quoted("/home/a b/it's"), r"'/home/a b/it'\''s'");
    }
}
