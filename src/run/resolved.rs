// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings and properties brought together, before anything is read: each property under one name, and what concerns the run as a
//! whole as typed values, whether it was given as a setting or as a property. Any thread.

use std::path::PathBuf;
use std::time::Duration;

use gst::prelude::*;

use super::error::Error;
use super::properties::{self, Properties, model_of, new_bin};
use super::settings::{Order, Settings};
use crate::elements::bulkbin;

/// Properties of `vxbulkbin` that are about the run as a whole. With worker processes the supervisor acts on them.
pub(super) const RUN_PROPERTIES: [&str; 5] = ["lanes", "order", "on-error", "memory-limit", "file-timeout"];

/// Settings that are about the run as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunSettings {
    pub lanes: Option<u32>,
    pub order: Order,
    pub stop_on_error: bool,
    pub memory_limit: Option<u64>,
    pub file_timeout: Option<Duration>,
}

/// See the module.
pub(super) struct Resolved {
    /// All properties, in the order in which they are set.
    pub properties: Properties,
    pub run: RunSettings,
    /// The model; `None` for the built-in one.
    pub model: Option<PathBuf>,
    /// A header line before a file's first line is wanted.
    pub has_header: bool,
}

impl Resolved {
    /// Resolves `settings`.
    ///
    /// # Errors
    /// A property that does not exist or has an invalid value; a setting and its property that differ.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let bin = new_bin().map_err(Error::setting)?;
        let mut properties = settings.to_properties();
        properties::resolve(&mut properties, &bin).map_err(Error::setting)?;
        for (name, value) in &properties {
            properties::set(&bin, name, value).map_err(Error::setting)?;
        }
        let of_run = properties.extract_if(.., |(name, _)| RUN_PROPERTIES.contains(&name.as_str()));
        let given: Vec<String> = of_run.map(|(name, _)| name).collect();
        let run = RunSettings::new(settings, &bin, &given)?;
        properties.extend(run.to_properties());
        let encoder = bin.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("encoder"));
        let has_header = encoder.is_some_and(|encoder| encoder.property("header"));
        Ok(Self { properties, run, model: model_of(&bin), has_header })
    }
}

impl RunSettings {
    /// Combines `settings` with the properties of `bin` that were `given`.
    fn new(settings: &Settings, bin: &gst::Element, given: &[String]) -> Result<Self, Error> {
        let is_given = |name: &str| given.iter().any(|given| given == name);
        let order = is_given("order").then(|| match bin.property("order") {
            bulkbin::Order::LargestFirst => Order::LargestFirst,
            bulkbin::Order::AsGiven => Order::AsGiven,
        });
        let stops =
            is_given("on-error").then(|| bin.property::<bulkbin::OnError>("on-error") == bulkbin::OnError::Stop);
        let lanes = is_given("lanes").then(|| bin.property("lanes"));
        let memory_limit = is_given("memory-limit").then(|| bin.property("memory-limit"));
        let file_timeout = is_given("file-timeout").then(|| Duration::from_nanos(bin.property("file-timeout")));
        Ok(Self {
            // 0 is automatic.
            lanes: one("lanes", settings.lanes, lanes)?.filter(|lanes| *lanes > 0),
            // A default is not distinguished from no setting.
            order: one("order", Some(settings.order).filter(|order| *order != Order::default()), order)?
                .unwrap_or_default(),
            stop_on_error: one("stop_on_error", settings.stop_on_error.then_some(true), stops)?.unwrap_or(false),
            memory_limit: one("memory_limit", settings.memory_limit, memory_limit)?.filter(|bytes| *bytes > 0),
            file_timeout: one("file_timeout", settings.file_timeout, file_timeout)?.filter(|time| !time.is_zero()),
        })
    }

    /// Returns the properties of `vxbulkbin` that it stands for.
    fn to_properties(self) -> Properties {
        let time = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_string();
        let all = [
            ("lanes", self.lanes.map(|lanes| lanes.to_string())),
            ("order", (self.order == Order::AsGiven).then(|| "as-given".to_owned())),
            ("on-error", self.stop_on_error.then(|| "stop".to_owned())),
            ("memory-limit", self.memory_limit.map(|bytes| bytes.to_string())),
            ("file-timeout", self.file_timeout.map(time)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Returns the value of a setting that may also be given as a property.
fn one<T: PartialEq>(name: &str, setting: Option<T>, property: Option<T>) -> Result<Option<T>, Error> {
    match (setting, property) {
        (Some(setting), Some(property)) if setting != property => Err(Error::setting(format!(
            "`{name}` and the property of the same meaning are set to different values: set one of them"
        ))),
        (setting, property) => Ok(setting.or(property)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn with(properties: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new(["a.mp4"]);
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.properties = properties.collect();
        settings
    }

    #[test]
    fn properties_of_the_run_become_settings() {
        let all = [
            ("file-timeout", "60s"),
            ("memory-limit", "1G"),
            ("lanes", "3"),
            ("on-error", "stop"),
            ("order", "as-given"),
            ("encoder::header", "false"),
        ];
        let resolved = Resolved::new(&with(&all)).unwrap();
        let expected = RunSettings {
            lanes: Some(3),
            order: Order::AsGiven,
            stop_on_error: true,
            memory_limit: Some(1 << 30),
            file_timeout: Some(Duration::from_secs(60)),
        };
        assert_eq!((resolved.run, resolved.has_header, resolved.model), (expected, false, None));
        let names: Vec<&str> = resolved.properties.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["encoder::header", "lanes", "order", "on-error", "memory-limit", "file-timeout"]);
        let mut typed = with(&[]);
        typed.file_timeout = Some(Duration::from_secs(60));
        (typed.lanes, typed.stop_on_error, typed.order) = (Some(3), true, Order::AsGiven);
        typed.memory_limit = Some(1 << 30);
        assert_eq!(Resolved::new(&typed).unwrap().run, expected);
        typed.properties = vec![("lanes".to_owned(), "3".to_owned())];
        assert_eq!(Resolved::new(&typed).unwrap().run, expected);
        for (name, value) in
            [("lanes", "2"), ("file-timeout", "1s"), ("on-error", "continue"), ("order", "largest-first")]
        {
            typed.properties = vec![(name.to_owned(), value.to_owned())];
            let Err(error) = Resolved::new(&typed) else { panic!("{name} contradicts its setting") };
            assert!(error.to_string().contains("different values"), "{error}");
        }
        assert_eq!(
            Resolved::new(&with(&[("lanes", "0"), ("order", "largest-first")])).unwrap().run,
            RunSettings::default()
        );
    }

    #[test]
    fn the_last_of_several_values_counts() {
        let header = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("header", *value)).collect();
            Resolved::new(&with(&pairs)).unwrap().has_header
        };
        assert!(header(&["true"]) && header(&["false", "1"]) && !header(&["true", "no"]));
        let models = [("detector::model-file", "a.onnx"), ("model_file", "b.onnx")];
        assert_eq!(Resolved::new(&with(&models)).unwrap().model, Some("b.onnx".into()));
    }
}
