// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-1 page tables: 48-bit, 4 KiB granule, built from a bounded pool in the image (Arm ARM D8.3).
//!
//! One table tree serves TTBR1. It is built before it is used; afterwards only invalid entries are filled and single pages
//! are changed with break-before-make. The pool is the linker script's `tables_begin..tables_end`.

use core::fmt;

use crate::arch;
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
            Self::Misaligned { virtual_address, len } => {
                write!(f, "mapping at {virtual_address:#x}, {len:#x} bytes, is not made of whole pages")
            }
            Self::Occupied { virtual_address } => write!(f, "{virtual_address:#x} is mapped already"),
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
    let misaligned = MapError::Misaligned { virtual_address, len };
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
            let is_leaf_level = level == 3 || (level > 0 && (va | pa).is_multiple_of(size) && left >= size);
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
                index = tables.index_of(entry & ADDRESS).ok_or(MapError::Occupied { virtual_address: va })?;
            } else {
                return Err(MapError::Occupied { virtual_address: va });
            }
            level += 1;
        }
    }
    Ok(())
}

#[cfg(target_os = "none")]
pub use live::*;

#[cfg(target_os = "none")]
mod live {
    use super::*;
    use crate::layout::{DEVICE_BASE, PHYSICAL_LIMIT, WINDOW_BASE};
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    unsafe extern "C" {
        static image_begin: u8;
        static image_end: u8;
        static text_begin: u8;
        static text_end: u8;
        static rodata_begin: u8;
        static rodata_end: u8;
        static data_begin: u8;
        static data_end: u8;
        static bss_begin: u8;
        static bss_end: u8;
        static tables_begin: u8;
        static tables_end: u8;
        static capture_image_begin: u8;
        static capture_image_end: u8;
        static build_id_begin: u8;
        static build_id_end: u8;
        fn switch_ttbr1();
    }

    macro_rules! symbol {
        ($name:ident) => {
            (&raw const $name).addr() as u64
        };
    }

    /// Physical minus virtual address of the image, set once at boot.
    static IMAGE_PHYSICAL: AtomicU64 = AtomicU64::new(0);
    static ROOT: AtomicU64 = AtomicU64::new(0);
    /// Physical address of a table without entries.
    static EMPTY: AtomicU64 = AtomicU64::new(0);
    static TAKEN: AtomicBool = AtomicBool::new(false);

    /// Virtual bounds of the image: begin, end of text, end of read-only data, end of initialised data, end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ImageBounds {
        /// First byte; also the first byte of text.
        pub begin: u64,
        /// End of text.
        pub text_end: u64,
        /// End of read-only data.
        pub rodata_end: u64,
        /// End of initialised data, which is the end of the Image file.
        pub data_end: u64,
        /// End of BSS, without the stacks.
        pub bss_end: u64,
        /// End, stacks included.
        pub end: u64,
    }

    /// Where the running image lies in virtual memory.
    pub fn image_bounds() -> ImageBounds {
        ImageBounds {
            begin: symbol!(image_begin),
            text_end: symbol!(text_end),
            rodata_end: symbol!(rodata_end),
            data_end: symbol!(data_end),
            bss_end: symbol!(bss_end),
            end: symbol!(image_end),
        }
    }

    /// GNU build ID of the running image: the note's descriptor.
    pub fn build_id() -> &'static [u8] {
        let begin = symbol!(build_id_begin);
        let len = symbol!(build_id_end) - begin;
        // SAFETY: the linker script puts exactly the read-only note section between the two symbols.
        let note = unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) };
        note.get(16..).unwrap_or(&[])
    }

    /// The capture Image linked into this image; empty when there is none.
    pub fn embedded_capture_image() -> &'static [u8] {
        let begin = symbol!(capture_image_begin);
        let len = symbol!(capture_image_end) - begin;
        // SAFETY: the linker script puts exactly the read-only section `.capture_image` between the two symbols.
        unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) }
    }

    /// Physical address of an address inside the running image.
    pub fn image_physical(virtual_address: u64) -> u64 {
        IMAGE_PHYSICAL.load(Ordering::Relaxed).wrapping_add(virtual_address.wrapping_sub(symbol!(image_begin)))
    }

    /// Physical address of the live TTBR1 root table.
    pub fn root_table() -> u64 {
        ROOT.load(Ordering::Relaxed)
    }

    /// Physical range of the table pool.
    pub fn table_pool() -> (u64, u64) {
        (image_physical(symbol!(tables_begin)), image_physical(symbol!(tables_end)))
    }

    struct Pool {
        used: usize,
    }

    impl Pool {
        fn pages(&self) -> usize {
            ((symbol!(tables_end) - symbol!(tables_begin)) / PAGE_SIZE) as usize
        }
    }

    impl Tables for Pool {
        fn table(&mut self, index: usize) -> Option<&mut Table> {
            if index >= self.used {
                return None;
            }
            let address = symbol!(tables_begin) + index as u64 * PAGE_SIZE;
            // SAFETY: 1. The pool is page-aligned BSS of the linker script, `index` lies in it. 2. `Pool` exists once
            // (`TAKEN`), and hands out one reference at a time through `&mut self`.
            Some(unsafe { &mut *(address as *mut Table) })
        }

        fn allocate(&mut self) -> Result<usize, MapError> {
            if self.used >= self.pages() {
                return Err(MapError::OutOfTables { pool: self.pages() });
            }
            self.used += 1;
            Ok(self.used - 1)
        }

        fn physical(&self, index: usize) -> u64 {
            image_physical(symbol!(tables_begin) + index as u64 * PAGE_SIZE)
        }

        fn index_of(&self, physical: u64) -> Option<usize> {
            let offset = physical.checked_sub(image_physical(symbol!(tables_begin)))?;
            let index = (offset / PAGE_SIZE) as usize;
            (index < self.used).then_some(index)
        }
    }

    /// The live TTBR1 tree. There is one.
    pub struct AddressSpace {
        pool: Pool,
        root: usize,
    }

    impl AddressSpace {
        /// Maps the image with its real permissions, guard pages left out, and switches to the new tables.
        ///
        /// # Errors
        /// The pool is too small for the image, or the address space was made before.
        pub fn take(image_physical_address: u64) -> Result<Self, MapError> {
            if TAKEN.swap(true, Ordering::AcqRel) {
                return Err(MapError::Occupied { virtual_address: symbol!(image_begin) });
            }
            IMAGE_PHYSICAL.store(image_physical_address, Ordering::Relaxed);
            let mut pool = Pool { used: 0 };
            let root = pool.allocate()?;
            let mut space = Self { pool, root };
            let parts = [
                (symbol!(text_begin), symbol!(text_end), Access::Execute),
                (symbol!(rodata_begin), symbol!(rodata_end), Access::ReadOnly),
                (symbol!(data_begin), symbol!(data_end), Access::ReadWrite),
                (symbol!(bss_begin), symbol!(bss_end), Access::ReadWrite),
            ];
            for (begin, end, access) in parts {
                space.map(begin, image_physical(begin), end - begin, access)?;
            }
            for slot in 0..crate::percpu::capacity() {
                if let Some(stacks) = crate::percpu::stacks(slot) {
                    for (bottom, top) in [stacks.thread, stacks.exception, stacks.crash] {
                        space.map(bottom, image_physical(bottom), top - bottom, Access::ReadWrite)?;
                    }
                }
            }
            let root_address = space.pool.physical(root);
            ROOT.store(root_address, Ordering::Relaxed);
            arch::publish_tables();
            let switch = image_physical((switch_ttbr1 as *const ()).addr() as u64);
            // SAFETY: 1. The early identity map in TTBR0 maps `switch_ttbr1` at its physical address. 2. The new tables
            // map the running code and stack where they are, so the return lands in mapped text.
            unsafe {
                core::arch::asm!("blr {}", in(reg) switch, inout("x0") root_address => _, out("x1") _, out("x2") _,
                    out("x30") _, options(nostack));
            }
            // SAFETY: everything executable was mapped read-only just above.
            unsafe { arch::forbid_writable_code() };
            space.drop_identity();
            Ok(space)
        }

        /// Empties TTBR0: from here a NULL access faults. The walker finds only zeros in the last table of the pool.
        fn drop_identity(&mut self) {
            if let Ok(empty) = self.pool.allocate() {
                let physical = self.pool.physical(empty);
                EMPTY.store(physical, Ordering::Relaxed);
                // SAFETY: a page of zeros, never written.
                unsafe { arch::write_ttbr0(physical) };
            }
        }

        /// Maps whole pages.
        ///
        /// # Errors
        /// See [`MapError`].
        pub fn map(&mut self, virtual_address: u64, physical: u64, len: u64, access: Access) -> Result<(), MapError> {
            map_range(&mut self.pool, self.root, 0, virtual_address, physical, len, access.attributes())?;
            arch::publish_tables();
            Ok(())
        }

        /// Maps the pages that hold `len` bytes of device registers and returns the virtual address of `physical`.
        /// Pages that are mapped already stay as they are.
        ///
        /// # Errors
        /// See [`MapError`].
        pub fn map_device(&mut self, physical: u64, len: u64) -> Result<u64, MapError> {
            let misaligned = MapError::Misaligned { virtual_address: physical, len };
            let end = physical.checked_add(len.max(1)).filter(|end| *end <= PHYSICAL_LIMIT).ok_or(misaligned)?;
            let mut page = physical & !(PAGE_SIZE - 1);
            while page < end {
                match self.map(DEVICE_BASE + page, page, PAGE_SIZE, Access::Device) {
                    Ok(()) | Err(MapError::Occupied { .. }) => {}
                    Err(error) => return Err(error),
                }
                page += PAGE_SIZE;
            }
            Ok(DEVICE_BASE + physical)
        }

        /// Opens a window onto whole pages of physical memory, at a place of `slot` (each slot is 512 GiB of addresses).
        ///
        /// # Errors
        /// See [`MapError`].
        pub fn open_window(&mut self, slot: u64, physical: u64, len: u64, access: Access) -> Result<u64, MapError> {
            let base = window_base(slot);
            // The offset within 2 MiB is kept, so that blocks can be used.
            let address = base + (physical & (crate::layout::BLOCK_SIZE - 1));
            self.map(address, physical, len, access)?;
            Ok(address)
        }

        /// Removes `len` bytes of mappings that were made with blocks and pages inside that range only.
        pub fn unmap(&mut self, virtual_address: u64, len: u64) {
            let mut done = 0;
            while done < len {
                done += self.unmap_one(virtual_address + done);
            }
            arch::flush_tlb_all();
        }

        /// Clears the leaf that covers `virtual_address`; returns the bytes to go on by.
        fn unmap_one(&mut self, virtual_address: u64) -> u64 {
            let mut index = self.root;
            for level in 0..4_u32 {
                let shift = 39 - 9 * level;
                let slot = (virtual_address >> shift & 511) as usize;
                let Some(table) = self.pool.table(index) else { return PAGE_SIZE };
                let entry = table.0[slot];
                let to_next = (1_u64 << shift) - (virtual_address & ((1 << shift) - 1));
                if entry & VALID == 0 {
                    return to_next;
                }
                if level == 3 || entry & TABLE_OR_PAGE == 0 {
                    table.0[slot] = 0;
                    return to_next;
                }
                match self.pool.index_of(entry & ADDRESS) {
                    Some(next) => index = next,
                    None => return to_next,
                }
            }
            PAGE_SIZE
        }

        /// Replaces the 512 page descriptors of a 2 MiB window, all at once: `page(i)` is the physical page for page `i`, or
        /// `None`. The window must have been opened page by page by [`AddressSpace::prepare_page_window`].
        pub fn fill_page_window(&mut self, table: PageWindow, mut page: impl FnMut(usize) -> Option<u64>) {
            if let Some(entries) = self.pool.table(table.index) {
                for entry in &mut entries.0 {
                    *entry = 0;
                }
                arch::flush_tlb_local();
            }
            if let Some(entries) = self.pool.table(table.index) {
                for (number, entry) in entries.0.iter_mut().enumerate() {
                    if let Some(physical) = page(number) {
                        *entry = physical | Access::ReadOnly.attributes() | TABLE_OR_PAGE | VALID;
                    }
                }
                arch::publish_tables();
            }
        }

        /// Makes the level-3 table of an empty 2 MiB window in `slot`.
        ///
        /// # Errors
        /// See [`MapError`].
        pub fn prepare_page_window(&mut self, slot: u64) -> Result<PageWindow, MapError> {
            let address = window_base(slot);
            // One page mapped and removed again makes the tables down to level 3.
            self.map(address, image_physical(symbol!(image_begin)), PAGE_SIZE, Access::ReadOnly)?;
            self.unmap(address, PAGE_SIZE);
            let mut index = self.root;
            for level in 0..3_u32 {
                let slot = (address >> (39 - 9 * level) & 511) as usize;
                let entry = self.pool.table(index).map_or(0, |table| table.0[slot]);
                index = self.pool.index_of(entry & ADDRESS).ok_or(MapError::Occupied { virtual_address: address })?;
            }
            Ok(PageWindow { index, address })
        }

        /// Pages of the table pool in use, and in all.
        pub fn table_use(&self) -> (usize, usize) {
            (self.pool.used, self.pool.pages())
        }
    }

    /// A 2 MiB window whose pages are set one by one.
    #[derive(Clone, Copy, Debug)]
    pub struct PageWindow {
        index: usize,
        /// First virtual address.
        pub address: u64,
    }

    /// Empties TTBR0 of this CPU.
    pub(crate) fn empty_ttbr0() {
        // SAFETY: `EMPTY` holds the page of zeros that `drop_identity` took.
        unsafe { arch::write_ttbr0(EMPTY.load(Ordering::Relaxed)) };
    }

    /// Gives a secondary CPU, which has the live TTBR1 already, the empty TTBR0 and WXN of the first CPU.
    pub(crate) fn enter_address_space() {
        empty_ttbr0();
        // SAFETY: the live tables map code read-only.
        unsafe { arch::forbid_writable_code() };
    }

    fn window_base(slot: u64) -> u64 {
        WINDOW_BASE + (slot & 7) * (1 << 39)
    }

}

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
        let mut fake = Fake { tables: Vec::new(), limit };
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
        assert_eq!(walk(&mut fake, root, (1 << 39) + 0x1234_5678), Some(0x4000_0000 + 0x1234_5678));
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
        assert_eq!(result, Err(MapError::Occupied { virtual_address: 0x30_0000 }));
    }

    #[test]
    fn mapping_of_partial_page_is_rejected() {
        let (mut fake, root) = fake(8);
        let result = map_range(&mut fake, root, 0, 0x1000, 0x1000, 0x800, 0);
        assert_eq!(result, Err(MapError::Misaligned { virtual_address: 0x1000, len: 0x800 }));
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
}
