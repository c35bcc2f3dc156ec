//! The properties of `vxbulkbin` and their defaults.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::path::{name_of, path_of};

/// The order in which files are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxBulkOrder")]
pub enum Order {
    /// By falling size.
    #[default]
    #[enum_value(
        name = "Largest first: the longest file does not begin when all others have ended",
        nick = "largest-first"
    )]
    LargestFirst,
    /// As in the list.
    #[enum_value(name = "As given", nick = "as-given")]
    AsGiven,
}

/// What a file that fails means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxBulkOnError")]
pub enum OnError {
    /// Nothing.
    #[default]
    #[enum_value(name = "Continue with the others", nick = "continue")]
    Continue,
    /// No other is begun.
    #[enum_value(name = "Stop: those begun are ended, then there is an error", nick = "stop")]
    Stop,
}

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub files: Vec<String>,
    pub file_list: Option<PathBuf>,
    pub lanes: u32,
    pub order: Order,
    pub on_error: OnError,
    pub memory_limit: u64,
    pub file_timeout: u64,
}

/// Properties of the first lane's detector that are the bin's too.
pub const OF_DETECTOR: [&str; 7] = [
    "model-file",
    "label-file",
    "confidence-threshold",
    "iou-threshold",
    "classes",
    "execution-provider",
    "runtime-library",
];

impl Settings {
    /// # Panics
    /// For a value that is not of the property's type, which GObject does not let through.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let fits = "GObject has checked the value against the property's type";
        match name {
            "files" => {
                let files = value.get::<gst::Array>().expect(fits);
                // As paths: applications may set any bytes that the system takes.
                let files = files.iter().filter_map(|file| file.get::<PathBuf>().ok());
                self.files =
                    files.map(|file| file.to_str().map_or_else(|| name_of(&file), ToOwned::to_owned)).collect();
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

    /// The value of a setting; `None` for what is none.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "files" => gst::Array::new(&self.files).to_value(),
            "file-list" => self.file_list.to_value(),
            "lanes" => self.lanes.to_value(),
            "order" => self.order.to_value(),
            "on-error" => self.on_error.to_value(),
            "memory-limit" => self.memory_limit.to_value(),
            "file-timeout" => self.file_timeout.to_value(),
            _ => return None,
        })
    }

    /// All files: those of `files`, then those of `file-list`.
    ///
    /// # Errors
    /// Why the list cannot be read, with its path.
    pub fn all_files(&self) -> Result<Vec<String>, String> {
        let mut files = self.files.clone();
        if let Some(path) = &self.file_list {
            let bytes = std::fs::read(path)
                .map_err(|error| format!("the file list {} cannot be read: {error}", path.display()))?;
            files.extend(paths_in(&bytes, false));
        }
        Ok(files)
    }
}

/// The files that a list names, one a line; a list that contains a NUL byte (`find -print0`), or is said to be `is_null`
/// separated, has one before each NUL. A path that is not UTF-8 becomes a `file://` URI.
#[must_use]
pub fn paths_in(list: &[u8], is_null: bool) -> Vec<String> {
    let name = |bytes: &[u8]| name_of(&path_of_bytes(bytes));
    if is_null || list.contains(&0) {
        return list.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(name).collect();
    }
    let list = list.strip_prefix(b"\xef\xbb\xbf").unwrap_or(list);
    let lines = list.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.trim_ascii().is_empty()).map(name).collect()
}

/// The path that an entry of a list, or an argument, stands for.
fn path_of_bytes(bytes: &[u8]) -> Cow<'_, Path> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::Borrowed(Path::new(OsStr::from_bytes(bytes))), path_of)
}

pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    let file = glib::ParamSpecString::builder("file").nick("File").blurb("Path or file:// URI of a media file").build();
    let mut properties = vec![
        gst::ParamSpecArray::builder("files")
            .nick("Files")
            .blurb("Paths of the files to read")
            .element_spec(&file)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("file-list")
            .nick("File list")
            .blurb("Text file with the path of a file to read on each line, or before each NUL byte; they come after those of `files`")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("lanes")
            .nick("Lanes")
            .blurb("Files read at once (0 = planned)")
            .maximum(64)
            .default_value(defaults.lanes)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Order>("order")
            .nick("Order")
            .blurb("Order in which files are taken")
            .default_value(defaults.order)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<OnError>("on-error")
            .nick("On error")
            .blurb("What a file that fails means for the others")
            .default_value(defaults.on_error)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("memory-limit")
            .nick("Memory limit")
            .blurb("Bytes of memory to plan with (0 = 80 % of what is available)")
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
            .blurb("Files, keyframes, detections and times so far")
            .read_only()
            .build(),
    ];
    properties.extend(
        crate::elements::yolodetect::properties().iter().filter(|p| OF_DETECTOR.contains(&p.name())).map(|property| {
            // The same again: a ParamSpec belongs to one class.
            let (name, nick, blurb) = (property.name(), property.nick(), property.blurb().unwrap_or_default());
            match property.downcast_ref::<glib::ParamSpecFloat>() {
                Some(float) => glib::ParamSpecFloat::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .minimum(float.minimum())
                    .maximum(float.maximum())
                    .default_value(float.default_value())
                    .mutable_ready()
                    .build(),
                None => {
                    let default =
                        property.downcast_ref::<glib::ParamSpecString>().and_then(|text| text.default_value());
                    glib::ParamSpecString::builder(name)
                        .nick(nick)
                        .blurb(blurb)
                        .default_value(default)
                        .mutable_ready()
                        .build()
                }
            }
        }),
    );
    properties
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_from_all_systems_and_with_odd_names() {
        let found = paths_in(b"\xef\xbb\xbfa.mp4\r\n\r\n  \n b c .mp4 \n/bad\xff.mp4\nfile:///a%20b.mp4", false);
        assert_eq!(found, ["a.mp4", " b c .mp4 ", "file:///bad%FF.mp4", "/a b.mp4"]);
        assert!(paths_in(b"", false).is_empty() && paths_in(b"", true).is_empty());
        assert_eq!(paths_in(b"one\nname.mp4\0\r\0/b\xff\0", false), ["one\nname.mp4", "\r", "file:///b%FF"]);
        assert_eq!(paths_in(b"one\nname.mp4", true), ["one\nname.mp4"]);
    }
}
