// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic kernels on a machine that nothing here was written for but a UART's driver: AMD's ZCU102, as QEMU has it, with the device
//! tree of Debian's kernel package. Four Cortex-A53, GIC-400, RAM from 0 on, a Cadence UART.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blackbox::matrix;
use blackbox::{Entry, Machine, artefacts, backtrace, device_tree, host, oracle};

const LIMIT: Duration = Duration::from_secs(240);

fn tree() -> PathBuf {
    artefacts::board_tree("zynqmp-zcu102-rev1.0.dtb")
}

fn zcu102(entry: Entry, tree: &Path) -> Machine {
    Machine::new()
        .board("xlnx-zcu102")
        .entry(entry)
        .memory_mib(512)
        .memory_start(0)
        .limit(LIMIT)
        .kernel(artefacts::image_of("generic", "kernel.Image"))
        .extra(&["-audio", "none", "-dtb", &tree.display().to_string()])
}

#[test]
fn machine_that_nobody_knew_boots_crashes_and_is_dumped_whole() {
    let rows = [("EL1", Entry::El1), ("EL2", Entry::El2)];
    matrix::for_each(&rows.map(|(name, _)| name), |name| {
        let row = rows.iter().find(|row| row.0 == *name).expect("a row");
        let machine = zcu102(row.1, &tree()).append("lkdtm=ACCESS_NULL@200 lkdtm_cpu=2");
        let (crashed, _) = oracle::compare_with_memory(machine);
        oracle::assert_only_free_pages_are_missing(&crashed);
        let report = &crashed.report;
        assert!(report.contains("ZynqMP ZCU102 Rev1.0"), "{report}");
        assert!(report.contains("4 CPUs run"), "{report}");
        assert_eq!(crashed.dump.registers().len(), 4);
        backtrace::assert_readelf_accepts(&crashed.dump.path);
        let elf = crashed.running.elf().to_path_buf();
        let trace = backtrace::gdb(&crashed.dump.path, &elf, &["bt"]);
        assert!(trace.contains("provoke_crash"), "{trace}");
    });
}

#[test]
fn keys_typed_on_its_uart_crash_it() {
    let running = zcu102(Entry::El1, &tree())
        .append("dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for("idle, with");
    running.console.send(b"~~~SysRqc");
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["reason"]["kind"], "sysrq", "{info}");
}

#[test]
fn uart_that_has_no_driver_is_not_taken_for_another() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = device_tree::decompile(&fs::read(tree()).expect("the tree")).text;
    assert!(source.contains("cdns,uart-r1p12"), "{source}");
    let unknown = source.replace("cdns,uart-r1p12", "somebody,uart");
    let path = dir.path().join("tree.dtb");
    let blob = device_tree::compile(&unknown);
    fs::write(&path, blob).expect("a device tree");
    let mut running = zcu102(Entry::El1, &path)
        .append("lkdtm=PANIC@200 dump_then=poweroff")
        .start();
    // There is nobody to tell, and nothing may hang or write where another machine has its UART: it dumps to nowhere, and PSCI switches it off.
    assert!(running.wait_for_exit().success());
    assert_eq!(running.console.bytes(), b"");
}
