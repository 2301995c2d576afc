// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lockups: each kind is found, names who hangs and where, and is not found where there is none.

use std::fmt;
use std::time::Duration;

use blackbox::oracle::{self, Crashed};
use blackbox::{Entry, Machine, Running, host, matrix, symbols};
use serde_json::{Value, json};

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
/// Longer than every limit that these tests set.
const LONG: Duration = Duration::from_secs(5);

fn machine(name: &str) -> Machine {
    Machine::new()
        .cpus(2)
        .append(&format!("lkdtm={name}@150 lkdtm_cpu=1 watchdog_thresh=1"))
}

/// The reason of a dump: kind, CPU and text.
fn reason(crashed: &Crashed) -> (String, u64, String) {
    let reason = host::info(&crashed.dump.path)["reason"].clone();
    let text = |name: &str| reason[name].as_str().expect(name).to_owned();
    (
        text("kind"),
        reason["cpu"].as_u64().expect("a CPU"),
        text("text"),
    )
}

/// What the dump says of how CPU 1 was stopped.
fn stop_of_cpu_1(crashed: &Crashed) -> Value {
    let info = host::info(&crashed.dump.path);
    let stops = info["stops"].as_array().expect("stops").clone();
    let stop = stops.into_iter().find(|stop| stop["cpu"] == 1);
    stop.expect("CPU 1")
}

fn assert_cpu_1_is_in_the_loop(crashed: &Crashed) {
    let pc = crashed.dump.registers_of(1).pc;
    let code = symbols::code_of(&oracle::elf(), "endless_loop");
    assert!(code.contains(&pc), "CPU 1 at {pc:#x}, not in {code:x?}");
}

/// Lets CPU 1 mask interrupts and spin, and returns what CPU 0 makes of it.
fn hard_lockup(name: &str, machine_of: impl Fn(Machine) -> Machine) -> Crashed {
    let crashed = oracle::crash(machine_of(machine(name)));
    let (kind, cpu, text) = reason(&crashed);
    assert_eq!((kind.as_str(), cpu), ("hard-lockup", 0), "{text}");
    assert!(text.contains("CPU 1 took no tick for 1 s"), "{text}");
    crashed
}

#[test]
fn hard_lockup_is_found_by_the_other_cpu_el1() {
    for gic in [2, 3] {
        let crashed = hard_lockup("HARDLOCKUP", |machine| machine.gic(gic));
        assert_cpu_1_is_in_the_loop(&crashed);
        assert_eq!(stop_of_cpu_1(&crashed)["status"], "stopped-by-fiq");
        assert!(
            crashed.report.contains("CPU 1 was at pc 0xffff"),
            "{}",
            crashed.report
        );
    }
}

#[test]
fn hard_lockup_is_found_by_the_other_cpu_el2() {
    for (gic, name) in [(2, "HARDLOCKUP"), (3, "HARDLOCKUP_ALL")] {
        let crashed = hard_lockup(name, |machine| machine.gic(gic).entry(Entry::El2));
        assert_cpu_1_is_in_the_loop(&crashed);
        assert_eq!(stop_of_cpu_1(&crashed)["status"], "stopped-at-el2");
    }
}

#[test]
fn hard_lockup_with_everything_masked_is_named_with_the_time_waited_el1() {
    let crashed = hard_lockup("HARDLOCKUP_ALL", |machine| machine);
    let stop = stop_of_cpu_1(&crashed);
    assert_eq!(stop["status"], "not-responding");
    assert!(stop["waited_us"].as_u64().is_some_and(|us| us >= 1_000_000));
    for line in ["CPU 1 does not respond after", "CPU 1 left no registers"] {
        assert!(crashed.report.contains(line), "{}", crashed.report);
    }
}

#[test]
fn soft_lockup_is_found_where_it_is() {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(machine("SOFTLOCKUP").entry(entry));
        let (kind, cpu, text) = reason(&crashed);
        assert_eq!((kind.as_str(), cpu), ("soft-lockup", 1), "{text}");
        assert_cpu_1_is_in_the_loop(&crashed);
    }
}

#[test]
fn lock_taken_twice_is_traced_to_both_places() {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(machine("SPINLOCKUP").entry(entry));
        let (kind, cpu, text) = reason(&crashed);
        assert_eq!((kind.as_str(), cpu), ("spin-lockup", 1), "{text}");
        assert_eq!(text.matches("lkdtm/lockups.rs:").count(), 2, "{text}");
        let bt = host::bt(&crashed.dump.path, &oracle::elf());
        assert!(bt.contains("kernel::lkdtm::lockups::take_twice"), "{bt}");
    }
}

#[test]
fn lock_that_another_cpu_keeps_is_traced_to_it() {
    let crashed = oracle::crash(machine("SPINLOCKUP_HELD"));
    let (kind, cpu, text) = reason(&crashed);
    assert_eq!((kind.as_str(), cpu), ("spin-lockup", 1), "{text}");
    assert!(text.contains("that CPU 0 took at "), "{text}");
    assert!(
        crashed.report.contains("CPU 0 was at pc 0xffff"),
        "{}",
        crashed.report
    );
}

#[test]
fn thread_that_does_not_check_in_is_named() {
    let crashed = oracle::crash(machine("HUNG_TASK").append("hung_task_timeout_secs=1"));
    let (kind, _, text) = reason(&crashed);
    assert_eq!(kind, "hung-task");
    assert!(
        text.contains("\"lkdtm\" did not check in for 1 s"),
        "{text}"
    );
    assert_eq!(
        host::info(&crashed.dump.path)["threads"],
        json!([{ "id": 0, "name": "lkdtm" }])
    );
}

/// Lets the machine run for a while, and asserts that it neither crashed nor hangs.
fn assert_runs_on(running: &Running) {
    running.console.wait_for("lkdtm: provoking");
    std::thread::sleep(LONG);
    let from = running.console.bytes().len();
    running.console.send(b"~~~SysRqk");
    running
        .console
        .wait_for_from("sysrq: crash region", from.saturating_sub(1));
    let text = running.console.text();
    assert!(!text.contains("has crashed"), "{text}");
}

/// A command line under which nothing is found, and what the console shows of it.
struct Quiet(&'static str, &'static str, &'static [&'static str]);

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

#[test]
fn no_lockup_is_found_where_there_is_none_or_it_is_not_looked_for() {
    let rows = [
        // Busy all the time, and says so.
        Quiet(
            "LOOP_TOUCHING",
            "hung_task_timeout_secs=1",
            &["hard lockup after 1 s, soft lockup 2 s, hung task 1 s"],
        ),
        Quiet(
            "SOFTLOCKUP",
            "nosoftlockup",
            &["hard lockup after 1 s, soft lockup 0 s"],
        ),
        Quiet(
            "HARDLOCKUP",
            "nowatchdog",
            &["hard lockup after 0 s, soft lockup 0 s"],
        ),
        Quiet(
            "HUNG_TASK",
            "hung_task_timeout_secs=0",
            &["hung task 0 s (0: not looked for)"],
        ),
        // Found, and not fatal.
        Quiet(
            "HARDLOCKUP",
            "hardlockup_panic=0",
            &["error: hard lockup: CPU 1 took no tick for 1 s"],
        ),
        Quiet(
            "HUNG_TASK",
            "hung_task_timeout_secs=1 hung_task_panic=0",
            &["error: hung task: thread 0 \"lkdtm\" did not check in"],
        ),
    ];
    matrix::for_each(&rows, |Quiet(name, line, shown)| {
        let running = machine(name).append(line).start();
        assert_runs_on(&running);
        let text = running.console.text();
        let missing = shown.iter().find(|shown| !text.contains(**shown));
        assert_eq!(missing, None, "{text}");
    });
}

#[test]
fn lockup_that_is_not_fatal_is_told_once_and_taints() {
    let running = machine("SOFTLOCKUP")
        .append("softlockup_panic=0 dump_then=halt dump_rounds=1")
        .start();
    assert_runs_on(&running);
    let text = running.console.text();
    assert_eq!(
        text.matches("error: soft lockup: CPU 1").count(),
        1,
        "{text}"
    );
    running.console.send(SYSRQ_CRASH);
    let crashed = oracle::finish(running);
    assert!(
        crashed.report.contains("tainted L (0x4000)"),
        "{}",
        crashed.report
    );
    assert_eq!(host::info(&crashed.dump.path)["taint"], json!(0x4000));
}

#[test]
fn machine_that_was_held_has_no_lockup() {
    let mut running = machine("LOOP_TOUCHING")
        .append("hung_task_timeout_secs=1")
        .start();
    running.console.wait_for("lkdtm: provoking");
    running.qmp.execute("stop", json!({}));
    std::thread::sleep(LONG);
    running.go_on();
    assert_runs_on(&running);
}

#[test]
fn single_cpu_says_that_nobody_watches_it() {
    let running = Machine::new().append("watchdog_thresh=1").start();
    running
        .console
        .wait_for("hard lockup after 0 s, soft lockup 2 s");
}

#[test]
fn parameters_that_are_malformed_are_named_and_the_defaults_stay() {
    let rows = [
        "watchdog_thresh=61",
        "watchdog_thresh=-1",
        "watchdog_thresh=",
        "hung_task_timeout_secs=86401",
        "softlockup_panic=2",
        "hardlockup_panic=maybe",
        "hung_task_panic=x",
        "panic_on_taint=xyz",
        "panic_on_taint=0",
    ];
    matrix::for_each(&rows, |line| {
        let running = Machine::new().cpus(2).append(line).start();
        running
            .console
            .wait_for(&format!("{line} at byte 0 is malformed and ignored"));
        running
            .console
            .wait_for("hard lockup after 10 s, soft lockup 20 s, hung task 120 s");
    });
}
