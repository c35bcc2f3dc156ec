// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of `vxbulkbin` and their defaults.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::list::read_list_file;
use crate::path::{is_http, name_of, path_of};

/// The order in which files are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxBulkOrder")]
pub enum Order {
    /// By descending size.
    #[default]
    #[enum_value(
        name = "Largest first: the longest file does not start when all others have finished",
        nick = "largest-first"
    )]
    LargestFirst,
    /// As in the list.
    #[enum_value(name = "As given", nick = "as-given")]
    AsGiven,
}

/// What happens when a file fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxBulkOnError")]
pub enum OnError {
    /// The others are processed.
    #[default]
    #[enum_value(name = "Continue with the others", nick = "continue")]
    Continue,
    /// No other is started.
    #[enum_value(name = "Stop: finish the files that were started, then fail", nick = "stop")]
    Stop,
}

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub location: Option<String>,
    pub files: Vec<String>,
    pub file_list: Option<PathBuf>,
    pub lanes: u32,
    pub order: Order,
    pub on_error: OnError,
    pub memory_limit: u64,
    pub file_timeout: u64,
}

/// Properties that the bin forwards to the lanes' detectors.
pub const DETECTOR_PROPERTIES: [&str; 8] = [
    "model-file",
    "label-file",
    "confidence-threshold",
    "iou-threshold",
    "classes",
    "execution-provider",
    "runtime-library",
    "cache-dir",
];

impl Settings {
    /// # Panics
    /// For a value that is not of the property's type, which GObject does not let through.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let fits = "GObject has checked the value against the property's type";
        match name {
            "location" => self.location = value.get().expect(fits),
            "files" => {
                let files = value.get::<&[glib::GStringPtr]>().expect(fits);
                // As bytes: applications may set any that the system takes in a path.
                let name = |file: &glib::GStringPtr| {
                    let bytes = file.to_gstr().as_bytes();
                    std::str::from_utf8(bytes).map_or_else(|_| name_of(&path_of_bytes(bytes)), ToOwned::to_owned)
                };
                self.files = files.iter().map(name).collect();
            }
            "file-list" => self.file_list = value.get::<Option<PathBuf>>().expect(fits),
            "lanes" => self.lanes = value.get().expect(fits),
            "order" => self.order = value.get().expect(fits),
            "on-error" => self.on_error = value.get().expect(fits),
            "memory-limit" => self.memory_limit = value.get().expect(fits),
            "file-timeout" => self.file_timeout = value.get().expect(fits),
            _ => unreachable!("GObject passes on only properties of the list below"),
        }
    }

    /// Returns a property's value; `None` for those that are not settings.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "location" => self.location.to_value(),
            "files" => self.files.to_value(),
            "file-list" => self.file_list.to_value(),
            "lanes" => self.lanes.to_value(),
            "order" => self.order.to_value(),
            "on-error" => self.on_error.to_value(),
            "memory-limit" => self.memory_limit.to_value(),
            "file-timeout" => self.file_timeout.to_value(),
            _ => return None,
        })
    }

    /// Returns all files: those of `location`, then those of `files`, then those of `file-list`.
    ///
    /// # Errors
    /// When the list cannot be read, or nothing matches the location.
    pub fn all_files(&self) -> Result<Vec<String>, String> {
        let mut files = self.location.as_deref().map(files_at).transpose()?.unwrap_or_default();
        files.extend_from_slice(&self.files);
        if let Some(path) = &self.file_list {
            files.extend(read_list_file(path)?);
        }
        Ok(files)
    }
}

/// Returns the file with this path or, if there is none, the files that match it as a pattern.
fn files_at(location: &str) -> Result<Vec<String>, String> {
    if Path::new(location).exists() || !location.contains(['*', '?', '[']) || is_http(location) {
        return Ok(vec![location.to_owned()]);
    }
    let found = glob::glob(location).map_err(|error| format!("location {location} is not a valid pattern: {error}"))?;
    let files = found.filter_map(Result::ok).filter(|path| path.is_file());
    let files: Vec<String> = files.map(|path| name_of(&path)).collect();
    if files.is_empty() { Err(format!("no file matches location {location}")) } else { Ok(files) }
}

/// Parses a list of files, one per line; a list that contains a NUL byte (`find -print0`), or with `is_null`, has NUL bytes as
/// separators. A path that is not UTF-8 becomes a `file://` URI.
#[must_use]
pub(super) fn paths_in(list: &[u8], is_null: bool) -> Vec<String> {
    let name = |bytes: &[u8]| name_of(&path_of_bytes(bytes));
    if is_null || list.contains(&0) {
        return list.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(name).collect();
    }
    let list = list.strip_prefix(b"\xef\xbb\xbf").unwrap_or(list);
    let lines = list.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.trim_ascii().is_empty()).map(name).collect()
}

/// Returns the path of an entry of a list, or of an argument.
fn path_of_bytes(bytes: &[u8]) -> Cow<'_, Path> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::Borrowed(Path::new(OsStr::from_bytes(bytes))), path_of)
}

pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    let mut properties = vec![
        glib::ParamSpecString::builder("location")
            .nick("Location")
            .blurb("Path or HTTP URL of a file to read, or pattern that matches several (recordings/*.mp4)")
            .mutable_ready()
            .build(),
        // GStrv and not GstValueArray: bindings convert lists to it, and C passes an array of strings.
        glib::ParamSpecBoxed::builder::<Vec<String>>("files")
            .nick("Files")
            .blurb("Paths or HTTP URLs of the files to read, for applications: gst-launch-1.0 cannot set a list of strings")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("file-list")
            .nick("File list")
            .blurb("Text file with the path or HTTP URL of a file to read on each line, or before each NUL byte; read after those of `location` and `files`")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("lanes")
            .nick("Lanes")
            .blurb("Files processed at once (0 = automatic)")
            .maximum(64)
            .default_value(defaults.lanes)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Order>("order")
            .nick("Order")
            .blurb("Order in which files are processed")
            .default_value(defaults.order)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<OnError>("on-error")
            .nick("On error")
            .blurb("What happens when a file fails")
            .default_value(defaults.on_error)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("memory-limit")
            .nick("Memory limit")
            .blurb("Bytes of memory to plan with (0 = 80 % of the available memory)")
            .default_value(defaults.memory_limit)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("file-timeout")
            .nick("File timeout")
            .blurb("Nanoseconds after which a file fails (0 = never)")
            .default_value(defaults.file_timeout)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts and times of files, keyframes and detections so far")
            .read_only()
            .build(),
    ];
    properties.extend(crate::elements::yolodetect::forwarded_properties(&DETECTOR_PROPERTIES));
    properties
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_before_it_is_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["a.mp4", "b.mp4", "[a].mp4", "c.txt"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert_eq!(files_at(&path("[a].mp4")).unwrap(), [path("[a].mp4")]);
        assert_eq!(files_at(&path("[ab].mp4")).unwrap(), [path("a.mp4"), path("b.mp4")]);
        assert_eq!(files_at(&path("absent.mp4")).unwrap(), [path("absent.mp4")]);
        assert!(files_at(&path("*.mkv")).unwrap_err().contains("no file matches"));
        assert!(files_at(&path("[.mkv")).unwrap_err().contains("not a valid pattern"));
    }

    #[test]
    fn lists_come_from_all_systems_and_with_odd_names() {
        let found = paths_in(b"\xef\xbb\xbfa.mp4\r\n\r\n  \n b c .mp4 \n/bad\xff.mp4\nfile:///a%20b.mp4", false);
        assert_eq!(found, ["a.mp4", " b c .mp4 ", "file:///bad%FF.mp4", "/a b.mp4"]);
        assert!(paths_in(b"", false).is_empty() && paths_in(b"", true).is_empty());
        assert_eq!(paths_in(b"one\nname.mp4\0\r\0/b\xff\0", false), ["one\nname.mp4", "\r", "file:///b%FF"]);
        assert_eq!(paths_in(b"one\nname.mp4", true), ["one\nname.mp4"]);
    }
}
