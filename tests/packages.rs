// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests what is published about the project's dependencies: the software bill of materials of `scripts/sbom.py` is compared with what
//! cargo links and what is bundled.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use common::root;
use serde_json::Value;

fn python_has_tomllib() -> bool {
    Command::new("python3").args(["-c", "import tomllib"]).output().is_ok_and(|output| output.status.success())
}

fn sbom() -> String {
    let output = Command::new("python3").arg("scripts/sbom.py").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Returns the components of a bill, and those inside them.
fn components(bill: &Value) -> Vec<&Value> {
    let inside = bill["components"].as_array().into_iter().flatten();
    inside.flat_map(|each| std::iter::once(each).chain(components(each))).collect()
}

#[test]
fn the_bill_of_materials_lists_the_crates_that_cargo_links() {
    if !python_has_tomllib() {
        println!("skipped: python3 is not 3.11 or newer");
        return;
    }
    let text = sbom();
    assert_eq!(text, sbom(), "two runs differ");
    let bill: Value = serde_json::from_str(&text).unwrap();
    let listed: BTreeSet<String> = components(&bill)
        .iter()
        .filter_map(|each| each["purl"].as_str()?.strip_prefix("pkg:cargo/").map(str::to_owned))
        .collect();
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"])
        .current_dir(root())
        .output()
        .unwrap();
    let linked: BTreeSet<String> = String::from_utf8(tree.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| format!("{name}@{}", rest.split(' ').next().unwrap()))
        .filter(|crate_| !crate_.starts_with("gst-plugin-vx@"))
        .collect();
    assert!(linked.len() > 50, "{linked:?}");
    assert_eq!(listed, linked);
    // Every reference in the graph is a component, and every crate can be reached.
    let references: BTreeSet<&str> = components(&bill).iter().filter_map(|each| each["bom-ref"].as_str()).collect();
    let needed: BTreeSet<&str> = bill["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|each| each["dependsOn"].as_array().unwrap())
        .map(|each| each.as_str().unwrap())
        .collect();
    assert!(needed.is_subset(&references), "{:?}", needed.difference(&references));
    for crate_ in &linked {
        assert!(needed.contains(format!("pkg:cargo/{crate_}").as_str()), "nothing depends on {crate_}");
    }
}

#[test]
fn the_bill_of_materials_lists_every_bundled_library_and_its_hash() {
    let libraries = root().join(".deps/lib");
    if !python_has_tomllib() || !root().join(".deps/onnxruntime.stamp").exists() {
        println!("skipped: python3 is not 3.11 or newer, or `make setup` downloaded no ONNX Runtime");
        return;
    }
    let bill: Value = serde_json::from_str(&sbom()).unwrap();
    // By their paths: two versions of OpenVINO have libraries of the same name.
    let hashes: BTreeMap<&str, &str> = components(&bill)
        .iter()
        .filter(|each| each["type"] == "file")
        .filter_map(|each| {
            Some((each["bom-ref"].as_str()?.split_once("#lib/")?.1, each["hashes"][0]["content"].as_str()?))
        })
        .collect();
    let mut count = 0;
    for folder in ["", "openvino/"] {
        for entry in std::fs::read_dir(libraries.join(folder)).into_iter().flatten().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let path = format!("{folder}{}", entry.file_name().into_string().unwrap());
                assert_eq!(hashes.get(path.as_str()), Some(&sha256(&entry.path()).as_str()), "{path}");
                count += 1;
            }
        }
    }
    assert!(count > 0);
    let curl = components(&bill).into_iter().find(|each| each["name"] == "curl");
    assert!(curl.is_some(), "what is compiled into ONNX Runtime is not listed");
    let model = components(&bill).into_iter().find(|each| each["type"] == "machine-learning-model").unwrap();
    assert_eq!(model["hashes"][0]["content"], sha256(&root().join("models/person-320.onnx")));
}
