// SPDX-License-Identifier: MIT OR Apache-2.0
//! From headers and notes to a [`Plan`]: which memory there is, what goes first, what stays behind.

use vmcore::afterimage_notes::{Region, RegionKind, name_text};
use vmcore::elf_core::CoreHeader;
use vmcore::linux::{Buffers, PageClasses, Vmcoreinfo};
use vmcore::page_state::PageStateReader;
use vmcore::registers::PrStatus;
use vmcore::{DumpLevel, PhysMemory, PhysRange};

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
    for load in header.iter().flat_map(|header| header.loads()) {
        let range = pages::clamped(load.paddr, load.len);
        let found = add_within(plan, range, inputs.memory, text);
        if found < range.len() {
            let PhysRange { start, end } = range;
            text.complain(format_args!(
                "memory {start:#x}..{end:#x} is RAM for {found:#x} bytes only"
            ));
        }
    }
    if plan.ram().is_empty() {
        if header.is_some() {
            text.complain(format_args!(
                "elfcorehdr names no memory: all RAM of the device tree is dumped"
            ));
        }
        inputs
            .memory
            .iter()
            .for_each(|&range| add(plan, range, text));
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
    facts
        .crashed_cpu()
        .iter()
        .for_each(|cpu| move_stack(plan, header, cpu));
    plan.end_stage();
    facts.cpus().for_each(|cpu| move_stack(plan, header, &cpu));
    for kind in FIRST_KINDS {
        for region in facts.regions().filter(|region| region.kind == kind) {
            if let Err(error) = plan.move_first(pages::clamped(region.pa, region.len)) {
                text.complain(format_args!("{}, not sent first: {error}", Named(&region)));
            }
        }
        if kind == RegionKind::Stack {
            plan.end_stage();
        }
    }
}

/// Moves the stack of one CPU to the front, as far as its SP can be translated.
fn move_stack(plan: &mut Plan, header: Option<&CoreHeader<'_>>, cpu: &PrStatus) {
    // The page of SP alone must be mapped; what the stack does not have of STACK_BYTES is some other RAM.
    if let Some(sp) = header.and_then(|header| physical(header, cpu.registers.sp, 1)) {
        // Full means that these pages travel with the rest, which needs no remark.
        let _in_the_rest = plan.move_first(pages::clamped(sp, STACK_BYTES));
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

/// Opens Linux's account of its pages, where `level` needs one and the kernel is none of ours, which have their own.
pub(crate) fn open_linux<'a>(
    buffers: &'a mut Buffers,
    memory: &mut impl PhysMemory,
    facts: &Facts<'_>,
    level: DumpLevel,
    text: &mut Text<'_, impl Line>,
) -> Option<PageClasses<'a>> {
    if facts.is_afterimage || !level.needs_page_classes() {
        return None;
    }
    let Some(note) = facts.vmcoreinfo else {
        text.complain(format_args!(
            "no VMCOREINFO, so no page classes: all but zero pages are sent"
        ));
        return None;
    };
    PageClasses::open(&Vmcoreinfo::new(note), memory, buffers)
        .inspect_err(|error| {
            text.complain(format_args!(
                "no page classes: {error}; all but zero pages are sent"
            ));
        })
        .ok()
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::plan::Cursor;
    use std::string::String;
    use std::vec::Vec;
    use vmcore::afterimage_notes::{ListWriter, REGIONS, name_field};
    use vmcore::elf_core::CoreHeaderWriter;
    use vmcore::notes::{AFTERIMAGE, NoteWriter};

    const RAM: PhysRange = PhysRange {
        start: 0x4000_0000,
        end: 0x4100_0000,
    };
    const OWN: PhysRange = PhysRange {
        start: 0x40e0_0000,
        end: 0x4100_0000,
    };

    fn region(kind: RegionKind, pa: u64, len: u64) -> Region {
        Region {
            kind,
            argument: 0,
            pa,
            len,
            va: 0,
            name: name_field("r"),
        }
    }

    /// Returns the planned ranges in order, and what was said.
    fn planned(
        loads: &[(u64, u64)],
        memory: &[PhysRange],
        regions: &[Region],
    ) -> (Vec<PhysRange>, String) {
        let mut header = std::vec![0; 4096];
        let mut writer = CoreHeaderWriter::new(&mut header);
        loads
            .iter()
            .for_each(|&(pa, len)| writer.load(pa, pa, len).unwrap());
        writer.finish().unwrap();
        let header = CoreHeader::parse(&header).unwrap();

        let mut notes = std::vec![0; 32768];
        let list = |out: &mut [u8]| {
            let mut list = ListWriter::new(out, 0)?;
            regions.iter().try_for_each(|region| list.push(region))?;
            list.finish()
        };
        NoteWriter::new(&mut notes)
            .unwrap()
            .note_with(AFTERIMAGE, REGIONS, list)
            .unwrap();

        let (mut line, mut plan) = (Vec::new(), Plan::new());
        let mut text = Text::new(&mut line, 4096);
        let facts = Facts::decode(&notes, &mut text);
        let inputs = Inputs {
            bootargs: b"",
            elfcorehdr: None,
            memory,
            own: &[OWN],
            foreign: &[],
            counter_hz: 0,
            entry_ticks: 0,
        };
        add_memory(&mut plan, &inputs, Some(&header), &facts, &mut text);
        order(&mut plan, Some(&header), &facts, &mut text);
        text.finish().unwrap();
        let mut seen = Vec::new();
        let mut cursor = Cursor::default();
        while let Some(range) = plan.next(cursor) {
            seen.push(range);
            cursor = plan.advance(cursor, range.end);
        }
        (seen, String::from_utf8(line).unwrap())
    }

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn memory_of_this_kernel_is_left_out() {
        let found = planned(&[(RAM.start, RAM.len())], &[RAM], &[]);
        assert_eq!(
            found,
            (Vec::from([range(RAM.start, OWN.start)]), String::new())
        );
    }

    #[test]
    fn memory_outside_the_ram_of_the_device_tree_is_not_believed() {
        let (found, text) = planned(&[(0x3fff_f000, 0x2000), (0x900_0000, 0x1000)], &[RAM], &[]);
        assert_eq!(found, [range(0x4000_0000, 0x4000_1000)]);
        assert!(
            text.contains("memory 0x3ffff000..0x40001000 is RAM for 0x1000 bytes only"),
            "{text}"
        );
        assert!(
            text.contains("memory 0x9000000..0x9001000 is RAM for 0x0 bytes only"),
            "{text}"
        );
    }

    #[test]
    fn memory_of_absurd_length_without_a_device_tree_is_left_out() {
        let (found, text) = planned(&[(0, 1 << 63), (RAM.start, 0x1000)], &[], &[]);
        assert_eq!(found, [range(0x4000_0000, 0x4000_1000)]);
        assert!(text.contains("left out: longer than 16 TiB"), "{text}");
    }

    #[test]
    fn regions_are_sent_in_the_order_of_their_kinds() {
        let regions = [
            region(RegionKind::KernelData, 0x4000_5000, 0x1000),
            region(RegionKind::LogRing, 0x4000_3000, 0x1000),
            region(RegionKind::PageTables, 0x4000_2000, 0x1000),
            region(RegionKind::Stack, 0x4000_8000, 0x1000),
        ];
        let firsts: Vec<u64> = planned(&[(RAM.start, 0xa000)], &[RAM], &regions)
            .0
            .iter()
            .map(|one| one.start)
            .collect();
        assert_eq!(
            firsts[..4],
            [0x4000_8000, 0x4000_3000, 0x4000_2000, 0x4000_5000]
        );
    }

    #[test]
    fn regions_absurd_change_nothing() {
        let regions = [
            region(RegionKind::Stack, u64::MAX - 3, u64::MAX),
            region(RegionKind::Stack, 0, 0),
            region(RegionKind::LogRing, 0x1000, 0x1000),
            region(RegionKind::Extra, 0, 1 << 63),
            region(RegionKind::Other(99), 0x4000_0000, 0x1000),
        ];
        assert_eq!(
            planned(&[(RAM.start, 0xa000)], &[RAM], &regions).0,
            [range(0x4000_0000, 0x4000_a000)]
        );
    }

    #[test]
    fn region_extra_outside_ram_is_sent_before_the_rest() {
        let regions = [
            region(RegionKind::Extra, 0x1000, 0x2000),
            region(RegionKind::Extra, OWN.start, 0x1000),
        ];
        let found = planned(&[(RAM.start, 0xa000)], &[RAM], &regions).0;
        assert_eq!(
            found,
            [range(0x1000, 0x3000), range(0x4000_0000, 0x4000_a000)]
        );
    }
}
