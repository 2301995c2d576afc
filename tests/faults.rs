// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that can be provoked, what is expected of each beforehand, and how what came of one is judged.

use serde_json::Value;

use crate::machine::Running;
use crate::{host, oracle};

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

/// What has to come of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
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
pub const FAULTS: [(&str, &str, Expected, Expected); 41] = [
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
/// QEMU's machines have no watchdog that would; these are the only rows that the matrices lack.
pub const NEEDS_ANOTHER_CPU: [&str; 6] = [
    "HARDLOCKUP",
    "HARDLOCKUP_ALL",
    "SPINLOCKUP_HELD",
    "PATTERN_MASKED",
    "COUNT_MASKED",
    "FP_MASKED",
];

/// What came of a fault.
#[derive(Debug)]
pub struct Outcome {
    /// In words.
    pub found: String,
    /// The machine with its dump, if it crashed.
    pub crashed: Option<oracle::Crashed>,
}

/// Waits for what comes of the fault that `running` provokes, and judges it. `row` is what a failure is called, `cpus` how many run.
///
/// # Panics
/// It is not what was expected.
#[must_use]
pub fn judge(mut running: Running, expected: Expected, cpus: usize, row: &str) -> Outcome {
    let kind = match expected {
        RunsOn(said) => {
            let from = running.console.wait_for_from(said, 0);
            running.console.send(b"~~~SysRqk");
            running.console.wait_for_from("sysrq: crash region", from);
            let has_crashed = running.console.text().contains("has crashed");
            assert!(running.is_alive() && !has_crashed, "{row}");
            return Outcome {
                found: format!("runs on: {said}"),
                crashed: None,
            };
        }
        Whole(kind) | WithoutOneCpu(kind) | Moving(kind) => kind,
    };
    if kind == ASKED {
        running.console.wait_for("lkdtm: provoking");
        running.console.send(SYSRQ_CRASH);
    }
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    let is_moving = matches!(expected, Moving(_));
    let mut memory = crashed.running.memory.pages();
    let moved = host::moved(&info);
    assert_eq!(is_moving, !moved.is_empty(), "{row}: {}", info["moved"]);
    for (at, page) in crashed.dump.pages() {
        if moved.iter().any(|range| range.contains(&at)) {
            memory.insert(at, page);
        }
    }
    oracle::assert_equals_memory(&crashed, &memory);
    let (verdict, status) = host::verify(&crashed.dump.path);
    assert_eq!(status, Some(0), "{row}: {verdict}");
    assert_eq!(
        info["reason"]["kind"],
        Value::from(kind),
        "{row}: {}",
        info["reason"]
    );
    let silent = usize::from(is_moving || matches!(expected, WithoutOneCpu(_)));
    let stops = info["stops"].as_array().map_or(&[][..], Vec::as_slice);
    let not_responding = stops
        .iter()
        .filter(|stop| stop["status"] == "not-responding");
    assert_eq!(not_responding.count(), silent, "{row}: {}", info["stops"]);
    // The program's own threads are listed, too, from 1001 on.
    let all = crashed.dump.registers();
    let registers = all.iter().filter(|found| found.pid <= 1000).count();
    assert_eq!(registers, cpus - silent, "{row}: CPUs with registers");
    assert!(
        host::dmesg(&crashed.dump.path).contains("crash on CPU"),
        "{row}: the log"
    );
    Outcome {
        found: format!("whole: {kind}"),
        crashed: Some(crashed),
    }
}
