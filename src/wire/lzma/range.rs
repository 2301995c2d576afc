// SPDX-License-Identifier: MIT OR Apache-2.0
//! The range coder: bits of known probability in, bytes out.

use core::cell::Cell;

use super::prices::Price;

/// Chance of a zero bit, in 1/2048.
pub(super) type Prob = u16;

/// Bits of a probability.
pub(super) const PROB_BITS: u32 = 11;
/// An even chance.
pub(super) const PROB_EVEN: Prob = 1 << (PROB_BITS - 1);
/// How fast a probability follows what it sees: by 1/32 of the distance.
const ADAPT_SHIFT: u32 = 5;
/// Below this the range is too narrow to divide, and a byte goes out.
const RANGE_MIN: u32 = 1 << 24;

/// Writes a range-coded stream into a buffer.
#[derive(Debug)]
pub(super) struct RangeEncoder<'a> {
    out: &'a [Cell<u8>],
    len: usize,
    low: u32,
    range: u32,
    is_full: bool,
}

impl<'a> RangeEncoder<'a> {
    /// Starts a stream; its first byte is always zero.
    pub(super) fn new(out: &'a [Cell<u8>]) -> Self {
        let mut encoder = Self {
            out,
            len: 0,
            low: 0,
            range: u32::MAX,
            is_full: false,
        };
        encoder.push(0);
        encoder
    }

    /// Whether a byte found no room: what came since is lost.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Ends the stream and returns its length; `None` when it did not fit.
    pub(super) fn finish(mut self) -> Option<usize> {
        for _ in 0..4 {
            self.shift();
        }
        (!self.is_full).then_some(self.len)
    }

    /// Codes one bit and lets its probability learn from it.
    #[inline]
    pub(super) fn bit(&mut self, prob: &mut Prob, bit: bool) {
        let bound = (self.range >> PROB_BITS).wrapping_mul(u32::from(*prob));
        if bit {
            self.add(bound);
            self.range = self.range.wrapping_sub(bound);
            *prob = prob.wrapping_sub(*prob >> ADAPT_SHIFT);
        } else {
            self.range = bound;
            *prob = prob.wrapping_add((1u16 << PROB_BITS).wrapping_sub(*prob) >> ADAPT_SHIFT);
        }
        self.normalize();
    }

    /// Codes the low `bits` of `value` from the top one down, each with the probability of the bits before it.
    #[inline]
    pub(super) fn tree<const N: usize>(&mut self, probs: &mut [Prob; N], bits: u32, value: u32) {
        let mut node = 1u32;
        for shift in (0..bits).rev() {
            let bit = (value >> shift) & 1;
            self.bit(&mut probs[node as usize & (N - 1)], bit != 0);
            node = node << 1 | bit;
        }
    }

    /// Codes the low `bits` of `value` from the lowest one up.
    #[inline]
    pub(super) fn reverse_tree<const N: usize>(
        &mut self,
        probs: &mut [Prob; N],
        bits: u32,
        value: u32,
    ) {
        let mut node = 1u32;
        for shift in 0..bits {
            let bit = (value >> shift) & 1;
            self.bit(&mut probs[node as usize & (N - 1)], bit != 0);
            node = node << 1 | bit;
        }
    }

    /// Codes the low `bits` of `value`, from the top one down, as coin tosses.
    #[inline]
    pub(super) fn direct(&mut self, bits: u32, value: u32) {
        for shift in (0..bits).rev() {
            self.range >>= 1;
            if (value >> shift) & 1 != 0 {
                self.add(self.range);
            }
            self.normalize();
        }
    }

    #[inline]
    fn add(&mut self, bound: u32) {
        let (low, has_carried) = self.low.overflowing_add(bound);
        self.low = low;
        if has_carried {
            self.carry();
        }
    }

    #[inline]
    fn normalize(&mut self) {
        // Once is enough: a range of 2^24 or more times at least 31/2048 leaves more than 2^16.
        if self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }

    fn shift(&mut self) {
        let [byte, ..] = self.low.to_be_bytes();
        self.push(byte);
        self.low <<= 8;
    }

    fn push(&mut self, byte: u8) {
        match self.out.get(self.len) {
            Some(place) => {
                place.set(byte);
                self.len += 1;
            }
            None => self.is_full = true,
        }
    }

    /// Adds one to the number that the bytes so far are. The first byte, a zero, stops it at the latest.
    #[cold]
    fn carry(&mut self) {
        for byte in self.out.iter().take(self.len).rev() {
            let (sum, has_carried) = byte.get().overflowing_add(1);
            byte.set(sum);
            if !has_carried {
                break;
            }
        }
    }
}

/// What coding `value` with [`RangeEncoder::tree`] would cost.
#[inline]
pub(super) fn tree_price<const N: usize>(probs: &[Prob; N], bits: u32, value: u32) -> Price {
    let mut node = 1u32;
    let mut price = 0;
    for shift in (0..bits).rev() {
        let bit = (value >> shift) & 1;
        price += super::prices::bit(probs[node as usize & (N - 1)], bit != 0);
        node = node << 1 | bit;
    }
    price
}

/// What coding `value` with [`RangeEncoder::reverse_tree`] would cost.
#[inline]
pub(super) fn reverse_tree_price<const N: usize>(
    probs: &[Prob; N],
    bits: u32,
    value: u32,
) -> Price {
    let mut node = 1u32;
    let mut price = 0;
    for shift in 0..bits {
        let bit = (value >> shift) & 1;
        price += super::prices::bit(probs[node as usize & (N - 1)], bit != 0);
        node = node << 1 | bit;
    }
    price
}
