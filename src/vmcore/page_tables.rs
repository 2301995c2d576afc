// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which mappings of a crashed kernel are not what it had set up.
//!
//! Walks its TTBR1 tables: 48-bit addresses, 4 KiB granule, four levels (Arm ARM D8.2), the only form that an Afterimage kernel uses. The
//! tables may be what broke, so every loop is bounded, and a table that points anywhere is only ever read.

use core::fmt;

use crate::afterimage_notes::Mapping;
use crate::{PAGE_SIZE, PhysMemory};

/// Leaves and holes that are looked at, for what was set up; 8 GiB are some thousand.
const STEPS: u32 = 1 << 16;
/// Tables that are gone through, for what was not.
const TABLES: u32 = 1024;
/// Descriptors that are read at once.
const CHUNK: usize = 64;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Lower attributes and the execute-never bits; what software keeps in a descriptor does not count.
const ATTRIBUTES: u64 = 0x3ff << 2 | 3 << 53;
/// Every address that TTBR1 translates has these bits set.
const TTBR1_BASE: u64 = 0xffff << 48;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is mapped.
    Missing,
    /// Another physical address is mapped.
    Elsewhere,
    /// Attributes differ: permissions, or the kind of memory.
    Attributes,
    /// Something is mapped that was not set up.
    Unexpected,
    /// A table could not be read.
    Unreadable,
}

impl Fault {
    /// Returns the word for people and for `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Elsewhere => "elsewhere",
            Self::Attributes => "attributes",
            Self::Unexpected => "unexpected",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Addresses whose mapping is wrong in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongMapping {
    /// First virtual address.
    pub va: u64,
    /// Bytes.
    pub len: u64,
    /// What is wrong.
    pub fault: Fault,
    /// The first descriptor that is; 0 where there is none.
    pub found: u64,
    /// What it should have been, without its type; 0 where nothing was set up.
    pub wanted: u64,
}

impl fmt::Display for WrongMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            va,
            len,
            fault,
            found,
            wanted,
        } = self;
        write!(
            f,
            "{va:#x}, {len:#x} bytes: {}, descriptor {found:#x} instead of {wanted:#x}",
            fault.name()
        )
    }
}

/// What one descriptor maps.
struct Leaf {
    /// Bytes from the address asked for to the end of what the descriptor covers.
    left: u64,
    /// The descriptor, 0 where it is not valid.
    descriptor: u64,
    /// Physical address of the address asked for.
    pa: u64,
    is_readable: bool,
}

/// Compares the tables at `root` with all of `mappings`, and calls `report` with what differs. With `is_all` nothing else may be
/// mapped. Returns whether everything was looked at.
pub fn check<M: Iterator<Item = Mapping> + Clone>(
    memory: &mut impl PhysMemory,
    root: u64,
    mappings: M,
    is_all: bool,
    report: &mut impl FnMut(WrongMapping),
) -> bool {
    let mut joined = Joined { last: None, report };
    let mut steps = 0_u32;
    for mapping in mappings.clone() {
        let mut at = 0;
        while at < mapping.len {
            steps = steps.saturating_add(1);
            if steps > STEPS {
                joined.flush();
                return false;
            }
            let va = mapping.va.wrapping_add(at);
            let leaf = leaf(memory, root, va);
            let len = leaf.left.min(mapping.len.saturating_sub(at)).max(1);
            let wanted_pa = mapping.pa.wrapping_add(at);
            if let Some(fault) = compare(&leaf, wanted_pa, mapping.attributes) {
                joined.add(WrongMapping {
                    va,
                    len,
                    fault,
                    found: leaf.descriptor,
                    wanted: wanted_pa | mapping.attributes,
                });
            }
            at = at.saturating_add(len);
        }
    }
    let mut tables = TABLES;
    let is_done = !is_all
        || find_unexpected(memory, (root, 0, TTBR1_BASE), &mut tables, &mut |wrong| {
            if !mappings.clone().any(|mapping| mapping.contains(wrong.va)) {
                joined.add(wrong);
            }
        });
    joined.flush();
    is_done
}

fn compare(leaf: &Leaf, wanted_pa: u64, attributes: u64) -> Option<Fault> {
    if !leaf.is_readable {
        Some(Fault::Unreadable)
    } else if leaf.descriptor == 0 {
        Some(Fault::Missing)
    } else if leaf.pa != wanted_pa {
        Some(Fault::Elsewhere)
    } else if (leaf.descriptor ^ attributes) & ATTRIBUTES != 0 {
        Some(Fault::Attributes)
    } else {
        None
    }
}

const fn shift_of(level: u32) -> u32 {
    39_u32.saturating_sub(level.saturating_mul(9))
}

/// Finds the descriptor that translates `va`.
fn leaf(memory: &mut impl PhysMemory, root: u64, va: u64) -> Leaf {
    let mut table = root & ADDRESS;
    for level in 0..4 {
        let shift = shift_of(level);
        let size = 1_u64 << shift;
        let within = va & size.wrapping_sub(1);
        let mut bytes = [0; 8];
        let entry = table.saturating_add((va >> shift & 511).wrapping_mul(8));
        let is_readable = memory.read(entry, &mut bytes).is_ok();
        let descriptor = u64::from_le_bytes(bytes);
        let is_table = level < 3 && descriptor & TABLE_OR_PAGE != 0;
        if is_readable && descriptor & VALID != 0 && is_table {
            table = descriptor & ADDRESS;
            continue;
        }
        // At the last level the form of a block is reserved: a fault.
        let is_mapped = descriptor & VALID != 0
            && (level == 3) == (descriptor & TABLE_OR_PAGE != 0)
            && level > 0;
        return Leaf {
            left: size.saturating_sub(within),
            descriptor: if is_mapped { descriptor } else { 0 },
            pa: (descriptor & ADDRESS & !size.wrapping_sub(1)) | within,
            is_readable,
        };
    }
    // Not reached: the last level returns.
    Leaf {
        left: PAGE_SIZE,
        descriptor: 0,
        pa: 0,
        is_readable: false,
    }
}

/// Calls `each` with every leaf below a table: its physical address, its level, the address that it translates from on.
fn find_unexpected(
    memory: &mut impl PhysMemory,
    (table, level, base): (u64, u32, u64),
    tables: &mut u32,
    each: &mut impl FnMut(WrongMapping),
) -> bool {
    let Some(left) = tables.checked_sub(1) else {
        return false;
    };
    *tables = left;
    let size = 1_u64 << shift_of(level);
    let mut bytes = [0; CHUNK * 8];
    for chunk in 0..512 / CHUNK {
        let first = (chunk as u64).wrapping_mul(CHUNK as u64);
        let at = (table & ADDRESS).saturating_add(first.wrapping_mul(8));
        if memory.read(at, &mut bytes).is_err() {
            continue;
        }
        for (number, entry) in (first..).zip(bytes.as_chunks::<8>().0) {
            let descriptor = u64::from_le_bytes(*entry);
            if descriptor & VALID == 0 {
                continue;
            }
            let va = base.wrapping_add(number.wrapping_mul(size));
            if level < 3 && descriptor & TABLE_OR_PAGE != 0 {
                let below = (descriptor & ADDRESS, level.saturating_add(1), va);
                if !find_unexpected(memory, below, tables, each) {
                    return false;
                }
            } else if level > 0 {
                each(WrongMapping {
                    va,
                    len: size,
                    fault: Fault::Unexpected,
                    found: descriptor,
                    wanted: 0,
                });
            }
        }
    }
    true
}

/// Joins what touches and is wrong in the same way.
struct Joined<'a, F> {
    last: Option<WrongMapping>,
    report: &'a mut F,
}

impl<F: FnMut(WrongMapping)> Joined<'_, F> {
    fn add(&mut self, wrong: WrongMapping) {
        if let Some(last) = &mut self.last {
            let touches = last.va.wrapping_add(last.len) == wrong.va;
            if touches && last.fault == wrong.fault {
                last.len = last.len.saturating_add(wrong.len);
                return;
            }
        }
        self.flush();
        self.last = Some(wrong);
    }

    fn flush(&mut self) {
        if let Some(last) = self.last.take() {
            (self.report)(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phys_memory::SliceMemory;
    use std::vec;
    use std::vec::Vec;

    const BASE: u64 = 0x4000_0000;
    const VA: u64 = 0xffff_8000_8000_0000;
    /// Read-only, executable; read-write, not executable.
    const TEXT: u64 = 1 << 54 | 3 << 8 | 1 << 10 | 1 << 7;
    const DATA: u64 = 3 << 53 | 3 << 8 | 1 << 10;
    const MAPPINGS: [Mapping; 2] = [
        Mapping {
            va: VA,
            pa: 0x4020_0000,
            len: 0x3000,
            attributes: TEXT,
        },
        Mapping {
            va: VA + 0x20_0000,
            pa: 0x4040_0000,
            len: 0x20_0000,
            attributes: DATA,
        },
    ];

    /// Tables of levels 0 to 3, one behind the other, that map what MAPPINGS says.
    struct Tables(Vec<u8>);

    impl Tables {
        fn new() -> Self {
            let mut tables = Self(vec![0; 4 * 4096]);
            for level in 0..3_u64 {
                tables.set(level, VA, (BASE + (level + 1) * 4096) | 3);
            }
            for page in 0..3 {
                let at = page * 0x1000;
                tables.set(3, VA + at, (0x4020_0000 + at) | TEXT | 3);
            }
            tables.set(2, VA + 0x20_0000, 0x4040_0000 | DATA | 1);
            tables
        }

        fn set(&mut self, level: u64, va: u64, descriptor: u64) {
            let slot = (va >> (39 - 9 * level) & 511) as usize;
            let at = level as usize * 4096 + slot * 8;
            self.0[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
        }

        fn wrong(&self, is_all: bool) -> Vec<WrongMapping> {
            let mut memory = SliceMemory {
                base: BASE,
                bytes: &self.0,
            };
            let mut wrong = Vec::new();
            let report = &mut |one| wrong.push(one);
            assert!(check(
                &mut memory,
                BASE,
                MAPPINGS.into_iter(),
                is_all,
                report
            ));
            wrong
        }
    }

    fn places(wrong: &[WrongMapping]) -> Vec<(u64, u64, Fault)> {
        wrong.iter().map(|w| (w.va, w.len, w.fault)).collect()
    }

    #[test]
    fn tables_as_they_were_set_up_are_right() {
        assert_eq!(Tables::new().wrong(true), []);
    }

    #[test]
    fn page_that_became_writable_is_found() {
        let mut tables = Tables::new();
        tables.set(3, VA + 0x1000, 0x4020_1000 | TEXT & !(1 << 7) | 3);
        let wrong = tables.wrong(true);
        assert_eq!(places(&wrong), [(VA + 0x1000, 0x1000, Fault::Attributes)]);
        assert_eq!(wrong[0].wanted, 0x4020_1000 | TEXT);
    }

    #[test]
    fn pages_unmapped_and_moved_are_found_and_joined() {
        let mut tables = Tables::new();
        tables.set(3, VA, 0);
        tables.set(3, VA + 0x1000, 0);
        tables.set(3, VA + 0x2000, 0x4999_9000 | TEXT | 3);
        assert_eq!(
            places(&tables.wrong(true)),
            [
                (VA, 0x2000, Fault::Missing),
                (VA + 0x2000, 0x1000, Fault::Elsewhere)
            ]
        );
    }

    #[test]
    fn page_that_nobody_set_up_is_found_when_the_list_is_whole() {
        let mut tables = Tables::new();
        tables.set(3, VA + 0x5000, 0x4020_0000 | DATA | 3);
        let found = (VA + 0x5000, 0x1000, Fault::Unexpected);
        assert_eq!(places(&tables.wrong(true)), [found]);
        assert_eq!(tables.wrong(false), []);
    }

    #[test]
    fn table_outside_memory_is_unreadable_and_ends_nothing() {
        let mut tables = Tables::new();
        tables.set(2, VA, 0x9_0000_0000 | 3);
        assert_eq!(
            places(&tables.wrong(true)),
            [(VA, 0x3000, Fault::Unreadable)]
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn table_that_holds_itself_is_given_up_in_bounded_time() {
        let mut tables = Tables::new();
        for slot in 0..512 {
            tables.set(0, slot << 39, BASE | 3);
        }
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &tables.0,
        };
        let is_done = check(&mut memory, BASE, MAPPINGS.into_iter(), true, &mut |_| ());
        assert!(!is_done);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn mapping_of_absurd_length_is_given_up_in_bounded_time() {
        let absurd = Mapping {
            len: u64::MAX,
            ..MAPPINGS[0]
        };
        let tables = Tables::new();
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &tables.0,
        };
        let mut count = 0;
        check(
            &mut memory,
            BASE,
            core::iter::once(absurd),
            false,
            &mut |_| count += 1,
        );
        assert!(count > 0);
    }
}
