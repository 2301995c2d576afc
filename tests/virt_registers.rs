// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers in the dump: those of the crashing CPU equal what QEMU's gdbstub shows at the exception vector, those of a
//! stopped CPU are the pattern that it held.

use blackbox::{Entry, Machine, Running, host, oracle, symbols};
use serde_json::Value;

/// Register n of the pattern, minus n (`lkdtm=PATTERN`).
const PATTERN: u64 = 0x5a5a_0000_c0de_0000;
/// SP of the pattern, minus the above.
const PATTERN_SP: u64 = 0x100;
/// PSTATE's D, A, I and F.
const DAIF: u64 = 0xf << 6;
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

fn crashing_cpu_matches_the_gdbstub(machine: Machine) {
    let machine = machine.append("lkdtm=ACCESS_NULL@4000 lkdtm_cpu=1 dump_then=halt");
    let (running, mut gdb) = oracle::stop_at_vector(machine);
    let vector = symbols::address_of(&oracle::elf(), "exception_vectors");
    let at_vector = gdb.general_registers();
    let [sp, pc, pstate] = ["SP_EL0", "ELR_EL1", "SPSR_EL1"].map(|name| gdb.system_register(name));
    let [esr, far] = ["ESR_EL1", "FAR_EL1"].map(|name| gdb.system_register(name));
    assert_eq!(at_vector.get(32), Some(&vector), "stopped elsewhere");
    gdb.go_on();

    let crashed = oracle::finish(running);
    let dumped = crashed.dump.registers_of(1);
    assert_eq!(
        Some(dumped.x.as_slice()),
        at_vector.get(..31),
        "x0 to x30: dump, gdbstub"
    );
    assert_eq!(
        [dumped.sp, dumped.pc, dumped.pstate],
        [sp, pc, pstate],
        "SP, PC, PSTATE: dump; SP_EL0, ELR, SPSR: gdbstub"
    );
    let reason = host::info(&crashed.dump.path)["reason"].clone();
    assert_eq!(
        [&reason["esr"], &reason["far"]],
        [&Value::from(esr), &Value::from(far)],
        "ESR, FAR"
    );
}

#[test]
fn registers_of_the_crashing_cpu_are_those_at_the_exception_vector_el1() {
    crashing_cpu_matches_the_gdbstub(Machine::new().cpus(2));
}

#[test]
fn registers_of_the_crashing_cpu_are_those_at_the_exception_vector_el2() {
    crashing_cpu_matches_the_gdbstub(Machine::new().cpus(2).entry(Entry::El2).gic(3).cpu("max"));
}

/// Lets CPU 1 spin with the pattern, and crashes CPU 0.
fn spin_then_crash(name: &str, machine: Machine) -> Running {
    let mut running = machine
        .cpus(2)
        .append(&format!("lkdtm={name}@150 lkdtm_cpu=1 dump_then=halt"))
        .start();
    running.console.wait_for("lkdtm: provoking Pattern");
    let spin = symbols::address_of(&oracle::elf(), "lkdtm_pattern_spin");
    running.wait_for_cpu_in(1, &(spin..spin + 4));
    running.console.send(SYSRQ_CRASH);
    running
}

/// How CPU 1 was stopped, as the dump says.
fn status_of_cpu_1(vmcore: &std::path::Path) -> String {
    let info = host::info(vmcore);
    let stops = info["stops"].as_array().expect("stops");
    let stop = stops.iter().find(|stop| stop["cpu"] == 1).expect("CPU 1");
    stop["status"].as_str().expect("a status").to_owned()
}

/// Checks the pattern, and returns how CPU 1 was stopped.
fn pattern_is_dumped(name: &str, is_masked: bool, machine: Machine) -> String {
    let crashed = oracle::finish(spin_then_crash(name, machine));
    let found = crashed.dump.registers_of(1);
    let wanted: Vec<u64> = (0..31).map(|number| PATTERN + number).collect();
    assert_eq!(found.x, wanted, "x0 to x30: {:x?}", found.x);
    assert_eq!(found.sp, PATTERN + PATTERN_SP, "SP");
    assert_eq!(
        found.pc,
        symbols::address_of(&oracle::elf(), "lkdtm_pattern_spin"),
        "PC"
    );
    let masked = if is_masked { DAIF } else { 0 };
    // F is never masked outside crash code.
    assert_eq!(
        found.pstate & (DAIF & !(1 << 9)),
        masked & !(1 << 9),
        "A, I and F in PSTATE {:#x}",
        found.pstate
    );
    status_of_cpu_1(&crashed.dump.path)
}

#[test]
fn stopped_cpu_with_interrupts_open_keeps_its_pattern_el1() {
    for gic in [2, 3] {
        let status = pattern_is_dumped("PATTERN", false, Machine::new().gic(gic));
        assert!(
            ["stopped-by-fiq", "stopped-by-irq"].contains(&status.as_str()),
            "GICv{gic}: {status}"
        );
    }
}

#[test]
fn stopped_cpu_with_interrupts_open_keeps_its_pattern_el2() {
    for gic in [2, 3] {
        let status = pattern_is_dumped("PATTERN", false, Machine::new().gic(gic).entry(Entry::El2));
        assert_eq!(status, "stopped-at-el2", "GICv{gic}");
    }
}

#[test]
fn stopped_cpu_with_everything_masked_keeps_its_pattern_el2() {
    for (gic, cpu) in [(2, "cortex-a53"), (3, "cortex-a72"), (3, "max")] {
        let machine = Machine::new().gic(gic).cpu(cpu).entry(Entry::El2);
        assert_eq!(
            pattern_is_dumped("PATTERN_MASKED", true, machine),
            "stopped-at-el2",
            "GICv{gic}, {cpu}"
        );
    }
}

#[test]
fn cpu_with_everything_masked_is_named_as_not_responding_el1() {
    let crashed = oracle::finish(spin_then_crash("PATTERN_MASKED", Machine::new()));
    assert_eq!(status_of_cpu_1(&crashed.dump.path), "not-responding");
    assert!(
        crashed.report.contains("CPU 1 does not respond"),
        "{}",
        crashed.report
    );
    let pids: Vec<u32> = crashed
        .dump
        .registers()
        .iter()
        .map(|found| found.pid)
        .collect();
    assert!(
        !pids.contains(&2),
        "registers of a CPU that did not answer: {pids:?}"
    );
}
