// SPDX-License-Identifier: MIT OR Apache-2.0
//! What survives a failure of the capture kernel itself: where it was, and what it has failed at.
//!
//! It lies in memory that a restart leaves alone, and is kept up to date while the dump goes on. When an exception or a panic ends
//! the run, [`Tombstone::failed`] seals it; the next run finds the seal, leaves out what the last one failed at, and goes on. The
//! number of failures is bounded: after [`MAX_FAILURES`] the dump is only ended.
//!
//! Words, because words are written whole whatever happens in between. A checksum over them tells a sealed tombstone from what
//! happens to lie in memory.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use vmcore::{PhysRange, crc32c};
use wire::Next;

use crate::params::DumpThen;

/// Words of a tombstone.
pub const WORDS: usize = 64;
/// Failures after which a dump goes on.
pub const MAX_FAILURES: u64 = 8;
/// Failures before the first frame after which the elfcorehdr is not looked at any more.
const PRELUDE_FAILURES: u64 = 2;
/// Frames that may have been sent since the count was last kept: those of a whole window.
const SEQUENCE_SLACK: u32 = 1 << 18;

const RUNNING: u64 = u64::from_le_bytes(*b"dumping.");
const SEALED: u64 = u64::from_le_bytes(*b"tombston");

const STATE: usize = 0;
const CHECKSUM: usize = 1;
const FAILURES: usize = 2;
const PRELUDE: usize = 3;
const PHASE: usize = 4;
const BLOCK: usize = 5;
const STEP_START: usize = 6;
const STEP_END: usize = 7;
/// One more than the highest number of a block.
const BLOCKS: usize = 8;
const ROUND: usize = 9;
const SEQUENCE: usize = 10;
const UNSENT: usize = 11;
const ID: [usize; 2] = [12, 13];
const TICKS: usize = 14;
const THEN: usize = 15;
const IS_CLOSING: usize = 16;
const SKIPS: usize = 17;
const HAS_FAILED_AGAIN: usize = 18;
const FIRST_SKIP: usize = 24;
const SKIP_WORDS: usize = 4;

const _: () = assert!(FIRST_SKIP + SKIP_WORDS * MAX_FAILURES as usize <= WORDS);

/// What the capture kernel was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first block.
    Prelude = 0,
    /// It gathered a block.
    Reading = 1,
    /// It hashed, packed or sent a block.
    Sending = 2,
    /// The dump was over.
    Over = 3,
    /// All was sent, and memory was read again.
    ReadingAgain = 4,
}

/// Something that a run failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    /// The block in the making.
    pub(crate) block: u32,
    /// The pages that were being read; empty when the block as a whole is left out.
    pub(crate) pages: PhysRange,
    /// Program counter of the failure; 0 when it is not known.
    pub(crate) pc: u64,
    /// Later blocks had been sent before.
    is_late: bool,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            u32::MAX => write!(f, "failed at a block, in a numbering of before")?,
            block => write!(f, "failed at block {block}")?,
        }
        if !self.pages.is_empty() {
            let PhysRange { start, end } = self.pages;
            write!(f, ", reading memory {start:#x}..{end:#x}")?;
        }
        write!(f, " (pc {:#x}); it is left out", self.pc)
    }
}

/// The tombstone in its words.
#[derive(Clone, Copy, Debug)]
pub struct Tombstone<'a> {
    words: &'a [AtomicU64; WORDS],
}

impl<'a> Tombstone<'a> {
    /// Returns the tombstone in `words`, whatever they hold: for the end of a run.
    #[must_use]
    pub const fn new(words: &'a [AtomicU64; WORDS]) -> Self {
        Self { words }
    }

    /// Begins a run: keeps what a failed one sealed, and clears anything else.
    pub(crate) fn begin(words: &'a [AtomicU64; WORDS]) -> Self {
        let found = Self { words };
        let is_sealed = found.get(STATE) == SEALED && found.get(CHECKSUM) == found.checksum();
        if !is_sealed {
            words
                .iter()
                .for_each(|word| word.store(0, Ordering::SeqCst));
        }
        found.set(PHASE, Phase::Prelude as u64);
        found.set(STATE, RUNNING);
        found
    }

    /// Takes note of a failure, and seals what is known. `pc` is where it happened, 0 when that is not known. Returns what follows
    /// when it failed too often, or when all was over; `None` when the capture kernel is to be started anew.
    #[must_use]
    pub fn failed(&self, pc: u64) -> Option<DumpThen> {
        let failures = self.get(FAILURES).saturating_add(1);
        self.set(FAILURES, failures);
        let phase = self.get(PHASE);
        let is_running = matches!(self.get(STATE), RUNNING | SEALED);
        if !is_running || self.get(IS_CLOSING) != 0 || phase == Phase::Over as u64 {
            self.set(STATE, 0);
            return Some(self.then());
        }
        if phase == Phase::Prelude as u64 {
            self.set(PRELUDE, self.get(PRELUDE).saturating_add(1));
        } else if phase == Phase::ReadingAgain as u64 {
            self.set(HAS_FAILED_AGAIN, 1);
        } else {
            self.bury(phase == Phase::Reading as u64, pc);
        }
        if failures > MAX_FAILURES {
            self.set(IS_CLOSING, 1);
        }
        self.set(CHECKSUM, self.checksum());
        self.set(STATE, SEALED);
        None
    }

    /// Adds what the run failed at to what is left out.
    fn bury(&self, is_reading: bool, pc: u64) {
        let block = self.get(BLOCK);
        let is_late = block.saturating_add(1) < self.get(BLOCKS);
        if is_reading && is_late {
            // Blocks that were sent as later ones would be others now: it becomes another dump, without what was said by number.
            ID.iter().for_each(|&word| self.set(word, 0));
            [BLOCKS, ROUND, UNSENT]
                .iter()
                .for_each(|&word| self.set(word, 0));
            for skip in 0..self.skip_count() {
                let [_, start, end, _] = skip_words(skip);
                if self.get(start) == self.get(end) {
                    self.set(skip_words(skip)[0], u64::MAX);
                }
            }
        }
        let count = self.skip_count();
        if count >= MAX_FAILURES as usize {
            self.set(IS_CLOSING, 1);
            return;
        }
        let [number, start, end, at] = skip_words(count);
        self.set(number, block | u64::from(is_late && !is_reading) << 32);
        let pages = if is_reading {
            [self.get(STEP_START), self.get(STEP_END)]
        } else {
            [0, 0]
        };
        self.set(start, pages[0]);
        self.set(end, pages[1]);
        self.set(at, pc);
        self.set(SKIPS, (count as u64).saturating_add(1));
    }

    fn get(&self, word: usize) -> u64 {
        self.words
            .get(word)
            .map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// A failure may come at the next instruction, so no store is put off.
    fn set(&self, word: usize, value: u64) {
        if let Some(word) = self.words.get(word) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn checksum(&self) -> u64 {
        let mut bytes = [0; (WORDS - FAILURES) * 8];
        let words = self.words.iter().skip(FAILURES);
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.load(Ordering::SeqCst).to_le_bytes();
        }
        // Of zeros, too, it is none that memory happens to hold.
        u64::from(crc32c(&bytes)) ^ SEALED
    }

    // What a run finds.

    /// Returns how often the capture kernel has failed since the crash.
    pub(crate) fn failures(&self) -> u64 {
        self.get(FAILURES)
    }

    /// Tells whether it has failed before the first block so often that the elfcorehdr is not to be looked at.
    pub(crate) fn is_header_suspect(&self) -> bool {
        self.get(PRELUDE) >= PRELUDE_FAILURES
    }

    /// Tells whether it has failed when memory was read again.
    pub(crate) fn has_failed_again(&self) -> bool {
        self.get(HAS_FAILED_AGAIN) != 0
    }

    /// Tells whether it has failed too often: the dump is only ended.
    pub(crate) fn is_closing(&self) -> bool {
        self.get(IS_CLOSING) != 0
    }

    /// Returns the id of the dump that is to go on, and the counter at its first frame.
    pub(crate) fn dump(&self) -> Option<([u8; 16], u64)> {
        let id = ID.map(|word| self.get(word));
        let bytes = (u128::from(id[1]) << 64 | u128::from(id[0])).to_le_bytes();
        (id != [0; 2]).then(|| (bytes, self.get(TICKS)))
    }

    /// Returns the number from which frames are to be counted.
    pub(crate) fn next_sequence(&self) -> u32 {
        let kept = self.get(SEQUENCE) as u32;
        if self.failures() == 0 {
            kept
        } else {
            kept.wrapping_add(SEQUENCE_SLACK)
        }
    }

    /// Returns the round that is to go on, and the first of its blocks that may not have been sent.
    pub(crate) fn round(&self) -> (u32, u32) {
        // Of the block before, the last frame may have been on its way.
        let unsent = self.get(UNSENT).min(self.get(BLOCK)).saturating_sub(1);
        let block = if self.dump().is_some() { unsent } else { 0 };
        (self.get(ROUND) as u32, u32::try_from(block).unwrap_or(0))
    }

    /// Tells whether the block `number` is left out as a whole: `Some(true)` when later blocks may refer to its pages all the same.
    pub(crate) fn skipped_block(&self, number: u32) -> Option<bool> {
        self.skips()
            .find(|skip| skip.block == number && skip.pages.is_empty())
            .map(|skip| skip.is_late)
    }

    /// Returns the first pages in `range` that are left out.
    pub(crate) fn skipped_pages(&self, range: PhysRange) -> Option<PhysRange> {
        self.skips()
            .map(|skip| skip.pages.intersection(&range))
            .filter(|pages| !pages.is_empty())
            .min_by_key(|pages| pages.start)
    }

    /// Tells whether it has failed at the block `number`.
    pub(crate) fn has_failed_at(&self, number: u32) -> bool {
        self.skips().any(|skip| skip.block == number)
    }

    /// Returns what it has failed at.
    pub(crate) fn skips(&self) -> impl Iterator<Item = Skip> + use<'a> {
        let found = *self;
        (0..self.skip_count()).map(move |number| {
            let [block, start, end, pc] = skip_words(number).map(|word| found.get(word));
            Skip {
                block: block as u32,
                pages: PhysRange { start, end },
                pc,
                is_late: block >> 32 & 1 != 0,
            }
        })
    }

    fn skip_count(&self) -> usize {
        self.get(SKIPS).min(MAX_FAILURES) as usize
    }

    /// Returns what follows a dump that failed: a prompt needs a capture kernel that works, so it is the halt.
    #[must_use]
    pub fn then(&self) -> DumpThen {
        let next = Next::from_code(self.get(THEN) as u8);
        DumpThen::from_wire(next).unwrap_or(DumpThen::Reboot)
    }

    // What a run leaves.

    /// Keeps what follows the dump.
    pub(crate) fn set_then(&self, then: DumpThen) {
        let then = match then {
            DumpThen::Wait => DumpThen::Halt,
            then => then,
        };
        self.set(THEN, u64::from(then.on_the_wire().code()));
    }

    /// Keeps the id of the dump and the counter at its first frame.
    pub(crate) fn set_dump(&self, id: [u8; 16], ticks: u64) {
        let id = u128::from_le_bytes(id);
        // The truncation takes the low word.
        self.set(ID[0], id as u64);
        self.set(ID[1], (id >> 64) as u64);
        self.set(TICKS, ticks);
    }

    /// Keeps the round that begins.
    pub(crate) fn set_round(&self, round: u32) {
        self.set(ROUND, u64::from(round));
    }

    /// Keeps which pages of the block `block` are being read.
    pub(crate) fn reading(&self, block: u32, pages: PhysRange) {
        self.set(BLOCK, u64::from(block));
        self.set(STEP_START, pages.start);
        self.set(STEP_END, pages.end);
        self.set(PHASE, Phase::Reading as u64);
    }

    /// Keeps that all was sent, and memory is being read again.
    pub(crate) fn reading_again(&self) {
        self.set(PHASE, Phase::ReadingAgain as u64);
    }

    /// Keeps which block is being sent.
    pub(crate) fn sending(&self, block: u32) {
        let block = u64::from(block);
        self.set(BLOCK, block);
        self.set(PHASE, Phase::Sending as u64);
        self.set(BLOCKS, self.get(BLOCKS).max(block.saturating_add(1)));
    }

    /// Keeps how far the line is: frames made, first block not handed out whole.
    pub(crate) fn line(&self, frames: u32, first_unsent: u32) {
        self.set(SEQUENCE, u64::from(frames));
        self.set(UNSENT, u64::from(first_unsent));
    }

    /// Says that the dump is over: nothing is to be done again.
    pub(crate) fn over(&self) {
        self.set(PHASE, Phase::Over as u64);
    }

    /// Begins the dump that is over once more, at its first block.
    pub(crate) fn again(&self) {
        [ROUND, UNSENT].iter().for_each(|&word| self.set(word, 0));
        self.set(PHASE, Phase::Prelude as u64);
    }
}

const fn skip_words(number: usize) -> [usize; SKIP_WORDS] {
    let first = FIRST_SKIP.saturating_add(number.saturating_mul(SKIP_WORDS));
    [
        first,
        first.saturating_add(1),
        first.saturating_add(2),
        first.saturating_add(3),
    ]
}

#[cfg(test)]
mod tests;
