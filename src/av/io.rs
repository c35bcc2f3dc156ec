// SPDX-License-Identifier: MIT OR Apache-2.0
//! FFmpeg's byte IO over a Rust [`ByteSource`].
//!
//! Owns the AVIOContext, its buffer and the source. An opened file reads bytes only through this. Every call of the source that may
//! wait (reads, seeks, the size) releases the opening lock meanwhile.
//!
//! Thread rule: one thread at a time, the one that drives the demuxer.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ffmpeg_sys_next as ffi;

use crate::av::error::{Error, SourceError};
use crate::av::opening_lock;

/// Size of FFmpeg's read buffer: small, because most reads follow a jump to the next keyframe.
const BUFFER_BYTES: usize = 32 * 1024;

/// Most bytes of one read of the source.
const READ_BYTES: usize = 1 << 20;

/// Number of leading bytes that are kept to determine what a file is that cannot be opened.
const HEAD_BYTES: usize = 1024;

/// How many times its size may be read of a file, beyond a fixed number of bytes. Demuxers read a few parts twice, and refill their
/// buffer after jumps; only a file whose index forms a loop is read more often.
const MAX_READS_PER_BYTE: u64 = 200;

/// Bytes that may be read of a file of any size.
const MIN_READ_BUDGET: u64 = 256 << 20;

/// Bytes for a demuxer.
pub trait ByteSource: Send {
    /// Reads at least one byte at the current position into `buffer`, 0 at the end. May wait; the wait must end when
    /// the source's owner requests it.
    ///
    /// # Errors
    /// [`SourceError::Interrupted`] when the wait was interrupted, [`SourceError::Failed`] when upstream failed.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError>;

    /// Moves to `position` bytes from the start. Called only if the source is seekable.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn seek(&mut self, position: u64) -> Result<(), SourceError>;

    /// Announces that reads will end at byte `end`, if that is behind the position. A source may fetch that much at once.
    fn expect(&mut self, _end: u64) {}

    /// Returns the size in bytes, where it is known.
    fn size(&mut self) -> Option<u64>;

    /// Whether [`seek`](Self::seek) works.
    fn is_seekable(&self) -> bool;

    /// Whether a seek costs no more than reading on.
    fn has_cheap_seeks(&self) -> bool;
}

/// The bytes of a regular file.
#[derive(Debug)]
pub struct FileSource(pub File);

impl ByteSource for FileSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.0.read(buffer).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        let moved = self.0.seek(SeekFrom::Start(position));
        moved.map(drop).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn size(&mut self) -> Option<u64> {
        self.0.metadata().ok().map(|metadata| metadata.len())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

/// A flag that makes FFmpeg's long calls and our loops return early. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Interrupts the current work, and all work until [`clear`](Self::clear).
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Allows work again.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether work should stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns the callback for an AVFormatContext. It points into the shared flag: keep a clone alive as long as the context.
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

/// State of the callbacks.
struct Shared {
    source: Box<dyn ByteSource>,
    interrupt: Interrupt,
    position: u64,
    /// The size when reading began, where it is known.
    first_size: Option<u64>,
    bytes_read: u64,
    /// Bytes that may still be read before the demuxer counts as looping; `None` where the size is unknown.
    read_budget: Option<u64>,
    /// Reads stop at this byte until they reach it.
    read_ahead_end: u64,
    head: Vec<u8>,
    /// Where the source writes, since FFmpeg's memory may be uninitialised.
    buffer: Vec<u8>,
    error: Option<SourceError>,
}

/// An Io may move to another thread with all that it owns.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Shared>();
};

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
        let read_budget = read_budget(&mut *source);
        let first_size = opening_lock::released_while(|| source.size());
        let shared = Shared {
            source,
            interrupt,
            position: 0,
            first_size,
            bytes_read: 0,
            read_budget,
            read_ahead_end: 0,
            head: Vec::with_capacity(HEAD_BYTES),
            buffer: Vec::new(),
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
            // SAFETY: nothing else refers to these two allocations: the context that would have was not created.
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

    /// Takes the error that made a read fail since the last call: FFmpeg itself only reports EIO.
    pub(crate) fn take_error(&mut self) -> Option<SourceError> {
        self.shared_mut().error.take()
    }

    /// Forgets that a read was interrupted: what follows is a new attempt.
    pub(crate) fn forget_interruption(&mut self) {
        self.shared_mut().error.take_if(|error| *error == SourceError::Interrupted);
    }

    /// Resets the read budget when reading restarts on purpose, as after a seek.
    pub(crate) fn reset_read_budget(&mut self) {
        let shared = self.shared_mut();
        shared.read_budget = read_budget(&mut *shared.source);
    }

    /// Takes the source, moved to its beginning, and the number of bytes that were read of it. Nothing more can be read through this.
    pub(crate) fn take_source(&mut self) -> Result<(Box<dyn ByteSource>, u64), Error> {
        let shared = self.shared_mut();
        opening_lock::released_while(|| shared.source.seek(0))?;
        Ok((std::mem::replace(&mut shared.source, Box::new(EmptySource)), shared.bytes_read))
    }

    /// Counts bytes that were read of the source earlier.
    pub(crate) fn add_bytes_read(&mut self, bytes: u64) {
        self.shared_mut().bytes_read += bytes;
    }

    /// Returns the number of bytes read from the source.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.shared().bytes_read
    }

    /// Returns the first bytes of the file, as far as they were read.
    pub(crate) fn head(&self) -> &[u8] {
        &self.shared().head
    }

    /// Whether the source has random access.
    pub(crate) fn is_seekable(&self) -> bool {
        self.shared().source.is_seekable()
    }

    /// Whether a seek in the source costs no more than reading on.
    pub(crate) fn has_cheap_seeks(&self) -> bool {
        self.shared().source.has_cheap_seeks()
    }

    /// Stops read-ahead at byte `end`: what follows is not needed for now.
    pub(crate) fn limit_read_ahead(&mut self, end: u64) {
        let shared = self.shared_mut();
        shared.read_ahead_end = end;
        shared.source.expect(end);
    }

    /// Reads at `position` without changing the demuxer's position; 0 at the end.
    pub(crate) fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let shared = self.shared_mut();
        if shared.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        shared.source.expect(position.saturating_add(buffer.len() as u64));
        let source = &mut shared.source;
        let read = opening_lock::released_while(|| -> Result<usize, SourceError> {
            source.seek(position)?;
            let read = source.read(buffer);
            source.seek(shared.position)?;
            read
        });
        shared.source.expect(shared.read_ahead_end);
        let count = read?;
        shared.count(count)?;
        Ok(count)
    }

    /// Returns the size of the source, where known.
    pub(crate) fn size(&mut self) -> Option<u64> {
        self.shared_mut().size()
    }

    /// Returns the size of the source and what it was when reading began, if it has become smaller.
    pub(crate) fn shrinkage(&mut self) -> Option<(u64, u64)> {
        let shared = self.shared_mut();
        shared.size().zip(shared.first_size).filter(|(now, before)| now < before)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is ours; FFmpeg may have replaced the buffer, so the current one is freed.
        let buffer = unsafe { &raw mut (*context).buffer };
        // SAFETY: buffer is the context's own field, allocated with av_malloc; av_freep clears it.
        unsafe { ffi::av_freep(buffer.cast()) };
        // SAFETY: context came from avio_alloc_context and is no longer used (Input closes before it drops Io).
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
    // A panic must not cross into C: it would abort the process.
    let read = catch_unwind(AssertUnwindSafe(|| shared.read(size)));
    match read {
        Ok(Ok(count)) => {
            let bytes = &shared.buffer[..count];
            // SAFETY: FFmpeg passes `size` writable bytes, of which no more were read; our memory is another.
            unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), count) };
            count as c_int
        }
        Ok(Err(code)) => code,
        Err(_) => ffi::AVERROR(ffi::EIO),
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in read_packet.
    let shared = unsafe { &mut *opaque.cast::<Shared>() };
    let moved = catch_unwind(AssertUnwindSafe(|| shared.seek(offset, whence)));
    moved.unwrap_or_else(|_| i64::from(ffi::AVERROR(ffi::EIO)))
}

/// Returns the number of bytes that may be read of a source.
fn read_budget(source: &mut dyn ByteSource) -> Option<u64> {
    let size = opening_lock::released_while(|| source.size()).filter(|_| source.is_seekable())?;
    Some(size.saturating_mul(MAX_READS_PER_BYTE).saturating_add(MIN_READ_BUDGET))
}

/// The source of an IO whose source was taken.
struct EmptySource;

impl ByteSource for EmptySource {
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

    fn has_cheap_seeks(&self) -> bool {
        false
    }
}

impl Shared {
    /// Counts bytes that were read; fails when they far exceed the size of the file.
    fn count(&mut self, bytes: usize) -> Result<(), SourceError> {
        self.bytes_read += bytes as u64;
        let Some(read_budget) = &mut self.read_budget else { return Ok(()) };
        *read_budget = read_budget.checked_sub(bytes as u64).ok_or_else(|| {
            SourceError::Failed("the file's index forms a loop: the same bytes are read again and again".into())
        })?;
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        opening_lock::released_while(|| self.source.size())
    }

    /// Reads up to `size` bytes at the position into the buffer. Returns how many, at least one, or FFmpeg's error code.
    fn read(&mut self, size: usize) -> Result<usize, c_int> {
        if self.interrupt.is_set() {
            self.error = Some(SourceError::Interrupted);
            return Err(ffi::AVERROR_EXIT);
        }
        let until_limit = self.read_ahead_end.checked_sub(self.position).and_then(|bytes| usize::try_from(bytes).ok());
        let wanted = until_limit.filter(|&bytes| bytes > 0).map_or(size, |bytes| bytes.min(size)).min(READ_BYTES);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let buffer = &mut self.buffer[..wanted];
        let count = match opening_lock::released_while(|| self.source.read(buffer)) {
            Ok(0) => return Err(ffi::AVERROR_EOF),
            Ok(count) => count.min(wanted),
            Err(error) => return Err(self.fail(error)),
        };
        if self.position == self.head.len() as u64 && self.head.len() < HEAD_BYTES {
            let missing = HEAD_BYTES - self.head.len();
            self.head.extend(self.buffer[..count].iter().take(missing));
        }
        self.position += count as u64;
        self.count(count).map_err(|error| self.fail(error))?;
        Ok(count)
    }

    fn seek(&mut self, offset: i64, whence: c_int) -> i64 {
        const INVALID: i64 = ffi::AVERROR(ffi::EINVAL) as i64;
        let whence = whence & !(ffi::AVSEEK_FORCE);
        if whence == ffi::AVSEEK_SIZE {
            let size = self.size().and_then(|size| i64::try_from(size).ok());
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
            Some(SeekFrom::End(by)) => self.size().and_then(|size| size.checked_add_signed(by)),
            None => None,
        };
        let Some(position) = position else { return INVALID };
        let Ok(answer) = i64::try_from(position) else { return INVALID };
        match opening_lock::released_while(|| self.source.seek(position)) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    /// A file of this many zeros.
    struct Zeros(u64);

    impl ByteSource for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
            Ok(buffer.len().min(self.0 as usize))
        }

        fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
            Ok(())
        }

        fn size(&mut self) -> Option<u64> {
            Some(self.0)
        }

        fn is_seekable(&self) -> bool {
            true
        }

        fn has_cheap_seeks(&self) -> bool {
            true
        }
    }

    /// Fails if another thread cannot have the opening lock.
    struct Unlocked;

    fn assert_unlocked() {
        let (acquired, is_free) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(opening_lock::acquire());
            let _ = acquired.send(());
        });
        is_free.recv_timeout(std::time::Duration::from_secs(10)).expect("the opening lock is held");
    }

    impl ByteSource for Unlocked {
        fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, SourceError> {
            assert_unlocked();
            Ok(1)
        }

        fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
            assert_unlocked();
            Ok(())
        }

        fn size(&mut self) -> Option<u64> {
            assert_unlocked();
            Some(1)
        }

        fn is_seekable(&self) -> bool {
            true
        }

        fn has_cheap_seeks(&self) -> bool {
            true
        }
    }

    #[test]
    fn others_can_open_files_while_a_source_waits() {
        let lock = opening_lock::acquire();
        let mut io = Io::new(Box::new(Unlocked), Interrupt::default()).unwrap();
        assert_eq!(io.read_at(0, &mut [0]).unwrap(), 1);
        assert_eq!(io.shared_mut().read(1), Ok(1));
        assert_eq!(io.shared_mut().seek(0, 0), 0);
        assert_eq!((io.size(), io.shrinkage()), (Some(1), None));
        io.reset_read_budget();
        io.take_source().unwrap();
        drop(lock);
    }

    #[test]
    fn a_file_that_is_read_again_and_again_is_an_error() {
        const SIZE: u64 = 1 << 20;
        let mut io = Io::new(Box::new(Zeros(SIZE)), Interrupt::default()).unwrap();
        let mut buffer = vec![1; SIZE as usize];
        for _ in 0..MAX_READS_PER_BYTE + MIN_READ_BUDGET / SIZE {
            io.read_at(0, &mut buffer).unwrap();
        }
        let error = io.read_at(0, &mut buffer).unwrap_err().to_string();
        assert!(error.contains("forms a loop"), "{error}");
    }
}
