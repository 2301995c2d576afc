// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are like another page, until that one is there and can be copied.

use std::collections::{BTreeMap, BTreeSet};

use vmcore::PhysRange;

/// Most pages that are waited for: 16 GiB of them. What comes on top is lost.
const WAITING_MAX: usize = 1 << 22;

/// Pages that wait, by physical address.
#[derive(Debug, Default)]
pub struct Duplicates {
    /// The page that each is like.
    source_of: BTreeMap<u64, u64>,
    /// The same, by source: (source, page).
    by_source: BTreeSet<(u64, u64)>,
}

impl Duplicates {
    /// Lets `page` wait for `source`, and for no other any more; false when too many wait.
    pub fn add(&mut self, page: u64, source: u64) -> bool {
        self.remove(page);
        if self.source_of.len() >= WAITING_MAX {
            return false;
        }
        self.source_of.insert(page, source);
        self.by_source.insert((source, page));
        true
    }

    /// Forgets `page`, whose bytes are there.
    pub fn remove(&mut self, page: u64) {
        if let Some(source) = self.source_of.remove(&page) {
            self.by_source.remove(&(source, page));
        }
    }

    /// Takes out those whose source lies in `sources`: (source, page).
    pub fn take(&mut self, sources: PhysRange) -> Vec<(u64, u64)> {
        let found = self.by_source.range((sources.start, 0)..(sources.end, 0));
        let found: Vec<(u64, u64)> = found.copied().collect();
        found.iter().for_each(|(_, page)| self.remove(*page));
        found
    }

    /// Returns how many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.source_of.len()
    }

    /// Returns whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source_of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn pages_are_taken_by_their_source() {
        let mut waiting = Duplicates::default();
        for (page, source) in [(0x5000, 0x1000), (0x6000, 0x1000), (0x7000, 0x3000)] {
            assert!(waiting.add(page, source));
        }
        assert_eq!(
            waiting.take(range(0x1000, 0x3000)),
            [(0x1000, 0x5000), (0x1000, 0x6000)]
        );
        assert_eq!(waiting.len(), 1);
        assert!(waiting.take(range(0x1000, 0x3000)).is_empty());
    }

    #[test]
    fn page_waits_for_one_source_only() {
        let mut waiting = Duplicates::default();
        waiting.add(0x5000, 0x1000);
        waiting.add(0x5000, 0x2000);
        assert!(waiting.take(range(0x1000, 0x2000)).is_empty());
        assert_eq!(waiting.take(range(0x2000, 0x3000)), [(0x2000, 0x5000)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn page_that_came_itself_does_not_wait() {
        let mut waiting = Duplicates::default();
        waiting.add(0x5000, 0x1000);
        waiting.remove(0x5000);
        assert!(waiting.take(range(0, u64::MAX)).is_empty());
    }
}
