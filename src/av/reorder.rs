//! Puts a decoder's pictures into order of presentation.
//!
//! Decoders order pictures by what the codec says of their neighbours. With only the keyframes fed in that fails: of an
//! open-GOP H.264 file they come out backwards. A picture is therefore held until no packet inside the decoder
//! has an earlier presentation time.

use std::collections::VecDeque;

/// Pictures that wait for earlier ones.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    /// Presentation times of the packets in the decoder, in the order of sending.
    inside: VecDeque<i64>,
    /// Sorted by time; equal times in the order of arrival.
    held: VecDeque<(i64, T)>,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self { inside: VecDeque::new(), held: VecDeque::new() }
    }
}

impl<T> Reorder<T> {
    /// A packet went into the decoder.
    pub(super) fn sent(&mut self, pts: Option<i64>) {
        self.inside.extend(pts);
    }

    /// The decoder refused the packet sent last.
    pub(super) fn refused(&mut self, pts: Option<i64>) {
        if pts.is_some() && self.inside.back() == pts.as_ref() {
            self.inside.pop_back();
        }
    }

    /// A picture came out of a decoder that holds at most `delay` packets: any more have come to nothing.
    pub(super) fn received(&mut self, pts: Option<i64>, picture: T, delay: usize) {
        match self.inside.iter().position(|inside| Some(*inside) == pts) {
            Some(position) => drop(self.inside.remove(position)),
            None => drop(self.inside.pop_front()),
        }
        while self.inside.len() > delay {
            self.inside.pop_front();
        }
        // A picture without a time goes after the last one held.
        let pts = pts.or(self.held.back().map(|(pts, _)| *pts)).unwrap_or(i64::MIN);
        let position = self.held.partition_point(|(held, _)| *held <= pts);
        self.held.insert(position, (pts, picture));
    }

    /// The decoder is empty: nothing has to wait any more.
    pub(super) fn drained(&mut self) {
        self.inside.clear();
    }

    /// The next picture, if nothing earlier can come.
    pub(super) fn next(&mut self) -> Option<T> {
        let (first, _) = self.held.front()?;
        let waits = self.inside.iter().any(|inside| inside < first);
        if waits { None } else { self.held.pop_front().map(|(_, picture)| picture) }
    }

    /// Forgets everything, as after a seek.
    pub(super) fn clear(&mut self) {
        self.inside.clear();
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(reorder: &mut Reorder<i64>) -> Vec<i64> {
        std::iter::from_fn(|| reorder.next()).collect()
    }

    #[test]
    fn pictures_that_come_backwards_are_turned_round() {
        let mut reorder = Reorder::default();
        [0, 25, 50].into_iter().for_each(|pts| reorder.sent(Some(pts)));
        for pts in [50, 25] {
            reorder.received(Some(pts), pts, 4);
            assert!(out(&mut reorder).is_empty());
        }
        reorder.received(Some(0), 0, 4);
        assert_eq!(out(&mut reorder), [0, 25, 50]);
    }

    #[test]
    fn pictures_in_order_do_not_wait() {
        let mut reorder = Reorder::default();
        [0, 25, 50].into_iter().for_each(|pts| reorder.sent(Some(pts)));
        for pts in [0, 25, 50] {
            reorder.received(Some(pts), pts, 4);
            assert_eq!(out(&mut reorder), [pts]);
        }
    }

    #[test]
    fn a_packet_that_comes_to_nothing_holds_up_only_as_many_as_the_decoder_holds() {
        let mut reorder = Reorder::default();
        reorder.sent(Some(0));
        let mut seen = Vec::new();
        for pts in 1..10 {
            reorder.sent(Some(pts));
            reorder.received(Some(pts), pts, 0);
            seen.extend(out(&mut reorder));
        }
        assert_eq!(seen, (1..10).collect::<Vec<_>>());
        reorder.sent(Some(5));
        reorder.refused(Some(5));
        reorder.received(None, 77, 2);
        assert_eq!(out(&mut reorder), [77]);
    }
}
