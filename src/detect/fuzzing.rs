// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing of what a model says about itself, of its outputs, and of pictures; see `src/fuzzing.rs`.

use std::collections::HashMap;
use std::path::PathBuf;

use arbitrary::{Result, Unstructured};
use half::f16;
use once_cell::sync::Lazy;

use super::detection::DetectSettings;
use super::layouts::decoder::Decoder;
use super::layouts::sanity::check_outputs;
use super::layouts::{COCO, Metadata, ModelLayout, ObservedOutput, Outputs, Preparation};
use super::model::description::DeclaredModel;
use super::model::hints::{InputRange, InputSize, ModelHints};
use super::model::identification::TrialReport;
use super::model::label_file;
use super::model::labels::Labels;
use super::onnx::declaration::{Declaration, METADATA_KEYS};
use super::onnx::file::ModelSource;
use super::onnx::modelinfo::ModelInfo;
use super::onnx::python_literal::{self, MAX_CLASSES, MAX_NAME};
use super::onnx::quantised::KernelPreference;
use super::onnx::resize::resized;
use super::onnx::tensor::{Dimension, ElementType, OutputView, TensorInfo};
use super::pixels::input_format::{ChannelOrder, Filter, InputFormat, Normalise, SlotMut};
use super::pixels::letterbox::{Letterbox, ResizeMode};
use super::pixels::picture::{Area, Matrix, Picture, Plane, Range};
use super::pixels::pixel_format::PixelFormat;
use super::pixels::preparer::Preparer;

/// A folder for the model, with the external weights of tests/models.
static FOLDER: Lazy<tempfile::TempDir> = Lazy::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    for name in ["external.weights", "outside.weights"] {
        std::fs::write(folder.path().join(name), [7; 2048]).expect("a temporary folder can be written");
    }
    folder
});

/// An ONNX file: read, rewritten for the CPU provider, with embedded weights, and for other sizes.
pub(crate) fn models(file: &[u8]) {
    let path = FOLDER.path().join("model.onnx");
    std::fs::write(&path, file).expect("a temporary folder can be written");
    let source = ModelSource::File(PathBuf::from(&path));
    let _ = source.content_hash();
    for preference in [KernelPreference::UnsignedWeights, KernelPreference::SignedActivations] {
        let Ok(model) = source.read(None) else { return };
        if let Some(rewritten) = model.for_cpu(preference) {
            assert!(rewritten.len() <= 10 * file.len() + 20_480, "{} of {} bytes", rewritten.len(), file.len());
        }
        let _ = model.digest();
    }
    for (from, to) in [((64, 64), (64, 32)), ((640, 640), (640, 384)), ((320, 320), (480, 352)), ((416, 416), (32, 32))]
    {
        if let Ok(rewritten) = resized(file, from, to) {
            let _ = resized(&rewritten, to, from);
        }
    }
}

/// A text that belongs to a model: label file, `.modelinfo` file, metadata, class list.
pub(crate) fn texts(bytes: &[u8]) {
    let is_valid =
        |names: &[String]| names.len() <= MAX_CLASSES && names.iter().all(|name| name.chars().count() <= MAX_NAME);
    if let Ok(names) = label_file::parse(bytes) {
        assert!(is_valid(&names) && !names.is_empty() && names.iter().all(|name| !name.contains(char::is_control)));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(info) = ModelInfo::parse(text) {
        let _ = ModelLayout::from_tensor_ids(&info.output_ids);
    }
    if let Some(names) = python_literal::class_names(text) {
        assert!(is_valid(&names) && !names.is_empty());
    }
    let _ = (python_literal::image_size(text), text.parse::<InputSize>());
    // Each line is the value of a key.
    let values = METADATA_KEYS.iter().zip(text.lines().cycle());
    let metadata = Metadata::parse(&values.map(|(key, value)| ((*key).to_owned(), value.to_owned())).collect());
    assert!(metadata.confidence.is_none_or(|confidence| (0.0..1.0).contains(&confidence)));
    let (names, _) = text.split_once('\n').unwrap_or((text, ""));
    let _ = Labels::of_names(COCO.iter().map(ToString::to_string).collect()).parse_classes(names);
}

/// Values that outputs often have, and that are special.
const VALUES: [f32; 16] = [
    0.0,
    0.01,
    0.5,
    0.9,
    1.0,
    2.0,
    17.0,
    60.0,
    640.0,
    -3.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    -1e30,
    1e30,
    f32::MIN_POSITIVE,
];
const LENGTHS: [usize; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 16, 17, 21, 32, 42, 45, 56, 64, 74, 80, 84, 85, 92, 100, 116, 235, 252, 255,
    300, 1000,
];
const NAMES: [&str; 24] = [
    "output0",
    "output1",
    "boxes",
    "scores",
    "labels",
    "dets",
    "logits",
    "num_dets",
    "detection_boxes",
    "detection_scores",
    "detection_classes",
    "num_detections",
    "pred_boxes",
    "confs",
    "yolonms_layer_1",
    "bbox",
    "cls_8",
    "obj_8",
    "kps_8",
    "score_8",
    "bbox_8",
    "multiclass_nms3_0.tmp_0",
    "landms",
    "x",
];
const TEXTS: [(&str, &[&str]); 9] = [
    ("task", &["detect", "pose", "segment", "obb", "classify"]),
    ("names", &["{0: 'a'}", "['a', 'b']", "nonsense", "{9: 'j'}"]),
    ("end2end", &["True", "False"]),
    ("kpt_shape", &["[2, 3]", "[17, 3]", "[1, 2]", "[5, 3]"]),
    ("args", &["{'nms': True}", "{}"]),
    ("author", &["Ultralytics"]),
    ("imgsz", &["[64, 64]", "[32, 64]"]),
    ("stride", &["8", "32", "0"]),
    ("channels", &["1", "3"]),
];

/// Most values of an output: larger ones take long and have the same paths.
const MAX_VALUES: usize = 60_000;

/// A model with any inputs, outputs, metadata and values.
pub(crate) fn outputs(input: &[u8]) {
    // Too short inputs give zeros, never an error that matters.
    let _ = try_outputs(&mut Unstructured::new(input));
}

fn tensor(input: &mut Unstructured<'_>, images: usize) -> Result<(TensorInfo, Vec<usize>)> {
    let rank = input.int_in_range(0..=5)?;
    let mut shape: Vec<usize> = Vec::new();
    for axis in 0..rank {
        let length = if input.ratio(15, 16)? { *input.choose(&LENGTHS)? } else { input.int_in_range(0..=70_000)? };
        shape.push(if axis == 0 && input.ratio(3, 4)? { images } else { length });
    }
    while shape
        .iter()
        .try_fold(1, |product: usize, length| product.checked_mul(*length))
        .is_none_or(|count| count > MAX_VALUES)
    {
        shape.pop();
    }
    let elements =
        [ElementType::F32, ElementType::F32, ElementType::F16, ElementType::I64, ElementType::I32, ElementType::U8];
    let dimension = |input: &mut Unstructured<'_>, length: usize| -> Result<Dimension> {
        Ok(if input.ratio(1, 8)? { Dimension::Dynamic(String::new()) } else { Dimension::Fixed(length) })
    };
    let dimensions = shape.iter().map(|length| dimension(input, *length)).collect::<Result<_>>()?;
    let name = (*input.choose(&NAMES)?).to_owned();
    Ok((TensorInfo { name, element: input.choose(&elements)?.clone(), shape: dimensions }, shape))
}

/// Returns as many values, a short pattern over and over.
fn values(input: &mut Unstructured<'_>, count: usize) -> Result<Vec<f32>> {
    let length = input.int_in_range(1..=64)?;
    let mut pattern = Vec::with_capacity(length);
    for _ in 0..length {
        let kind: u8 = input.arbitrary()?;
        pattern.push(match kind {
            0..192 => f32::from(kind) / 96.0,
            192..240 => VALUES[usize::from(kind) % VALUES.len()],
            240.. => input.arbitrary()?,
        });
    }
    Ok((0..count).map(|index| pattern[(index + index / 251) % length]).collect())
}

fn try_outputs(input: &mut Unstructured<'_>) -> Result<()> {
    let images = *input.choose(&[1, 1, 2])?;
    let side = |input: &mut Unstructured<'_>| -> Result<Dimension> {
        let lengths = [64, 32, 96, 8, 1];
        Ok(if input.ratio(1, 8)? {
            Dimension::Dynamic("side".to_owned())
        } else {
            Dimension::Fixed(*input.choose(&lengths)?)
        })
    };
    let (rows, columns) = (side(input)?, side(input)?);
    let channels = Dimension::Fixed(*input.choose(&[3, 1])?);
    let batch = Dimension::Fixed(images);
    let shape =
        if input.ratio(1, 4)? { vec![batch, rows, columns, channels] } else { vec![batch, channels, rows, columns] };
    let mut inputs = vec![TensorInfo { name: "images".to_owned(), element: ElementType::F32, shape }];
    for _ in 0..input.int_in_range(0..=2)? {
        let name = *input.choose(&["scale_factor", "im_shape", "pixel_mask", "orig_target_sizes"])?;
        let shape = *input.choose(&[&[1, 2][..], &[1, 64, 64], &[2, 2], &[1, 70_000, 70_000]])?;
        let shape = shape.iter().map(|length| Dimension::Fixed(*length)).collect();
        inputs.push(TensorInfo { name: name.to_owned(), element: ElementType::F32, shape });
    }
    let mut metadata = HashMap::new();
    for (key, texts) in TEXTS {
        if input.ratio(1, 4)? {
            metadata.insert(key.to_owned(), (*input.choose(texts)?).to_owned());
        }
    }
    let (mut outputs, mut shapes) = (Vec::new(), Vec::new());
    for _ in 0..input.int_in_range(1..=9)? {
        let (output, shape) = tensor(input, images)?;
        outputs.push(output);
        shapes.push(shape);
    }
    let layout = if input.ratio(1, 4)? { Some(*input.choose(ModelLayout::ALL)?) } else { None };
    let range = if input.ratio(1, 8)? { Some(*input.choose(&[InputRange::One, InputRange::Signed])?) } else { None };
    let hints = ModelHints { layout, range, ..ModelHints::default() };
    let info = ModelInfo::default();
    let Ok(model) = DeclaredModel::new("m.onnx", Declaration { inputs, outputs, metadata }, Some((64, 64))) else {
        return Ok(());
    };
    // As declared, without values, and after a trial run.
    if let Some(declared) = &model.declared_outputs {
        let _ = model.match_layout(declared, hints, &info);
    }
    let mut observed = Vec::new();
    for shape in shapes {
        let values = values(input, shape.iter().product())?;
        observed.push(ObservedOutput { shape, values: Some(values) });
    }
    let Ok(Some(matched)) = model.match_layout(&observed, hints, &info) else { return Ok(()) };
    let preparation = matched.preparations.first().copied().unwrap_or(Preparation::YOLO);
    let model = model.finish(matched, preparation, hints, &info, TrialReport::default());
    let size = (model.width, model.height);
    let settings = DetectSettings {
        confidence_threshold: f32::from(input.arbitrary::<u8>()?) / 255.0,
        iou_threshold: f32::from(input.arbitrary::<u8>()?) / 255.0,
        max_detections: input.int_in_range(0..=300)?,
        classes: if input.ratio(1, 4)? { Some(vec![0, 3]) } else { None },
        class_agnostic: input.arbitrary()?,
    };
    let frame = (input.int_in_range(1..=2000)?, input.int_in_range(1..=2000)?);
    let fit = Letterbox::new(frame, size, model.preparation.resize_mode);
    // The same outputs, and other ones: models with free shapes may change them.
    let same: Vec<ObservedOutput> = model.read_outputs.iter().map(|&index| observed[index].clone()).collect();
    let mut other = Vec::new();
    for _ in &same {
        let (_, shape) = tensor(input, images)?;
        let values = values(input, shape.iter().product())?;
        other.push(ObservedOutput { shape, values: Some(values) });
    }
    for given in [same, other] {
        let view = |output: &'_ ObservedOutput| output.values.clone().unwrap_or_default();
        let values: Vec<Vec<f32>> = given.iter().map(view).collect();
        let views: Vec<OutputView<'_>> =
            given.iter().zip(&values).map(|(output, values)| OutputView { shape: &output.shape, values }).collect();
        let outputs = Outputs { views: &views, images };
        if !model.layout.reader().accepts(outputs, size) {
            continue;
        }
        let _ = check_outputs(&model.layout, outputs, size);
        for image in 0..images {
            let found = Decoder::default().decode(&model.layout, model.task, outputs, image, &settings, &fit);
            assert!(found.len() <= settings.max_detections, "{} detections", found.len());
            for one in found {
                let (width, height) = (frame.0 as f32, frame.1 as f32);
                let is_inside = (0.0..one.x_max).contains(&one.x_min)
                    && (0.0..one.y_max).contains(&one.y_min)
                    && one.x_max <= width
                    && one.y_max <= height;
                assert!(
                    is_inside && (0.0..=1.0).contains(&one.confidence),
                    "{one:?} in {width}x{height}, {:?}",
                    model.layout
                );
                let mask = one.details.mask;
                assert!(mask.is_none_or(|mask| mask.values.len() == mask.width * mask.height));
                let keypoints = one.details.keypoints.as_flattened();
                assert!(keypoints.iter().all(|value| value.is_finite()), "{keypoints:?}, {:?}", model.layout);
                let rotated = one.details.rotated.map_or([0.0; 5], |it| [it.x, it.y, it.width, it.height, it.angle]);
                assert!(rotated.iter().all(|value| value.is_finite()), "{rotated:?}, {:?}", model.layout);
            }
        }
    }
    Ok(())
}

/// A picture of any format, size and strides, prepared for any model.
pub(crate) fn pictures(input: &[u8]) {
    let _ = try_pictures(&mut Unstructured::new(input));
}

fn try_pictures(input: &mut Unstructured<'_>) -> Result<()> {
    let format = *input.choose(PixelFormat::ALL)?;
    let side = |input: &mut Unstructured<'_>| -> Result<usize> {
        if input.ratio(7, 8)? { input.int_in_range(1..=100) } else { input.int_in_range(0..=3000) }
    };
    let (width, height) = (side(input)?, side(input)?);
    if width * height > 200_000 {
        return Ok(());
    }
    let layout = format.layout();
    let mut memory = Vec::new();
    for plane in 0..layout.planes {
        let (samples, rows) = layout.plane_extent(plane, width.max(1), height.max(1));
        let row_bytes = samples * layout.sample_bytes;
        // Mostly just large enough, so that a read behind the end is seen; sometimes too small.
        let stride = if input.ratio(15, 16)? {
            row_bytes + input.int_in_range(0..=17)?
        } else {
            input.arbitrary::<u8>()?.into()
        };
        let needed = rows.saturating_sub(1) * stride + row_bytes;
        let length = if input.ratio(15, 16)? { needed } else { needed.saturating_sub(input.int_in_range(0..=40)?) };
        let pattern = input.arbitrary::<[u8; 5]>()?;
        memory
            .push(((0..length).map(|index| pattern[index % 5].wrapping_add(index as u8)).collect::<Vec<u8>>(), stride));
    }
    let planes: Vec<_> = memory.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
    let matrix = *input.choose(&[Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Fcc, Matrix::Smpte240m])?;
    let range = *input.choose(&[Range::Limited, Range::Full])?;
    let Ok(mut picture) = Picture::new(format, width, height, &planes, matrix, range) else { return Ok(()) };
    if input.ratio(1, 4)? {
        let area = Area { x: side(input)?, y: side(input)?, width: side(input)?.max(1), height: side(input)?.max(1) };
        if let Some(area) = area.within(format, width, height) {
            picture = picture.cropped(area).expect("the area is within the picture");
        }
    }
    assert_eq!(picture.thumbnail(8, 6).len(), 48);
    let is_grey = input.ratio(1, 8)?;
    let white = *input.choose(&[1.0, 255.0])?;
    let normalise = if input.ratio(1, 4)? { Some(Normalise { mean: [0.5; 3], deviation: [0.25; 3] }) } else { None };
    let mut preparer = Preparer::default();
    let mut padded = None;
    // Twice: the preparer keeps what it computed for the last geometry.
    for _ in 0..2 {
        let model = InputFormat {
            width: input.int_in_range(1..=70)?,
            height: input.int_in_range(1..=70)?,
            order: *input.choose(&[ChannelOrder::Rgb, ChannelOrder::Bgr])?,
            white,
            resize_mode: *input.choose(&[ResizeMode::Letterbox, ResizeMode::LetterboxTopLeft, ResizeMode::Stretch])?,
            channels_last: input.ratio(1, 4)?,
            is_grey,
            normalise,
            filter: *input.choose(&[Filter::Bilinear, Filter::Area])?,
        };
        let count = model.width * model.height * if is_grey { 1 } else { 3 };
        let (mut floats, mut halves, mut bytes) = (vec![f32::NAN; count], vec![f16::NAN; count], vec![0_u8; count]);
        let mut fresh = None;
        let fit = match input.int_in_range(0..=2)? {
            0 => preparer.prepare(&picture, &model, SlotMut::F32(&mut floats), &mut fresh),
            1 => preparer.prepare(&picture, &model, SlotMut::F16(&mut halves), &mut fresh),
            _ => {
                preparer.prepare(&picture, &InputFormat { white: 255.0, ..model }, SlotMut::U8(&mut bytes), &mut padded)
            }
        };
        assert!(fit.left + fit.width <= model.width && fit.top + fit.height <= model.height, "{fit:?}");
        assert!(fit.width > 0 && fit.height > 0, "{fit:?}");
        let corners = fit.to_frame([
            fit.left as f32,
            fit.top as f32,
            (fit.left + fit.width) as f32,
            (fit.top + fit.height) as f32,
        ]);
        assert!(corners.iter().all(|value| value.is_finite()));
        // Every value is written, and within the range where there is one.
        if floats.iter().any(|value| !value.is_nan()) {
            let is_valid =
                |value: &f32| value.is_finite() && (normalise.is_some() || (-0.01..=white * 1.001).contains(value));
            assert!(floats.iter().all(is_valid), "{model:?}");
        }
        if halves.iter().any(|value| !value.is_nan()) {
            assert!(halves.iter().all(|value| value.is_finite()), "{model:?}");
        }
    }
    Ok(())
}
