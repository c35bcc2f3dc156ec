// SPDX-License-Identifier: MIT OR Apache-2.0
//! GStreamer's source for HTTP URLs (souphttpsrc), and what its errors mean. Any thread.

use gst::prelude::*;

/// Seconds that an HTTP source waits for the server before it fails.
const SERVER_TIMEOUT: u32 = 30;

/// Sent to servers, so that their operators can identify the requests.
const USER_AGENT: &str = concat!("vx/", env!("CARGO_PKG_VERSION"));

/// Creates GStreamer's source for an HTTP URL.
///
/// # Errors
/// When none is installed, or the URL is not valid.
pub fn source(url: &str) -> Result<gst::Element, gst::glib::Error> {
    let source = gst::Element::make_from_uri(gst::URIType::Src, url, None).map_err(|error| {
        if error.matches(gst::URIError::UnsupportedProtocol) {
            let advice = "GStreamer has no source for HTTP; install its \"good\" plugins (gstreamer1.0-plugins-good)";
            return gst::glib::Error::new(gst::CoreError::MissingPlugin, advice);
        }
        gst::glib::Error::new(gst::ResourceError::NotFound, &format!("it is not a valid URL: {}", error.message()))
    })?;
    // Other elements for HTTP have other properties.
    if source.has_property_with_type("timeout", u32::static_type()) {
        source.set_property("timeout", SERVER_TIMEOUT);
    }
    if source.has_property_with_type("user-agent", String::static_type()) {
        source.set_property("user-agent", USER_AGENT);
    }
    Ok(source)
}

/// The answer of a server that does not send the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What happened and what to do.
    pub reason: String,
    /// Whether the same request may succeed later.
    pub may_pass: bool,
}

impl Refusal {
    /// Reads it from an error message of an HTTP source.
    pub fn from_message(message: &gst::message::Error) -> Option<Self> {
        let status = message.details()?.get::<u32>("http-status-code").ok()?;
        let error = message.error();
        Some(Self::new(status, error.message()))
    }

    /// `text` is the source's own message, for what is not an answer of the server.
    fn new(status: u32, text: &str) -> Self {
        let (what, advice) = match status {
            401 | 407 => (
                "the server requires authentication",
                "use a link that carries its credentials, such as a presigned one",
            ),
            403 => ("the server denies access", "the link may have expired, or may need credentials"),
            404 | 410 => ("the server does not have it", "check the URL"),
            408 | 425 | 429 => ("the server is busy", "try again later, or with fewer lanes"),
            400..=499 => ("the server refused the request", "check the URL"),
            500..=599 => ("the server failed", "try again later"),
            // Below 100: not an answer, but libsoup's own codes (2 cannot resolve, 4 cannot connect, 6 TLS, 7 I/O).
            _ => {
                let reason = format!(
                    "the server cannot be reached: {}; check the URL and the network",
                    text.trim_end_matches('.')
                );
                return Self { reason, may_pass: true };
            }
        };
        let may_pass = matches!(status, 408 | 425 | 429 | 500..=599);
        Self { reason: format!("{what} (HTTP status {status}); {advice}"), may_pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do_and_whether_to_try_again() {
        for (status, expected, may_pass) in [
            (403, "may have expired", false),
            (404, "does not have it (HTTP status 404); check the URL", false),
            (401, "requires authentication", false),
            (429, "fewer lanes", true),
            (503, "try again later", true),
            (2, "cannot be reached: Could not resolve host; check", true),
        ] {
            let refusal = Refusal::new(status, "Could not resolve host.");
            assert!(refusal.reason.contains(expected), "{}", refusal.reason);
            assert_eq!(refusal.may_pass, may_pass, "{status}");
        }
    }
}
