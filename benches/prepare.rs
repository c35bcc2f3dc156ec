// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures the conversion from planes to the model's input: [`Preparer`], compared with FFmpeg's swscale to RGB and a loop that
//! fills the tensor.
//!
//! `cargo bench --bench prepare`. One core; 1080p and 720p in I420, NV12 and 10 bits to 640x640 with letterbox.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::ffi::c_int;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ffmpeg_sys_next as ffi;
use gstvx::detect::{
    ChannelOrder, Filter, InputFormat, Letterbox, Matrix, PADDING, Picture, PixelFormat, Plane, Preparer, Range,
    ResizeMode, SlotMut,
};

const SIDE: usize = 640;

/// Planes of `format` that contain some structure.
struct Planes {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Planes {
    fn new(format: PixelFormat, width: usize, height: usize) -> Self {
        let (bytes, chroma): (usize, &[usize]) = match format {
            PixelFormat::I420 => (1, &[2, 2]),
            PixelFormat::Nv12 => (1, &[1]),
            _ => (2, &[2, 2]),
        };
        let plane = |columns: usize, rows: usize| {
            let stride = columns * bytes;
            let value = |i: usize| ((i % stride) * 3 + (i / stride) * 5 + ((i * 2_654_435_761) >> 13) % 32) as u8;
            ((0..stride * rows).map(|i| if bytes == 2 && i % 2 == 1 { 2 } else { value(i) }).collect(), stride)
        };
        let mut planes = vec![plane(width, height)];
        planes.extend(chroma.iter().map(|shift| plane(width / shift, height / 2)));
        Self { format, width, height, planes }
    }

    fn picture(&self) -> Picture<'_> {
        let planes: Vec<_> = self.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        Picture::new(self.format, self.width, self.height, &planes, Matrix::Bt709, Range::Limited).unwrap()
    }
}

/// The approach of a program without its own kernel: swscale to RGB at the letterbox size, then a loop over the pixels.
struct Swscale {
    context: *mut ffi::SwsContext,
    fit: Letterbox,
    rgb: Vec<u8>,
}

impl Swscale {
    fn new(planes: &Planes) -> Self {
        let fit = Letterbox::new((planes.width, planes.height), (SIDE, SIDE), ResizeMode::Letterbox);
        let from = match planes.format {
            PixelFormat::I420 => ffi::AVPixelFormat::AV_PIX_FMT_YUV420P,
            PixelFormat::Nv12 => ffi::AVPixelFormat::AV_PIX_FMT_NV12,
            _ => ffi::AVPixelFormat::AV_PIX_FMT_YUV420P10LE,
        };
        // SAFETY: sizes and formats are valid, the rest may be null.
        let context = unsafe {
            ffi::sws_getContext(
                planes.width as c_int,
                planes.height as c_int,
                from,
                fit.width as c_int,
                fit.height as c_int,
                ffi::AVPixelFormat::AV_PIX_FMT_RGB24,
                ffi::SWS_BILINEAR as c_int,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        };
        assert!(!context.is_null());
        Self { context, fit, rgb: vec![0; fit.width * fit.height * 3 + 64] }
    }

    fn run(&mut self, planes: &Planes, tensor: &mut [f32]) {
        let data: Vec<*const u8> =
            planes.planes.iter().map(|(data, _)| data.as_ptr()).chain([std::ptr::null(); 2]).collect();
        let strides: Vec<c_int> = planes.planes.iter().map(|(_, stride)| *stride as c_int).chain([0; 2]).collect();
        let target = [self.rgb.as_mut_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut()];
        let target_stride = [(self.fit.width * 3) as c_int, 0, 0, 0];
        // SAFETY: source and target have the sizes that the context was made for.
        unsafe {
            ffi::sws_scale(
                self.context,
                data.as_ptr(),
                strides.as_ptr(),
                0,
                planes.height as c_int,
                target.as_ptr(),
                target_stride.as_ptr(),
            )
        };
        tensor.fill(PADDING / 255.0);
        for (y, line) in self.rgb.chunks_exact(self.fit.width * 3).take(self.fit.height).enumerate() {
            for (x, pixel) in line.chunks_exact(3).enumerate() {
                for (channel, value) in pixel.iter().enumerate() {
                    tensor[channel * SIDE * SIDE + (self.fit.top + y) * SIDE + self.fit.left + x] =
                        f32::from(*value) / 255.0;
                }
            }
        }
    }
}

fn prepare(criterion: &mut Criterion) {
    let input = InputFormat {
        width: SIDE,
        height: SIDE,
        order: ChannelOrder::Rgb,
        white: 1.0,
        resize_mode: ResizeMode::Letterbox,
        channels_last: false,
        is_grey: false,
        normalise: None,
        filter: Filter::Bilinear,
    };
    let mut tensor = vec![0.0_f32; 3 * SIDE * SIDE];
    for (format, name) in
        [(PixelFormat::I420, "I420"), (PixelFormat::Nv12, "NV12"), (PixelFormat::I42010le, "I420_10LE")]
    {
        for (width, height) in [(1920, 1080), (1280, 720)] {
            let planes = Planes::new(format, width, height);
            let mut group = criterion.benchmark_group(format!("{name} {width}x{height} to 640x640"));
            group.bench_function("vx", |bencher| {
                let (mut preparer, mut padded) = (Preparer::default(), None);
                bencher.iter(|| {
                    preparer.prepare(black_box(&planes.picture()), &input, SlotMut::F32(&mut tensor), &mut padded)
                });
            });
            group.bench_function("vx, area", |bencher| {
                let (mut preparer, mut padded) = (Preparer::default(), None);
                let input = InputFormat { filter: Filter::Area, ..input };
                bencher.iter(|| {
                    preparer.prepare(black_box(&planes.picture()), &input, SlotMut::F32(&mut tensor), &mut padded)
                });
            });
            group.bench_function("swscale and a loop", |bencher| {
                let mut swscale = Swscale::new(&planes);
                bencher.iter(|| swscale.run(black_box(&planes), &mut tensor));
            });
        }
    }
}

criterion_group!(benches, prepare);
criterion_main!(benches);
