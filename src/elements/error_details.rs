// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structured details of error messages, for elements that handle the errors of others (`vxbulkbin`).
//!
//! The text of an error message names the file, and its debug text begins with a source location and the element's path. The
//! details carry the reason and the cause without either.

/// Name of the details structure.
const NAME: &str = "vx-error";

/// Name of the details structure of warnings about the model, which concern every result.
pub const MODEL_DETAILS: &str = "vx-model";

/// Contents of the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorDetails {
    /// What failed and what to do, without the file's name.
    pub reason: String,
    /// The cause, for debugging; may be empty.
    pub debug: String,
}

impl ErrorDetails {
    /// Converts the details for `element_error!(…, details: …)`.
    pub fn to_structure(&self) -> gst::Structure {
        gst::Structure::builder(NAME).field("reason", &self.reason).field("debug", &self.debug).build()
    }

    /// Reads the details of a message, if it has them.
    pub fn from_structure(details: &gst::StructureRef) -> Option<Self> {
        let text = |field: &str| details.get::<String>(field).ok();
        (details.name() == NAME).then_some(())?;
        Some(Self { reason: text("reason")?, debug: text("debug")? })
    }
}

/// Posts an error whose reason and cause are also in its details. With `file` the message begins with the file's name.
macro_rules! post_error {
    ($imp:expr, $code:expr, $reason:expr, $debug:expr) => {
        $crate::elements::error_details::post_error!(@ $imp, $code, "", $reason, $debug)
    };
    ($imp:expr, $code:expr, file: $file:expr, $reason:expr, $debug:expr) => {
        $crate::elements::error_details::post_error!(@ $imp, $code, format!("{}: ", $file), $reason, $debug)
    };
    (@ $imp:expr, $code:expr, $prefix:expr, $reason:expr, $debug:expr) => {{
        let details = $crate::elements::error_details::ErrorDetails { reason: $reason, debug: $debug };
        gst::element_imp_error!(
            $imp,
            $code,
            ("{}{}", $prefix, details.reason),
            ["{}", details.debug],
            details: details.to_structure()
        )
    }};
}
pub(crate) use post_error;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_survive_the_message() {
        gst::init().unwrap();
        let details = ErrorDetails { reason: "it is empty".into(), debug: "Empty".into() };
        assert_eq!(ErrorDetails::from_structure(&details.to_structure()), Some(details));
        assert_eq!(ErrorDetails::from_structure(&gst::Structure::new_empty("other")), None);
    }
}
