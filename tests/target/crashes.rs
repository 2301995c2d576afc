// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties that end the machine: what must be fatal is. judge.py boots each by its name and judges the dump.
#![no_std]
#![no_main]

extern crate alloc;

use harness::check;
use kernel::{Boot, crash, threads};
use machine::provoke;

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    crashes: [
        panic_is_fatal,
        trigger_is_fatal,
        write_to_null_is_fatal,
        write_to_read_only_data_is_fatal,
        execution_of_data_is_fatal,
        stack_overflow_is_fatal,
        write_to_the_crash_region_is_fatal,
        thread_with_unreadable_registers_is_left_out,
        failed_allocation_is_fatal,
        crash_after_idle_shows_the_tick_on_all_cpus,
    ],
}

fn panic_is_fatal(_: &Boot) -> harness::Result {
    panic!("on purpose")
}

fn trigger_is_fatal(_: &Boot) -> harness::Result {
    crash::trigger("asked for")
}

fn write_to_null_is_fatal(_: &Boot) -> harness::Result {
    provoke::write_null();
    Ok(())
}

fn write_to_read_only_data_is_fatal(_: &Boot) -> harness::Result {
    provoke::write_read_only();
    Ok(())
}

fn execution_of_data_is_fatal(_: &Boot) -> harness::Result {
    provoke::execute_data();
    Ok(())
}

fn stack_overflow_is_fatal(_: &Boot) -> harness::Result {
    check!(provoke::exhaust_stack() == 0, "the stack did not end");
    Ok(())
}

fn write_to_the_crash_region_is_fatal(_: &Boot) -> harness::Result {
    let Some(region) = machine::region::active() else {
        return Err(harness::Failure::new(format_args!(
            "there is no crash region"
        )));
    };
    provoke::write_to_region(&region);
    Ok(())
}

/// The registers of the thread cannot be read: its context is no mapped memory. The crash comes from an exception, so that the
/// guarded read faults on the stack that exceptions are taken on.
fn thread_with_unreadable_registers_is_left_out(_: &Boot) -> harness::Result {
    static STACK: [u8; 64] = [0; 64];
    let _thread = threads::register(
        "lost",
        STACK.as_ptr_range(),
        core::ptr::without_provenance(0x10),
    )?;
    provoke::write_null();
    Ok(())
}

fn failed_allocation_is_fatal(boot: &Boot) -> harness::Result {
    let bytes = alloc::vec![0_u8; boot.ram_bytes() as usize];
    check!(bytes.is_empty(), "more than all RAM was allocated");
    Ok(())
}

fn crash_after_idle_shows_the_tick_on_all_cpus(boot: &Boot) -> harness::Result {
    // 20 ticks: each wakes the idle CPUs, which count their rounds.
    for _ in 0..20 {
        machine::arch::wait_for_interrupt();
    }
    log::info!("{} CPUs idled", boot.cpus());
    crash::trigger("idled")
}
