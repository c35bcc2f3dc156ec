//! Transport and program streams whose video goes on in another stream: a recording over a change of programme.
//!
//! Packets of other videos are held until it is clear whether they come beside the chosen one (another programme, another
//! camera) or after it.

use crate::av::input::packet::Packet;

/// Seconds of another video without a packet of the chosen one after which that one has ended.
const SILENCE_SECONDS: i64 = 2;

/// Packets of another video without a packet of the chosen one, where they carry no times.
const SILENCE_PACKETS: u32 = 100;

/// Most bytes of keyframes held meanwhile.
const HELD_BYTES: u64 = 64 << 20;

/// What is known of other videos.
#[derive(Default)]
pub(super) struct Programme {
    rival: Option<Rival>,
    /// Streams that run beside the chosen one.
    beside: Vec<i32>,
}

/// Another video since the last packet of the chosen one.
struct Rival {
    index: i32,
    first: Option<i64>,
    packets: u32,
    held: Vec<Packet>,
    held_bytes: u64,
    /// The chosen one had a packet since this one began.
    is_beside: bool,
}

/// What another video turns out to be.
pub(super) enum Turnout {
    Undecided,
    /// One of its own, to be left out.
    Beside,
    /// What the chosen one goes on as: its packets from its first keyframe on.
    Successor(Vec<Packet>),
}

impl Programme {
    /// Forgets what is held, as after a seek.
    pub(crate) fn forget(&mut self) {
        self.rival = None;
    }

    /// Packets of this stream are of no interest any more.
    pub(crate) fn leave(&mut self, index: i32) {
        self.beside.push(index);
    }

    /// The chosen video has a packet: whatever else has begun comes beside it.
    pub(super) fn note_chosen(&mut self) {
        if let Some(rival) = &mut self.rival {
            rival.is_beside = true;
            rival.held.clear();
        }
    }

    /// Another video has a packet; times are in units of `time_base`, which streams of a programme share.
    pub(super) fn note_other(&mut self, packet: Packet, (num, den): (i64, i64)) -> Turnout {
        let index = packet.stream_index();
        if self.beside.contains(&index) {
            return Turnout::Undecided;
        }
        let time = packet.dts().or_else(|| packet.pts());
        let rival = match &mut self.rival {
            Some(rival) if rival.index == index => rival,
            other => other.insert(Rival {
                index,
                first: time,
                packets: 0,
                held: Vec::new(),
                held_bytes: 0,
                is_beside: false,
            }),
        };
        if rival.is_beside {
            self.rival = None;
            self.beside.push(index);
            return Turnout::Beside;
        }
        rival.packets += 1;
        let since = time.zip(rival.first).map(|(time, first)| time.saturating_sub(first));
        if packet.is_key() || !rival.held.is_empty() {
            rival.held_bytes += packet.byte_len();
            rival.held.push(packet);
        }
        let silence = SILENCE_SECONDS.saturating_mul(den) / num.max(1);
        let has_ended = since.is_some_and(|since| since >= silence || since < 0)
            || rival.packets >= SILENCE_PACKETS
            || rival.held_bytes > HELD_BYTES;
        if !has_ended {
            return Turnout::Undecided;
        }
        let held = self.rival.take().map(|rival| rival.held).unwrap_or_default();
        Turnout::Successor(held)
    }

    /// At the end of the file: what is held of a video that began last, for the chosen one has nothing more.
    pub(super) fn at_end(&mut self) -> Option<(i32, Vec<Packet>)> {
        let rival = self.rival.take_if(|rival| !rival.is_beside && !rival.held.is_empty())?;
        Some((rival.index, rival.held))
    }
}
