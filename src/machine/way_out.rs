// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a dump leaves the machine: the console's UART, or a file of the debugger's host.
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

use crate::semihosting::HostFile;
use crate::{console, watchdog};

/// An open way out.
#[derive(Debug)]
pub struct WayOut(Option<HostFile>);

impl WayOut {
    /// Opens a file on the host if that `is_semihosting` wanted and somebody takes it; else the UART serves.
    pub fn open(is_semihosting: bool) -> Self {
        Self(is_semihosting.then(HostFile::create_new).flatten())
    }

    /// Whether what is written arrives as it is.
    pub fn is_perfect(&self) -> bool {
        self.0.is_some()
    }

    /// Takes what it can of `bytes` and returns how many that were.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        match &mut self.0 {
            Some(file) => {
                let taken = file.write(bytes);
                if taken > 0 {
                    watchdog::progress();
                }
                taken
            }
            None => console::try_write(bytes),
        }
    }
}
