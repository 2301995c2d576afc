// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dump equals QEMU's own memory, byte for byte, on every kind of machine.

use blackbox::matrix::{self, Row};
use blackbox::{Entry, Machine, artefacts, backtrace, device_tree, oracle};

fn crashes_at_last_cpu(row: &Row) -> Machine {
    row.machine().append(&format!(
        "lkdtm=ACCESS_NULL@200 lkdtm_cpu={}",
        row.last_cpu()
    ))
}

#[test]
fn dump_of_level_0_holds_all_of_memory() {
    matrix::for_each(&matrix::rows(), |row| {
        let machine = crashes_at_last_cpu(row).append("dump_level=0");
        let (crashed, _) = oracle::compare_with_memory(machine);
        oracle::assert_nothing_is_missing(&crashed);
    });
}

#[test]
fn dump_of_level_17_lacks_free_pages_only() {
    matrix::for_each(&matrix::rows(), |row| {
        let (crashed, _) = oracle::compare_with_memory(crashes_at_last_cpu(row));
        oracle::assert_only_free_pages_are_missing(&crashed);
    });
}

#[test]
fn dump_of_several_ram_ranges_holds_all_of_memory() {
    let machine = Machine::new()
        .memory_nodes(&[128, 192, 256])
        .cpus(2)
        .entry(Entry::El2);
    let (crashed, _) = oracle::compare_with_memory(machine.append("lkdtm=PANIC@200 dump_level=0"));
    oracle::assert_nothing_is_missing(&crashed);
}

/// Where the region of a machine of 128 MiB begins, and in it the capture Image with its entry.
const CAPTURE_ENTRY: u64 = 0x47e0_0000;

#[test]
fn nothing_outside_the_region_is_written_from_the_first_instruction_of_the_capture_kernel() {
    for (entry, cpu) in [
        (Entry::El1, "cortex-a53"),
        (Entry::El2, "cortex-a72"),
        (Entry::El2, "max"),
        (Entry::El3, "max"),
    ] {
        let machine = Machine::new()
            .entry(entry)
            .cpu(cpu)
            .append("lkdtm=PANIC@100 dump_then=halt");
        let mut running = machine.with_gdb().start();
        let mut gdb = running.gdb.take().expect("a gdbstub");
        gdb.hardware_breakpoint(CAPTURE_ENTRY, true);
        gdb.go_on();
        gdb.wait_for_stop();
        assert_eq!(
            gdb.general_registers().get(32),
            Some(&CAPTURE_ENTRY),
            "{entry:?}, {cpu}: stopped elsewhere"
        );
        let before = running.memory.pages();
        gdb.hardware_breakpoint(CAPTURE_ENTRY, false);
        gdb.go_on();
        let crashed = oracle::finish(running);
        let after = oracle::assert_unchanged("the first instruction", before, &crashed);
        assert!(
            after.len() > 100,
            "pages that are not zero: {}",
            after.len()
        );
    }
}

/// The memory node of a machine of 128 MiB, as dtc prints it.
const MEMORY_REG: &str = "<0x00 0x40000000 0x00 0x8000000>";

#[test]
fn dump_of_ram_with_a_hole_leaves_the_hole_out() {
    let machine = Machine::new()
        .cpus(2)
        .append("lkdtm=PANIC@100 dump_level=0 dump_then=halt")
        .paused();
    let mut running = machine.start();
    device_tree::edit_source(&running, |text| {
        text.replace(
            MEMORY_REG,
            "<0x00 0x40000000 0x00 0x5000000 0x00 0x46000000 0x00 0x2000000>",
        )
    });
    running.go_on();
    let crashed = oracle::finish(running);
    let covered = crashed.dump.covered();
    assert_eq!(crashed.region, 0x47e0_0000..0x4800_0000);
    assert_eq!(
        covered,
        [0x4000_0000..0x4500_0000, 0x4600_0000..0x47e0_0000]
    );
    let memory = crashed.running.memory.pages();
    let differing = crashed
        .dump
        .pages()
        .into_iter()
        .find(|(at, page)| memory.get(at) != Some(page));
    assert_eq!(differing.map(|(at, _)| at), None, "first page that differs");
}

/// `Unreadable`, as docs/protocol.md numbers classes of pages.
const UNREADABLE: u32 = 5;

#[test]
fn ram_whose_reads_abort_is_a_gap_and_the_dump_goes_on() {
    let machine = Machine::new()
        .append("lkdtm=PANIC@100 dump_level=0 dump_then=halt")
        .paused();
    let mut running = machine.start();
    // The device tree names 4 MiB more than there are, and reserves them, so that only the capture kernel reads there.
    device_tree::edit_source(&running, |text| {
        text.replace(MEMORY_REG, "<0x00 0x40000000 0x00 0x8400000>")
            .replace("/dts-v1/;", "/dts-v1/;\n/memreserve/ 0x48000000 0x400000;")
    });
    running.go_on();
    let crashed = oracle::finish(running);
    let gaps = crashed.dump.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].range, 0x4800_0000..0x4840_0000);
    assert_eq!(gaps[0].class, UNREADABLE);
    let covered = 0x4000_0000..0x47e0_0000;
    assert_eq!(crashed.dump.covered(), vec![covered]);
}

#[test]
fn crash_region_of_the_device_tree_is_used() {
    let machine = Machine::new()
        .append("crashkernel=4M lkdtm=PANIC@100 dump_then=halt")
        .paused();
    let mut running = machine.start();
    device_tree::edit_source(&running, |text| {
        let node = "\n\treserved-memory {\n\t\t#address-cells = <2>;\n\t\t#size-cells = <2>;\n\t\tranges;\n\
            \t\tcrashkernel@43000000 {\n\t\t\treg = <0 0x43000000 0 0x200000>;\n\t\t};\n\t};\n\n\tpsci {";
        text.replacen("\n\tpsci {", node, 1)
    });
    running.go_on();
    let crashed = oracle::finish(running);
    assert_eq!(crashed.region, 0x4300_0000..0x4320_0000);
}

/// Where QEMU's boot stub (hw/arm/boot.c) keeps the address it jumps to.
const STUB_ENTRY: u64 = 0x4000_0020;
const LOADED_BY_QEMU: u64 = 0x4020_0000;

#[test]
fn image_runs_from_any_2_mib_aligned_base() {
    let image = std::fs::read(artefacts::image("kernel.Image")).expect("the kernel's Image");
    for (base, entry) in [(0x4660_0000_u64, Entry::El1), (0x4c80_0000, Entry::El2)] {
        let mut running = Machine::new()
            .memory_mib(256)
            .cpus(2)
            .entry(entry)
            .append("lkdtm=PANIC@100 lkdtm_cpu=1 dump_then=halt")
            .paused()
            .start();
        let loaded = running.memory.read(STUB_ENTRY, 8);
        assert_eq!(
            loaded,
            LOADED_BY_QEMU.to_le_bytes(),
            "QEMU's boot stub is another"
        );
        running.memory.write(base, &image);
        running.memory.write(LOADED_BY_QEMU, &vec![0; image.len()]);
        running.memory.write(STUB_ENTRY, &base.to_le_bytes());
        running.go_on();
        let crashed = oracle::finish(running);
        assert!(
            crashed.report.contains(&format!("image at {base:#x}")),
            "{base:#x}: {}",
            crashed.report
        );
        let trace = backtrace::gdb(&crashed.dump.path, &oracle::elf(), &["bt"]);
        assert!(trace.contains("provoke_crash"), "{base:#x}: {trace}");
    }
}
