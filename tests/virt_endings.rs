// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the capture kernel does after the dump: what `dump_then=` says.

use blackbox::{Entry, Machine, oracle};

fn machine(then: &str, entry: Entry) -> Machine {
    Machine::new()
        .cpus(2)
        .entry(entry)
        .append(&format!("lkdtm=PANIC@150 {then}"))
        .extra(&["-no-reboot"])
}

fn ends_qemu(then: &str) {
    for entry in [Entry::El1, Entry::El2] {
        let mut running = machine(then, entry).start();
        let status = running.wait_for_exit();
        assert!(status.success(), "{entry:?}: {status}");
        running.console.wait_for("Afterimage: next:");
    }
}

#[test]
fn dump_then_reboot_resets_the_machine() {
    ends_qemu("dump_then=reboot");
}

#[test]
fn dump_without_dump_then_resets_the_machine() {
    ends_qemu("");
}

#[test]
fn dump_then_poweroff_turns_the_machine_off() {
    ends_qemu("dump_then=poweroff");
}

#[test]
fn dump_then_halt_leaves_the_machine_as_it_is() {
    let mut crashed = oracle::crash(machine("", Entry::El1));
    assert!(crashed.running.is_alive());
}

#[test]
fn machine_that_rebooted_after_its_dump_boots_again() {
    let running = Machine::new()
        .append("lkdtm=PANIC@150 dump_then=reboot")
        .start();
    let end = running.console.wait_for_from("Afterimage: next: reboot", 0);
    running.console.wait_for_from("idle, with", end);
}

#[test]
fn machine_at_el3_without_psci_says_that_it_cannot_reboot() {
    let running = Machine::new()
        .entry(Entry::El3)
        .append("lkdtm=PANIC@150 dump_then=reboot")
        .start();
    let end = running.console.wait_for_from("Afterimage: next: reboot", 0);
    running.console.wait_for_from("cannot reboot", end);
    running.console.wait_for_from("Afterimage: halted", end);
}
