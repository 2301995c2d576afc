// SPDX-License-Identifier: MIT OR Apache-2.0
//! One Image that is both kernels: it loads a copy of itself, and that copy dumps what it crashed as.

use std::fs;
use std::ops::Range;

use blackbox::matrix;
use blackbox::partial::{assert_honest, assert_minimal, receive, receive_minimal, second_copy};
use blackbox::{Entry, Machine, artefacts, backtrace, host, oracle, symbols};
use serde_json::json;

fn both() -> Machine {
    Machine::new().kernel(artefacts::image("both.Image"))
}

/// The Image's file.
fn image() -> Vec<u8> {
    fs::read(artefacts::image("both.Image")).expect("both.Image")
}

/// Where initialised data lies in the Image's file.
fn data() -> Range<usize> {
    let elf = artefacts::image("both.elf");
    let offset = |name| symbols::address_of(&elf, name) - symbols::address_of(&elf, "image_begin");
    offset("data_begin") as usize..offset("data_loaded_end") as usize
}

#[test]
fn crash_is_dumped_whole_by_the_binary_that_crashed() {
    let rows = [
        ("EL1, GICv2, 4 x cortex-a72", Entry::El1, 2, "cortex-a72", 4),
        ("EL2, GICv3, 2 x max", Entry::El2, 3, "max", 2),
        ("EL3, GICv2, cortex-a53", Entry::El3, 2, "cortex-a53", 1),
    ];
    let names = rows.map(|(name, ..)| name);
    matrix::for_each(&names, |name| {
        let row = rows.iter().find(|row| row.0 == *name).expect("a row");
        let (_, entry, gic, cpu, cpus) = *row;
        let mut machine = both().entry(entry).gic(gic).cpu(cpu).cpus(cpus);
        if entry == Entry::El3 {
            machine = machine.kernel(artefacts::image("both.elf"));
        }
        let last = cpus - 1;
        let machine = machine.append(&format!("lkdtm=ACCESS_NULL@200 lkdtm_cpu={last}"));
        let (crashed, _) = oracle::compare_with_memory(machine);
        oracle::assert_only_free_pages_are_missing(&crashed);
        assert_eq!(crashed.dump.registers().len(), cpus);
        let elf = artefacts::image("both.elf");
        let theirs = backtrace::gdb(&crashed.dump.path, &elf, &["bt"]);
        assert!(theirs.contains("handle_request"), "{theirs}");
        let ours = host::bt(&crashed.dump.path, &elf);
        assert!(ours.contains("kernel::lkdtm::handle_request"), "{ours}");
    });
}

#[test]
fn copy_in_the_region_is_the_image_file() {
    let running = both().append("crashkernel=8M").start();
    running.console.wait_for("idle, with");
    let image = image();
    let region = oracle::region(&running.console.text());
    let second = region.start + second_copy(&running);
    for start in [region.start, second] {
        let loaded = running.memory.read(start, image.len());
        let differs = loaded.iter().zip(&image).position(|(a, b)| a != b);
        assert_eq!(
            differs, None,
            "first byte of the copy at {start:#x} that differs"
        );
    }
}

#[test]
fn copy_that_is_damaged_is_not_entered() {
    let running =
        blackbox::partial::damage(both().append("dump_then=halt dump_rounds=1"), 0x10, |_| {
            vec![0x1234]
        });
    let crashed = receive_minimal(running);
    assert_minimal(&crashed, 1, "sysrq", "RAM 0x40000000");
    let info = host::info(&crashed.dump.path);
    assert_eq!(
        info["fallback"]["copies"],
        json!(["wrong-digest", "absent"])
    );
}

#[test]
fn copy_that_fails_itself_starts_anew_with_its_initialised_data() {
    for (entry, fault) in [(Entry::El1, "3:panic"), (Entry::El2, "6:abort")] {
        let running = both()
            .entry(entry)
            .cpus(2)
            .append("lkdtm=ACCESS_NULL@150 dump_rounds=1 dump_effort=0 dump_then=halt")
            .append(&format!("dump_fault={fault}"))
            .held_at_first_frame()
            .start();
        running.console.wait_for_hold();
        // The first word is the kernel's, so that the copy does not need it.
        let at = oracle::region(&running.console.text()).start + data().start as u64;
        let loaded = image()[data()][..4].to_vec();
        assert_eq!(running.memory.read(at, 4), loaded);
        running.memory.write(at, &[0xaa; 4]);
        running.console.release();
        let (crashed, said) = receive(running, "Afterimage: halted");
        let skipped = assert_honest(&crashed);
        assert!((4096..=256 << 10).contains(&skipped), "{fault}: {skipped}");
        assert!(said.contains("capture kernel: failed at block"), "{said}");
        assert_eq!(crashed.dump.registers().len(), 2);
        assert_eq!(
            crashed.running.memory.read(at, 4),
            loaded,
            "initialised data after the restart"
        );
    }
}

#[test]
fn region_that_is_too_small_for_it_is_said_and_leaves_a_minimal_dump() {
    let running = both()
        .append("crashkernel=2M lkdtm=PANIC@150 dump_then=halt")
        .start();
    // booting.rst: image_size at 16.
    let size = u64::from_le_bytes(image()[16..24].try_into().expect("eight bytes"));
    running.console.wait_for(&format!(
        "no capture kernel is loaded: image needs {size:#x} bytes"
    ));
    assert_minimal(&receive_minimal(running), 1, "panic", "RAM 0x40000000");
}
