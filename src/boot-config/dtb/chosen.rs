// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/chosen`: the command line, the initial RAM disk, and what a crashed kernel says to its capture kernel.
//!
//! Devicetree Specification v0.4, section 3.6, and Linux's Documentation/devicetree/bindings/chosen.txt.

use super::error::DtbError;
use super::header::{be32, be64};
use super::{Dtb, Node};
use crate::command_line::until_nul;
use crate::fixed_list::FixedList;
use crate::range::PhysRange;

/// How many ranges `linux,usable-memory-range` may have; Linux writes at most 2.
const MAX_USABLE_RANGES: usize = 4;

/// What a crashed kernel says to its capture kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdumpInfo {
    /// The memory that the capture kernel may use, `linux,usable-memory-range`.
    pub usable_memory: FixedList<PhysRange, MAX_USABLE_RANGES>,
    /// The ELF core header, `linux,elfcorehdr`.
    pub elf_core_header: PhysRange,
}

impl<'a> Dtb<'a> {
    fn chosen(&self) -> Option<Node<'a>> {
        self.root().child("chosen")
    }

    /// Returns the kernel command line, up to its first NUL; empty when there is none.
    #[must_use]
    pub fn boot_args(&self) -> &'a [u8] {
        let value = self.chosen().and_then(|chosen| chosen.property("bootargs"));
        until_nul(value.unwrap_or(&[]))
    }

    /// Returns where the boot loader put the initial RAM disk; `None` when there is none or it is empty.
    ///
    /// # Errors
    /// An end without a start or the other way round, below it, or of neither 4 nor 8 bytes.
    pub fn initrd(&self) -> Result<Option<PhysRange>, DtbError> {
        const START: &str = "linux,initrd-start";
        const END: &str = "linux,initrd-end";
        let Some(chosen) = self.chosen() else {
            return Ok(None);
        };
        let missing = |property| DtbError::MissingProperty {
            node: "/chosen",
            property,
        };
        let (start, end) = match (address(&chosen, START)?, address(&chosen, END)?) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(missing(END)),
            (None, Some(_)) => return Err(missing(START)),
            (Some(start), Some(end)) => (start, end),
        };
        let range = PhysRange::new(start, end).map_err(|cause| DtbError::BadRange {
            property: END,
            cause,
        })?;
        Ok((!range.is_empty()).then_some(range))
    }

    /// Returns what a crashed kernel left for a capture kernel; `None` in a blob for a system kernel.
    ///
    /// # Errors
    /// One of the two properties without the other, wrong lengths, empty or impossible ranges.
    pub fn kdump_info(&self) -> Result<Option<KdumpInfo>, DtbError> {
        let usable_memory = self.usable_memory()?;
        match (usable_memory.is_empty(), self.elf_core_header()?) {
            (true, None) => Ok(None),
            (false, Some(elf_core_header)) => Ok(Some(KdumpInfo {
                usable_memory,
                elf_core_header,
            })),
            (true, Some(_)) => Err(missing_in_chosen("linux,usable-memory-range")),
            (false, None) => Err(missing_in_chosen("linux,elfcorehdr")),
        }
    }

    /// Returns `linux,usable-memory-range`; empty when it is absent.
    ///
    /// # Errors
    /// Wrong lengths, empty or impossible ranges, more ranges than fit.
    pub fn usable_memory(&self) -> Result<FixedList<PhysRange, MAX_USABLE_RANGES>, DtbError> {
        self.kdump_ranges("linux,usable-memory-range")
    }

    /// Returns `linux,elfcorehdr`.
    ///
    /// # Errors
    /// A wrong length, an empty or impossible range, more than one range.
    pub fn elf_core_header(&self) -> Result<Option<PhysRange>, DtbError> {
        const NAME: &str = "linux,elfcorehdr";
        let ranges: FixedList<PhysRange, 1> = self.kdump_ranges(NAME)?;
        Ok(ranges.first())
    }

    /// Both kdump properties are in the cells of the root, not of `/chosen`.
    fn kdump_ranges<const N: usize>(
        &self,
        property: &'static str,
    ) -> Result<FixedList<PhysRange, N>, DtbError> {
        let mut ranges = FixedList::new();
        let Some(chosen) = self.chosen() else {
            return Ok(ranges);
        };
        let Some(value) = chosen.property(property) else {
            return Ok(ranges);
        };
        for range in chosen.ranges_in(property, self.root().cell_sizes()?)? {
            let range = range?;
            if range.is_empty() {
                return Err(chosen.bad_value(property, value));
            }
            if !ranges.push(range) {
                return Err(DtbError::TooMany {
                    what: property,
                    capacity: N,
                });
            }
        }
        if ranges.is_empty() {
            return Err(chosen.bad_length(property, value));
        }
        Ok(ranges)
    }
}

fn missing_in_chosen(property: &'static str) -> DtbError {
    DtbError::MissingProperty {
        node: "/chosen",
        property,
    }
}

/// Reads an address of 4 or 8 bytes: boot loaders write either, whatever the root's cells.
fn address(chosen: &Node<'_>, property: &'static str) -> Result<Option<u64>, DtbError> {
    let Some(value) = chosen.property(property) else {
        return Ok(None);
    };
    let address = match value.len() {
        4 => be32(value, 0).map(u64::from),
        8 => be64(value, 0),
        _ => None,
    };
    address
        .map(Some)
        .ok_or_else(|| chosen.bad_length(property, value))
}
