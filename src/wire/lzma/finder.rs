// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds earlier copies of the bytes at a position: heads by hash, and below them chains or binary trees.

use super::model::{MATCH_MAX, MATCH_MIN};

/// Words to clear between two polls.
const CLEAR_STEP: usize = 1024;
/// What part of the scratch memory the heads get when there are links, too: links to all of a block matter more.
const HEADS_SHARE: usize = 16;

/// How to look for matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Only the latest position with the same hash.
    Latest,
    /// That many positions with the same hash, latest first.
    Chain(u32),
    /// That many steps down a sorted tree of the positions with the same hash, if there is memory for trees; else a chain.
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

/// The latest positions of pairs of bytes, plus one.
pub(super) type Pairs = [u32; 1 << PAIR_BITS];
const PAIR_BITS: u32 = 9;

/// Where links to earlier positions with the same hash are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// No links: only heads.
    Heads,
    /// A chain, by distances of 16 bits, two in a word. A longer distance ends the chain; with few heads that is rare.
    ShortChain,
    /// A chain, by distances of a word.
    Chain,
    /// A binary tree, by two distances of a word.
    Tree,
}

/// The match finder.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    raw: &'a [u8],
    /// The next position to look at.
    position: usize,
    layout: Layout,
    /// Links that are followed at a position.
    steps: u32,
    /// Longest match that is looked for.
    nice: usize,
    pairs: &'a mut Pairs,
    /// The latest position, plus one, by a hash of its first bytes.
    heads: &'a mut [u32],
    links: &'a mut [u32],
    /// Positions that the links cover.
    window: usize,
    /// The position modulo the window.
    slot: usize,
}

impl<'a> Finder<'a> {
    /// Divides the scratch memory into heads and links as suits its size.
    pub(super) fn new(
        raw: &'a [u8],
        pairs: &'a mut Pairs,
        words: &'a mut [u32],
        search: Search,
        nice: usize,
        poll: &mut dyn FnMut(),
    ) -> Self {
        let share = if search == Search::Latest {
            1
        } else {
            HEADS_SHARE
        };
        let heads = (words.len() / share).min(raw.len().saturating_mul(2));
        let heads = heads.checked_ilog2().map_or(0, |bits| 1 << bits);
        let (heads, links) = words.split_at_mut(heads);
        pairs.fill(0);
        for part in heads.chunks_mut(CLEAR_STEP) {
            part.fill(0);
            poll();
        }
        let (layout, steps) = match search {
            Search::Latest => (Layout::Heads, 0),
            Search::Tree(steps) if links.len() / 2 >= raw.len() => (Layout::Tree, steps),
            Search::Tree(steps) | Search::Chain(steps) if links.len() >= raw.len() => {
                (Layout::Chain, steps)
            }
            Search::Tree(steps) | Search::Chain(steps) => (Layout::ShortChain, steps),
        };
        let window = match layout {
            Layout::Heads => 0,
            Layout::ShortChain => links.len().saturating_mul(2),
            Layout::Chain => links.len(),
            Layout::Tree => links.len() / 2,
        };
        Self {
            raw,
            position: 0,
            layout,
            steps,
            nice,
            pairs,
            heads,
            links,
            window,
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

    /// Returns the distance (less one) and the length of a match so long that it is taken at once.
    ///
    /// With the whole length as the limit, this is so at one of the last distances only: a new one may not be the best.
    pub(super) fn long(
        &self,
        found: &Found,
        position: usize,
        limit: usize,
        reps: &[u32; 4],
    ) -> Option<(u32, usize)> {
        let len = |distance: u32| {
            let there = position.checked_sub(distance as usize + 1)?;
            Some(common_at(self.raw, position, there, limit)).filter(|&len| len >= self.nice)
        };
        if let Some(long) = reps.iter().find_map(|&rep| Some((rep, len(rep)?))) {
            return Some(long);
        }
        let longest = found.longest().filter(|_| self.nice < MATCH_MAX)?;
        Some((longest.distance, len(longest.distance)?))
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
        let bytes = self.raw.get(here..).and_then(|rest| rest.first_chunk());
        let Some(&[first, second, third, fourth]) = bytes else {
            return;
        };
        let key = u32::from_le_bytes([first, second, third, 0]);
        let mut best = MATCH_MIN - 1;
        if self.layout == Layout::Heads {
            let head = replace(self.heads, key | u32::from(fourth) << 24, here);
            if let (Some(there), Some(found)) = (head, found) {
                self.consider(there, limit, &mut best, found);
            }
            return;
        }
        if let Some(there) = replace(self.pairs, key & 0xffff, here)
            && let Some(found) = found.as_deref_mut()
        {
            self.consider(there, limit, &mut best, found);
        }
        let head = replace(self.heads, key, here);
        if self.layout == Layout::Tree {
            self.tree(head, limit, best, found);
        } else {
            self.chain(head, limit, best, found);
        }
    }

    /// Reports the match at an earlier position if it is longer than the best so far.
    #[inline]
    fn consider(&self, there: usize, limit: usize, best: &mut usize, found: &mut Found) {
        let len = common_at(self.raw, self.position, there, limit);
        if len > *best {
            *best = len;
            found.push(len, self.position - there);
        }
    }

    /// Returns the slot of a position that is that far back.
    #[inline]
    fn slot_back(&self, back: usize) -> usize {
        let slot = self.slot.wrapping_sub(back);
        if back > self.slot {
            slot.wrapping_add(self.window)
        } else {
            slot
        }
    }

    /// Puts the position before the others in its chain, and follows the chain.
    #[inline]
    fn chain(
        &mut self,
        head: Option<usize>,
        limit: usize,
        mut best: usize,
        found: Option<&mut Found>,
    ) {
        let here = self.position;
        // Zero ends a chain.
        let mut step = head.map_or(0, |there| here - there);
        self.set_step(step);
        let Some(found) = found else { return };
        let mut back = 0usize;
        for _ in 0..self.steps {
            back = back.saturating_add(step);
            if step == 0 || back >= self.window || best >= limit {
                return;
            }
            let Some(there) = here.checked_sub(back) else {
                return;
            };
            // Most candidates differ where a longer match would go on.
            if self.raw.get(there + best) == self.raw.get(here + best) {
                self.consider(there, limit, &mut best, found);
            }
            step = self.step_at(self.slot_back(back));
        }
    }

    #[inline]
    fn set_step(&mut self, step: usize) {
        if self.layout == Layout::Chain {
            if let Some(link) = self.links.get_mut(self.slot) {
                *link = step as u32;
            }
        } else if let Some(link) = self.links.get_mut(self.slot / 2) {
            let half = u32::from(u16::try_from(step).unwrap_or(0));
            *link = match self.slot % 2 {
                0 => *link & 0xffff_0000 | half,
                _ => *link & 0xffff | half << 16,
            };
        }
    }

    #[inline]
    fn step_at(&self, slot: usize) -> usize {
        let (index, shift) = match self.layout {
            Layout::Chain => (slot, 0),
            _ => (slot / 2, slot % 2 * 16),
        };
        let link = self.links.get(index).copied().unwrap_or(0) >> shift;
        if self.layout == Layout::Chain {
            link as usize
        } else {
            link as usize & 0xffff
        }
    }

    /// Makes the position the root of its tree, and reports matches on the way down.
    ///
    /// The tree is sorted by the bytes at its positions, and a child is always older than its parent: so the nearest match
    /// of each length comes first, and what falls out of the window is a whole subtree.
    #[inline]
    fn tree(
        &mut self,
        root: Option<usize>,
        limit: usize,
        mut best: usize,
        mut found: Option<&mut Found>,
    ) {
        let here = self.position;
        // Where the next smaller and the next greater position will hang, and what they have in common with this one.
        let mut smaller = (here, Side::Smaller);
        let mut smaller_len = 0;
        let mut greater = (here, Side::Greater);
        let mut greater_len = 0;
        let mut node = root;
        for _ in 0..self.steps {
            let is_within = |&there: &usize| there < here && here - there < self.window;
            let Some(there) = node.filter(is_within) else {
                break;
            };
            let known = smaller_len.min(greater_len).min(limit);
            let len = known + common_at(self.raw, here + known, there + known, limit - known);
            if len > best {
                best = len;
                if let Some(found) = found.as_deref_mut() {
                    found.push(len, here - there);
                }
            }
            if len >= limit {
                // As good as the same: this position takes its place.
                self.hang(smaller, self.child(there, Side::Smaller));
                self.hang(greater, self.child(there, Side::Greater));
                return;
            }
            if self.raw.get(there + len) < self.raw.get(here + len) {
                self.hang(smaller, Some(there));
                smaller = (there, Side::Greater);
                smaller_len = len;
            } else {
                self.hang(greater, Some(there));
                greater = (there, Side::Smaller);
                greater_len = len;
            }
            let side = if smaller.0 == there {
                Side::Greater
            } else {
                Side::Smaller
            };
            node = self.child(there, side);
        }
        self.hang(smaller, None);
        self.hang(greater, None);
    }

    #[inline]
    fn place(&self, node: usize, side: Side) -> usize {
        self.slot_back(self.position.wrapping_sub(node)) * 2 + usize::from(side == Side::Greater)
    }

    #[inline]
    fn child(&self, node: usize, side: Side) -> Option<usize> {
        let back = self
            .links
            .get(self.place(node, side))
            .map_or(0, |&link| link as usize);
        node.checked_sub(back).filter(|_| back != 0)
    }

    #[inline]
    fn hang(&mut self, (node, side): (usize, Side), child: Option<usize>) {
        let place = self.place(node, side);
        if let Some(link) = self.links.get_mut(place) {
            *link = child.map_or(0, |child| node.wrapping_sub(child)) as u32;
        }
    }
}

/// Which child of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Smaller,
    Greater,
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
