//! Push mode: bytes as upstream delivers them (fdsrc, appsrc, a network source).
//!
//! They pass through a bounded queue. Containers that read from front to back are demuxed as they come. Those that must
//! be searched (an mp4 with its index at the end, avi) are first collected in an unlinked temporary file.
//!
//! Thread rule: upstream's thread puts in, the element's task takes out, any thread may flush.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::av::{ByteSource, SourceError};

/// Most bytes waiting for the demuxer.
const QUEUE_BYTES: usize = 4 << 20;

/// Most bytes looked at to tell whether a container reads from front to back.
const SNIFF_BYTES: usize = 1 << 20;

/// How long to wait for upstream.
#[derive(Clone)]
pub struct Patience {
    /// Longest wait for the next bytes; `None` for ever.
    pub limit: Option<Duration>,
    /// Whether upstream has a reason to deliver nothing now: then the wait begins anew.
    pub is_excused: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Between upstream's thread and the demuxer's.
#[derive(Default)]
pub struct ByteQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<gst::MappedBuffer<gst::buffer::Readable>>,
    /// Bytes of the first chunk that are already taken.
    taken: usize,
    bytes: usize,
    ended: bool,
    flushing: bool,
    /// The reader wants nothing more.
    refused: bool,
}

impl ByteQueue {
    /// Adds a buffer, waiting for room.
    pub fn push(&self, buffer: gst::Buffer) -> Result<(), gst::FlowError> {
        let chunk = buffer.into_mapped_buffer_readable().map_err(|_| gst::FlowError::Error)?;
        let mut state = self.state.lock();
        while state.bytes >= QUEUE_BYTES && !state.flushing && !state.refused && !state.ended {
            self.changed.wait(&mut state);
        }
        if state.flushing {
            return Err(gst::FlowError::Flushing);
        }
        if state.refused || state.ended {
            return Err(gst::FlowError::Eos);
        }
        if !chunk.is_empty() {
            state.bytes += chunk.len();
            state.chunks.push_back(chunk);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Upstream has nothing more.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// The reader wants nothing more: what upstream still sends is answered with EOS.
    pub fn refuse(&self) {
        let mut state = self.state.lock();
        state.refused = true;
        state.chunks.clear();
        (state.bytes, state.taken) = (0, 0);
        self.changed.notify_all();
    }

    /// Ends every wait, now and until [`reset`](Self::reset).
    pub fn flush(&self) {
        self.state.lock().flushing = true;
        self.changed.notify_all();
    }

    /// Empty and open again.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
        self.changed.notify_all();
    }

    /// Takes at least one byte, 0 at the end.
    fn read(&self, buffer: &mut [u8], patience: &Patience) -> Result<usize, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = patience.deadline();
        loop {
            if state.flushing {
                return Err(SourceError::Interrupted);
            }
            if let Some(chunk) = state.chunks.front() {
                let rest = &chunk[state.taken..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                let used_up = count == rest.len();
                state.taken += count;
                state.bytes -= count;
                if used_up {
                    state.chunks.pop_front();
                    state.taken = 0;
                }
                self.changed.notify_all();
                return Ok(count);
            }
            if state.ended {
                return Ok(0);
            }
            self.wait(&mut state, &mut deadline, patience)?;
        }
    }

    /// The first `count` bytes, without taking them; fewer at the end.
    fn peek(&self, count: usize, patience: &Patience) -> Result<Vec<u8>, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = patience.deadline();
        let mut bytes = state.bytes;
        while state.bytes < count && !state.ended && !state.flushing {
            self.wait(&mut state, &mut deadline, patience)?;
            if std::mem::replace(&mut bytes, state.bytes) != state.bytes {
                deadline = patience.deadline();
            }
        }
        if state.flushing {
            return Err(SourceError::Interrupted);
        }
        let mut head: Vec<u8> = Vec::with_capacity(count);
        for (index, chunk) in state.chunks.iter().enumerate() {
            let rest = if index == 0 { &chunk[state.taken..] } else { &chunk[..] };
            head.extend(rest.iter().take(count - head.len()));
        }
        Ok(head)
    }

    /// Waits for a change, or fails at the deadline.
    fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        deadline: &mut Option<Instant>,
        patience: &Patience,
    ) -> Result<(), SourceError> {
        let Some(until) = *deadline else {
            self.changed.wait(state);
            return Ok(());
        };
        if !self.changed.wait_until(state, until).timed_out() {
            return Ok(());
        }
        // Outside the lock: the question goes to the pipeline.
        if MutexGuard::unlocked(state, || (patience.is_excused)()) {
            *deadline = patience.deadline();
            return Ok(());
        }
        let limit = patience.limit.unwrap_or_default().as_secs_f64();
        Err(SourceError::Failed(format!("upstream delivered nothing for {limit} s (io-timeout)")))
    }
}

impl Patience {
    fn deadline(&self) -> Option<Instant> {
        self.limit.and_then(|limit| Instant::now().checked_add(limit))
    }
}

/// Opens what arrives in `queue`: as a stream if its container reads from front to back, else from a temporary file of
/// at most `spool_limit` bytes, written first.
pub fn open(queue: &Arc<ByteQueue>, spool_limit: u64, patience: &Patience) -> Result<Box<dyn ByteSource>, SourceError> {
    let mut wanted = 64;
    loop {
        let head = queue.peek(wanted, patience)?;
        match reads_front_to_back(&head) {
            Order::FrontToBack => {
                return Ok(Box::new(StreamSource { queue: Arc::clone(queue), patience: patience.clone() }));
            }
            Order::NeedsBytes(more) if head.len() >= wanted && more <= SNIFF_BYTES => wanted = more,
            Order::NeedsBytes(_) | Order::MustBeSearched => {
                return Ok(Box::new(SpooledSource::collect(queue, spool_limit, patience)?));
            }
        }
    }
}

/// What the first bytes say about reading the rest.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    FrontToBack,
    MustBeSearched,
    /// Undecided: look at this many bytes.
    NeedsBytes(usize),
}

/// Whether a container, by its first bytes, gives the same frames when read once from front to back.
fn reads_front_to_back(head: &[u8]) -> Order {
    let starts = |prefix: &[u8]| head.starts_with(prefix);
    // A transport stream shows by its sync byte (0x47) at the start of packets, three of which are looked at.
    let packets_of = |size: usize, offset: usize| {
        head.len() > offset && head[offset..].iter().step_by(size).all(|&byte| byte == 0x47)
    };
    let is_transport_stream = packets_of(188, 0) || packets_of(192, 4);
    if is_transport_stream && head.len() < 3 * 192 {
        return Order::NeedsBytes(3 * 192);
    }
    let known = starts(b"\x1a\x45\xdf\xa3") // Matroska, WebM
        || starts(b"FLV\x01")
        || starts(b"OggS")
        || starts(b"DKIF") // IVF
        || starts(b"\x89PNG")
        || starts(b"\xff\xd8\xff") // JPEG
        || starts(b"YUV4MPEG2 ")
        || starts(b"\x00\x00\x01\xba") // MPEG program stream
        || starts(b"\x00\x00\x01\xb3") // MPEG video
        || starts(b"\x00\x00\x00\x01") // H.264, H.265 byte stream
        || (starts(b"RIFF") && head.get(8..12) == Some(b"WEBP"))
        || is_transport_stream;
    if known {
        return Order::FrontToBack;
    }
    iso_boxes(head)
}

/// An ISO file (mp4, mov) reads from front to back if its index (`moov`) stands before its media data.
fn iso_boxes(head: &[u8]) -> Order {
    // Audio books and podcasts: that their pictures are no video is told by chapters, which are found by searching.
    if matches!(head.get(4..12), Some(b"ftypM4A " | b"ftypM4B " | b"ftypM4P ")) {
        return Order::MustBeSearched;
    }
    let mut at = 0_usize;
    loop {
        let Some(header) = head.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Order::NeedsBytes(at.saturating_add(16));
        };
        let (size, kind) = header.split_at(4);
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        match kind {
            b"moov" | b"moof" => return Order::FrontToBack,
            b"ftyp" | b"styp" | b"sidx" | b"free" | b"skip" | b"wide" | b"uuid" | b"pdin" if size >= 8 => {
                at = at.saturating_add(size);
            }
            _ => return Order::MustBeSearched,
        }
    }
}

/// Bytes as they come.
struct StreamSource {
    queue: Arc<ByteQueue>,
    patience: Patience,
}

impl ByteSource for StreamSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.queue.read(buffer, &self.patience)
    }

    fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
        Err(SourceError::Failed("a stream without random access cannot be searched".into()))
    }

    fn size(&mut self) -> Option<u64> {
        None
    }

    fn is_seekable(&self) -> bool {
        false
    }
}

/// A whole stream in an unlinked temporary file.
struct SpooledSource {
    file: File,
    size: u64,
}

impl SpooledSource {
    fn collect(queue: &ByteQueue, limit: u64, patience: &Patience) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| {
            SourceError::Failed(format!(
                "this stream has to be searched, so it is kept in a temporary file in {}, which failed: {error}; set \
                 TMPDIR to a folder with room, or read the file with filesrc",
                std::env::temp_dir().display()
            ))
        };
        let mut file = tempfile::tempfile().map_err(failed)?;
        let mut size = 0_u64;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = queue.read(&mut buffer, patience)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            if size > limit {
                return Err(SourceError::Failed(format!(
                    "this stream has to be searched (its index is not in front) but is longer than spool-limit ({limit} \
                     bytes); raise spool-limit, read the file with filesrc, or put its index in front with `ffmpeg -i IN \
                     -c copy -movflags +faststart OUT.mp4`"
                )));
            }
            file.write_all(&buffer[..count]).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Self { file, size })
    }
}

impl ByteSource for SpooledSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.file
            .read(buffer)
            .map_err(|error| SourceError::Failed(format!("the temporary file cannot be read: {error}")))
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        let moved = self.file.seek(SeekFrom::Start(position));
        moved
            .map(|_| ())
            .map_err(|error| SourceError::Failed(format!("the temporary file cannot be searched: {error}")))
    }

    fn size(&mut self) -> Option<u64> {
        Some(self.size)
    }

    fn is_seekable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(boxes: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, size) in boxes {
            bytes.extend(size.to_be_bytes());
            bytes.extend(*kind);
            bytes.resize(bytes.len() + (*size as usize).saturating_sub(8), 0);
        }
        bytes
    }

    #[test]
    fn an_mp4_is_streamed_only_with_its_index_in_front() {
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32), (b"free", 8), (b"moov", 8)])), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32), (b"mdat", 8)])), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(&iso(&[(b"styp", 24), (b"sidx", 40), (b"moof", 8)])), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32)])), Order::NeedsBytes(48));
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 0)])), Order::MustBeSearched);
    }

    #[test]
    fn other_containers_are_told_by_their_first_bytes() {
        assert_eq!(reads_front_to_back(b"\x1a\x45\xdf\xa3...."), Order::FrontToBack);
        assert_eq!(reads_front_to_back(b"RIFF....AVI LIST"), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(b"RIFF....WEBPVP8 "), Order::FrontToBack);
        let mut ts = vec![0; 1000];
        (ts[0], ts[188], ts[376], ts[564], ts[752], ts[940]) = (0x47, 0x47, 0x47, 0x47, 0x47, 0x47);
        assert_eq!(reads_front_to_back(&ts), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&ts[..64]), Order::NeedsBytes(576));
        // The same first byte.
        assert_eq!(reads_front_to_back(&[b"GIF89a" as &[u8], &[0; 994]].concat()), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(b""), Order::NeedsBytes(16));
    }

    #[test]
    fn a_full_queue_waits_for_the_reader_and_a_flush_ends_the_wait() {
        gst::init().unwrap();
        let queue = Arc::new(ByteQueue::default());
        queue.push(gst::Buffer::from_slice(vec![7_u8; QUEUE_BYTES])).unwrap();
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(gst::Buffer::from_slice([8_u8; 4]))
        });
        let mut byte = [0];
        let patient = Patience { limit: None, is_excused: Arc::new(|| false) };
        assert_eq!(queue.read(&mut byte, &patient), Ok(1));
        writer.join().unwrap().unwrap();
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(gst::Buffer::from_slice([9_u8; 4]))
        });
        queue.flush();
        assert_eq!(writer.join().unwrap(), Err(gst::FlowError::Flushing));
        assert_eq!(queue.read(&mut byte, &patient), Err(SourceError::Interrupted));
    }

    #[test]
    fn a_wait_ends_after_the_timeout_but_not_while_it_is_excused() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let queue = Arc::new(ByteQueue::default());
        let asked = Arc::new(AtomicU32::new(0));
        let limit = Some(Duration::from_millis(20));
        let is_excused = {
            let asked = Arc::clone(&asked);
            Arc::new(move || asked.fetch_add(1, Ordering::SeqCst) < 3)
        };
        let failed = queue.read(&mut [0], &Patience { limit, is_excused }).unwrap_err();
        assert!(failed.to_string().contains("nothing for 0.02 s (io-timeout)"), "{failed}");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
