// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debug categories of the elements, with short function names in their lines.
//!
//! The macros of gstreamer-rs print a function's whole path including the type of its `impl`, which is longer than most messages.
//! A [`Category`] replaces them as the logger and passes on only the last part.

use std::fmt::Arguments;
use std::ops::Deref;
use std::sync::OnceLock;

use gst::glib;
use gst::log::DebugLogger;
use gst::prelude::*;

/// A debug category that is registered when it is first used.
pub struct Category {
    name: &'static str,
    description: &'static str,
    category: OnceLock<gst::DebugCategory>,
}

impl Category {
    /// Creates a category for a static.
    pub const fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description, category: OnceLock::new() }
    }
}

impl Deref for Category {
    type Target = gst::DebugCategory;

    fn deref(&self) -> &gst::DebugCategory {
        self.category
            .get_or_init(|| gst::DebugCategory::new(self.name, gst::DebugColorFlags::empty(), Some(self.description)))
    }
}

impl DebugLogger for Category {
    fn above_threshold(&self, level: gst::DebugLevel) -> bool {
        (**self).above_threshold(level)
    }

    fn log_unfiltered(
        &self,
        object: Option<&impl IsA<glib::Object>>,
        level: gst::DebugLevel,
        file: &glib::GStr,
        function: &str,
        line: u32,
        arguments: Arguments<'_>,
    ) {
        (**self).log_unfiltered(object, level, file, short(function), line, arguments);
    }

    fn log_literal_unfiltered(
        &self,
        object: Option<&impl IsA<glib::Object>>,
        level: gst::DebugLevel,
        file: &glib::GStr,
        function: &str,
        line: u32,
        message: &glib::GStr,
    ) {
        (**self).log_literal_unfiltered(object, level, file, short(function), line, message);
    }
}

/// Returns the name of a function without its path and without closures.
fn short(path: &str) -> &str {
    let mut path = path;
    while let Some(outer) = path.strip_suffix("::{{closure}}") {
        path = outer;
    }
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_by_its_last_part() {
        let cases = [
            (
                "gstvx::elements::keyframedec::streaming::<impl gstvx::elements::keyframedec::imp::KeyframeDec>::open",
                "open",
            ),
            ("gstvx::elements::pull::watch::{{closure}}::{{closure}}", "watch"),
            ("alone", "alone"),
            ("", ""),
        ];
        for (path, name) in cases {
            assert_eq!(short(path), name);
        }
    }
}
