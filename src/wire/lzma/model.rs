// SPDX-License-Identifier: MIT OR Apache-2.0
//! The probabilities of an LZMA1 stream, and how its symbols are made of bits.

use super::range::{PROB_EVEN, Prob, RangeEncoder};

/// Bits of the byte before that choose a literal's probabilities ("lc").
pub(super) const CONTEXT_BITS: u32 = 0;
/// Bits of the position that choose a literal's probabilities ("lp").
pub(super) const LITERAL_POSITION_BITS: u32 = 2;
/// Bits of the position that choose the other probabilities ("pb").
pub(super) const POSITION_BITS: u32 = 3;

/// Number of literal contexts.
const LITERAL_CONTEXTS: usize = 1 << (CONTEXT_BITS + LITERAL_POSITION_BITS);
/// Number of positions that are told apart.
pub(super) const POSITIONS: usize = 1 << POSITION_BITS;
/// Shortest match.
pub(super) const MATCH_MIN: usize = 2;
/// Longest match.
pub(super) const MATCH_MAX: usize = 273;
/// Number of lengths.
pub(super) const LENGTHS: usize = MATCH_MAX - MATCH_MIN + 1;
/// Number of classes of lengths that choose a distance's probabilities.
pub(super) const LENGTH_CLASSES: usize = 4;
/// First distance slot whose middle bits are coin tosses.
pub(super) const SLOT_DIRECT: u32 = 14;
/// First distance slot that has bits of its own.
pub(super) const SLOT_FOOTER: u32 = 4;
/// Lowest bits of a far distance, which have probabilities.
pub(super) const ALIGN_BITS: u32 = 4;

/// What the last symbols were, 0 to 11; below 7 the last one was a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    pub(super) const START: Self = Self(0);

    pub(super) const fn index(self) -> usize {
        (self.0 & 15) as usize
    }

    pub(super) const fn is_literal(self) -> bool {
        self.0 < 7
    }

    pub(super) const fn after_literal(self) -> Self {
        Self(match self.0 {
            0..4 => 0,
            old @ 4..10 => old - 3,
            old => old.saturating_sub(6),
        })
    }

    pub(super) const fn after_match(self) -> Self {
        Self(if self.is_literal() { 7 } else { 10 })
    }

    pub(super) const fn after_rep(self) -> Self {
        Self(if self.is_literal() { 8 } else { 11 })
    }

    pub(super) const fn after_short_rep(self) -> Self {
        Self(if self.is_literal() { 9 } else { 11 })
    }
}

/// Probabilities by [`State`]; a power of two, so that no index is checked.
pub(super) type ByState<T> = [T; 16];

/// The probabilities of a literal in one context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal {
    /// After a literal, or once a bit differed from the byte that the last distance points at.
    pub(super) plain: [Prob; 256],
    /// By that byte's bit, while all bits so far are the same as its.
    pub(super) matched: [[Prob; 256]; 2],
}

/// The probabilities of a length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    pub(super) is_mid_or_high: Prob,
    pub(super) is_high: Prob,
    pub(super) low: [[Prob; 8]; POSITIONS],
    pub(super) mid: [[Prob; 8]; POSITIONS],
    pub(super) high: [Prob; 256],
}

/// All probabilities of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) literals: [Literal; LITERAL_CONTEXTS],
    pub(super) is_match: ByState<[Prob; POSITIONS]>,
    pub(super) is_rep: ByState<Prob>,
    pub(super) is_not_rep0: ByState<Prob>,
    pub(super) is_rep0_long: ByState<[Prob; POSITIONS]>,
    pub(super) is_not_rep1: ByState<Prob>,
    pub(super) is_rep3: ByState<Prob>,
    pub(super) match_length: Length,
    pub(super) rep_length: Length,
    pub(super) slots: [[Prob; 64]; LENGTH_CLASSES],
    /// The low bits of the distances of slots 4 to 13.
    pub(super) footers: [[Prob; 32]; 16],
    pub(super) align: [Prob; 16],
}

impl Literal {
    const fn new(prob: Prob) -> Self {
        Self {
            plain: [prob; 256],
            matched: [[prob; 256]; 2],
        }
    }
}

impl Length {
    const fn new(prob: Prob) -> Self {
        Self {
            is_mid_or_high: prob,
            is_high: prob,
            low: [[prob; 8]; POSITIONS],
            mid: [[prob; 8]; POSITIONS],
            high: [prob; 256],
        }
    }

    fn encode(&mut self, range: &mut RangeEncoder<'_>, len: usize, position: usize) {
        let position = position & (POSITIONS - 1);
        let code = len.saturating_sub(MATCH_MIN) as u32;
        let is_low = code < 8;
        range.bit(&mut self.is_mid_or_high, !is_low);
        if is_low {
            range.tree(&mut self.low[position], 3, code);
            return;
        }
        let is_mid = code < 16;
        range.bit(&mut self.is_high, !is_mid);
        if is_mid {
            range.tree(&mut self.mid[position], 3, code & 7);
        } else {
            range.tree(&mut self.high, 8, code - 16);
        }
    }
}

impl Model {
    /// Returns the model with each probability at `prob`.
    pub(super) const fn new(prob: Prob) -> Self {
        Self {
            literals: [Literal::new(prob); LITERAL_CONTEXTS],
            is_match: [[prob; POSITIONS]; 16],
            is_rep: [prob; 16],
            is_not_rep0: [prob; 16],
            is_rep0_long: [[prob; POSITIONS]; 16],
            is_not_rep1: [prob; 16],
            is_rep3: [prob; 16],
            match_length: Length::new(prob),
            rep_length: Length::new(prob),
            slots: [[prob; 64]; LENGTH_CLASSES],
            footers: [[prob; 32]; 16],
            align: [prob; 16],
        }
    }

    /// Forgets all it has learnt.
    pub(super) fn reset(&mut self) {
        // From the read-only data; a temporary would take the stack's room.
        static FRESH: Model = Model::new(PROB_EVEN);
        self.clone_from(&FRESH);
    }

    /// Returns which literal probabilities count at `position`, after the byte `before`.
    #[inline]
    pub(super) fn literal_context(position: usize, before: u8) -> usize {
        let position = (position & ((1 << LITERAL_POSITION_BITS) - 1)) << CONTEXT_BITS;
        let before = u32::from(before) >> (8 - CONTEXT_BITS);
        (position | before as usize) & (LITERAL_CONTEXTS - 1)
    }
}

impl Literal {
    /// Codes a byte; `guide` is the byte that the last distance points at, unless the last symbol was a literal.
    #[inline]
    pub(super) fn encode(&mut self, range: &mut RangeEncoder<'_>, byte: u8, guide: Option<u8>) {
        let mut node = 1u32;
        let byte = u32::from(byte);
        let mut shift = 8u32;
        if let Some(guide) = guide {
            let guide = u32::from(guide);
            while shift > 0 {
                shift -= 1;
                let bit = (byte >> shift) & 1;
                let expected = (guide >> shift) & 1;
                let probs = &mut self.matched[expected as usize & 1];
                range.bit(&mut probs[node as usize & 255], bit != 0);
                node = node << 1 | bit;
                if bit != expected {
                    break;
                }
            }
        }
        while shift > 0 {
            shift -= 1;
            let bit = (byte >> shift) & 1;
            range.bit(&mut self.plain[node as usize & 255], bit != 0);
            node = node << 1 | bit;
        }
    }
}

/// Returns which probabilities the distance of a match of `len` bytes has.
#[inline]
pub(super) const fn length_class(len: usize) -> usize {
    let class = len.saturating_sub(MATCH_MIN);
    if class < LENGTH_CLASSES {
        class
    } else {
        LENGTH_CLASSES - 1
    }
}

/// Returns the slot of a distance (less one): twice the place of its top bit, plus the bit below that.
#[inline]
pub(super) const fn slot_of(distance: u32) -> u32 {
    if distance < SLOT_FOOTER {
        return distance;
    }
    let top = distance.ilog2();
    top << 1 | ((distance >> (top - 1)) & 1)
}

/// Returns how many bits follow a slot from 4 on.
#[inline]
pub(super) const fn footer_bits(slot: u32) -> u32 {
    (slot >> 1).saturating_sub(1)
}

/// Writes symbols, and keeps the state that the decoder will have.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) raw: &'a [u8],
    pub(super) model: &'a mut Model,
    pub(super) range: RangeEncoder<'a>,
    /// How much of `raw` is written.
    pub(super) position: usize,
    pub(super) state: State,
    /// The last four distances, less one.
    pub(super) reps: [u32; 4],
    /// Symbols so far.
    pub(super) symbols: usize,
}

impl<'a> Writer<'a> {
    /// Makes a writer of a fresh stream.
    pub(super) fn new(
        raw: &'a [u8],
        model: &'a mut Model,
        out: &'a [core::cell::Cell<u8>],
    ) -> Self {
        Self {
            raw,
            model,
            range: RangeEncoder::new(out),
            position: 0,
            state: State::START,
            reps: [0; 4],
            symbols: 0,
        }
    }

    /// Whether all is written, or there is no room for more.
    pub(super) fn is_done(&self) -> bool {
        self.position >= self.raw.len() || self.range.is_full()
    }

    /// Returns the byte at `position`; zero outside.
    fn byte(&self, position: Option<usize>) -> u8 {
        position
            .and_then(|at| self.raw.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// Writes the byte at the position.
    pub(super) fn literal(&mut self) {
        let state = self.state;
        let position = self.position;
        let before = self.byte(position.checked_sub(1));
        let byte = self.byte(Some(position));
        let guide = (!state.is_literal())
            .then(|| self.byte(position.checked_sub(self.reps[0] as usize + 1)));
        self.is_match(false);
        let context = Model::literal_context(position, before);
        self.model.literals[context].encode(&mut self.range, byte, guide);
        self.state = state.after_literal();
        self.position += 1;
    }

    /// Writes one byte at the last distance.
    pub(super) fn short_rep(&mut self) {
        let state = self.state;
        let index = state.index();
        self.is_match(true);
        let position = self.position & (POSITIONS - 1);
        let (range, model) = (&mut self.range, &mut *self.model);
        range.bit(&mut model.is_rep[index], true);
        range.bit(&mut model.is_not_rep0[index], false);
        range.bit(&mut model.is_rep0_long[index][position], false);
        self.state = state.after_short_rep();
        self.position += 1;
    }

    /// Writes `len` bytes at the distance that was used `rep` distances ago.
    pub(super) fn rep(&mut self, rep: usize, len: usize) {
        let state = self.state;
        let index = state.index();
        self.is_match(true);
        let position = self.position & (POSITIONS - 1);
        let (range, model) = (&mut self.range, &mut *self.model);
        range.bit(&mut model.is_rep[index], true);
        range.bit(&mut model.is_not_rep0[index], rep > 0);
        if rep == 0 {
            range.bit(&mut model.is_rep0_long[index][position], true);
        } else {
            range.bit(&mut model.is_not_rep1[index], rep > 1);
            if rep > 1 {
                range.bit(&mut model.is_rep3[index], rep > 2);
            }
        }
        model.rep_length.encode(range, len, position);
        self.reps = reps_after_rep(self.reps, rep);
        self.state = state.after_rep();
        self.position += len;
    }

    /// Writes `len` bytes at a new distance (less one).
    pub(super) fn fresh(&mut self, distance: u32, len: usize) {
        let state = self.state;
        self.is_match(true);
        let position = self.position;
        let (range, model) = (&mut self.range, &mut *self.model);
        range.bit(&mut model.is_rep[state.index()], false);
        model.match_length.encode(range, len, position);
        let slot = slot_of(distance);
        range.tree(&mut model.slots[length_class(len)], 6, slot);
        if slot >= SLOT_FOOTER {
            let bits = footer_bits(slot);
            if slot < SLOT_DIRECT {
                range.reverse_tree(&mut model.footers[slot as usize & 15], bits, distance);
            } else {
                range.direct(bits - ALIGN_BITS, distance >> ALIGN_BITS);
                range.reverse_tree(&mut model.align, ALIGN_BITS, distance);
            }
        }
        self.reps = reps_after_match(self.reps, distance);
        self.state = state.after_match();
        self.position += len;
    }

    /// Writes `len` bytes at a distance (less one), which may be one of the last.
    pub(super) fn copy(&mut self, distance: u32, len: usize) {
        match self.reps.iter().position(|&rep| rep == distance) {
            Some(rep) => self.rep(rep, len),
            None => self.fresh(distance, len),
        }
    }

    fn is_match(&mut self, is_match: bool) {
        self.symbols += 1;
        let prob = &mut self.model.is_match[self.state.index()][self.position & (POSITIONS - 1)];
        self.range.bit(prob, is_match);
    }
}

/// Returns the last distances after the one of index `rep` was used again.
#[inline]
pub(super) const fn reps_after_rep(reps: [u32; 4], rep: usize) -> [u32; 4] {
    let [first, second, third, fourth] = reps;
    match rep {
        0 => reps,
        1 => [second, first, third, fourth],
        2 => [third, first, second, fourth],
        _ => [fourth, first, second, third],
    }
}

/// Returns the last distances after a new one.
#[inline]
pub(super) const fn reps_after_match(reps: [u32; 4], distance: u32) -> [u32; 4] {
    let [first, second, third, _] = reps;
    [distance, first, second, third]
}
