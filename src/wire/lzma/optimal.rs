// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses symbols by price: the cheapest way to each of the next positions, with what each way does to the state.
//!
//! A position keeps several ways to it that differ in the state or in the last distances: the cheapest now may be dearer
//! in the end, because a distance that will repeat is worth some bits.

use super::finder::{Finder, Found, common_at};
use super::model::{
    MATCH_MAX, MATCH_MIN, Model, POSITIONS, State, Writer, length_class, reps_after_match,
    reps_after_rep,
};
use super::prices::{self, Price, Prices};

/// Ways that are kept, over all positions.
const WAYS: usize = 4096;
/// Price of a way that does not exist.
const NEVER: Price = Price::MAX;

/// The last symbol of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Literal,
    ShortRep,
    Rep(u8),
    Fresh,
}

/// One way to a position.
#[derive(Clone, Copy, Debug)]
struct Way {
    price: Price,
    /// The last distances after it.
    reps: [u32; 4],
    /// The way that it goes on from, and how many bytes its last symbol is.
    from: u16,
    len: u16,
    symbol: Symbol,
    state: State,
}

impl Way {
    const NONE: Self = Self {
        price: NEVER,
        reps: [0; 4],
        from: 0,
        len: 0,
        symbol: Symbol::Literal,
        state: State::START,
    };
}

/// The memory of the parser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parser {
    prices: Prices,
    found: Found,
    ways: [Way; WAYS],
    /// The chosen ways, last first.
    path: [u16; WAYS],
    /// Ways that a position keeps.
    width: usize,
    /// Positions that are reached, from the start.
    end: usize,
}

/// How often prices are worked out again.
const PRICES_EVERY: usize = 512;

impl Parser {
    /// All zeros, so that a static one takes no room in an image; each stretch sets the ways that it uses.
    pub(super) const fn new() -> Self {
        Self {
            prices: Prices::new(),
            found: Found::new(),
            ways: [Way {
                price: 0,
                ..Way::NONE
            }; WAYS],
            path: [0; WAYS],
            width: 0,
            end: 0,
        }
    }

    /// Writes all of the writer's bytes.
    pub(super) fn run(
        &mut self,
        writer: &mut Writer<'_>,
        finder: &mut Finder<'_>,
        width: usize,
        nice: usize,
        poll: &mut dyn FnMut(),
    ) {
        self.width = width.clamp(1, 16);
        let mut prices_until = 0;
        while !writer.is_done() {
            if writer.position >= prices_until {
                let distance_max = writer.raw.len().saturating_sub(1) as u32;
                self.prices.update_distances(writer.model, distance_max);
                poll();
                for position in 0..POSITIONS {
                    self.prices.update_lengths(writer.model, position);
                    poll();
                }
                prices_until = writer.position + PRICES_EVERY;
            }
            self.stretch(writer, finder, nice, poll);
        }
    }

    /// Writes until all ways meet, a match is too long to look further, or there is no room for more ways.
    fn stretch(
        &mut self,
        writer: &mut Writer<'_>,
        finder: &mut Finder<'_>,
        nice: usize,
        poll: &mut dyn FnMut(),
    ) {
        let start = writer.position;
        let left = writer.raw.len() - start;
        let last = (WAYS / self.width - 1).min(left);
        self.ways[0] = Way {
            price: 0,
            reps: writer.reps,
            state: writer.state,
            ..Way::NONE
        };
        if let Some(others) = self.ways.get_mut(1..self.width) {
            others.fill(Way::NONE);
        }
        self.end = 0;
        let mut at = 0;
        loop {
            if at > 0 && at == self.end || at == last {
                self.write(writer, at);
                return;
            }
            poll();
            finder.find(&mut self.found);
            if let Some((symbol, distance, len)) = self.long(writer.raw, start + at, at, nice) {
                self.write(writer, at);
                match symbol {
                    Symbol::Rep(rep) => writer.rep(usize::from(rep), len),
                    _ => writer.fresh(distance, len),
                }
                finder.skip(len - 1, poll);
                return;
            }
            self.extend(writer.raw, writer.model, start, at, last);
            at += 1;
        }
    }

    /// Returns a match so long that it is taken at once.
    fn long(
        &self,
        raw: &[u8],
        position: usize,
        at: usize,
        nice: usize,
    ) -> Option<(Symbol, u32, usize)> {
        let best = self.ways.get(at * self.width)?;
        let limit = MATCH_MAX.min(raw.len() - position);
        for (rep, &distance) in (0..).zip(&best.reps) {
            if let Some(there) = position.checked_sub(distance as usize + 1) {
                let len = common_at(raw, position, there, limit);
                if len >= nice {
                    return Some((Symbol::Rep(rep), distance, len));
                }
            }
        }
        let longest = self
            .found
            .longest()
            .filter(|found| found.len as usize >= nice)?;
        let there = position.checked_sub(longest.distance as usize + 1)?;
        let len = common_at(raw, position, there, limit);
        Some((Symbol::Fresh, longest.distance, len))
    }

    /// Goes on from each way to a position with each symbol.
    fn extend(&mut self, raw: &[u8], model: &Model, start: usize, at: usize, last: usize) {
        let position = start + at;
        let limit = MATCH_MAX.min(last - at);
        let byte = raw.get(position).copied().unwrap_or(0);
        let before = position
            .checked_sub(1)
            .and_then(|at| raw.get(at))
            .copied()
            .unwrap_or(0);
        let literal = &model.literals[Model::literal_context(position, before)];
        let row = position & (POSITIONS - 1);

        for index in 0..self.width {
            let from = at * self.width + index;
            let Some(&way) = self.ways.get(from) else {
                return;
            };
            if way.price == NEVER {
                break;
            }
            let state = way.state;
            let is_match = model.is_match[state.index()][row];
            let guide_at = position.checked_sub(way.reps[0] as usize + 1);
            let guide = guide_at.and_then(|at| raw.get(at)).copied();

            let price = way.price
                + prices::bit(is_match, false)
                + prices::literal(literal, byte, guide.filter(|_| !state.is_literal()));
            let step = Way {
                price,
                reps: way.reps,
                from: from as u16,
                len: 1,
                symbol: Symbol::Literal,
                state: state.after_literal(),
            };
            self.arrive(at + 1, step);

            let match_price = way.price + prices::bit(is_match, true);
            if guide == Some(byte) {
                let step = Way {
                    price: match_price + prices::short_rep(model, state, position),
                    symbol: Symbol::ShortRep,
                    state: state.after_short_rep(),
                    ..step
                };
                self.arrive(at + 1, step);
            }

            let rep_prices = prices::reps(model, state, position);
            for (rep, (&distance, &rep_price)) in way.reps.iter().zip(&rep_prices).enumerate() {
                let Some(there) = position.checked_sub(distance as usize + 1) else {
                    continue;
                };
                let longest = common_at(raw, position, there, limit);
                let step = Way {
                    price: 0,
                    reps: reps_after_rep(way.reps, rep),
                    symbol: Symbol::Rep(rep as u8),
                    state: state.after_rep(),
                    ..step
                };
                for len in MATCH_MIN..=longest {
                    let price = match_price + rep_price + self.length(true, row, len);
                    let len16 = len as u16;
                    self.arrive(
                        at + len,
                        Way {
                            price,
                            len: len16,
                            ..step
                        },
                    );
                }
            }

            if index < 2 {
                let price = match_price + prices::bit(model.is_rep[state.index()], false);
                let mut len = MATCH_MIN;
                for nth in 0..self.found.all().len() {
                    let Some(&found) = self.found.all().get(nth) else {
                        break;
                    };
                    let step = Way {
                        price: 0,
                        reps: reps_after_match(way.reps, found.distance),
                        symbol: Symbol::Fresh,
                        state: state.after_match(),
                        ..step
                    };
                    while len <= (found.len as usize).min(limit) {
                        let price = price
                            + self.length(false, row, len)
                            + self.prices.distance(found.distance, length_class(len));
                        let len16 = len as u16;
                        self.arrive(
                            at + len,
                            Way {
                                price,
                                len: len16,
                                ..step
                            },
                        );
                        len += 1;
                    }
                }
            }
        }
    }

    #[inline]
    fn length(&self, is_rep: bool, row: usize, len: usize) -> Price {
        let prices = self.prices.lengths(is_rep, row);
        prices
            .get(len - MATCH_MIN)
            .map_or(NEVER >> 1, |&price| Price::from(price))
    }

    /// Adds a way to a position, unless it has enough that are better.
    #[inline]
    fn arrive(&mut self, at: usize, way: Way) {
        let width = self.width;
        while self.end < at {
            self.end += 1;
            if let Some(row) = self.ways.get_mut(self.end * width..(self.end + 1) * width) {
                row.fill(Way::NONE);
            }
        }
        let Some(row) = self.ways.get_mut(at * width..(at + 1) * width) else {
            return;
        };
        if row.last().is_none_or(|worst| way.price >= worst.price) {
            return;
        }
        let mut place = 0;
        let is_same = |other: &Way| other.state == way.state && other.reps == way.reps;
        for other in row.iter() {
            if other.price > way.price {
                break;
            }
            if is_same(other) {
                return;
            }
            place += 1;
        }
        let Some(tail) = row.get_mut(place..) else {
            return;
        };
        let dropped = tail.iter().position(is_same).unwrap_or(tail.len() - 1);
        if let Some(moved) = tail.get_mut(..=dropped) {
            moved.rotate_right(1);
            moved[0] = way;
        }
    }

    /// Writes the symbols of the best way to a position.
    fn write(&mut self, writer: &mut Writer<'_>, at: usize) {
        let mut index = at * self.width;
        let mut count = 0;
        while index >= self.width {
            let (Some(way), Some(place)) = (self.ways.get(index), self.path.get_mut(count)) else {
                return;
            };
            *place = index as u16;
            count += 1;
            index = usize::from(way.from);
        }
        for &index in self.path.iter().take(count).rev() {
            let Some(way) = self.ways.get(usize::from(index)) else {
                return;
            };
            let len = usize::from(way.len);
            match way.symbol {
                Symbol::Literal => writer.literal(),
                Symbol::ShortRep => writer.short_rep(),
                Symbol::Rep(rep) => writer.rep(usize::from(rep), len),
                Symbol::Fresh => writer.fresh(way.reps[0], len),
            }
        }
    }
}
