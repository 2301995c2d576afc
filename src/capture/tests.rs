// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole dumps of synthetic machines, decoded with the host's end of the link and compared byte for byte.
extern crate std;

use std::vec::Vec;

use proptest::prelude::*;
use vmcore::PhysRange;
use vmcore::afterimage_notes::{Region, RegionKind};
use vmcore::notes::NoteWriter;
use wire::{BlockKind, PageClass};

use crate::fake::Stuck;
use crate::machine::{Dump, Machine, OWN, RAM, page, region};
use crate::{DumpThen, Error, Line, Located};

#[test]
fn dump_of_an_afterimage_machine_is_whole_and_right() {
    let mut machine = Machine::usual();
    let dump = machine.dump("dump_then=halt");
    machine.compare(&dump);
    assert!(dump.host.verdict().is_whole(), "{:?}", dump.host.verdict());
    assert_eq!(dump.outcome.then, DumpThen::Halt);
    let totals = dump.outcome.totals.unwrap();
    assert_eq!(totals.pages.of(PageClass::Free), 20);
    assert_eq!(totals.is_received, None);
    assert_eq!(dump.class(310), PageClass::Free);
    assert_eq!(
        (dump.class(220), dump.class(221)),
        (PageClass::Secret, PageClass::Secret)
    );
    assert_eq!(dump.class(205), PageClass::Data);
    assert_eq!(dump.host.manifest().unwrap().build_id(), [0xab; 20]);
    assert_eq!(dump.notes(), 3);
}

#[test]
fn report_comes_before_the_first_frame_and_names_the_crash() {
    let dump = Machine::usual().dump("");
    let report = &dump.text[..dump.text_before_frames];
    assert!(report.len() <= 6 * 1024 + 64);
    assert!(report.starts_with("Afterimage: "), "{report}");
    assert!(
        report.contains("crash: panic on CPU 1: explicit panic"),
        "{report}"
    );
    assert!(
        report.contains("registers of the crashed CPU, pid 2:"),
        "{report}"
    );
    assert!(
        report.contains("  0xffff800080001234\r\n  end: outermost frame"),
        "{report}"
    );
    assert!(report.contains("build ID: abababab"), "{report}");
    assert!(report.contains("dump level 17, then reboot"), "{report}");
    assert!(
        report.contains("afterimage receive LINK -o vmcore"),
        "{report}"
    );
    assert!(
        dump.text
            .contains("Afterimage: dump complete, nobody answered: "),
        "{}",
        dump.text
    );
}

#[test]
fn elfcorehdr_and_notes_arrive_as_they_lie() {
    let mut machine = Machine::usual();
    let dump = machine.dump("");
    let header = dump
        .blocks
        .iter()
        .find(|block| block.kind == BlockKind::ElfHeader)
        .unwrap();
    assert_eq!(header.segment().unwrap().bytes, machine.header);
    let note = dump
        .blocks
        .iter()
        .filter(|block| block.kind == BlockKind::Notes)
        .map(|block| block.segment().unwrap())
        .find(|note| note.index == 0)
        .unwrap();
    assert_eq!(note.address, page(4));
    assert_eq!(note.bytes, &machine.ram.at(page(4))[..note.bytes.len()]);
    assert!(note.bytes.len() > 392);
}

#[test]
fn stacks_come_first_and_in_a_block_of_their_own() {
    let dump = Machine::usual().dump("");
    assert_eq!(
        dump.order[..6],
        [
            page(100),
            page(101),
            page(102),
            page(103),
            page(40),
            page(41)
        ]
    );
    let first = dump
        .blocks
        .iter()
        .find(|block| block.kind == BlockKind::Memory)
        .unwrap();
    assert_eq!(
        first
            .memory()
            .unwrap()
            .runs()
            .map(|(run, _)| run.pages)
            .sum::<u32>(),
        4
    );
}

#[test]
fn level_zero_leaves_out_secrets_only() {
    let mut machine = Machine::usual();
    let dump = machine.dump("dump_level=0");
    machine.compare(&dump);
    let is_sent = |class| matches!(class, PageClass::Data | PageClass::Zero);
    let left_out: Vec<u64> = dump
        .pages
        .iter()
        .filter(|(_, (class, _))| !is_sent(*class))
        .map(|(pa, _)| *pa)
        .collect();
    assert_eq!(left_out, [page(220), page(221)]);
}

#[test]
fn level_thirty_one_leaves_out_application_data_too() {
    let dump = Machine::usual().dump("dump_level=31");
    assert!((200..210).all(|number| dump.class(number) == PageClass::AppData));
    assert!(dump.host.verdict().is_whole());
}

#[test]
fn level_one_sends_free_pages() {
    let mut machine = Machine::usual();
    let dump = machine.dump("dump_level=1");
    machine.compare(&dump);
    assert_eq!(dump.class(310), PageClass::Data);
}

#[test]
fn faults_in_the_middle_become_gaps_and_the_dump_goes_on() {
    let mut machine = Machine::usual();
    machine.ram.faults.push(PhysRange {
        start: page(150) + 8,
        end: page(152),
    });
    let dump = machine.dump("");
    machine.compare(&dump);
    assert_eq!(
        (dump.class(150), dump.class(151)),
        (PageClass::Unreadable, PageClass::Unreadable)
    );
    assert_eq!(dump.class(152), PageClass::Data);
    assert!(dump.host.verdict().is_whole());
}

#[test]
fn page_state_map_corrupt_sends_its_part_whole_and_says_so() {
    let mut machine = Machine::usual();
    machine.ram.at(page(8))[100] ^= 1;
    let dump = machine.dump("");
    machine.compare(&dump);
    assert_eq!(dump.class(310), PageClass::Data);
    assert!(
        dump.text
            .contains("parts of the page-state map not believed"),
        "{}",
        dump.text
    );
}

#[test]
fn page_state_map_without_its_magic_is_named_and_ignored() {
    let mut machine = Machine::usual();
    machine.ram.at(page(8))[0] ^= 1;
    let dump = machine.dump("");
    machine.compare(&dump);
    assert!(
        dump.text.contains("free pages are sent: bad magic"),
        "{}",
        dump.text
    );
}

#[test]
fn elfcorehdr_missing_dumps_the_ram_of_the_device_tree() {
    let mut machine = Machine::usual();
    let dump = machine.dump_with("", None);
    machine.compare(&dump);
    assert!(
        dump.text.contains("Afterimage: no elfcorehdr"),
        "{}",
        dump.text
    );
    assert!(dump.host.verdict().is_whole());
    assert_eq!(dump.host.ranges().len(), 1);
}

#[test]
fn elfcorehdr_corrupt_is_named_with_its_value_and_the_ram_is_dumped() {
    let mut machine = Machine::usual();
    machine.header[0] = 0x7e;
    let dump = machine.dump("");
    machine.compare(&dump);
    assert!(
        dump.text
            .contains("elfcorehdr at 0x401ff000 not believed: bad magic 0x464c457e"),
        "{}",
        dump.text
    );
}

#[test]
fn notes_corrupt_cost_the_notes_and_not_the_dump() {
    let mut machine = Machine::usual();
    machine.ram.at(page(6))[..16].fill(0xff);
    let dump = machine.dump("");
    machine.compare(&dump);
    assert_eq!(dump.notes(), 2);
    assert!(dump.text.contains("notes of segment 2"), "{}", dump.text);
    assert!(
        dump.text.contains("crash: reason not recorded"),
        "{}",
        dump.text
    );
}

#[test]
fn linux_machine_is_dumped_with_its_notes_verbatim() {
    let mut machine = Machine::new(&[]);
    let mut writer = NoteWriter::new(&mut machine.ram.at(page(6))[..4096]).unwrap();
    writer
        .note("VMCOREINFO", 0, b"OSRELEASE=6.12.0\nCRASHTIME=1764000000\n")
        .unwrap();
    let dump = machine.dump("");
    machine.compare(&dump);
    assert!(
        dump.text.contains("Linux kernel, release 6.12.0"),
        "{}",
        dump.text
    );
    assert_eq!(
        dump.host.manifest().unwrap().source,
        wire::manifest::Source::Linux
    );
    assert_eq!(dump.notes(), 3);
    assert!(
        dump.text.contains(
            "no page classes: vmcoreinfo has no LENGTH(zone.free_area); all but zero pages are sent"
        ),
        "{}",
        dump.text
    );
    assert!(dump.pages.values().all(|(class, _)| is_sent(*class)));
}

/// Whether a page is in the dump.
fn is_sent(class: PageClass) -> bool {
    matches!(class, PageClass::Data | PageClass::Zero)
}

#[test]
fn machine_without_vmcoreinfo_is_dumped_whole_and_says_so() {
    let mut machine = Machine::usual();
    machine.ram.at(page(6))[..4096].fill(0);
    let dump = machine.dump("dump_level=31");
    machine.compare(&dump);
    assert!(
        dump.text
            .contains("no VMCOREINFO, so no page classes: all but zero pages are sent"),
        "{}",
        dump.text
    );
    assert!(dump.pages.values().all(|(class, _)| is_sent(*class)));
}

#[test]
fn nothing_is_said_of_page_classes_at_a_level_that_needs_none() {
    let mut machine = Machine::usual();
    machine.ram.at(page(6))[..4096].fill(0);
    let dump = machine.dump("dump_level=1");
    assert!(!dump.text.contains("page classes"), "{}", dump.text);
}

#[test]
fn region_extra_outside_ram_is_in_the_manifest() {
    let extra = Region {
        va: 0xdead_0000,
        ..region(
            RegionKind::Extra,
            PhysRange {
                start: 0x1000,
                end: 0x3000,
            },
        )
    };
    let dump = Machine::new(&[extra]).dump("");
    assert!(
        dump.host
            .ranges()
            .iter()
            .any(|range| (range.vaddr, range.paddr, range.len) == (0xdead_0000, 0x1000, 0x2000))
    );
    assert_eq!(dump.pages[&0x1000].0, PageClass::Unreadable);
    assert!(dump.host.verdict().is_whole());
}

#[test]
fn dump_parameter_malformed_is_named() {
    let dump = Machine::usual().dump("dump_level=99");
    assert!(
        dump.text
            .contains("Afterimage: malformed dump_level=\"99\", default kept"),
        "{}",
        dump.text
    );
}

#[test]
fn line_stuck_ends_the_dump_and_keeps_what_comes_then() {
    let mut machine = Machine::usual();
    let header = machine.header.clone();
    let located = Located {
        address: 0,
        bytes: &header,
    };
    let outcome = machine.run("dump_then=poweroff", Some(located), &mut Stuck(20_000));
    assert_eq!(outcome.then, DumpThen::PowerOff);
    assert!(matches!(outcome.totals, Err(Error::LineStuck { .. })));
}

/// A line at whose prompt somebody types one line after the other.
struct Typist {
    sent: Vec<u8>,
    lines: Vec<&'static [u8]>,
    typed: Vec<u8>,
    prompts: Vec<usize>,
}

impl Line for Typist {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.sent.extend_from_slice(bytes);
        bytes.len()
    }

    fn read(&mut self) -> Option<u8> {
        let from = self.prompts.last().copied().unwrap_or(0);
        let is_asked = self.sent[from..]
            .windows(21)
            .any(|part| part == b"waiting for a command");
        if is_asked {
            self.prompts.push(self.sent.len());
            self.typed = self.lines.remove(0).iter().rev().copied().collect();
        }
        self.typed.pop()
    }
}

#[test]
fn dump_asked_for_again_is_the_same_dump_and_whole() {
    let mut machine = Machine::usual();
    let header = machine.header.clone();
    let located = Located {
        address: 0,
        bytes: &header,
    };
    let mut line = Typist {
        sent: Vec::new(),
        lines: std::vec![b"i\r", b"d\r", b"p\r"],
        typed: Vec::new(),
        prompts: Vec::new(),
    };
    let outcome = machine.run("dump_then=wait dump_rounds=1", Some(located), &mut line);
    assert_eq!(outcome.then, DumpThen::PowerOff);
    let [first, second, _] = line.prompts[..] else {
        panic!("{:?}", line.prompts)
    };
    let told = std::string::String::from_utf8_lossy(&line.sent[first..second]).into_owned();
    assert!(told.contains("explicit panic"), "{told}");
    let once = Dump::decode(&line.sent[..first], outcome);
    let again = Dump::decode(&line.sent[second..], outcome);
    assert!(once.host.verdict().is_whole() && again.host.verdict().is_whole());
    machine.compare(&again);
    let id = |dump: &Dump| dump.host.manifest().map(|manifest| manifest.dump_id);
    assert_eq!(id(&once), id(&again));
    assert_eq!(once.order, again.order);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn machine_damaged_anywhere_still_dumps_all_its_ram(
        header in proptest::collection::vec((0_usize..400, any::<u8>()), 0..4),
        notes in proptest::collection::vec((0_usize..3 * 4096, any::<u8>()), 0..40),
        map in proptest::collection::vec((0_usize..320, any::<u8>()), 0..4),
    ) {
        let mut machine = Machine::usual();
        let header_len = machine.header.len();
        header.iter().for_each(|&(at, byte)| machine.header[at % header_len] = byte);
        // Most damage near the front, where notes are.
        notes.iter().for_each(|&(at, byte)| machine.ram.at(page(4 + at as u64 / 4096))[at % 700] = byte);
        map.iter().for_each(|&(at, byte)| machine.ram.at(page(8))[at] = byte);
        let dump = machine.dump("");
        prop_assert!(dump.host.verdict().is_whole());
        prop_assert!(dump.outcome.totals.is_ok());
        prop_assert!(dump.pages.keys().all(|&pa| !OWN.contains(pa)));
    }

    #[test]
    fn regions_arbitrary_never_change_what_is_dumped(
        regions in proptest::collection::vec((1_u32..9, any::<u64>(), any::<u64>(), 0_u32..64, 0_u32..64), 0..40),
    ) {
        let regions: Vec<Region> = regions
            .iter()
            .filter(|(kind, ..)| !matches!(kind, 6..=8))
            .map(|&(kind, pa, len, pa_shift, len_shift)| {
                Region { pa: pa >> pa_shift, len: len >> len_shift, ..region(RegionKind::from_code(kind), RAM) }
            })
            .collect();
        let mut machine = Machine::new(&regions);
        let dump = machine.dump("");
        machine.compare(&dump);
        prop_assert!(dump.host.verdict().is_whole());
    }
}
