// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses files of class names in their usual formats: one name per line, `0: person` lines, the `names` of an Ultralytics
//! `data.yaml`, and a list or map in brackets (JSON, Python).
//!
//! The text is untrusted: lengths are bounded, nothing is evaluated, and invalid text is rejected with the reason.
//! Pure functions.

use crate::detect::onnx::python_literal::{MAX_CLASSES, MAX_NAME, class_names};

/// Returns the names by class; missing names become `class-N`.
///
/// A byte order mark, CR LF line ends and blank lines at the end are removed; invalid UTF-8 is replaced.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<String>, String> {
    if bytes.contains(&0) {
        return Err("it is not text; it must hold one name per line".to_owned());
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    if text.is_empty() {
        return Err("it is empty; it must hold one name per line".to_owned());
    }
    let entries = if let Some(names) = names_of_yaml(text)? {
        names
    } else if text.trim_start().starts_with(['{', '[']) {
        flow(text.trim_start())
            .ok_or("it starts with a bracket, but is not a list or map of names; write one name per line")?
    } else if text.lines().any(|line| line.trim_start().starts_with("item") && line.trim_end().ends_with('{')) {
        return Err("it is a TensorFlow label map (pbtxt), which is not supported; write one name per line".to_owned());
    } else {
        numbered(text).unwrap_or_else(|| text.lines().map(str::trim).map(str::to_owned).enumerate().collect())
    };
    collect(entries)
}

/// Class index and name.
type Entry = (usize, String);

/// Sorts names by class.
fn collect(entries: Vec<Entry>) -> Result<Vec<String>, String> {
    let too_many = || format!("it has more than {MAX_CLASSES} classes; use fewer");
    if entries.is_empty() {
        return Err("it contains no names; write one name per line".to_owned());
    }
    let mut names: Vec<String> = Vec::new();
    for (class_id, name) in entries {
        if class_id >= MAX_CLASSES {
            return Err(too_many());
        }
        if names.len() <= class_id {
            names.resize(class_id + 1, String::new());
        }
        if !names[class_id].is_empty() {
            return Err(format!("it names class {class_id} twice: \"{}\" and \"{name}\"", names[class_id]));
        }
        names[class_id] = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME).collect();
    }
    for (class_id, name) in names.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
        *name = format!("class-{class_id}");
    }
    Ok(names)
}

/// Parses lines that all start with their class: `0: person`, `0 person`. `None` if one does not, or the numbers do not increase.
fn numbered(text: &str) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = line[digits..].strip_prefix(':').or_else(|| line[digits..].strip_prefix([' ', '\t']))?;
        let class_id: usize = line[..digits].parse().ok()?;
        if entries.last().is_some_and(|(last, _)| *last >= class_id) {
            return None;
        }
        entries.push((class_id, scalar(rest)));
    }
    // A single line such as "3 wheeler" is a name.
    (entries.len() > 1 || text.contains(':')).then_some(entries)
}

/// Parses the entry `names` of a YAML file: a list or map, in brackets or in lines. `Ok(None)` if there is no such entry.
fn names_of_yaml(text: &str) -> Result<Option<Vec<Entry>>, String> {
    let mut lines = text.lines();
    let Some(first) = lines.by_ref().find_map(|line| line.strip_prefix("names:")) else { return Ok(None) };
    let refuse = |line: &str| {
        let line: String = line.trim().chars().take(60).collect();
        format!("its entry names is not a list or map of names (at \"{line}\"); write one name per line")
    };
    let first = without_comment(first);
    if !first.is_empty() {
        let rest: Vec<_> = std::iter::once(first).chain(lines.map(without_comment)).collect();
        return flow(&rest.join(" ")).map(Some).ok_or_else(|| refuse(first));
    }
    let mut entries = Vec::new();
    for line in lines {
        let content = without_comment(line);
        if content.is_empty() {
            continue;
        }
        let item = content.strip_prefix("- ").map(scalar);
        if item.is_none() && !line.starts_with([' ', '\t']) {
            break;
        }
        let entry = match item {
            Some(name) => (entries.len(), name),
            None => {
                let (key, name) = content.split_once(':').ok_or_else(|| refuse(line))?;
                (scalar(key).parse().map_err(|_| refuse(line))?, scalar(name))
            }
        };
        entries.push(entry);
    }
    Ok(Some(entries))
}

/// Parses a list or map in brackets, which may be followed by other text: JSON, Python, or YAML with unquoted names.
fn flow(text: &str) -> Option<Vec<Entry>> {
    let (open, close) = if text.starts_with('{') { ('{', '}') } else { ('[', ']') };
    let inner = text.strip_prefix(open)?;
    let mut entries = Vec::new();
    let (mut part, mut quote, mut is_closed) = (String::new(), None, false);
    let mut characters = inner.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '[' | '{') => return None,
            (None, c) if c == ',' || c == close => {
                is_closed = c == close;
                if !part.trim().is_empty() {
                    entries.push(flow_entry(&part, close == '}', entries.len())?);
                }
                part.clear();
                if is_closed {
                    break;
                }
            }
            (_, c) => {
                if quote == Some(c) {
                    quote = None;
                } else if quote.is_none() && (c == '"' || c == '\'') && is_start_of_scalar(&part) {
                    quote = Some(c);
                }
                // Spaces before it would be read again at each quotation mark.
                if !part.is_empty() || !c.is_whitespace() {
                    part.push(c);
                }
                if quote == Some('"') && c == '\\' {
                    part.extend(characters.next());
                }
            }
        }
    }
    (is_closed && entries.len() <= MAX_CLASSES).then_some(entries)
}

/// Whether a key or a value starts after `part`, so that a quotation mark opens a quoted string.
fn is_start_of_scalar(part: &str) -> bool {
    part.is_empty() || part.trim_end().ends_with(':')
}

fn flow_entry(part: &str, is_map: bool, number: usize) -> Option<Entry> {
    if !is_map {
        return Some((number, scalar(part)));
    }
    let (key, name) = part.split_once(':')?;
    Some((scalar(key).parse().ok()?, scalar(name)))
}

/// Removes the quotes around a name.
fn scalar(text: &str) -> String {
    let text = text.trim();
    let quoted =
        ['"', '\''].into_iter().find(|&quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote));
    match quoted {
        // Escapes are those of Python and JSON strings.
        Some('"') => class_names(&format!("[{text}]"))
            .and_then(|mut names| names.pop())
            .unwrap_or_else(|| text[1..text.len() - 1].to_owned()),
        Some(_) => text[1..text.len() - 1].replace("''", "'"),
        None => text.to_owned(),
    }
}

/// Removes the comment at the end of a line of YAML.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        let is_first =
            || line[..at].trim_end().is_empty() || line[..at].trim_end().ends_with([':', ',', '[', '{', '-']);
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') if is_first() => quote = Some(c),
            (None, '#') if at == 0 || line[..at].ends_with([' ', '\t']) => return line[..at].trim(),
            _ => {}
        }
    }
    line.trim()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn one_name_per_line_on_every_platform() {
        assert_eq!(parse(b"\xef\xbb\xbfperson\r\ncar\r\n\r\n\r\n").unwrap(), ["person", "car"]);
        assert_eq!(parse(b"a\n\nc").unwrap(), ["a", "class-1", "c"]);
        assert_eq!(parse(b"caf\xe9\n").unwrap(), ["caf\u{fffd}"]);
        assert_eq!(parse(b" traffic light \ttab\n").unwrap(), ["traffic light  tab"]);
        // A number that begins one name is part of it.
        assert_eq!(parse(b"3 wheeler\ncar").unwrap(), ["3 wheeler", "car"]);
        assert_eq!(parse(b"3 wheeler").unwrap(), ["3 wheeler"]);
    }

    #[test]
    fn numbered_lines() {
        assert_eq!(
            parse(b"0: person\n1: traffic light\n3: \"car: red\"\n").unwrap(),
            ["person", "traffic light", "class-2", "car: red"]
        );
        assert_eq!(parse(b"0  person\n1  bicycle\n").unwrap(), ["person", "bicycle"]);
    }

    #[test]
    fn names_of_an_ultralytics_data_file() {
        let lines = "# COCO8\npath: coco8 # root\ntrain: images/train\n\n# Classes\nnames:\n  0: person\n  1: 'traffic light'\n  2: \"it's\" # yes\n\ndownload: https://x/y.zip\n";
        let wanted = ["person", "traffic light", "it's"];
        assert_eq!(parse(lines.as_bytes()).unwrap(), wanted);
        assert_eq!(parse(b"nc: 3\nnames: ['person', \"traffic light\", it's]\n").unwrap(), wanted);
        assert_eq!(parse(b"names: [\n  person,\n  'traffic light', # two\n  it's,\n]\nnc: 3").unwrap(), wanted);
        assert_eq!(parse(b"names: {0: person, 1: traffic light, 2: \"it's\"}").unwrap(), wanted);
        assert_eq!(parse(b"names:\n- person\n- traffic light\n- it's\nnc: 3\n").unwrap(), wanted);
        assert_eq!(parse(b"names:\n  - person\n  - 'a, b'\n").unwrap(), ["person", "a, b"]);
    }

    #[test]
    fn lists_and_maps_of_json_and_python() {
        assert_eq!(parse(b"[\"a\", \"b\\\"c\"]").unwrap(), ["a", "b\"c"]);
        assert_eq!(parse(b"{\n \"0\": \"person\",\n \"1\": \"car, red\"\n}").unwrap(), ["person", "car, red"]);
        assert_eq!(parse(b"{0: 'person', 2: 'dog'}").unwrap(), ["person", "class-1", "dog"]);
    }

    #[test]
    fn invalid_files_are_rejected() {
        assert!(parse(b"").is_err() && parse(b"\n\r\n").is_err() && parse(b"a\0b").is_err());
        assert!(parse("x\n".repeat(MAX_CLASSES + 1).as_bytes()).is_err());
        for wrong in [
            "names: coco.names",
            "names:\n  person: 0\n",
            "names:\n",
            "[1, 2",
            "{a: b}",
            "item {\n  id: 1\n  name: 'a'\n}",
            "0: a\nnames: {0: [x]}",
            "names: {0: a, 0: b}",
            "99999999: a\n",
        ] {
            let reason = parse(wrong.as_bytes()).unwrap_err();
            assert!(reason.len() > 10, "{wrong}: {reason}");
        }
    }
}
