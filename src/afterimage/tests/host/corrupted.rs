// SPDX-License-Identifier: MIT OR Apache-2.0
//! Code that is not what the ELF says.

use std::path::Path;

use crate::place::{Place, assert_exit, err, run, text};
use crate::program::{address, build_program, segments};
use crate::stream::{Machine, PAGE};

/// A machine whose RAM holds the program's code, mapped where it is linked; its other segments lie far away.
fn machine(elf: &Path) -> (Machine, u64) {
    let mut machine = Machine::new();
    let mut parts = segments(elf);
    parts.retain(|(at, _)| *at >= 0x4000_0000);
    let start = parts.iter().map(|(at, _)| *at).min().expect("segments") / PAGE * PAGE;
    let end = parts
        .iter()
        .map(|(at, bytes)| at + bytes.len() as u64)
        .max();
    let mut memory = vec![0; ((end.expect("segments") - start).div_ceil(PAGE) * PAGE) as usize];
    for (at, bytes) in parts {
        let at = (at - start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    // The rest of the machine's pages, its log among them, goes on behind.
    let pages = memory.chunks(PAGE as usize);
    let pages = pages.map(|page| (wire::PageClass::Data, page.to_vec()));
    machine.pages.extend(pages);
    machine.program = Some((start, 32));
    (machine, start)
}

/// Returns what `receive` and `bt` say of corrupted code.
fn told(place: &Place, machine: &Machine, elf: &Path) -> Vec<String> {
    let link = place.record(&machine.line());
    let vmcore = place.vmcore();
    let elf = ["--elf", text(elf)];
    let received = run(&[&["receive", &link, "-o", text(&vmcore)][..], &elf].concat());
    assert_exit(&received, 0);
    let shown = run(&[&["bt", text(&vmcore)][..], &elf].concat());
    assert_exit(&shown, 0);
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("corrupted"));
        lines.map(str::to_owned).collect()
    };
    let found = lines(&err(&received));
    assert_eq!(lines(&err(&shown)), found);
    found
}

#[test]
fn healthy_code_is_not_told_of() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    assert!(told(&place, &machine(&elf).0, &elf).is_empty());
}

#[test]
fn code_that_was_overwritten_is_told_with_address_and_name() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    let (mut machine, start) = machine(&elf);
    let at = address(&elf, "middle") + 4;
    let offset = at - start;
    let page = &mut machine.pages[32 + (offset / PAGE) as usize].1;
    page[(offset % PAGE) as usize] ^= 0xff;
    page[(offset % PAGE) as usize + 1] ^= 0xff;
    let lines = told(&place, &machine, &elf);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let expected = format!("corrupted code: 2 bytes at {at:#x} in middle+0x4: ");
    assert!(lines[0].contains(&expected), "{lines:?}");
}

#[test]
fn code_that_the_dump_lacks_is_not_told_of() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    let (mut machine, _) = machine(&elf);
    for page in &mut machine.pages[32..] {
        *page = (wire::PageClass::Free, Vec::new());
    }
    assert!(told(&place, &machine, &elf).is_empty());
}
