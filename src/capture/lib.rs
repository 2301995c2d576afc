// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's logic: what is read from a crashed machine, in which order, and how it goes to the line.
//!
//! Portable: memory is seen through [`vmcore::PhysMemory`], the line through [`Line`], time through [`Clock`], so the
//! same code runs in the capture kernel and in host tests. Everything read from memory, DTB, notes or the line is taken for
//! damaged: no allocation, no unchecked index or arithmetic, every loop bounded. Nothing waits: whatever takes time calls
//! `port::Port::pump` in between, which feeds the line and listens to it.
#![no_std]
#![forbid(unsafe_code)]
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use core::fmt;

use vmcore::PhysRange;
use vmcore::afterimage_notes::Region;

mod dump;
mod effort;
mod facts;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fake;
mod foreign;
mod frames;
mod granules;
mod index;
#[cfg(test)]
mod machine;
mod manifest;
mod marks;
mod old_notes;
mod pages;
pub mod params;
mod pass;
mod plan;
mod port;
mod prompt;
mod report;
mod room;
mod send;
mod survey;
#[cfg(test)]
mod tests;
mod text;
mod tombstone;
mod translate;
mod walk;
mod wires;

pub use dump::{Outcome, Totals, Workspace, run};
pub use params::{DumpEffort, DumpThen, DumpTo, Params};
pub use room::{Room, Sizes};
pub use tombstone::{MAX_FAILURES, Tombstone, WORDS};
pub use walk::PageCounts;
pub use wires::{Counter, Wires};

/// Why a dump ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The line took no more bytes within its bounded wait.
    LineStuck {
        /// Bytes it took of this write.
        accepted: usize,
        /// Bytes it was given.
        offered: usize,
    },
    /// Something could not be put into a frame.
    Wire(wire::Error),
    /// The capture kernel itself failed too often.
    Failed {
        /// How often.
        failures: u64,
    },
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        Self::Wire(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineStuck { accepted, offered } => {
                write!(f, "line stuck after {accepted} of {offered} bytes")
            }
            Self::Wire(error) => write!(f, "{error}"),
            Self::Failed { failures } => {
                write!(f, "the capture kernel itself failed {failures} times")
            }
        }
    }
}

impl core::error::Error for Error {}

/// The way out and back. No call waits.
pub trait Line {
    /// Takes what it can of `bytes` now, and returns how many that were.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Takes what it can of a text for people, which goes to the console.
    fn write_text(&mut self, bytes: &[u8]) -> usize {
        self.write(bytes)
    }

    /// Returns the next byte that came from the host, if there is one.
    fn read(&mut self) -> Option<u8>;

    /// Whether what is written arrives as it is, so that neither parity nor a second round is of use.
    fn is_perfect(&self) -> bool {
        false
    }

    /// Returns the rate in baud; 0 when it is not known.
    fn rate(&self) -> u32 {
        0
    }

    /// Tells whether the line can be set to `rate` baud.
    fn can_set(&self, _rate: u32) -> bool {
        false
    }

    /// Waits, for a bounded time, until all that was taken has left, and sets the rate.
    fn set_rate(&mut self, _rate: u32) -> bool {
        false
    }

    /// Learns what the CPU did since the last call. A watchdog wants to know; a simulated line lets time pass.
    fn spent(&mut self, _work: Work) {}
}

/// Something that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Looking whether there is something to do.
    Idle,
    /// Waiting, without end, for somebody at the console.
    Prompt,
    /// So many pages were looked at or copied.
    Pages(u32),
    /// A page was hashed.
    Hashed,
    /// The encoder went on by one to four bytes of input, at this effort.
    Encoded(u8),
}

/// Bytes, and where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// Physical address.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What the capture kernel was handed, already checked for its place and length.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `/chosen/bootargs` of this kernel's device tree.
    pub bootargs: &'a [u8],
    /// `linux,elfcorehdr`, if there is one.
    pub elfcorehdr: Option<Located<'a>>,
    /// All RAM that the device tree names; empty if it names none.
    pub memory: &'a [PhysRange],
    /// This kernel's own memory, `linux,usable-memory-range`: never dumped.
    pub own: &'a [PhysRange],
    /// Memory that others than the CPUs use, as whole pages: never read, and named in the dump. It may lie outside `memory`.
    pub foreign: &'a [Region],
    /// Rate of the [`Clock`] in Hz.
    pub counter_hz: u64,
    /// The [`Clock`] when this kernel was entered; 0 when that is not known.
    pub entry_ticks: u64,
}

/// A counter that runs at a constant rate and never stands still for long.
pub trait Clock {
    /// Returns the counter's value, in ticks of the rate given beside it.
    fn ticks(&self) -> u64;
}
