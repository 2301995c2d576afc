// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's logic: what is read from a crashed machine, in which order, and how it goes to the line.
//!
//! Portable: memory is seen through [`vmcore::PhysMemory`], the line through [`Line`], time through [`Clock`], so the
//! same code runs in the capture kernel and in host tests. Everything read from memory, DTB or notes is taken for damaged:
//! no allocation (the encoder's arena excepted), no unchecked index or arithmetic, every loop bounded.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

mod frames;
mod old_notes;
mod pages;
pub mod params;
pub mod plan;
mod text;

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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineStuck { accepted, offered } => {
                write!(f, "line stuck after {accepted} of {offered} bytes")
            }
        }
    }
}

/// The way out.
pub trait Line {
    /// Sends all of `bytes`, waiting at most a bounded time.
    ///
    /// # Errors
    /// [`Error::LineStuck`] if that time passed.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// A counter that runs at a constant rate.
pub trait Clock {
    /// Returns the counter's value, in ticks of the rate given beside it.
    fn ticks(&self) -> u64;
}
