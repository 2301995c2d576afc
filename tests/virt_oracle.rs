// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dump equals QEMU's own memory, byte for byte, on every kind of machine.

use blackbox::matrix::{self, Row};
use blackbox::{Entry, Machine, oracle};

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
