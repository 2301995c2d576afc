// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fatal, and what follows a dump: taint, warnings, and the prompt of `dump_then=wait`.

use std::fs;
use std::time::Duration;

use blackbox::{Entry, Machine, Running, host, oracle};
use serde_json::json;

const PROMPT: &str = "Afterimage: waiting for a command";
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

#[test]
fn taint_that_is_fatal_is_a_crash_that_names_it() {
    for entry in [Entry::El1, Entry::El2] {
        let machine = Machine::new().entry(entry);
        // Hexadecimal without 0x, as in Linux: 0x200 is a warning.
        let crashed = oracle::crash(machine.append("lkdtm=WARNING@150 panic_on_taint=200"));
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["reason"]["kind"], "taint");
        assert_eq!(info["reason"]["text"], "panic_on_taint: tainted W (0x200)");
        assert_eq!(info["taint"], json!(0x200));
        assert!(
            crashed.report.contains("  tainted W (0x200)"),
            "{}",
            crashed.report
        );
    }
}

#[test]
fn taint_that_is_not_fatal_is_shown_by_the_next_crash() {
    let running = Machine::new()
        .append("lkdtm=WARNING@150 panic_on_taint=4000,nousertaint dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for("WARNING: lkdtm: WARNING");
    running.console.send(SYSRQ_CRASH);
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["reason"]["kind"], "sysrq");
    assert_eq!(info["taint"], json!(0x200));
}

#[test]
fn machine_that_is_not_tainted_says_nothing_of_it() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@150"));
    assert_eq!(host::info(&crashed.dump.path)["taint"], json!(0));
    assert!(!crashed.report.contains("tainted"), "{}", crashed.report);
}

/// Crashes, and returns the machine at its prompt, and where in the line that is.
fn waiting(machine: Machine) -> (Running, usize) {
    let running = machine
        .append("lkdtm=PANIC@150 dump_then=wait dump_rounds=1")
        .extra(&["-no-reboot"])
        .start();
    let at = running.console.wait_for_from(PROMPT, 0);
    (running, at)
}

#[test]
fn prompt_helps_tells_and_survives_garbage() {
    for entry in [Entry::El1, Entry::El2] {
        let (mut running, at) = waiting(Machine::new().entry(entry));
        running.console.send(b"?\r");
        let at = running.console.wait_for_from("d dump again", at);
        running.console.send(b"xyz\r");
        let at = running.console.wait_for_from("no such command", at);
        running.console.send(b"i\r");
        let at = running.console.wait_for_from("crash: panic on CPU 0", at);
        let at = running.console.wait_for_from(PROMPT, at);
        // A frame, a command in a stream, and a line without end.
        running.console.send(b"\0\x07\rr\rp\r\xff\0");
        running.console.send(&[b'r'; 3000]);
        std::thread::sleep(Duration::from_secs(1));
        assert!(running.is_alive());
        // Until the machine has read all of it, the question is part of the noise.
        let is_answered = (0..60).any(|_| {
            running.console.send(b"?\r");
            std::thread::sleep(Duration::from_millis(700));
            let since = running.console.bytes().split_off(at);
            String::from_utf8_lossy(&since).contains("d dump again")
        });
        assert!(is_answered, "{}", running.console.transcript());
        running.console.send(b"h\r");
        running.console.wait_for_from("Afterimage: halted", at);
        assert!(running.is_alive());
    }
}

#[test]
fn prompt_reboots_and_powers_off() {
    for command in [b"r\r", b"p\r"] {
        let (mut running, _) = waiting(Machine::new());
        running.console.send(command);
        assert!(running.wait_for_exit().success());
    }
}

#[test]
fn dump_asked_for_again_is_whole_by_itself() {
    let (running, at) = waiting(Machine::new());
    running.console.send(b"d\r");
    let end = running
        .console
        .wait_for_from("Afterimage: dump complete", at);
    running.console.wait_for_from(PROMPT, end);
    let recording = running.dir().join("second");
    let second = running.console.bytes()[at..].to_vec();
    fs::write(&recording, second).expect("a recording of the second dump");
    let vmcore = running.dir().join("vmcore");
    let received = host::receive(&recording, &vmcore, &oracle::elf());
    assert_eq!(received.status.code(), Some(0), "{}", received.stderr);
    assert_eq!(host::verify(&vmcore).1, Some(0));
}

#[test]
fn host_that_comes_for_the_second_dump_is_answered() {
    let (running, at) = waiting(Machine::new());
    let (line, vmcore) = (running.dir().join("host"), running.dir().join("vmcore"));
    let _bridge = running.console.bridge(&line, 0);
    let mut host = host::start_receiving(&line, &vmcore);
    // It needs a moment to connect; what comes before is sent again in any case.
    std::thread::sleep(Duration::from_millis(500));
    running.console.send(b"d\r");
    let at = running
        .console
        .wait_for_from("dump complete, received whole", at);
    let status = host.wait().expect("the host command");
    assert_eq!(status.code(), Some(0));
    assert_eq!(host::verify(&vmcore).1, Some(0));
    running.console.wait_for_from(PROMPT, at);
}
