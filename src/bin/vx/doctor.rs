// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx doctor`: checks what has to be installed, in the order in which elements need it.

mod plugin;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use gstvx::av;
use gstvx::detect::{Engine, EngineSpec, PluginProvider, Provider, ProviderReport, Runtime, RuntimeOptions};

use crate::terminal::print_line;

/// The arguments.
#[derive(Args)]
pub struct Arguments {
    /// Load a plugin, print why that fails, and exit: internal, because loading a broken plugin may end the process.
    #[arg(long, hide = true)]
    load: Option<PathBuf>,

    /// Load the built-in model on this provider, print what it runs on or why it does not, and exit: internal, because the driver of a
    /// device may end the process.
    #[arg(long, hide = true, value_name = "PROVIDER")]
    probe: Option<Provider>,
}

/// What is present, or what is wrong and what to do, in one or more lines.
type Finding = Result<String, String>;

/// Checks everything and prints it.
pub fn run(arguments: &Arguments) -> u8 {
    if let Some(file) = &arguments.load {
        return plugin::load(file);
    }
    if let Some(provider) = &arguments.probe {
        return probe(provider);
    }
    print_line!("vx {}", env!("CARGO_PKG_VERSION"));
    let gstreamer = gst::init().map(|()| gst::version_string().to_string()).map_err(|error| error.to_string());
    let has_gstreamer = gstreamer.is_ok();
    let mut is_well = report("GStreamer", gstreamer);
    if has_gstreamer {
        print_line!("        its list of plugins is {}", plugin::registry_file().display());
    }
    is_well &= report("FFmpeg", av::check_version().map(|()| av::version()).map_err(|error| error.to_string()));
    let plugin =
        if has_gstreamer { plugin::find() } else { Err("skipped: GStreamer cannot be initialised".to_owned()) };
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
    print_line!("  {mark}  {what}: {}", text.replace('\n', "\n        "));
    finding.is_ok()
}

/// Loads ONNX Runtime and the built-in model, as vxyolodetect does.
fn runtime(dirs: Vec<PathBuf>) -> bool {
    let options = RuntimeOptions { search_dirs: dirs.clone(), ..RuntimeOptions::default() };
    let runtime = match Runtime::load(&options) {
        Ok((runtime, note)) => {
            report("ONNX Runtime", Ok(format!("{} ({})", runtime.version(), runtime.library().display())));
            note.iter().for_each(|note| print_line!("        {note}"));
            runtime
        }
        Err(error) => {
            let reason = if let gstvx::detect::Error::RuntimeUnusable { library, .. } = &error {
                plugin::loads(library).err().filter(|reason| reason.contains("shared object") || reason.contains("ELF"))
            } else {
                None
            };
            let reason = reason.map_or_else(String::new, |reason| format!("\nLoader error: {reason}"));
            let advice = other_runtime(&dirs).unwrap_or_default();
            return report("ONNX Runtime", Err(format!("{error}{reason}{advice}")));
        }
    };
    let spec = EngineSpec { provider_dirs: dirs.clone(), ..EngineSpec::default() };
    let engine = match Engine::acquire(runtime, &spec) {
        Ok(engine) => engine,
        Err(error) => return report("model", Err(error.to_string())),
    };
    let provider = engine.provider();
    report("model", Ok(engine.model().source.clone()));
    report("provider", Ok(described(provider)));
    if let Some(reason) = &provider.fallback {
        print_line!("        fallback: {reason}");
    }
    plugin_providers(runtime, &dirs);
    true
}

fn described(provider: &ProviderReport) -> String {
    format!(
        "{} on {}, {}, {} sessions of {} threads",
        provider.name, provider.device, provider.precision, provider.sessions, provider.intra_op_threads
    )
}

/// Prints for each plugin provider what it runs on, or why it cannot be used. None of them is required.
fn plugin_providers(runtime: &Runtime, dirs: &[PathBuf]) {
    for plugin in PluginProvider::ALL {
        let name = format!("plugin provider {}", plugin.provider);
        let reason = match plugin.find(runtime, dirs) {
            Ok(library) => {
                match plugin::run_doctor([OsStr::new("--probe"), OsStr::new(&plugin.provider.to_string())]) {
                    Ok(found) => {
                        report(&name, Ok(format!("{found} ({})", library.display())));
                        continue;
                    }
                    Err(reason) => reason,
                }
            }
            Err(searched) => format!("not installed: {}", plugin.missing(&searched)),
        };
        print_line!("  --    {name}: {}", reason.replace('\n', "\n        "));
        if !reason.contains(plugin.requirement) {
            print_line!("        It needs {}", plugin.requirement);
        }
    }
}

/// Loads the built-in model on a provider, and prints what it runs on or why it does not.
fn probe(provider: &Provider) -> u8 {
    let dirs = || -> Result<Vec<PathBuf>, String> {
        gst::init().map_err(|error| error.to_string())?;
        Ok(gstvx::run::library_dirs(plugin::find().ok().as_deref()))
    };
    let acquire = |dirs: Vec<PathBuf>| -> Result<String, String> {
        let options =
            RuntimeOptions { search_dirs: dirs.clone(), provider: provider.clone(), ..RuntimeOptions::default() };
        let (runtime, _) = Runtime::load(&options).map_err(|error| error.to_string())?;
        let spec = EngineSpec { provider: provider.clone(), provider_dirs: dirs, ..EngineSpec::default() };
        Engine::acquire(runtime, &spec).map(|engine| described(engine.provider())).map_err(|error| error.to_string())
    };
    match dirs().and_then(acquire) {
        Ok(found) => {
            print_line!("{found}");
            crate::SUCCESS
        }
        Err(reason) => {
            print_line!("{reason}");
            crate::FAILURE
        }
    }
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
