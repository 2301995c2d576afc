// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line made of functions: what a board has, in the shape that the logic wants.

use crate::{Clock, Line, Work};

/// A [`Line`] of functions.
pub struct Wires<'a> {
    /// Takes what it can of some bytes.
    pub write: &'a mut dyn FnMut(&[u8]) -> usize,
    /// Takes what it can of a text for people.
    pub text: fn(&[u8]) -> usize,
    /// Returns the next byte that came.
    pub read: fn() -> Option<u8>,
    /// Whether what is written arrives as it is.
    pub is_perfect: bool,
    /// Returns the rate in baud, when it is known.
    pub rate: fn() -> Option<u32>,
    /// Tells whether a rate can be set.
    pub can_set: fn(u32) -> bool,
    /// Sets the rate after all has left.
    pub set_rate: fn(u32) -> bool,
    /// Learns what the CPU did since the last call.
    pub spent: &'a dyn Fn(Work),
}

impl core::fmt::Debug for Wires<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wires").finish_non_exhaustive()
    }
}

impl Line for Wires<'_> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        (self.write)(bytes)
    }

    fn write_text(&mut self, bytes: &[u8]) -> usize {
        (self.text)(bytes)
    }

    fn read(&mut self) -> Option<u8> {
        (self.read)()
    }

    fn is_perfect(&self) -> bool {
        self.is_perfect
    }

    fn rate(&self) -> u32 {
        (self.rate)().unwrap_or(0)
    }

    fn can_set(&self, rate: u32) -> bool {
        (self.can_set)(rate)
    }

    fn set_rate(&mut self, rate: u32) -> bool {
        (self.set_rate)(rate)
    }

    fn spent(&mut self, work: Work) {
        (self.spent)(work);
    }
}

/// A counter that is read by a function.
#[derive(Clone, Copy, Debug)]
pub struct Counter(pub fn() -> u64);

impl Clock for Counter {
    fn ticks(&self) -> u64 {
        (self.0)()
    }
}
