// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's logic: what is read from a crashed machine, in which order, and how it goes to the line.
//!
//! Portable: memory is seen through [`vmcore::PhysMemory`], the line through [`Line`], time through [`Clock`], so the
//! same code runs in the capture kernel and in host tests. Everything read from memory, DTB or notes is taken for damaged:
//! no allocation (the encoder's arena excepted), no unchecked index or arithmetic, every loop bounded.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use vmcore::PhysRange;

mod dump;
mod facts;
#[cfg(test)]
mod fake;
mod frame_out;
mod frames;
#[cfg(test)]
mod machine;
mod manifest;
mod marks;
mod old_notes;
mod pages;
pub mod params;
mod plan;
mod report;
mod survey;
#[cfg(test)]
mod tests;
mod text;
mod translate;
mod vmcoreinfo;
mod walk;

pub use dump::{Outcome, Totals, Workspace, run};
pub use params::{DumpThen, Params};
pub use walk::PageCounts;

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
        }
    }
}

impl core::error::Error for Error {}

/// The way out.
pub trait Line {
    /// Sends all of `bytes`, waiting at most a bounded time.
    ///
    /// # Errors
    /// [`Error::LineStuck`] if that time passed.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
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
    /// This kernel's own memory, `linux,usable-memory-range`, and whatever else must not be read: never dumped.
    pub own: &'a [PhysRange],
    /// Rate of the [`Clock`] in Hz.
    pub counter_hz: u64,
}

/// A counter that runs at a constant rate.
pub trait Clock {
    /// Returns the counter's value, in ticks of the rate given beside it.
    fn ticks(&self) -> u64;
}
