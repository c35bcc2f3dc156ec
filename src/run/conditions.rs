// SPDX-License-Identifier: MIT OR Apache-2.0
//! What results depend on beside the files: model and settings. The header of an output records these conditions, so that an output
//! is resumed only under the same ones, and they are part of the key of cached results.

use std::collections::BTreeMap;
use std::path::Path;

use crossbeam_channel::unbounded;
use gst::glib;
use gst::prelude::*;

use super::error::Error;
use super::pipeline::{Delivery, Pipeline};
use super::properties::{Properties, model_of};
use crate::detect::{ModelSource, read_regular};
use crate::elements::yolodetect::YoloDetect;
use crate::record::{Conditions, ModelId, SCHEMA};

/// Properties that results do not depend on.
const NOT_DECISIVE: &[&str] = &[
    "name",
    "parent",
    "file",
    "model-file",
    "threads",
    "thread-count",
    "sessions",
    "intra-op-threads",
    "inter-op-threads",
    "cpu-affinity",
    "batch-timeout",
    "max-inflight",
    "memory-limit",
    "load-timeout",
    "cache-dir",
    "io-timeout",
    "spool-limit",
    "optimize-for",
    "runtime-library",
    "qos",
];

/// Properties that are recorded even at their defaults, because the default was another one in earlier versions.
const ALWAYS_RECORDED: &[&str] = &["input-size"];

/// Separates the name of a label file from the hash of its content, which is decisive.
const HASH: &str = " blake3:";

/// The conditions of this run, and what comparing them needs.
pub(super) struct Current {
    pub conditions: Conditions,
    /// Default values of all properties.
    defaults: BTreeMap<String, String>,
    detector: gst::Element,
}

impl Current {
    /// Determines the conditions from `properties`, without loading the model.
    ///
    /// # Errors
    /// An unknown property, an invalid value, a model that cannot be read.
    pub fn new(properties: &Properties) -> Result<Self, Error> {
        let (updates, _) = unbounded();
        // Values are read back from the elements, so that they do not depend on how they were written.
        let [set, plain] =
            [properties, &Properties::new()].map(|properties| Pipeline::new(properties, &updates, Delivery::Files));
        let (set, plain) = (set.map_err(Error::setting)?, plain.map_err(Error::setting)?);
        let defaults = values(&plain.element()).map_err(Error::setting)?;
        let mut settings = values(&set.element()).map_err(Error::setting)?;
        settings.retain(|name, value| ALWAYS_RECORDED.contains(&name.as_str()) || defaults.get(name) != Some(value));
        if let Some(file) = settings.get_mut("label-file")
            && let Ok(content) = read_regular(Path::new(file))
        {
            *file = format!("{}{HASH}{}", file_name(Path::new(file)), &blake3::hash(&content).to_hex()[..16]);
        }
        let path = model_of(&set.element());
        let name = path.as_deref().map_or_else(|| "built-in".to_owned(), file_name);
        let source = path.map_or(ModelSource::BuiltIn, ModelSource::File);
        let model =
            ModelId { name, hash: source.content_hash().map_err(|error| Error::Model { reason: error.to_string() })? };
        let conditions = Conditions { vx: env!("CARGO_PKG_VERSION").to_owned(), model, settings };
        Ok(Self { conditions, defaults, detector: child(&set.element(), "detector").map_err(Error::setting)? })
    }

    /// Returns how `before`, the conditions of an output, differ from these; empty where results are the same.
    pub fn differences(&self, before: &Conditions) -> Vec<String> {
        let (then, now) = (&before.model, &self.conditions.model);
        let mut differences = Vec::new();
        if then.hash != now.hash {
            differences.push(if then.name == now.name {
                format!("other contents of the model {} (or of its .modelinfo or weights)", now.name)
            } else {
                format!("the model {}, now {}", then.name, now.name)
            });
        }
        let names = before.settings.keys().chain(self.conditions.settings.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        for name in names {
            let [then, now] = [&before.settings, &self.conditions.settings].map(|settings| settings.get(name));
            let decisive = |value: &String| value.rsplit_once(HASH).map_or(value.clone(), |(_, hash)| hash.to_owned());
            if then.map(decisive) == now.map(decisive) {
                continue;
            }
            let shown = |value: Option<&String>| match (value, self.defaults.get(name)) {
                (Some(value), _) => value.clone(),
                (None, _) if ALWAYS_RECORDED.contains(&name.as_str()) => "not recorded".to_owned(),
                (None, Some(value)) if !value.is_empty() => format!("{value} (the default)"),
                (None, _) => "not set".to_owned(),
            };
            differences.push(format!("{name}={}, now {}", shown(then), shown(now)));
        }
        differences
    }

    /// Returns a text that changes whenever results may: it includes the versions of vx and ONNX Runtime, and the execution
    /// providers that would be tried, since `auto` depends on the machine. Loads ONNX Runtime, but not the model.
    ///
    /// # Errors
    /// ONNX Runtime or the provider is missing.
    pub fn cache_key(&self) -> Result<String, Error> {
        let Conditions { vx, model, settings } = &self.conditions;
        let detector = self
            .detector
            .downcast_ref::<YoloDetect>()
            .ok_or_else(|| Error::setting("the element detector is not vxyolodetect"))?;
        let candidates = detector.candidates().map_err(|error| Error::Model { reason: error.to_string() })?;
        let decisive = |value: &str| value.rsplit_once(HASH).map_or(value, |(_, hash)| hash).to_owned();
        let settings: Vec<String> =
            settings.iter().map(|(name, value)| format!("{name}={}", decisive(value))).collect();
        Ok(format!("{vx}\n{SCHEMA}\n{}\n{candidates}\n{}", model.hash, settings.join("\n")))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn child(bin: &gst::Element, name: &str) -> Result<gst::Element, String> {
    let bin = bin.downcast_ref::<gst::Bin>().ok_or("vxbulkbin is not a bin")?;
    bin.by_name(name).ok_or_else(|| format!("vxbulkbin has no element {name}"))
}

/// Returns the properties of the elements inside `bin` that results depend on, as text.
fn values(bin: &gst::Element) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for name in ["decoder", "detector", "encoder"] {
        let element = child(bin, name)?;
        for property in element.list_properties().iter().filter(|property| is_setting(property)) {
            values.insert(property.name().to_owned(), text_of(&element.property_value(property.name())));
        }
    }
    Ok(values)
}

fn is_setting(property: &glib::ParamSpec) -> bool {
    property.flags().contains(glib::ParamFlags::READWRITE) && !NOT_DECISIVE.contains(&property.name())
}

fn text_of(value: &glib::Value) -> String {
    // As users write them: GStreamer serialises 0.1 as a double, and quotes strings.
    if let Ok(number) = value.get::<f32>() {
        return number.to_string();
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_default();
    }
    value.serialize().map_or_else(|_| format!("{value:?}"), |text| text.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn current(pairs: &[(&str, &str)]) -> Current {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Current::new(&pairs.collect()).unwrap()
    }

    #[test]
    fn settings_are_compared_by_value_where_results_depend_on_them() {
        let plain = current(&[]);
        let recorded: Vec<_> = plain.conditions.settings.iter().collect();
        assert_eq!(recorded, [(&"input-size".to_owned(), &"auto".to_owned())]);
        let mut old = plain.conditions.clone();
        old.settings.clear();
        assert_eq!(plain.differences(&old), ["input-size=not recorded, now auto"]);
        let spelt = current(&[("iou-threshold", "0.7"), ("lanes", "3"), ("detector::sessions", "1")]);
        assert_eq!(spelt.conditions, plain.conditions);
        let [one, other] = [
            current(&[("classes", "person"), ("detector::iou-threshold", "0.5")]),
            current(&[("iou-threshold", "0.50"), ("detector::classes", "person")]),
        ];
        assert_eq!(one.conditions, other.conditions);
        let differences = current(&[("confidence-threshold", "0.1")]).differences(&one.conditions);
        assert_eq!(
            differences,
            [
                "classes=person, now not set",
                "confidence-threshold=-1 (the default), now 0.1",
                "iou-threshold=0.5, now 0.7 (the default)"
            ]
        );
        assert!(Current::new(&vec![("nothing".to_owned(), "1".to_owned())]).is_err());
    }

    #[test]
    fn a_label_file_is_compared_by_its_contents_and_a_model_by_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (name, content) in [("a.txt", "person"), ("b.txt", "person"), ("c.txt", "other")] {
            std::fs::write(path(name), content).unwrap();
        }
        let [a, b, c] = ["a.txt", "b.txt", "c.txt"].map(|name| current(&[("label-file", &path(name))]));
        assert!(a.differences(&b.conditions).is_empty());
        assert_eq!(a.differences(&c.conditions).len(), 1);
        std::fs::write(path("m.onnx"), "model").unwrap();
        let before = current(&[("model-file", &path("m.onnx"))]);
        for name in ["detector::model-file", "model_file"] {
            assert_eq!(current(&[(name, &path("m.onnx"))]).conditions, before.conditions);
        }
        assert!(before.differences(&before.conditions).is_empty());
        std::fs::write(path("m.modelinfo"), "").unwrap();
        assert!(current(&[("model-file", &path("m.onnx"))]).differences(&before.conditions).is_empty());
        std::fs::write(path("m.modelinfo"), "[a]").unwrap();
        let differences = current(&[("model-file", &path("m.onnx"))]).differences(&before.conditions);
        assert!(differences[0].contains("m.onnx"), "{differences:?}");
        let Err(missing) = Current::new(&vec![("model-file".to_owned(), path("none.onnx"))]) else { panic!() };
        assert!(missing.to_string().contains("none.onnx"), "{missing}");
    }
}
