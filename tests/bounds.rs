// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the limits in `docs/bounds.md` with the constants in the source: values, completeness, and the tests that are named.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A row of the page.
struct Bound {
    constant: String,
    /// The file that defines it, relative to the root.
    file: String,
    limit: String,
    beyond: String,
    /// `FILE::FUNCTION`, or empty.
    test: String,
}

fn bounds() -> Vec<Bound> {
    let page = read("docs/bounds.md");
    let rows = page.lines().filter(|line| line.contains("](../src/"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", _, constant, limit, beyond, test, ""] = cells[..] else { panic!("not a row of five cells: {row}") };
        let (name, file) = constant.trim_start_matches("[`").split_once("`](../").unwrap();
        Bound {
            constant: name.to_owned(),
            file: file.trim_end_matches(')').to_owned(),
            limit: limit.to_owned(),
            beyond: beyond.to_owned(),
            test: test.trim_matches('`').to_owned(),
        }
    })
    .collect()
}

/// Returns the expression that a file assigns to a constant.
fn expression<'a>(source: &'a str, constant: &str) -> Option<&'a str> {
    let start = source.find(&format!("const {constant}: "))?;
    let (_, value) = source[start..].split_once(" = ")?;
    value.split(';').next()
}

/// Evaluates products and shifts of numbers and of constants of the same file; durations are in seconds.
fn evaluate(text: &str, source: &str) -> f64 {
    let text = text.trim();
    if let Some((left, right)) = text.split_once("<<") {
        return evaluate(left, source) * evaluate(right, source).exp2();
    }
    if let Some((left, right)) = text.rsplit_once('*') {
        return evaluate(left, source) * evaluate(right, source);
    }
    if let Some(seconds) = text.strip_prefix("Duration::from_secs(") {
        return evaluate(seconds.trim_end_matches(')'), source);
    }
    text.replace('_', "").parse().unwrap_or_else(|_| {
        let other = expression(source, text).unwrap_or_else(|| panic!("cannot evaluate {text}"));
        evaluate(other, source)
    })
}

/// Reads "4 MiB", "60 s" or "30,000".
fn limit(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "bytes" | "s" => 1.0,
        "KiB" => 1024.0,
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => panic!("unknown unit in {text}"),
    };
    number.replace(',', "").parse::<f64>().unwrap_or_else(|_| panic!("not a number: {text}")) * factor
}

#[test]
fn the_documented_limits_are_those_of_the_source() {
    let bounds = bounds();
    assert!(bounds.len() > 50, "{} rows", bounds.len());
    for bound in bounds {
        let name = format!("{} in {}", bound.constant, bound.file);
        let source = read(&bound.file);
        let found = expression(&source, &bound.constant).unwrap_or_else(|| panic!("there is no {name}"));
        assert_eq!(evaluate(found, &source), limit(&bound.limit), "{name} = {found}");
        assert!(!bound.beyond.is_empty(), "{name}: what happens beyond it?");
    }
}

#[test]
fn the_tests_of_limits_exist() {
    for bound in bounds().into_iter().filter(|bound| !bound.test.is_empty()) {
        let (file, function) = bound.test.split_once("::").unwrap();
        let source = read(file);
        let (before, _) = source
            .split_once(&format!("fn {function}()"))
            .unwrap_or_else(|| panic!("{}: there is no test {}", bound.constant, bound.test));
        assert!(before.trim_end().ends_with("#[test]"), "{} is not a test", bound.test);
    }
}

/// Constants with such names that do not limit what untrusted input can cause.
const OTHERS: [&str; 16] = [
    // How models are recognised and checked.
    "MAX_FINAL_BOXES",
    "MAX_PICODET_SIDE",
    "MAX_ANCHORS",
    "MAX_ROUNDS",
    "MAX_CLASSES_OF_PICTURE",
    // Layouts of pixels.
    "MAX_STEP",
    // Plans of threads, and decisions between two ways to the same result.
    "MAX_AUTOMATIC_SESSIONS",
    "MAX_SKIP",
    "MAX_IDLE_FILES",
    "MAX_THREADS",
    "MAX_REGISTRATIONS",
    // What is listed in messages and reports.
    "MAX_SHOWN",
    "MAX_NAMES_SHOWN",
    "MAX_TENSORS_SHOWN",
    "MAX_REASONS",
    // The range of a property.
    "MAX_PIXELS",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_limit_of_the_source_is_documented() {
    let documented: BTreeSet<(String, String)> =
        bounds().into_iter().map(|bound| (bound.file, bound.constant)).collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut count = 0;
    for path in files {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        // Limits of the command line's own input, and of the input that fuzzing makes.
        if file.starts_with("src/bin/") || file.ends_with("fuzzing.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Constants of modules, not of functions: those are indented.
        for line in text.lines().filter(|line| line.starts_with("const ") || line.starts_with("pub")) {
            let Some((_, definition)) = line.split_once("const ") else { continue };
            let Some((name, kind)) = definition.split_once(": ") else { continue };
            let is_limit =
                ["MAX_", "MOST_", "LONGEST_"].iter().any(|start| name.starts_with(start)) || name.ends_with("_LIMIT");
            let is_count = ["usize ", "u64 ", "u32 ", "i64 ", "c_int "].iter().any(|name| kind.starts_with(name));
            if is_limit && is_count && !OTHERS.contains(&name) {
                count += 1;
                assert!(
                    documented.contains(&(file.clone(), name.to_owned())),
                    "{name} in {file} is not in docs/bounds.md: add a row with its value, what happens beyond it, and a test"
                );
            }
        }
    }
    assert!(count > 40, "{count} limits");
}
