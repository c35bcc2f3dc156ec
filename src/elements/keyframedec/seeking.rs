//! Segments and seeks: stream time from zero outside, the container's own time inside.

/// A seek that the streaming task is to carry out.
#[derive(Debug, Clone)]
pub struct Seek {
    /// Where to go, in stream time.
    pub position: gst::ClockTime,
    /// Show the keyframe at or before the position (key-unit), rather than from the position on.
    pub key_unit: bool,
    /// Which keyframe a key-unit seek goes to.
    pub snap: Snap,
}

/// Which keyframe a key-unit seek goes to where none is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Snap {
    #[default]
    Before,
    After,
    /// The one before if both are as far away.
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

/// What part of the stream is played, in stream time.
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
    /// Takes a seek event in. The text says why a seek is refused.
    pub fn take(&mut self, event: &gst::event::Seek, duration: Option<gst::ClockTime>) -> Result<(), &'static str> {
        let (rate, flags, start_type, start, stop_type, stop) = event.get();
        if rate <= 0.0 {
            return Err("only forward playback is possible");
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

    /// After a key-unit seek: playback starts at the keyframe found.
    pub fn start_at(&mut self, position: gst::ClockTime) {
        self.segment.set_start(position);
        self.segment.set_time(position);
        self.segment.set_position(position);
    }

    /// Times have gone back: playback goes on at `position`, in running time where it was, at `running_time`.
    pub fn go_on_at(&mut self, position: gst::ClockTime, running_time: gst::ClockTime) {
        self.start_at(position);
        self.segment.set_offset(gst::ClockTime::ZERO);
        self.segment.set_base(running_time);
    }

    /// The segment to announce: buffers carry the container's time, moved by `shift` where that would be negative.
    pub fn to_buffer_time(&self, clock: Clock) -> gst::FormattedSegment<gst::ClockTime> {
        let mut segment = self.segment.clone();
        let offset = clock.buffer_time_at_zero();
        segment.set_start(segment.start().map(|start| start + offset));
        segment.set_stop(segment.stop().map(|stop| stop + offset));
        segment.set_position(segment.position().map(|position| position + offset));
        segment
    }
}

/// Where the container's time, stream time and buffer timestamps lie to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// The container's time at stream time zero.
    pub origin_ns: i64,
}

impl Clock {
    /// The buffer timestamp at stream time zero: the container's own time, but never below zero.
    pub fn buffer_time_at_zero(self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(u64::try_from(self.origin_ns).unwrap_or(0))
    }

    /// Stream time of a container time.
    pub fn stream_time(self, container_ns: i64) -> gst::ClockTime {
        let ns = i128::from(container_ns) - i128::from(self.origin_ns);
        gst::ClockTime::from_nseconds(u64::try_from(ns.max(0)).unwrap_or(0))
    }

    /// Container time of a stream time.
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
            let clock = Clock { origin_ns: origin };
            let pts = clock.stream_time(container) + clock.buffer_time_at_zero();
            assert_eq!(pts.nseconds(), buffer);
            let segment = Playback::default().to_buffer_time(clock);
            let stream_time = segment.to_stream_time(pts).unwrap().nseconds() as i64;
            assert_eq!(stream_time + origin, container, "origin {origin}");
        }
    }
}
