// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told while a dump still arrives: backtraces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use afterimage::destination::Destination;
use afterimage::session::{Event, Session, Settings};
use vmcore::Registers;

use crate::place::Place;
use crate::program::{address, build_program};
use crate::stream::{LINEAR, Machine, PAGE, RAM};

/// Page of the crashed CPU's stack, which is sent first, and of the other CPU's, which is sent last.
const STACKS: [u64; 2] = [1, 31];

/// Returns the frame records of leaf, middle, plain, outer and _start on a page at `page`, and the registers in leaf.
fn stack(elf: &Path, page: u64) -> (Vec<u8>, Registers) {
    let base = LINEAR + RAM + page * PAGE;
    let words = [
        (0, base + 32),
        (8, address(elf, "plain") + 12),
        (32, base + 48),
        (40, address(elf, "outer") + 12),
        (48, 0),
        (56, address(elf, "_start") + 4),
    ];
    let mut bytes = vec![0; PAGE as usize];
    for (at, word) in words {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let mut registers = Registers {
        pc: address(elf, "leaf") + 4,
        sp: base,
        ..Registers::default()
    };
    registers.x[29] = base;
    registers.x[30] = address(elf, "middle") + 12;
    (bytes, registers)
}

fn machine(elf: &Path) -> Machine {
    let mut machine = Machine::new();
    for page in STACKS {
        machine.pages[page as usize].1 = stack(elf, page).0;
    }
    machine.registers = stack(elf, STACKS[0]).1;
    machine.other_registers = stack(elf, STACKS[1]).1;
    machine.make_notes();
    machine
}

/// Returns the lines about backtraces, each with the number of frames that had come.
fn told(elfs: Vec<PathBuf>, place: &Place, frames: &[Vec<u8>]) -> Vec<(usize, String)> {
    let mut session = Session::new(Settings {
        destination: Destination::Directory(place.0.path().to_path_buf()),
        elfs,
        is_elf_required: false,
        has_backtraces: true,
        have: Vec::new(),
        silence: Duration::from_secs(60),
        can_answer: false,
        baud: None,
    })
    .expect("session");
    let mut lines = Vec::new();
    for (number, frame) in (1..).zip(frames) {
        for event in session.push(frame).expect("heard") {
            if let Event::Message(text) = event {
                lines.push((number, text));
            }
        }
    }
    for event in session.end().expect("ended") {
        if let Event::Message(text) = event {
            lines.push((frames.len() + 1, text));
        }
    }
    lines.retain(|(_, text)| text.starts_with("backtrace"));
    lines
}

const CHAIN: &str = "leaf < middle < plain < outer < _start";

#[test]
fn backtraces_are_told_once_as_soon_as_the_stacks_are_there() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    let frames = machine(&elf).frames();
    let lines = told(vec![elf], &place, &frames);
    let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            format!("backtrace: {CHAIN}"),
            format!("backtrace of CPU 0: {CHAIN}")
        ]
    );
    // The first memory block is one of four; the last one ends two frames before the end.
    assert!(
        lines[0].0 < frames.len() / 2,
        "{lines:?} of {}",
        frames.len()
    );
    assert_eq!(lines[1].0, frames.len() - 2);
}

#[test]
fn backtrace_that_lacks_its_stack_is_told_at_the_end() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    let mut frames = machine(&elf).frames();
    frames.truncate(frames.len() / 2);
    let lines = told(vec![elf], &place, &frames);
    let end = frames.len() + 1;
    assert_eq!(lines.len(), 2);
    assert!(lines[0].0 < end && lines[1].0 == end, "{lines:?}");
    assert_eq!(lines[1].1, "backtrace of CPU 0: leaf < middle");
}

#[test]
fn without_an_elf_addresses_of_the_crash_are_told_at_the_end() {
    let place = Place::new();
    let elf = build_program(place.0.path(), "0102030405060708");
    let frames = machine(&elf).frames();
    let lines = told(Vec::new(), &place, &frames);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].1.contains("no matching ELF"), "{lines:?}");
}
