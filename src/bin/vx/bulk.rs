//! `vxbulkbin` in a pipeline of its own, its lines put together to units.

use std::path::Path;
use std::sync::OnceLock;

use crossbeam_channel::Sender;
use gst::prelude::*;
use gstvx::elements::library_paths;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::libraries;
use crate::quantity;
use crate::unit::{Unit, Units};

/// What happens in a run.
#[derive(Debug)]
pub enum Event {
    /// A file's turn has come.
    Begun(String),
    /// How far the files are that are being read.
    Running(Vec<Running>),
    /// Wakes whoever takes events: the run was told to stop.
    Tick,
    /// Lines of the file that is being put out, where they are wanted as they come.
    Lines(Vec<u8>),
    /// A file has ended.
    Done(Box<Unit>),
    /// What somebody should know.
    Warning(String),
    /// The same of the model, which concerns every result.
    ModelWarning(String),
    /// The run cannot go on.
    Error(String),
    /// No file follows.
    End,
}

/// How far a file is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    #[serde(skip)]
    pub file: String,
    /// Frames looked at, keyframes and others.
    pub frames: u64,
    pub detections: u64,
    /// Seconds of the file that are done, and its duration where it says one.
    pub position: f64,
    pub duration: Option<f64>,
}

impl Running {
    fn from_structure(structure: &gst::StructureRef) -> Self {
        let number = |field: &str| structure.get::<u64>(field).unwrap_or(0);
        let seconds = |field: &str| structure.get::<gst::ClockTime>(field).ok().map(gst::ClockTime::seconds_f64);
        Self {
            file: structure.get("file").unwrap_or_default(),
            frames: number("keyframes") + number("frames-between"),
            detections: number("detections"),
            position: seconds("position").unwrap_or(0.0),
            duration: seconds("duration").filter(|seconds| *seconds > 0.0),
        }
    }

    /// Share of the file that is done, 0 to 1.
    pub fn share(&self) -> f64 {
        self.duration.map_or(0.0, |duration| (self.position / duration).clamp(0.0, 1.0))
    }
}

/// Properties of `vxbulkbin` or of the elements inside, `decoder::max-frames` for these, and their values as text.
pub type Properties = Vec<(String, String)>;

/// How results are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// A file's lines all at once, when it has ended.
    Units,
    /// Lines as they come, and at the end of a file its summary.
    Lines,
}

/// A running `vxbulkbin`.
pub struct Bulk {
    pipeline: gst::Pipeline,
    bin: gst::Element,
    pad: gst::Pad,
}

/// Starts GStreamer with the elements of this program in it.
///
/// # Errors
/// GStreamer's words.
pub fn init() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    gst::init().map_err(|error| error.to_string())?;
    DONE.get_or_init(|| {
        // Asked before this program's own elements take the place of the plugin's.
        let installed = gst::Registry::get().find_plugin("vx").and_then(|plugin| plugin.filename());
        library_paths::set_library_dirs(libraries::dirs(installed.as_deref()));
        gstvx::plugin_register_static().map_err(|error| error.to_string())
    })
    .clone()
}

impl Bulk {
    /// Makes it, its model not yet loaded; what happens goes to `events`, lines as `how` says.
    ///
    /// # Errors
    /// A property that there is not, or a value that it does not take.
    pub fn new(properties: &Properties, events: &Sender<Event>, how: Hand) -> Result<Self, String> {
        init()?;
        let bin = gst::ElementFactory::make("vxbulkbin").build().map_err(|error| error.to_string())?;
        for (name, value) in properties {
            set(&bin, name, value)?;
        }
        let pipeline = gst::Pipeline::new();
        pipeline.add(&bin).map_err(|error| error.to_string())?;
        let pad = line_pad(events.clone(), how);
        let source = bin.static_pad("src").ok_or("vxbulkbin has no pad src")?;
        source.link(&pad).map_err(|error| error.to_string())?;
        let events = events.clone();
        pipeline.bus().ok_or("the pipeline has no bus")?.set_sync_handler(move |_bus, message| {
            if let Some(event) = event_of(message) {
                // Nobody may be listening any more.
                let _ = events.send(event);
            }
            gst::BusSyncReply::Drop
        });
        Ok(Self { pipeline, bin, pad })
    }

    /// Loads the model.
    ///
    /// # Errors
    /// When that fails: an [`Event::Error`] has said why.
    pub fn load(&self) -> Result<(), String> {
        let failed = |_| "the model could not be loaded".to_owned();
        self.pipeline.set_state(gst::State::Ready).map(|_| ()).map_err(failed)
    }

    /// Reads `files`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, files: &[String]) -> Result<(), String> {
        self.bin.set_property("files", files.to_vec());
        self.pad.set_active(true).map_err(|error| error.to_string())?;
        self.pipeline.set_state(gst::State::Playing).map(|_| ()).map_err(|_| "the run could not be started".to_owned())
    }

    /// Ready for another list of files after [`Event::End`].
    ///
    /// # Errors
    /// When its elements do not come to rest.
    pub fn rest(&self) -> Result<(), String> {
        let _ = self.pad.set_active(false);
        self.pipeline.set_state(gst::State::Ready).map(|_| ()).map_err(|_| "the run could not be ended".to_owned())
    }

    /// Begins no file any more.
    pub fn wind_down(&self) {
        self.bin.send_event(gst::event::Eos::new());
    }

    /// Sums and settings so far.
    pub fn stats(&self) -> gst::Structure {
        self.bin.property("stats")
    }

    /// How far the files are that are being read.
    pub fn running(&self) -> Vec<Running> {
        let running = self.stats().get::<gst::Array>("running").unwrap_or_default();
        let files = running.iter().filter_map(|file| file.get::<gst::Structure>().ok());
        files.map(|file| Running::from_structure(&file)).collect()
    }

    /// To ask for the run's end from elsewhere.
    pub fn handle(&self) -> gst::Element {
        self.bin.clone()
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        let _ = self.pad.set_active(false);
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Names closer than this (Jaro-Winkler) are suggested; that of clap for its own.
const SIMILAR: f64 = 0.8;

/// The elements of the bin whose properties can be set by name alone.
const CHILDREN: [&str; 4] = ["source", "decoder", "detector", "encoder"];

/// The element that has a property, and the property's own name: `decoder::max-gap`, or `max-gap` where the bin has it or one
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

/// The properties with names like this one, and the elements that have them, as the end of an error message.
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

/// Replaces names by the full ones, `max-gap` by `decoder::max-gap`, and values with units by plain ones, so that settings that
/// mean the same are the same.
///
/// # Errors
/// A property that does not exist.
pub fn resolve(properties: &mut Properties) -> Result<(), String> {
    init()?;
    let bin = gst::ElementFactory::make("vxbulkbin").build().map_err(|error| error.to_string())?;
    for (name, value) in properties {
        let (element, property) = find_property(&bin, name)?;
        *value = quantity::plain(property, value).map_err(|reason| format!("{name}={value}: {reason}"))?;
        if element != bin {
            *name = format!("{}::{property}", element.name());
        }
    }
    Ok(())
}

/// Sets a property of the bin or, as `decoder::max-frames`, of what is inside.
fn set(bin: &gst::Element, name: &str, value: &str) -> Result<(), String> {
    let (element, property) = find_property(bin, name)?;
    let Some(pspec) = element.find_property(property) else {
        return Err(format!("{} has no property {property}", element.name()));
    };
    if !pspec.flags().contains(gst::glib::ParamFlags::WRITABLE) {
        return Err(format!("{name} can only be read"));
    }
    let value = gst::glib::Value::deserialize_with_pspec(value, &pspec)
        .map_err(|_| format!("{name}: \"{value}\" is not a value of it; {}", values_of(&pspec)))?;
    if !is_in_range(&pspec, &value) {
        return Err(format!("{name}: {text} is out of its range; `gst-inspect-1.0` shows it", text = describe(&value)));
    }
    element.set_property_from_value(property, &value);
    Ok(())
}

/// What a property takes, in words.
fn values_of(pspec: &gst::glib::ParamSpec) -> String {
    if let Some(choices) = gst::glib::EnumClass::with_type(pspec.value_type()) {
        let nicks: Vec<&str> = choices.values().iter().map(|value| value.nick()).collect();
        return format!("it is one of {}", nicks.join(", "));
    }
    match pspec.value_type() {
        gst::glib::Type::BOOL => "it is true or false".to_owned(),
        gst::glib::Type::F32 | gst::glib::Type::F64 => "it is a number".to_owned(),
        gst::glib::Type::I32 | gst::glib::Type::U32 | gst::glib::Type::I64 | gst::glib::Type::U64 => {
            "it is a whole number".to_owned()
        }
        other => format!("it is a {}", other.name()),
    }
}

/// Whether a number lies between the least and the most that its property takes.
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

/// What a message says to a user.
fn event_of(message: &gst::Message) -> Option<Event> {
    match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element.structure().filter(|structure| structure.name() == "vx-file")?;
            let is_begun = structure.get::<&str>("status") == Ok("begun");
            is_begun.then(|| structure.get::<String>("file").ok().map(Event::Begun)).flatten()
        }
        gst::MessageView::Error(error) => Some(Event::Error(error.error().message().to_owned())),
        // A file's warnings are in its summary; what is left is about the run.
        gst::MessageView::Warning(warning) => {
            let is_of_file = warning.details().is_some_and(|details| details.name() == "vx-file");
            let is_of_run = message.src().is_none_or(|source| {
                let name = source.name();
                !is_of_file && !["source", "decoder", "encoder"].iter().any(|own| name.starts_with(own))
            });
            let is_of_model = warning.details().is_some_and(|details| details.name() == "vx-model");
            let event = if is_of_model { Event::ModelWarning } else { Event::Warning };
            is_of_run.then(|| event(warning.error().message().to_owned()))
        }
        _ => None,
    }
}

fn line_pad(events: Sender<Event>, how: Hand) -> gst::Pad {
    let units = if how == Hand::Lines { Units::bare() } else { Units::default() };
    let (units, ended) = (Mutex::new(units), events.clone());
    gst::Pad::builder(gst::PadDirection::Sink)
        .name("lines")
        .chain_function(move |_pad, _parent, buffer| {
            let bytes = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            if how == Hand::Lines {
                events.send(Event::Lines(bytes.to_vec())).map_err(|_| gst::FlowError::Eos)?;
            }
            let complete = units.lock().push(&bytes);
            for unit in complete {
                events.send(Event::Done(Box::new(unit))).map_err(|_| gst::FlowError::Eos)?;
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_pad, _parent, event| {
            if event.type_() == gst::EventType::Eos {
                let _ = ended.send(Event::End);
            }
            true
        })
        .build()
}

/// The model's path, or where none is given that of the built-in one, as properties have it.
pub fn model_of(properties: &Properties) -> Option<&Path> {
    properties.iter().rfind(|(name, _)| name == "model-file").map(|(_, value)| Path::new(value))
}
