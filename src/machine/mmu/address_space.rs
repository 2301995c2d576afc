// SPDX-License-Identifier: MIT OR Apache-2.0
//! The live TTBR1 tree of the running image.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{ADDRESS, Access, MapError, TABLE_OR_PAGE, Table, Tables, VALID, expected, map_range};
use crate::layout::{DEVICE_BASE, PAGE_SIZE, PHYSICAL_LIMIT, WINDOW_BASE};
use crate::{arch, image};

unsafe extern "C" {
    fn switch_ttbr1();
}

static ROOT: AtomicU64 = AtomicU64::new(0);
/// Physical address of a table without entries.
static EMPTY: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Physical address of the live TTBR1 root table.
pub fn root_table() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// Physical range of the table pool.
pub fn table_pool() -> (u64, u64) {
    let (begin, end) = image::bounds().tables;
    (image::physical(begin), image::physical(end))
}

struct Pool {
    used: usize,
}

impl Pool {
    fn pages(&self) -> usize {
        let (begin, end) = image::bounds().tables;
        ((end - begin) / PAGE_SIZE) as usize
    }
}

impl Tables for Pool {
    fn table(&mut self, index: usize) -> Option<&mut Table> {
        if index >= self.used {
            return None;
        }
        let address = image::bounds().tables.0 + index as u64 * PAGE_SIZE;
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
        image::physical(image::bounds().tables.0 + index as u64 * PAGE_SIZE)
    }

    fn index_of(&self, physical: u64) -> Option<usize> {
        let offset = physical.checked_sub(image::physical(image::bounds().tables.0))?;
        let index = (offset / PAGE_SIZE) as usize;
        (index < self.used).then_some(index)
    }
}

/// The live TTBR1 tree. There is one.
pub struct AddressSpace {
    pool: Pool,
    root: usize,
    /// End of the highest physical range mapped so far.
    highest: u64,
}

impl AddressSpace {
    /// Maps the image with its real permissions, guard pages left out, and switches to the new tables.
    ///
    /// # Errors
    /// The pool is too small for the image, or the address space was made before.
    pub fn take(image_physical_address: u64) -> Result<Self, MapError> {
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(MapError::Occupied {
                virtual_address: image::bounds().begin,
            });
        }
        image::set_physical(image_physical_address);
        let mut pool = Pool { used: 0 };
        let root = pool.allocate()?;
        let mut space = Self {
            pool,
            root,
            highest: 0,
        };
        let bounds = image::bounds();
        let parts = [
            (bounds.begin, bounds.text_end, Access::Execute),
            (bounds.text_end, bounds.rodata_end, Access::ReadOnly),
            (bounds.rodata_end, bounds.bss_end, Access::ReadWrite),
        ];
        for (begin, end, access) in parts {
            space.map(begin, image::physical(begin), end - begin, access)?;
        }
        for slot in 0..crate::percpu::capacity() {
            if let Some(stacks) = crate::percpu::stacks(slot) {
                for (bottom, top) in [stacks.thread, stacks.exception, stacks.crash] {
                    space.map(
                        bottom,
                        image::physical(bottom),
                        top - bottom,
                        Access::ReadWrite,
                    )?;
                }
            }
        }
        let root_address = space.pool.physical(root);
        ROOT.store(root_address, Ordering::Relaxed);
        arch::publish_tables();
        let switch = image::physical((switch_ttbr1 as *const ()).addr() as u64);
        // SAFETY: 1. The early identity map in TTBR0 maps `switch_ttbr1` at its physical address. 2. The new tables
        // map the running code and stack where they are, so the return lands in mapped text.
        unsafe {
            core::arch::asm!("blr {}", in(reg) switch, inout("x0") root_address => _, out("x1") _, out("x2") _,
                out("x30") _, options(nostack));
        }
        // SAFETY: everything executable was mapped read-only just above.
        unsafe { arch::forbid_writable_code() };
        space.drop_identity()?;
        Ok(space)
    }

    /// Empties TTBR0: from here a NULL access faults. The walker finds only zeros in the last table of the pool.
    fn drop_identity(&mut self) -> Result<(), MapError> {
        let empty = self.pool.allocate()?;
        let physical = self.pool.physical(empty);
        EMPTY.store(physical, Ordering::Relaxed);
        // SAFETY: a page of zeros, never written.
        unsafe { arch::write_ttbr0(physical) };
        Ok(())
    }

    /// End of the highest physical range mapped so far.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Maps whole pages.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map(
        &mut self,
        virtual_address: u64,
        physical: u64,
        len: u64,
        access: Access,
    ) -> Result<(), MapError> {
        map_range(
            &mut self.pool,
            self.root,
            0,
            virtual_address,
            physical,
            len,
            access.attributes(),
        )?;
        arch::publish_tables();
        expected::add(virtual_address, physical, len, access.attributes());
        self.highest = self.highest.max(physical.saturating_add(len));
        Ok(())
    }

    /// Maps the pages that hold `len` bytes of device registers and returns the virtual address of `physical`.
    /// Pages that are mapped already stay as they are.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map_device(&mut self, physical: u64, len: u64) -> Result<u64, MapError> {
        let misaligned = MapError::Misaligned {
            virtual_address: physical,
            len,
        };
        let end = physical
            .checked_add(len.max(1))
            .filter(|end| *end <= PHYSICAL_LIMIT)
            .ok_or(misaligned)?;
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
    pub fn open_window(
        &mut self,
        slot: u64,
        physical: u64,
        len: u64,
        access: Access,
    ) -> Result<u64, MapError> {
        let base = window_base(slot);
        // The offset within 2 MiB is kept, so that blocks can be used.
        let address = base + (physical & (crate::layout::BLOCK_SIZE - 1));
        self.map(address, physical, len, access)?;
        Ok(address)
    }

    /// Removes `len` bytes of mappings that were made with blocks and pages inside that range only.
    pub fn unmap(&mut self, virtual_address: u64, len: u64) {
        expected::remove(virtual_address, len);
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
            let Some(table) = self.pool.table(index) else {
                return PAGE_SIZE;
            };
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
    pub fn fill_page_window(
        &mut self,
        table: PageWindow,
        mut page: impl FnMut(usize) -> Option<u64>,
    ) {
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
        self.map(
            address,
            image::physical(image::bounds().begin),
            PAGE_SIZE,
            Access::ReadOnly,
        )?;
        self.unmap(address, PAGE_SIZE);
        let mut index = self.root;
        for level in 0..3_u32 {
            let slot = (address >> (39 - 9 * level) & 511) as usize;
            let entry = self.pool.table(index).map_or(0, |table| table.0[slot]);
            index = self
                .pool
                .index_of(entry & ADDRESS)
                .ok_or(MapError::Occupied {
                    virtual_address: address,
                })?;
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
