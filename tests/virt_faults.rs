// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix: every crash that can be provoked, on every kind of machine, with the class that is expected of each.
//!
//! A class is said beforehand; a dump that is expected whole equals QEMU's own memory. A sample runs always (each crash on one
//! kind of machine, each kind with several crashes), all of it under `AFTERIMAGE_SOAK=1`.

use std::fmt;
use std::sync::Mutex;

use blackbox::{Entry, Machine, host, matrix, oracle};
use serde_json::Value;

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

/// What has to come of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A whole dump, whose reason is of this kind.
    Whole(&'static str),
    /// The same, but one CPU is named as not responding: its registers are nowhere to be had.
    WithoutOneCpu(&'static str),
    /// The same, and that CPU writes on: what it writes is listed as memory that changed while it was dumped.
    Moving(&'static str),
    /// The kernel says so and runs on: no crash.
    RunsOn(&'static str),
}

use Expected::{Moving, RunsOn, Whole, WithoutOneCpu};

/// The kind of a crash that somebody asks for, where the machine itself would hang for good.
const ASKED: &str = "sysrq";
const QUICK: &str = "watchdog_thresh=1 hung_task_timeout_secs=1";

/// Name, further parameters, what is expected at EL1 and at EL2 (where the stub is).
const FAULTS: [(&str, &str, Expected, Expected); 41] = [
    ("PANIC", "", Whole("panic"), Whole("panic")),
    ("PANIC_STOP_IRQOFF", "", Whole("panic"), Whole("panic")),
    ("PANIC_IN_HARDIRQ", "", Whole("panic"), Whole("panic")),
    ("BUG", "", Whole("exception"), Whole("exception")),
    ("BUG_IN_HARDIRQ", "", Whole("exception"), Whole("exception")),
    (
        "WARNING",
        "",
        RunsOn("lkdtm: WARNING"),
        RunsOn("lkdtm: WARNING"),
    ),
    ("WARNING", "panic_on_warn", Whole("warn"), Whole("warn")),
    (
        "WARNING_MESSAGE",
        "panic_on_warn",
        Whole("warn"),
        Whole("warn"),
    ),
    ("EXCEPTION", "", Whole("exception"), Whole("exception")),
    ("ACCESS_NULL", "", Whole("exception"), Whole("exception")),
    ("UNALIGNED", "", Whole("exception"), Whole("exception")),
    ("WRITE_RO", "", Whole("exception"), Whole("exception")),
    ("WRITE_KERN", "", Whole("exception"), Whole("exception")),
    ("EXEC_DATA", "", Whole("exception"), Whole("exception")),
    ("EXEC_RODATA", "", Whole("exception"), Whole("exception")),
    ("EXEC_STACK", "", Whole("exception"), Whole("exception")),
    ("EXEC_KMALLOC", "", Whole("exception"), Whole("exception")),
    ("EXEC_NULL", "", Whole("exception"), Whole("exception")),
    (
        "EXHAUST_STACK",
        "",
        Whole("stack-overflow"),
        Whole("stack-overflow"),
    ),
    ("CORRUPT_STACK", "", Whole("exception"), Whole("exception")),
    (
        "STACK_GUARD_PAGE_LEADING",
        "",
        Whole("stack-overflow"),
        Whole("stack-overflow"),
    ),
    (
        "STACK_GUARD_PAGE_TRAILING",
        "",
        Whole("stack-overflow"),
        Whole("stack-overflow"),
    ),
    ("OVERFLOW_SIGNED", "", Whole("panic"), Whole("panic")),
    ("OVERFLOW_UNSIGNED", "", Whole("panic"), Whole("panic")),
    ("ARRAY_BOUNDS", "", Whole("panic"), Whole("panic")),
    ("LOOP", "", Whole(ASKED), Whole(ASKED)),
    ("LOOP_TOUCHING", QUICK, Whole(ASKED), Whole(ASKED)),
    (
        "SOFTLOCKUP",
        QUICK,
        Whole("soft-lockup"),
        Whole("soft-lockup"),
    ),
    (
        "HARDLOCKUP",
        QUICK,
        Whole("hard-lockup"),
        Whole("hard-lockup"),
    ),
    (
        "HARDLOCKUP_ALL",
        QUICK,
        // It counts its rounds on its stack.
        Moving("hard-lockup"),
        Whole("hard-lockup"),
    ),
    (
        "SPINLOCKUP",
        QUICK,
        Whole("spin-lockup"),
        Whole("spin-lockup"),
    ),
    (
        "SPINLOCKUP_HELD",
        QUICK,
        Whole("spin-lockup"),
        Whole("spin-lockup"),
    ),
    ("HUNG_TASK", QUICK, Whole("hung-task"), Whole("hung-task")),
    (
        "WRITE_CRASHKERNEL",
        "",
        Whole("region-protection"),
        Whole("region-protection"),
    ),
    // Without a stub nothing stands before a mapped region but the digest.
    (
        "WRITE_CRASHKERNEL_MAPPED",
        "",
        RunsOn("did not crash"),
        Whole("region-protection"),
    ),
    ("PATTERN", "", Whole(ASKED), Whole(ASKED)),
    ("PATTERN_MASKED", "", WithoutOneCpu(ASKED), Whole(ASKED)),
    ("COUNT_MASKED", "", Moving(ASKED), Whole(ASKED)),
    ("FP", "", Whole("exception"), Whole("exception")),
    ("FP_MASKED", "", WithoutOneCpu(ASKED), Whole(ASKED)),
    ("CORRUPT_PGTABLE", "", Whole("panic"), Whole("panic")),
];
/// What one CPU alone cannot do: see that it hangs itself, hear a request with interrupts masked, or keep a lock from itself.
/// QEMU's `virt` has no watchdog that would; these are the only rows that the matrix lacks.
const NEEDS_ANOTHER_CPU: [&str; 6] = [
    "HARDLOCKUP",
    "HARDLOCKUP_ALL",
    "SPINLOCKUP_HELD",
    "PATTERN_MASKED",
    "COUNT_MASKED",
    "FP_MASKED",
];

/// One row of the matrix.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    parameters: &'static str,
    expected: Expected,
    entry: Entry,
    gic: u32,
    cpus: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            parameters,
            entry,
            gic,
            cpus,
            ..
        } = self;
        write!(f, "{name} {parameters} | {entry:?}, GICv{gic}, {cpus} CPUs")
    }
}

/// Every crash on every kind of machine.
fn all_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, parameters, at_el1, at_el2) in FAULTS {
        for (entry, expected) in [(Entry::El1, at_el1), (Entry::El2, at_el2)] {
            for gic in [2, 3] {
                rows.extend([1, 4].map(|cpus| Row {
                    name,
                    parameters,
                    expected,
                    entry,
                    gic,
                    cpus,
                }));
            }
        }
    }
    rows.retain(|row| row.cpus > 1 || !NEEDS_ANOTHER_CPU.contains(&row.name));
    rows
}

/// One row for each crash, each on another kind of machine than the one before.
fn sample() -> Vec<Row> {
    let rows = all_rows();
    let of_fault = |number: usize, (name, parameters): (&str, &str)| {
        let mine: Vec<Row> = rows
            .iter()
            .filter(|row| row.name == name && row.parameters == parameters)
            .copied()
            .collect();
        mine[number * 3 % mine.len()]
    };
    let faults = FAULTS.iter().enumerate();
    faults
        .map(|(number, (name, parameters, ..))| of_fault(number, (name, parameters)))
        .collect()
}

fn machine(row: &Row) -> Machine {
    Machine::new()
        .entry(row.entry)
        .gic(row.gic)
        .cpus(row.cpus)
        .append(&format!(
            "lkdtm={}@150 lkdtm_cpu={} {} dump_then=halt dump_rounds=1",
            row.name,
            row.cpus - 1,
            row.parameters
        ))
}

/// Runs a row and returns what was found.
fn check(row: &Row) -> String {
    let mut running = machine(row).start();
    let kind = match row.expected {
        RunsOn(said) => {
            let from = running.console.wait_for_from(said, 0);
            running.console.send(b"~~~SysRqk");
            running.console.wait_for_from("sysrq: crash region", from);
            let has_crashed = running.console.text().contains("has crashed");
            assert!(running.is_alive() && !has_crashed, "{row}");
            return format!("runs on: {said}");
        }
        Whole(kind) | WithoutOneCpu(kind) | Moving(kind) => kind,
    };
    if kind == ASKED {
        running.console.wait_for("lkdtm: provoking");
        running.console.send(SYSRQ_CRASH);
    }
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    let is_moving = matches!(row.expected, Moving(_));
    let mut memory = crashed.running.memory.pages();
    let moved = host::moved(&info);
    assert_eq!(is_moving, !moved.is_empty(), "{row}: {}", info["moved"]);
    for (at, page) in crashed.dump.pages() {
        if moved.iter().any(|range| range.contains(&at)) {
            memory.insert(at, page);
        }
    }
    oracle::assert_equals_memory(&crashed, &memory);
    oracle::assert_only_free_pages_are_missing(&crashed);
    let (verdict, status) = host::verify(&crashed.dump.path);
    assert_eq!(status, Some(0), "{row}: {verdict}");
    assert_eq!(
        info["reason"]["kind"],
        Value::from(kind),
        "{row}: {}",
        info["reason"]
    );
    let silent = usize::from(is_moving || matches!(row.expected, WithoutOneCpu(_)));
    let stops = info["stops"].as_array().map_or(&[][..], Vec::as_slice);
    let not_responding = stops
        .iter()
        .filter(|stop| stop["status"] == "not-responding");
    assert_eq!(not_responding.count(), silent, "{row}: {}", info["stops"]);
    // The program's own threads are listed, too, from 1001 on.
    let all = crashed.dump.registers();
    let registers = all.iter().filter(|found| found.pid <= 1000).count();
    assert_eq!(registers, row.cpus - silent, "{row}: CPUs with registers");
    assert!(
        host::dmesg(&crashed.dump.path).contains("crash on CPU"),
        "{row}: the log"
    );
    format!("whole: {kind}")
}

#[test]
fn every_crash_ends_in_the_class_that_was_said_beforehand() {
    let is_soak = matrix::is_soak();
    let rows = if is_soak { all_rows() } else { sample() };
    let table = Mutex::new(Vec::new());
    matrix::for_each(&rows, |row| {
        let found = check(row);
        let line = format!("| {row} | {:?} | {found} |", row.expected);
        table.lock().expect("the table").push(line);
    });
    let mut table = table.into_inner().expect("the table");
    table.sort();
    println!(
        "| crash | machine | expected | found |\n|---|---|---|---|\n{}",
        table.join("\n")
    );
    assert_eq!(table.len(), rows.len(), "rows that were judged");
}

/// The kernel lists its names when it is asked for one that it does not know.
#[test]
fn matrix_names_every_crash_that_the_kernel_knows() {
    let running = Machine::new().append("lkdtm=NO_SUCH_NAME").start();
    running.console.wait_for("idle, with");
    let text = running.console.text();
    let line = text
        .lines()
        .find(|line| line.contains("lkdtm=NO_SUCH_NAME"));
    let (_, names) = line
        .and_then(|line| line.split_once("known are: "))
        .unwrap_or_else(|| panic!("no list of names:\n{text}"));
    let unnamed: Vec<&str> = names
        .split([',', ' '])
        .map(str::trim)
        .filter(|name| !name.is_empty() && !FAULTS.iter().any(|fault| fault.0 == *name))
        .collect();
    assert!(unnamed.is_empty(), "crashes without a row: {unnamed:?}");
}
