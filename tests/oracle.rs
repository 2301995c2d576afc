// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's own memory as the judge of a dump.
//!
//! The machine's RAM is looked at when the capture kernel sends its first frame, and after its last. Outside the crash
//! region both must be equal, and equal to the dump.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use crate::artefacts;
use crate::dump::{Dump, merged};
use crate::gdb_remote::GdbRemote;
use crate::machine::{Machine, Running};
use crate::memory::{PAGE, Pages};
use crate::{host, symbols};

/// Differences that a failure lists.
const SHOWN: usize = 8;

/// A machine that crashed, was dumped and halted.
#[derive(Debug)]
pub struct Crashed {
    /// The halted machine.
    pub running: Running,
    /// The crash region.
    pub region: Range<u64>,
    /// Its dump.
    pub dump: Dump,
    /// The console's text before the first frame.
    pub report: String,
}

/// Lets `machine` crash as its command line says, and receives its dump.
///
/// # Panics
/// It does not crash, or the dump is not whole.
#[must_use]
pub fn crash(machine: Machine) -> Crashed {
    let running = machine.append("dump_then=halt dump_rounds=1").start();
    finish(running)
}

/// Waits until the capture kernel has halted, and receives the dump.
///
/// # Panics
/// It does not halt, or the dump is not whole.
#[must_use]
pub fn finish(running: Running) -> Crashed {
    let started = running
        .console
        .wait_for_from("this is the capture kernel", 0);
    running.console.wait_for_from("Afterimage: halted", started);
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording of the line");
    let received = host::receive(&recording, &vmcore, running.elf());
    assert_eq!(
        received.status.code(),
        Some(0),
        "receive: {}\n{}",
        received.stderr,
        running.console.transcript()
    );
    judge(running)
}

/// Opens the dump that a host command left in `vmcore`, in the machine's directory.
///
/// # Panics
/// It is no dump.
#[must_use]
pub fn judge(running: Running) -> Crashed {
    let vmcore = running.dir().join("vmcore");
    let bytes = running.console.bytes();
    let text_len = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let report = String::from_utf8_lossy(bytes.get(..text_len).unwrap_or(&[])).into_owned();
    let region = region(&report);
    let dump = Dump::open(&vmcore);
    Crashed {
        running,
        region,
        dump,
        report,
    }
}

/// The ELF of the kernel that crashed.
#[must_use]
pub fn elf() -> PathBuf {
    artefacts::image("kernel.elf")
}

/// The crash region that the kernel reported at boot; empty without one.
#[must_use]
pub fn region(report: &str) -> Range<u64> {
    let line = report
        .lines()
        .find_map(|line| line.split_once("crash region 0x").map(|(_, rest)| rest));
    let ends = line
        .and_then(|rest| rest.split([',', ' ']).next())
        .and_then(|range| range.split_once("..0x"));
    let number = |text: &str| {
        u64::from_str_radix(text, 16).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    };
    ends.map_or(0..0, |(start, end)| number(start)..number(end))
}

/// Runs the whole comparison on a machine that is held at its first frame: the capture kernel writes nothing outside the region,
/// and what is in the dump equals memory. Returns the machine with its memory for more.
///
/// # Panics
/// The first difference.
#[must_use]
pub fn compare_with_memory(machine: Machine) -> (Crashed, Pages) {
    let running = machine
        .held_at_first_frame()
        .append("dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for_hold();
    let before = running.memory.pages();
    running.console.release();
    let crashed = finish(running);
    let after = assert_unchanged("the first frame", before, &crashed);

    assert_equals_memory(&crashed, &after);
    (crashed, after)
}

/// Asserts that what is in the dump equals `memory`.
///
/// # Panics
/// The first difference.
pub fn assert_equals_memory(crashed: &Crashed, memory: &Pages) {
    let covered = crashed.dump.covered();
    let is_covered = |at: u64| covered.iter().any(|range| range.contains(&at));
    assert_same(
        "memory",
        memory,
        "the dump",
        &crashed.dump.pages(),
        is_covered,
    );
}

/// Asserts that memory outside the region is as it was when `since` happened, and returns it.
///
/// # Panics
/// Something was written.
#[must_use]
pub fn assert_unchanged(since: &str, before: Pages, crashed: &Crashed) -> Pages {
    assert!(
        !crashed.region.is_empty(),
        "no crash region in the report:\n{}",
        crashed.report
    );
    let before = outside(before, &crashed.region);
    let after = outside(crashed.running.memory.pages(), &crashed.region);
    assert_same(
        &format!("memory at {since}"),
        &before,
        "memory after the last",
        &after,
        |_| true,
    );
    after
}

/// Asserts that the file covers all of RAM but the region.
///
/// # Panics
/// Something is missing, or too much is there.
pub fn assert_nothing_is_missing(crashed: &Crashed) {
    let wanted = without(&merged(crashed.running.memory.ranges()), &crashed.region);
    assert_eq!(
        hex(&crashed.dump.covered()),
        hex(&wanted),
        "physical ranges in the dump, and those of RAM"
    );
    assert_eq!(
        crashed.dump.gaps(),
        [],
        "nothing is missing, so nothing is declared"
    );
}

/// Asserts that what is absent is what the GAPS note says, as free or zero, and no more.
///
/// # Panics
/// Something else is missing.
pub fn assert_only_free_pages_are_missing(crashed: &Crashed) {
    // docs/protocol.md: 1 zero, 2 free.
    assert_missing_is_declared(crashed, &[1, 2]);
}

/// Asserts that what is absent is what the GAPS note says, as one of `classes`, and no more.
///
/// # Panics
/// Something else is missing.
pub fn assert_missing_is_declared(crashed: &Crashed, classes: &[u32]) {
    let gaps = crashed.dump.gaps();
    let covered = crashed.dump.covered();
    for gap in &gaps {
        assert!(
            classes.contains(&gap.class),
            "missing for another reason: {gap:x?}"
        );
        let overlap = covered
            .iter()
            .find(|range| range.start < gap.range.end && gap.range.start < range.end);
        assert_eq!(overlap, None, "declared as missing, but there: {gap:x?}");
    }
    let mut all = covered;
    all.extend(gaps.iter().map(|gap| gap.range.clone()));
    let wanted = without(&merged(crashed.running.memory.ranges()), &crashed.region);
    assert_eq!(
        hex(&merged(all)),
        hex(&wanted),
        "what is there and what is declared as missing, and RAM"
    );
    let declared: u64 = gaps.iter().map(|gap| gap.range.end - gap.range.start).sum();
    let info = host::info(&crashed.dump.path);
    let causes = info["gap_bytes"].as_object().expect("gap_bytes");
    let told: u64 = causes.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(told, declared, "bytes missing by `info`, and by the note");
}

/// Leaves out the pages of `region`.
fn outside(mut pages: Pages, region: &Range<u64>) -> Pages {
    pages.retain(|at, _| !region.contains(at));
    pages
}

/// `ranges` without `hole`.
fn without(ranges: &[Range<u64>], hole: &Range<u64>) -> Vec<Range<u64>> {
    let parts = ranges.iter().flat_map(|range| {
        [
            range.start..range.end.min(hole.start),
            range.start.max(hole.end)..range.end,
        ]
    });
    merged(parts.collect())
}

fn hex(ranges: &[Range<u64>]) -> Vec<String> {
    ranges
        .iter()
        .map(|range| format!("{:#x}..{:#x}", range.start, range.end))
        .collect()
}

/// Compares the pages of both that `counts` takes; a page that one of them lacks is zero there.
fn assert_same(
    one: &str,
    first: &Pages,
    other: &str,
    second: &Pages,
    counts: impl Fn(u64) -> bool,
) {
    let addresses = first
        .keys()
        .chain(second.keys().filter(|at| !first.contains_key(at)));
    let differing: Vec<u64> = addresses
        .copied()
        .filter(|at| counts(*at) && first.get(at) != second.get(at))
        .collect();
    let describe = |pages: &Pages, at: u64, byte: usize| {
        pages.get(&at).map_or("zero page".to_owned(), |page| {
            format!("{:02x?}", &page[byte..page.len().min(byte + 16)])
        })
    };
    let shown: Vec<String> = differing
        .iter()
        .take(SHOWN)
        .map(|at| {
            let zeros = Box::new([0; PAGE as usize]);
            let (a, b) = (
                first.get(at).unwrap_or(&zeros),
                second.get(at).unwrap_or(&zeros),
            );
            let byte = a
                .iter()
                .zip(b.iter())
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            format!(
                "{:#x}: {one} {}, {other} {}",
                at + byte as u64,
                describe(first, *at, byte),
                describe(second, *at, byte)
            )
        })
        .collect();
    assert!(
        differing.is_empty(),
        "{} pages differ between {one} and {other}:\n{}",
        differing.len(),
        shown.join("\n")
    );
}

/// Starts `machine`, whose crash comes later than its boot, and lets it run to the exception vector of that crash.
///
/// # Panics
/// It does not come there.
#[must_use]
pub fn stop_at_vector(machine: Machine) -> (Running, GdbRemote) {
    let mut running = machine.with_gdb().start();
    let mut gdb = running.gdb.take().expect("a gdbstub");
    // While it boots, guarded reads of what is not mapped come by there, too.
    gdb.go_on();
    running.console.wait_for("idle, with");
    gdb.interrupt();
    // The first entry of the table: synchronous, from the level's own code on SP_EL0.
    let vector = symbols::address_of(&elf(), "exception_vectors");
    gdb.hardware_breakpoint(vector, true);
    gdb.go_on();
    gdb.wait_for_stop();
    gdb.hardware_breakpoint(vector, false);
    (running, gdb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_in_a_boot_log_is_found() {
        let log = "[    0.02] RAM\n[    0.04] crash region 0x47e00000..0x48000000, 2048 KiB\n";
        assert_eq!(region(log), 0x47e0_0000..0x4800_0000);
    }

    #[test]
    fn region_that_is_not_reported_is_empty() {
        assert_eq!(region("crash region is out of reach at stage 1\n"), 0..0);
    }

    #[test]
    fn hole_inside_a_range_leaves_both_ends() {
        assert_eq!(without(&[0..10, 12..14], &(4..6)), [0..4, 6..10, 12..14]);
    }
}
