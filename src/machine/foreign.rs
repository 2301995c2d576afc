// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that others than the CPUs use, as firmware and device tree tell it to a capture kernel.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use boot_config::{Dtb, PhysRange, RangeSet, foreign};
use vmcore::PhysRange as DumpRange;
use vmcore::afterimage_notes::{Region, RegionKind, name_field};

use crate::mmu::AddressSpace;
use crate::{emergency, videocore};

/// Ranges that are handed on.
const MAX: usize = 16;

/// Memory of others, by name.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    regions: [Region; MAX],
    len: usize,
}

impl Foreign {
    /// Asks firmware and tree. What is not believed, and a firmware that does not answer, is said.
    pub(crate) fn find(space: &mut AddressSpace, dtb: &Dtb<'_>, own: &[DumpRange]) -> Self {
        const NONE: Region = Region {
            kind: RegionKind::Foreign,
            argument: 0,
            pa: 0,
            len: 0,
            va: 0,
            name: [0; 16],
        };
        let mut all = Self {
            regions: [NONE; MAX],
            len: 0,
        };
        let told = videocore::memory(space, dtb).unwrap_or_else(|error| {
            emergency!("Afterimage: memory of the VideoCore not known: {error}\n");
            None
        });
        let ram = dtb.ram().unwrap_or_default();
        let mut ours = RangeSet::<MAX>::new();
        for range in own {
            let (start, end) = (range.start, range.end);
            // As many as a tree's linux,usable-memory-range has, and the image.
            let _ = ours.insert(PhysRange { start, end });
        }
        foreign::each(
            dtb,
            told,
            ram.as_slice(),
            ours.as_slice(),
            |name, range| match range {
                Ok(range) => all.push(name, &range),
                Err(doubt) => emergency!("Afterimage: memory of {name} not believed: {doubt}\n"),
            },
        );
        all
    }

    fn push(&mut self, name: &str, range: &PhysRange) {
        let Some(slot) = self.regions.get_mut(self.len) else {
            emergency!("Afterimage: memory of {name}, {range}, is one too many and is read\n");
            return;
        };
        (slot.pa, slot.len, slot.name) = (range.start, range.len(), name_field(name));
        self.len = self.len.saturating_add(1);
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[Region] {
        self.regions.get(..self.len).unwrap_or(&[])
    }
}
