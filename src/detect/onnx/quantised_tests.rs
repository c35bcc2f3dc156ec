// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares quantised models before and after rewriting: their outputs in ONNX Runtime, and their graphs.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};

use super::*;
use crate::detect::engine::Engine;
use crate::detect::engine::loading::cpu_setup;
use crate::detect::engine::plan::{EngineSpec, ThreadPlan};
use crate::detect::model::description::DeclaredModel;
use crate::detect::onnx::file::{ModelBytes, ModelSource};
use crate::detect::pixels::input_format::SlotMut;
use crate::detect::runtime::library::{Runtime, RuntimeOptions};
use crate::detect::runtime::processor::processor;
use crate::detect::runtime::provider::Provider;
use crate::detect::runtime::session::Session;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/quantised.onnx")
}

fn runtime() -> &'static Runtime {
    let search_dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")];
    Runtime::load(&RuntimeOptions { search_dirs, ..RuntimeOptions::default() }).unwrap().0
}

fn read(path: &Path) -> ModelBytes {
    ModelSource::File(path.to_owned()).read(None).unwrap()
}

/// Returns the outputs of a model for a picture of noise, and the number of operators that ran.
fn run(model: &ModelBytes) -> (Vec<Vec<f32>>, usize) {
    let setup = cpu_setup(runtime(), &EngineSpec::default(), ThreadPlan::new(&EngineSpec::default(), 1, false));
    let profile = tempfile::tempdir().unwrap();
    let (mut session, _) =
        Session::open(runtime(), model, &setup, &[], Some(&profile.path().join("profile")), None).unwrap();
    let declared = DeclaredModel::new("test", session.declaration(), None).unwrap();
    let mut input = session.input(1, &declared.input).unwrap();
    let SlotMut::F32(pixels) = input.slot(0) else { panic!("the model takes f32") };
    let mut noise = 1_u32;
    for pixel in pixels {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *pixel = (noise >> 8) as f32 / (1 << 24) as f32;
    }
    let every: Vec<usize> = (0..session.declaration().outputs.len()).collect();
    let values = session.run(&input, 1, &every, |views| views.iter().map(|view| view.values.to_vec()).collect());
    (values.unwrap(), session.stop_profile().unwrap().values().sum())
}

/// Returns the nodes and constants of a model.
fn decoded(model: &[u8]) -> (Vec<Node>, Vec<Tensor>) {
    let parts = fields(model).unwrap();
    let graph = fields(parts.iter().find(|part| part.number == MODEL_GRAPH).unwrap().payload).unwrap();
    let nodes = graph.iter().filter(|part| part.number == GRAPH_NODE).map(|part| node_in(part).unwrap());
    let tensors = graph.iter().filter(|part| part.number == GRAPH_INITIALIZER).filter_map(|part| tensor_in(part));
    (nodes.collect(), tensors.collect())
}

/// Makes a model of these nodes and constants.
fn model(nodes: &[Node], tensors: &[Tensor], also: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut graph = Vec::new();
    nodes.iter().for_each(|node| put(GRAPH_NODE, node, &mut graph));
    tensors.iter().for_each(|tensor| put(GRAPH_INITIALIZER, tensor, &mut graph));
    for (number, payload) in also {
        put_bytes(*number, payload, &mut graph);
    }
    let mut model = Vec::new();
    put_bytes(MODEL_GRAPH, &graph, &mut model);
    model
}

fn convolution(weights: &str, zero_point: &str) -> Node {
    Node::new("ConvInteger", &["x", weights, "x_zero", zero_point], "y")
}

fn signed(name: &str) -> Tensor {
    Tensor::scalar(name, INT8, -3)
}

fn same_results(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (expected, _) = run(&read(path).unchanged());
    assert!(expected.iter().flatten().any(|value| value.abs() > 1e-3), "{} returns zeros", path.display());
    for preference in [KernelPreference::UnsignedWeights, KernelPreference::SignedActivations] {
        let Some(changed) = for_cpu(&bytes, preference) else {
            assert_eq!(preference, KernelPreference::UnsignedWeights, "{} is not rewritten", path.display());
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("changed.onnx");
        std::fs::write(&place, changed).unwrap();
        // Without VNNI signed right-hand sides may saturate, which is why they are not used there.
        if preference == KernelPreference::UnsignedWeights || processor().has_vnni {
            assert_eq!(run(&read(&place).unchanged()).0, expected, "{} by {preference:?}", path.display());
        }
    }
}

#[test]
fn results_are_the_same_to_the_last_bit() {
    same_results(&example());
}

#[test]
fn results_of_whole_detectors_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    for name in ["yolo26n_int8.onnx", "yolo11n_320_int8.onnx"] {
        if folder.join(name).exists() {
            same_results(&folder.join(name));
        } else {
            println!("skipped: {} is missing", folder.join(name).display());
        }
    }
}

#[test]
fn sessions_of_the_cpu_provider_run_the_rewritten_model() {
    let has_fast_kernel = cfg!(target_arch = "x86_64") && processor().has_vnni && runtime().minor_version() >= Some(25);
    let (before, after) = (run(&read(&example()).unchanged()).1, run(&read(&example())).1);
    let engine = EngineSpec { model: ModelSource::File(example()), provider: Provider::Cpu, ..EngineSpec::default() };
    assert_eq!(Engine::acquire(runtime(), &engine).unwrap().provider().is_rewritten, cfg!(target_arch = "x86_64"));
    // Signed pictures are three operators more; unsigned weights alone do not show.
    assert_eq!(after > before, has_fast_kernel, "{before} operators, then {after}");
}

#[test]
fn weights_become_unsigned_where_nothing_else_reads_them() {
    let original = std::fs::read(example()).unwrap();
    let kinds = |model: &[u8]| {
        let (_, tensors) = decoded(model);
        let kind = |name: &str| tensors.iter().find(|tensor| tensor.name.as_deref() == Some(name))?.data_type;
        ["signed", "signed_zero", "symmetric", "shared", "shared_zero", ZERO_NAME].map(kind)
    };
    let (int8, uint8) = (Some(INT8), Some(UINT8));
    assert_eq!(kinds(&original), [int8, int8, int8, int8, int8, None]);
    let changed = for_cpu(&original, KernelPreference::UnsignedWeights).unwrap();
    assert_eq!(kinds(&changed), [uint8, uint8, uint8, int8, int8, uint8]);
    let operators = |model: &[u8], op: &str| decoded(model).0.iter().filter(|node| node.is(op)).count();
    assert_eq!(operators(&changed, "QuantizeLinear"), 0);
    // One picture is read by two operators.
    let changed = for_cpu(&original, KernelPreference::SignedActivations).unwrap();
    assert_eq!((operators(&original, "ConvInteger"), operators(&changed, "QuantizeLinear")), (4, 3));
}

#[test]
fn values_move_by_128_however_they_are_stored() {
    let raw = Tensor { int32_data: Vec::new(), raw_data: Some(vec![0x80, 0xFF, 0, 1, 0x7F]), ..signed("weights") };
    let listed = Tensor { int32_data: vec![-128, -1, 0, 127], ..signed("zero") };
    let (_, tensors) = decoded(
        &for_cpu(&model(&[convolution("weights", "zero")], &[raw, listed], &[]), KernelPreference::UnsignedWeights)
            .unwrap(),
    );
    assert_eq!(tensors[0].raw_data.as_deref(), Some(&[0, 0x7F, 0x80, 0x81, 0xFF][..]));
    assert_eq!(tensors[1].int32_data, [0, 127, 128, 255]);
}

#[test]
fn what_is_out_of_the_ordinary_is_left_alone() {
    let changed = |model: &[u8]| for_cpu(model, KernelPreference::SignedActivations).is_some();
    let tensors = [signed("weights"), signed("zero")];
    let ordinary = [convolution("weights", "zero")];
    assert!(changed(&model(&ordinary, &tensors, &[])));

    let value = ValueName { name: "weights".to_owned() }.encode_to_vec();
    for number in GRAPH_VALUES {
        assert!(!changed(&model(&ordinary, &tensors, &[(number, value.clone())])), "declared in {number}");
    }
    let graph = Node { attribute: vec![vec![6 << 3 | 2, 0]], ..Node::new("Anything", &["z"], "inner") };
    assert!(!changed(&model(&[ordinary[0].clone(), graph], &tensors, &[])), "a graph within");
    let reader = Node::new("Cast", &["zero"], "read");
    assert!(!changed(&model(&[ordinary[0].clone(), reader], &tensors, &[])), "read by another operator");
    let twice = model(&ordinary, &tensors, &[]).repeat(2);
    assert!(!changed(&twice), "two graphs");
    let ours = [signed("weights"), signed("zero"), signed(HALF_NAME)];
    assert!(!changed(&model(&ordinary, &ours, &[])), "our name");
    let external = Tensor { raw_data: None, int32_data: vec![300], ..signed("zero") };
    assert!(!changed(&model(&ordinary, &[signed("weights"), external], &[])), "no byte");

    // A zero point that another operator measured is not this picture's.
    let quantizer = |measured: &str| Node {
        output: ["x", "x_scale", measured].map(str::to_owned).to_vec(),
        ..Node::new("DynamicQuantizeLinear", &["pixels"], "x")
    };
    let of = |measured: &str| {
        let nodes = [quantizer(measured), convolution("unsigned", "unsigned_zero")];
        decoded(&for_cpu(&model(&nodes, &[], &[]), KernelPreference::SignedActivations)?).0.len().into()
    };
    assert_eq!((of("x_zero"), of("another")), (Some(6), None));
}

#[test]
fn damaged_and_hostile_files_cost_little() {
    let bytes = std::fs::read(example()).unwrap();
    assert!(
        for_cpu(b"", KernelPreference::SignedActivations).is_none()
            && for_cpu(b"ConvInteger", KernelPreference::SignedActivations).is_none()
    );
    // Must not panic; what is left of a file may still be a model.
    for cut in 1..bytes.len() {
        let _ = for_cpu(&bytes[..cut], KernelPreference::SignedActivations);
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let _ = for_cpu(&damaged, KernelPreference::SignedActivations);
    }
    // Each round takes one link off a chain that cannot be changed at its end.
    let link = |index: usize| convolution(&format!("t{index}"), &format!("t{}", index + 1));
    let chain: Vec<Node> = (0..40_000).map(link).collect();
    let tensors: Vec<Tensor> = (0..40_000).map(|index| signed(&format!("t{index}"))).collect();
    assert!(for_cpu(&model(&chain, &tensors, &[]), KernelPreference::UnsignedWeights).is_none());
    let empty = vec![Node::default(); MAX_FIELDS + 1];
    assert!(for_cpu(&model(&empty, &[signed("ConvInteger")], &[]), KernelPreference::UnsignedWeights).is_none());
    let changed = for_cpu(&bytes, KernelPreference::SignedActivations).unwrap();
    assert!(for_cpu(&changed, KernelPreference::SignedActivations).is_none(), "it is as it should be already");
}

#[test]
fn a_long_model_is_left_alone() {
    let preference = KernelPreference::UnsignedWeights;
    let short = model(&[convolution("weights", "zero")], &[signed("weights"), signed("zero")], &[]);
    assert!(for_cpu(&short, preference).is_some());
    // A text of zeros (`doc_string`), which is never read: its memory is not touched.
    let head = [short, vec![6 << 3 | 2]].concat();
    let zeros = MAX_LENGTH + 1 - head.len() - 4;
    let mut long = vec![0; MAX_LENGTH + 1];
    long[..head.len()].copy_from_slice(&head);
    for (place, byte) in long[head.len()..][..4].iter_mut().enumerate() {
        *byte = (zeros >> (7 * place)) as u8 & 0x7f | if place < 3 { 0x80 } else { 0 };
    }
    assert_eq!(fields(&long).map(|parts| parts.len()), Some(2));
    assert!(for_cpu(&long, preference).is_none());
}
