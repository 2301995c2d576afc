// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page tables that are built inside the crash region, through a window.

use crate::layout::PAGE_SIZE;
use crate::mmu::{MapError, Table, Tables};

/// Pages inside an open window onto the region, used as page tables.
pub(super) struct WindowTables {
    pub(super) window: u64,
    pub(super) physical: u64,
    pub(super) used: usize,
    pub(super) count: usize,
}

impl WindowTables {
    /// Counts the tables that an earlier builder filled: those before the first empty one.
    pub(super) fn adopt_used(&mut self) {
        self.used = self.count;
        let is_empty = |table: &mut Table| table.0.iter().all(|entry| *entry == 0);
        let first_empty = (0..self.count).find(|index| self.table(*index).is_some_and(is_empty));
        self.used = first_empty.unwrap_or(self.count);
    }
}

impl Tables for WindowTables {
    fn table(&mut self, index: usize) -> Option<&mut Table> {
        if index >= self.used {
            return None;
        }
        let address = self.window + index as u64 * PAGE_SIZE;
        // SAFETY: the window maps these pages read-write while `prepare` runs, and nothing else refers to them.
        Some(unsafe { &mut *(address as *mut Table) })
    }

    fn allocate(&mut self) -> Result<usize, MapError> {
        if self.used >= self.count {
            return Err(MapError::OutOfTables { pool: self.count });
        }
        self.used += 1;
        Ok(self.used - 1)
    }

    fn physical(&self, index: usize) -> u64 {
        self.physical + index as u64 * PAGE_SIZE
    }

    fn index_of(&self, physical: u64) -> Option<usize> {
        let index = (physical.checked_sub(self.physical)? / PAGE_SIZE) as usize;
        (index < self.used).then_some(index)
    }
}
