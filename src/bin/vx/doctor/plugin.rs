// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the plugin: where it is, whether GStreamer finds it there, and why it cannot be loaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Finding, quoted};
use crate::program;
use crate::terminal::{print_error, print_line};

/// Name of the file, without its extension.
const STEM: &str = "libgstvx";

/// Returns the plugin that GStreamer knows, or why there is none.
pub fn find() -> Result<PathBuf, String> {
    let registry = gst::Registry::get();
    if let Some(plugin) = registry.find_plugin("vx")
        && let Some(file) = plugin.filename()
    {
        return Ok(file);
    }
    let blacklisted = registry.plugins().into_iter().filter_map(|plugin| {
        let is_ours = plugin.filename()?.file_stem()? == STEM;
        (is_ours && plugin.plugin_flags().contains(gst::PluginFlags::BLACKLISTED)).then(|| plugin.filename()).flatten()
    });
    let remove = format!("rm {}", quoted(registry_file()));
    if let Some(file) = blacklisted.into_iter().next() {
        return Err(match loads(&file) {
            Ok(_) => format!(
                "{} can be loaded now, but could not be when GStreamer first tried, and GStreamer does not try again. Remove its list of \
                 plugins:\n    {remove}",
                file.display()
            ),
            Err(reason) => format!(
                "{} cannot be loaded: {reason}\n{}\nThen remove GStreamer's list of plugins, because it does not try again:\n    {remove}",
                file.display(),
                advice(&reason)
            ),
        });
    }
    let Some(file) = candidates().into_iter().find(|file| file.is_file()) else {
        return Err("GStreamer does not find libgstvx.so, and it is in none of the usual folders: run `make build` or `make install`, or \
                    set GST_PLUGIN_PATH to its folder"
            .to_owned());
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    let export = format!("export GST_PLUGIN_PATH={}", quoted(folder));
    Err(match loads(&file).err() {
        None => format!("GStreamer does not look into {}, where it is:\n    {export}", folder.display()),
        Some(reason) => format!("{} cannot be loaded: {reason}\n{}\n    {export}", file.display(), advice(&reason)),
    })
}

/// Returns what to do about a plugin that cannot be loaded, from the loader's message.
fn advice(reason: &str) -> String {
    let missing =
        reason.split_whitespace().find(|word| word.contains(".so") && word.ends_with(':') && !word.contains('/'));
    match missing.filter(|_| reason.contains("cannot open shared object file")) {
        Some(library) => format!(
            "Install the package that has {}, or run `make build` again for what is installed here",
            library.trim_end_matches(':')
        ),
        None => "Build it again (`make build`), or install it again (`make install`)".to_owned(),
    }
}

/// Tries to load a plugin, or another library, in a separate process.
pub fn loads(file: &Path) -> Finding {
    run_doctor([OsStr::new("--load"), file.as_os_str()])
}

/// Runs `vx doctor` with internal arguments in a separate process, which a broken library may end. Returns what it prints.
pub fn run_doctor(arguments: [&OsStr; 2]) -> Finding {
    let this_program = program::with_arguments(["doctor"]).map_err(|error| error.to_string())?;
    let mut command = Command::new(this_program.program);
    let child = command.args(this_program.arguments).args(arguments).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&child.stdout).trim().to_owned();
    if child.status.success() {
        return Ok(said);
    }
    // Without a word: the library ended the process.
    Err(if said.is_empty() { format!("loading it ends the process ({})", child.status) } else { said })
}

/// Loads a plugin into this process and prints why that fails.
pub fn load(file: &Path) -> u8 {
    if let Err(error) = gst::init() {
        print_error!("vx: {error}");
        return crate::FAILURE;
    }
    match gst::Plugin::load_file(file) {
        Ok(_) => crate::SUCCESS,
        Err(error) => {
            let text = error.message();
            print_line!("{}", text.strip_prefix("Opening module failed: ").unwrap_or(text));
            crate::FAILURE
        }
    }
}

/// Returns the places to search for the plugin: beside a build, below the prefix of the command, in the folders of GStreamer and of the user.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for variable in ["GST_PLUGIN_PATH_1_0", "GST_PLUGIN_PATH"] {
        folders.extend(std::env::var_os(variable).iter().flat_map(std::env::split_paths));
    }
    let program = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    if let Some(prefix) = program.ancestors().nth(2) {
        folders.push(prefix.join("plugins"));
        folders.push(prefix.join("lib/gstreamer-1.0"));
        folders.push(prefix.join(format!("lib/{}-linux-gnu/gstreamer-1.0", std::env::consts::ARCH)));
        folders.push(prefix.join("lib64/gstreamer-1.0"));
    }
    folders.push(gst::glib::user_data_dir().join("gstreamer-1.0/plugins"));
    folders.extend(["/usr/local/lib/gstreamer-1.0", "/usr/lib/gstreamer-1.0"].map(PathBuf::from));
    let name = format!("{STEM}.{}", std::env::consts::DLL_EXTENSION);
    folders.into_iter().map(|folder| folder.join(&name)).collect()
}

/// Returns the file in which GStreamer keeps its list of plugins, including those that it could not load.
pub fn registry_file() -> PathBuf {
    for variable in ["GST_REGISTRY_1_0", "GST_REGISTRY"] {
        if let Some(file) = std::env::var_os(variable) {
            return file.into();
        }
    }
    let folder = gst::glib::user_cache_dir().join("gstreamer-1.0");
    let named = folder.join(format!("registry.{}.bin", std::env::consts::ARCH));
    // GStreamer's own word for the processor may be another, as armv7l.
    let others = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others = others.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("registry.") && name.ends_with(".bin")
    });
    if named.exists() { named } else { others.next().unwrap_or(named) }
}
