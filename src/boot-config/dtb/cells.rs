// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers made of cells: `reg`, and its translation through the `ranges` of the buses above.
//!
//! Devicetree Specification v0.4, sections 2.3.5, 2.3.6 and 2.3.8.

use super::error::DtbError;
use super::header::be32;
use super::node::Node;
use crate::range::PhysRange;

/// How many cells addresses and sizes of a node's children have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CellSizes {
    pub(super) address: u32,
    pub(super) size: u32,
}

/// Returns the number in the first `cells` cells of `bytes`, and what follows; none beyond 64 bits.
pub(super) fn take_cells(bytes: &[u8], cells: u32) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut rest = bytes;
    for _ in 0..cells {
        if value > u64::from(u32::MAX) {
            return None;
        }
        value = (value << 32) | u64::from(be32(rest, 0)?);
        rest = rest.get(4..)?;
    }
    Some((value, rest))
}

/// Takes a window of `ranges` or `dma-ranges`: the child's address, the parent's, the size, and what follows. A PCI bus has three address cells:
/// what lies behind one is not for us.
fn take_window(
    bytes: &[u8],
    (child, up): (CellSizes, CellSizes),
) -> Option<(u64, u64, u64, &[u8])> {
    let (below, rest) = take_cells(bytes, child.address)?;
    let (above, rest) = take_cells(rest, up.address)?;
    let (len, rest) = take_cells(rest, child.size)?;
    (child.address > 0 && up.address > 0).then_some((below, above, len, rest))
}

/// Iterator over the (address, size) pairs of a property.
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
    cells: CellSizes,
}

impl Iterator for Pairs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (address, rest) = take_cells(self.rest, self.cells.address)?;
        let (size, rest) = take_cells(rest, self.cells.size)?;
        self.rest = rest;
        Some((address, size))
    }
}

/// Which way an address is led between a bus and the one above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl<'a> Node<'a> {
    /// Returns the cell sizes of this node's children; the defaults are the specification's, 2 and 1.
    pub(super) fn cell_sizes(&self) -> Result<CellSizes, DtbError> {
        Ok(CellSizes {
            address: self.cell("#address-cells")?.unwrap_or(2),
            size: self.cell("#size-cells")?.unwrap_or(1),
        })
    }

    /// Returns the pairs in `property`, none if it is absent.
    pub(super) fn pairs(
        &self,
        property: &'static str,
        cells: CellSizes,
    ) -> Result<Pairs<'a>, DtbError> {
        let value = self.property(property).unwrap_or(&[]);
        let bad_cells = DtbError::BadCells {
            property,
            address: cells.address,
            size: cells.size,
        };
        if !(1..=2).contains(&cells.address) || cells.size > 2 {
            return Err(bad_cells);
        }
        let len = cells.address.saturating_add(cells.size).saturating_mul(4);
        let len = usize::try_from(len).map_err(|_| bad_cells)?;
        if !value.len().is_multiple_of(len) {
            return Err(self.bad_length(property, value));
        }
        Ok(Pairs { rest: value, cells })
    }

    /// Returns the ranges in `property`, addresses and sizes in `cells`.
    pub(super) fn ranges_in(
        &self,
        property: &'static str,
        cells: CellSizes,
    ) -> Result<impl Iterator<Item = Result<PhysRange, DtbError>> + use<'a>, DtbError> {
        let pairs = self.pairs(property, cells)?;
        Ok(pairs.map(move |(address, size)| {
            PhysRange::from_len(address, size)
                .map_err(|cause| DtbError::BadRange { property, cause })
        }))
    }

    /// Returns entry `index` of the node's `reg` as physical addresses; `None` when it has no such entry.
    ///
    /// # Errors
    /// Wrong cells or lengths, and [`DtbError::Untranslatable`] when a bus above does not pass the address on.
    pub fn registers(&self, index: usize) -> Result<Option<PhysRange>, DtbError> {
        let Some(parent) = self.parent() else {
            return Ok(None);
        };
        let Some((address, size)) = self.pairs("reg", parent.cell_sizes()?)?.nth(index) else {
            return Ok(None);
        };
        let start = parent.translate(address, size)?;
        PhysRange::from_len(start, size)
            .map(Some)
            .map_err(|cause| DtbError::BadRange {
                property: "reg",
                cause,
            })
    }

    /// Translates an address on the bus that this node is into a physical address.
    fn translate(&self, address: u64, size: u64) -> Result<u64, DtbError> {
        let untranslatable = DtbError::Untranslatable { address };
        let mut bus = *self;
        let mut translated = address;
        while let Some(parent) = bus.parent() {
            let ranges = bus.property("ranges").ok_or(untranslatable)?;
            if !ranges.is_empty() {
                let (child, up) = (bus.cell_sizes()?, parent.cell_sizes()?);
                translated = bus
                    .map_through(("ranges", ranges), (child, up), Way::Up, translated, size)?
                    .ok_or(untranslatable)?;
            }
            bus = parent;
        }
        Ok(translated)
    }

    /// Returns the end of the memory that devices on this bus reach through its `dma-ranges`; `None` when it has none that can be read.
    pub(super) fn dma_windows_end(&self) -> Option<u64> {
        let mut rest = self.property("dma-ranges")?;
        let cells = (self.cell_sizes().ok()?, self.parent()?.cell_sizes().ok()?);
        let mut end = None;
        while !rest.is_empty() {
            let (_, above, len, next) = take_window(rest, cells)?;
            end = end.max(above.checked_add(len));
            rest = next;
        }
        end.filter(|end| *end > 0)
    }

    /// Leads `address` through windows that each are a child's address, a parent's, and a size; `None` when `size` bytes there are in none.
    pub(super) fn map_through(
        &self,
        (name, ranges): (&'static str, &[u8]),
        (child, up): (CellSizes, CellSizes),
        way: Way,
        address: u64,
        size: u64,
    ) -> Result<Option<u64>, DtbError> {
        let mut rest = ranges;
        while !rest.is_empty() {
            let Some((below, above, len, next)) = take_window(rest, (child, up)) else {
                return Err(self.bad_length(name, ranges));
            };
            let (from, to) = match way {
                Way::Up => (below, above),
                Way::Down => (above, below),
            };
            let offset = address.checked_sub(from);
            if let Some(offset) =
                offset.filter(|offset| *offset < len && size <= len.saturating_sub(*offset))
            {
                return Ok(to.checked_add(offset));
            }
            rest = next;
        }
        Ok(None)
    }
}
