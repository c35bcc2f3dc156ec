// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the documentation against the program: property tables, links, messages, model families.
//!
//! The property tables in `docs/elements.md` are generated from the elements. After a change to a property, run `UPDATE_DOCS=1
//! cargo test --test docs` to regenerate them.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use common::root;
use gst::glib;
use gst::prelude::*;

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test docs";

fn page(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns README.md and all pages in docs/, relative to the root.
fn pages() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = entries
        .map(|entry| Path::new("docs").join(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push("README.md".into());
    pages.sort();
    pages
}

// ---------------------------------------------------------------- property tables

/// Escapes text for a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// Returns the name of the type, and its range if it is limited.
fn type_of(property: &glib::ParamSpec) -> String {
    fn range<T: PartialEq + std::fmt::Display>(name: &str, limits: [T; 2], all: [T; 2]) -> String {
        let [low, high] = &limits;
        if limits == all {
            name.to_owned()
        } else if *high == all[1] {
            format!("{name}, from {low}")
        } else {
            format!("{name}, {low} to {high}")
        }
    }
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecUInt>() {
        return range("unsigned integer", [spec.minimum(), spec.maximum()], [0, u32::MAX]);
    }
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecUInt64>() {
        return range("64-bit unsigned integer", [spec.minimum(), spec.maximum()], [0, u64::MAX]);
    }
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecInt>() {
        return range("integer", [spec.minimum(), spec.maximum()], [i32::MIN, i32::MAX]);
    }
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecFloat>() {
        return range("float", [spec.minimum(), spec.maximum()], [f32::MIN, f32::MAX]);
    }
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecDouble>() {
        return range("double", [spec.minimum(), spec.maximum()], [f64::MIN, f64::MAX]);
    }
    match property.value_type().name() {
        "gchararray" => "string".to_owned(),
        "gboolean" => "boolean".to_owned(),
        "GStrv" => "list of strings (`GStrv`)".to_owned(),
        "GstStructure" => "structure (`GstStructure`)".to_owned(),
        _ if property.value_type().is_a(glib::Type::ENUM) => "enumeration".to_owned(),
        other => format!("`{other}`"),
    }
}

/// Returns the default value in gst-launch-1.0 syntax; empty for strings without a value.
fn default_of(property: &glib::ParamSpec) -> String {
    let value = property.default_value();
    if let Some((_, value)) = glib::EnumValue::from_value(value) {
        // The documented default is that of builds for GStreamer before 1.24.
        let is_meta = cfg!(feature = "analytics") && property.name() == "meta";
        return format!("`{}`", if is_meta { "roi" } else { value.nick() });
    }
    let text = match value.type_() {
        glib::Type::F32 => value.get::<f32>().unwrap().to_string(),
        glib::Type::F64 => value.get::<f64>().unwrap().to_string(),
        glib::Type::BOOL => value.get::<bool>().unwrap().to_string(),
        _ => value.transform::<Option<String>>().ok().and_then(|text| text.get().unwrap()).unwrap_or_default(),
    };
    if text.is_empty() { text } else { format!("`{text}`") }
}

fn description_of(property: &glib::ParamSpec) -> String {
    let mut text = cell(property.blurb().unwrap_or_default());
    if !text.ends_with('.') {
        text.push('.');
    }
    if let Some(class) = glib::EnumClass::with_type(property.value_type()) {
        for value in class.values() {
            // Descriptions can begin with the nick: "Auto: several keyframes at once".
            let named =
                value.name().split_once(": ").filter(|(name, _)| name.to_lowercase().replace(' ', "-") == value.nick());
            let detail = named.map_or(value.name(), |(_, detail)| detail);
            write!(text, "<br>`{}`: {}", value.nick(), cell(detail)).unwrap();
        }
    }
    let flags = property.flags();
    let mut notes = Vec::new();
    if !flags.contains(glib::ParamFlags::WRITABLE) {
        notes.push("read only");
    }
    if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        notes.push("can be changed while playing");
    }
    if flags.contains(gst::PARAM_FLAG_CONTROLLABLE) {
        notes.push("controllable");
    }
    if !notes.is_empty() {
        write!(text, "<br>*{}*", notes.join(", ")).unwrap();
    }
    text
}

/// Returns the table of an element's own properties.
fn table(factory: &str) -> String {
    common::init();
    let element = gst::ElementFactory::make(factory).build().unwrap();
    let mut text = "| property | type | default | description |\n|---|---|---|---|\n".to_owned();
    for property in element.list_properties() {
        if property.owner_type() != element.type_() {
            continue;
        }
        let is_writable = property.flags().contains(glib::ParamFlags::WRITABLE);
        let default = if is_writable { default_of(&property) } else { String::new() };
        let (name, kind) = (property.name(), type_of(&property));
        writeln!(text, "| `{name}` | {kind} | {default} | {} |", description_of(&property)).unwrap();
    }
    text
}

#[test]
fn the_property_tables_match_the_elements() {
    let before = page("docs/elements.md");
    let mut after = before.clone();
    for factory in ["vxkeyframedec", "vxyolodetect", "vxoverlay", "vxjsonenc", "vxbulkbin"] {
        let (begin, end) = (format!("<!-- begin properties {factory} -->\n"), "<!-- end properties -->");
        let start = after.find(&begin).unwrap_or_else(|| panic!("docs/elements.md has no line {begin}")) + begin.len();
        let length = after[start..].find(end).unwrap_or_else(|| panic!("docs/elements.md has no {end} after {begin}"));
        after.replace_range(start..start + length, &format!("\n{}\n", table(factory)));
    }
    if before == after {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/elements.md"), after).unwrap();
        return;
    }
    let stale: Vec<&str> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    panic!("the tables in docs/elements.md are stale: run `{UPDATE}`. Lines that differ:\n{}", stale.join("\n"));
}

// ---------------------------------------------------------------- links

/// Returns the lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the anchors of a page's headings, as GitHub generates them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            let anchor: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
            let count = counts.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// Returns the targets of `[text](target)` and `![text](target)`.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Code contains no links: every second part between backticks is code.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let targets = plain.match_indices("](").filter_map(|(at, _)| plain[at + 2..].split_once(')'));
        found.extend(targets.map(|(target, _)| target.to_owned()));
    }
    found
}

#[test]
fn every_relative_link_and_anchor_exists() {
    let mut broken = Vec::new();
    let mut count = 0;
    let others = ["CHANGELOG.md", "models/README.md", "examples/media/README.md"].map(PathBuf::from);
    for page_path in pages().into_iter().chain(others) {
        let text = page(page_path.to_str().unwrap());
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                root().join(&page_path)
            } else {
                root().join(page_path.parent().unwrap()).join(file)
            };
            let has_anchor = || {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                anchor.is_empty() || anchors(&text).contains(anchor)
            };
            if !target.exists() || !has_anchor() {
                broken.push(format!("{}: {link}", page_path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(count > 40, "{count} links: are they still recognised?");
}

#[test]
fn the_index_lists_every_page() {
    let index = page("docs/README.md");
    for path in pages() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("({name})")), "docs/README.md does not list {name}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(lines < 250, "README.md has {lines} lines: move details to docs/");
}

// ---------------------------------------------------------------- messages and families

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Returns source text in which string literals over several lines are joined.
fn joined(text: &str) -> String {
    let mut joined = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\\n") {
        joined.push_str(before);
        rest = after.trim_start();
    }
    joined.push_str(rest);
    joined.replace("\\\"", "\"")
}

/// Headings in quotes in docs/troubleshooting.md are messages, with `…` for the variable parts.
#[test]
fn the_messages_in_troubleshooting_match_the_source() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let source: String = files.iter().map(|(_, text)| joined(text)).collect();
    let text = page("docs/troubleshooting.md");
    let messages = text.lines().filter_map(|line| line.strip_prefix("### \"")?.strip_suffix('"'));
    // These messages are from GStreamer.
    let messages: Vec<_> = messages.filter(|message| !message.starts_with("No such element")).collect();
    assert!(messages.len() > 20, "{} messages", messages.len());
    let is_known = |message: &&&str| message.split('…').map(str::trim).all(|part| source.contains(part));
    let stale: Vec<_> = messages.iter().filter(|message| !is_known(message)).collect();
    assert!(stale.is_empty(), "no source file has these headings of docs/troubleshooting.md: {stale:#?}");
}

/// The first cell of each row in the table of families contains the names that `stats` and headers use.
#[test]
fn the_documented_model_families_match_the_supported_ones() {
    let mut files = Vec::new();
    sources(&root().join("src/detect/layouts"), &mut files);
    let names = |text: &str| {
        let calls = text.match_indices("LayoutMatch::new(").map(|(at, call)| text[at + call.len()..].trim_start());
        calls.filter_map(|call| Some(call.strip_prefix('"')?.split_once('"')?.0.to_owned())).collect::<Vec<_>>()
    };
    let read: BTreeSet<String> = files.iter().flat_map(|(_, text)| names(text)).collect();
    assert!(read.len() > 15, "only {} families in src/detect/layouts: is this test still right?", read.len());
    let text = page("docs/models.md");
    let (_, table) = text.split_once("| `layout` |").expect("docs/models.md has a table of families");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let listed: BTreeSet<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = read.difference(&listed).collect();
    assert!(missing.is_empty(), "the table of families in docs/models.md lacks {missing:?}");
    let is_unknown = |name: &&String| !files.iter().any(|(_, text)| text.contains(&format!("\"{name}\"")));
    let unknown: Vec<_> = listed.iter().filter(is_unknown).collect();
    assert!(unknown.is_empty(), "src/detect/layouts has no {unknown:?}, which docs/models.md lists");
}
