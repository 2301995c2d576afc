// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that changes while it is dumped is listed, with the CPU that may have done it; memory that does not is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blackbox::{Entry, Machine, Running, backtrace, host, oracle, symbols};
use serde_json::Value;

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
/// Base of the linear map, and where the kernel is linked and QEMU loads it (docs/architecture.md).
const LINEAR: u64 = 0xffff_0000_0000_0000;
const LINK: u64 = 0xffff_8000_8000_0000;
const LOADED: u64 = 0x4020_0000;

/// Lets CPU 1 count with everything masked, and crashes CPU 0.
fn count_then_crash(machine: Machine) -> Running {
    let machine = machine
        .cpus(2)
        .append("lkdtm=COUNT_MASKED@150 lkdtm_cpu=1 dump_then=halt dump_rounds=1");
    let running = machine.start();
    running.console.wait_for("lkdtm: provoking CountMasked");
    running.console.send(SYSRQ_CRASH);
    running
}

#[test]
fn counter_of_a_cpu_that_did_not_stop_is_listed_with_it() {
    let counter = symbols::address_of(&oracle::elf(), "LKDTM_COUNTER") - LINK + LOADED;
    for gic in [2, 3] {
        let crashed = oracle::finish(count_then_crash(Machine::new().gic(gic)));
        let info = host::info(&crashed.dump.path);
        let moved = host::moved(&info);
        assert_eq!(moved.len(), 1, "GICv{gic}: {moved:x?}");
        assert!(moved[0].contains(&counter), "{counter:#x} in {moved:x?}");
        assert_eq!(info["whole"], true, "every block arrived");
        let stops = info["stops"].as_array().expect("stops");
        assert_eq!(stops[1]["status"], "not-responding");
        assert!(
            crashed
                .running
                .console
                .transcript()
                .contains("memory changed while it was dumped"),
            "the console says so"
        );

        // Independent: QEMU's memory, now, differs from the dump in that range, and nowhere else.
        let memory = crashed.running.memory.pages();
        let pages = crashed.dump.pages();
        let differing: Vec<u64> = pages
            .iter()
            .filter(|(at, page)| memory.get(at) != Some(page))
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(differing, [counter & !0xfff], "pages that differ");
        let read = format!("x/gx {:#x}", LINEAR + counter);
        let gdb = backtrace::gdb(&crashed.dump.path, &oracle::elf(), &[&read]);
        assert!(!gdb.contains("Cannot access"), "{gdb}");
    }
}

#[test]
fn page_that_is_written_from_outside_while_it_is_dumped_is_listed() {
    // As a device would that was not stopped: a page of the kernel's image, which no CPU writes any more.
    let page = symbols::address_of(&oracle::elf(), "LKDTM_COUNTER") - LINK + LOADED;
    let running = Machine::new()
        .append("lkdtm=PANIC@100 dump_then=halt dump_rounds=1")
        .start();
    let memory = running.memory.clone();
    let is_over = Arc::new(AtomicBool::new(false));
    let is_over_there = Arc::clone(&is_over);
    // Ends with the test's process, should the machine not halt.
    std::thread::spawn(move || {
        let mut count = 0_u64;
        while !is_over_there.load(Ordering::Relaxed) {
            count += 1;
            memory.write(page, &count.to_le_bytes());
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let started = running
        .console
        .wait_for_from("this is the capture kernel", 0);
    running.console.wait_for_from("Afterimage: halted", started);
    is_over.store(true, Ordering::Relaxed);
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    let moved = host::moved(&info);
    assert!(
        moved.len() == 1 && moved[0].contains(&page),
        "{page:#x} in {moved:x?}"
    );
    let (verified, status) = host::verify(&crashed.dump.path);
    assert_eq!(status, Some(0), "it is whole");
    assert_eq!(verified["moved"]["granules"], 1);
}

#[test]
fn nothing_is_listed_when_nothing_changes() {
    for (entry, gic, cpu) in [
        (Entry::El1, 2, "cortex-a53"),
        (Entry::El2, 3, "max"),
        (Entry::El2, 2, "cortex-a72"),
    ] {
        let machine = Machine::new().entry(entry).gic(gic).cpu(cpu).cpus(4);
        let crashed = oracle::crash(machine.append("lkdtm=PANIC@150 lkdtm_cpu=2"));
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["moved"]["granules"], 0, "{entry:?}, GICv{gic}, {cpu}");
        assert!(info["moved"]["granule_bytes"].as_u64() > Some(0));
    }
}

#[test]
fn cpu_that_counts_is_stopped_by_the_stub_and_nothing_is_listed() {
    let crashed = oracle::finish(count_then_crash(Machine::new().entry(Entry::El2)));
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["stops"][1]["status"], "stopped-at-el2");
    assert_eq!(info["moved"]["granules"], 0);
}

#[test]
fn nothing_is_looked_for_when_it_is_not_wanted() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@100 dump_recheck=0"));
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["moved"], Value::Null);
}
