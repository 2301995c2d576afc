// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the node keeps in memory, and what a dump may hold of it.

use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::dump::{self, Mark, MarkError};

/// Words of a page.
pub const WORDS: usize = 512;

/// A page of its own: marks count in whole pages, so nothing else is left out with it.
#[repr(C, align(4096))]
pub struct Page([u64; WORDS]);

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self([0; WORDS]))
    }

    /// Fills it with what `pattern` yields, in place: no copy stays behind.
    fn fill(&mut self, seed: u64) {
        for (index, word) in (0..).zip(&mut self.0) {
            *word = pattern(seed, index);
        }
    }

    fn addresses(&self) -> Range<*const u8> {
        let words = self.0.as_ptr_range();
        words.start.cast()..words.end.cast()
    }

    /// Its words.
    #[must_use]
    pub fn words(&self) -> &[u64; WORDS] {
        &self.0
    }
}

/// The PIN, in a static: a page of its own inside the kernel's image.
#[repr(C, align(4096))]
struct Pin([AtomicU64; WORDS]);

static PIN: Pin = Pin([const { AtomicU64::new(0) }; WORDS]);

impl Pin {
    fn fill(&self, seed: u64) {
        for (index, word) in (0..).zip(&self.0) {
            word.store(pattern(seed, index), Ordering::Relaxed);
        }
    }

    fn addresses(&self) -> Range<*const u8> {
        let words = self.0.as_ptr_range();
        words.start.cast()..words.end.cast()
    }
}

/// Word number `index` of the stream of a seed (SplitMix64): it stands for data that no one can guess.
#[must_use]
pub const fn pattern(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seed of the keys.
pub const KEYS: u64 = 0x6b65_7973;
/// Seed of the PIN.
pub const PIN_SEED: u64 = 0x7069_6e21;
/// Seed of the samples.
pub const SAMPLES: u64 = 0x7361_6d70;
/// Seed of the trace.
pub const TRACE: u64 = 0x7472_6163;

/// All of it, marked for as long as this lives.
pub struct Memory {
    /// Never leaves the machine.
    pub keys: Box<Page>,
    /// Left out at dump level 8: it can be measured again.
    pub samples: Box<Page>,
    /// Wanted early.
    pub trace: Box<Page>,
    _marks: [Mark; 4],
}

impl Memory {
    /// Makes and marks it. Keys and PIN are marked before they are there.
    ///
    /// # Errors
    /// No mark was left.
    pub fn new() -> Result<Self, MarkError> {
        let (mut keys, mut samples, mut trace) = (Page::new(), Page::new(), Page::new());
        let marks = [
            dump::secret(keys.addresses())?,
            dump::secret(PIN.addresses())?,
            dump::app_data(samples.addresses())?,
            dump::also(trace.addresses(), "trace")?,
        ];
        keys.fill(KEYS);
        PIN.fill(PIN_SEED);
        samples.fill(SAMPLES);
        trace.fill(TRACE);
        Ok(Self {
            keys,
            samples,
            trace,
            _marks: marks,
        })
    }
}
