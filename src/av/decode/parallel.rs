// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decoders that work in parallel, each on a keyframe of its own.
//!
//! A keyframe does not depend on any other, so each is decoded alone: packet in, pictures out, decoder emptied.
//! FFmpeg's own frame threads, or a decoder that is simply fed one keyframe after the other, keep references to the frames
//! between them that were never decoded; picture order counts then become inconsistent, and of an open-GOP H.264 file
//! most keyframes are lost (3 of 16 are decoded where this decodes 16).
//!
//! Thread rule: one thread puts packets in and takes results out, in the same order. Each decoder has a thread of its
//! own, started when there is work for it. No caller waits longer for such a thread than it wants to: libavcodec cannot be
//! interrupted within a picture, so after a stop the thread finishes its picture, finds no more work and ends.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use memchr::memmem;

use crate::av::decode::decoder::{DecodeMode, Decoder, Resources};
use crate::av::decode::options::ThreadType;
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::packet::KeyframePackets;
use crate::av::input::parameter_sets::Syntax;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::Interrupt;
use crate::av::opening_lock::{self, LockTimes};

/// Interval at which a wait for a decoder checks for an interrupt.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long to retry when the system refuses the first thread.
const THREAD_START_TIMEOUT: Duration = Duration::from_secs(2);

/// Result of decoding a keyframe.
pub(crate) struct Decoded {
    /// Time of the keyframe, in units of the stream's time base.
    pub(crate) pts: Option<i64>,
    /// Its pictures (nearly always one), each with its time, or the error.
    pub(crate) pictures: Result<Vec<(Option<i64>, Frame)>, Error>,
    /// Bytes of its packets.
    pub(crate) bytes: u64,
    /// Time spent reading them.
    pub(crate) read: Duration,
    /// Time spent decoding.
    pub(crate) took: Duration,
}

struct Job {
    packets: KeyframePackets,
    read: Duration,
    done: Sender<Decoded>,
}

/// The decoders of one reader.
pub(crate) struct Decoders {
    name: String,
    threads: (u32, &'static str),
    /// Most decoders in use.
    capacity: usize,
    resources: Resources,
    /// The first decoder, until it has a thread.
    first: Option<Decoder>,
    /// Feeds the threads; they end when it is dropped.
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    workers: usize,
    pending: VecDeque<(Option<i64>, Receiver<Decoded>)>,
    lock_times: LockTimes,
}

impl Decoders {
    /// Opens the first decoder for `video`. The caller holds the opening lock.
    pub(crate) fn open(video: &VideoStream, resources: Resources) -> Result<Self, Error> {
        let threads = resources.options.threads;
        let count = threads.count.max(1);
        let (slice_threads, capacity) = match threads.kind {
            ThreadType::None => (1, 1),
            ThreadType::Frame => (1, count),
            ThreadType::Slice => (count, 1),
        };
        let decoder = Decoder::open(video, DecodeMode::Keyframes { slice_threads }, &resources)?;
        let threads = match (capacity, decoder.slice_threads()) {
            (1, 1) => (1, "none"),
            (1, slices) => (slices, "slice"),
            (capacity, _) => (capacity, "frame"),
        };
        let (jobs, queue) = unbounded();
        Ok(Self {
            name: decoder.name().to_owned(),
            threads,
            capacity: capacity as usize,
            resources,
            first: Some(decoder),
            jobs,
            queue,
            workers: 0,
            pending: VecDeque::new(),
            lock_times: LockTimes::default(),
        })
    }

    /// Returns FFmpeg's name of the decoder, for example "h264".
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of threads, and "frame", "slice" or "none".
    pub(crate) fn threads(&self) -> (u32, &'static str) {
        self.threads
    }

    /// Returns the times of the opening lock for the decoders that were opened later.
    pub(crate) fn lock_times(&self) -> LockTimes {
        self.lock_times
    }

    /// Returns the device that decodes, unless it has refused the file, and whether it has refused it.
    pub(crate) fn device(&self) -> (Option<&str>, bool) {
        let Some(device) = &self.resources.device else { return (None, false) };
        let has_refused = device.has_refused();
        ((!has_refused).then(|| device.name()), has_refused)
    }

    /// Returns the number of keyframes inside.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every decoder has a keyframe and a next one: take a result before adding more.
    pub(crate) fn is_full(&self) -> bool {
        // A decoder that has finished must find work at once, even while results are being taken out in order.
        let most = if self.capacity == 1 { 1 } else { 2 * self.capacity };
        self.pending.len() >= most
    }

    /// Takes the packets of a keyframe and decodes them on another thread.
    pub(crate) fn put(&mut self, video: &VideoStream, packets: KeyframePackets, read: Duration) -> Result<(), Error> {
        let pts = packets.timestamp();
        self.note_encoder(video, &packets);
        let (done, result) = bounded(1);
        self.pending.push_back((pts, result));
        let job = Job { packets, read, done };
        if self.workers < self.pending.len().min(self.capacity) {
            self.start_worker(video)?;
        }
        // The queue lives as long as this value: sending cannot fail.
        let _ = self.jobs.send(job);
        Ok(())
    }

    /// Records which version of x264 made the file, if its first keyframe says so.
    fn note_encoder(&mut self, video: &VideoStream, packets: &KeyframePackets) {
        if video.syntax() != Some(Syntax::H264) || self.resources.x264_build.get().is_some() {
            return;
        }
        let build = packets.as_slice().first().and_then(|packet| x264_build(packet.data()));
        if let (Ok(()), Some(build), Some(first)) = (self.resources.x264_build.set(build), build, &mut self.first) {
            first.set_x264_build(build);
        }
    }

    /// Returns the result of the oldest keyframe inside, if there is one: waits for it, or with `wait` false returns `None` unless it
    /// is ready.
    ///
    /// # Errors
    /// [`Error::Interrupted`] while it waits.
    pub(crate) fn take(&mut self, wait: bool, interrupt: &Interrupt) -> Result<Option<Decoded>, Error> {
        let Some((pts, result)) = self.pending.front() else { return Ok(None) };
        let lost = || {
            let pictures = Err(Error::Damaged("the decoder thread has ended".into()));
            Decoded { pts: *pts, pictures, bytes: 0, read: Duration::ZERO, took: Duration::ZERO }
        };
        let decoded = loop {
            // A wait of zero length would spin for a while.
            if !wait {
                match result.try_recv() {
                    Ok(decoded) => break decoded,
                    Err(TryRecvError::Empty) => return Ok(None),
                    Err(TryRecvError::Disconnected) => break lost(),
                }
            }
            match result.recv_timeout(POLL_INTERVAL) {
                Ok(decoded) => break decoded,
                Err(RecvTimeoutError::Timeout) if interrupt.is_set() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break lost(),
            }
        };
        self.pending.pop_front();
        Ok(Some(decoded))
    }

    /// Drops the keyframes inside, as after a seek.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        while self.queue.try_recv().is_ok() {}
    }

    fn start_worker(&mut self, video: &VideoStream) -> Result<(), Error> {
        let decoder = if let Some(decoder) = self.first.take() {
            decoder
        } else {
            let lock = opening_lock::acquire();
            let decoder = Decoder::open(video, DecodeMode::Keyframes { slice_threads: 1 }, &self.resources);
            self.lock_times += lock.release();
            match decoder {
                Ok(decoder) => decoder,
                Err(_) => {
                    // There is at least one: continue with those that could be opened.
                    self.capacity = self.workers;
                    return Ok(());
                }
            }
        };
        let (queue, log) = (self.queue.clone(), self.resources.log.clone());
        // The decoder is passed to the thread afterwards: a thread that fails to start would drop it.
        let (hand, taken) = bounded::<Decoder>(1);
        let start = || {
            let (queue, log, taken) = (queue.clone(), log.clone(), taken.clone());
            std::thread::Builder::new().name("vx-decode".into()).spawn(move || {
                let Ok(mut decoder) = taken.recv() else { return };
                let _attributed = log.enter();
                while let Ok(job) = queue.recv() {
                    job.run(&mut decoder);
                }
            })
        };
        let deadline = Instant::now() + THREAD_START_TIMEOUT;
        let worker = loop {
            match start() {
                // Threads of the previous file may be about to end. With at least one thread there is no need to wait for them.
                Err(_) if self.workers == 0 && Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
                result => break result,
            }
        };
        match worker {
            Ok(_) => {
                // The thread takes one.
                let _ = hand.send(decoder);
                self.workers += 1;
            }
            Err(_) if self.workers > 0 => self.capacity = self.workers,
            Err(error) => return Err(Error::Damaged(format!("cannot start a decoder thread: {error}"))),
        }
        Ok(())
    }
}

/// Returns the version of x264 in the message that it writes before the first picture: "x264 - core 155 r2917 0a84d98 - …".
fn x264_build(packet: &[u8]) -> Option<c_int> {
    const START: &[u8] = b"x264 - core ";
    /// The message follows parameter sets.
    const SEARCHED: usize = 4096;
    let head = &packet[..packet.len().min(SEARCHED)];
    let number = &head[memmem::find(head, START)? + START.len()..];
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count().min(6);
    std::str::from_utf8(&number[..digits]).ok()?.parse().ok()
}

impl Drop for Decoders {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Job {
    fn run(self, decoder: &mut Decoder) {
        let started = Instant::now();
        let pts = self.packets.timestamp();
        let bytes = self.packets.byte_len();
        let with_time = |frame: Frame| (frame.timestamp().or(pts), frame);
        // Whatever happens, the caller that waits for this keyframe must get a result.
        let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode_keyframe(self.packets.as_slice())))
            .unwrap_or_else(|_| Err(Error::Damaged("decoding panicked, which is a bug in vx".into())));
        let pictures = decoded.map(|frames| frames.into_iter().map(with_time).collect());
        // After a seek the result is no longer wanted.
        let _ = self.done.send(Decoded { pts, pictures, bytes, read: self.read, took: started.elapsed() });
    }
}
