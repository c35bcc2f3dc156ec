// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segments and seeks: stream time from zero outside, the container's own time inside.

/// A seek for the streaming task.
#[derive(Debug, Clone)]
pub struct Seek {
    /// Target, in stream time.
    pub position: gst::ClockTime,
    /// Output the keyframe at or before the position (key-unit), rather than from the position on.
    pub key_unit: bool,
    /// Target keyframe of a key-unit seek.
    pub snap: Snap,
}

/// Target keyframe of a key-unit seek where none is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Snap {
    #[default]
    Before,
    After,
    /// The one before if both are equally far away.
    Nearest,
}

impl Snap {
    fn new(flags: gst::SeekFlags) -> Self {
        match (flags.contains(gst::SeekFlags::SNAP_BEFORE), flags.contains(gst::SeekFlags::SNAP_AFTER)) {
            (true, true) => Self::Nearest,
            (false, true) => Self::After,
            _ => Self::Before,
        }
    }
}

/// The part of the stream that is played, in stream time.
#[derive(Debug, Clone)]
pub struct Playback {
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    pub seek: Option<Seek>,
}

impl Default for Playback {
    fn default() -> Self {
        Self { segment: gst::FormattedSegment::new(), seek: None }
    }
}

impl Playback {
    /// Applies a seek event. Fails with the reason if the seek is rejected.
    pub fn apply(&mut self, event: &gst::event::Seek, duration: Option<gst::ClockTime>) -> Result<(), &'static str> {
        let (rate, flags, start_type, start, stop_type, stop) = event.get();
        if rate <= 0.0 {
            return Err("only forward playback is supported");
        }
        let (gst::GenericFormattedValue::Time(start), gst::GenericFormattedValue::Time(stop)) = (start, stop) else {
            return Err("seeks must be in TIME format");
        };
        self.segment.set_duration(duration);
        self.segment.do_seek(rate, flags, start_type, start, stop_type, stop).ok_or("the seek's range is empty")?;
        self.seek = Some(Seek {
            position: self.segment.position().unwrap_or(gst::ClockTime::ZERO),
            key_unit: flags.contains(gst::SeekFlags::KEY_UNIT),
            snap: Snap::new(flags),
        });
        Ok(())
    }

    /// Starts playback at the keyframe found by a key-unit seek.
    pub fn start_at(&mut self, position: gst::ClockTime) {
        self.segment.set_start(position);
        self.segment.set_time(position);
        self.segment.set_position(position);
    }

    /// Continues at `position` after times went back; running time continues at `running_time`.
    pub fn continue_at(&mut self, position: gst::ClockTime, running_time: gst::ClockTime) {
        self.start_at(position);
        self.segment.set_offset(gst::ClockTime::ZERO);
        self.segment.set_base(running_time);
    }

    /// Returns the segment to send: buffers carry the container's time, shifted where that would be negative.
    pub fn to_buffer_time(&self, timeline: Timeline) -> gst::FormattedSegment<gst::ClockTime> {
        let mut segment = self.segment.clone();
        let offset = timeline.buffer_time_at_zero();
        segment.set_start(segment.start().map(|start| start + offset));
        segment.set_stop(segment.stop().map(|stop| stop + offset));
        segment.set_position(segment.position().map(|position| position + offset));
        segment
    }
}

/// Converts between the container's time, stream time and buffer timestamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The container's time at stream time zero.
    pub origin_ns: i64,
}

impl Timeline {
    /// Returns the buffer timestamp at stream time zero: the container's own time, but never below zero.
    pub fn buffer_time_at_zero(self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(u64::try_from(self.origin_ns).unwrap_or(0))
    }

    /// Converts a container time to stream time.
    pub fn stream_time(self, container_ns: i64) -> gst::ClockTime {
        let ns = i128::from(container_ns) - i128::from(self.origin_ns);
        gst::ClockTime::from_nseconds(u64::try_from(ns.max(0)).unwrap_or(0))
    }

    /// Converts a stream time to container time.
    pub fn container_ns(self, stream_time: gst::ClockTime) -> i64 {
        let ns = i128::from(stream_time.nseconds()) + i128::from(self.origin_ns);
        i64::try_from(ns).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_carry_the_container_time_unless_it_is_negative() {
        gst::init().unwrap();
        for (origin, container, buffer) in [(1_400_000_000, 1_900_000_000, 1_900_000_000), (-40_000_000, 0, 40_000_000)]
        {
            let timeline = Timeline { origin_ns: origin };
            let pts = timeline.stream_time(container) + timeline.buffer_time_at_zero();
            assert_eq!(pts.nseconds(), buffer);
            let segment = Playback::default().to_buffer_time(timeline);
            let stream_time = segment.to_stream_time(pts).unwrap().nseconds() as i64;
            assert_eq!(stream_time + origin, container, "origin {origin}");
        }
    }
}
