// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blocks that are packed and not yet known to be stored, and which parts of them are on their way.
//!
//! The packed bytes lie in the order of the blocks, and move to the front when there is no room behind them. Of each block two maps, with a bit for each unit of bytes, say
//! what was sent and what arrived; what is lost becomes unsent again. So there is no list that could overflow.

use core::cell::Cell;

use crate::block::{BLOCK_MAX, PIECE_MAX};

/// Blocks in the window.
pub const SLOTS: usize = 4;
/// Bytes of the smallest part that is acknowledged: the shortest piece.
pub(super) const UNIT: usize = 32;
const WORD_BITS: usize = u32::BITS as usize;

/// Returns the words of the maps of a window whose blocks have up to `block_len` bytes.
#[must_use]
pub const fn map_words(block_len: usize) -> usize {
    let words = block_len.div_ceil(UNIT).div_ceil(WORD_BITS);
    words.saturating_mul(2 * SLOTS)
}

/// Part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) block: u32,
    pub(super) first_unit: u32,
    pub(super) units: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    block: u32,
    /// Where in the ring it lies.
    start: usize,
    len: usize,
    /// Units before this one are all sent.
    hint: usize,
    /// Whether it needs no more sending, while others before it do.
    is_over: bool,
}

impl Slot {
    /// Returns the bytes that it is still needed for.
    const fn held(&self) -> usize {
        if self.is_over { 0 } else { self.len }
    }
}

/// The window.
#[derive(Debug)]
pub(super) struct Window<'a> {
    ring: &'a [Cell<u8>],
    maps: &'a mut [u32],
    slots: [Slot; SLOTS],
    count: usize,
    /// Number of the map pair of the first slot; the others follow in a circle.
    first_map: usize,
    /// Start and length of the room that was given out.
    given: Option<(usize, usize)>,
}

impl<'a> Window<'a> {
    pub(super) fn new(ring: &'a [Cell<u8>], maps: &'a mut [u32]) -> Self {
        const EMPTY: Slot = Slot {
            block: 0,
            start: 0,
            len: 0,
            hint: 0,
            is_over: false,
        };
        Self {
            ring,
            maps,
            slots: [EMPTY; SLOTS],
            count: 0,
            first_map: 0,
            given: None,
        }
    }

    fn slots(&self) -> &[Slot] {
        self.slots.get(..self.count).unwrap_or_default()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of the first block that has not been sent whole.
    pub(super) fn first_unsent(&self) -> Option<u32> {
        let unsent = |slot: &&Slot| !slot.is_over && slot.hint < slot.len.div_ceil(UNIT);
        self.slots().iter().find(unsent).map(|slot| slot.block)
    }

    /// Returns the bytes of packed blocks that have not been sent for the first time, roughly.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.slots()
            .iter()
            .filter(|slot| !slot.is_over)
            .fold(0, |sum: usize, slot| {
                let sent = slot.hint.saturating_mul(UNIT);
                sum.saturating_add(slot.len.saturating_sub(sent))
            })
    }

    /// Gives out room for a block of up to `len` bytes, for [`Window::push`]; `None` until something was stored.
    pub(super) fn room(&mut self, len: usize) -> Option<&'a [Cell<u8>]> {
        self.given = None;
        if self.count >= SLOTS || len > self.units_max().saturating_mul(UNIT) {
            return None;
        }
        if self.ring.len().saturating_sub(self.end()) < len {
            let held = self.slots().iter().map(Slot::held);
            let held = held.fold(0, usize::saturating_add);
            if self.ring.len().saturating_sub(held) < len {
                return None;
            }
            self.move_down();
        }
        let start = self.end();
        let room = self.ring.get(start..start.checked_add(len)?)?;
        self.given = Some((start, len));
        Some(room)
    }

    /// Returns where the last block ends.
    fn end(&self) -> usize {
        let last = self.slots().last();
        last.map_or(0, |last| last.start.saturating_add(last.len))
    }

    /// Moves all blocks that are still needed to the front. A ring that wraps would leave two parts free, each too short for
    /// the next block, and the line would wait; moving costs far less than the packing does.
    fn move_down(&mut self) {
        let mut to = 0_usize;
        for slot in self.slots.iter_mut().take(self.count) {
            let len = slot.held();
            for at in 0..len {
                let from = self.ring.get(slot.start.saturating_add(at));
                if let (Some(from), Some(to)) = (from, self.ring.get(to.saturating_add(at))) {
                    to.set(from.get());
                }
            }
            (slot.start, slot.len) = (to, len);
            to = to.saturating_add(len);
        }
    }

    /// Takes in the block of `len` bytes that lies at the start of the room given out; false when there is none.
    pub(super) fn push(&mut self, block: u32, len: usize) -> bool {
        let Some((start, _)) = self
            .given
            .take()
            .filter(|&(_, room)| len <= room && len != 0)
        else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(self.count) else {
            return false;
        };
        *slot = Slot {
            block,
            start,
            len,
            hint: 0,
            is_over: false,
        };
        let index = self.count;
        self.count = self.count.saturating_add(1);
        self.sent_mut(index).fill(0);
        self.arrived_mut(index).fill(0);
        true
    }

    fn units_max(&self) -> usize {
        self.words_per_map().saturating_mul(WORD_BITS)
    }

    const fn words_per_map(&self) -> usize {
        self.maps.len() / (2 * SLOTS)
    }

    /// Returns the two maps of the slot number `index`: sent, arrived.
    fn maps_mut(&mut self, index: usize) -> (&mut [u32], &mut [u32]) {
        let words = self.words_per_map();
        let number = self.first_map.saturating_add(index) % SLOTS;
        let start = number.saturating_mul(2).saturating_mul(words);
        let pair = self
            .maps
            .get_mut(start..start.saturating_add(words.saturating_mul(2)))
            .unwrap_or_default();
        pair.split_at_mut_checked(words).unwrap_or_default()
    }

    fn sent_mut(&mut self, index: usize) -> &mut [u32] {
        self.maps_mut(index).0
    }

    fn arrived_mut(&mut self, index: usize) -> &mut [u32] {
        self.maps_mut(index).1
    }

    fn index_of(&self, block: u32) -> Option<usize> {
        self.slots()
            .iter()
            .position(|slot| slot.block == block && !slot.is_over)
    }

    /// Returns the first part that is not sent, of at most `len_max` bytes, and marks it as sent.
    pub(super) fn next_part(&mut self, len_max: usize) -> Option<Part> {
        let units_max = (len_max.min(PIECE_MAX) / UNIT).max(1);
        for index in 0..self.count {
            let slot = *self.slots.get(index)?;
            if slot.is_over {
                continue;
            }
            let units = slot.len.div_ceil(UNIT);
            let sent = self.sent_mut(index);
            let Some(first) = next_clear(sent, slot.hint, units) else {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.hint = units;
                }
                continue;
            };
            let mut end = first;
            while end < units && end.saturating_sub(first) < units_max && !is_set(sent, end) {
                set(sent, end);
                end = end.saturating_add(1);
            }
            if let Some(slot) = self.slots.get_mut(index) {
                slot.hint = end;
            }
            return Some(Part {
                block: slot.block,
                first_unit: first as u32,
                units: end.saturating_sub(first) as u32,
            });
        }
        None
    }

    /// Copies the bytes of `part` into `out`; returns its offset in the block, and its length.
    pub(super) fn copy(&self, part: Part, out: &mut [u8]) -> Option<(u32, usize)> {
        let slot = self.slots().iter().find(|slot| slot.block == part.block)?;
        let offset = (part.first_unit as usize).checked_mul(UNIT)?;
        let len = (part.units as usize)
            .checked_mul(UNIT)?
            .min(slot.len.checked_sub(offset)?);
        let start = slot.start.checked_add(offset)?;
        let from = self.ring.get(start..start.checked_add(len)?)?;
        for (to, from) in out.get_mut(..len)?.iter_mut().zip(from) {
            *to = from.get();
        }
        Some((u32::try_from(offset).ok()?, len))
    }

    /// Notes that `part` arrived.
    pub(super) fn arrived(&mut self, part: Part) {
        if let Some(index) = self.index_of(part.block) {
            let arrived = self.arrived_mut(index);
            units_of(part).for_each(|unit| set(arrived, unit));
        }
    }

    /// Makes what of `part` did not arrive unsent.
    pub(super) fn lost(&mut self, part: Part) {
        let Some(index) = self.index_of(part.block) else {
            return;
        };
        let (sent, arrived) = self.maps_mut(index);
        for unit in units_of(part) {
            if !is_set(arrived, unit) {
                clear(sent, unit);
            }
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.hint = slot.hint.min(part.first_unit as usize);
        }
    }

    /// Makes all of `block` unsent, or of every block for `None`.
    pub(super) fn forget(&mut self, block: Option<u32>) {
        for index in 0..self.count {
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if block.is_none_or(|block| block == slot.block) && !slot.is_over {
                slot.hint = 0;
                self.sent_mut(index).fill(0);
                self.arrived_mut(index).fill(0);
            }
        }
    }

    /// Drops the blocks for which `is_over` holds: they need not be sent any more.
    pub(super) fn drop_if(&mut self, mut is_over: impl FnMut(u32) -> bool) {
        for slot in self.slots.iter_mut().take(self.count) {
            slot.is_over |= is_over(slot.block);
        }
        // The slots are freed in order.
        while self.count > 0 && self.slots.first().is_some_and(|slot| slot.is_over) {
            self.slots.rotate_left(1);
            self.count = self.count.saturating_sub(1);
            self.first_map = self.first_map.saturating_add(1) % SLOTS;
        }
    }

    /// Drops all blocks, and the room that was given out.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.given = None;
    }

    /// Drops the blocks that were sent to their end.
    pub(super) fn drop_sent(&mut self) {
        for slot in self.slots.iter_mut().take(self.count) {
            slot.is_over |= slot.hint >= slot.len.div_ceil(UNIT);
        }
        self.drop_if(|_| false);
    }
}

fn units_of(part: Part) -> core::ops::Range<usize> {
    let first = part.first_unit as usize;
    // A part never has more units than the longest block, whatever a record says.
    let units = (part.units as usize).min(BLOCK_MAX / UNIT + 1);
    first..first.saturating_add(units)
}

fn is_set(map: &[u32], bit: usize) -> bool {
    map.get(bit / WORD_BITS)
        .is_none_or(|word| word & 1 << (bit % WORD_BITS) != 0)
}

fn set(map: &mut [u32], bit: usize) {
    if let Some(word) = map.get_mut(bit / WORD_BITS) {
        *word |= 1 << (bit % WORD_BITS);
    }
}

fn clear(map: &mut [u32], bit: usize) {
    if let Some(word) = map.get_mut(bit / WORD_BITS) {
        *word &= !(1 << (bit % WORD_BITS));
    }
}

/// Returns the first bit from `from` to `end` that is not set.
fn next_clear(map: &[u32], from: usize, end: usize) -> Option<usize> {
    let mut at = from;
    while at < end {
        let word = map.get(at / WORD_BITS)?;
        if *word == u32::MAX {
            at = (at / WORD_BITS).saturating_add(1).saturating_mul(WORD_BITS);
        } else if word & 1 << (at % WORD_BITS) != 0 {
            at = at.saturating_add(1);
        } else {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A ring of 1000 bytes for blocks of up to 512.
    fn with_window(run: impl FnOnce(&mut Window<'_>)) {
        let mut ring = vec![0; 1000];
        let mut maps = vec![u32::MAX; map_words(512)];
        run(&mut Window::new(
            Cell::from_mut(&mut ring[..]).as_slice_of_cells(),
            &mut maps,
        ));
    }

    fn put(window: &mut Window<'_>, block: u32, len: usize) -> bool {
        let Some(room) = window.room(len) else {
            return false;
        };
        room.iter().for_each(|cell| cell.set(block as u8));
        window.push(block, len)
    }

    fn parts(window: &mut Window<'_>, len_max: usize) -> Vec<(u32, u32, u32)> {
        core::iter::from_fn(|| window.next_part(len_max))
            .map(|part| (part.block, part.first_unit, part.units))
            .collect()
    }

    #[test]
    fn blocks_are_sent_once_in_order_and_in_parts() {
        with_window(|window| {
            assert!(put(window, 7, 100) && put(window, 8, 40));
            assert_eq!(parts(window, 64), [(7, 0, 2), (7, 2, 2), (8, 0, 2)]);
            let mut out = [0; 64];
            let last = Part {
                block: 7,
                first_unit: 2,
                units: 2,
            };
            assert_eq!(window.copy(last, &mut out), Some((64, 36)));
            assert_eq!(out[35..37], [7, 0]);
        });
    }

    #[test]
    fn part_lost_is_sent_again_and_first_unless_it_arrived_otherwise() {
        with_window(|window| {
            assert!(put(window, 7, 320));
            parts(window, 64);
            let part = |first_unit, units| Part {
                block: 7,
                first_unit,
                units,
            };
            window.arrived(part(3, 1));
            window.lost(part(2, 2));
            assert_eq!(parts(window, 64), [(7, 2, 1)]);
        });
    }

    #[test]
    fn room_of_stored_blocks_is_used_again_wherever_it_is() {
        with_window(|window| {
            assert!(put(window, 0, 400) && put(window, 1, 400));
            assert!(!put(window, 2, 300));
            window.drop_if(|block| block == 0);
            assert!(put(window, 2, 500), "200 behind and 400 before are 600");
            window.drop_if(|block| block == 2);
            assert!(put(window, 3, 512) && window.room(90).is_none());
            let mut out = [0; 512];
            let part = |block, units| Part {
                block,
                first_unit: 0,
                units,
            };
            assert_eq!(window.copy(part(1, 13), &mut out), Some((0, 400)));
            assert_eq!((out[0], out[399]), (1, 1));
            assert_eq!(window.copy(part(3, 16), &mut out), Some((0, 512)));
            assert_eq!((out[0], out[511]), (3, 3));
        });
    }

    #[test]
    fn blocks_too_long_or_too_many_are_refused() {
        with_window(|window| {
            assert!(window.room(1025).is_none(), "longer than the maps");
            (0..SLOTS as u32).for_each(|block| assert!(put(window, block, 10)));
            assert!(!put(window, 9, 10));
        });
    }

    #[test]
    fn maps_of_a_slot_used_again_are_empty() {
        with_window(|window| {
            for block in 0..9 {
                assert!(put(window, block, 64));
                assert_eq!(parts(window, 4096), [(block, 0, 2)]);
                window.drop_sent();
                assert!(window.is_empty());
            }
        });
    }

    #[test]
    fn block_is_not_dropped_before_its_last_part() {
        with_window(|window| {
            // Number 0 is what places that were never used say, too.
            assert!(put(window, 0, 100));
            assert!(window.next_part(64).is_some());
            window.drop_sent();
            assert!(!window.is_empty());
            assert_eq!(parts(window, 64), [(0, 2, 2)]);
            window.drop_sent();
            assert!(window.is_empty());
        });
    }

    #[test]
    fn block_forgotten_is_sent_whole_again() {
        with_window(|window| {
            assert!(put(window, 1, 64) && put(window, 2, 64));
            parts(window, 64);
            window.forget(Some(2));
            assert_eq!(parts(window, 64), [(2, 0, 2)]);
            window.forget(None);
            assert_eq!(parts(window, 64), [(1, 0, 2), (2, 0, 2)]);
        });
    }
}
