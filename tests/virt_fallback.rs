// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chain of fallbacks: what a crash ends in when the capture kernel cannot be entered.

use std::fs;

use blackbox::dump::Dump;
use blackbox::{Entry, Machine, Running, backtrace, host, oracle};
use serde_json::json;

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
/// A byte inside the capture kernel's code, behind its header.
const INSIDE_IMAGE: u64 = 0x1234;
/// Gap of pages that were not looked at (docs/architecture.md, GAPS).
const SKIPPED: u32 = 7;
const ENTRIES: [Entry; 2] = [Entry::El1, Entry::El2];

/// Waits for the end of the minimal dump, and receives it as a partial one.
fn receive_minimal(running: &Running) -> Dump {
    running.console.wait_for("Halted: end of the minimal dump");
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording of the line");
    let received = host::receive(&recording, &vmcore, &oracle::elf());
    assert_eq!(
        received.status.code(),
        Some(3),
        "a minimal dump is incomplete: {}\n{}",
        received.stderr,
        running.console.transcript()
    );
    assert!(
        received.stderr.contains("this is the minimal dump"),
        "{}",
        received.stderr
    );
    assert!(!received.stderr.contains("damaged"), "{}", received.stderr);
    let (verdict, status) = host::verify(&vmcore);
    assert_eq!(status, Some(3), "{verdict}");
    backtrace::assert_readelf_accepts(&vmcore);
    Dump::open(&vmcore)
}

/// Asserts that a minimal dump holds what it promises: reason, registers of `cpus` CPUs, stacks, log, kernel data; and that all else is
/// declared as skipped.
fn assert_is_minimal(running: &Running, dump: &Dump, cpus: usize, reason: &str) {
    let info = host::info(&dump.path);
    assert_eq!(info["fallback"]["level"], json!("minimal"));
    assert_eq!(info["reason"]["kind"], json!(reason));
    assert_eq!(dump.registers().len(), cpus, "registers of every CPU");
    let log = host::dmesg(&dump.path);
    // What comes later races with the crash on a slow machine.
    assert!(log.contains("RAM 0x40000000"), "{log}");
    for gap in dump.gaps() {
        let inside = |range: &std::ops::Range<u64>| {
            range.start < gap.range.end && gap.range.start < range.end
        };
        assert!(!dump.covered().iter().any(inside), "{gap:x?}");
    }
    let skipped: u64 = dump
        .gaps()
        .iter()
        .filter(|gap| gap.class == SKIPPED)
        .fold(0, |sum, gap| sum + gap.range.end - gap.range.start);
    assert!(skipped > 100 << 20, "{:x?}", dump.gaps());
    // What the dumper itself writes while it dumps: its stack, a few counters.
    let memory = running.memory.pages();
    let moved: Vec<u64> = dump
        .pages()
        .iter()
        .filter(|(at, page)| memory.get(at) != Some(page))
        .map(|(at, _)| *at)
        .collect();
    assert!(moved.len() <= 10, "{moved:x?}");
}

#[test]
fn crash_without_a_capture_kernel_ends_in_a_minimal_dump() {
    for entry in ENTRIES {
        let running = Machine::new()
            .cpus(2)
            .entry(entry)
            .append("capture=none lkdtm=ACCESS_NULL@150 lkdtm_cpu=1")
            .start();
        let dump = receive_minimal(&running);
        assert_is_minimal(&running, &dump, 2, "exception");
        let info = host::info(&dump.path);
        assert_eq!(info["fallback"]["copies"], json!(["absent", "absent"]));
        let (theirs, ours) = (
            backtrace::gdb(&dump.path, &oracle::elf(), &["bt"]),
            host::bt(&dump.path, &oracle::elf()),
        );
        let frames = backtrace::frames(&ours);
        assert_eq!(
            backtrace::comparable(&frames),
            backtrace::comparable(&backtrace::frames(&theirs)),
            "{ours}\n{theirs}"
        );
        let names: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        assert!(
            names.contains(&"kernel::lkdtm::handle_request"),
            "{names:?}"
        );
    }
}

#[test]
fn crash_without_a_crash_region_ends_in_a_minimal_dump() {
    let running = Machine::new()
        .append("crashkernel=0 lkdtm=PANIC@150")
        .start();
    let dump = receive_minimal(&running);
    assert_is_minimal(&running, &dump, 1, "panic");
}

/// Boots, damages the byte at `offset` of the region, behind the kernel's back, and crashes.
fn damage(machine: Machine, offsets: &[u64]) -> Running {
    let running = machine.append("dump_then=halt dump_rounds=1").start();
    running.console.wait_for("idle, with");
    let region = oracle::region(&running.console.text());
    for offset in offsets {
        let at = region.start + offset;
        let byte = running.memory.read(at, 1);
        running.memory.write(at, &[byte[0] ^ 0x10]);
    }
    running.console.send(SYSRQ_CRASH);
    running
}

#[test]
fn crash_with_a_corrupted_capture_kernel_ends_in_a_minimal_dump() {
    for entry in ENTRIES {
        let running = damage(Machine::new().entry(entry).cpus(2), &[INSIDE_IMAGE]);
        let dump = receive_minimal(&running);
        assert_is_minimal(&running, &dump, 2, "sysrq");
        let info = host::info(&dump.path);
        assert_eq!(
            info["fallback"]["copies"],
            json!(["wrong-digest", "absent"])
        );
        let text = running.console.text();
        assert!(!text.contains("this is the capture kernel"), "{text}");
    }
}
