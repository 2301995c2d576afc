// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line with its state machine: frames go out and answers come in, whenever there is a moment.

use wire::frame::LINE_MAX;
use wire::{FrameType, Target};

use crate::{Clock, Error, Line, Work};

/// Bytes that are taken from the line in one look: a UART's FIFO and more.
const READ_MAX: usize = 64;
/// Frames that are handed to the line in one look: it bounds a line that takes everything at once.
const FRAMES_MAX: usize = 8;
/// Calls of the encoder for one look at the line: each look reads the UART's registers.
const ENCODED_SKIP: u32 = 16;
/// Time in which the line must take a byte, in microseconds. At 300 baud a byte takes 33 ms.
const STUCK_US: u64 = 10_000_000;

/// Rates that are tried above the one of the console, in baud.
const RATES: [u32; 5] = [230_400, 460_800, 921_600, 1_500_000, 3_000_000];

/// Where frames go.
#[derive(Debug)]
pub(crate) struct Port<'a, L: Line, C: Clock> {
    line: &'a mut L,
    clock: &'a C,
    counter_hz: u64,
    pub(crate) target: Target<'a>,
    frame: [u8; LINE_MAX],
    len: usize,
    sent: usize,
    /// When the line last took a byte, or had nothing to take.
    moved_us: u64,
    /// Bytes that the line took, and for how long it had some to take.
    taken: u64,
    busy_us: u64,
    looked_us: u64,
    /// Time spent inside calls that hand bytes over: a line that blocks holds the CPU up.
    writing_us: u64,
    /// Calls of the encoder.
    skipped: u32,
}

impl<'a, L: Line, C: Clock> Port<'a, L, C> {
    pub(crate) fn new(line: &'a mut L, clock: &'a C, counter_hz: u64, target: Target<'a>) -> Self {
        let mut port = Self {
            line,
            clock,
            counter_hz,
            target,
            frame: [0; LINE_MAX],
            len: 0,
            sent: 0,
            moved_us: 0,
            taken: 0,
            busy_us: 0,
            looked_us: 0,
            writing_us: 0,
            skipped: 0,
        };
        let now = port.now_us();
        (port.moved_us, port.looked_us) = (now, now);
        port
    }

    /// Returns the line, for text between dumps.
    pub(crate) const fn line(&mut self) -> &mut L {
        self.line
    }

    /// Tells the link which higher rates the line can be set to.
    pub(crate) fn allow_rates(&mut self) {
        let current = self.line.rate();
        if current == 0 {
            return;
        }
        let mut rates = [0; RATES.len()];
        let mut count = 0_usize;
        for rate in RATES
            .iter()
            .filter(|&&rate| rate > current && self.line.can_set(rate))
        {
            if let Some(place) = rates.get_mut(count) {
                *place = *rate;
                count = count.saturating_add(1);
            }
        }
        let higher = rates.get(..count).unwrap_or_default();
        self.target.set_rates(current, higher);
    }

    /// Begins the same dump once more: what was on its way is dropped.
    pub(crate) fn restart(&mut self) {
        (self.sent, self.len) = (0, 0);
        self.moved_us = self.now_us();
        self.target.restart();
    }

    /// Returns the time in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        let ticks = u128::from(self.clock.ticks()).saturating_mul(1_000_000);
        let us = ticks.checked_div(u128::from(self.counter_hz)).unwrap_or(0);
        u64::try_from(us).unwrap_or(u64::MAX)
    }

    /// Tells whether the line has all that there is to send now.
    pub(crate) const fn is_idle(&self) -> bool {
        self.sent >= self.len
    }

    /// Returns the bytes that the line took, and how long it took for them, in microseconds.
    pub(crate) const fn pace(&self) -> (u64, u64) {
        (self.taken, self.busy_us.saturating_add(self.writing_us))
    }

    /// Returns the time that the line held the CPU up, in microseconds.
    pub(crate) const fn writing_us(&self) -> u64 {
        self.writing_us
    }

    /// Feeds the line, and listens; `work` is what was done since the last call.
    ///
    /// # Errors
    /// [`Error::LineStuck`], [`Error::Wire`].
    pub(crate) fn pump(&mut self, work: Work) -> Result<(), Error> {
        self.line.spent(work);
        // The encoder calls after each byte or few, which is far more often than a FIFO of 16 bytes needs.
        if matches!(work, Work::Encoded(_)) {
            self.skipped = self.skipped.wrapping_add(1);
            if !self.skipped.is_multiple_of(ENCODED_SKIP) {
                return Ok(());
            }
        }
        let now = self.now_us();
        let mut received = [0; READ_MAX];
        let mut count = 0_usize;
        for place in &mut received {
            let Some(byte) = self.line.read() else { break };
            *place = byte;
            count = count.saturating_add(1);
        }
        if let Some(bytes) = received.get(..count).filter(|bytes| !bytes.is_empty()) {
            self.target.receive(bytes, now);
        }
        if self.sent < self.len {
            self.busy_us = self
                .busy_us
                .saturating_add(now.saturating_sub(self.looked_us));
        }
        self.looked_us = now;
        for _ in 0..FRAMES_MAX {
            if self.sent >= self.len {
                self.moved_us = now;
                if !self.next_frame(now)? {
                    return Ok(());
                }
            }
            let rest = self.frame.get(self.sent..self.len).unwrap_or_default();
            let taken = self.line.write(rest);
            if taken > 0 {
                let after = self.now_us();
                let held_us = after.saturating_sub(now);
                self.writing_us = self.writing_us.saturating_add(held_us);
            }
            self.sent = self.sent.saturating_add(taken);
            self.taken = self.taken.saturating_add(taken as u64);
            if taken > 0 {
                self.moved_us = now;
            }
            if self.sent < self.len {
                break;
            }
        }
        if now.saturating_sub(self.moved_us) > STUCK_US {
            return Err(Error::LineStuck {
                accepted: self.sent,
                offered: self.len,
            });
        }
        Ok(())
    }

    fn next_frame(&mut self, now_us: u64) -> Result<bool, Error> {
        (self.sent, self.len) = (0, 0);
        self.len = self.target.next_frame(now_us, &mut self.frame)?;
        // Only now, when everything that was handed out is with the line.
        if let Some(speed) = self.target.take_baud() {
            // What cannot be set is not confirmed, which leads back.
            let _is_set = self.line.set_rate(speed.rate);
        }
        Ok(self.len > 0)
    }

    /// Pumps until all that was queued is with the line.
    ///
    /// # Errors
    /// As [`Port::pump`].
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        // Bounded by the line's own bound.
        while !(self.is_idle() && self.target.is_sent()) {
            self.pump(Work::Idle)?;
        }
        Ok(())
    }

    /// Tells whether the line loses nothing.
    pub(crate) fn is_perfect(&self) -> bool {
        self.line.is_perfect()
    }

    /// Returns the clock's value.
    pub(crate) fn ticks(&self) -> u64 {
        self.clock.ticks()
    }

    /// Pumps until `is_done`; the caller sees to it that it becomes true some time.
    ///
    /// # Errors
    /// As [`Port::pump`].
    pub(crate) fn pump_until(
        &mut self,
        mut is_done: impl FnMut(&mut Target<'a>, u64) -> bool,
    ) -> Result<(), Error> {
        loop {
            let now = self.now_us();
            if is_done(&mut self.target, now) {
                return Ok(());
            }
            self.pump(Work::Idle)?;
        }
    }

    /// Queues a frame that is no piece, behind the one before.
    ///
    /// # Errors
    /// As [`Port::pump`]; [`Error::LineStuck`] too when the frame before does not leave.
    pub(crate) fn control(&mut self, kind: FrameType, payload: &[u8]) -> Result<(), Error> {
        self.pump_until(|target, _| target.control(kind, payload))
    }
}
