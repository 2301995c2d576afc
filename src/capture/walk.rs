// SPDX-License-Identifier: MIT OR Apache-2.0
//! One step after the other through the planned memory: what becomes of the next pages.
//!
//! The order of questions is fixed: marked as secret, marked as application data, left out by the kernel's account of its
//! pages, unreadable, zero. The account comes before the read, so that free memory costs a look at it only. The walk keeps
//! nothing but its [`Cursor`].

use vmcore::linux::PageClasses;
use vmcore::page_state::PageStateReader;
use vmcore::{DumpLevel, PAGE_SIZE, PageClass, PhysMemory, PhysRange};
use wire::summary::CLASSES;

use crate::marks::Marks;
use crate::plan::{Cursor, Plan};
use crate::survey::PAGE_STATE_MAPS;
use crate::tombstone::Tombstone;

/// Longest run found in one step, in bytes: as much as can be looked at between two looks at the line, whose receiver holds
/// 16 bytes. A block joins the runs.
const RUN_BYTES: u64 = 32 * PAGE_SIZE;

/// What the walk looks at.
pub(crate) struct Walk<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) marks: &'a Marks,
    /// Afterimage's account of its pages, and Linux's.
    pub(crate) page_states: &'a mut [Option<PageStateReader>; PAGE_STATE_MAPS],
    pub(crate) linux: Option<PageClasses<'a>>,
    pub(crate) level: DumpLevel,
    /// Where it is kept which pages are being read, and which are not to be read again.
    pub(crate) tomb: Option<Tombstone<'a>>,
}

/// What became of some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The pages; exactly one if they are data.
    pub(crate) range: PhysRange,
    /// What they are; data is in the buffer given.
    pub(crate) class: PageClass,
    /// The walk goes on from here.
    pub(crate) next: Cursor,
}

impl Walk<'_> {
    /// Looks at the pages from `cursor` on, up to the first that differs; `None` at the end.
    ///
    /// The contents of a data page are left in `page`. `block` is the number of the block that they are for.
    pub(crate) fn step(
        &mut self,
        cursor: Cursor,
        block: u32,
        memory: &mut impl PhysMemory,
        page: &mut [u8],
    ) -> Option<Step> {
        let planned = self.plan.next(cursor)?;
        if let (Some(tomb), Ok(pages)) = (&self.tomb, self.readable(planned)) {
            tomb.reading(block, pages);
        }
        let (class, range) = self.look(planned, memory, page);
        Some(Step {
            range,
            class,
            next: self.plan.advance(cursor, range.end),
        })
    }

    /// Looks at the first pages of `within`, wherever they stand in the plan; returns their class and how far it goes.
    ///
    /// The contents of a data page are left in `page`.
    pub(crate) fn look(
        &mut self,
        within: PhysRange,
        memory: &mut impl PhysMemory,
        page: &mut [u8],
    ) -> (PageClass, PhysRange) {
        let readable = match self.readable(within) {
            Ok(readable) => readable,
            Err(skipped) => return (PageClass::Skipped, skipped),
        };
        let (marked, range) = self.marks.first_run(readable, self.level);
        match marked {
            Some(class) => (class, range),
            None => self.scan(range, memory, page),
        }
    }

    /// Returns how far one look goes from the start of `within`; `Err` are pages there that a run before this one failed to read.
    fn readable(&self, within: PhysRange) -> Result<PhysRange, PhysRange> {
        let end = within.end.min(within.start.saturating_add(RUN_BYTES));
        let near = PhysRange { end, ..within };
        match self.tomb.as_ref().and_then(|tomb| tomb.skipped_pages(near)) {
            Some(skipped) if skipped.start == within.start => Err(skipped),
            Some(skipped) => Ok(PhysRange {
                end: skipped.start,
                ..within
            }),
            None => Ok(near),
        }
    }

    /// Looks at unmarked pages and returns the class of the first, and the run of that class.
    fn scan(
        &mut self,
        range: PhysRange,
        memory: &mut impl PhysMemory,
        page: &mut [u8],
    ) -> (PageClass, PhysRange) {
        let mut end = range.start.saturating_add(PAGE_SIZE).min(range.end);
        let mut class = self.classify(range.start, memory);
        if class == PageClass::Data {
            // The first bytes could be read, the others perhaps not.
            if memory.read(range.start, page).is_err() {
                class = PageClass::Unreadable;
            }
            return (class, PhysRange { end, ..range });
        }
        while end < range.end && self.classify(end, memory) == class {
            end = end.saturating_add(PAGE_SIZE);
        }
        (class, PhysRange { end, ..range })
    }

    fn classify(&mut self, address: u64, memory: &mut impl PhysMemory) -> PageClass {
        if self.level.leaves_out(PageClass::Free) && self.is_free(address, memory) {
            return PageClass::Free;
        }
        if let Some(linux) = &mut self.linux
            && let Some(class) = linux.class(memory, address, self.level)
        {
            return class;
        }
        match memory.is_zero_page(address) {
            Ok(true) => PageClass::Zero,
            Ok(false) => PageClass::Data,
            Err(_) => PageClass::Unreadable,
        }
    }

    fn is_free(&mut self, address: u64, memory: &mut impl PhysMemory) -> bool {
        let pfn = address.div_euclid(PAGE_SIZE);
        self.page_states
            .iter_mut()
            .flatten()
            .any(|map| map.is_free(memory, pfn))
    }

    /// Returns the first page frame of which Linux's account could not be read.
    pub(crate) fn first_unread(&self) -> Option<u64> {
        self.linux.as_ref().and_then(PageClasses::first_unread)
    }

    /// Returns how many parts of the page-state maps were not believed.
    pub(crate) fn failed_parts(&self) -> u32 {
        self.page_states
            .iter()
            .flatten()
            .fold(0, |sum: u32, map| sum.saturating_add(map.failed_parts()))
    }
}

/// How many pages became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    by_class: [u64; CLASSES],
}

impl PageCounts {
    /// Returns the numbers of pages, by the class's number on the wire.
    pub(crate) const fn by_class(&self) -> &[u64; CLASSES] {
        &self.by_class
    }

    /// Returns the number of pages of `class`.
    #[must_use]
    pub fn of(&self, class: wire::PageClass) -> u64 {
        self.by_class
            .get(usize::from(class.code()))
            .copied()
            .unwrap_or(0)
    }

    /// Returns the number of pages of all classes.
    pub(crate) fn total(&self) -> u64 {
        let add = |sum: u64, pages: &u64| sum.saturating_add(*pages);
        self.by_class.iter().fold(0, add)
    }

    pub(crate) fn add(&mut self, class: wire::PageClass, pages: u64) {
        if let Some(count) = self.by_class.get_mut(usize::from(class.code())) {
            *count = count.saturating_add(pages);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::fake::Ram;
    use std::vec::Vec;
    use vmcore::page_state::PageStateMut;

    const BASE: u64 = 0x4000_0000;
    const PAGE_LEN: usize = PAGE_SIZE as usize;

    fn pages(first: u64, end: u64) -> PhysRange {
        PhysRange {
            start: BASE + first * PAGE_SIZE,
            end: BASE + end * PAGE_SIZE,
        }
    }

    fn walked(
        ram: &mut Ram,
        marks: &Marks,
        map: Option<PageStateReader>,
        level: u32,
    ) -> Vec<(PhysRange, PageClass)> {
        let mut plan = Plan::new();
        plan.add_ram(pages(0, ram.bytes.len() as u64 / PAGE_SIZE))
            .unwrap();
        let page_states = &mut [map, None, None, None];
        let mut walk = Walk {
            plan: &plan,
            marks,
            page_states,
            linux: None,
            level: DumpLevel(level),
            tomb: None,
        };
        let (mut cursor, mut seen, mut page) = (Cursor::default(), Vec::new(), [0; PAGE_LEN]);
        while let Some(step) = walk.step(cursor, 0, ram, &mut page) {
            seen.push((step.range, step.class));
            cursor = step.next;
        }
        seen
    }

    #[test]
    fn walk_over_zeros_goes_by_runs() {
        let mut ram = Ram::new(BASE, 64);
        assert_eq!(
            walked(&mut ram, &Marks::new(), None, 17),
            [
                (pages(0, 32), PageClass::Zero),
                (pages(32, 64), PageClass::Zero)
            ]
        );
    }

    #[test]
    fn walk_over_faults_goes_on_behind_them() {
        let mut ram = Ram::new(BASE, 6);
        ram.bytes.fill(1);
        ram.faults.push(pages(2, 4));
        let faulty = PhysRange {
            start: BASE + 5 * PAGE_SIZE + 4000,
            end: BASE + 5 * PAGE_SIZE + 4001,
        };
        ram.faults.push(faulty);
        assert_eq!(
            walked(&mut ram, &Marks::new(), None, 17),
            [
                (pages(0, 1), PageClass::Data),
                (pages(1, 2), PageClass::Data),
                (pages(2, 4), PageClass::Unreadable),
                (pages(4, 5), PageClass::Data),
                (pages(5, 6), PageClass::Unreadable),
            ]
        );
    }

    #[test]
    fn walk_over_marks_never_reads_a_secret() {
        let mut ram = Ram::new(BASE, 4);
        ram.bytes.fill(1);
        let mut marks = Marks::new();
        marks.add_secret(pages(1, 3));
        let seen = walked(&mut ram, &marks, None, 0);
        assert_eq!(seen[1], (pages(1, 3), PageClass::Secret));
        assert!(ram.reads.iter().all(|&at| !pages(1, 3).contains(at)));
    }

    /// Eight pages in use by content, with a map at page 8 in which pages 2 and 3 are free.
    fn ram_with_map() -> Ram {
        let mut ram = Ram::new(BASE, 10);
        ram.bytes[..8 * PAGE_LEN].fill(1);
        let map = &mut ram.bytes[8 * PAGE_LEN..];
        let mut map = PageStateMut::init(map, BASE / PAGE_SIZE, 8).unwrap();
        map.allocated(BASE / PAGE_SIZE, 2).unwrap();
        map.allocated(BASE / PAGE_SIZE + 4, 4).unwrap();
        ram
    }

    #[test]
    fn walk_with_free_pages_leaves_them_out_at_their_level_only() {
        let mut ram = ram_with_map();
        let map = PageStateReader::open(&mut ram, BASE + 8 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
        assert!(
            walked(&mut ram, &Marks::new(), Some(map.clone()), 17)
                .contains(&(pages(2, 4), PageClass::Free))
        );
        assert!(ram.reads.iter().all(|&at| !pages(2, 4).contains(at)));
        assert!(
            walked(&mut ram, &Marks::new(), Some(map), 1)
                .iter()
                .all(|step| step.1 != PageClass::Free)
        );
    }

    #[test]
    fn walk_with_corrupt_map_sends_its_part_whole() {
        let mut ram = ram_with_map();
        ram.bytes[8 * PAGE_LEN + 46] ^= 1;
        let map = PageStateReader::open(&mut ram, BASE + 8 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
        assert!(
            walked(&mut ram, &Marks::new(), Some(map), 17)
                .iter()
                .all(|step| step.1 != PageClass::Free)
        );
    }
}
