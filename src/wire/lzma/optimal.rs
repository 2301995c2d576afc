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
const WAYS: usize = 2048;
/// Price of a way that does not exist.
const NEVER: Price = Price::MAX;
/// Symbols after which prices are worked out again.
const PRICES_EVERY: usize = 64;
/// How many of a position's ways are tried with new distances: these hardly depend on the way.
const FRESH_WAYS: usize = 1;

/// The last symbol of a way; its distance is the first of the last distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Literal,
    ShortRep,
    Rep,
    Fresh,
}

/// One way to a position.
#[derive(Clone, Copy, Debug)]
struct Way {
    price: Price,
    /// The last distances after it, less one.
    reps: [u32; 4],
    /// Bytes of the last symbol.
    len: u16,
    /// The way before the last symbol.
    from: u16,
    /// The way after the next symbol, once one is chosen.
    to: u16,
    symbol: Symbol,
    state: State,
}

impl Way {
    const NONE: Self = Self {
        price: NEVER,
        reps: [0; 4],
        len: 0,
        from: 0,
        to: 0,
        symbol: Symbol::Literal,
        state: State::START,
    };

    /// Whether going on from both costs about the same.
    fn is_like(&self, other: &Self) -> bool {
        self.reps[0] == other.reps[0]
            && self.reps[1] == other.reps[1]
            && self.state.is_literal() == other.state.is_literal()
    }
}

/// The memory of the parser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parser {
    prices: Prices,
    /// `width` ways for each position from the start on, cheapest first.
    ways: [Way; WAYS],
    /// The price below which a new way to a position is kept.
    limits: [Price; WAYS],
    width: usize,
    /// The farthest position that is reached, from the start.
    end: usize,
}

/// What is looked at, at one position.
struct Spot<'a> {
    raw: &'a [u8],
    model: &'a Model,
    position: usize,
    /// The position from the start of the stretch.
    at: usize,
    /// Longest match.
    limit: usize,
    byte: u8,
}

impl Parser {
    /// All zeros, so that a static one takes no room in an image; each stretch sets the ways that it uses.
    pub(super) const fn new() -> Self {
        Self {
            prices: Prices::new(),
            ways: [Way {
                price: 0,
                ..Way::NONE
            }; WAYS],
            limits: [0; WAYS],
            width: 0,
            end: 0,
        }
    }

    /// Writes all of the writer's bytes, keeping `width` ways to a position.
    pub(super) fn run(
        &mut self,
        writer: &mut Writer<'_>,
        finder: &mut Finder<'_>,
        found: &mut Found,
        width: usize,
        poll: &mut dyn FnMut(),
    ) {
        self.width = width.clamp(1, 16);
        self.prices.reset();
        let mut prices_until = 0;
        while !writer.is_done() {
            if writer.symbols >= prices_until {
                let distance_max = writer.raw.len().saturating_sub(1) as u32;
                self.prices.update(writer.model, distance_max, poll);
                prices_until = writer.symbols.saturating_add(PRICES_EVERY);
            }
            self.stretch(writer, finder, found, poll);
        }
    }

    /// Writes until all ways meet, a match is too long to look further, or there is no room for more ways.
    fn stretch(
        &mut self,
        writer: &mut Writer<'_>,
        finder: &mut Finder<'_>,
        found: &mut Found,
        poll: &mut dyn FnMut(),
    ) {
        let start = writer.position;
        let last = (WAYS / self.width - 1).min(writer.raw.len() - start);
        self.begin(writer);
        let mut at = 0;
        loop {
            if at > 0 && at == self.end || at >= last {
                self.write(writer, at);
                return;
            }
            poll();
            finder.find(found);
            let position = start + at;
            let limit = MATCH_MAX.min(writer.raw.len() - position);
            let reps = self
                .ways
                .get(at * self.width)
                .map_or([0; 4], |best| best.reps);
            if let Some((distance, len)) = finder.long(found, position, limit, &reps) {
                self.write(writer, at);
                writer.copy(distance, len);
                finder.skip(len - 1, poll);
                return;
            }
            let spot = Spot {
                raw: writer.raw,
                model: writer.model,
                position,
                at,
                limit: limit.min(last - at),
                byte: writer.raw.get(position).copied().unwrap_or(0),
            };
            self.extend(&spot, found);
            at += 1;
        }
    }

    /// Starts with the one way that is there: what is written.
    fn begin(&mut self, writer: &Writer<'_>) {
        self.end = 0;
        if let Some(row) = self.ways.get_mut(..self.width) {
            row.fill(Way::NONE);
        }
        self.ways[0] = Way {
            price: 0,
            reps: writer.reps,
            state: writer.state,
            ..Way::NONE
        };
    }

    /// Goes on from each way to a position, with each symbol.
    fn extend(&mut self, spot: &Spot<'_>, found: &Found) {
        let before = spot.position.checked_sub(1).and_then(|at| spot.raw.get(at));
        let context = Model::literal_context(spot.position, before.copied().unwrap_or(0));
        let plain = prices::literal(&spot.model.literals[context], spot.byte, None);

        self.reach(spot.at + 1);
        for index in 0..self.width {
            let from = spot.at * self.width + index;
            let Some(&way) = self.ways.get(from).filter(|way| way.price != NEVER) else {
                return;
            };
            let from = from as u16;
            let state = way.state;
            let is_match = spot.model.is_match[state.index()][spot.position & (POSITIONS - 1)];
            let guide_at = spot.position.checked_sub(way.reps[0] as usize + 1);
            let guide = guide_at.and_then(|at| spot.raw.get(at)).copied();

            let literal = if state.is_literal() {
                plain
            } else {
                prices::literal(&spot.model.literals[context], spot.byte, guide)
            };
            let price = way.price + prices::bit(is_match, false) + literal;
            let step = Way {
                price,
                reps: way.reps,
                len: 1,
                from,
                to: 0,
                symbol: Symbol::Literal,
                state: state.after_literal(),
            };
            self.arrive(spot.at + 1, price, || step);

            let match_price = way.price + prices::bit(is_match, true);
            if guide == Some(spot.byte) {
                let price = match_price + prices::short_rep(spot.model, state, spot.position);
                self.arrive(spot.at + 1, price, || Way {
                    price,
                    symbol: Symbol::ShortRep,
                    state: state.after_short_rep(),
                    ..step
                });
            }
            self.extend_reps(spot, &way, from, match_price);
            if index < FRESH_WAYS {
                self.extend_fresh(spot, &way, from, match_price, found);
            }
        }
    }

    /// Goes on from a way with matches at its last distances.
    fn extend_reps(&mut self, spot: &Spot<'_>, way: &Way, from: u16, match_price: Price) {
        let rep_prices = prices::reps(spot.model, way.state, spot.position);
        for (rep, (&distance, &rep_price)) in way.reps.iter().zip(&rep_prices).enumerate() {
            let Some(there) = spot.position.checked_sub(distance as usize + 1) else {
                continue;
            };
            let longest = common_at(spot.raw, spot.position, there, spot.limit);
            if longest < MATCH_MIN {
                continue;
            }
            self.reach(spot.at + longest);
            let reps = reps_after_rep(way.reps, rep);
            let state = way.state.after_rep();
            for len in MATCH_MIN..=longest {
                let length_price = self.prices.length(true, spot.position, len);
                let price = match_price + rep_price + length_price;
                self.arrive(spot.at + len, price, || Way {
                    price,
                    reps,
                    len: len as u16,
                    from,
                    to: 0,
                    symbol: Symbol::Rep,
                    state,
                });
            }
        }
    }

    /// Goes on from a way with the matches that were found.
    fn extend_fresh(
        &mut self,
        spot: &Spot<'_>,
        way: &Way,
        from: u16,
        match_price: Price,
        found: &Found,
    ) {
        let fresh_price = match_price + prices::fresh(spot.model, way.state);
        let state = way.state.after_match();
        let mut len = MATCH_MIN;
        for found in found.all() {
            let longest = (found.len as usize).min(spot.limit);
            self.reach(spot.at + longest);
            let reps = reps_after_match(way.reps, found.distance);
            while len <= longest {
                let price = fresh_price
                    + self.prices.length(false, spot.position, len)
                    + self.prices.distance(found.distance, length_class(len));
                self.arrive(spot.at + len, price, || Way {
                    price,
                    reps,
                    len: len as u16,
                    from,
                    to: 0,
                    symbol: Symbol::Fresh,
                    state,
                });
                len += 1;
            }
        }
    }

    /// Makes room for ways to all positions up to `at`.
    #[inline]
    fn reach(&mut self, at: usize) {
        while self.end < at {
            self.end += 1;
            if let Some(limit) = self.limits.get_mut(self.end) {
                *limit = NEVER;
            }
            let row = self.end * self.width..(self.end + 1) * self.width;
            for way in self.ways.get_mut(row).unwrap_or(&mut []) {
                way.price = NEVER;
            }
        }
    }

    /// Adds a way to a position, unless it has enough that are cheaper.
    #[inline]
    fn arrive(&mut self, at: usize, price: Price, way: impl FnOnce() -> Way) {
        if self.limits.get(at).is_some_and(|&limit| price < limit) {
            self.insert(at, way());
        }
    }

    fn insert(&mut self, at: usize, way: Way) {
        let row = at * self.width..(at + 1) * self.width;
        let Some(row) = self.ways.get_mut(row) else {
            return;
        };
        let mut place = 0;
        for other in row.iter() {
            if other.price > way.price {
                break;
            }
            if other.is_like(&way) {
                return;
            }
            place += 1;
        }
        let Some(tail) = row.get_mut(place..) else {
            return;
        };
        // Instead of the one that it beats, else of the dearest.
        let is_beaten = |other: &Way| other.price == NEVER || other.is_like(&way);
        let beaten = tail
            .iter()
            .position(is_beaten)
            .unwrap_or(tail.len().saturating_sub(1));
        if let Some(moved) = tail.get_mut(..=beaten) {
            moved.rotate_right(1);
            moved[0] = way;
        }
        if let (Some(limit), Some(dearest)) = (self.limits.get_mut(at), row.last()) {
            *limit = dearest.price;
        }
    }

    /// Writes the symbols of the cheapest way to a position.
    fn write(&mut self, writer: &mut Writer<'_>, at: usize) {
        // Back to the start, leaving a trail.
        let mut index = at * self.width;
        for _ in 0..at {
            let Some(from) = self.ways.get(index).map(|way| usize::from(way.from)) else {
                return;
            };
            if let Some(before) = self.ways.get_mut(from) {
                before.to = index as u16;
            }
            index = from;
            if index == 0 {
                break;
            }
        }
        let end = writer.position + at;
        while writer.position < end {
            let to = self.ways.get(index).map_or(0, |way| usize::from(way.to));
            let Some(way) = self.ways.get(to).filter(|way| way.len > 0) else {
                return;
            };
            match way.symbol {
                Symbol::Literal => writer.literal(),
                Symbol::ShortRep => writer.short_rep(),
                Symbol::Rep | Symbol::Fresh => writer.copy(way.reps[0], usize::from(way.len)),
            }
            index = to;
        }
    }
}
