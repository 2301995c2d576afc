// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the crash path takes: time for each of its phases, and stack.

use blackbox::stack_use::{self, StackUse};
use blackbox::{Entry, Machine, host, oracle};
use serde_json::Value;

use crate::region_use;

/// Phases in their order, as `info` names them.
pub(crate) const PHASES: [&str; 8] = [
    "won",
    "stopped",
    "notes",
    "quiesced",
    "verified",
    "jump",
    "capture-entry",
    "first-frame",
];

/// A way to crash.
struct Crash {
    name: &'static str,
    parameters: &'static str,
    is_minimal: bool,
}

const CRASHES: [Crash; 4] = [
    Crash {
        name: "panic",
        parameters: "lkdtm=PANIC@300",
        is_minimal: false,
    },
    Crash {
        name: "NULL write",
        parameters: "lkdtm=ACCESS_NULL@300",
        is_minimal: false,
    },
    Crash {
        name: "NULL write, and another in the crash path",
        parameters: "lkdtm=ACCESS_NULL@300 fault=notes:abort",
        is_minimal: false,
    },
    Crash {
        name: "NULL write, no capture kernel: minimal dump",
        parameters: "lkdtm=ACCESS_NULL@300 capture=none",
        is_minimal: true,
    },
];

/// What one crash took.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) crash: &'static str,
    pub(crate) machine: &'static str,
    /// Microseconds since the fault at the end of each phase that was reached.
    pub(crate) phases: [Option<u64>; PHASES.len()],
    pub(crate) crash_stack: StackUse,
    pub(crate) exception_stack: StackUse,
    /// The capture kernel's, where one ran.
    pub(crate) capture_stack: Option<StackUse>,
}

/// Runs all of them, one after the other.
///
/// # Panics
/// One does not come to its end.
pub(crate) fn measure() -> Vec<Row> {
    let machines = [
        ("EL1, GICv2, 4 CPUs", Entry::El1, 2),
        ("EL2, GICv3, 4 CPUs", Entry::El2, 3),
    ];
    let of_crash = |crash| machines.map(|machine| run(crash, machine));
    CRASHES.iter().flat_map(of_crash).collect()
}

fn run(crash: &Crash, (machine, entry, gic): (&'static str, Entry, u32)) -> Row {
    eprintln!("bench: crash path: {}, {machine}", crash.name);
    let machine_of = Machine::new().cpus(4).entry(entry).gic(gic);
    let running = machine_of
        .append(crash.parameters)
        .append("dump_then=halt dump_rounds=1")
        .start();
    if crash.is_minimal {
        running.console.wait_for("Halted");
        return Row {
            crash: crash.name,
            machine,
            phases: [None; PHASES.len()],
            crash_stack: stack_use::crash_stack(&running.memory, 0),
            exception_stack: stack_use::exception_stack(&running.memory, 0),
            capture_stack: None,
        };
    }
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    let timings = info["timings"].as_array().map_or(&[][..], Vec::as_slice);
    let us_of = |phase| {
        let found = timings.iter().find(|timing| timing["phase"] == phase);
        found.and_then(|timing| timing["us"].as_u64())
    };
    let memory = &crashed.running.memory;
    let image = region_use::image(memory, &crashed.region);
    Row {
        crash: crash.name,
        machine,
        phases: PHASES.map(|phase| us_of(Value::from(phase))),
        crash_stack: stack_use::crash_stack(memory, 0),
        exception_stack: stack_use::exception_stack(memory, 0),
        capture_stack: Some(stack_use::capture_stack(memory, image)),
    }
}
