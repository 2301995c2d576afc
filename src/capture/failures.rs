// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of a capture kernel that fails itself: at any block, in any phase, again and again.
extern crate std;

use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::ToString;
use std::vec::Vec;

use wire::{BlockKind, PageClass};

use crate::machine::{Dump, Machine, page};
use crate::tombstone::Tombstone;
use crate::{DumpThen, Error, Located, MAX_FAILURES, Outcome, WORDS};

/// Where the failures are said to have happened.
const PC: u64 = 0xffff_8000_c000_1234;

/// Runs the capture kernel on `machine` until it ends, started anew after each failure; returns what it wrote, how it ended, and how
/// often it was started anew.
fn run(machine: &mut Machine, bootargs: &str) -> (Vec<u8>, Result<Outcome, DumpThen>, u64) {
    let words: &'static [AtomicU64; WORDS] =
        Box::leak(Box::new([const { AtomicU64::new(0x5a) }; WORDS]));
    machine.survivor = Some(words);
    let header = machine.header.clone();
    let located = Located {
        address: crate::machine::OWN.end - 4096,
        bytes: &header,
    };
    let mut line = Vec::new();
    let mut restarts = 0;
    loop {
        let once = AssertUnwindSafe(|| machine.run(bootargs, Some(located), &mut line));
        if let Ok(outcome) = catch_unwind(once) {
            return (line, Ok(outcome), restarts);
        }
        match Tombstone::new(words).failed(PC) {
            None => restarts += 1,
            Some(then) => return (line, Err(then), restarts),
        }
    }
}

/// Fails as `fault` says and receives what came of it.
fn dump(fault: &str) -> (Machine, Dump, u64) {
    let mut machine = Machine::usual();
    let bootargs = format!("dump_rounds=1 dump_effort=stored dump_fault={fault}");
    let (line, outcome, restarts) = run(&mut machine, &bootargs);
    let outcome = outcome.expect("it ends");
    (machine, Dump::decode(&line, outcome), restarts)
}

fn blocks_of(kind: BlockKind) -> BTreeSet<u32> {
    let dump = Machine::usual().dump("dump_rounds=1");
    let of_kind = dump.blocks.iter().filter(|block| block.kind == kind);
    of_kind.map(|block| block.number).collect()
}

fn skipped(dump: &Dump) -> usize {
    let is_skipped = |(class, _): &&(PageClass, Vec<u8>)| *class == PageClass::Skipped;
    dump.pages.values().filter(is_skipped).count()
}

#[test]
fn failure_at_any_block_of_memory_costs_the_data_of_that_block() {
    let mut all = 0;
    for number in blocks_of(BlockKind::Memory) {
        let (machine, dump, restarts) = dump(&number.to_string());
        assert_eq!(restarts, 1, "block {number}");
        assert!(dump.host.verdict().is_whole(), "block {number}");
        machine.compare(&dump);
        // A block may have none: only pages like others.
        let count = skipped(&dump);
        assert!(count <= 64, "block {number}: {count} pages");
        all += count;
        let text = format!("failed at block {number} (pc {PC:#x})");
        assert!(dump.text.contains(&text), "{}", dump.text);
        let told = dump
            .blocks
            .iter()
            .find(|block| block.kind == BlockKind::Text);
        let told = told.expect("a text").segment().unwrap().bytes;
        assert!(told.starts_with(text.as_bytes()));
    }
    assert!(all > 150, "{all} pages");
}

#[test]
fn failure_while_any_block_of_memory_is_read_costs_the_pages_being_read() {
    for number in blocks_of(BlockKind::Memory) {
        let (machine, dump, restarts) = dump(&format!("{number}:panic:reading"));
        assert_eq!(restarts, 1, "block {number}");
        assert!(dump.host.verdict().is_whole(), "block {number}");
        machine.compare(&dump);
        assert!((1..=32).contains(&skipped(&dump)), "block {number}");
    }
}

#[test]
fn failure_at_any_other_block_costs_that_block() {
    let kinds = [BlockKind::Notes, BlockKind::ElfHeader];
    for number in kinds.into_iter().flat_map(blocks_of) {
        let (machine, dump, restarts) = dump(&number.to_string());
        assert_eq!(restarts, 1, "block {number}");
        assert!(dump.host.verdict().is_whole(), "block {number}");
        machine.compare(&dump);
        assert_eq!(skipped(&dump), 0);
        let block = dump.blocks.iter().find(|block| block.number == number);
        let part = block.expect("an empty one").segment().unwrap();
        assert!(part.bytes.is_empty() && part.total_len > 0);
    }
}

#[test]
fn failure_in_the_second_round_ends_in_the_same_dump() {
    let mut machine = Machine::usual();
    // Numbers go on in the second round, where each block is made again: the fault waits for one that the first round had.
    let words: &'static [AtomicU64; WORDS] =
        Box::leak(Box::new([const { AtomicU64::new(0) }; WORDS]));
    let tomb = Tombstone::begin(words);
    tomb.set_dump([9; 16], 5);
    tomb.set_round(1);
    tomb.sending(6);
    tomb.sending(4);
    tomb.line(100, 3);
    assert_eq!(tomb.failed(PC), None);
    machine.survivor = Some(words);
    let dump = machine.dump("dump_rounds=2");
    assert_eq!(dump.host.dump(), 0x0909_0909);
    let numbers: BTreeSet<u32> = dump.blocks.iter().map(|block| block.number).collect();
    // Of the round that goes on, what was sent before is not sent again.
    assert_eq!(numbers.first(), Some(&2));
    assert!(dump.blocks.iter().any(|block| block.number == 4));
}

#[test]
fn failures_at_every_block_end_in_a_last_frame() {
    let mut machine = Machine::usual();
    let (line, outcome, restarts) = run(&mut machine, "dump_fault=every dump_then=poweroff");
    let outcome = outcome.expect("it ends by itself");
    assert_eq!(restarts, MAX_FAILURES + 1);
    assert_eq!(outcome.then, DumpThen::PowerOff);
    let failures = MAX_FAILURES + 1;
    assert_eq!(outcome.totals, Err(Error::Failed { failures }));
    let dump = Dump::decode(&line, outcome);
    assert!(dump.host.finished().is_some_and(|last| last.is_cut_short));
    assert!(dump.text.contains("itself failed 9 times"), "{}", dump.text);
}

#[test]
fn failure_of_the_report_costs_the_report_and_then_the_header() {
    let words: &'static [AtomicU64; WORDS] =
        Box::leak(Box::new([const { AtomicU64::new(0) }; WORDS]));
    let mut machine = Machine::usual();
    machine.survivor = Some(words);
    let _ = Tombstone::begin(words).failed(PC);
    let dump = machine.dump("dump_rounds=1");
    assert!(!dump.text.contains("registers of"), "{}", dump.text);
    assert!(dump.notes() > 0 && dump.host.verdict().is_whole());

    for _ in 0..2 {
        let _ = Tombstone::begin(words).failed(PC);
    }
    let dump = machine.dump("dump_rounds=1");
    assert_eq!(dump.notes(), 0);
    assert_eq!(dump.pages[&page(16)].0, PageClass::Data);
}
