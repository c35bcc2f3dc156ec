//! Decoders at work side by side, each on a keyframe of its own.
//!
//! A keyframe needs nothing of any other, so each is decoded whole and alone: packet in, pictures out, decoder emptied.
//! FFmpeg's own frame threads, or a decoder that is simply fed one keyframe after the other, keep a memory of the frames
//! between them that were never seen; picture order counts then no longer make sense, and of an open-GOP H.264 file
//! most keyframes are lost (3 of 16 come out where 16 do here).
//!
//! Thread rule: one thread puts packets in and takes results out, in the same order. Each decoder has a thread of its
//! own, started when there is work for it. Nobody waits for such a thread longer than he wants to: libavcodec cannot be
//! interrupted within a picture, so after a stop the thread finishes what it is at, finds no more work and ends.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use crate::av::decode::decoder::{Decoder, Purpose, Resources};
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::Interrupt;
use crate::av::opening::{self, LockTimes};

/// What the threads of a reader share among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadType {
    /// Nothing: one keyframe after the other, on one thread.
    None,
    /// Several keyframes at once: most keyframes a second.
    #[default]
    Frame,
    /// Several slices of one keyframe at once, where the encoder made slices: each keyframe soonest.
    Slice,
}

/// How often a wait for a decoder looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(20);

/// How long to try to start the first thread where the system refuses.
const THREAD_PATIENCE: Duration = Duration::from_secs(2);

/// Threads that decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadOptions {
    /// Number of threads; 0 counts as 1.
    pub count: u32,
    /// How they share the work.
    pub kind: ThreadType,
}

/// What became of a packet.
pub(crate) struct Decoded {
    /// Time of the packet, in units of the stream's time base.
    pub(crate) pts: Option<i64>,
    /// Its pictures (nearly always one), each with its time, or why there is none.
    pub(crate) pictures: Result<Vec<(Option<i64>, Frame)>, Error>,
    /// Bytes of the packet.
    pub(crate) bytes: u64,
    /// How long the decoder worked.
    pub(crate) took: Duration,
}

struct Job {
    /// Of one keyframe.
    packets: Vec<Packet>,
    done: Sender<Decoded>,
}

/// The decoders of one reader.
pub(crate) struct Decoders {
    name: String,
    threads: (u32, &'static str),
    /// Most decoders at work.
    capacity: usize,
    resources: Resources,
    /// The first decoder, until it has a thread.
    first: Option<Decoder>,
    /// Where the threads get their work; they end when it is dropped.
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    workers: usize,
    pending: VecDeque<(Option<i64>, Receiver<Decoded>)>,
    lock_times: LockTimes,
}

impl Decoders {
    /// Opens the first decoder for `video`. The caller holds the opening lock.
    pub(crate) fn open(video: &VideoStream, threads: ThreadOptions, resources: Resources) -> Result<Self, Error> {
        let count = threads.count.max(1);
        let (slice_threads, capacity) = match threads.kind {
            ThreadType::None => (1, 1),
            ThreadType::Frame => (1, count),
            ThreadType::Slice => (count, 1),
        };
        let decoder = Decoder::open(video, Purpose::Keyframes { slice_threads }, &resources)?;
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

    /// FFmpeg's name of the decoder, for example "h264".
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Threads that may work, and "frame", "slice" or "none".
    pub(crate) fn threads(&self) -> (u32, &'static str) {
        self.threads
    }

    /// What opening more decoders cost of the opening lock.
    pub(crate) fn lock_times(&self) -> LockTimes {
        self.lock_times
    }

    /// The device that decodes, unless it has handed over to the processor, and whether it has refused the file.
    pub(crate) fn device(&self) -> (Option<&str>, bool) {
        let Some(device) = &self.resources.device else { return (None, false) };
        let has_refused = device.has_refused();
        ((!has_refused).then(|| device.name()), has_refused)
    }

    /// Packets inside.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every decoder has a packet and the next one: take a result before more.
    pub(crate) fn is_full(&self) -> bool {
        // A decoder that is done must find work at once, even while results are being taken out in order.
        let most = if self.capacity == 1 { 1 } else { 2 * self.capacity };
        self.pending.len() >= most
    }

    /// Takes the packets of a keyframe and decodes them on another thread.
    pub(crate) fn put(&mut self, video: &VideoStream, packets: Vec<Packet>) -> Result<(), Error> {
        let pts = packets.first().and_then(Packet::timestamp);
        let (done, result) = bounded(1);
        self.pending.push_back((pts, result));
        let job = Job { packets, done };
        if self.workers < self.pending.len().min(self.capacity) {
            self.start_worker(video)?;
        }
        // The queue lives as long as this value: sending cannot fail.
        let _ = self.jobs.send(job);
        Ok(())
    }

    /// What became of the oldest packet inside, if there is one: when it is done, or with `wait` false only if it is.
    ///
    /// # Errors
    /// [`Error::Interrupted`], soon after `interrupt` is set.
    pub(crate) fn take(&mut self, wait: bool, interrupt: &Interrupt) -> Result<Option<Decoded>, Error> {
        let Some((pts, result)) = self.pending.front() else { return Ok(None) };
        let lost = || {
            let pictures = Err(Error::Damaged("the decoder's thread ended".into()));
            Decoded { pts: *pts, pictures, bytes: 0, took: Duration::ZERO }
        };
        let decoded = loop {
            // Not a wait of no length: that spins for a while.
            if !wait {
                match result.try_recv() {
                    Ok(decoded) => break decoded,
                    Err(TryRecvError::Empty) => return Ok(None),
                    Err(TryRecvError::Disconnected) => break lost(),
                }
            }
            match result.recv_timeout(GLANCE) {
                Ok(decoded) => break decoded,
                Err(RecvTimeoutError::Timeout) if interrupt.is_set() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break lost(),
            }
        };
        self.pending.pop_front();
        Ok(Some(decoded))
    }

    /// Forgets the packets inside, as after a seek.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        while self.queue.try_recv().is_ok() {}
    }

    fn start_worker(&mut self, video: &VideoStream) -> Result<(), Error> {
        let decoder = if let Some(decoder) = self.first.take() {
            decoder
        } else {
            let lock = opening::enter();
            let decoder = Decoder::open(video, Purpose::Keyframes { slice_threads: 1 }, &self.resources);
            self.lock_times += lock.leave();
            match decoder {
                Ok(decoder) => decoder,
                Err(_) => {
                    // There is one at least: make do with those that could be opened.
                    self.capacity = self.workers;
                    return Ok(());
                }
            }
        };
        let (queue, log) = (self.queue.clone(), self.resources.log.clone());
        // A thread that cannot be started would take the decoder with it.
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
        let deadline = Instant::now() + THREAD_PATIENCE;
        let worker = loop {
            match start() {
                // Threads of the file before may be about to end. With one thread at least there is no need to wait for them.
                Err(_) if self.workers == 0 && Instant::now() < deadline => std::thread::sleep(GLANCE),
                result => break result,
            }
        };
        match worker {
            Ok(_) => {
                // It takes one.
                let _ = hand.send(decoder);
                self.workers += 1;
            }
            Err(_) if self.workers > 0 => self.capacity = self.workers,
            Err(error) => return Err(Error::Damaged(format!("no thread could be started to decode: {error}"))),
        }
        Ok(())
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Job {
    fn run(self, decoder: &mut Decoder) {
        let started = Instant::now();
        let pts = self.packets.first().and_then(Packet::timestamp);
        let bytes = self.packets.iter().map(Packet::byte_len).sum();
        let with_time = |frame: Frame| (frame.timestamp().or(pts), frame);
        // Whoever waits for this keyframe, and for those after it, must hear of it whatever happens.
        let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode_alone(&self.packets)))
            .unwrap_or_else(|_| Err(Error::Damaged("decoding it ended in a panic, which is a bug in vx".into())));
        let pictures = decoded.map(|frames| frames.into_iter().map(with_time).collect());
        // Nobody waits for it any more after a seek.
        let _ = self.done.send(Decoded { pts, pictures, bytes, took: started.elapsed() });
    }
}
