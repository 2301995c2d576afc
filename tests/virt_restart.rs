// SPDX-License-Identifier: MIT OR Apache-2.0
//! A capture kernel that fails itself: it starts anew, leaves out what it failed at, and goes on with the dump.

use std::time::Duration;

use blackbox::partial::{assert_honest, receive};
use blackbox::wait::Deadline;
use blackbox::{Entry, Machine, Running, artefacts, host, oracle, symbols};

/// Longest wait for a host command.
const LIMIT: Duration = Duration::from_secs(55);

fn start(entry: Entry, parameters: &str) -> Running {
    Machine::new()
        .entry(entry)
        .cpus(2)
        .append("lkdtm=ACCESS_NULL@150 dump_rounds=1 dump_effort=0")
        .append(parameters)
        .start()
}

#[test]
fn failure_at_a_block_of_memory_costs_that_block() {
    for (entry, fault) in [(Entry::El1, "3:panic"), (Entry::El2, "6:abort")] {
        let running = start(entry, &format!("dump_then=halt dump_fault={fault}"));
        let (crashed, said) = receive(running, "Afterimage: halted");
        let skipped = assert_honest(&crashed);
        assert!((4096..=256 << 10).contains(&skipped), "{fault}: {skipped}");
        assert!(said.contains("was skipped"), "{fault}: {said}");
        assert!(said.contains("capture kernel: failed at block"), "{said}");
        assert_eq!(crashed.dump.registers().len(), 2);
        let text = crashed.running.console.text();
        assert_eq!(text.matches("the capture kernel itself failed").count(), 1);
    }
}

#[test]
fn failure_while_memory_is_read_costs_the_pages_being_read() {
    for (entry, region) in [(Entry::El1, "2M"), (Entry::El2, "16M")] {
        let append = format!("crashkernel={region} dump_then=halt dump_fault=6:abort:reading");
        let running = start(entry, &append);
        let (crashed, said) = receive(running, "Afterimage: halted");
        let skipped = assert_honest(&crashed);
        assert!((4096..=128 << 10).contains(&skipped), "{skipped}");
        assert!(said.contains("reading memory"), "{said}");
        assert_eq!(crashed.dump.registers().len(), 2);
    }
}

#[test]
fn failure_at_the_notes_costs_those_notes() {
    let running = start(Entry::El2, "dump_then=halt dump_fault=0:abort");
    let (crashed, said) = receive(running, "Afterimage: halted");
    assert_eq!(assert_honest(&crashed), 0);
    assert!(said.contains("is missing in part"), "{said}");
    // Those of the CPU that crashed; the other one's are there.
    assert_eq!(crashed.dump.registers().len(), 1);
}

#[test]
fn capture_kernel_whose_code_changed_is_not_started_again() {
    let running = Machine::new()
        .append("lkdtm=PANIC@150 dump_then=halt dump_rounds=1 dump_fault=6")
        .held_at_first_frame()
        .start();
    running.console.wait_for_hold();
    // Its own build ID, which it does not read.
    let elf = artefacts::image("capture.elf");
    let at = symbols::address_of(&elf, "build_id_begin") - symbols::address_of(&elf, "image_begin");
    let at = oracle::region(&running.console.text()).start + at + 16;
    let byte = running.memory.read(at, 1)[0];
    running.memory.write(at, &[byte ^ 4]);
    running.console.release();
    running.console.wait_for("it is not started again");
    running.console.wait_for("Afterimage: next: Halt");
    running.console.wait_for("Afterimage: halted");
    let text = running.console.text();
    assert_eq!(text.matches("this is the capture kernel").count(), 1);
}

#[test]
fn failure_at_every_block_ends_with_a_reason_and_what_was_to_follow() {
    let mut running = Machine::new()
        .append("lkdtm=PANIC@150 dump_then=poweroff dump_fault=every:abort")
        .extra(&["-no-reboot"])
        .start();
    assert!(running.wait_for_exit().success());
    let (crashed, said) = receive(running, "itself failed 9 times");
    assert!(said.contains("gave up before the end"), "{said}");
    let text = crashed.running.console.text();
    assert_eq!(
        text.matches("the capture kernel itself failed\r").count(),
        9
    );
    assert!(text.contains("Afterimage: next: poweroff"), "{text}");
}

#[test]
fn failure_while_a_host_answers_costs_that_block_only() {
    let running = Machine::new()
        .cpus(2)
        .append("lkdtm=PANIC@600 dump_then=halt dump_fault=6:abort dump_effort=0")
        .start();
    let _bridge = running.console.bridge(&running.dir().join("host"), 0);
    let vmcore = running.dir().join("vmcore");
    let mut host = host::start_receiving(&running.dir().join("host"), &vmcore);
    let ended = || host.try_wait().expect("the host's state");
    let status = Deadline::after(LIMIT).poll(ended);
    // It may have ended by itself in this moment.
    let _ = host.kill();
    let code = status.and_then(|status| status.code());
    assert_eq!(code, Some(3), "{}", running.console.transcript());
    running.console.wait_for("Afterimage: halted");
    running.console.wait_for("received whole");
    let crashed = oracle::judge(running);
    let skipped = assert_honest(&crashed);
    assert!((4096..=256 << 10).contains(&skipped), "{skipped}");
}
