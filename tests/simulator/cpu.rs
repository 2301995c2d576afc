// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the target's CPU takes for what it says that it does.

use capture::Work;
use wire::lzma::Effort;

const EFFORTS: usize = Effort::MAX.0 as usize + 1;

/// A CPU's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Nanoseconds from one poll of the encoder to the next, by effort.
    pub encode_ns: [u64; EFFORTS],
    /// Nanoseconds to look at a page.
    pub page_ns: u64,
    /// Nanoseconds to hash a page.
    pub hash_ns: u64,
}

impl Cpu {
    /// A core like a Cortex-A72 at 1.5 GHz: the encoder's times are those that `simulator-bench` measures on an x86-64 of 3 GHz,
    /// times 2.5.
    pub const MODEST: Self = Self {
        encode_ns: [550, 910, 1_000, 1_850, 2_050, 3_500, 5_200],
        page_ns: 1_000,
        hash_ns: 40_000,
    };

    /// Returns the same core, `hundredths` / 100 times as fast.
    #[must_use]
    pub const fn times(self, hundredths: u64) -> Self {
        let mut cpu = self;
        let mut effort = 0;
        while effort < EFFORTS {
            cpu.encode_ns[effort] = cpu.encode_ns[effort] * 100 / hundredths;
            effort += 1;
        }
        cpu.page_ns = cpu.page_ns * 100 / hundredths;
        cpu.hash_ns = cpu.hash_ns * 100 / hundredths;
        cpu
    }

    /// Returns the time of `work`; `None` for a look at the line that found nothing to do.
    #[must_use]
    pub fn ns(&self, work: Work) -> Option<u64> {
        match work {
            Work::Idle | Work::Prompt => None,
            // A page that is free is not looked at, but a bit of the map is.
            Work::Pages(pages) => Some(u64::from(pages) * self.page_ns + 50),
            Work::Hashed => Some(self.hash_ns),
            Work::Encoded(effort) => {
                let last = EFFORTS - 1;
                Some(self.encode_ns[usize::from(effort).min(last)])
            }
        }
    }
}
