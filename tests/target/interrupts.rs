// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of the tick and of the other CPUs, from where the program stands. That the tick reaches idle CPUs shows in
//! a dump: judge.py reads it there.
#![no_std]
#![no_main]

use harness::{check, check_eq};
use kernel::Boot;
use machine::{arch, percpu};

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [
        interrupts_are_open,
        tick_wakes_a_waiting_cpu,
        tick_waits_while_interrupts_are_masked,
        program_runs_on_the_first_cpu,
        cpus_stay_within_their_stacks,
    ],
}

fn interrupts_are_open(_: &Boot) -> harness::Result {
    check!(!arch::is_irq_masked());
    arch::without_irq(|| check_masked(true))?;
    check_masked(false)
}

fn check_masked(expected: bool) -> harness::Result {
    check_eq!(arch::is_irq_masked(), expected);
    Ok(())
}

fn tick_wakes_a_waiting_cpu(_: &Boot) -> harness::Result {
    // Ten ticks of 10 ms; ten times that is slack for a busy host. Without a tick the wait never ends.
    let start = arch::counter();
    for _ in 0..10 {
        arch::wait_for_interrupt();
    }
    let us = arch::ticks_to_us(arch::counter() - start);
    check!(us < 1_000_000, "ten ticks took {us} us");
    Ok(())
}

fn tick_waits_while_interrupts_are_masked(_: &Boot) -> harness::Result {
    // A pending interrupt ends the wait although it is masked, and is taken afterwards: the tick goes on.
    arch::without_irq(arch::wait_for_interrupt);
    arch::wait_for_interrupt();
    Ok(())
}

fn program_runs_on_the_first_cpu(_: &Boot) -> harness::Result {
    check_eq!(percpu::current_slot(), 0);
    Ok(())
}

fn cpus_stay_within_their_stacks(boot: &Boot) -> harness::Result {
    check!(boot.cpus() >= 1);
    check!(
        boot.cpus() <= percpu::capacity(),
        "{} CPUs and {} stacks",
        boot.cpus(),
        percpu::capacity()
    );
    check!(percpu::stacks(percpu::capacity()).is_none());
    Ok(())
}
