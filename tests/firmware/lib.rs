// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sensor node's firmware: keys that must not leak, samples that need not travel, a trace, and two tasks.
//!
//! It shows what a program tells Afterimage about itself. Nothing here is unsafe.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod memory;
pub mod tasks;

use kernel::Board;

/// The board: what its device tree does not say.
pub const BOARD: Board = Board {
    name: "sensor node on QEMU virt",
    early_pl011: Some(0x0900_0000),
    // An ELF loader passes no device tree; QEMU puts it at the start of RAM.
    fallback_dtb: Some(0x4000_0000),
    last_resort: &[],
    ..Board::GENERIC
};

/// Whether a command line holds a word.
#[must_use]
pub fn has_word(command_line: &[u8], word: &str) -> bool {
    command_line
        .split(u8::is_ascii_whitespace)
        .any(|found| found == word.as_bytes())
}
