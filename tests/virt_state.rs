// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of the crashed machine that must not reach the capture kernel: its dump is whole and right all the same, and at its end
//! nothing of that state is left. That the state was there is read from the notes.

use blackbox::{Entry, Machine, host, oracle};
use serde_json::Value;

/// GICv2 distributor, and GICv3's; its redistributor; the UART (hw/arm/virt.c).
const GICD: u64 = 0x0800_0000;
const GICR: u64 = 0x080a_0000;
const UART: u64 = 0x0900_0000;
/// Interrupts 32 to 63 in registers of a bit each.
const ENABLED: u64 = GICD + 0x104;
const PENDING: u64 = GICD + 0x204;
const ACTIVE: u64 = GICD + 0x304;

fn machines() -> [(String, Machine); 5] {
    [
        (Entry::El1, 2, "cortex-a53"),
        (Entry::El1, 3, "cortex-a72"),
        (Entry::El2, 2, "cortex-a72"),
        (Entry::El2, 3, "max"),
        (Entry::El1, 3, "max"),
    ]
    .map(|(entry, gic, cpu)| {
        let name = format!("{entry:?}, GICv{gic}, {cpu}");
        (name, Machine::new().entry(entry).gic(gic).cpu(cpu))
    })
}

fn register(info: &Value, name: &str) -> u64 {
    let value = &info["sysregs"][0]["values"][name];
    value.as_u64().unwrap_or_else(|| panic!("{name} in {info}"))
}

/// The interrupts that `info` names as being in `state`.
fn interrupts(info: &Value, state: &str) -> Vec<u64> {
    let all = info["interrupts"]["interrupts"].as_array().expect("a list");
    let some = all.iter().filter(|one| one[state] == true);
    some.filter_map(|one| one["number"].as_u64()).collect()
}

#[test]
fn state_left_behind_does_not_reach_the_capture_kernel() {
    for (name, machine) in machines() {
        let is_v3 = name.contains("GICv3");
        let mut running = machine
            .append("lkdtm=ACCESS_NULL@150 lkdtm_state=timer,debug,pmu,irq,lpi,uart")
            .append("dump_then=halt dump_rounds=1")
            .with_gdb()
            .start();
        let mut gdb = running.gdb.take().expect("a gdbstub");
        gdb.go_on();
        let mut crashed = oracle::finish(running);
        oracle::assert_equals_memory(&crashed, &crashed.running.memory.pages());
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["whole"], true, "{name}");
        assert_eq!(info["moved"]["granules"], 0, "{name}");

        // It was there.
        assert_eq!(register(&info, "CNTV_CTL_EL0"), 5, "{name}: fires");
        assert_eq!(register(&info, "CNTP_CTL_EL0"), 5, "{name}: fires");
        assert_eq!(register(&info, "MDSCR_EL1") & 0xa000, 0xa000, "{name}");
        assert_eq!(register(&info, "PMCR_EL0") & 1, 1, "{name}");
        assert_eq!(interrupts(&info, "active"), [48, 3], "{name}");
        for number in 40..48 {
            assert!(interrupts(&info, "pending").contains(&number), "{name}");
        }
        if is_v3 {
            let all = info["interrupts"]["registers"].as_array().expect("a list");
            let control = all.iter().find(|one| one["name"] == "GICR_CTLR");
            let control = control.and_then(|one| one["value"].as_u64());
            assert_eq!(control.map(|value| value & 1), Some(1), "{name}: LPIs");
        }

        // It is gone.
        for register in [ENABLED, PENDING, ACTIVE] {
            assert_eq!(
                crashed.running.read_physical_word(register),
                0,
                "{name}: {register:#x}"
            );
        }
        if is_v3 {
            assert_eq!(crashed.running.read_physical_word(GICR) & 1, 0, "{name}");
        }
        // IMSC, DMACR, and in CR the loop.
        let uart = [0x38, 0x48, 0x30].map(|at| crashed.running.read_physical_word(UART + at));
        assert_eq!([uart[0], uart[1], uart[2] & 0x80], [0, 0, 0], "{name}");
        gdb.interrupt();
        for (register, bits) in [
            ("CNTV_CTL_EL0", 1),
            ("CNTP_CTL_EL0", 1),
            ("MDSCR_EL1", 0xa001),
            ("DBGBCR0_EL1", 1),
            ("DBGWCR0_EL1", 1),
            ("PMCR_EL0", 1),
            ("CNTKCTL", 0x303),
        ] {
            assert_eq!(
                gdb.system_register(register) & bits,
                0,
                "{name}: {register}"
            );
        }
    }
}

#[test]
fn crash_in_an_interrupt_that_is_never_ended_is_dumped() {
    // What loops is caught from the tick's handler, with that interrupt active.
    for (name, machine) in machines() {
        let crashed = oracle::crash(machine.append("lkdtm=PANIC@150 lkdtm_state=irq"));
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["whole"], true, "{name}");
        assert!(interrupts(&info, "active").contains(&3), "{name}");
    }
}

#[test]
fn state_without_a_name_is_told_and_ignored() {
    let machine = Machine::new().append("lkdtm=PANIC@100 lkdtm_state=moon");
    let crashed = oracle::crash(machine);
    assert!(
        crashed
            .report
            .contains("lkdtm_state=moon: there is no such state"),
        "{}",
        crashed.report
    );
}
