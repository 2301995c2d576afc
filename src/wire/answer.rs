// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's answers: which frames came, which blocks are stored, and when it is time to say so.

use crate::Error;
use crate::frame::{FrameType, LINE_MAX, Sender};
use crate::status::{BITS, MAP_LEN, NO_BLOCK, RANGES_MAX, Status};

use alloc::vec::Vec;

/// Longest time between two statuses while frames arrive, in microseconds.
const REGULAR_US: u64 = 100_000;
/// Shortest time between two statuses.
const PAUSE_US: u64 = 15_000;

/// What this host has to say about one dump.
#[derive(Clone, Debug)]
pub struct Answers {
    sender: Sender,
    session: u32,
    baud_max: u32,
    wants_offers: bool,
    has_finished: bool,
    /// Newest sequence, once a frame came, and those before it: bit `n` is the one `n + 1` before.
    newest: Option<u32>,
    seen: [u64; BITS as usize / 64],
    /// Stored blocks: sorted, disjoint, not touching, first and end.
    stored: Vec<(u32, u32)>,
    next_range: usize,
    rejected: Option<u32>,
    last_us: Option<u64>,
    has_news: bool,
    is_urgent: bool,
}

impl Answers {
    /// Starts for the dump of this short id; `session` is drawn at random by each run of the host command.
    #[must_use]
    pub const fn new(dump: u32, session: u32) -> Self {
        Self {
            sender: Sender::new(dump),
            session,
            baud_max: 0,
            wants_offers: false,
            has_finished: false,
            newest: None,
            seen: [0; BITS as usize / 64],
            stored: Vec::new(),
            next_range: 0,
            rejected: None,
            last_us: None,
            has_news: false,
            is_urgent: false,
        }
    }

    /// Says that pages are to be offered, because there is something to find them in.
    pub const fn want_offers(&mut self) {
        self.wants_offers = true;
    }

    /// Says up to which rate the line can be set here, in baud.
    pub const fn set_baud_max(&mut self, rate: u32) {
        self.baud_max = rate;
    }

    /// Notes that the frame `sequence` came.
    pub fn frame(&mut self, sequence: u32) {
        self.has_news = true;
        let Some(newest) = self.newest else {
            self.newest = Some(sequence);
            self.is_urgent = true;
            return;
        };
        let ahead = sequence.wrapping_sub(newest);
        if ahead == 0 {
            return;
        }
        if ahead < 1 << 31 {
            // Something between was lost: the sooner this is known, the sooner it comes again.
            self.is_urgent |= ahead > 1;
            self.shift(ahead);
            self.newest = Some(sequence);
        } else {
            self.set_seen(newest.wrapping_sub(sequence));
        }
    }

    /// Moves the map by `ahead` frames, the newest of before among them.
    fn shift(&mut self, ahead: u32) {
        let mut seen = [0; BITS as usize / 64];
        let old = self.seen;
        for index in 0..BITS {
            let is_seen = match index.checked_sub(ahead) {
                Some(before) => bit(&old, before),
                None => index.saturating_add(1) == ahead,
            };
            if is_seen && let Some(word) = seen.get_mut(index as usize / 64) {
                *word |= 1 << (index % 64);
            }
        }
        self.seen = seen;
    }

    fn set_seen(&mut self, back: u32) {
        if let Some(index) = back.checked_sub(1)
            && let Some(word) = self.seen.get_mut(index as usize / 64)
        {
            *word |= 1 << (index % 64);
        }
    }

    /// Notes that the block `number` is stored and will not be needed again.
    pub fn stored(&mut self, number: u32) {
        self.has_news = true;
        self.is_urgent = true;
        let at = self.stored.partition_point(|&(_, end)| end < number);
        match self.stored.get_mut(at) {
            Some((first, end)) if *first <= number && number < *end => {}
            Some((_, end)) if *end == number => {
                *end = number.saturating_add(1);
                let end = *end;
                if let Some(&(next, next_end)) = self.stored.get(at.saturating_add(1))
                    && next == end
                {
                    if let Some(range) = self.stored.get_mut(at) {
                        range.1 = next_end;
                    }
                    self.stored.remove(at.saturating_add(1));
                }
            }
            Some((first, _)) if *first == number.saturating_add(1) => *first = number,
            _ => self.stored.insert(at, (number, number.saturating_add(1))),
        }
    }

    /// Notes that the block `number` came whole and was not believed; `None` when that is mended.
    pub const fn rejected(&mut self, number: Option<u32>) {
        self.rejected = number;
        self.is_urgent |= number.is_some();
    }

    /// Notes that the target asked, or that its last frame came.
    pub const fn asked(&mut self, has_finished: bool) {
        self.has_finished |= has_finished;
        self.is_urgent = true;
    }

    /// Returns the frame with the status, when it is time for one.
    pub fn next(&mut self, now_us: u64) -> Option<Vec<u8>> {
        let since = self.last_us.map(|last| now_us.saturating_sub(last));
        let is_due = self.is_urgent || self.has_news && since.is_none_or(|us| us >= REGULAR_US);
        if !is_due || since.is_some_and(|us| us < PAUSE_US) {
            return None;
        }
        self.last_us = Some(now_us);
        self.has_news = false;
        self.is_urgent = false;
        let status = self.status()?;
        let mut payload = [0; Status::LEN_MAX];
        let len = status.encode(&mut payload).ok()?;
        self.frame_of(FrameType::Status, payload.get(..len)?).ok()
    }

    /// Returns a frame of another type.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn frame_of(&mut self, kind: FrameType, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = [0; LINE_MAX];
        let len = self.sender.frame(kind, [payload, &[]], &mut out)?;
        Ok(out.get(..len).unwrap_or_default().to_vec())
    }

    /// Returns what there is to say; `None` before the first frame.
    fn status(&mut self) -> Option<Status> {
        let first_missing = match self.stored.first() {
            Some(&(0, end)) => end,
            _ => 0,
        };
        let mut status = Status {
            has_finished: self.has_finished,
            wants_offers: self.wants_offers,
            baud_max: self.baud_max,
            newest: self.newest?,
            first_missing,
            rejected: self.rejected.unwrap_or(NO_BLOCK),
            ..Status::new(self.session)
        };
        let bytes = self.seen.iter().flat_map(|word| word.to_le_bytes());
        for (to, from) in status.frames.iter_mut().zip(bytes) {
            *to = from;
        }
        debug_assert_eq!(MAP_LEN, size_of_val(&self.seen));
        for after in 1..=BITS {
            if self.is_stored(first_missing.saturating_add(after)) {
                status.set_block(after);
            }
        }
        // In turns, so that a target learns all of them from a few statuses.
        let ranges = self.stored.iter().skip(self.next_range).take(RANGES_MAX);
        let mut count = 0_u8;
        for (to, &(first, end)) in status.ranges.iter_mut().zip(ranges) {
            *to = (first, end.saturating_sub(first));
            count = count.saturating_add(1);
        }
        status.range_count = count;
        self.next_range = self.next_range.saturating_add(RANGES_MAX);
        if self.next_range >= self.stored.len() {
            self.next_range = 0;
        }
        Some(status)
    }

    fn is_stored(&self, number: u32) -> bool {
        let at = self.stored.partition_point(|&(_, end)| end <= number);
        self.stored
            .get(at)
            .is_some_and(|&(first, _)| first <= number)
    }
}

fn bit(map: &[u64; BITS as usize / 64], index: u32) -> bool {
    map.get(index as usize / 64)
        .is_some_and(|word| word & 1 << (index % 64) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::{Event, Receiver};

    /// Returns the status that is sent at `now_us`, if one is.
    fn status(answers: &mut Answers, now_us: u64) -> Option<Status> {
        let line = answers.next(now_us)?;
        let mut found = None;
        Receiver::new().push(&line, |event| {
            if let Event::Frame(frame) = event {
                found = Status::decode(frame.payload).ok();
            }
        });
        found
    }

    #[test]
    fn frames_lost_and_late_are_told() {
        let mut answers = Answers::new(1, 2);
        for sequence in [10, 11, 14, 13] {
            answers.frame(sequence);
        }
        let status = status(&mut answers, 0).unwrap();
        assert_eq!(status.newest, 14);
        let told = [14, 13, 12, 11, 10, 9].map(|sequence| status.has_frame(sequence));
        assert_eq!(
            told,
            [true, true, false, true, true, false].map(Some),
            "what never came counts as lost"
        );
    }

    #[test]
    fn sequence_that_wraps_goes_on() {
        let mut answers = Answers::new(1, 2);
        answers.frame(u32::MAX);
        answers.frame(0);
        answers.frame(300);
        let status = status(&mut answers, 0).unwrap();
        assert_eq!(status.has_frame(299), Some(false));
        assert_eq!(status.has_frame(0), None);
    }

    #[test]
    fn blocks_stored_in_any_order_are_told() {
        let mut answers = Answers::new(1, 2);
        answers.frame(0);
        for number in [5, 0, 2, 1, 4, 9, 0] {
            answers.stored(number);
        }
        let status = status(&mut answers, 0).unwrap();
        assert_eq!(status.first_missing, 3);
        let stored = (0..12).filter(|&number| status.has_block(number));
        assert_eq!(stored.collect::<Vec<_>>(), [0, 1, 2, 4, 5, 9]);
    }

    #[test]
    fn ranges_beyond_a_status_come_in_turns() {
        let mut answers = Answers::new(1, 2);
        answers.frame(0);
        (0..12).for_each(|n| answers.stored(1000 + 2 * n));
        let first = status(&mut answers, 0).unwrap();
        answers.asked(false);
        let second = status(&mut answers, 1_000_000).unwrap();
        assert_eq!((first.range_count, second.range_count), (8, 4));
        assert!(first.has_block(1000) && !first.has_block(1022) && second.has_block(1022));
    }

    #[test]
    fn statuses_keep_their_distance() {
        let mut answers = Answers::new(1, 2);
        assert!(answers.next(0).is_none(), "nothing came yet");
        answers.frame(0);
        assert!(answers.next(0).is_some());
        answers.frame(1);
        assert!(answers.next(50_000).is_none());
        answers.frame(3);
        assert!(answers.next(10_000).is_none());
        assert!(answers.next(20_000).is_some());
        assert!(answers.next(500_000).is_none());
    }
}
