// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's working memory: carved once at entry, handed out in parts, never taken back.
//!
//! It is the free part of the crash region where that is larger than what the image itself brings, which is a
//! [`StaticArena`]; `capture_entry` decides.

use crate::once_buffer::OnceBuffer;

#[cfg(target_os = "none")]
mod carve;
#[cfg(any(target_os = "none", test))]
mod free_part;

#[cfg(target_os = "none")]
pub(crate) use carve::carve;

/// Alignment of every part in bytes.
const ALIGN: usize = 16;

/// `N` bytes of the image, for a region that has no more.
#[derive(Debug)]
pub struct StaticArena<const N: usize>(OnceBuffer<Aligned<N>>);

#[repr(C, align(64))]
#[derive(Debug)]
struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> StaticArena<N> {
    /// An arena of zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceBuffer::new(Aligned([0; N])))
    }

    /// The bytes, the first time; `None` after.
    pub fn take(&'static self) -> Option<&'static mut [u8]> {
        self.0.take().map(|aligned| aligned.0.as_mut_slice())
    }
}

impl<const N: usize> Default for StaticArena<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory to hand out. What is in it is undefined: zeros, or what an earlier owner left.
#[derive(Debug, Default)]
pub struct Room {
    rest: &'static mut [u8],
}

impl Room {
    /// All of `bytes`, from the first on.
    #[must_use]
    pub fn new(bytes: &'static mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left; the next part may lose up to 15 of them to its alignment.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes, aligned to 16; `None`, and nothing is lost, when there are not so many.
    pub fn bytes(&mut self, len: usize) -> Option<&'static mut [u8]> {
        let skip = self.rest.as_ptr().align_offset(ALIGN);
        let end = skip.checked_add(len)?;
        if end > self.rest.len() {
            return None;
        }
        let (part, rest) = core::mem::take(&mut self.rest).split_at_mut(end);
        self.rest = rest;
        part.get_mut(skip..)
    }

    /// The next `count` words, aligned to 16; `None`, and nothing is lost, when there are not so many.
    pub fn words(&mut self, count: usize) -> Option<&'static mut [u32]> {
        let bytes = self.bytes(count.checked_mul(size_of::<u32>())?)?;
        // SAFETY: every bit pattern is a u32 and four bytes; the bytes are initialised and borrowed for good.
        let (_, words, _) = unsafe { bytes.align_to_mut::<u32>() };
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    fn room<const N: usize>() -> Room {
        Room::new(Box::leak(Box::new(Aligned([7; N]))).0.as_mut_slice())
    }

    #[test]
    fn parts_are_disjoint_and_aligned() {
        let mut room = room::<256>();
        let first = room.bytes(5).unwrap();
        let second = room.words(3).unwrap();
        let third = room.bytes(1).unwrap();
        first.fill(1);
        second.fill(0x0202_0202);
        third.fill(3);
        let starts = [
            first.as_ptr().addr(),
            second.as_ptr().addr(),
            third.as_ptr().addr(),
        ];
        assert_eq!(starts.map(|start| start % 16), [0; 3]);
        assert_eq!((first.len(), second.len(), third.len()), (5, 3, 1));
        assert_eq!((first[4], second[2], third[0]), (1, 0x0202_0202, 3));
    }

    #[test]
    fn all_of_a_room_can_be_taken() {
        let mut room = room::<64>();
        assert_eq!(room.left(), 64);
        assert_eq!(room.words(16).map(|words| words.len()), Some(16));
        assert_eq!(room.left(), 0);
        assert!(room.bytes(1).is_none());
        assert_eq!(room.bytes(0).map(|bytes| bytes.len()), Some(0));
    }

    #[test]
    fn part_past_the_end_is_refused_and_costs_nothing() {
        let mut room = room::<64>();
        assert!(room.bytes(65).is_none());
        assert!(room.bytes(usize::MAX).is_none());
        assert!(room.words(17).is_none());
        assert!(room.words(usize::MAX).is_none());
        assert_eq!(room.left(), 64);
    }

    #[test]
    fn part_that_only_its_alignment_makes_too_long_is_refused() {
        let mut room = room::<32>();
        room.bytes(1).unwrap();
        assert_eq!(room.left(), 31);
        assert!(room.bytes(17).is_none());
        assert_eq!(room.bytes(16).map(|bytes| bytes.len()), Some(16));
    }

    #[test]
    fn empty_room_hands_out_nothing() {
        let mut room = Room::default();
        assert_eq!(room.left(), 0);
        assert!(room.bytes(1).is_none());
        assert!(room.words(1).is_none());
    }

    #[test]
    fn arena_is_given_away_once() {
        static ARENA: StaticArena<100> = StaticArena::new();
        assert_eq!(ARENA.take().map(|bytes| bytes.len()), Some(100));
        assert!(ARENA.take().is_none());
    }
}
