// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `.modelinfo` file beside a model, as GStreamer's own `onnxinference` reads it: what the model itself does not state.
//!
//! An ini file with a section for each tensor (GStreamer's documentation of GstAnalyticsModelInfo). It provides the `ranges` of the
//! input (the values of black and white in each channel) and the `id` of an output, if it names a layout.

use std::io::Read;
use std::path::Path;

use super::file::open_regular;
use crate::detect::error::{Error, Result};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The contents of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelInfo {
    /// Values of black and of white for each channel.
    pub ranges: Option<[(f32, f32); 3]>,
    /// Identifiers of the outputs, in lower case; some name the layout.
    pub output_ids: Vec<String>,
}

/// Reads the file beside `model`, which is MODEL.modelinfo or has the model's extension replaced; an empty text if there is none.
///
/// # Errors
/// If the file exists and cannot be read.
pub(crate) fn beside(model: &Path) -> Result<String> {
    let mut name = model.as_os_str().to_owned();
    name.push(".modelinfo");
    for path in [Path::new(&name).to_owned(), model.with_extension("modelinfo")] {
        let refuse = |reason: String| Error::ModelUnreadable { path: path.clone(), reason };
        let mut text = String::new();
        let read = match open_regular(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text)),
        };
        read.map_err(|error| refuse(format!("{error}; correct or remove the file")))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(refuse("it is too long for a modelinfo file; correct or remove the file".to_owned()));
        }
        return Ok(text);
    }
    Ok(String::new())
}

impl ModelInfo {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// What is wrong, as text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut info = Self::default();
        let (mut direction, mut section) = (String::new(), String::new());
        let mut ranges = None;
        let mut ids: Vec<String> = Vec::new();
        for line in text.lines().map(str::trim).chain(["[]"]) {
            if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                match direction.as_str() {
                    "input" => info.ranges = info.ranges.or(ranges.take()),
                    "output" => info.output_ids.append(&mut ids),
                    _ => {}
                }
                (direction, section) = (String::new(), title.to_owned());
                (ranges, ids) = (None, Vec::new());
                continue;
            }
            let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                continue;
            };
            match key {
                "dir" => direction = value.to_ascii_lowercase(),
                "id" | "group-id" => ids.push(value.to_ascii_lowercase()),
                "ranges" => {
                    ranges = Some(parse_ranges(value).ok_or_else(|| {
                        format!("the ranges of [{section}] are not one or three pairs \"black,white;...\": {value}")
                    })?)
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

/// Parses "0.0,255.0;0.0,255.0;0.0,255.0", or one pair for all channels.
fn parse_ranges(text: &str) -> Option<[(f32, f32); 3]> {
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (black, white) = pair.split_once(',')?;
        let (black, white) = (black.trim().parse::<f32>().ok()?, white.trim().parse::<f32>().ok()?);
        (black.is_finite() && white.is_finite() && black != white).then_some((black, white))
    });
    match pairs.collect::<Option<Vec<_>>>()?.as_slice() {
        [all] => Some([*all; 3]),
        [first, second, third] => Some([*first, *second, *third]),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    const TEXT: &str = "[modelinfo]\nversion=1.0\ngroup-id=yolo-v8-out\n\n[images]\nid=images\ntype=float32\n\
        dims=-1,3,640,640\ndir=input\nranges=-1.0,1.0; -2,2.5 ;0,255\n\n[output0]\nid=yolo-v8-out\ndir=output\n";

    #[test]
    fn ranges_and_ids_are_read() {
        let info = ModelInfo::parse(TEXT).unwrap();
        assert_eq!(info.ranges, Some([(-1.0, 1.0), (-2.0, 2.5), (0.0, 255.0)]));
        assert_eq!(info.output_ids, ["yolo-v8-out"]);
        let one = ModelInfo::parse("[a]\ndir=input\nranges=0.0,1.0\n[b]\ndir=output\nid=yolo-v10-out").unwrap();
        assert_eq!((one.ranges, one.output_ids), (Some([(0.0, 1.0); 3]), vec!["yolo-v10-out".to_owned()]));
        assert_eq!(ModelInfo::parse("").unwrap(), ModelInfo::default());
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        let info = std::fs::File::create(folder.path().join("model.onnx.modelinfo")).unwrap();
        info.set_len(MAX_BYTES).unwrap();
        assert_eq!(beside(&model).unwrap().len() as u64, MAX_BYTES);
        info.set_len(MAX_BYTES + 1).unwrap();
        let text = beside(&model).unwrap_err().to_string();
        assert!(text.contains("too long for a modelinfo file"), "{text}");
    }

    #[test]
    fn invalid_ranges_are_reported() {
        for ranges in ["1", "a,b", "0,1;0,1", "0,0", "nan,1", "0,1;0,1;0,1;0,1"] {
            let error = ModelInfo::parse(&format!("[in]\ndir=input\nranges={ranges}")).unwrap_err();
            assert!(error.contains("[in]") && error.contains(ranges), "{error}");
        }
    }

    #[test]
    fn the_file_beside_the_model_is_found_by_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        assert_eq!(beside(&model).unwrap(), "");
        std::fs::write(folder.path().join("m.modelinfo"), "short").unwrap();
        assert_eq!(beside(&model).unwrap(), "short");
        std::fs::write(folder.path().join("m.onnx.modelinfo"), "long").unwrap();
        assert_eq!(beside(&model).unwrap(), "long");
        std::fs::write(folder.path().join("m.onnx.modelinfo"), [0xff, 0xfe]).unwrap();
        assert!(beside(&model).unwrap_err().to_string().contains("m.onnx.modelinfo"));
    }
}
