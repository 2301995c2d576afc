// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list of at most `N` entries that lives in place, without an allocator.
//!
//! The device tree is read before there is a heap. What did not fit is counted, never dropped in silence.

/// A list of at most `N` copyable entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedList<T: Copy, const N: usize> {
    entries: [Option<T>; N],
    len: usize,
    missed: usize,
}

impl<T: Copy, const N: usize> FixedList<T, N> {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: [None; N],
            len: 0,
            missed: 0,
        }
    }

    /// Appends `entry`, or counts it as missed when the list is full; returns whether it fitted.
    pub fn push(&mut self, entry: T) -> bool {
        match self.entries.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(entry);
                self.len = self.len.saturating_add(1);
                true
            }
            None => {
                self.missed = self.missed.saturating_add(1);
                false
            }
        }
    }

    /// Returns the number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many entries did not fit.
    #[must_use]
    pub const fn missed(&self) -> usize {
        self.missed
    }

    /// Returns the entry at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        self.entries.get(index).copied().flatten()
    }

    /// Returns the first entry.
    #[must_use]
    pub fn first(&self) -> Option<T> {
        self.get(0)
    }

    /// Iterates over the entries in the order they were pushed.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + '_ {
        self.entries.iter().filter_map(|entry| *entry)
    }
}

impl<T: Copy, const N: usize> Default for FixedList<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_within_capacity_keeps_order() {
        let mut list = FixedList::<u8, 2>::new();
        assert!(list.push(7));
        assert!(list.push(9));
        assert!(list.iter().eq([7, 9]));
        assert_eq!(
            (list.len(), list.first(), list.get(1)),
            (2, Some(7), Some(9))
        );
    }

    #[test]
    fn push_beyond_capacity_is_counted() {
        let mut list = FixedList::<u8, 1>::new();
        assert!(list.is_empty());
        assert!(list.push(1));
        assert!(!list.push(2));
        assert!(!list.push(3));
        assert_eq!((list.len(), list.missed(), list.get(1)), (1, 2, None));
    }
}
