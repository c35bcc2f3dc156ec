// SPDX-License-Identifier: MIT OR Apache-2.0
//! Picture memory that is reused from decoder to decoder and from file to file.
//!
//! FFmpeg's own buffer pools end with the decoder they belong to, so that every file begins with new pages from the
//! system. Blocks of a [`FramePool`] return when the last reference to a picture is dropped, wherever that is, and serve
//! the next decoder. The pool's size is bounded; a block that comes from another file is cleared, so that no damaged
//! picture shows a piece of an earlier recording.
//!
//! Thread rule: any thread.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_sys_next as ffi;
use parking_lot::Mutex;

use crate::av::frame::canary;
use crate::av::frame::pixel_format::PixelFormat;

/// Most bytes of unused blocks: four pictures of 8K in 10 bits.
const MAX_SPARE_BYTES: usize = 400 << 20;

/// Most unused blocks.
const MAX_SPARE_BLOCKS: usize = 64;

/// Alignment of every plane: the most that any SIMD code of FFmpeg needs.
const ALIGNMENT: usize = 64;

/// Bytes past the end of a plane that FFmpeg's SIMD code may read and write.
const PADDING: usize = 16 + ALIGNMENT;

/// Number of files after which a block that none of them used is freed: a few large pictures must not stay for the rest of a run.
const MAX_IDLE_FILES: u64 = 4;

/// Picture memory shared by all decoders that have a clone of this pool.
#[derive(Clone, Default)]
pub struct FramePool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    spare: Mutex<VecDeque<Block>>,
    users: AtomicU64,
}

/// A block of initialised memory.
struct Block {
    data: NonNull<u8>,
    layout: Layout,
    /// The file that wrote to it last.
    user: u64,
}

// SAFETY: the memory belongs to this value alone.
unsafe impl Send for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: from alloc_zeroed with this layout, and not used afterwards.
        unsafe { dealloc(self.data.as_ptr(), self.layout) };
    }
}

impl std::fmt::Debug for FramePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks = self.0.spare.lock().len();
        write!(f, "FramePool({blocks} spare blocks, {} bytes)", self.spare_bytes())
    }
}

impl FramePool {
    /// Returns the pool for use by one file. Frees memory that the last few files did not use.
    pub(crate) fn for_file(&self) -> PictureMemory {
        let user = self.0.users.fetch_add(1, Ordering::Relaxed);
        let aged = {
            let mut spare = self.0.spare.lock();
            let (aged, kept) =
                std::mem::take(&mut *spare).into_iter().partition(|block| block.user + MAX_IDLE_FILES < user);
            *spare = kept;
            aged
        };
        drop::<VecDeque<Block>>(aged);
        PictureMemory { pool: self.clone(), user }
    }

    /// Frees the unused memory.
    pub fn clear(&self) {
        self.0.spare.lock().clear();
    }

    /// Returns the bytes of unused memory in the pool.
    #[must_use]
    pub fn spare_bytes(&self) -> usize {
        self.0.spare.lock().iter().map(|block| block.layout.size()).sum()
    }
}

/// Content of a new picture before a decoder writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InitialContent {
    /// Unchanged memory, for pictures that are certainly written completely.
    Unspecified,
    /// A pattern that shows what was not written (see canary.rs).
    Canary,
    /// Black.
    Black,
}

/// Allocates the pictures of one file.
#[derive(Clone)]
pub(crate) struct PictureMemory {
    pool: FramePool,
    user: u64,
}

impl PictureMemory {
    /// Allocates memory for the planes of `frame`, whose format, width and height are set. `coded` is the size in pixels to
    /// allocate for, each line a multiple of the plane's entry in `alignment`. Errors are FFmpeg's.
    ///
    /// # Safety
    /// `frame` is a valid AVFrame without buffers that is not used elsewhere.
    pub(crate) unsafe fn fill(
        &self,
        frame: *mut ffi::AVFrame,
        format: PixelFormat,
        coded: (c_int, c_int),
        alignment: [c_int; 4],
        beginning: InitialContent,
    ) -> Result<(), c_int> {
        let (strides, sizes) = plane_sizes(format, coded, alignment)?;
        let too_large = ffi::AVERROR(ffi::ENOMEM);
        let mut offsets = [0; 4];
        let mut total = 0_usize;
        for (offset, size) in offsets.iter_mut().zip(sizes).filter(|(_, size)| *size > 0) {
            *offset = total;
            let end = total.checked_add(size).and_then(|end| end.checked_add(PADDING)).ok_or(too_large)?;
            total = end.checked_next_multiple_of(ALIGNMENT).ok_or(too_large)?;
        }
        let block = self.take(total).ok_or(too_large)?;
        let (data, size) = (block.data, block.layout.size());
        let owner = Box::into_raw(Box::new(Lent { block: Some(block), pool: self.pool.clone() }));
        // SAFETY: data has size bytes, which live until FFmpeg calls return_block with owner.
        let buffer = unsafe { ffi::av_buffer_create(data.as_ptr(), size, Some(return_block), owner.cast(), 0) };
        if buffer.is_null() {
            // SAFETY: from Box::into_raw above; the failed call did not keep it.
            drop(unsafe { Box::from_raw(owner) });
            return Err(too_large);
        }
        // SAFETY: the caller vouches for frame; the offsets of planes with a size lie inside the block.
        unsafe {
            for plane in 0..4 {
                (*frame).linesize[plane] = strides[plane];
                let start = if sizes[plane] > 0 { data.as_ptr().add(offsets[plane]) } else { std::ptr::null_mut() };
                (*frame).data[plane] = start;
            }
            (*frame).extended_data = (&raw mut (*frame).data).cast();
            (*frame).buf[0] = buffer;
        }
        match beginning {
            InitialContent::Unspecified => {}
            InitialContent::Canary => {
                // SAFETY: the first plane's bytes lie in the block, which is initialised and has no other user yet.
                let plane = unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), sizes[0]) };
                canary::fill(plane, usize::try_from(strides[0]).unwrap_or(0));
            }
            InitialContent::Black => {
                let range = ffi::AVColorRange::AVCOL_RANGE_UNSPECIFIED;
                let strides = strides.map(|stride| stride as isize);
                // SAFETY: the frame has planes of these strides for a picture of the coded size; formats without black are
                // refused and stay as they are.
                unsafe {
                    ffi::av_image_fill_black(
                        (&raw mut (*frame).data).cast::<*mut u8>(),
                        strides.as_ptr(),
                        format.raw(),
                        range,
                        coded.0,
                        coded.1,
                    )
                };
            }
        }
        Ok(())
    }

    /// Returns a block of at least `size` bytes: the smallest unused one that is not far too large, or a new one.
    #[allow(clippy::significant_drop_tightening, reason = "the block is chosen and taken out under one lock")]
    fn take(&self, size: usize) -> Option<Block> {
        let fits = |block: &Block| (size..=size.saturating_mul(2)).contains(&block.layout.size());
        let spare = {
            let mut spare = self.pool.0.spare.lock();
            let candidates = spare.iter().enumerate().filter(|(_, block)| fits(block));
            let best = candidates.min_by_key(|(_, block)| block.layout.size()).map(|(index, _)| index);
            best.and_then(|index| spare.remove(index))
        };
        if let Some(mut block) = spare {
            if std::mem::replace(&mut block.user, self.user) != self.user {
                // SAFETY: the block is ours alone and has that many bytes.
                unsafe { block.data.as_ptr().write_bytes(0, block.layout.size()) };
            }
            return Some(block);
        }
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).ok()?;
        // SAFETY: the layout's size is not zero.
        let data = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Block { data, layout, user: self.user })
    }
}

/// Returns line and plane sizes of a picture in bytes, such that each line is a multiple of its plane's alignment. As in
/// FFmpeg's default allocator the width grows, which keeps the proportion between planes.
fn plane_sizes(
    format: PixelFormat,
    (width, height): (c_int, c_int),
    alignment: [c_int; 4],
) -> Result<([c_int; 4], [usize; 4]), c_int> {
    let mut width = width;
    let mut strides = [0; 4];
    loop {
        // SAFETY: the array has the four entries that are written.
        let result = unsafe { ffi::av_image_fill_linesizes(strides.as_mut_ptr(), format.raw(), width) };
        if result < 0 {
            return Err(result);
        }
        if strides.iter().zip(alignment).all(|(stride, alignment)| stride % alignment.max(1) == 0) {
            break;
        }
        // Grow to the next multiple of a higher power of two.
        let lowest_bit = width & width.wrapping_neg();
        width = width.checked_add(lowest_bit).ok_or(ffi::AVERROR(ffi::EINVAL))?;
    }
    let wide = strides.map(|stride| stride as isize);
    let mut sizes = [0; 4];
    // SAFETY: both arrays have the four entries that are read and written.
    let result = unsafe { ffi::av_image_fill_plane_sizes(sizes.as_mut_ptr(), format.raw(), height, wide.as_ptr()) };
    if result < 0 { Err(result) } else { Ok((strides, sizes)) }
}

/// A block inside an AVBuffer, and the pool that it returns to.
struct Lent {
    block: Option<Block>,
    pool: FramePool,
}

#[allow(clippy::significant_drop_tightening, reason = "what is kept is counted and bounded under one lock")]
unsafe extern "C" fn return_block(owner: *mut c_void, _data: *mut u8) {
    // SAFETY: from Box::into_raw in fill(); FFmpeg calls this once, when the last reference is gone.
    let mut lent = unsafe { Box::from_raw(owner.cast::<Lent>()) };
    let Some(block) = lent.block.take() else { return };
    let mut dropped = Vec::new();
    {
        let mut spare = lent.pool.0.spare.lock();
        spare.push_back(block);
        let mut bytes: usize = spare.iter().map(|block| block.layout.size()).sum();
        // The blocks that were unused for longest have a size that is no longer needed.
        while spare.len() > MAX_SPARE_BLOCKS || bytes > MAX_SPARE_BYTES {
            let Some(oldest) = spare.pop_front() else { break };
            bytes -= oldest.layout.size();
            dropped.push(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::frame::Frame;

    fn frame(memory: &PictureMemory, format: &str, width: usize, height: usize) -> Frame {
        Frame::allocate(memory, PixelFormat::from_name(format).unwrap(), width, height).unwrap()
    }

    #[test]
    fn memory_is_reused_and_cleared_between_files() {
        let pool = FramePool::default();
        let first_file = pool.for_file();
        let mut picture = frame(&first_file, "yuv420p", 641, 361);
        picture.plane_mut(0).unwrap().fill(9);
        let place = picture.plane(0).unwrap().as_ptr();
        drop(picture);
        let kept = pool.spare_bytes();
        assert!(kept > 641 * 361 * 3 / 2);
        let again = frame(&first_file, "yuv420p", 641, 361);
        assert_eq!((again.plane(0).unwrap().as_ptr(), again.plane(0).unwrap()[0]), (place, 9));
        assert_eq!(pool.spare_bytes(), 0);
        drop(again);
        let next_file = pool.for_file();
        let fresh = frame(&next_file, "nv12", 640, 352);
        assert_eq!(fresh.plane(0).unwrap().as_ptr(), place);
        assert!(fresh.plane(0).unwrap().iter().all(|&byte| byte == 0));
        drop(fresh);
        pool.clear();
        assert_eq!(pool.spare_bytes(), 0);
    }

    #[test]
    fn unused_memory_is_bounded_and_sizes_that_differ_much_share_nothing() {
        let pool = FramePool::default();
        let memory = pool.for_file();
        drop(frame(&memory, "gray", 4000, 4000));
        let small = frame(&memory, "gray", 64, 64);
        assert!(pool.spare_bytes() >= 16_000_000, "the large block waits for a large picture");
        drop(small);
        let pictures: Vec<_> = (0..40).map(|_| frame(&memory, "gray", 4000, 4000)).collect();
        drop(pictures);
        assert!(pool.spare_bytes() <= MAX_SPARE_BYTES);
        assert!(pool.0.spare.lock().len() <= MAX_SPARE_BLOCKS);
    }

    #[test]
    fn memory_that_no_file_uses_is_freed() {
        let pool = FramePool::default();
        drop(frame(&pool.for_file(), "gray", 4000, 4000));
        for file in 0..=MAX_IDLE_FILES {
            assert!(pool.spare_bytes() > 16_000_000, "after {file} small files");
            drop(frame(&pool.for_file(), "gray", 64, 64));
        }
        pool.for_file();
        assert!(pool.spare_bytes() < 100_000, "{} bytes", pool.spare_bytes());
    }

    #[test]
    fn a_pool_can_be_printed() {
        let pool = FramePool::default();
        drop(frame(&pool.for_file(), "gray", 64, 64));
        let bytes = pool.spare_bytes();
        assert_eq!(format!("{pool:?}"), format!("FramePool(1 spare blocks, {bytes} bytes)"));
    }

    #[test]
    fn lines_of_all_formats_are_aligned_and_odd_sizes_have_room() {
        let memory = FramePool::default().for_file();
        for format in
            ["yuv420p", "yuv422p10le", "yuv444p12le", "nv12", "p010le", "rgb24", "rgba", "pal8", "gray", "monow"]
        {
            for (width, height) in [(1, 1), (3, 5), (17, 1), (1921, 1081)] {
                let picture = frame(&memory, format, width, height);
                assert!(picture.has_plain_planes(), "{format} {width}x{height}");
                assert!(picture.stride(0).is_multiple_of(ALIGNMENT), "{format} {width}x{height}");
            }
        }
    }
}
