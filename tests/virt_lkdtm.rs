// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every crash that can be provoked: gdb and `afterimage bt` name the same functions and lines, down to the one at fault.

use std::fmt;

use blackbox::backtrace::{self, Frame};
use blackbox::oracle::{self, Crashed};
use blackbox::{Entry, Machine, host, matrix, symbols};
use serde_json::json;

/// The three calls above each crash, innermost first.
const CALLERS: [&str; 3] = [
    "kernel::lkdtm::provoke_crash",
    "kernel::lkdtm::handle_request",
    "kernel::lkdtm::prepare_request",
];

/// The break sequence that stands for BREAK, and the command to crash.
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

fn machine(name: &str) -> Machine {
    Machine::new().cpus(2).append(&format!("lkdtm={name}@150"))
}

/// Frames of the crashed CPU, about which gdb and the host command agree.
fn agreed_frames(crashed: &Crashed) -> Vec<Frame> {
    let (vmcore, elf) = (&crashed.dump.path, oracle::elf());
    backtrace::assert_readelf_accepts(vmcore);
    let theirs = backtrace::gdb(vmcore, &elf, &["bt"]);
    let ours = host::bt(vmcore, &elf);
    let (gdb, bt) = (backtrace::frames(&theirs), backtrace::frames(&ours));
    assert!(!gdb.is_empty(), "gdb prints no frame:\n{theirs}");
    assert_eq!(
        backtrace::comparable(&bt),
        backtrace::comparable(&gdb),
        "afterimage bt:\n{ours}\ngdb:\n{theirs}"
    );
    bt
}

fn assert_reaches(frames: &[Frame], functions: &[&str]) {
    let names: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
    let mut rest = names.iter();
    let missing = functions
        .iter()
        .find(|wanted| !rest.any(|name| name == *wanted));
    assert_eq!(missing, None, "in this order in {names:#?}");
}

/// Crashes by `name` on CPU 1, at EL1 and at EL2, and returns the first of both dumps.
fn check(name: &str, kind: &str, provoker: &[&str]) {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(machine(name).entry(entry).append("lkdtm_cpu=1"));
        let frames = agreed_frames(&crashed);
        let path: Vec<&str> = provoker.iter().chain(&CALLERS).copied().collect();
        assert_reaches(&frames, &path);
        assert_eq!(
            host::info(&crashed.dump.path)["reason"]["kind"],
            json!(kind),
            "{entry:?}"
        );
        // The crashing CPU comes first.
        assert_eq!(
            crashed.dump.registers().first().map(|first| first.pid),
            Some(2),
            "{entry:?}"
        );
    }
}

#[test]
fn panic_is_traced_to_its_line() {
    check("PANIC", "panic", &["core::panicking::panic_fmt"]);
}

#[test]
fn bug_is_traced_to_its_line() {
    check("BUG", "exception", &["machine::provoke::breakpoint"]);
}

#[test]
fn warning_with_panic_on_warn_is_traced_to_its_line() {
    let crashed = oracle::crash(machine("WARNING").append("lkdtm_cpu=1 panic_on_warn"));
    assert_reaches(&agreed_frames(&crashed), &CALLERS);
    assert!(
        crashed.report.contains("lkdtm: WARNING"),
        "{}",
        crashed.report
    );
}

#[test]
fn warning_without_panic_on_warn_lets_the_machine_run_on() {
    let mut running = machine("WARNING").start();
    running.console.wait_for("lkdtm: WARNING");
    running.console.send(b"~~~SysRqk");
    running.console.wait_for("sysrq: crash region");
    assert!(running.is_alive());
    assert!(
        !running.console.text().contains("has crashed"),
        "{}",
        running.console.transcript()
    );
}

#[test]
fn undefined_instruction_is_traced_to_its_line() {
    check(
        "EXCEPTION",
        "exception",
        &["machine::provoke::undefined_instruction"],
    );
}

#[test]
fn null_write_is_traced_to_its_line() {
    check("ACCESS_NULL", "exception", &["machine::provoke::write_to"]);
}

#[test]
fn unaligned_exclusive_is_traced_to_its_line() {
    check("UNALIGNED", "exception", &["lkdtm_unaligned_exclusive"]);
}

#[test]
fn write_to_read_only_data_is_traced_to_its_line() {
    check("WRITE_RO", "exception", &["machine::provoke::write_to"]);
}

#[test]
fn execution_of_data_is_traced_to_its_line() {
    check(
        "EXEC_DATA",
        "exception",
        &["lkdtm_data_area", "machine::provoke::execute_data"],
    );
}

#[test]
fn exhausted_stack_is_traced_to_the_function_that_recursed() {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(machine("EXHAUST_STACK").entry(entry).append("lkdtm_cpu=1"));
        let frames = agreed_frames(&crashed);
        let recursion = |frame: &&Frame| frame.function.starts_with("machine::provoke::");
        assert!(
            frames.iter().filter(recursion).count() > 10,
            "{} frames",
            frames.len()
        );
        assert_reaches(&frames, &CALLERS);
    }
}

#[test]
fn corrupt_stack_shows_the_bad_return_address_and_where_unwinding_stopped() {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(machine("CORRUPT_STACK").entry(entry).append("lkdtm_cpu=1"));
        let frames = agreed_frames(&crashed);
        assert_eq!(
            frames.first().map(|frame| frame.function.as_str()),
            Some("??"),
            "{frames:?}"
        );
        let bt = host::bt(&crashed.dump.path, &oracle::elf());
        assert!(
            bt.contains("0x4141414141414140"),
            "the bad return address in:\n{bt}"
        );
        assert!(
            bt.contains("Backtrace stopped:"),
            "where unwinding stopped in:\n{bt}"
        );
        assert_eq!(crashed.dump.registers_of(1).pc, 0x4141_4141_4141_4140);
    }
}

#[test]
fn endless_loop_is_ended_by_the_sysrq_sequence() {
    for entry in [Entry::El1, Entry::El2] {
        let mut running = machine("LOOP")
            .entry(entry)
            .append("dump_then=halt dump_rounds=1")
            .start();
        running.console.wait_for("provoking Loop");
        running.wait_for_cpu_in(0, &symbols::code_of(&oracle::elf(), "endless_loop"));
        running.console.send(SYSRQ_CRASH);
        let crashed = oracle::finish(running);
        assert_eq!(
            host::info(&crashed.dump.path)["reason"]["kind"],
            json!("sysrq")
        );
        let frames = agreed_frames(&crashed);
        let path = ["exception_entry", "kernel::lkdtm::endless_loop"];
        assert_reaches(&frames, &[&path, CALLERS.as_slice()].concat());
    }
}

#[test]
fn endless_loop_is_ended_by_a_break() {
    let mut running = machine("LOOP")
        .append("dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for("provoking Loop");
    running.wait_for_cpu_in(0, &symbols::code_of(&oracle::elf(), "endless_loop"));
    running
        .qmp
        .execute("chardev-send-break", json!({ "id": "line" }));
    running.console.send(b"c");
    let crashed = oracle::finish(running);
    assert_reaches(&agreed_frames(&crashed), &["kernel::lkdtm::endless_loop"]);
}

/// A name, the kind of its reason, and a part of its text.
struct Named(&'static str, &'static str, &'static str);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[test]
fn further_names_of_lkdtm_are_crashes_of_their_kind() {
    let rows = [
        Named("WARNING_MESSAGE", "warn", "lkdtm: WARNING"),
        Named("PANIC_IN_HARDIRQ", "panic", "lkdtm: PANIC_IN_HARDIRQ"),
        Named("PANIC_STOP_IRQOFF", "panic", "lkdtm: PANIC_STOP_IRQOFF"),
        Named("BUG_IN_HARDIRQ", "exception", "BRK while handling"),
        Named("OVERFLOW_SIGNED", "panic", "attempt to add with overflow"),
        Named("OVERFLOW_UNSIGNED", "panic", "attempt to add with overflow"),
        Named("ARRAY_BOUNDS", "panic", "the len is 8 but the index is 8"),
        Named("WRITE_KERN", "exception", "permission fault"),
        Named("EXEC_RODATA", "exception", "instruction abort"),
        Named("EXEC_STACK", "exception", "instruction abort"),
        Named("EXEC_KMALLOC", "exception", "instruction abort"),
        Named("EXEC_NULL", "exception", "instruction abort at 0x0"),
        Named("STACK_GUARD_PAGE_LEADING", "stack-overflow", "guard page"),
        Named("STACK_GUARD_PAGE_TRAILING", "stack-overflow", "guard page"),
    ];
    matrix::for_each(&rows, |Named(name, kind, text)| {
        let crashed = oracle::crash(machine(name).append("lkdtm_cpu=1 panic_on_warn"));
        let reason = host::info(&crashed.dump.path)["reason"].clone();
        assert_eq!(reason["kind"], json!(kind), "{reason}");
        assert!(
            reason["text"]
                .as_str()
                .is_some_and(|found| found.contains(text)),
            "{reason}"
        );
        assert_eq!(crashed.dump.registers().len(), 2, "registers of both CPUs");
    });
}

#[test]
fn kernel_log_in_the_dump_ends_with_the_crash() {
    let crashed = oracle::crash(machine("ACCESS_NULL").append("lkdtm_cpu=1"));
    let log = host::dmesg(&crashed.dump.path);
    // What comes later races with the crash on a slow machine.
    assert!(log.contains("capture kernel armed"), "{log}");
    assert!(
        log.lines()
            .last()
            .is_some_and(|line| line.contains("crash on CPU 1")),
        "{log}"
    );
}
