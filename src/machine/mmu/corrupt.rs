// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stray write to the page tables, on purpose.

use super::{ADDRESS, TABLE_OR_PAGE, VALID, root_table};
use crate::image;

/// AP[2] of a descriptor: read-only.
const READ_ONLY: u64 = 1 << 7;

/// Makes the first page of the image's read-only data writable, behind the back of whoever keeps account of the tables. Returns
/// the page's virtual address.
pub fn corrupt_read_only_page() -> Option<u64> {
    let bounds = image::bounds();
    let va = bounds.text_end;
    let (pool, pool_end) = bounds.tables;
    let mut table = root_table();
    for level in 0..4 {
        let at = pool.checked_add(table.checked_sub(image::physical(pool))?)?;
        let entry = at + (va >> (39 - 9 * level) & 511) * 8;
        if entry >= pool_end {
            return None;
        }
        let entry = entry as *mut u64;
        // SAFETY: inside the table pool, which the image maps read-write; 8-byte aligned.
        let descriptor = unsafe { entry.read_volatile() };
        if descriptor & VALID == 0 {
            return None;
        }
        if level == 3 || descriptor & TABLE_OR_PAGE == 0 {
            // SAFETY: as above. Nothing writes to the page, so that nobody notices.
            unsafe { entry.write_volatile(descriptor ^ READ_ONLY) };
            return Some(va);
        }
        table = descriptor & ADDRESS;
    }
    None
}
