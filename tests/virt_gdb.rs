// SPDX-License-Identifier: MIT OR Apache-2.0
//! What gdb makes of a dump besides the backtrace: threads, variables, memory that is there and memory that is not.

use blackbox::{Entry, Machine, backtrace, host, oracle};
use serde_json::json;

/// Base of the linear map (docs/architecture.md).
const LINEAR: u64 = 0xffff_0000_0000_0000;

#[test]
fn gdb_sees_a_thread_for_each_cpu_and_the_crashed_one_first() {
    let crashed = oracle::crash(
        Machine::new()
            .cpus(8)
            .append("lkdtm=ACCESS_NULL@150 lkdtm_cpu=5"),
    );
    let text = backtrace::gdb(&crashed.dump.path, &oracle::elf(), &["info threads"]);
    let threads: Vec<&str> = text.lines().filter(|line| line.contains("LWP")).collect();
    assert_eq!(threads.len(), 8, "{text}");
    let current = threads
        .iter()
        .find(|line| line.trim_start().starts_with('*'));
    assert!(
        current.is_some_and(|line| line.contains("LWP 6")),
        "CPU 5 is pid 6:\n{text}"
    );
}

#[test]
fn gdb_says_of_a_free_page_that_it_cannot_be_read() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@100"));
    let gaps = crashed.dump.gaps();
    let free = gaps
        .iter()
        .find(|gap| gap.range.start > 0)
        .expect("free pages of an idle machine");
    let page = LINEAR + free.range.start;
    let read = format!("x/gx {page:#x}");
    let text = backtrace::gdb(&crashed.dump.path, &oracle::elf(), &[&read]);
    assert!(
        text.contains(&format!("Cannot access memory at address {page:#x}")),
        "{text}"
    );
}

#[test]
fn gdb_reads_memory_through_the_linear_map_as_it_was() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@100"));
    // The kernel's first instruction, by its link address and by the linear map.
    let header = crashed.running.memory.read(0x4020_0000, 8);
    let word = header
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    let commands = [
        format!("x/gx {:#x}", LINEAR + 0x4020_0000),
        "x/gx 0xffff800080000000".to_owned(),
    ];
    let text = backtrace::gdb(
        &crashed.dump.path,
        &oracle::elf(),
        &commands.each_ref().map(String::as_str),
    );
    let values = text
        .lines()
        .filter(|line| line.ends_with(&format!("{word:#018x}")))
        .count();
    assert_eq!(values, 2, "{word:#x} twice in:\n{text}");
}

#[test]
fn every_other_cpu_is_stopped_and_known_to_be_off() {
    for (entry, gic, cpu) in [
        (Entry::El1, 2, "cortex-a53"),
        (Entry::El2, 3, "max"),
        (Entry::El1, 3, "cortex-a72"),
    ] {
        let machine = Machine::new()
            .cpus(8)
            .entry(entry)
            .gic(gic)
            .cpu(cpu)
            .append("lkdtm=PANIC@150 lkdtm_cpu=7");
        let crashed = oracle::crash(machine);
        let info = host::info(&crashed.dump.path);
        let stops = info["stops"].as_array().expect("stops");
        assert_eq!(stops.len(), 8, "{stops:?}");
        for stop in stops {
            let (status, is_off) = (
                stop["status"].as_str().unwrap_or_default(),
                &stop["off_confirmed"],
            );
            let is_right = if stop["cpu"] == 7 {
                status == "crashed"
            } else {
                status.starts_with("stopped") && is_off == true
            };
            assert!(is_right, "{entry:?}, GICv{gic}, {cpu}: {stop}");
        }
        assert_eq!(crashed.dump.registers().len(), 8, "registers of every CPU");
    }
}

#[test]
fn cpu_that_was_never_started_is_named_and_has_no_registers() {
    let crashed = oracle::crash(Machine::new().cpus(4).append("maxcpus=2 lkdtm=PANIC@100"));
    let info = host::info(&crashed.dump.path);
    let statuses: Vec<_> = info["stops"]
        .as_array()
        .expect("stops")
        .iter()
        .map(|stop| stop["status"].clone())
        .collect();
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == json!("never-started"))
            .count(),
        2,
        "{statuses:?}"
    );
    assert_eq!(crashed.dump.registers().len(), 2);
}

#[test]
fn crash_while_cpus_are_started_leaves_none_running() {
    for entry in [Entry::El1, Entry::El2] {
        let machine = Machine::new().cpus(8).entry(entry);
        let crashed = oracle::crash(machine.append("lkdtm=PANIC lkdtm_cpu=1"));
        let info = host::info(&crashed.dump.path);
        for stop in info["stops"].as_array().expect("stops") {
            assert_ne!(stop["status"], "not-responding", "{entry:?}: {info}");
        }
    }
}
