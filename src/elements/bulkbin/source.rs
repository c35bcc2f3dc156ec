// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source of a lane: `filesrc` for a file, GStreamer's HTTP source (souphttpsrc) for a URL.
//!
//! Thread rule: the lane's thread selects; any thread may ask for the element.

use std::sync::Arc;

use gst::prelude::*;
use parking_lot::Mutex;

use crate::elements::http;
use crate::path::{is_http, path_of};

/// The source element of a lane, replaced where a URL follows a file, or a file a URL.
#[derive(Clone)]
pub(super) struct Source {
    name: String,
    current: Arc<Mutex<gst::Element>>,
}

impl Source {
    /// Creates the source with an element for files.
    ///
    /// # Errors
    /// When `filesrc` is not available.
    pub fn new(name: String) -> Result<Self, gst::glib::BoolError> {
        let element = gst::ElementFactory::make("filesrc").name(&name).build()?;
        Ok(Self { name, current: Arc::new(Mutex::new(element)) })
    }

    /// Returns the element that is in use.
    pub fn element(&self) -> gst::Element {
        self.current.lock().clone()
    }

    /// Prepares to read `file`, a path or an HTTP URL, and links the element to `decoder`, which is in the same bin and not running.
    ///
    /// # Errors
    /// When the URL is not valid, or GStreamer has no source for it.
    pub fn select(&self, file: &str, decoder: &gst::Element) -> Result<(), gst::glib::Error> {
        let current = self.element();
        let is_url = is_http(file);
        if is_url == (current.type_().name() == "GstFileSrc") {
            let next = if is_url { http::source(file) } else { file_source() }?;
            self.replace(&current, next, decoder).map_err(|error| {
                gst::glib::Error::new(gst::CoreError::Pad, &format!("the source cannot be replaced: {error}"))
            })?;
        }
        let element = self.element();
        if is_url {
            let handler = element.dynamic_cast_ref::<gst::URIHandler>();
            handler.map_or(Ok(()), |handler| handler.set_uri(file)).map_err(|error| {
                gst::glib::Error::new(
                    gst::ResourceError::NotFound,
                    &format!("it is not a valid URL: {}", error.message()),
                )
            })?;
        } else {
            element.set_property("location", &*path_of(file));
        }
        Ok(())
    }

    fn replace(
        &self,
        current: &gst::Element,
        next: gst::Element,
        decoder: &gst::Element,
    ) -> Result<(), gst::glib::BoolError> {
        let bin = decoder.parent().and_then(|parent| parent.downcast::<gst::Bin>().ok());
        let bin = bin.ok_or_else(|| gst::glib::bool_error!("the lane is not in a bin"))?;
        current.set_state(gst::State::Null).map_err(|error| gst::glib::bool_error!("{error}"))?;
        bin.remove(current)?;
        next.set_property("name", &self.name);
        // The lane sets the states of its elements, not the bin.
        next.set_locked_state(true);
        bin.add(&next)?;
        next.link(decoder)?;
        *self.current.lock() = next;
        Ok(())
    }
}

fn file_source() -> Result<gst::Element, gst::glib::Error> {
    gst::ElementFactory::make("filesrc")
        .build()
        .map_err(|error| gst::glib::Error::new(gst::CoreError::MissingPlugin, &error.to_string()))
}

/// Checks that a file exists and can be read. Whether a URL can be read is known only by its source.
///
/// # Errors
/// Why the file cannot be read.
pub fn check_readable(file: &str) -> Result<(), gst::glib::Error> {
    if is_http(file) {
        return Ok(());
    }
    let error = |kind: gst::ResourceError, text: &str| Err(gst::glib::Error::new(kind, text));
    let path = path_of(file);
    match std::fs::metadata(&path) {
        // filesrc would report it with the name as raw bytes.
        Ok(metadata) if metadata.is_file() => match std::fs::File::open(&path) {
            Ok(_) => Ok(()),
            Err(denied) if denied.kind() == std::io::ErrorKind::PermissionDenied => {
                error(gst::ResourceError::NotAuthorized, "permission denied; check the file's permissions")
            }
            Err(other) => error(gst::ResourceError::OpenRead, &format!("it cannot be opened: {other}")),
        },
        Ok(metadata) if metadata.is_dir() => error(gst::ResourceError::OpenRead, "it is a folder, not a file"),
        Ok(_) => error(
            gst::ResourceError::OpenRead,
            "it is not a regular file but a pipe, a socket or a device; copy its content to a file",
        ),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            error(gst::ResourceError::NotFound, "No such file; check the path")
        }
        Err(other) => error(gst::ResourceError::OpenRead, &format!("its metadata cannot be read: {other}")),
    }
}
