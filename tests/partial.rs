// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps that lack something: how they are received, and what has to be right about them.

use std::fs;

use serde_json::json;

use crate::machine::{Machine, Running};
use crate::oracle::{self, Crashed};
use crate::{backtrace, host};

/// A class of pages in GAPS that were not looked at (docs/protocol.md), beside those that are free or zero.
pub const SKIPPED: u32 = 7;
/// Classes of gaps that a dump may have whose memory can be read: zero, free, skipped.
const CLASSES: [u32; 3] = [1, 2, SKIPPED];
/// Pages that the minimal dumper itself writes while it dumps: its stack, a few counters.
const OWN_PAGES: usize = 10;
/// What the last line of a run says: the capture kernel's, and the crashed kernel's own.
const ENDS: [&str; 2] = ["Afterimage: halted", "Halted\r"];
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

/// Waits until a crashed machine has halted; false when it does not in its time.
#[must_use]
pub fn has_ended(running: &Running) -> bool {
    running.console.has_come(&ENDS)
}

/// Receives what came on the line; returns the host's exit status and what it said.
///
/// # Panics
/// The host command does not end.
#[must_use]
pub fn receive_any(running: &Running) -> (Option<i32>, String) {
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording of the line");
    let received = host::receive(&recording, &vmcore, running.elf());
    (received.status.code(), received.stderr)
}

/// Waits for `end` and receives an incomplete dump; returns it with what the host said.
///
/// # Panics
/// It is no dump, or is said to be whole.
#[must_use]
pub fn receive(running: Running, end: &str) -> (Crashed, String) {
    running.console.wait_for(end);
    let (code, said) = receive_any(&running);
    assert_eq!(code, Some(3), "{said}\n{}", running.console.transcript());
    let crashed = oracle::judge(running);
    let (verdict, status) = host::verify(&crashed.dump.path);
    assert_eq!(status, Some(3), "{verdict}");
    (crashed, said)
}

/// Waits for the end of a minimal dump and receives it.
///
/// # Panics
/// It is none, or damaged.
#[must_use]
pub fn receive_minimal(running: Running) -> Crashed {
    let (crashed, said) = receive(running, "Halted\r");
    let text = crashed.running.console.text();
    assert!(text.contains("End of the minimal dump"), "{text}");
    assert!(said.contains("this is the minimal dump"), "{said}");
    assert!(!said.contains("damaged"), "{said}");
    crashed
}

/// Asserts that what is there is right, and that what is missing is declared: free, zero or skipped. Returns the bytes skipped.
///
/// # Panics
/// The first thing that is not.
pub fn assert_honest(crashed: &Crashed) -> u64 {
    oracle::assert_equals_memory(crashed, &crashed.running.memory.pages());
    assert_declared(crashed)
}

fn assert_declared(crashed: &Crashed) -> u64 {
    backtrace::assert_readelf_accepts(&crashed.dump.path);
    oracle::assert_missing_is_declared(crashed, &CLASSES);
    let gaps = crashed.dump.gaps();
    let skipped = gaps.iter().filter(|gap| gap.class == SKIPPED);
    skipped.map(|gap| gap.range.end - gap.range.start).sum()
}

/// Asserts that a minimal dump holds what it promises: reason, registers of `cpus` CPUs, stacks, kernel data, the log with `logged` in it;
/// and that all else is declared as skipped.
///
/// # Panics
/// The first thing that is not so.
pub fn assert_minimal(crashed: &Crashed, cpus: usize, reason: &str, logged: &str) {
    let dump = &crashed.dump;
    let info = host::info(&dump.path);
    assert_eq!(info["fallback"]["level"], json!("minimal"));
    assert_eq!(info["reason"]["kind"], json!(reason));
    assert_eq!(dump.registers().len(), cpus, "registers of every CPU");
    let log = host::dmesg(&dump.path);
    assert!(log.contains(logged), "{log}");
    let skipped = assert_declared(crashed);
    assert!(skipped > 100 << 20, "{:x?}", dump.gaps());
    let memory = crashed.running.memory.pages();
    let moved: Vec<u64> = dump
        .pages()
        .iter()
        .filter(|(at, page)| memory.get(at) != Some(page))
        .map(|(at, _)| *at)
        .collect();
    assert!(moved.len() <= OWN_PAGES, "{moved:x?}");
}

/// Boots `machine`, inverts the bits `mask` of the byte at each of `offsets` of the region behind the kernel's back, and crashes.
///
/// # Panics
/// It does not boot, or has no such byte in its region.
#[must_use]
pub fn damage(machine: Machine, mask: u8, offsets: impl FnOnce(&Running) -> Vec<u64>) -> Running {
    let running = machine.start();
    running.console.wait_for("idle, with");
    let region = oracle::region(&running.console.text());
    for offset in offsets(&running) {
        let at = region.start + offset;
        assert!(region.contains(&at), "{at:#x} is not in {region:x?}");
        let byte = running.memory.read(at, 1);
        running.memory.write(at, &[byte[0] ^ mask]);
    }
    running.console.send(SYSRQ_CRASH);
    running
}

/// Where the second copy of the capture kernel lies in the region.
///
/// # Panics
/// There is none.
#[must_use]
pub fn second_copy(running: &Running) -> u64 {
    let text = running.console.text();
    let (_, rest) = text
        .split_once("second copy armed at 0x")
        .unwrap_or_else(|| panic!("no second copy in:\n{text}"));
    let digits = rest.split(':').next().unwrap_or_default();
    u64::from_str_radix(digits, 16).expect("an address") - oracle::region(&text).start
}
