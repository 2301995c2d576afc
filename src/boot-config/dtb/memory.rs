// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM, and what is reserved in it.
//!
//! `/memory*` nodes (Devicetree Specification v0.4, section 3.4), the memory reservation block (5.3) and
//! `/reserved-memory` (3.5), read as Linux's drivers/of/fdt.c and of_reserved_mem.c read them.

use super::Dtb;
use super::error::DtbError;
use super::validate;
use crate::fixed_list::FixedList;
use crate::range::{PhysRange, RangeError, RangeSet};

/// How many separate RAM ranges are kept.
pub const MAX_RAM_RANGES: usize = 32;

/// How many regions of `/reserved-memory` are kept.
pub const MAX_RESERVED_REGIONS: usize = 64;

const RESERVED_MEMORY: &str = "reserved-memory";
const CRASH_REGION: &str = "crashkernel";

/// A static region of `/reserved-memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedRegion<'a> {
    /// The node's name with its unit address.
    pub name: &'a str,
    /// What is reserved.
    pub range: PhysRange,
    /// Whether it must not be mapped (`no-map`).
    pub is_no_map: bool,
}

impl<'a> Dtb<'a> {
    /// Returns the RAM that the `/memory` nodes list; touching ranges are merged.
    ///
    /// # Errors
    /// [`DtbError::MissingNode`] when there is none at all, wrong cells or lengths, more than [`MAX_RAM_RANGES`].
    pub fn ram(&self) -> Result<RangeSet<MAX_RAM_RANGES>, DtbError> {
        let root = self.root();
        let cells = root.cell_sizes()?;
        let mut ram = RangeSet::new();
        for node in root.children() {
            if node.text("device_type") != Some("memory") || !node.is_available() {
                continue;
            }
            let is_limited = node.property("linux,usable-memory").is_some();
            let property = if is_limited {
                "linux,usable-memory"
            } else {
                "reg"
            };
            for range in node.ranges_in(property, cells)? {
                ram.insert(range?).map_err(|cause| match cause {
                    RangeError::Full { capacity } => DtbError::TooMany {
                        what: "RAM ranges",
                        capacity,
                    },
                    cause => DtbError::BadRange { property, cause },
                })?;
            }
        }
        if ram.is_empty() {
            return Err(DtbError::MissingNode { node: "/memory" });
        }
        Ok(ram)
    }

    /// Iterates over the memory reservation block.
    pub fn memory_reservations(
        &self,
    ) -> impl Iterator<Item = Result<PhysRange, DtbError>> + use<'a> {
        validate::reservations(self.blob, &self.header).map(|(address, size)| {
            PhysRange::from_len(address, size).map_err(|cause| DtbError::BadRange {
                property: "memreserve",
                cause,
            })
        })
    }

    /// Returns the static regions of `/reserved-memory`, one for each entry of a `reg`.
    ///
    /// # Errors
    /// Wrong cells or lengths, more than [`MAX_RESERVED_REGIONS`].
    pub fn reserved_memory(
        &self,
    ) -> Result<FixedList<ReservedRegion<'a>, MAX_RESERVED_REGIONS>, DtbError> {
        let mut regions = FixedList::new();
        let Some(parent) = self.root().child(RESERVED_MEMORY) else {
            return Ok(regions);
        };
        let cells = parent.cell_sizes()?;
        for node in parent.children().filter(super::Node::is_available) {
            let is_no_map = node.property("no-map").is_some();
            for range in node.ranges_in("reg", cells)? {
                let region = ReservedRegion {
                    name: node.name(),
                    range: range?,
                    is_no_map,
                };
                if !region.range.is_empty() && !regions.push(region) {
                    let capacity = MAX_RESERVED_REGIONS;
                    return Err(DtbError::TooMany {
                        what: "reserved regions",
                        capacity,
                    });
                }
            }
        }
        Ok(regions)
    }

    /// Returns the end of the memory that every bus's devices reach, by `dma-ranges`; `None` when no bus is limited. One that cannot be read, a
    /// PCI bus's among them, limits nothing.
    #[must_use]
    pub fn dma_end(&self) -> Option<u64> {
        let mut end = None;
        let _ = self.find(|bus| {
            let limit = bus.dma_windows_end();
            end = end.into_iter().chain(limit).min();
            false
        });
        end
    }

    /// Returns the crash region that `/reserved-memory/crashkernel@ADDR` already sets aside.
    ///
    /// # Errors
    /// As [`Self::reserved_memory`].
    pub fn crash_region(&self) -> Result<Option<ReservedRegion<'a>>, DtbError> {
        let regions = self.reserved_memory()?;
        let is_ours =
            |region: &ReservedRegion<'_>| region.name.split('@').next() == Some(CRASH_REGION);
        Ok(regions.iter().find(is_ours))
    }
}
