// SPDX-License-Identifier: MIT OR Apache-2.0
//! What downstream reports about lateness: the running time before which it has no use for frames. Any thread.

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub struct Lateness {
    /// Running time of the first frame that is not too late.
    earliest: Mutex<Option<gst::ClockTime>>,
}

impl Lateness {
    /// Records a QoS event.
    pub fn record(&self, event: &gst::event::Qos) {
        let (_, _, jitter_ns, running_time) = event.get();
        if let Some(running_time) = running_time {
            self.record_jitter(running_time, jitter_ns);
        }
    }

    /// Records that a frame with this running time was late by `jitter_ns` nanoseconds, or early where that is negative.
    fn record_jitter(&self, running_time: gst::ClockTime, jitter_ns: i64) {
        // As GstVideoDecoder and GstBaseTransform: twice the delay, so that the stream catches up.
        let delay_ns = if jitter_ns > 0 { jitter_ns.saturating_mul(2) } else { jitter_ns };
        let earliest_ns = i128::from(running_time.nseconds()) + i128::from(delay_ns);
        let earliest = gst::ClockTime::from_nseconds(u64::try_from(earliest_ns.max(0)).unwrap_or(0));
        *self.earliest.lock() = Some(earliest);
    }

    /// Forgets what was recorded, as at a new segment or a flush.
    pub fn reset(&self) {
        *self.earliest.lock() = None;
    }

    /// Whether downstream would drop a frame with this running time.
    pub fn is_too_late(&self, running_time: Option<gst::ClockTime>) -> bool {
        running_time.zip(*self.earliest.lock()).is_some_and(|(time, earliest)| time < earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downstream_that_is_late_has_no_use_for_frames_until_it_has_caught_up() {
        let lateness = Lateness::default();
        let at = |ms| Some(gst::ClockTime::from_mseconds(ms));
        assert!(!lateness.is_too_late(at(0)));
        lateness.record_jitter(gst::ClockTime::from_mseconds(1000), 50_000_000);
        assert!(lateness.is_too_late(at(1099)) && !lateness.is_too_late(at(1100)) && !lateness.is_too_late(None));
        lateness.record_jitter(gst::ClockTime::from_mseconds(1200), -20_000_000);
        assert!(!lateness.is_too_late(at(1180)));
        lateness.record_jitter(gst::ClockTime::ZERO, i64::MIN);
        lateness.record_jitter(gst::ClockTime::MAX, i64::MAX);
        lateness.reset();
        assert!(!lateness.is_too_late(at(0)));
    }
}
