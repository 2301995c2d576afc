// SPDX-License-Identifier: MIT OR Apache-2.0
//! The links of the match finder's binary trees, as distances to the children: two halves of a word, or two words.

/// Which child of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Smaller,
    Greater,
}

/// Two links for each position of the window.
pub(super) trait Links {
    /// Whether a position is still in the window.
    fn is_within(&self, position: usize) -> bool;

    /// Returns the child at that side.
    fn child(&self, node: usize, side: Side) -> Option<usize>;

    /// Makes `child` the child of `place`; it is older than the node.
    fn hang(&mut self, place: (usize, Side), child: Option<usize>);
}

/// The place of the window in a ring of slots.
#[derive(Clone, Copy, Debug)]
struct Window {
    len: usize,
    slot: usize,
    here: usize,
}

impl Window {
    #[inline]
    fn slot(&self, position: usize) -> usize {
        let back = self.here.wrapping_sub(position);
        let slot = self.slot.wrapping_sub(back);
        if back > self.slot {
            slot.wrapping_add(self.len)
        } else {
            slot
        }
    }

    #[inline]
    fn is_within(&self, position: usize) -> bool {
        let back = self.here.wrapping_sub(position);
        back > 0 && back < self.len
    }
}

/// One word for a position, for windows that 16 bits span.
#[derive(Debug)]
pub(super) struct Near<'a> {
    words: &'a mut [u32],
    window: Window,
}

impl<'a> Near<'a> {
    /// Largest window.
    pub(super) const REACH: usize = 1 << 16;

    pub(super) fn new(words: &'a mut [u32], len: usize, slot: usize, here: usize) -> Self {
        let window = Window { len, slot, here };
        Self { words, window }
    }
}

impl Links for Near<'_> {
    #[inline]
    fn is_within(&self, position: usize) -> bool {
        self.window.is_within(position)
    }

    #[inline]
    fn child(&self, node: usize, side: Side) -> Option<usize> {
        let word = *self.words.get(self.window.slot(node))?;
        let back = match side {
            Side::Smaller => word & 0xffff,
            Side::Greater => word >> 16,
        };
        node.checked_sub(back as usize).filter(|_| back != 0)
    }

    #[inline]
    fn hang(&mut self, (node, side): (usize, Side), child: Option<usize>) {
        let back = child.map_or(0, |child| node.wrapping_sub(child)) as u32 & 0xffff;
        if let Some(word) = self.words.get_mut(self.window.slot(node)) {
            *word = match side {
                Side::Smaller => *word & 0xffff_0000 | back,
                Side::Greater => *word & 0xffff | back << 16,
            };
        }
    }
}

/// Two words for a position.
#[derive(Debug)]
pub(super) struct Far<'a> {
    words: &'a mut [u32],
    window: Window,
}

impl<'a> Far<'a> {
    pub(super) fn new(words: &'a mut [u32], len: usize, slot: usize, here: usize) -> Self {
        let window = Window { len, slot, here };
        Self { words, window }
    }

    #[inline]
    fn place(&self, node: usize, side: Side) -> usize {
        self.window.slot(node) * 2 + usize::from(side == Side::Greater)
    }
}

impl Links for Far<'_> {
    #[inline]
    fn is_within(&self, position: usize) -> bool {
        self.window.is_within(position)
    }

    #[inline]
    fn child(&self, node: usize, side: Side) -> Option<usize> {
        let back = *self.words.get(self.place(node, side))?;
        node.checked_sub(back as usize).filter(|_| back != 0)
    }

    #[inline]
    fn hang(&mut self, (node, side): (usize, Side), child: Option<usize>) {
        let back = child.map_or(0, |child| node.wrapping_sub(child)) as u32;
        let place = self.place(node, side);
        if let Some(link) = self.words.get_mut(place) {
            *link = back;
        }
    }
}
