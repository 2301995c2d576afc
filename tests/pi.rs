// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raspberry Pi 3 and 4, as QEMU has them, with the device trees of Debian's kernel package.
//!
//! The same kernel and the same capture Image boot on both. There is no PSCI: how the CPUs stopped is shown by the dump and by QEMU.
#![cfg(test)]

use std::fs;

use blackbox::oracle::Crashed;
use blackbox::raspberry::{is_there, pi};
use blackbox::{Machine, backtrace, host, oracle, symbols};

/// RAM by either tree and QEMU: what is above belongs to the VideoCore, or is not told of.
const RAM_END: u64 = 0x3c00_0000;

/// Register n of `lkdtm=PATTERN`, minus n.
const PATTERN: u64 = 0x5a5a_0000_c0de_0000;
/// Nine bytes: one more than the mini UART's FIFO takes.
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

/// Asserts that each of the CPUs but `crashed` said that it is parked, and that QEMU sees it in the crash region; returns `info`.
fn assert_parked(crashed: &mut Crashed, cpus: usize, winner: usize, status: &str) {
    let info = host::info(&crashed.dump.path);
    for cpu in 0..cpus {
        let stop = &info["stops"][cpu];
        if cpu == winner {
            assert_eq!(stop["status"], "crashed", "{info}");
            continue;
        }
        assert_eq!(stop["status"], status, "CPU {cpu}: {info}");
        assert_eq!(stop["parked"], true, "CPU {cpu}: {info}");
        assert_eq!(stop["off_confirmed"], false, "CPU {cpu}: {info}");
        let region = crashed.region.clone();
        crashed.running.wait_for_cpu_in(cpu, &region);
    }
}

fn four_cpus(number: u32) {
    if !is_there(number) {
        return;
    }
    let machine = pi(number).append("lkdtm=ACCESS_NULL@300 lkdtm_cpu=2");
    let (mut crashed, _) = oracle::compare_with_memory(machine);
    assert!(crashed.report.contains("4 CPUs run"), "{}", crashed.report);
    assert!(
        crashed.report.contains("out of reach at stage 2"),
        "not entered at EL2: {}",
        crashed.report
    );
    let missing_is_told = crashed.dump.gaps();
    assert!(!missing_is_told.is_empty(), "free pages are not sent");
    let covered = crashed.dump.covered();
    assert!(
        covered.iter().all(|range| range.end <= RAM_END),
        "{covered:x?}"
    );
    assert_parked(&mut crashed, 4, 2, "stopped-at-el2");
    backtrace::assert_readelf_accepts(&crashed.dump.path);
    let elf = crashed.running.elf().to_path_buf();
    let trace = backtrace::gdb(&crashed.dump.path, &elf, &["bt"]);
    assert!(trace.contains("provoke_crash"), "{trace}");
    assert_eq!(crashed.dump.registers().len(), 4);
}

#[test]
fn dump_of_a_pi_3_equals_memory_and_its_cpus_are_parked() {
    four_cpus(3);
}

#[test]
fn dump_of_a_pi_4_equals_memory_and_its_cpus_are_parked() {
    four_cpus(4);
}

#[test]
fn one_cpu_of_a_pi_3_is_enough() {
    let machine = pi(3).append("lkdtm=PANIC@200 maxcpus=1");
    let (mut crashed, _) = oracle::compare_with_memory(machine);
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["stops"][3]["status"], "never-started", "{info}");
    // CPUs that were not wanted wait in the region, too, not in the boot loader's loop.
    let region = crashed.region.clone();
    crashed.running.wait_for_cpu_in(3, &region);
}

#[test]
fn cpu_of_a_pi_that_masks_everything_is_stopped() {
    for number in [3, 4] {
        if !is_there(number) {
            continue;
        }
        let append =
            "lkdtm=PATTERN_MASKED@200 lkdtm_cpu=1 dump_then=halt dump_rounds=1 dump_recheck=0";
        let mut running = pi(number).append(append).start();
        let spin = symbols::address_of(running.elf(), "lkdtm_pattern_spin");
        running.console.wait_for("lkdtm: provoking Pattern");
        running.wait_for_cpu_in(1, &(spin..spin + 4));
        // By the mini UART's receive interrupt.
        running.console.send(SYSRQ_CRASH);
        let mut crashed = oracle::finish(running);
        assert_parked(&mut crashed, 4, 0, "stopped-at-el2");
        let registers = crashed.dump.registers_of(1);
        assert_eq!(registers.pc, spin, "Pi {number}");
        let wanted: Vec<u64> = (0..31).map(|number| PATTERN + number).collect();
        assert_eq!(registers.x, wanted, "Pi {number}: {:x?}", registers.x);
    }
}

#[test]
fn cpus_of_a_pi_4_that_stop_by_irq_are_parked_in_the_region() {
    if !is_there(4) {
        return;
    }
    // As where the firmware keeps Group 0 for itself, which a real Pi 4's is believed to do: each CPU saves its registers at EL1.
    let machine = pi(4).append("lkdtm=PANIC@300 lkdtm_cpu=1 crash_stop=irq");
    let (mut crashed, _) = oracle::compare_with_memory(machine);
    assert_parked(&mut crashed, 4, 1, "stopped-by-irq");
    assert_eq!(crashed.dump.registers().len(), 4);
}

#[test]
fn cpu_of_a_pi_4_that_masks_irqs_is_named_where_only_an_irq_could_stop_it() {
    if !is_there(4) {
        return;
    }
    let append = "lkdtm=PATTERN_MASKED@200 lkdtm_cpu=1 crash_stop=irq dump_then=halt dump_rounds=1 dump_recheck=0";
    let running = pi(4).append(append).start();
    running.console.wait_for("lkdtm: provoking Pattern");
    running.console.send(SYSRQ_CRASH);
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    for (cpu, status, is_parked) in [
        (1, "not-responding", false),
        (2, "stopped-by-irq", true),
        (3, "stopped-by-irq", true),
    ] {
        let stop = &info["stops"][cpu];
        assert_eq!(
            (&stop["status"], &stop["parked"]),
            (&status.into(), &is_parked.into()),
            "{info}"
        );
    }
    assert!(
        crashed.report.contains("CPU 1 does not respond"),
        "{}",
        crashed.report
    );
}

/// Where the region, and in it the capture Image with its entry, lies on either Pi: at the end of RAM.
const CAPTURE_ENTRY: u64 = RAM_END - (4 << 20);

#[test]
fn capture_kernel_of_a_pi_starts_at_el2_with_clean_state() {
    for number in [3, 4] {
        if !is_there(number) {
            continue;
        }
        let machine = pi(number).append("lkdtm=PANIC@100 dump_then=halt dump_rounds=1");
        let mut running = machine.with_gdb().start();
        let mut gdb = running.gdb.take().expect("a gdbstub");
        gdb.hardware_breakpoint(CAPTURE_ENTRY, true);
        gdb.go_on();
        gdb.wait_for_stop();
        let registers = gdb.general_registers();
        assert_eq!(
            registers[32], CAPTURE_ENTRY,
            "Pi {number}: stopped elsewhere"
        );
        // Linux's booting.rst: x0 the DTB, x1 to x3 zero, DAIF masked; EL2 with its own stack pointer.
        let region = CAPTURE_ENTRY..RAM_END;
        assert!(
            region.contains(&registers[0]),
            "Pi {number}: x0 {:#x}",
            registers[0]
        );
        assert_eq!(registers[1..4], [0, 0, 0], "Pi {number}");
        assert_eq!(gdb.pstate() & 0x3df, 0x3c9, "Pi {number}: PSTATE");
        // MMU and caches off; nothing trapped, no stage 2, no vectors of the stub's.
        for (name, bits) in [
            ("SCTLR_EL2", 0x1005),
            ("SCTLR", 0x1005),
            ("HCR_EL2", u64::MAX),
            ("VTTBR_EL2", u64::MAX),
            ("VBAR_EL2", u64::MAX),
            ("CNTV_CTL_EL0", 1),
            ("CNTP_CTL_EL0", 1),
        ] {
            let found = gdb.system_register(name) & bits;
            assert_eq!(found, 0, "Pi {number}: {name}");
        }
        gdb.hardware_breakpoint(CAPTURE_ENTRY, false);
        gdb.go_on();
        let crashed = oracle::finish(running);
        assert_eq!(crashed.region, region, "Pi {number}");
    }
}

#[test]
fn missing_device_tree_is_told_on_both_uarts() {
    for number in [3, 4] {
        if !is_there(number) {
            continue;
        }
        let running = Machine::new().pi(number).start();
        running.console.wait_for("Afterimage cannot boot");
        running.console.wait_for("no device tree");
        let other = fs::read_to_string(running.dir().join("pl011")).expect("the PL011's output");
        assert!(
            other.contains("Afterimage cannot boot") && other.contains("no device tree"),
            "Pi {number}: {other:?}"
        );
    }
}

#[test]
fn pi_is_reset_and_turned_off_without_psci() {
    for (number, append, last) in [
        // The crashed kernel itself, after a minimal dump; then the capture kernel.
        (4, "crashkernel=0 dump_then=poweroff", "next: poweroff"),
        (3, "dump_then=reboot", "next: reboot"),
    ] {
        if !is_there(number) {
            continue;
        }
        let crash = "lkdtm=PANIC@100 maxcpus=1 dump_rounds=1 dump_recheck=0 dump_timeout=1";
        let mut running = pi(number)
            .append(&format!("{crash} {append}"))
            .extra(&["-no-reboot"])
            .start();
        running.console.wait_for(last);
        assert!(running.wait_for_exit().success(), "Pi {number}: {append}");
    }
}
