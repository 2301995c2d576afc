// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the image that outlives a restart of it: boot clears BSS and leaves these words alone.
//!
//! Whoever loads the image need not have cleared them: what is in them has to prove itself.
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

use core::sync::atomic::AtomicU64;

/// Words that survive.
pub const WORDS: usize = 64;

/// Placed by linker/sections.ld in front of what boot.s clears, in cache lines of its own.
#[unsafe(link_section = ".bss.survivor")]
static SURVIVOR: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// The words.
pub const fn words() -> &'static [AtomicU64; WORDS] {
    &SURVIVOR
}
