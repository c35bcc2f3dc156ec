// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of `vxbulkbin` and of the elements inside it, as text: found by name, checked, set.

use std::path::PathBuf;

use gst::prelude::*;

use super::pipeline::init;
use super::quantity;
use crate::elements::bulkbin::DETECTOR_PROPERTIES;

/// Names of properties, `decoder::max-frames` for those of the elements inside, and their values as text.
pub(super) type Properties = Vec<(String, String)>;

/// Properties with two names: the alias and the name under which a property is compared.
const ALIASES: [(&str, &str); 1] = [("decoder::thread-count", "decoder::threads")];

/// Properties that name files to read, which only inputs do.
const INPUTS: [&str; 3] = ["location", "files", "file-list"];

/// Names closer than this (Jaro-Winkler) are suggested; that of clap for its own.
const SIMILAR: f64 = 0.8;

/// The elements of the bin whose properties can be set by name alone.
const CHILDREN: [&str; 4] = ["source", "decoder", "detector", "encoder"];

/// Finds the element that has a property, and the property's own name: `decoder::max-gap`, or `max-gap` where the bin has it or one
/// element inside.
fn find_property<'a>(bin: &gst::Element, name: &'a str) -> Result<(gst::Element, &'a str), String> {
    let inside = |child: &str| bin.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name(child));
    if let Some((child, property)) = name.rsplit_once("::") {
        let Some(element) = inside(child) else {
            return Err(format!("there is no element {child}: the elements are {}", CHILDREN.join(", ")));
        };
        return match element.find_property(property) {
            Some(_) => Ok((element, property)),
            None => Err(format!("{child} has no property {property}{}", similar(bin, property))),
        };
    }
    if bin.find_property(name).is_some() {
        return Ok((bin.clone(), name));
    }
    let mut owners = CHILDREN.into_iter().filter_map(|child| {
        let element = inside(child).filter(|element| element.find_property(name).is_some())?;
        Some((child, element))
    });
    match (owners.next(), owners.next()) {
        (Some((_, element)), None) => Ok((element, name)),
        (Some((one, _)), Some((other, _))) => {
            Err(format!("{one} and {other} both have a property {name}: write {one}::{name} or {other}::{name}"))
        }
        (None, _) => {
            let elements = CHILDREN.join(", ");
            Err(format!("neither vxbulkbin nor {elements} has a property {name}{}", similar(bin, name)))
        }
    }
}

/// Returns properties with similar names, and the elements that have them, as the end of an error message.
fn similar(bin: &gst::Element, wanted: &str) -> String {
    let inside = |child: &str| bin.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name(child));
    let elements = [(String::new(), Some(bin.clone()))].into_iter();
    let elements = elements.chain(CHILDREN.map(|child| (format!("{child}::"), inside(child))));
    let mut near: Vec<(f64, String)> = Vec::new();
    for (prefix, element) in elements {
        let properties = element.iter().flat_map(|element| element.list_properties());
        for property in properties.filter(|property| property.flags().contains(gst::glib::ParamFlags::WRITABLE)) {
            let alike = strsim::jaro_winkler(property.name(), wanted);
            if alike > SIMILAR && !near.iter().any(|(_, name)| name.ends_with(property.name())) {
                near.push((alike, format!("{prefix}{}", property.name())));
            }
        }
    }
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let best = near.first().map_or(0.0, |(alike, _)| *alike);
    let near = near.into_iter().take_while(|(alike, _)| best - alike < 0.05);
    let names: Vec<String> = near.take(3).map(|(_, name)| name).collect();
    if names.is_empty() {
        return "; gst-inspect-1.0 lists their properties".to_owned();
    }
    format!("; did you mean {}?", names.join(" or "))
}

/// Creates a `vxbulkbin`.
///
/// # Errors
/// GStreamer's.
pub(super) fn new_bin() -> Result<gst::Element, String> {
    init().map_err(|error| error.to_string())?;
    gst::ElementFactory::make("vxbulkbin").build().map_err(|error| error.to_string())
}

/// Replaces names by full names, `max-gap` by `decoder::max-gap`, and values with units by plain values, so that each property has one
/// name and equal settings compare as equal. A property of the bin itself, such as `model-file`, has the short name, also where it is
/// given as one of the element that the bin forwards it to (`detector::model-file`).
///
/// # Errors
/// A property that does not exist, or that names files to read.
pub(super) fn resolve(properties: &mut Properties, bin: &gst::Element) -> Result<(), String> {
    for (name, value) in properties {
        let (element, property) = find_property(bin, name)?;
        *value = quantity::plain(property, value).map_err(|reason| format!("{name}={value}: {reason}"))?;
        // As the element calls it: GObject also finds model_file.
        let property = element.find_property(property).map_or(property, |found| found.name());
        let is_of_bin = element == *bin;
        if is_of_bin && INPUTS.contains(&property) {
            return Err(format!("{name} names files to read: name them as inputs"));
        }
        *name = if is_of_bin || element.name() == "detector" && DETECTOR_PROPERTIES.contains(&property) {
            property.to_owned()
        } else {
            let full = format!("{}::{property}", element.name());
            ALIASES.into_iter().find(|(alias, _)| full == *alias).map_or(full, |(_, name)| name.to_owned())
        };
    }
    Ok(())
}

/// Sets a property of the bin or of an element inside.
pub(super) fn set(bin: &gst::Element, name: &str, value: &str) -> Result<(), String> {
    let (element, property) = find_property(bin, name)?;
    let Some(pspec) = element.find_property(property) else {
        return Err(format!("{} has no property {property}", element.name()));
    };
    if !pspec.flags().contains(gst::glib::ParamFlags::WRITABLE) {
        return Err(format!("{name} is read-only"));
    }
    let value = gst::glib::Value::deserialize_with_pspec(value, &pspec)
        .map_err(|_| format!("{name}: \"{value}\" is not a valid value: {}", values_of(&pspec)))?;
    if !is_in_range(&pspec, &value) {
        return Err(format!(
            "{name}: {text} is out of its range; gst-inspect-1.0 prints the range",
            text = describe(&value)
        ));
    }
    element.set_property_from_value(property, &value);
    Ok(())
}

/// Describes the valid values of a property.
fn values_of(pspec: &gst::glib::ParamSpec) -> String {
    if let Some(choices) = gst::glib::EnumClass::with_type(pspec.value_type()) {
        let nicks: Vec<&str> = choices.values().iter().map(|value| value.nick()).collect();
        return format!("use one of {}", nicks.join(", "));
    }
    match pspec.value_type() {
        gst::glib::Type::BOOL => "use true or false".to_owned(),
        gst::glib::Type::F32 | gst::glib::Type::F64 => "use a number".to_owned(),
        gst::glib::Type::I32 | gst::glib::Type::U32 | gst::glib::Type::I64 | gst::glib::Type::U64 => {
            "use a whole number".to_owned()
        }
        other => format!("use a {}", other.name()),
    }
}

/// Returns whether a number is within the range of its property.
fn is_in_range(pspec: &gst::glib::ParamSpec, value: &gst::glib::Value) -> bool {
    use gst::glib::{ParamSpecDouble, ParamSpecFloat, ParamSpecInt, ParamSpecUInt, ParamSpecUInt64};
    macro_rules! check {
        ($($kind:ty: $number:ty),*) => {
            $(if let (Some(pspec), Ok(number)) = (pspec.downcast_ref::<$kind>(), value.get::<$number>()) {
                return (pspec.minimum()..=pspec.maximum()).contains(&number);
            })*
        };
    }
    check!(ParamSpecDouble: f64, ParamSpecFloat: f32, ParamSpecInt: i32, ParamSpecUInt: u32, ParamSpecUInt64: u64);
    true
}

fn describe(value: &gst::glib::Value) -> String {
    value.serialize().map_or_else(|_| format!("{value:?}"), |text| text.to_string())
}

/// Returns the model that is set on `bin`; `None` for the built-in one.
pub(super) fn model_of(bin: &gst::Element) -> Option<PathBuf> {
    bin.property::<Option<String>>("model-file").map(PathBuf::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_property_has_one_name_however_it_is_given() {
        let bin = new_bin().unwrap();
        let resolved = |name: &str, value: &str| {
            let mut properties = vec![(name.to_owned(), value.to_owned())];
            resolve(&mut properties, &bin).map(|()| properties.remove(0).0)
        };
        for property in DETECTOR_PROPERTIES {
            assert_eq!(resolved(&format!("detector::{property}"), "0").unwrap(), property);
            assert_eq!(resolved(property, "0").unwrap(), property);
        }
        for (name, expected) in [
            ("detector::model_file", "model-file"),
            ("model_file", "model-file"),
            ("max-gap", "decoder::max-gap"),
            ("decoder::thread-count", "decoder::threads"),
            ("threads", "decoder::threads"),
            ("sessions", "detector::sessions"),
            ("file_timeout", "file-timeout"),
        ] {
            assert_eq!(resolved(name, "1").unwrap(), expected, "{name}");
        }
        assert!(resolved("file-list", "a.txt").unwrap_err().contains("as inputs"));
    }
}
