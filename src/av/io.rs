//! FFmpeg's byte IO over a Rust [`ByteSource`].
//!
//! Owns the AVIOContext, its buffer and the source. It is the only way by which an opened file reads bytes. Every read
//! gives the opening lock up while the source waits.
//!
//! Thread rule: used by one thread at a time, the one that drives the demuxer.

use std::ffi::{c_int, c_void};
use std::io::SeekFrom;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ffmpeg_sys_next as ffi;

use crate::av::error::{Error, SourceError};
use crate::av::opening;

/// Size of the buffer FFmpeg reads through: small, because most reads follow a jump to the next keyframe.
const BUFFER_BYTES: usize = 32 * 1024;

/// How many of the first bytes are kept to tell what a file that cannot be opened was meant to be.
const HEAD_BYTES: usize = 1024;

/// Times a file may be read over, beyond a fixed number of bytes: demuxers read a few parts twice, and refill their buffer after
/// jumps. More than this only a file does whose index leads in circles.
const READ_OVER: u64 = 200;

/// Bytes that may be read of a file of any length.
const READ_AT_LEAST: u64 = 256 << 20;

/// Bytes for a demuxer.
pub trait ByteSource: Send {
    /// Reads at least one byte at the current position into `buffer`, 0 at the end. May wait; the wait must end when
    /// the source's owner asks for it.
    ///
    /// # Errors
    /// [`SourceError::Interrupted`] when the wait was ended, [`SourceError::Failed`] when upstream failed.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError>;

    /// Moves to `position` bytes from the start. Called only if the source is seekable.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn seek(&mut self, position: u64) -> Result<(), SourceError>;

    /// What will be read next ends at byte `end`, if that is behind the position. A source may fetch as much at once.
    fn expect(&mut self, _end: u64) {}

    /// Size in bytes, where it is known.
    fn size(&mut self) -> Option<u64>;

    /// Whether [`seek`](Self::seek) works.
    fn is_seekable(&self) -> bool;

    /// Whether a jump costs no more than reading on.
    fn jumps_are_free(&self) -> bool;
}

/// A switch that makes FFmpeg's long calls and our loops return early. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends what runs, and what starts until [`clear`](Self::clear).
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Lets work go on.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether work should end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The callback for an AVFormatContext. It points into the shared flag: keep a clone alive as long as the context.
    pub(crate) fn callback(&self) -> ffi::AVIOInterruptCB {
        let flag: *const AtomicBool = Arc::as_ptr(&self.0);
        ffi::AVIOInterruptCB { callback: Some(is_interrupted), opaque: flag.cast_mut().cast() }
    }
}

unsafe extern "C" fn is_interrupted(opaque: *mut c_void) -> c_int {
    // SAFETY: opaque is the flag inside the Arc that the Input keeps alive (Interrupt::callback); atomics are shared.
    let flag = unsafe { &*opaque.cast::<AtomicBool>() };
    flag.load(Ordering::SeqCst).into()
}

/// What the callbacks work on.
struct Shared {
    source: Box<dyn ByteSource>,
    interrupt: Interrupt,
    position: u64,
    bytes_read: u64,
    /// Bytes that may still be read before the demuxer is held to go in circles; `None` where the length is unknown.
    allowance: Option<u64>,
    /// Reads do not go past this byte until they reach it.
    fence: u64,
    head: Vec<u8>,
    error: Option<SourceError>,
}

/// An AVIOContext over a [`ByteSource`].
pub(crate) struct Io {
    context: NonNull<ffi::AVIOContext>,
    shared: NonNull<Shared>,
}

// SAFETY: `context` and `shared` are owned by this value alone and used only through it or through FFmpeg calls made by
// the thread that holds it; the source inside is Send by its trait.
unsafe impl Send for Io {}

impl Io {
    pub(crate) fn new(source: Box<dyn ByteSource>, interrupt: Interrupt) -> Result<Self, Error> {
        let seekable = source.is_seekable();
        let mut source = source;
        let allowance = allowance(&mut *source);
        let shared = Shared {
            source,
            interrupt,
            position: 0,
            bytes_read: 0,
            allowance,
            fence: 0,
            head: Vec::with_capacity(HEAD_BYTES),
            error: None,
        };
        // SAFETY: plain allocation; null is handled below.
        let buffer = unsafe { ffi::av_malloc(BUFFER_BYTES) };
        if buffer.is_null() {
            return Err(Error::memory("av_malloc"));
        }
        let shared = Box::into_raw(Box::new(shared));
        // SAFETY: buffer has BUFFER_BYTES bytes from av_malloc, as the function asks; shared lives until Drop.
        let context = unsafe {
            ffi::avio_alloc_context(
                buffer.cast(),
                BUFFER_BYTES as c_int,
                0,
                shared.cast(),
                Some(read_packet),
                None,
                seekable.then_some(seek as unsafe extern "C" fn(*mut c_void, i64, c_int) -> i64),
            )
        };
        let Some(context) = NonNull::new(context) else {
            // SAFETY: nobody else knows these two allocations: the context that would have was not made.
            unsafe { ffi::av_free(buffer) };
            // SAFETY: from Box::into_raw above.
            drop(unsafe { Box::from_raw(shared) });
            return Err(Error::memory("avio_alloc_context"));
        };
        // SAFETY: Box::into_raw never returns null.
        let shared = unsafe { NonNull::new_unchecked(shared) };
        Ok(Self { context, shared })
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVIOContext {
        self.context.as_ptr()
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the allocation lives until Drop, and no callback runs while this borrow of self lasts: callbacks run
        // only inside FFmpeg calls, which take the owning Input by &mut.
        unsafe { self.shared.as_ref() }
    }

    fn shared_mut(&mut self) -> &mut Shared {
        // SAFETY: as in shared(), and &mut self excludes other borrows.
        unsafe { self.shared.as_mut() }
    }

    /// The error that made a read fail since this was last asked: FFmpeg itself only reports EIO.
    pub(crate) fn take_error(&mut self) -> Option<SourceError> {
        self.shared_mut().error.take()
    }

    /// Forgets that a read was interrupted: what comes next is a new attempt.
    pub(crate) fn forget_interruption(&mut self) {
        self.shared_mut().error.take_if(|error| *error == SourceError::Interrupted);
    }

    /// Reading begins anew on purpose, as after a seek: what was read so far counts no more as going in circles.
    pub(crate) fn renew_allowance(&mut self) {
        let shared = self.shared_mut();
        shared.allowance = allowance(&mut *shared.source);
    }

    /// The source, moved to its beginning, and the bytes that were read of it. Nothing more can be read through this.
    pub(crate) fn take_source(&mut self) -> Result<(Box<dyn ByteSource>, u64), Error> {
        let shared = self.shared_mut();
        shared.source.seek(0)?;
        Ok((std::mem::replace(&mut shared.source, Box::new(Nothing)), shared.bytes_read))
    }

    /// Counts bytes that were read of the source before.
    pub(crate) fn add_bytes_read(&mut self, bytes: u64) {
        self.shared_mut().bytes_read += bytes;
    }

    /// Bytes taken from the source.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.shared().bytes_read
    }

    /// The first bytes of the file, as far as they were read.
    pub(crate) fn head(&self) -> &[u8] {
        &self.shared().head
    }

    /// Whether the source has random access.
    pub(crate) fn is_seekable(&self) -> bool {
        self.shared().source.is_seekable()
    }

    /// Whether a jump in the source costs no more than reading on.
    pub(crate) fn jumps_are_free(&self) -> bool {
        self.shared().source.jumps_are_free()
    }

    /// Bytes from `end` on are not wanted for now: read-ahead stops there.
    pub(crate) fn set_fence(&mut self, end: u64) {
        let shared = self.shared_mut();
        shared.fence = end;
        shared.source.expect(end);
    }

    /// Reads at `position` without the demuxer noticing; 0 at the end.
    pub(crate) fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let shared = self.shared_mut();
        if shared.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        shared.source.expect(position.saturating_add(buffer.len() as u64));
        shared.source.seek(position)?;
        let read = shared.source.read(buffer);
        shared.source.seek(shared.position)?;
        shared.source.expect(shared.fence);
        let count = read?;
        shared.count(count)?;
        Ok(count)
    }

    /// Size of the source, where known.
    pub(crate) fn size(&mut self) -> Option<u64> {
        self.shared_mut().source.size()
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is ours; FFmpeg may have replaced the buffer, so the current one is freed.
        let buffer = unsafe { &raw mut (*context).buffer };
        // SAFETY: buffer is the context's own field, allocated with av_malloc; av_freep clears it.
        unsafe { ffi::av_freep(buffer.cast()) };
        // SAFETY: context came from avio_alloc_context and is used by nobody any more (Input closes before it drops Io).
        unsafe { ffi::avio_context_free(&raw mut context) };
        // SAFETY: from Box::into_raw in new(); the callbacks that used it are gone with the context.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}

unsafe extern "C" fn read_packet(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    let Ok(size) = usize::try_from(size) else { return ffi::AVERROR(ffi::EINVAL) };
    if size == 0 || buffer.is_null() {
        return ffi::AVERROR(ffi::EINVAL);
    }
    // SAFETY: opaque is the Shared that Io::new registered; FFmpeg calls back on the thread that drives the demuxer only.
    let shared = unsafe { &mut *opaque.cast::<Shared>() };
    // SAFETY: FFmpeg hands `size` writable bytes for the time of this call.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, size) };
    // A panic must not cross into C: it would abort the process.
    let read = catch_unwind(AssertUnwindSafe(|| shared.read(buffer)));
    read.unwrap_or(ffi::AVERROR(ffi::EIO))
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in read_packet.
    let shared = unsafe { &mut *opaque.cast::<Shared>() };
    let moved = catch_unwind(AssertUnwindSafe(|| shared.seek(offset, whence)));
    moved.unwrap_or_else(|_| i64::from(ffi::AVERROR(ffi::EIO)))
}

/// What may be read of a source.
fn allowance(source: &mut dyn ByteSource) -> Option<u64> {
    let size = source.size().filter(|_| source.is_seekable())?;
    Some(size.saturating_mul(READ_OVER).saturating_add(READ_AT_LEAST))
}

/// What is left where a source was taken away.
struct Nothing;

impl ByteSource for Nothing {
    fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, SourceError> {
        Ok(0)
    }

    fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        None
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn jumps_are_free(&self) -> bool {
        false
    }
}

impl Shared {
    /// Counts bytes that were read; fails where they are far more than the file has.
    fn count(&mut self, bytes: usize) -> Result<(), SourceError> {
        self.bytes_read += bytes as u64;
        let Some(allowance) = &mut self.allowance else { return Ok(()) };
        *allowance = allowance.checked_sub(bytes as u64).ok_or_else(|| {
            SourceError::Failed(
                "the file's index leads in circles: the same bytes are read again and again without an end".into(),
            )
        })?;
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> c_int {
        if self.interrupt.is_set() {
            self.error = Some(SourceError::Interrupted);
            return ffi::AVERROR_EXIT;
        }
        let upto_fence = self.fence.checked_sub(self.position).and_then(|bytes| usize::try_from(bytes).ok());
        let wanted = upto_fence.filter(|&bytes| bytes > 0).map_or(buffer.len(), |bytes| bytes.min(buffer.len()));
        let buffer = &mut buffer[..wanted];
        match opening::while_waiting(|| self.source.read(buffer)) {
            Ok(0) => ffi::AVERROR_EOF,
            Ok(count) => {
                let count = count.min(buffer.len());
                if self.position == self.head.len() as u64 && self.head.len() < HEAD_BYTES {
                    let wanted = HEAD_BYTES - self.head.len();
                    self.head.extend(buffer[..count].iter().take(wanted));
                }
                self.position += count as u64;
                match self.count(count) {
                    Ok(()) => count as c_int,
                    Err(error) => self.fail(error),
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn seek(&mut self, offset: i64, whence: c_int) -> i64 {
        const INVALID: i64 = ffi::AVERROR(ffi::EINVAL) as i64;
        let whence = whence & !(ffi::AVSEEK_FORCE);
        if whence == ffi::AVSEEK_SIZE {
            let size = self.source.size().and_then(|size| i64::try_from(size).ok());
            return size.unwrap_or(ffi::AVERROR(ffi::ENOSYS).into());
        }
        let target = match whence {
            0 => u64::try_from(offset).ok().map(SeekFrom::Start),
            1 => Some(SeekFrom::Current(offset)),
            2 => Some(SeekFrom::End(offset)),
            _ => None,
        };
        let position = match target {
            Some(SeekFrom::Start(position)) => Some(position),
            Some(SeekFrom::Current(by)) => self.position.checked_add_signed(by),
            Some(SeekFrom::End(by)) => self.source.size().and_then(|size| size.checked_add_signed(by)),
            None => None,
        };
        let Some(position) = position else { return INVALID };
        let Ok(answer) = i64::try_from(position) else { return INVALID };
        match opening::while_waiting(|| self.source.seek(position)) {
            Ok(()) => {
                self.position = position;
                answer
            }
            Err(error) => self.fail(error).into(),
        }
    }

    fn fail(&mut self, error: SourceError) -> c_int {
        let code = match error {
            SourceError::Interrupted => ffi::AVERROR_EXIT,
            SourceError::Failed(_) => ffi::AVERROR(ffi::EIO),
        };
        self.error = Some(error);
        code
    }
}
