// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two edits that kdump needs: our own blob with the crash region, and the capture kernel's blob.
//!
//! The capture kernel's follows what Linux writes (drivers/of/kexec.c): stale properties go first, then
//! `linux,usable-memory-range` and `linux,elfcorehdr` in the root's cells.

use core::fmt::Write;

use super::super::Dtb;
use super::{EditError, Edits, Value};
use crate::command_line::until_nul;
use crate::range::PhysRange;

const CHOSEN: &str = "/chosen";
const RESERVED_MEMORY: &str = "/reserved-memory";

/// Room for "/reserved-memory/crashkernel@" and 16 digits.
const PATH_LEN: usize = 48;

/// Writes a copy of `dtb` with `/reserved-memory/crashkernel@ADDR` (`no-map`) for `region`; returns its length.
///
/// # Errors
/// [`EditError::CrashRegionExists`] when there is such a node already, [`EditError::CellsTooSmall`] when the blob's
/// cells cannot express the region, [`EditError::DoesNotFit`].
pub fn add_crash_region(
    dtb: &Dtb<'_>,
    region: PhysRange,
    out: &mut [u8],
) -> Result<usize, EditError> {
    if let Some(existing) = dtb.crash_region()? {
        return Err(EditError::CrashRegionExists {
            region: existing.range,
        });
    }
    let root = dtb.root();
    let existing = root.child("reserved-memory");
    let cells = existing.unwrap_or(root).cell_sizes()?;
    let mut path = Path {
        text: [0; PATH_LEN],
        len: 0,
    };
    // Cannot fail: the buffer has room for the largest address.
    let _ = write!(path, "{RESERVED_MEMORY}/crashkernel@{:x}", region.start);
    let ranges = [region];
    let reg = Value::Ranges {
        ranges: &ranges,
        address_cells: cells.address,
        size_cells: cells.size,
    };
    let mut edits = Edits::new();
    if existing.is_none() {
        edits = edits
            .set(
                RESERVED_MEMORY,
                "#address-cells",
                Value::Cell(cells.address),
            )
            .set(RESERVED_MEMORY, "#size-cells", Value::Cell(cells.size))
            .set(RESERVED_MEMORY, "ranges", Value::Empty);
    }
    let path = path.as_str();
    edits
        .set(path, "reg", reg)
        .set(path, "no-map", Value::Empty)
        .apply(dtb, out)
}

/// What the blob of a capture kernel says.
#[derive(Debug, Clone, Copy)]
pub struct CaptureDtb<'e> {
    /// The memory the capture kernel may use.
    pub usable_memory: &'e [PhysRange],
    /// The ELF core header.
    pub elf_core_header: PhysRange,
    /// The capture kernel's command line, up to its first NUL.
    pub boot_args: &'e [u8],
    /// The capture kernel's initial RAM disk.
    pub initrd: Option<PhysRange>,
    /// What the capture kernel must not use of its memory, besides the ELF core header.
    pub reservations: &'e [PhysRange],
}

impl CaptureDtb<'_> {
    /// Writes a copy of `dtb`, the blob the system kernel was given, for the capture kernel; returns its length.
    ///
    /// What an earlier kernel left goes: both kdump properties, the initial RAM disk, the seeds that must not be
    /// used twice, and the crash region's node, which would take all memory from a capture kernel that honours it.
    ///
    /// # Errors
    /// [`EditError::CellsTooSmall`] when the root's cells cannot express a range, [`EditError::DoesNotFit`].
    pub fn write(&self, dtb: &Dtb<'_>, out: &mut [u8]) -> Result<usize, EditError> {
        let cells = dtb.root().cell_sizes()?;
        let ranges = |ranges| Value::Ranges {
            ranges,
            address_cells: cells.address,
            size_cells: cells.size,
        };
        let header = [self.elf_core_header];
        let mut edits = Edits::new()
            .set(
                CHOSEN,
                "linux,usable-memory-range",
                ranges(self.usable_memory),
            )
            .set(CHOSEN, "linux,elfcorehdr", ranges(&header))
            .set(CHOSEN, "bootargs", Value::Text(until_nul(self.boot_args)))
            .remove(CHOSEN, "kaslr-seed")
            .remove(CHOSEN, "rng-seed")
            .remove_children(RESERVED_MEMORY, "crashkernel");
        edits = match self.initrd {
            Some(initrd) => edits
                .set(
                    CHOSEN,
                    "linux,initrd-start",
                    Value::DoubleCell(initrd.start),
                )
                .set(CHOSEN, "linux,initrd-end", Value::DoubleCell(initrd.end)),
            None => edits
                .remove(CHOSEN, "linux,initrd-start")
                .remove(CHOSEN, "linux,initrd-end"),
        };
        // A blob with a malformed stale header has no reservation for it that could be recognised.
        if let Ok(Some(stale)) = dtb.elf_core_header() {
            edits = edits.release(stale);
        }
        edits = edits.reserve(self.elf_core_header);
        for range in self.reservations {
            edits = edits.reserve(*range);
        }
        edits.apply(dtb, out)
    }
}

/// A node's path, built in place.
struct Path {
    text: [u8; PATH_LEN],
    len: usize,
}

impl Path {
    fn as_str(&self) -> &str {
        let text = self.text.get(..self.len).unwrap_or(&[]);
        core::str::from_utf8(text).unwrap_or("")
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len.checked_add(text.len()).ok_or(core::fmt::Error)?;
        let room = self.text.get_mut(self.len..end).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
