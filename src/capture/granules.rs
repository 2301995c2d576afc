// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which memory changed while it was dumped (N9): hashed as it is read for the dump, and again at the end.
//!
//! A DMA master that was not stopped, or a CPU that did not respond, goes on writing. There is no room for a hash of every
//! page, so neighbours share one: a *granule* is as small as the room allows. A granule's hash is the sum over its pages of a
//! hash of place and content, zero for pages that are zero or are not read; so its pages may come in any order.

use vmcore::{PAGE_SIZE, PageClass, PhysMemory, PhysRange};
use wire::Moved;

use crate::index::PageKey;
use crate::plan::RAM_RANGES;
use crate::walk::Walk;

/// Most pages of a granule: 4 GiB.
const PAGES_MAX: u32 = 1 << 20;

/// The hashes of all granules.
#[derive(Debug)]
pub(crate) struct Granules<'a> {
    sums: &'a mut [u32],
    /// 0 when there is no room, or nothing is to be looked for.
    pages: u32,
    /// Pages of the plan that are in the sums: a later pass reads them again, and may find them changed already.
    added: u64,
}

impl<'a> Granules<'a> {
    /// Makes the smallest granules of `ram` that fit `sums`.
    pub(crate) fn new(sums: &'a mut [u32], ram: &[PhysRange], is_wanted: bool) -> Self {
        sums.fill(0);
        let mut pages = 1_u32;
        while count(ram, pages) > sums.len() as u64 && pages < PAGES_MAX {
            pages = pages.saturating_mul(2);
        }
        if !is_wanted || count(ram, pages) > sums.len() as u64 {
            pages = 0;
        }
        Self {
            sums,
            pages,
            added: 0,
        }
    }

    /// Begins anew, for a dump that is made once more.
    pub(crate) fn restart(&mut self) {
        self.sums.fill(0);
        self.added = 0;
    }

    /// Adds pages that were read for the dump, `position` pages of the plan lying before them; `key` is that of data.
    pub(crate) fn add(
        &mut self,
        position: u64,
        range: PhysRange,
        key: Option<PageKey>,
        ram: &[PhysRange],
    ) {
        let end = position.saturating_add(range.len().div_euclid(PAGE_SIZE));
        if end <= self.added {
            return;
        }
        self.added = end;
        let Some(key) = key else { return };
        let sum = granule_of(ram, self.pages, range.start).and_then(|at| self.sums.get_mut(at));
        if let Some(sum) = sum {
            *sum = sum.wrapping_add(key.at(range.start));
        }
    }

    /// Reads all of memory again, and returns what is not as it was. `pump` is called with the pages read since its last call.
    ///
    /// # Errors
    /// What `pump` returns.
    pub(crate) fn compare<E>(
        &self,
        walk: &mut Walk<'_>,
        memory: &mut impl PhysMemory,
        page: &mut [u8],
        mut pump: impl FnMut(u32) -> Result<(), E>,
    ) -> Result<Moved, E> {
        let mut moved = Moved::in_granules_of(self.pages);
        if self.pages == 0 {
            return Ok(moved);
        }
        let len = u64::from(self.pages).saturating_mul(PAGE_SIZE);
        let mut was = self.sums.iter();
        let plan = walk.plan;
        for ram in plan.ram() {
            let mut start = ram.start;
            while start < ram.end {
                let granule = PhysRange {
                    start,
                    end: ram.end.min(start.saturating_add(len)),
                };
                let sum = sum(granule, walk, memory, page, &mut pump)?;
                if was.next() != Some(&sum) {
                    let pages = granule.len().div_euclid(PAGE_SIZE);
                    moved.add(granule.start, u32::try_from(pages).unwrap_or(u32::MAX));
                }
                start = granule.end;
            }
        }
        Ok(moved)
    }
}

/// Returns the hash of a granule as it is now.
fn sum<E>(
    granule: PhysRange,
    walk: &mut Walk<'_>,
    memory: &mut impl PhysMemory,
    page: &mut [u8],
    pump: &mut impl FnMut(u32) -> Result<(), E>,
) -> Result<u32, E> {
    let mut sum = 0_u32;
    let mut rest = granule;
    while !rest.is_empty() {
        let (class, range) = walk.look(rest, memory, page);
        if class == PageClass::Data {
            sum = sum.wrapping_add(PageKey::of(page).at(range.start));
        }
        let pages = if class.is_by_account() {
            0
        } else {
            range.len().div_euclid(PAGE_SIZE)
        };
        pump(u32::try_from(pages).unwrap_or(u32::MAX))?;
        // A look goes on by a page at least.
        rest.start = range.end.max(rest.start.saturating_add(PAGE_SIZE));
    }
    Ok(sum)
}

/// Returns how many granules of `pages` pages `ram` has; none reaches over the end of a range.
fn count(ram: &[PhysRange], pages: u32) -> u64 {
    let len = u64::from(pages).saturating_mul(PAGE_SIZE);
    ram.iter().take(RAM_RANGES).fold(0, |sum: u64, range| {
        sum.saturating_add(range.len().div_ceil(len.max(1)))
    })
}

/// Returns the number of the granule that holds `address`.
fn granule_of(ram: &[PhysRange], pages: u32, address: u64) -> Option<usize> {
    let len = u64::from(pages).saturating_mul(PAGE_SIZE);
    let before = ram.partition_point(|range| range.end <= address);
    let range = ram.get(before).filter(|range| range.contains(address))?;
    let within = address.saturating_sub(range.start).checked_div(len)?;
    let first = count(ram.get(..before)?, pages);
    usize::try_from(first.saturating_add(within)).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::fake::Ram;
    use crate::machine::{BASE, page, pages};
    use crate::marks::Marks;
    use crate::plan::{Cursor, Plan};
    use std::vec;
    use std::vec::Vec;
    use vmcore::DumpLevel;

    /// 64 pages, every fourth zero, in two ranges with a hole of 8 pages between them.
    struct Machine {
        ram: Ram,
        plan: Plan,
        marks: Marks,
        sums: Vec<u32>,
    }

    impl Machine {
        fn new(sums: usize) -> Self {
            let mut ram = Ram::new(BASE, 64);
            for (number, page) in ram.bytes.chunks_mut(4096).enumerate() {
                page.fill(if number % 4 == 3 { 0 } else { number as u8 + 1 });
            }
            let mut plan = Plan::new();
            plan.add_ram(pages(0, 20)).unwrap();
            plan.add_ram(pages(28, 64)).unwrap();
            let mut marks = Marks::new();
            marks.add_secret(pages(60, 61));
            let sums = vec![7; sums];
            Self {
                ram,
                plan,
                marks,
                sums,
            }
        }

        /// Reads all for the dump, stack of page 40 first, lets `change` change memory, and looks again.
        fn moved(&mut self, is_wanted: bool, change: impl Fn(&mut Ram)) -> Moved {
            let _has_room = self.plan.move_first(pages(40, 42));
            let mut granules = Granules::new(&mut self.sums, self.plan.ram(), is_wanted);
            let mut walk = Walk {
                plan: &self.plan,
                marks: &self.marks,
                page_states: &mut [const { None }; crate::survey::PAGE_STATE_MAPS],
                linux: None,
                level: DumpLevel(1),
                tomb: None,
            };
            let mut buffer = [0; 4096];
            // The second pass finds memory changed already, and must not take that for how it was.
            for pass in 0..2 {
                let (mut cursor, mut position) = (Cursor::default(), 0);
                while let Some(step) = walk.step(cursor, 0, &mut self.ram, &mut buffer) {
                    let key = (step.class == PageClass::Data).then(|| PageKey::of(&buffer));
                    granules.add(position, step.range, key, self.plan.ram());
                    position += step.range.len() / PAGE_SIZE;
                    cursor = step.next;
                }
                if pass == 0 {
                    change(&mut self.ram);
                }
            }
            let pump = |_| Ok::<(), ()>(());
            let found = granules.compare(&mut walk, &mut self.ram, &mut buffer, pump);
            found.unwrap()
        }
    }

    fn starts(moved: &Moved) -> Vec<(u64, u32)> {
        let ranges = moved.ranges().iter();
        ranges.map(|range| (range.start, range.pages)).collect()
    }

    #[test]
    fn memory_that_stays_is_not_listed() {
        for room in [1, 2, 3, 10, 100] {
            let moved = Machine::new(room).moved(true, |_| ());
            assert_eq!(moved.granules, 0, "{room} hashes");
        }
    }

    #[test]
    fn byte_that_changed_is_listed_with_its_page() {
        let moved = Machine::new(64).moved(true, |ram| ram.at(page(41))[4095] ^= 1);
        assert_eq!(moved.granule_pages, 1);
        assert_eq!(starts(&moved), [(page(41), 1)]);
    }

    #[test]
    fn page_that_became_zero_or_ceased_to_be_is_listed() {
        let moved = Machine::new(64).moved(true, |ram| {
            ram.at(page(5))[..4096].fill(0);
            ram.at(page(7))[3] = 1;
        });
        assert_eq!(starts(&moved), [(page(5), 1), (page(7), 1)]);
    }

    #[test]
    fn pages_that_changed_places_are_listed() {
        let moved = Machine::new(64).moved(true, |ram| {
            ram.at(page(1))[..4096].fill(3);
            ram.at(page(2))[..4096].fill(2);
        });
        assert_eq!(starts(&moved), [(page(1), 2)]);
    }

    #[test]
    fn granules_are_coarser_in_little_room_and_end_with_their_range() {
        // Pages 16 to 19 are what is left of the first range.
        let moved = Machine::new(7).moved(true, |ram| ram.at(page(19))[..4096].fill(9));
        assert_eq!(moved.granule_pages, 16);
        assert_eq!(starts(&moved), [(page(16), 4)]);
    }

    #[test]
    fn secret_that_changed_is_not_read_and_not_listed() {
        let moved = Machine::new(64).moved(true, |ram| ram.at(page(60))[..4096].fill(9));
        assert_eq!(moved.granules, 0);
    }

    #[test]
    fn nothing_is_looked_for_without_room_or_when_it_is_not_wanted() {
        let change = |ram: &mut Ram| ram.at(page(1))[0] ^= 1;
        assert_eq!(Machine::new(1).moved(true, change).granule_pages, 0);
        assert_eq!(Machine::new(64).moved(false, change), Moved::default());
    }
}
