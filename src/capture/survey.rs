// SPDX-License-Identifier: MIT OR Apache-2.0
//! From headers and notes to a [`Plan`]: which memory there is, what goes first, what stays behind.

use vmcore::afterimage_notes::{Region, RegionKind, name_text};
use vmcore::elf_core::CoreHeader;
use vmcore::page_state::PageStateReader;
use vmcore::{PhysMemory, PhysRange};

use crate::facts::Facts;
use crate::marks::Marks;
use crate::plan::Plan;
use crate::text::Text;
use crate::translate::physical;
use crate::{Inputs, Line, pages};

/// Kinds of regions that travel before the rest, in this order.
const FIRST_KINDS: [RegionKind; 5] = [
    RegionKind::Stack,
    RegionKind::LogRing,
    RegionKind::PageTables,
    RegionKind::KernelData,
    RegionKind::Extra,
];

/// Bytes of a stack that are sent first from SP up, where no region says where the stack is.
const STACK_BYTES: u64 = 16 * 1024;

/// Largest region outside RAM that is believed: on-chip memories are far smaller, and a wrong length would make the dump
/// read what is no memory.
const EXTRA_BYTES: u64 = 64 << 20;

/// Page-state maps that are consulted, one for each range that the heap was built from.
pub(crate) const PAGE_STATE_MAPS: usize = 4;

/// Longest range of memory that is believed: 16 TiB. It bounds the time that a wrong header can cost.
const RANGE_BYTES: u64 = 1 << 44;

/// Fills `plan` with the memory that `header` names, or the device tree where there is no header; this kernel's own
/// memory is left out.
///
/// What the header names outside the device tree's RAM is not believed, because a read there may hit a device. A device
/// tree without RAM (Linux started by EFI removes it) cannot contradict.
pub(crate) fn add_memory(
    plan: &mut Plan,
    inputs: &Inputs<'_>,
    header: Option<&CoreHeader<'_>>,
    facts: &Facts<'_>,
    text: &mut Text<'_, impl Line>,
) {
    match header {
        Some(header) => {
            for load in header.loads() {
                let range = pages::clamped(load.paddr, load.len);
                let found = add_within(plan, range, inputs.memory, text);
                if found < range.len() {
                    let PhysRange { start, end } = range;
                    text.complain(format_args!(
                        "memory {start:#x}..{end:#x} is RAM for {found:#x} bytes only"
                    ));
                }
            }
        }
        None => inputs
            .memory
            .iter()
            .for_each(|&range| add(plan, range, text)),
    }
    let extras = facts
        .regions()
        .filter(|region| region.kind == RegionKind::Extra);
    for region in extras.filter(|region| region.len <= EXTRA_BYTES) {
        add(plan, pages::clamped(region.pa, region.len), text);
    }
    for own in inputs.own {
        if let Err(error) = plan.remove_ram(*own) {
            text.complain(format_args!(
                "own memory at {:#x} not left out: {error}",
                own.start
            ));
        }
    }
}

/// Adds what `range` shares with `memory`, or all of it if `memory` is empty, and returns how many bytes that is.
fn add_within(
    plan: &mut Plan,
    range: PhysRange,
    memory: &[PhysRange],
    text: &mut Text<'_, impl Line>,
) -> u64 {
    if memory.is_empty() {
        add(plan, range, text);
        return range.len();
    }
    memory
        .iter()
        .map(|ram| ram.intersection(&range))
        .fold(0, |found: u64, part| {
            add(plan, part, text);
            found.saturating_add(part.len())
        })
}

fn add(plan: &mut Plan, range: PhysRange, text: &mut Text<'_, impl Line>) {
    let PhysRange { start, end } = range;
    if range.len() > RANGE_BYTES {
        text.complain(format_args!(
            "memory {start:#x}..{end:#x} left out: longer than 16 TiB"
        ));
    } else if let Err(error) = plan.add_ram(range) {
        text.complain(format_args!(
            "memory {start:#x}..{end:#x} left out: {error}"
        ));
    }
}

/// Moves what explains a crash to the front of `plan`.
pub(crate) fn order(
    plan: &mut Plan,
    header: Option<&CoreHeader<'_>>,
    facts: &Facts<'_>,
    text: &mut Text<'_, impl Line>,
) {
    for cpu in facts.cpus() {
        // The page of SP alone must be mapped; the stack may end before STACK_BYTES, at the mapping's end.
        if let Some(sp) = header.and_then(|header| physical(header, cpu.registers.sp, 1)) {
            // Full means that these pages travel with the rest, which needs no remark.
            let _in_the_rest = plan.move_first(pages::clamped(sp, STACK_BYTES));
        }
    }
    for kind in FIRST_KINDS {
        for region in facts.regions().filter(|region| region.kind == kind) {
            if let Err(error) = plan.move_first(pages::clamped(region.pa, region.len)) {
                text.complain(format_args!("{}, not sent first: {error}", Named(&region)));
            }
        }
    }
}

/// Collects the program's marks.
pub(crate) fn mark(marks: &mut Marks, facts: &Facts<'_>, text: &mut Text<'_, impl Line>) {
    facts.secrets().for_each(|range| marks.add_secret(range));
    for region in facts
        .regions()
        .filter(|region| region.kind == RegionKind::AppData)
    {
        if let Err(error) = marks.add_app_data(pages::clamped(region.pa, region.len)) {
            text.complain(format_args!("{}, not left out: {error}", Named(&region)));
        }
    }
}

/// Opens the page-state maps.
pub(crate) fn open_page_states(
    maps: &mut [Option<PageStateReader>; PAGE_STATE_MAPS],
    memory: &mut impl PhysMemory,
    facts: &Facts<'_>,
    text: &mut Text<'_, impl Line>,
) {
    let regions = facts
        .regions()
        .filter(|region| region.kind == RegionKind::PageState);
    for (place, region) in maps.iter_mut().zip(regions) {
        match PageStateReader::open(memory, region.pa, region.len) {
            Ok(map) => *place = Some(map),
            Err(error) => text.complain(format_args!(
                "{}, free pages are sent: {error}",
                Named(&region)
            )),
        }
    }
}

/// A region as a person finds it again.
struct Named<'a>(&'a Region);

impl core::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Region {
            kind,
            pa,
            len,
            name,
            ..
        } = self.0;
        write!(
            f,
            "{} region \"{}\" at {pa:#x}, {len:#x} bytes",
            kind.name(),
            name_text(name)
        )
    }
}
