// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of a session's inputs and outputs: allocated once and reused for every run.
//!
//! Owns [`InputTensor`], into which frames are prepared, and the decision which outputs are preallocated. Each worker has its own.

use half::f16;
use ort::memory::Allocator;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynTensor, Outlet, PrimitiveTensorElementType, Tensor, TensorRef, ValueType};
use smallvec::SmallVec;

use crate::detect::onnx::input::InputSpec;
use crate::detect::onnx::tensor::ElementType;
use crate::detect::pixels::input_format::SlotMut;

/// The model's inputs for a batch of images: the pictures, and their sizes or masks if the model takes them.
#[derive(Debug)]
pub(crate) struct InputTensor {
    /// In the session's order.
    values: Vec<Input>,
    /// Index of the pictures.
    pictures: usize,
    images: usize,
}

/// One input, and its number of values for one image.
#[derive(Debug)]
enum Input {
    F32(Tensor<f32>, usize),
    F16(Tensor<f16>, usize),
    U8(Tensor<u8>, usize),
    I32(Tensor<i32>, usize),
    I64(Tensor<i64>, usize),
}

impl InputTensor {
    /// Allocates inputs for `images` images, filled with black; `order` lists the session's input names.
    pub fn new(allocator: &Allocator, images: usize, spec: &InputSpec, order: &[&str]) -> ort::Result<Self> {
        let (width, height) = (spec.width, spec.height);
        let (shape, image) = (spec.shape(images), spec.values());
        let pictures = match spec.element {
            ElementType::F16 => Input::F16(filled(allocator, &shape, &[f16::ZERO])?, image),
            ElementType::U8 => Input::U8(filled(allocator, &shape, &[0])?, image),
            _ => Input::F32(filled(allocator, &shape, &[0.0])?, image),
        };
        let mut named = vec![(spec.name.as_str(), pictures)];
        for extra in &spec.extras {
            let values = extra.values(width, height);
            let shape: SmallVec<[usize; 4]> = [&[images], extra.shape()].concat().into();
            let length = extra.shape().iter().product();
            let input = match extra.element {
                ElementType::I32 => {
                    Input::I32(filled(allocator, &shape, &converted(&values, |value| value as i32))?, length)
                }
                ElementType::I64 => {
                    Input::I64(filled(allocator, &shape, &converted(&values, |value| value as i64))?, length)
                }
                _ => Input::F32(filled(allocator, &shape, &converted(&values, |value| value as f32))?, length),
            };
            named.push((&extra.name, input));
        }
        named.sort_by_key(|(name, _)| order.iter().position(|other| other == name));
        let pictures = named.iter().position(|(name, _)| *name == spec.name).unwrap_or_default();
        let values = named.into_iter().map(|(_, input)| input).collect();
        Ok(Self { values, pictures, images })
    }

    /// Returns the number of images that it can hold.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Returns the slot of image `index`.
    pub fn slot(&mut self, index: usize) -> SlotMut<'_> {
        match &mut self.values[self.pictures] {
            Input::F32(tensor, image) => SlotMut::F32(part_mut(tensor, *image, index)),
            Input::F16(tensor, image) => SlotMut::F16(part_mut(tensor, *image, index)),
            Input::U8(tensor, image) => SlotMut::U8(part_mut(tensor, *image, index)),
            // Pictures have one of the types above.
            Input::I32(..) | Input::I64(..) => SlotMut::U8(&mut []),
        }
    }

    /// Returns the inputs for the first `images` images, in the session's order.
    pub fn feeds(&self, images: usize) -> ort::Result<SmallVec<[SessionInputValue<'_>; 4]>> {
        let is_full = images == self.images;
        let feeds = self.values.iter().map(|input| match input {
            Input::F32(tensor, image) => feed(tensor, *image, images, is_full),
            Input::F16(tensor, image) => feed(tensor, *image, images, is_full),
            Input::U8(tensor, image) => feed(tensor, *image, images, is_full),
            Input::I32(tensor, image) => feed(tensor, *image, images, is_full),
            Input::I64(tensor, image) => feed(tensor, *image, images, is_full),
        });
        feeds.collect()
    }
}

fn converted<T>(values: &[usize], convert: impl Fn(usize) -> T) -> SmallVec<[T; 2]> {
    values.iter().map(|&value| convert(value)).collect()
}

/// Creates a tensor that repeats `values`.
fn filled<T: PrimitiveTensorElementType + Copy + std::fmt::Debug>(
    allocator: &Allocator,
    shape: &[usize],
    values: &[T],
) -> ort::Result<Tensor<T>> {
    let mut tensor = Tensor::<T>::new(allocator, shape)?;
    for place in tensor.try_extract_tensor_mut::<T>()?.1.chunks_exact_mut(values.len()) {
        place.copy_from_slice(values);
    }
    Ok(tensor)
}

fn part_mut<T: PrimitiveTensorElementType + std::fmt::Debug>(
    tensor: &mut Tensor<T>,
    image: usize,
    index: usize,
) -> &mut [T] {
    &mut tensor.extract_tensor_mut().1[index * image..][..image]
}

fn feed<T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    tensor: &Tensor<T>,
    image: usize,
    images: usize,
    is_full: bool,
) -> ort::Result<SessionInputValue<'_>> {
    if is_full {
        return Ok(tensor.into());
    }
    let (shape, values) = tensor.extract_tensor();
    let mut shape = shape.to_vec();
    shape[0] = images as i64;
    Ok(TensorRef::from_array_view((shape, &values[..images * image]))?.into())
}

/// The outputs that a session returns, and where it writes them.
#[derive(Default)]
pub(super) struct OutputBinding {
    wanted: SmallVec<[usize; 4]>,
    /// Options for outputs that ONNX Runtime allocates.
    free: Option<Options>,
    /// Options for preallocated outputs, and the number of images they are for.
    bound: Option<(Options, usize)>,
    /// Preallocated outputs did not fit, or no output has a fixed shape.
    cannot_bind: bool,
    /// The shapes of outputs depend on the input size only, whatever the model declares.
    is_dense: bool,
}

type Options = RunOptions<HasSelectedOutputs>;

impl OutputBinding {
    /// Creates a binding for outputs whose shapes depend on the input size only, whatever the model declares.
    pub fn dense() -> Self {
        Self { is_dense: true, ..Self::default() }
    }

    /// Prepares runs that return the outputs `wanted`.
    pub fn choose(&mut self, outputs: &[Outlet], wanted: &[usize]) -> ort::Result<()> {
        if self.free.is_none() || self.wanted[..] != *wanted {
            self.wanted = SmallVec::from_slice(wanted);
            self.bound = None;
            self.free = Some(RunOptions::new()?.with_outputs(selector(outputs, wanted)));
        }
        Ok(())
    }

    /// Returns the options of a run of `images` images, and whether its outputs are preallocated; `None` before
    /// [`choose`](Self::choose).
    pub fn options(&self, images: usize) -> Option<(&Options, bool)> {
        match &self.bound {
            Some((options, count)) if *count == images => Some((options, true)),
            _ => self.free.as_ref().map(|options| (options, false)),
        }
    }

    /// Lets ONNX Runtime allocate outputs from now on.
    pub fn release(&mut self) {
        self.bound = None;
        self.cannot_bind = true;
    }

    /// Preallocates outputs of the shapes `observed` for runs of `images` images, as far as the model declares that these shapes
    /// are fixed.
    pub fn bind(
        &mut self,
        allocator: &Allocator,
        outputs: &[Outlet],
        images: usize,
        observed: &[SmallVec<[usize; 4]>],
    ) -> ort::Result<()> {
        if self.cannot_bind || self.bound.as_ref().is_some_and(|(_, count)| *count == images) {
            return Ok(());
        }
        let mut selector = selector(outputs, &self.wanted);
        let mut is_any = false;
        for (&index, observed) in self.wanted.iter().zip(observed) {
            if let ValueType::Tensor { ty, shape, .. } = outputs[index].dtype()
                && (self.is_dense || is_fixed(shape, observed))
            {
                is_any = true;
                let shape: SmallVec<[i64; 4]> = observed.iter().map(|&length| length as i64).collect();
                let tensor = DynTensor::new(allocator, *ty, &shape[..])?;
                selector = selector.preallocate(outputs[index].name(), tensor);
            }
        }
        self.cannot_bind = !is_any;
        if is_any {
            self.bound = Some((RunOptions::new()?.with_outputs(selector), images));
        }
        Ok(())
    }
}

fn selector(outputs: &[Outlet], wanted: &[usize]) -> OutputSelector {
    let names = wanted.iter().filter_map(|&index| outputs.get(index)).map(Outlet::name);
    names.fold(OutputSelector::no_default(), OutputSelector::with)
}

/// Whether an output declared as `declared` that had the shape `observed` has it in every run of as many images: all dimensions
/// except the batch are fixed.
fn is_fixed(declared: &[i64], observed: &[usize]) -> bool {
    declared.len() == observed.len()
        && declared.len() > 1
        && declared.iter().zip(observed).skip(1).all(|(&declared, &observed)| usize::try_from(declared) == Ok(observed))
}
