// SPDX-License-Identifier: MIT OR Apache-2.0
//! What pages of a running system look like: code, pointers, text, noise, and the same page again.

use vmcore::PAGE_SIZE;

use crate::rng::Rng;

/// Bytes of a page.
pub(crate) const PAGE: usize = PAGE_SIZE as usize;
const WORDS: [&str; 16] = [
    "sensor ", "task ", "ready ", "timeout ", "queue ", "empty ", "irq ", "error ", "state ", "0x",
    "init ", "ok\n", "value ", "buffer ", "failed ", "retry ",
];

/// A kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Instructions.
    Code,
    /// Structures: pointers, small numbers, zeros.
    Structures,
    /// Text.
    Text,
    /// What no encoder can shrink.
    Noise,
}

impl Contents {
    /// Draws a kind as they are found in RAM.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..2 => Self::Code,
            2..7 => Self::Structures,
            7..9 => Self::Text,
            _ => Self::Noise,
        }
    }

    /// Fills `page`, whose linear-map addresses begin at `base`.
    pub(crate) fn fill(self, base: u64, rng: &mut Rng, page: &mut [u8; PAGE]) {
        match self {
            Self::Code => words(page, 4, || code(rng)),
            Self::Structures => words(page, 8, || structure(base, rng)),
            Self::Text => text(rng, page),
            Self::Noise => rng.fill(page),
        }
    }
}

fn words(page: &mut [u8; PAGE], len: usize, mut draw: impl FnMut() -> u64) {
    for word in page.chunks_mut(len) {
        let bytes = draw().to_le_bytes();
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
}

/// An A64 instruction of the common kinds with some registers.
fn code(rng: &mut Rng) -> u64 {
    const KINDS: [u64; 8] = [
        0xf940_0000, // ldr
        0xf900_0000, // str
        0x9100_0000, // add
        0xaa00_03e0, // mov
        0x9400_0000, // bl
        0x5400_0001, // b.ne
        0xeb00_001f, // cmp
        0xa9bf_7bfd, // stp x29, x30
    ];
    let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
    // Low registers are the usual ones.
    kind | (rng.below(12) << 16) | (rng.below(8) << 5) | rng.below(8)
}

fn structure(base: u64, rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0..3 => 0,
        3..5 => rng.below(256),
        5 => base + (rng.below(64) << 6),
        6 => base.wrapping_sub(rng.below(1 << 12) << 8),
        _ => rng.below(1 << 32),
    }
}

fn text(rng: &mut Rng, page: &mut [u8; PAGE]) {
    let words = core::iter::from_fn(|| Some(WORDS[rng.below(WORDS.len() as u64) as usize]));
    let bytes = words.flat_map(str::bytes);
    page.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
}
