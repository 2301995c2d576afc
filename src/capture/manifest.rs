// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifest of a dump: whose memory it is, and which ranges of it are described.
//!
//! A range is here exactly if its pages are described by some block: what the host finds in a range but in no block was
//! lost on the line. So the ranges are the header's, cut to what is planned.

use vmcore::afterimage_notes::RegionKind;
use vmcore::elf_core::{CoreHeader, PF_RWX};
use vmcore::{PhysRange, RangeSet};
use wire::Manifest;
use wire::block::block_hash;
use wire::manifest::{Range, Source};

use crate::facts::Facts;
use crate::plan::{Plan, RAM_RANGES};
use crate::{Inputs, pages};

/// Ranges that a manifest has room for here.
pub(crate) const RANGES: usize = 256;

/// The ranges of one manifest, in the order of the header.
#[derive(Debug)]
pub(crate) struct Ranges {
    ranges: [Range; RANGES],
    len: usize,
    /// Ranges for which there was no room.
    pub(crate) dropped: usize,
}

impl Ranges {
    pub(crate) const fn new() -> Self {
        Self {
            ranges: [Range {
                vaddr: 0,
                paddr: 0,
                len: 0,
                flags: 0,
            }; RANGES],
            len: 0,
            dropped: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[Range] {
        self.ranges.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, range: Range) {
        match self.ranges.get_mut(self.len) {
            Some(place) => {
                *place = range;
                self.len = self.len.saturating_add(1);
            }
            None => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// Adds what the plan holds of the range at physical address `paddr`.
    fn push_planned(&mut self, plan: &Plan, whole: Range) {
        let wanted = pages::clamped(whole.paddr, whole.len);
        for ram in plan.ram() {
            let part = ram.intersection(&wanted);
            if !part.is_empty() {
                let offset = part.start.saturating_sub(whole.paddr);
                let vaddr = whole.vaddr.wrapping_add(offset);
                self.push(Range {
                    vaddr,
                    paddr: part.start,
                    len: part.len(),
                    ..whole
                });
            }
        }
    }
}

/// Fills `ranges` with the planned memory: the header's ranges, then the program's extra ones, then what is in neither,
/// for which the physical address stands as the virtual one.
pub(crate) fn fill_ranges(
    ranges: &mut Ranges,
    plan: &Plan,
    header: Option<&CoreHeader<'_>>,
    facts: &Facts<'_>,
) {
    let mut left = RangeSet::<RAM_RANGES>::new();
    for ram in plan.ram() {
        // The plan's own set has the same capacity.
        let _has_a_place = left.insert(*ram);
    }
    for load in header.iter().flat_map(|header| header.loads()) {
        let whole = Range {
            vaddr: load.vaddr,
            paddr: load.paddr,
            len: load.len,
            flags: load.flags,
        };
        ranges.push_planned(plan, whole);
        // A full set means that a range is listed twice, which is harmless.
        let _listed_twice = left.remove(pages::around(pages::clamped(load.paddr, load.len)));
    }
    for region in facts
        .regions()
        .filter(|region| region.kind == RegionKind::Extra)
    {
        let extra = pages::clamped(region.pa, region.len);
        for part in left
            .as_slice()
            .iter()
            .map(|one| one.intersection(&extra))
            .filter(|part| !part.is_empty())
        {
            let offset = part.start.saturating_sub(region.pa);
            let vaddr = region.va.wrapping_add(offset);
            ranges.push(Range {
                vaddr,
                paddr: part.start,
                len: part.len(),
                flags: PF_RWX,
            });
        }
        let _listed_twice = left.remove(pages::around(extra));
    }
    for PhysRange { start, end } in left.as_slice() {
        ranges.push(Range {
            vaddr: *start,
            paddr: *start,
            len: end.saturating_sub(*start),
            flags: PF_RWX,
        });
    }
}

/// Returns a name for the dump, drawn from the counter and the notes, which hold every CPU's registers.
pub(crate) fn dump_id(ticks: u64, notes: &[u8], room: &mut [u8]) -> [u8; 16] {
    let now = ticks.to_le_bytes();
    let bytes = now.iter().chain(notes);
    let used = room
        .iter_mut()
        .zip(bytes)
        .fold(0_usize, |used, (to, from)| {
            *to = *from;
            used.saturating_add(1)
        });
    block_hash(room.get(..used).unwrap_or_default())
}

/// Returns the fixed fields.
pub(crate) fn manifest(
    id: [u8; 16],
    inputs: &Inputs<'_>,
    header: Option<&CoreHeader<'_>>,
    facts: &Facts<'_>,
    level: u8,
) -> Manifest {
    let source = match (facts.is_afterimage, facts.vmcoreinfo) {
        (true, _) => Source::Afterimage,
        (false, Some(_)) => Source::Linux,
        (false, None) => Source::Other(0),
    };
    let mut manifest = Manifest::new(id, source);
    manifest.set_build_id(facts.build_id.unwrap_or_default());
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    manifest.cpu_count = count(facts.cpus().count().max(facts.stops().count()));
    manifest.dump_level = u32::from(level);
    manifest.elfcorehdr_len = header.map_or(0, |header| count(header.len()));
    let notes = header.map_or(0, |header| header.notes().count());
    let own = usize::from(!inputs.foreign.is_empty());
    manifest.note_segments = count(notes.saturating_add(own));
    manifest.counter_hz = u32::try_from(inputs.counter_hz).unwrap_or(u32::MAX);
    manifest
}
