// SPDX-License-Identifier: MIT OR Apache-2.0
//! What explains the crash is on the line within its first bytes, whatever the size of the machine.

use simulator::machine::CRASHED_NOTE;
use simulator::{Case, Machine, Setting, Spec, run};

/// Bytes on the line, from the first one of the report on, within which the crashed CPU's registers and stack are there.
const BYTES_MAX: u64 = 8 << 10;

/// A machine of which most is free, or zero where the kernel does not say what is free.
fn spec(ram_bytes: u64, has_page_states: bool) -> Spec {
    Spec {
        ram_bytes,
        own_bytes: 2 << 20,
        used_pages: 120,
        has_page_states,
        seed: 1,
    }
}

#[track_caller]
fn check(name: &'static str, ram_bytes: u64) {
    let mut case = Case::new(name, 1, Setting::good(115_200));
    case.bootargs = "dump_then=halt".to_owned();
    let mut machine = Machine::new(&spec(ram_bytes, true));
    let mut run = run(&case, &mut machine);
    run.is_whole(&machine)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let sequence = run.world.host().backtrace_sequence(&machine, CRASHED_NOTE);
    let sequence = sequence.expect("registers and stack");
    let frames = run.world.tap().frames();
    let seen = frames.iter().find(|seen| seen.sequence == sequence);
    let seen = seen.expect("the frame that completed them");
    println!(
        "{name}: registers and stack of the crashed CPU after {} bytes, {:.2} s from the crash at 115200 baud",
        seen.bytes,
        seen.at_ns as f64 / 1e9
    );
    assert!(seen.bytes <= BYTES_MAX, "{name}: {} bytes", seen.bytes);
}

#[test]
fn backtrace_of_a_machine_of_128_mib_takes_few_bytes() {
    check("128 MiB", 128 << 20);
}

#[test]
fn backtrace_of_a_machine_of_8_gib_takes_few_bytes() {
    check("8 GiB", 8 << 30);
}

/// Bytes on the line and seconds of the whole dump.
fn cost(ram_bytes: u64, has_page_states: bool) -> (u64, f64) {
    let mut machine = Machine::new(&spec(ram_bytes, has_page_states));
    let mut case = Case::new("scaling", 1, Setting::good(115_200));
    case.bootargs = "dump_then=halt dump_effort=1".to_owned();
    let mut run = run(&case, &mut machine);
    run.is_whole(&machine)
        .unwrap_or_else(|error| panic!("{ram_bytes:#x}: {error}"));
    let cost = (run.world.tap().bytes(), run.ended_ns as f64 / 1e9);
    println!(
        "{} MiB, page states: {has_page_states}: {} bytes, {:.1} s",
        ram_bytes >> 20,
        cost.0,
        cost.1
    );
    cost
}

#[track_caller]
fn check_scaling(has_page_states: bool) {
    let (small_bytes, small_s) = cost(128 << 20, has_page_states);
    let (large_bytes, large_s) = cost(8 << 30, has_page_states);
    assert!(
        large_bytes * 2 <= small_bytes * 3,
        "{large_bytes} bytes, {small_bytes}"
    );
    assert!(large_s <= small_s * 1.5, "{large_s} s, {small_s} s");
}

#[test]
fn free_memory_costs_next_to_nothing() {
    check_scaling(true);
}

#[test]
fn memory_of_zeros_costs_next_to_nothing() {
    check_scaling(false);
}
