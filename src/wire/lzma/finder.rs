// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds earlier copies of the bytes at a position: hash heads, and below them chains or binary trees.

use super::links::{Far, Links, Near, Side};
use super::model::MATCH_MIN;

/// Words to clear between two polls.
const CLEAR_STEP: usize = 1024;
/// Bytes that a head's hash is made of.
const HEAD_LEN: usize = 4;

/// How to look for matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Only the latest position with the same hash.
    Latest,
    /// That many positions with the same hash, latest first.
    Chain(u32),
    /// That many steps down a binary tree of the positions with the same hash.
    Tree(u32),
}

/// An earlier copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) len: u32,
    /// How far back it is, less one.
    pub(super) distance: u32,
}

/// Most matches that are kept for a position.
const FOUND_MAX: usize = 64;

/// The matches at one position: each longer and farther than the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    matches: [Match; FOUND_MAX],
    count: usize,
}

impl Found {
    pub(super) const fn new() -> Self {
        let none = Match {
            len: 0,
            distance: 0,
        };
        Self {
            matches: [none; FOUND_MAX],
            count: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Returns them, shortest first.
    pub(super) fn all(&self) -> &[Match] {
        self.matches.get(..self.count).unwrap_or(&[])
    }

    /// Returns the longest.
    pub(super) fn longest(&self) -> Option<Match> {
        self.all().last().copied()
    }

    /// Adds a match that is longer than the others; when all places are taken, instead of the last.
    fn push(&mut self, len: usize, delta: usize) {
        let distance = delta.saturating_sub(1) as u32;
        let len = len as u32;
        let at = self.count.min(FOUND_MAX - 1);
        self.matches[at] = Match { len, distance };
        self.count = at + 1;
    }
}

/// Returns how many bytes at the start of both are the same.
#[inline]
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let (words, _) = one.as_chunks::<8>();
    let (other_words, _) = other.as_chunks::<8>();
    let mut len = 0;
    for (&word, &other_word) in words.iter().zip(other_words) {
        let differing = u64::from_le_bytes(word) ^ u64::from_le_bytes(other_word);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    let rest = one.iter().skip(len).zip(other.iter().skip(len));
    len + rest.take_while(|(byte, other)| byte == other).count()
}

/// Returns how many of the first `limit` bytes at two positions are the same.
#[inline]
pub(super) fn common_at(raw: &[u8], here: usize, there: usize, limit: usize) -> usize {
    let here = raw.get(here..).unwrap_or(&[]);
    let there = raw.get(there..).unwrap_or(&[]);
    common(here.get(..limit).unwrap_or(here), there)
}

/// The match finder.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    raw: &'a [u8],
    /// The next position to look at.
    position: usize,
    search: Search,
    /// Longest match that is looked for.
    nice: usize,
    /// The latest position, plus one, by the hash of 2, 3 and 4 bytes.
    pairs: &'a mut [u32],
    triples: &'a mut [u32],
    heads: &'a mut [u32],
    links: &'a mut [u32],
    /// Positions that the links cover.
    window: usize,
    /// Whether a position takes two words instead of one.
    is_far: bool,
    /// The position modulo the window.
    slot: usize,
}

impl<'a> Finder<'a> {
    /// Divides the scratch memory among tables that suit its size.
    pub(super) fn new(
        raw: &'a [u8],
        words: &'a mut [u32],
        search: Search,
        nice: usize,
        poll: &mut dyn FnMut(),
    ) -> Self {
        let room = words.len();
        let share = |divisor: usize, most: usize| {
            let entries = (room / divisor).min(most).min(raw.len());
            entries.checked_ilog2().map_or(0, |bits| 1usize << bits)
        };
        let (pairs, words) = words.split_at_mut(share(64, 1 << 12));
        let (triples, words) = words.split_at_mut(share(16, 1 << 16));
        let divisor = if search == Search::Latest { 1 } else { 4 };
        let entries = (words.len() / divisor).min(raw.len() * 2);
        let entries = entries.checked_ilog2().map_or(0, |bits| 1usize << bits);
        let (heads, links) = words.split_at_mut(entries);
        for table in [&mut *pairs, &mut *triples, &mut *heads] {
            for part in table.chunks_mut(CLEAR_STEP) {
                part.fill(0);
                poll();
            }
        }
        let is_far = match search {
            Search::Tree(_) => links.len() / 2 >= Near::REACH.min(raw.len()),
            _ => false,
        };
        let window = match search {
            Search::Latest => 0,
            Search::Chain(_) => links.len(),
            Search::Tree(_) if is_far => links.len() / 2,
            Search::Tree(_) => links.len().min(Near::REACH),
        };
        Self {
            raw,
            position: 0,
            search,
            nice,
            pairs,
            triples,
            heads,
            links,
            window,
            is_far,
            slot: 0,
        }
    }

    /// Looks at the next position, and takes it in.
    pub(super) fn find(&mut self, found: &mut Found) {
        found.clear();
        self.step(Some(found));
    }

    /// Takes the next `count` positions in without looking for matches.
    pub(super) fn skip(&mut self, count: usize, poll: &mut dyn FnMut()) {
        for index in 0..count {
            if index % 8 == 7 {
                poll();
            }
            self.step(None);
        }
    }

    #[inline]
    fn step(&mut self, found: Option<&mut Found>) {
        self.take_in(found);
        self.position += 1;
        self.slot += 1;
        if self.slot >= self.window {
            self.slot = 0;
        }
    }

    #[inline]
    fn take_in(&mut self, mut found: Option<&mut Found>) {
        let here = self.position;
        let limit = self.nice.min(self.raw.len().saturating_sub(here));
        let Some(&[first, second, third, fourth]) = self
            .raw
            .get(here..)
            .and_then(|rest| rest.first_chunk::<HEAD_LEN>())
        else {
            return;
        };
        let two = u32::from_le_bytes([first, second, 0, 0]);
        let three = two | u32::from(third) << 16;
        let four = three | u32::from(fourth) << 24;

        let mut best = MATCH_MIN - 1;
        if self.search != Search::Latest {
            for (table, key) in [(&mut *self.pairs, two), (&mut *self.triples, three)] {
                let Some(there) = replace(table, key, here) else {
                    continue;
                };
                if let Some(found) = found.as_deref_mut() {
                    let len = common_at(self.raw, here, there, limit);
                    if len > best {
                        best = len;
                        found.push(len, here - there);
                    }
                }
            }
        }
        let head = replace(self.heads, four, here);
        match self.search {
            Search::Latest => {
                if let (Some(there), Some(found)) = (head, found) {
                    let len = common_at(self.raw, here, there, limit);
                    if len > best {
                        found.push(len, here - there);
                    }
                }
            }
            Search::Chain(steps) => self.chain(head, steps, best, limit, found),
            Search::Tree(steps) if self.is_far => {
                let mut links = Far::new(self.links, self.window, self.slot, here);
                tree(self.raw, &mut links, here, head, steps, best, limit, found);
            }
            Search::Tree(steps) => {
                let mut links = Near::new(self.links, self.window, self.slot, here);
                tree(self.raw, &mut links, here, head, steps, best, limit, found);
            }
        }
    }

    #[inline]
    fn chain(
        &mut self,
        head: Option<usize>,
        steps: u32,
        mut best: usize,
        limit: usize,
        found: Option<&mut Found>,
    ) {
        let here = self.position;
        // Zero ends a chain.
        let first = head.map_or(0, |there| here - there);
        if let Some(link) = self.links.get_mut(self.slot) {
            *link = first as u32;
        }
        let Some(found) = found else { return };
        let mut delta = first;
        let mut step = first;
        for _ in 0..steps {
            if step == 0 || delta >= self.window || best >= limit {
                return;
            }
            let there = here - delta;
            if self.raw.get(there + best) == self.raw.get(here + best) {
                let len = common_at(self.raw, here, there, limit);
                if len > best {
                    best = len;
                    found.push(len, delta);
                }
            }
            let slot = if delta > self.slot {
                self.slot + self.window
            } else {
                self.slot
            };
            step = self
                .links
                .get(slot - delta)
                .map_or(0, |&link| link as usize);
            delta = delta.saturating_add(step);
        }
    }
}

/// Puts `here` into a table by the hash of `key` and returns what was there.
#[inline]
fn replace(table: &mut [u32], key: u32, here: usize) -> Option<usize> {
    let bits = table.len().checked_ilog2()?;
    let hash = u64::from(key.wrapping_mul(0x9e37_79b1)) << bits >> 32;
    let entry = table.get_mut(hash as usize)?;
    let there = core::mem::replace(entry, here as u32 + 1);
    (there as usize).checked_sub(1)
}

/// Walks down the tree of positions that begin like `here`, puts `here` at its root and reports longer and longer matches.
///
/// The tree is sorted by the bytes at its positions, and a child is always older than its parent: so the newest match of
/// each length is met first, and what fell out of the window is a whole subtree.
#[inline]
#[expect(
    clippy::too_many_arguments,
    reason = "one call in the hot path; a struct would only carry them there"
)]
fn tree<L: Links>(
    raw: &[u8],
    links: &mut L,
    here: usize,
    root: Option<usize>,
    steps: u32,
    mut best: usize,
    limit: usize,
    mut found: Option<&mut Found>,
) {
    // Where the next smaller and the next greater position will hang, and how much they have in common with `here`.
    let mut smaller = (here, Side::Smaller);
    let mut smaller_len = 0;
    let mut greater = (here, Side::Greater);
    let mut greater_len = 0;
    let mut node = root;
    for _ in 0..steps {
        let Some(there) = node.filter(|&there| links.is_within(there)) else {
            break;
        };
        let known = smaller_len.min(greater_len).min(limit);
        let len = known + common_at(raw, here + known, there + known, limit - known);
        if len > best {
            best = len;
            if let Some(found) = found.as_deref_mut() {
                found.push(len, here - there);
            }
        }
        if len >= limit {
            // As good as the same: `here` takes its place.
            let children = (
                links.child(there, Side::Smaller),
                links.child(there, Side::Greater),
            );
            links.hang(smaller, children.0);
            links.hang(greater, children.1);
            return;
        }
        if raw.get(there + len) < raw.get(here + len) {
            links.hang(smaller, Some(there));
            smaller = (there, Side::Greater);
            smaller_len = len;
            node = links.child(there, Side::Greater);
        } else {
            links.hang(greater, Some(there));
            greater = (there, Side::Smaller);
            greater_len = len;
            node = links.child(there, Side::Smaller);
        }
    }
    links.hang(smaller, None);
    links.hang(greater, None);
}
