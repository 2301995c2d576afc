// SPDX-License-Identifier: MIT OR Apache-2.0
//! A capture kernel that fails itself: it starts anew, leaves out what it failed at, and goes on with the dump.

use std::fs;
use std::time::Duration;

use blackbox::dump::merged;
use blackbox::oracle::{self, Crashed};
use blackbox::wait::Deadline;
use blackbox::{Entry, Machine, Running, artefacts, backtrace, host, symbols};

/// Longest wait for a host command.
const LIMIT: Duration = Duration::from_secs(55);
/// Gap of pages that were not looked at (docs/architecture.md, GAPS).
const SKIPPED: u32 = 7;

fn start(entry: Entry, parameters: &str) -> Running {
    Machine::new()
        .entry(entry)
        .cpus(2)
        .append("lkdtm=ACCESS_NULL@150 dump_rounds=1 dump_effort=0")
        .append(parameters)
        .start()
}

/// Receives the recorded line as an incomplete dump; returns it with what the host command said.
fn receive_partial(running: Running, end: &str) -> (Crashed, String) {
    running.console.wait_for(end);
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording of the line");
    let received = host::receive(&recording, &vmcore, &oracle::elf());
    assert_eq!(
        received.status.code(),
        Some(3),
        "{}\n{}",
        received.stderr,
        running.console.transcript()
    );
    let (verdict, status) = host::verify(&vmcore);
    assert_eq!(status, Some(3), "{verdict}");
    (oracle::judge(running), received.stderr)
}

/// Asserts that what is there is right, and that what is missing is declared: free, or skipped. Returns the bytes skipped.
fn assert_honest(crashed: &Crashed) -> u64 {
    let memory = crashed.running.memory.pages();
    oracle::assert_equals_memory(crashed, &memory);
    backtrace::assert_readelf_accepts(&crashed.dump.path);
    let gaps = crashed.dump.gaps();
    let mut all = crashed.dump.covered();
    all.extend(gaps.iter().map(|gap| gap.range.clone()));
    let (all, region) = (merged(all), &crashed.region);
    let ram = crashed.running.memory.ranges();
    let bytes = |ranges: &[std::ops::Range<u64>]| {
        ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum::<u64>()
    };
    assert_eq!(bytes(&all), bytes(&ram) - (region.end - region.start));
    let skipped = gaps.iter().filter(|gap| gap.class == SKIPPED);
    skipped.map(|gap| gap.range.end - gap.range.start).sum()
}

#[test]
fn failure_at_a_block_of_memory_costs_that_block() {
    for (entry, fault) in [(Entry::El1, "3:panic"), (Entry::El2, "6:abort")] {
        let running = start(entry, &format!("dump_then=halt dump_fault={fault}"));
        let (crashed, said) = receive_partial(running, "Afterimage: halted");
        let skipped = assert_honest(&crashed);
        assert!((4096..=256 << 10).contains(&skipped), "{fault}: {skipped}");
        assert!(said.contains("was skipped"), "{fault}: {said}");
        assert!(said.contains("capture kernel: failed at block"), "{said}");
        assert_eq!(crashed.dump.registers().len(), 2);
        let text = crashed.running.console.text();
        assert_eq!(text.matches("the capture kernel itself failed").count(), 1);
    }
}

#[test]
fn failure_while_memory_is_read_costs_the_pages_being_read() {
    for (entry, region) in [(Entry::El1, "2M"), (Entry::El2, "16M")] {
        let append = format!("crashkernel={region} dump_then=halt dump_fault=6:abort:reading");
        let running = start(entry, &append);
        let (crashed, said) = receive_partial(running, "Afterimage: halted");
        let skipped = assert_honest(&crashed);
        assert!((4096..=128 << 10).contains(&skipped), "{skipped}");
        assert!(said.contains("reading memory"), "{said}");
        assert_eq!(crashed.dump.registers().len(), 2);
    }
}

#[test]
fn failure_at_the_notes_costs_those_notes() {
    let running = start(Entry::El2, "dump_then=halt dump_fault=0:abort");
    let (crashed, said) = receive_partial(running, "Afterimage: halted");
    assert_eq!(assert_honest(&crashed), 0);
    assert!(said.contains("is missing in part"), "{said}");
    // Those of the CPU that crashed; the other one's are there.
    assert_eq!(crashed.dump.registers().len(), 1);
}

#[test]
fn capture_kernel_whose_code_changed_is_not_started_again() {
    let running = Machine::new()
        .append("lkdtm=PANIC@150 dump_then=halt dump_rounds=1 dump_fault=6")
        .held_at_first_frame()
        .start();
    running.console.wait_for_hold();
    // Its own build ID, which it does not read.
    let elf = artefacts::image("capture.elf");
    let at = symbols::address_of(&elf, "build_id_begin") - symbols::address_of(&elf, "image_begin");
    let at = oracle::region(&running.console.text()).start + at + 16;
    let byte = running.memory.read(at, 1)[0];
    running.memory.write(at, &[byte ^ 4]);
    running.console.release();
    running.console.wait_for("it is not started again");
    running.console.wait_for("Afterimage: next: Halt");
    running.console.wait_for("Afterimage: halted");
    let text = running.console.text();
    assert_eq!(text.matches("this is the capture kernel").count(), 1);
}

#[test]
fn failure_at_every_block_ends_with_a_reason_and_what_was_to_follow() {
    let mut running = Machine::new()
        .append("lkdtm=PANIC@150 dump_then=poweroff dump_fault=every:abort")
        .extra(&["-no-reboot"])
        .start();
    assert!(running.wait_for_exit().success());
    let (crashed, said) = receive_partial(running, "itself failed 9 times");
    assert!(said.contains("gave up before the end"), "{said}");
    let text = crashed.running.console.text();
    assert_eq!(
        text.matches("the capture kernel itself failed\r").count(),
        9
    );
    assert!(text.contains("Afterimage: next: poweroff"), "{text}");
}

#[test]
fn failure_while_a_host_answers_costs_that_block_only() {
    let running = Machine::new()
        .cpus(2)
        .append("lkdtm=PANIC@600 dump_then=halt dump_fault=6:abort dump_effort=0")
        .start();
    let _bridge = running.console.bridge(&running.dir().join("host"), 0);
    let vmcore = running.dir().join("vmcore");
    let mut host = host::start_receiving(&running.dir().join("host"), &vmcore);
    let ended = || host.try_wait().expect("the host's state");
    let status = Deadline::after(LIMIT).poll(ended);
    // It may have ended by itself in this moment.
    let _ = host.kill();
    let code = status.and_then(|status| status.code());
    assert_eq!(code, Some(3), "{}", running.console.transcript());
    running.console.wait_for("Afterimage: halted");
    running.console.wait_for("received whole");
    let crashed = oracle::judge(running);
    let skipped = assert_honest(&crashed);
    assert!((4096..=256 << 10).contains(&skipped), "{skipped}");
}
