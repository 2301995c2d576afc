// SPDX-License-Identifier: MIT OR Apache-2.0
//! SErrors: one that crashes the kernel, and one that is still pending when the capture kernel starts (E16).
//!
//! QEMU has none of its own. A hypervisor of a few instructions (tests/el2_shim.s) makes virtual ones pending when the kernel asks.

use std::path::Path;

use blackbox::process::run;
use blackbox::{Machine, host, oracle};
use std::process::Command;
use std::time::Duration;

/// Longest wait for a tool.
const LIMIT: Duration = Duration::from_secs(20);

/// Assembles the hypervisor into `dir` and returns QEMU's arguments that start it first.
fn shim(dir: &Path) -> [String; 2] {
    let (object, binary) = (dir.join("shim.o"), dir.join("shim.bin"));
    let source = blackbox::artefacts::root().join("tests/el2_shim.s");
    let mut assemble = Command::new("aarch64-linux-gnu-as");
    let _ = run(assemble.arg("-o").arg(&object).arg(source), LIMIT).success();
    let mut copy = Command::new("aarch64-linux-gnu-objcopy");
    let _ = run(copy.args(["-O", "binary"]).arg(&object).arg(&binary), LIMIT).success();
    let loader = format!(
        "loader,file={},addr=0x0,cpu-num=0,force-raw=on",
        binary.display()
    );
    ["-device".to_owned(), loader]
}

fn crash(lkdtm: &str) -> oracle::Crashed {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let arguments = shim(dir.path());
    // The kernel is entered at EL1: the hypervisor has EL2.
    let running = Machine::new()
        .entry(blackbox::Entry::El2)
        .append(lkdtm)
        .append("dump_then=halt dump_rounds=1")
        .extra(&arguments.each_ref().map(String::as_str))
        .start();
    running.console.wait_for("entered at EL1");
    let crashed = oracle::finish(running);
    oracle::assert_equals_memory(&crashed, &crashed.running.memory.pages());
    oracle::assert_only_free_pages_are_missing(&crashed);
    crashed
}

#[test]
fn serror_is_a_crash_with_a_dump() {
    let crashed = crash("lkdtm=LOOP@150 lkdtm_state=serror");
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["reason"]["kind"], "serror");
    assert!(
        !crashed.report.contains("was pending"),
        "{}",
        crashed.report
    );
}

#[test]
fn serror_pending_at_entry_is_named_and_costs_nothing() {
    let crashed = crash("lkdtm=PANIC@150 lkdtm_state=pending-serror");
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["reason"]["kind"], "panic");
    let text = crashed.running.console.text();
    assert_eq!(text.matches("an SError was pending").count(), 1, "{text}");
    assert_eq!(host::verify(&crashed.dump.path).1, Some(0));
}
