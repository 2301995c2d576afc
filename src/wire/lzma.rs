// SPDX-License-Identifier: MIT OR Apache-2.0
//! An LZMA1 encoder that allocates nothing and can be polled, and the host's decoder.
//!
//! The stream is raw LZMA1: range-coded, no header, no end marker. It is written from the format, for a capture kernel:
//! its memory is a fixed state and whatever scratch words there are, and it works as hard as the line leaves time for.

use core::cell::Cell;

mod finder;
mod lazy;
mod model;
mod optimal;
mod prices;
mod range;
#[cfg(test)]
mod tests;

use finder::{Finder, Found, Pairs, Search};
use model::{MATCH_MAX, Model, Writer};
use optimal::Parser;

/// The parameters that a decoder needs: lc, lp and pb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Props {
    /// Bits of the byte before that choose a literal's probabilities.
    pub lc: u32,
    /// Bits of the position that choose a literal's probabilities.
    pub lp: u32,
    /// Bits of the position that choose the other probabilities.
    pub pb: u32,
}

/// What [`Encoder`] writes and [`decode`] reads: RAM is words of eight bytes.
pub const PROPS: Props = Props {
    lc: model::CONTEXT_BITS,
    lp: model::LITERAL_POSITION_BITS,
    pb: model::POSITION_BITS,
};

/// Largest block, in bytes.
pub const RAW_MAX: usize = 4 << 20;

/// How hard to work: from 0, the fastest, to [`Effort::MAX`], the smallest result; what is above counts as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effort(pub u8);

/// How symbols are chosen.
#[derive(Clone, Copy, Debug)]
enum Parse {
    Greedy,
    Lazy,
    /// By price, keeping that many ways to a position.
    Optimal(usize),
}

/// What an effort means.
#[derive(Clone, Copy, Debug)]
struct Plan {
    search: Search,
    parse: Parse,
    /// A match of this length is taken at once.
    nice: usize,
}

const PLANS: [Plan; 7] = [
    Plan {
        search: Search::Latest,
        parse: Parse::Greedy,
        nice: 32,
    },
    Plan {
        search: Search::Chain(4),
        parse: Parse::Lazy,
        nice: 64,
    },
    Plan {
        search: Search::Chain(24),
        parse: Parse::Lazy,
        nice: 128,
    },
    Plan {
        search: Search::Chain(24),
        parse: Parse::Optimal(1),
        nice: 64,
    },
    Plan {
        search: Search::Tree(48),
        parse: Parse::Optimal(1),
        nice: 128,
    },
    Plan {
        search: Search::Tree(256),
        parse: Parse::Optimal(2),
        nice: MATCH_MAX,
    },
    Plan {
        search: Search::Tree(1024),
        parse: Parse::Optimal(4),
        nice: MATCH_MAX,
    },
];

impl Effort {
    /// The smallest result.
    pub const MAX: Self = Self(PLANS.len() as u8 - 1);

    fn plan(self) -> Plan {
        PLANS[usize::from(self.0).min(PLANS.len() - 1)]
    }
}

/// The encoder's memory; all zeros at first, so that it can lie in a static.
#[derive(Clone, Debug)]
pub struct Encoder {
    model: Model,
    parser: Parser,
    found: Found,
    pairs: Pairs,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// Makes an encoder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            model: Model::new(0),
            parser: Parser::new(),
            found: Found::new(),
            pairs: [0; _],
        }
    }

    /// Packs `raw`, of 1 byte to [`RAW_MAX`], into `out` from a fresh state and returns the length; `None` when it does not fit.
    ///
    /// `words` is scratch memory for the match finder: of any length, more is better, and what it holds does not matter.
    /// `out` is of cells, because `poll` may read on in the buffer that it is a part of. `poll` is called often: at least once in 16 bytes of `raw`, and in between while tables are cleared.
    pub fn encode(
        &mut self,
        raw: &[u8],
        out: &[Cell<u8>],
        words: &mut [u32],
        effort: Effort,
        poll: &mut dyn FnMut(),
    ) -> Option<usize> {
        if raw.is_empty() || raw.len() > RAW_MAX {
            return None;
        }
        let plan = effort.plan();
        self.model.reset();
        poll();
        let mut finder = Finder::new(raw, &mut self.pairs, words, plan.search, plan.nice, poll);
        let mut writer = Writer::new(raw, &mut self.model, out);
        match plan.parse {
            Parse::Optimal(width) => {
                let found = &mut self.found;
                self.parser
                    .run(&mut writer, &mut finder, found, width, poll);
            }
            Parse::Greedy | Parse::Lazy => {
                let is_lazy = matches!(plan.parse, Parse::Lazy);
                let found = &mut self.found;
                lazy::run(&mut writer, &mut finder, found, plan.nice, is_lazy, poll);
            }
        }
        writer.range.finish()
    }
}

/// Unpacks exactly `raw_len` bytes; `None` when `packed` is no such stream.
///
/// Allocates twice `raw_len` and a little more.
#[cfg(feature = "alloc")]
#[must_use]
pub fn decode(packed: &[u8], raw_len: usize) -> Option<alloc::vec::Vec<u8>> {
    use lzma_rust2::{LzmaReader, Read};

    if raw_len == 0 || raw_len > RAW_MAX {
        return None;
    }
    let Props { lc, lp, pb } = PROPS;
    let mut reader =
        LzmaReader::new(packed, raw_len as u64, lc, lp, pb, raw_len as u32, None).ok()?;
    reader.set_relaxed_end_condition(false);
    let mut raw = alloc::vec![0; raw_len];
    reader.read_exact(&mut raw).ok()?;
    // What stands behind the stream is no part of it.
    let (rest, buffered) = reader.into_parts();
    (rest.is_empty() && buffered.is_empty()).then_some(raw)
}
