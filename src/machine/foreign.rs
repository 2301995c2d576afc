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
use crate::{bcm2835_dma, emergency, videocore};

/// DMA channels by number.
const DMA_NAMES: [&str; bcm2835_dma::CHANNELS as usize] = [
    "DMA channel 0",
    "DMA channel 1",
    "DMA channel 2",
    "DMA channel 3",
    "DMA channel 4",
    "DMA channel 5",
    "DMA channel 6",
    "DMA channel 7",
    "DMA channel 8",
    "DMA channel 9",
    "DMA channel 10",
    "DMA channel 11",
    "DMA channel 12",
    "DMA channel 13",
    "DMA channel 14",
];
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
        if let Err(error) = all.find_dma(space, dtb, ram.as_slice(), ours.as_slice()) {
            emergency!("Afterimage: DMA not known: {error}\n");
        }
        all
    }

    /// Finds what channels of a Raspberry Pi's DMA controller are writing now. What they go on to is not known.
    fn find_dma(
        &mut self,
        space: &mut AddressSpace,
        dtb: &Dtb<'_>,
        ram: &[PhysRange],
        own: &[PhysRange],
    ) -> Result<(), videocore::Error> {
        let Some(registers) = videocore::dma(space, dtb)? else {
            return Ok(());
        };
        for (channel, name) in (0..registers.channels).zip(DMA_NAMES) {
            let Some(transfer) = bcm2835_dma::transfer(&registers.block, channel) else {
                continue;
            };
            let (bus, len) = (transfer.bus_address, transfer.len);
            let target = dtb.bcm2835_dma_target(bus, len);
            match target.map_err(videocore::Error::Dtb)? {
                Some(target) => match foreign::judge(target.start, len, ram, own) {
                    Ok(range) => self.push(name, &range),
                    Err(doubt) => emergency!("Afterimage: {name} is at work: {doubt}\n"),
                },
                None => emergency!("Afterimage: {name} is at work, on no memory: {bus:#x}\n"),
            }
        }
        Ok(())
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
