// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that can be provoked, what is expected of each beforehand, and how what came of one is judged.

use std::ops::Range;

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

/// Crashes that somebody has to ask for, to help with, or to find, and those after which the machine runs on: CPU 0 stays as it is for them,
/// whatever the other CPUs are put into.
pub const NEEDS_CPU_0: [&str; 13] = [
    "WARNING",
    "WARNING_MESSAGE",
    "LOOP",
    "LOOP_TOUCHING",
    "HARDLOCKUP",
    "HARDLOCKUP_ALL",
    "SPINLOCKUP_HELD",
    "HUNG_TASK",
    "WRITE_CRASHKERNEL_MAPPED",
    "PATTERN",
    "PATTERN_MASKED",
    "COUNT_MASKED",
    "FP_MASKED",
];

/// What the CPUs are put into that do not crash: the words of `lkdtm_secondaries=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secondaries {
    /// They idle.
    Idle,
    /// A loop with all of DAIF masked.
    Masked,
    /// A loop with interrupts masked, as whoever holds the locks of log, console, heap, threads or a program.
    Locks,
}

impl Secondaries {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idle, Self::Masked, Self::Locks];

    fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Masked => "masked",
            Self::Locks => "locks",
        }
    }
}

/// The CPUs of a machine, whose last one provokes a crash.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// How many run.
    pub count: usize,
    /// What the others are put into.
    pub others: Secondaries,
    /// Whether a CPU with all of DAIF masked can be stopped: where the stub is.
    pub has_stub: bool,
}

impl Cpus {
    /// CPUs whose others idle.
    #[must_use]
    pub fn idle(count: usize) -> Self {
        Self {
            count,
            others: Secondaries::Idle,
            has_stub: false,
        }
    }

    /// The parameters for this, for the crash `name`.
    ///
    /// A CPU that masks interrupts is itself a hard lockup after a while. Where another find is expected, it is told not to be a crash.
    #[must_use]
    pub fn parameters(&self, name: &str) -> String {
        let last = self.count.saturating_sub(1);
        match self.others {
            Secondaries::Idle => format!("lkdtm_cpu={last}"),
            others if name.starts_with("HARDLOCKUP") => {
                format!("lkdtm_cpu={last} lkdtm_secondaries={}", others.word())
            }
            others => format!(
                "lkdtm_cpu={last} lkdtm_secondaries={} hardlockup_panic=0",
                others.word()
            ),
        }
    }

    /// Which are in that state when `name` crashes; none that idle.
    fn held(&self, name: &str) -> Range<usize> {
        let last = self.count.saturating_sub(1);
        match self.others {
            Secondaries::Idle => 0..0,
            _ if NEEDS_CPU_0.contains(&name) => 1.min(last)..last,
            _ => 0..last,
        }
    }

    /// How many of them leave no registers, since nothing stops them.
    fn silent(&self, name: &str) -> usize {
        let is_silent = self.others == Secondaries::Masked && !self.has_stub;
        self.held(name).len() * usize::from(is_silent)
    }

    /// Asserts that the kernel counted the others in that state.
    fn assert_counted(&self, report: &str, name: &str, row: &str) {
        let (held, word) = (self.held(name).len(), self.others.word());
        let said = format!("lkdtm_secondaries={word}: {held} CPUs are in it");
        let is_said = report.contains(&said);
        let is_wanted = self.others != Secondaries::Idle;
        assert_eq!(is_said, is_wanted, "{row}: {said:?} in\n{report}");
    }

    /// Asserts that the others were in that state, as their registers and the log show it.
    fn assert_held(&self, crashed: &oracle::Crashed, name: &str, row: &str) {
        let held = self.held(name);
        // PSTATE.D, A, I, F; D is masked from boot on.
        let (bits, wanted) = match self.others {
            Secondaries::Masked => (0x3c0, 0x3c0),
            _ => (0x1c0, 0x80),
        };
        let registers = crashed.dump.registers();
        for found in registers.iter().filter(|found| found.pid <= 1000) {
            let is_held = held.contains(&(found.pid as usize - 1));
            assert!(
                !is_held || found.pstate & bits == wanted,
                "{row}: CPU {} has PSTATE {:#x}",
                found.pid - 1,
                found.pstate
            );
        }
        // Who holds the log's lock when it is stopped takes the last line along.
        let is_logged = host::dmesg(&crashed.dump.path).contains("crash on CPU");
        let is_log_free = self.others != Secondaries::Locks || held.is_empty();
        assert_eq!(is_logged, is_log_free, "{row}: the log's last line");
    }
}

/// What came of a fault.
#[derive(Debug)]
pub struct Outcome {
    /// In words.
    pub found: String,
    /// The machine with its dump, if it crashed.
    pub crashed: Option<oracle::Crashed>,
}

/// Waits for what comes of the fault `name` that `running` provokes, and judges it. `row` is what a failure is called.
///
/// # Panics
/// It is not what was expected.
#[must_use]
pub fn judge(
    mut running: Running,
    name: &str,
    expected: Expected,
    cpus: &Cpus,
    row: &str,
) -> Outcome {
    let kind = match expected {
        RunsOn(said) => {
            let from = running.console.wait_for_from(said, 0);
            running.console.send(b"~~~SysRqk");
            running.console.wait_for_from("sysrq: crash region", from);
            let has_crashed = running.console.text().contains("has crashed");
            assert!(running.is_alive() && !has_crashed, "{row}");
            cpus.assert_counted(&running.console.text(), name, row);
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
    let silent = usize::from(is_moving || matches!(expected, WithoutOneCpu(_))) + cpus.silent(name);
    let stops = info["stops"].as_array().map_or(&[][..], Vec::as_slice);
    let not_responding = stops
        .iter()
        .filter(|stop| stop["status"] == "not-responding");
    assert_eq!(not_responding.count(), silent, "{row}: {}", info["stops"]);
    // The program's own threads are listed, too, from 1001 on.
    let all = crashed.dump.registers();
    let registers = all.iter().filter(|found| found.pid <= 1000).count();
    assert_eq!(registers, cpus.count - silent, "{row}: CPUs with registers");
    cpus.assert_counted(&crashed.report, name, row);
    cpus.assert_held(&crashed, name, row);
    Outcome {
        found: format!("whole: {kind}"),
        crashed: Some(crashed),
    }
}
