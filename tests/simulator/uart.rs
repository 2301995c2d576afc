// SPDX-License-Identifier: MIT OR Apache-2.0
//! The target's UART: FIFOs of fixed depth, a byte at a time on the line, and overruns.

use std::collections::VecDeque;

/// Start bit, eight data bits, stop bit.
pub const BITS_PER_BYTE: u64 = 10;

/// Returns the time of a byte on the line, in nanoseconds.
#[must_use]
pub const fn byte_ns(baud: u32) -> u64 {
    let baud = if baud == 0 { 1 } else { baud as u64 };
    BITS_PER_BYTE * 1_000_000_000 / baud
}

/// The UART.
#[derive(Clone, Debug)]
pub struct Uart {
    baud: u32,
    depth: usize,
    transmit: VecDeque<u8>,
    /// What others write to the same line; it goes first.
    foreign: VecDeque<u8>,
    /// The byte on the line, and when it has left.
    shift: Option<(u8, u64)>,
    receive: VecDeque<u8>,
    overruns: u64,
}

impl Uart {
    /// Makes a UART with FIFOs of `depth` bytes.
    #[must_use]
    pub const fn new(baud: u32, depth: usize) -> Self {
        Self {
            baud,
            depth,
            transmit: VecDeque::new(),
            foreign: VecDeque::new(),
            shift: None,
            receive: VecDeque::new(),
            overruns: 0,
        }
    }

    /// Returns the rate in baud.
    #[must_use]
    pub const fn baud(&self) -> u32 {
        self.baud
    }

    /// Sets the rate; what is on the line leaves as it began.
    pub const fn set_baud(&mut self, baud: u32) {
        self.baud = baud;
    }

    /// Returns how many bytes came that nobody took in time.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Takes what the transmit FIFO has room for, and returns how many bytes that were.
    pub fn write(&mut self, bytes: &[u8], now: u64) -> usize {
        let len = bytes
            .len()
            .min(self.depth - self.transmit.len().min(self.depth));
        self.transmit.extend(bytes.iter().take(len));
        self.start(now);
        len
    }

    /// Puts text of others on the line, as soon as the byte on it has left.
    pub fn intrude(&mut self, text: &[u8]) {
        self.foreign.extend(text);
    }

    /// Returns when the byte on the line has left.
    #[must_use]
    pub fn leaves_at(&self) -> Option<u64> {
        self.shift.map(|(_, at)| at)
    }

    /// Takes the byte that has left by `now`; [`Uart::start`] is to follow.
    pub fn left(&mut self, now: u64) -> Option<u8> {
        let (byte, _) = self.shift.take_if(|(_, at)| *at <= now)?;
        Some(byte)
    }

    /// Tells whether all has left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shift.is_none() && self.transmit.is_empty()
    }

    /// Starts the next byte at `now`, if the line is free.
    pub fn start(&mut self, now: u64) {
        if self.shift.is_none() {
            let byte = self
                .foreign
                .pop_front()
                .or_else(|| self.transmit.pop_front());
            self.shift = byte.map(|byte| (byte, now + byte_ns(self.baud)));
        }
    }

    /// Takes a byte in from the line, or loses it.
    pub fn arrive(&mut self, byte: u8) {
        if self.receive.len() < self.depth {
            self.receive.push_back(byte);
        } else {
            self.overruns += 1;
        }
    }

    /// Returns the next byte that came.
    pub fn read(&mut self) -> Option<u8> {
        self.receive.pop_front()
    }

    /// Tells whether a byte waits to be read.
    #[must_use]
    pub fn has_received(&self) -> bool {
        !self.receive.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_takes_what_there_is_room_for() {
        let mut uart = Uart::new(1_000_000, 4);
        // One goes to the line at once.
        assert_eq!(uart.write(&[1, 2, 3, 4, 5, 6], 0), 4);
        assert_eq!(uart.write(&[5, 6], 0), 1);
    }

    #[test]
    fn bytes_leave_one_after_the_other_without_a_gap() {
        let mut uart = Uart::new(1_000_000, 4);
        uart.write(&[1, 2], 5);
        assert_eq!(uart.leaves_at(), Some(10_005));
        assert_eq!(uart.left(10_004), None);
        assert_eq!(uart.left(10_005), Some(1));
        uart.start(10_005);
        assert_eq!(uart.leaves_at(), Some(20_005));
        assert_eq!(uart.left(20_005), Some(2));
        assert!(uart.is_idle());
    }

    #[test]
    fn bytes_that_nobody_reads_overrun() {
        let mut uart = Uart::new(1_000_000, 2);
        (0..5).for_each(|byte| uart.arrive(byte));
        assert_eq!(uart.overruns(), 3);
        assert_eq!(
            (uart.read(), uart.read(), uart.read()),
            (Some(0), Some(1), None)
        );
    }

    #[test]
    fn byte_at_115200_baud_takes_87_microseconds() {
        assert_eq!(byte_ns(115_200), 86_805);
    }
}
