//! What results depend on beside the files: model and settings. The header of an output records it, so that an output is
//! continued only under the same conditions, and it is part of the key of cached results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crossbeam_channel::unbounded;
use gst::glib;
use gst::prelude::*;
use gstvx::detect::{ModelSource, read_regular};
use gstvx::elements::jsonenc::record::SCHEMA;
use gstvx::elements::yolodetect::YoloDetect;
use serde::{Deserialize, Serialize};

use crate::bulk::{Bulk, Hand, Properties, model_of};

/// Properties that decide how a run goes and not what it finds.
const HOW: &[&str] = &[
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
    "io-timeout",
    "spool-limit",
    "optimize-for",
    "runtime-library",
    "qos",
];

/// Separates what a file of class names is called from the hash of its content, which is what counts.
const HASH: &str = " blake3:";

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The version of vx that wrote them.
    pub vx: String,
    pub model: Model,
    /// Values of the properties that are not at their defaults, by name.
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// File name, or "built-in".
    pub name: String,
    /// Of the model, its `.modelinfo` and its weights.
    pub hash: String,
}

/// The conditions of this run, with what is needed to compare and look up.
pub struct Current {
    pub conditions: Conditions,
    /// Values of all properties that are not set.
    defaults: BTreeMap<String, String>,
    detector: gst::Element,
}

/// A header line: [`jsonenc`'s](gstvx::elements::jsonenc), with `run` in place of a file and its detector.
#[derive(Serialize, Deserialize)]
struct Line {
    schema: u32,
    header: Header,
}

#[derive(Serialize, Deserialize)]
struct Header {
    file: Option<String>,
    detector: Option<serde_json::Value>,
    run: Option<Conditions>,
}

impl Conditions {
    /// As the first line of an output, with its end.
    pub fn to_line(&self) -> Vec<u8> {
        let line = Line { schema: SCHEMA, header: Header { file: None, detector: None, run: Some(self.clone()) } };
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The conditions in a header line, if it is one of a run.
    pub fn from_line(line: &[u8]) -> Option<Self> {
        memchr::memmem::find(line, b"\"header\":")?;
        serde_json::from_slice::<Line>(line).ok()?.header.run
    }
}

impl Current {
    /// Finds out what `properties` come to. Loads nothing.
    ///
    /// # Errors
    /// A property that does not exist, a value that it does not take, a model that cannot be read.
    pub fn new(properties: &Properties) -> Result<Self, String> {
        let (events, _) = unbounded();
        // Read back from the elements, a setting is the same however it was written.
        let [set, plain] =
            [properties, &Properties::new()].map(|properties| Bulk::new(properties, &events, Hand::Units));
        let (set, plain) = (set?, plain?);
        let defaults = values(&plain.handle())?;
        let mut settings = values(&set.handle())?;
        settings.retain(|name, value| defaults.get(name) != Some(value));
        if let Some(file) = settings.get_mut("label-file")
            && let Ok(content) = read_regular(Path::new(file))
        {
            *file = format!("{}{HASH}{}", file_name(Path::new(file)), &blake3::hash(&content).to_hex()[..16]);
        }
        let path = model_of(properties);
        let source = path.map_or(ModelSource::BuiltIn, |path| ModelSource::File(PathBuf::from(path)));
        let model = Model {
            name: path.map_or_else(|| "built-in".to_owned(), file_name),
            hash: source.content_hash().map_err(|error| error.to_string())?,
        };
        let conditions = Conditions { vx: env!("CARGO_PKG_VERSION").to_owned(), model, settings };
        Ok(Self { conditions, defaults, detector: child(&set.handle(), "detector")? })
    }

    /// How `before`, under which an output was made, differs from now; empty where results are the same.
    pub fn differences(&self, before: &Conditions) -> Vec<String> {
        let (then, now) = (&before.model, &self.conditions.model);
        let mut differences = Vec::new();
        if then.hash != now.hash {
            differences.push(if then.name == now.name {
                format!("another content of the model {} (or of its .modelinfo or weights)", now.name)
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
                (None, Some(value)) if !value.is_empty() => format!("{value} (the default)"),
                (None, _) => "nothing set".to_owned(),
            };
            differences.push(format!("{name}={}, now {}", shown(then), shown(now)));
        }
        differences
    }

    /// A text that is the same as long as results are: also of the version of vx, of ONNX Runtime and of the execution providers
    /// that would be tried, since `auto` takes what is there. Loads ONNX Runtime, but not the model.
    ///
    /// # Errors
    /// Where ONNX Runtime or the provider is missing.
    pub fn cache_key(&self) -> Result<String, String> {
        let Conditions { vx, model, settings } = &self.conditions;
        let detector = self.detector.downcast_ref::<YoloDetect>().ok_or("the element detector is not vxyolodetect")?;
        let candidates = detector.candidates().map_err(|error| error.to_string())?;
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

/// The properties of the elements inside `bin` that results depend on, as text.
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
    property.flags().contains(glib::ParamFlags::READWRITE) && !HOW.contains(&property.name())
}

fn text_of(value: &glib::Value) -> String {
    // As they are written on the command line: the serialised form of 0.1 is that of a double, and strings are quoted.
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
    fn settings_count_by_their_value_and_only_where_results_depend_on_them() {
        let plain = current(&[]);
        assert!(plain.conditions.settings.is_empty(), "{:?}", plain.conditions.settings);
        let spelt = current(&[("confidence-threshold", "0.25"), ("lanes", "3"), ("detector::sessions", "1")]);
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
                "classes=person, now nothing set",
                "confidence-threshold=0.25 (the default), now 0.1",
                "iou-threshold=0.5, now 0.7 (the default)"
            ]
        );
        assert!(Current::new(&vec![("nothing".to_owned(), "1".to_owned())]).is_err());
    }

    #[test]
    fn a_file_of_names_counts_by_its_content_and_a_model_by_all_its_files() {
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
        assert!(before.differences(&before.conditions).is_empty());
        std::fs::write(path("m.modelinfo"), "").unwrap();
        assert!(current(&[("model-file", &path("m.onnx"))]).differences(&before.conditions).is_empty());
        std::fs::write(path("m.modelinfo"), "[a]").unwrap();
        let differences = current(&[("model-file", &path("m.onnx"))]).differences(&before.conditions);
        assert!(differences[0].contains("m.onnx"), "{differences:?}");
        let Err(missing) = Current::new(&vec![("model-file".to_owned(), path("none.onnx"))]) else { panic!() };
        assert!(missing.contains("none.onnx"), "{missing}");
    }

    #[test]
    fn a_header_line_is_one_of_a_run_or_none() {
        let conditions = current(&[("classes", "person")]).conditions;
        assert_eq!(Conditions::from_line(&conditions.to_line()).unwrap(), conditions);
        let of_file = br#"{"schema":2,"header":{"file":"a","detector":{"model":"m"}}}"#;
        assert_eq!(Conditions::from_line(of_file), None);
        assert_eq!(Conditions::from_line(br#"{"schema":2,"file":"a","pts_ns":0,"detections":[]}"#), None);
    }
}
