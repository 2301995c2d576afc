// SPDX-License-Identifier: MIT OR Apache-2.0
//! What symbols would cost, by the probabilities of the moment.

use super::model::{
    ALIGN_BITS, LENGTH_CLASSES, LENGTHS, Length, Literal, MATCH_MIN, Model, POSITIONS, SLOT_DIRECT,
    SLOT_FOOTER, State, footer_bits, slot_of,
};
use super::range::{PROB_BITS, Prob, reverse_tree_price, tree_price};

/// A cost in 1/64 bits.
pub(super) type Price = u32;

/// Fraction bits of a [`Price`].
const PRICE_BITS: u32 = 6;
/// Bits of a probability that the table leaves out.
const DROP_BITS: u32 = 3;
/// Entries of the table.
const ENTRIES: usize = 1 << (PROB_BITS - DROP_BITS);
/// Distances below this have a price of their own.
const NEAR: usize = 128;

/// Cost of a zero bit by its probability.
static PRICES: [u16; ENTRIES] = {
    let mut prices = [0; ENTRIES];
    let mut entry = 0;
    while entry < ENTRIES {
        // The middle of the probabilities that share the entry, as a fraction of 2^32.
        let middle = ((entry as u64) << DROP_BITS) + (1 << (DROP_BITS - 1));
        prices[entry] = minus_log2(middle << (32 - PROB_BITS));
        entry += 1;
    }
    prices
};

/// Returns -log2(`fraction` / 2^32) in units of a price, by squaring.
const fn minus_log2(fraction: u64) -> u16 {
    // mantissa * 2^exponent, with a mantissa of 1 to 2 in units of 2^-31.
    let top = fraction.ilog2();
    let mut mantissa = if top > 31 {
        fraction >> (top - 31)
    } else {
        fraction << (31 - top)
    };
    let mut log2 = 0;
    let mut bit = 0;
    // One bit more than is kept, to round.
    while bit <= PRICE_BITS {
        mantissa = (mantissa * mantissa) >> 31;
        log2 <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            log2 |= 1;
        }
        bit += 1;
    }
    let whole = (32 - top) << (PRICE_BITS + 1);
    ((whole - log2 + 1) >> 1) as u16
}

/// Returns the cost of a bit.
#[inline]
pub(super) fn bit(prob: Prob, bit: bool) -> Price {
    let flipped = if bit { (1 << PROB_BITS) - 1 } else { 0 };
    Price::from(PRICES[((prob ^ flipped) >> DROP_BITS) as usize & (ENTRIES - 1)])
}

/// Returns the cost of a literal without the bit that says that it is one.
#[inline]
pub(super) fn literal(probs: &Literal, byte: u8, guide: Option<u8>) -> Price {
    let mut node = 1u32;
    let byte = u32::from(byte);
    let mut shift = 8u32;
    let mut price = 0;
    if let Some(guide) = guide {
        let guide = u32::from(guide);
        while shift > 0 {
            shift -= 1;
            let one = (byte >> shift) & 1;
            let expected = (guide >> shift) & 1;
            let probs = &probs.matched[expected as usize & 1];
            price += bit(probs[node as usize & 255], one != 0);
            node = node << 1 | one;
            if one != expected {
                break;
            }
        }
    }
    while shift > 0 {
        shift -= 1;
        let one = (byte >> shift) & 1;
        price += bit(probs.plain[node as usize & 255], one != 0);
        node = node << 1 | one;
    }
    price
}

/// Prices that take many bits to work out, kept for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    match_lengths: [[u16; LENGTHS]; POSITIONS],
    rep_lengths: [[u16; LENGTHS]; POSITIONS],
    /// Of a slot and the coin tosses that follow it.
    slots: [[u16; 64]; LENGTH_CLASSES],
    near: [[u16; NEAR]; LENGTH_CLASSES],
    align: [u16; 1 << ALIGN_BITS],
    /// Whether there were prices before.
    is_known: bool,
}

impl Prices {
    pub(super) const fn new() -> Self {
        Self {
            match_lengths: [[0; LENGTHS]; POSITIONS],
            rep_lengths: [[0; LENGTHS]; POSITIONS],
            slots: [[0; 64]; LENGTH_CLASSES],
            near: [[0; NEAR]; LENGTH_CLASSES],
            align: [0; 1 << ALIGN_BITS],
            is_known: false,
        }
    }

    /// Forgets the prices of another stream.
    pub(super) fn reset(&mut self) {
        self.is_known = false;
    }

    /// Works out the prices of lengths and of distances, of which the farthest is `distance_max` (less one).
    pub(super) fn update(&mut self, model: &Model, distance_max: u32, poll: &mut dyn FnMut()) {
        let mix = Mix(self.is_known);
        self.is_known = true;
        fill_lengths(&mut self.match_lengths, &model.match_length, mix);
        poll();
        fill_lengths(&mut self.rep_lengths, &model.rep_length, mix);
        poll();
        self.fill_distances(model, distance_max, mix);
        poll();
    }

    fn fill_distances(&mut self, model: &Model, distance_max: u32, mix: Mix) {
        let slots = slot_of(distance_max) + 1;
        for (prices, probs) in self.slots.iter_mut().zip(&model.slots) {
            for (slot, price) in (0..slots).zip(prices) {
                let tosses = if slot < SLOT_DIRECT {
                    0
                } else {
                    footer_bits(slot) - ALIGN_BITS
                };
                mix.into(price, tree_price(probs, 6, slot) + (tosses << PRICE_BITS));
            }
        }
        for distance in 0..NEAR as u32 {
            let slot = slot_of(distance);
            let footer = if slot < SLOT_FOOTER {
                0
            } else {
                let probs = &model.footers[slot as usize & 15];
                reverse_tree_price(probs, footer_bits(slot), distance)
            };
            for (near, slots) in self.near.iter_mut().zip(&self.slots) {
                let slot_price = Price::from(slots[slot as usize & 63]);
                mix.into(
                    &mut near[distance as usize & (NEAR - 1)],
                    slot_price + footer,
                );
            }
        }
        for (value, price) in (0..).zip(&mut self.align) {
            mix.into(price, reverse_tree_price(&model.align, ALIGN_BITS, value));
        }
    }

    /// Returns the cost of a length at a position, of a match at one of the last distances or at a new one.
    #[inline]
    pub(super) fn length(&self, is_rep: bool, position: usize, len: usize) -> Price {
        let lengths = if is_rep {
            &self.rep_lengths
        } else {
            &self.match_lengths
        };
        let lengths = &lengths[position & (POSITIONS - 1)];
        lengths
            .get(len - MATCH_MIN)
            .map_or(0, |&price| Price::from(price))
    }

    /// Returns the cost of a distance (less one) after a length of this class.
    #[inline]
    pub(super) fn distance(&self, distance: u32, class: usize) -> Price {
        let class = class & (LENGTH_CLASSES - 1);
        match self.near[class].get(distance as usize) {
            Some(&price) => Price::from(price),
            None => {
                let slot = Price::from(self.slots[class][slot_of(distance) as usize & 63]);
                let low = distance as usize & ((1 << ALIGN_BITS) - 1);
                slot + Price::from(self.align[low])
            }
        }
    }
}

/// Returns the cost of each rep index: of the bits after the one that says that it is a match, without the length.
#[inline]
pub(super) fn reps(model: &Model, state: State, position: usize) -> [Price; 4] {
    let index = state.index();
    let is_rep = bit(model.is_rep[index], true);
    let is_far = is_rep + bit(model.is_not_rep0[index], true);
    let is_farther = is_far + bit(model.is_not_rep1[index], true);
    let is_long = bit(model.is_rep0_long[index][position & (POSITIONS - 1)], true);
    [
        is_rep + bit(model.is_not_rep0[index], false) + is_long,
        is_far + bit(model.is_not_rep1[index], false),
        is_farther + bit(model.is_rep3[index], false),
        is_farther + bit(model.is_rep3[index], true),
    ]
}

/// Returns the cost of saying that the distance of a match is a new one.
#[inline]
pub(super) fn fresh(model: &Model, state: State) -> Price {
    bit(model.is_rep[state.index()], false)
}

/// Returns the cost of one byte at the last distance, after the bit that says that it is a match.
#[inline]
pub(super) fn short_rep(model: &Model, state: State, position: usize) -> Price {
    let index = state.index();
    bit(model.is_rep[index], true)
        + bit(model.is_not_rep0[index], false)
        + bit(model.is_rep0_long[index][position & (POSITIONS - 1)], false)
}

/// How new prices replace old ones, if there are any: by half. The parse is steadier, and smaller, than with the prices of
/// the very moment.
#[derive(Clone, Copy, Debug)]
struct Mix(bool);

impl Mix {
    #[inline]
    fn into(self, price: &mut u16, new: Price) {
        let old = Price::from(*price);
        *price = if self.0 { old.midpoint(new) } else { new } as u16;
    }
}

fn fill_lengths(prices: &mut [[u16; LENGTHS]; POSITIONS], probs: &Length, mix: Mix) {
    let low = bit(probs.is_mid_or_high, false);
    let mid = bit(probs.is_mid_or_high, true) + bit(probs.is_high, false);
    let high = bit(probs.is_mid_or_high, true) + bit(probs.is_high, true);
    let mut high_prices = [0; 256];
    for (code, price) in (0..).zip(&mut high_prices) {
        *price = high + tree_price(&probs.high, 8, code);
    }
    for (prices, (low_probs, mid_probs)) in prices.iter_mut().zip(probs.low.iter().zip(&probs.mid))
    {
        let low_prices = (0..8).map(|code| low + tree_price(low_probs, 3, code));
        let mid_prices = (0..8).map(|code| mid + tree_price(mid_probs, 3, code));
        let new_prices = low_prices.chain(mid_prices).chain(high_prices);
        for (price, new) in prices.iter_mut().zip(new_prices) {
            mix.into(price, new);
        }
    }
}
