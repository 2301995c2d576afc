// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host says to the machine whose dump it receives, and when.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use wire::{Answers, FrameType, Want};

/// How long the last frames may fail to be repeated until the target has surely heard.
const QUIET: Duration = Duration::from_millis(300);
/// Longest time that the end of a dump is answered.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Returns a number that no other run of the command has: the target tells a restarted host by it.
#[must_use]
pub fn new_session() -> u32 {
    // The standard library draws its hash keys from the operating system.
    let drawn = RandomState::new().build_hasher().finish();
    // 0 stands for nobody.
    ((drawn ^ (drawn >> 32)) as u32).max(1)
}

/// The answers about one dump.
#[derive(Debug)]
pub struct Answering {
    answers: Answers,
    session: u32,
    epoch: Instant,
    /// Frames that are to be sent at once.
    ready: Vec<u8>,
}

impl Answering {
    /// Starts for the dump of this short id.
    #[must_use]
    pub fn new(dump: u32, session: u32) -> Self {
        Self {
            answers: Answers::new(dump, session),
            session,
            epoch: Instant::now(),
            ready: Vec::new(),
        }
    }

    /// Returns this run's number.
    #[must_use]
    pub const fn session(&self) -> u32 {
        self.session
    }

    /// Returns what the status is made of.
    pub const fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// Says which pages of an offer are wanted.
    pub fn want(&mut self, want: &Want) {
        let mut payload = [0; Want::LEN_MAX];
        if let Ok(len) = want.encode(&mut payload) {
            self.say(FrameType::Want, payload.get(..len).unwrap_or_default());
        }
    }

    /// Queues a frame.
    pub fn say(&mut self, kind: FrameType, payload: &[u8]) {
        // All that is said here is far shorter than a frame.
        if let Ok(frame) = self.answers.frame_of(kind, payload) {
            self.ready.extend(frame);
        }
    }

    /// Returns the bytes that are to be sent now.
    pub fn take(&mut self, now: Instant) -> Vec<u8> {
        let now_us = now.saturating_duration_since(self.epoch).as_micros();
        let status = self.answers.next(u64::try_from(now_us).unwrap_or(u64::MAX));
        let mut bytes = status.unwrap_or_default();
        // Last, since after the word on a change of speed the target hears nothing at the rate of before.
        bytes.append(&mut self.ready);
        bytes
    }
}

/// The time after a dump in which the target may still ask whether its end was heard.
#[derive(Debug)]
pub struct Leave {
    answering: Answering,
    dump: u32,
    began: Instant,
    last_frame: Instant,
}

impl Leave {
    /// Starts when the dump of this short id has ended.
    #[must_use]
    pub fn new(mut answering: Answering, dump: u32) -> Self {
        let now = Instant::now();
        answering.answers.asked(true);
        Self {
            answering,
            dump,
            began: now,
            last_frame: now,
        }
    }

    /// Takes in a frame; returns whether it was of the dump that ended.
    pub fn frame(&mut self, header: &wire::frame::Header) -> bool {
        if header.dump != self.dump {
            return false;
        }
        self.last_frame = Instant::now();
        self.answering.answers.frame(header.sequence);
        self.answering.answers.asked(true);
        true
    }

    /// Returns the bytes that are to be sent now.
    pub fn take(&mut self, now: Instant) -> Vec<u8> {
        self.answering.take(now)
    }

    /// Returns whether nobody asks any more.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_frame) >= QUIET
            || now.saturating_duration_since(self.began) >= LEAVE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::Header;
    use wire::receiver::{Event, Receiver};
    use wire::{Frame, Status};

    fn statuses(line: &[u8]) -> Vec<Status> {
        let mut found = Vec::new();
        Receiver::new().push(line, |event| {
            if let Event::Frame(frame @ Frame { .. }) = event
                && frame.kind() == Some(FrameType::Status)
            {
                found.push(Status::decode(frame.payload).expect("status"));
            }
        });
        found
    }

    const HEADER: Header = Header {
        version: 2,
        kind: 4,
        dump: 7,
        sequence: 9,
    };

    #[test]
    fn sessions_differ_and_are_not_nobody() {
        let drawn: std::collections::BTreeSet<u32> = (0..8).map(|_| new_session()).collect();
        assert!(drawn.len() > 6 && !drawn.contains(&0));
    }

    #[test]
    fn end_is_answered_until_it_is_not_repeated() {
        let mut answering = Answering::new(7, 5);
        answering.answers().frame(8);
        let mut leave = Leave::new(answering, 7);
        let now = leave.began;
        let said = statuses(&leave.take(now));
        assert!(said[0].has_finished && said[0].session == 5);
        assert!(!leave.is_over(now));
        assert!(leave.frame(&HEADER));
        let later = now + Duration::from_millis(100);
        assert!(statuses(&leave.take(later))[0].has_finished);
        assert!(leave.is_over(now + LEAVE_MAX + QUIET));
    }

    #[test]
    fn frame_of_another_dump_is_not_answered() {
        let mut leave = Leave::new(Answering::new(7, 5), 7);
        assert!(!leave.frame(&Header { dump: 8, ..HEADER }));
        assert!(leave.take(leave.began).is_empty());
    }

    #[test]
    fn want_is_said_at_once() {
        let mut answering = Answering::new(7, 5);
        answering.want(&Want::nothing(3, 4));
        let line = answering.take(Instant::now());
        let mut found = None;
        Receiver::new().push(&line, |event| {
            if let Event::Frame(frame) = event {
                found = Want::decode(frame.payload).ok();
            }
        });
        assert_eq!(found, Some(Want::nothing(3, 4)));
    }
}
