// SPDX-License-Identifier: MIT OR Apache-2.0
//! The board's watchdog: fed while a dump makes progress, and biting when it does not. QEMU's `npcm845-evb` has one that counts; a
//! Raspberry Pi's, in QEMU, bites as soon as it is armed.
#![cfg(test)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use blackbox::npcm::{self, UART, tree};
use blackbox::{Running, artefacts, raspberry};

const CONSOLE: &str = r#"stdout-path = "/serial@f0000000:115200n8";"#;
/// Longer than the period that is armed, 2.7 s of the machine's time; and twice that is longer than [`RUNNING`]'s.
const LONGER: Duration = Duration::from_secs(6);
/// 10.7 seconds until the machine is reset, begun before the kernel runs: WTCR with enable, reset and restart.
const RUNNING: [&str; 2] = ["-device", "loader,addr=0xf000801c,data=0x4b3,data-len=4"];

fn capture(dir: &Path, append: &str, extra: &[&str]) -> Running {
    let kernel = artefacts::image_of("generic", "capture.Image");
    let extra = [extra, &["-no-reboot"]].concat();
    npcm::boot(dir, kernel, &tree(CONSOLE, UART), append, &extra)
}

/// Asserts that nothing resets the machine now.
fn assert_stays(running: &mut Running) {
    thread::sleep(LONGER);
    assert!(running.is_alive(), "reset: {}", running.console.text());
}

/// Asserts that the prompt is fed, and that a halted machine is let alone.
fn assert_waits_and_halts(running: &mut Running) {
    running.console.wait_for("waiting for a command");
    assert_stays(running);
    running.console.send(b"h\r");
    running.console.wait_for("Afterimage: halted");
    assert_stays(running);
}

#[test]
fn armed_watchdog_is_fed_through_dump_and_prompt_and_turned_off_for_a_halt() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut running = capture(dir.path(), "dump_watchdog=2 dump_then=wait", &[]);
    running
        .console
        .wait_for("dump_watchdog=2: the watchdog resets the machine after 2 s without progress");
    assert_waits_and_halts(&mut running);
}

#[test]
fn watchdog_that_runs_already_is_taken_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut running = capture(dir.path(), "dump_then=wait", &RUNNING);
    running
        .console
        .wait_for("a watchdog runs: it resets the machine after 21 s without progress");
    assert_waits_and_halts(&mut running);
}

#[test]
fn watchdog_that_nobody_feeds_bites() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The tree does not tell of it: what outlives it in the other tests does so because it is fed.
    let kernel = artefacts::image_of("generic", "capture.Image");
    let tree = tree(CONSOLE, UART).replace("npcm750-wdt", "other-wdt");
    let extra = [&RUNNING[..], &["-no-reboot"]].concat();
    let mut running = npcm::boot(dir.path(), kernel, &tree, "dump_then=wait", &extra);
    assert!(running.wait_for_exit().success());
}

#[test]
fn capture_kernel_that_hangs_is_reset_by_the_watchdog_and_only_by_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut running = capture(dir.path(), "dump_watchdog=2 dump_fault=every:hang", &[]);
    assert!(running.wait_for_exit().success());
    let text = running.console.text();
    assert!(text.contains("after 2 s without progress"), "{text}");
    let mut running = capture(
        dir.path(),
        "dump_watchdog=0 dump_fault=every:hang",
        &RUNNING,
    );
    running.console.wait_for("the watchdog is off");
    assert_stays(&mut running);
    assert_stays(&mut running);
}

#[test]
fn board_without_a_watchdog_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kernel = artefacts::image_of("generic", "capture.Image");
    let tree = tree(CONSOLE, UART).replace("npcm750-wdt", "other-wdt");
    let running = npcm::boot(
        dir.path(),
        kernel,
        &tree,
        "dump_watchdog=5 dump_then=halt",
        &[],
    );
    running
        .console
        .wait_for("dump_watchdog=5: no watchdog is known here");
    running.console.wait_for("Afterimage: halted");
}

#[test]
fn crashing_kernel_takes_a_running_watchdog_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kernel = artefacts::image_of("generic", "kernel.Image");
    let append = "lkdtm=PANIC@100 dump_then=wait";
    let extra = [&RUNNING[..], &["-no-reboot"]].concat();
    let mut running = npcm::boot(dir.path(), kernel, &tree(CONSOLE, UART), append, &extra);
    let said = "a watchdog runs: it resets the machine after 21 s without progress";
    running.console.wait_for(said);
    running.console.wait_for(&format!("Afterimage: {said}"));
    assert_waits_and_halts(&mut running);
}

#[test]
fn watchdog_of_a_pi_is_armed_by_the_parameter_alone() {
    let append = "lkdtm=PANIC@100 maxcpus=1 dump_rounds=1 dump_recheck=0 dump_then=halt";
    for number in [3, 4] {
        if !raspberry::is_there(number) {
            continue;
        }
        let mut running = raspberry::pi(number)
            .append(&format!("{append} dump_watchdog=60"))
            .extra(&["-no-reboot"])
            .start();
        running.console.wait_for("dump_watchdog=60: ");
        assert!(running.wait_for_exit().success(), "Pi {number}");
    }
}
