// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-1 page tables: 48-bit, 4 KiB granule, built from a bounded pool in the image (Arm ARM D8.3).
//!
//! One table tree serves TTBR1. It is built before it is used; afterwards only invalid entries are filled and single pages
//! are changed with break-before-make. The pool is the linker script's `tables_begin..tables_end`.

use core::fmt;

use crate::layout::PAGE_SIZE;

/// How a mapping may be used. Executable and writable exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Normal memory, read-only, never executable.
    ReadOnly,
    /// Normal memory, read-write, never executable.
    ReadWrite,
    /// Normal memory, read-only, executable at EL1.
    Execute,
    /// Device-nGnRE, read-write.
    Device,
}

impl Access {
    /// Descriptor bits without address and type.
    pub(crate) const fn attributes(self) -> u64 {
        const AF: u64 = 1 << 10;
        const INNER_SHAREABLE: u64 = 3 << 8;
        const READ_ONLY: u64 = 1 << 7;
        const DEVICE: u64 = 1 << 2;
        const PXN: u64 = 1 << 53;
        const UXN: u64 = 1 << 54;
        match self {
            Self::ReadOnly => AF | INNER_SHAREABLE | READ_ONLY | PXN | UXN,
            Self::ReadWrite => AF | INNER_SHAREABLE | PXN | UXN,
            Self::Execute => AF | INNER_SHAREABLE | READ_ONLY | UXN,
            Self::Device => AF | DEVICE | PXN | UXN,
        }
    }
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Address or length is no multiple of the page size, or the range wraps.
    Misaligned {
        /// Virtual address asked for.
        virtual_address: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Something is mapped there already.
    Occupied {
        /// First virtual address in the way.
        virtual_address: u64,
    },
    /// The table pool is used up.
    OutOfTables {
        /// Pages in the pool.
        pool: usize,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned {
                virtual_address,
                len,
            } => {
                write!(
                    f,
                    "mapping at {virtual_address:#x}, {len:#x} bytes, is not made of whole pages"
                )
            }
            Self::Occupied { virtual_address } => {
                write!(f, "{virtual_address:#x} is mapped already")
            }
            Self::OutOfTables { pool } => write!(f, "all {pool} page-table pages are in use"),
        }
    }
}

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// One table of 512 descriptors.
#[repr(C, align(4096))]
pub(crate) struct Table(pub(crate) [u64; 512]);

/// Tables that a [`Builder`] takes pages from; shared by the live tree and the ones prebuilt in the crash region.
pub(crate) trait Tables {
    /// Table number `index`, as handed out by `allocate`.
    fn table(&mut self, index: usize) -> Option<&mut Table>;
    /// A zeroed table's number.
    fn allocate(&mut self) -> Result<usize, MapError>;
    /// Physical address of table `index`.
    fn physical(&self, index: usize) -> u64;
    /// Number of the table at a physical address.
    fn index_of(&self, physical: u64) -> Option<usize>;
}

/// Maps `len` bytes at `virtual_address` to `physical`, with the largest blocks that fit, starting at `level` with table
/// number `root`. `descriptor` turns (address, is_page_level) into a leaf.
pub(crate) fn map_range(
    tables: &mut impl Tables,
    root: usize,
    root_level: u32,
    virtual_address: u64,
    physical: u64,
    len: u64,
    attributes: u64,
) -> Result<(), MapError> {
    let misaligned = MapError::Misaligned {
        virtual_address,
        len,
    };
    if !(virtual_address | physical | len).is_multiple_of(PAGE_SIZE) {
        return Err(misaligned);
    }
    if len == 0 {
        return Ok(());
    }
    virtual_address.checked_add(len - 1).ok_or(misaligned)?;
    physical.checked_add(len - 1).ok_or(misaligned)?;
    let mut done = 0_u64;
    while done < len {
        let va = virtual_address + done;
        let pa = physical + done;
        let left = len - done;
        let mut index = root;
        let mut level = root_level;
        loop {
            let shift = 39 - 9 * level;
            let size = 1_u64 << shift;
            let slot = (va >> shift & 511) as usize;
            let entry = tables.table(index).map(|table| table.0[slot]).unwrap_or(0);
            let is_leaf_level =
                level == 3 || (level > 0 && (va | pa).is_multiple_of(size) && left >= size);
            if is_leaf_level && entry & VALID == 0 {
                let kind = if level == 3 { TABLE_OR_PAGE } else { 0 };
                if let Some(table) = tables.table(index) {
                    table.0[slot] = pa | attributes | kind | VALID;
                }
                done += size;
                break;
            }
            if entry & VALID == 0 {
                let next = tables.allocate()?;
                let address = tables.physical(next);
                if let Some(table) = tables.table(index) {
                    table.0[slot] = address | TABLE_OR_PAGE | VALID;
                }
                index = next;
            } else if level < 3 && entry & TABLE_OR_PAGE != 0 {
                index = tables.index_of(entry & ADDRESS).ok_or(MapError::Occupied {
                    virtual_address: va,
                })?;
            } else {
                return Err(MapError::Occupied {
                    virtual_address: va,
                });
            }
            level += 1;
        }
    }
    Ok(())
}

#[cfg(target_os = "none")]
mod address_space;
#[cfg(target_os = "none")]
mod corrupt;
mod expected;
#[cfg(target_os = "none")]
pub use address_space::{AddressSpace, PageWindow, root_table, table_pool};
#[cfg(target_os = "none")]
pub(crate) use address_space::{empty_ttbr0, enter_address_space};
#[cfg(target_os = "none")]
pub use corrupt::corrupt_read_only_page;
pub use expected::{EXPECTED_MAX, each_expected};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    const POOL_BASE: u64 = 0x10_0000;

    struct Fake {
        tables: Vec<Box<Table>>,
        limit: usize,
    }

    impl Tables for Fake {
        fn table(&mut self, index: usize) -> Option<&mut Table> {
            self.tables.get_mut(index).map(|table| &mut **table)
        }
        fn allocate(&mut self) -> Result<usize, MapError> {
            if self.tables.len() == self.limit {
                return Err(MapError::OutOfTables { pool: self.limit });
            }
            self.tables.push(Box::new(Table([0; 512])));
            Ok(self.tables.len() - 1)
        }
        fn physical(&self, index: usize) -> u64 {
            POOL_BASE + index as u64 * PAGE_SIZE
        }
        fn index_of(&self, physical: u64) -> Option<usize> {
            Some(((physical - POOL_BASE) / PAGE_SIZE) as usize)
        }
    }

    fn fake(limit: usize) -> (Fake, usize) {
        let mut fake = Fake {
            tables: Vec::new(),
            limit,
        };
        let root = fake.allocate().expect("the first table fits");
        (fake, root)
    }

    /// What a walk of the architecture finds: the physical address, or `None`.
    fn walk(fake: &mut Fake, root: usize, va: u64) -> Option<u64> {
        let mut index = root;
        for level in 0..4 {
            let shift = 39 - 9 * level;
            let entry = fake.table(index)?.0[(va >> shift & 511) as usize];
            if entry & VALID == 0 {
                return None;
            }
            if level == 3 || entry & TABLE_OR_PAGE == 0 {
                return Some((entry & ADDRESS & !((1 << shift) - 1)) | (va & ((1 << shift) - 1)));
            }
            index = fake.index_of(entry & ADDRESS)?;
        }
        None
    }

    #[test]
    fn mapping_aligned_gibibyte_takes_one_block() {
        let (mut fake, root) = fake(8);
        map_range(&mut fake, root, 0, 1 << 39, 0x4000_0000, 1 << 30, 0).expect("maps");
        assert_eq!(fake.tables.len(), 2);
        assert_eq!(
            walk(&mut fake, root, (1 << 39) + 0x1234_5678),
            Some(0x4000_0000 + 0x1234_5678)
        );
    }

    #[test]
    fn mapping_of_odd_range_covers_exactly_its_pages() {
        let (mut fake, root) = fake(8);
        map_range(&mut fake, root, 0, 0x1f_f000, 0x1f_f000, 0x20_2000, 0).expect("maps");
        assert_eq!(walk(&mut fake, root, 0x1f_e000), None);
        assert_eq!(walk(&mut fake, root, 0x1f_f000), Some(0x1f_f000));
        assert_eq!(walk(&mut fake, root, 0x3f_ffff), Some(0x3f_ffff));
        assert_eq!(walk(&mut fake, root, 0x40_0fff), Some(0x40_0fff));
        assert_eq!(walk(&mut fake, root, 0x40_1000), None);
    }

    #[test]
    fn mapping_over_a_mapping_is_rejected() {
        let (mut fake, root) = fake(8);
        map_range(&mut fake, root, 0, 0x20_0000, 0x20_0000, 0x20_0000, 0).expect("maps");
        let result = map_range(&mut fake, root, 0, 0x30_0000, 0, 0x1000, 0);
        assert_eq!(
            result,
            Err(MapError::Occupied {
                virtual_address: 0x30_0000
            })
        );
    }

    #[test]
    fn mapping_of_partial_page_is_rejected() {
        let (mut fake, root) = fake(8);
        let result = map_range(&mut fake, root, 0, 0x1000, 0x1000, 0x800, 0);
        assert_eq!(
            result,
            Err(MapError::Misaligned {
                virtual_address: 0x1000,
                len: 0x800
            })
        );
    }

    #[test]
    fn mapping_past_the_end_of_addresses_is_rejected() {
        let (mut fake, root) = fake(8);
        let result = map_range(&mut fake, root, 0, 0xffff_ffff_ffff_f000, 0, 0x2000, 0);
        assert!(matches!(result, Err(MapError::Misaligned { .. })));
    }

    #[test]
    fn mapping_without_tables_left_is_reported() {
        let (mut fake, root) = fake(2);
        let result = map_range(&mut fake, root, 0, 0x1000, 0x1000, 0x1000, 0);
        assert_eq!(result, Err(MapError::OutOfTables { pool: 2 }));
    }

    #[test]
    fn start_level_one_serves_stage_two() {
        let (mut fake, root) = fake(4);
        map_range(&mut fake, root, 1, 0x4000_0000, 0x4000_0000, 1 << 30, 0).expect("maps");
        assert_eq!(fake.tables[root].0[1] & ADDRESS, 0x4000_0000);
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        const READ_ONLY: u64 = 1 << 7;
        const PXN: u64 = 1 << 53;
        for access in [
            Access::ReadOnly,
            Access::ReadWrite,
            Access::Execute,
            Access::Device,
        ] {
            assert!(access.attributes() & (READ_ONLY | PXN) != 0, "{access:?}");
        }
        assert_eq!(Access::Execute.attributes() & (READ_ONLY | PXN), READ_ONLY);
        assert_eq!(Access::Device.attributes() >> 2 & 7, 1);
    }
}
