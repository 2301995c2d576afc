// SPDX-License-Identifier: MIT OR Apache-2.0
//! The link, with a host command that answers: whole dumps over good and bad lines, from hosts that come late or die.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use blackbox::bridge::Bridge;
use blackbox::oracle::{self, Crashed};
use blackbox::wait::Deadline;
use blackbox::{Machine, Running, host};

/// Longest wait for a host command.
const LIMIT: Duration = Duration::from_secs(55);

fn machine(parameters: &str) -> Machine {
    Machine::new()
        .cpus(2)
        .append(&format!("lkdtm=PANIC@600 dump_then=halt {parameters}"))
}

fn ended(host: &mut Child) -> ExitStatus {
    let status = Deadline::after(LIMIT).poll(|| host.try_wait().expect("the host's state"));
    status.unwrap_or_else(|| {
        // It may have ended by itself in this moment.
        let _ = host.kill();
        panic!("the host command did not end");
    })
}

/// Waits for the host command and the machine, and compares the dump with memory.
fn received(running: Running, mut host: Child) -> Crashed {
    let status = ended(&mut host);
    assert!(
        status.success(),
        "{status}\n{}",
        running.console.transcript()
    );
    running.console.wait_for("Afterimage: halted");
    let crashed = oracle::judge(running);
    let memory = crashed.running.memory.pages();
    oracle::assert_equals_memory(&crashed, &memory);
    oracle::assert_only_free_pages_are_missing(&crashed);
    crashed
}

fn start(parameters: &str, errors_per_million: u64) -> (Running, Bridge) {
    let running = machine(parameters).start();
    let path = running.dir().join("host");
    let bridge = running.console.bridge(&path, errors_per_million);
    (running, bridge)
}

fn receive(running: &Running) -> Child {
    host::start_receiving(&running.dir().join("host"), &running.dir().join("vmcore"))
}

/// Returns how many bytes of frames the line carried.
fn frame_bytes(crashed: &Crashed) -> usize {
    crashed.running.console.bytes().len() - crashed.report.len()
}

#[test]
fn dump_that_is_answered_is_sent_once_and_known_to_be_received() {
    let (running, bridge) = start("", 0);
    let host = receive(&running);
    let crashed = received(running, host);
    let console = &crashed.running.console;
    console.wait_for("Afterimage: dump complete, received whole");
    assert!(bridge.to_machine() > 0);
    println!("{} bytes of frames", frame_bytes(&crashed));
}

#[test]
fn dump_over_a_bad_line_is_whole() {
    let (running, _bridge) = start("dump_effort=stored", 100);
    let host = receive(&running);
    let crashed = received(running, host);
    crashed
        .running
        .console
        .wait_for("Afterimage: dump complete, received whole");
    println!("{} bytes of frames", frame_bytes(&crashed));
}

#[test]
fn host_that_comes_late_gets_the_whole_dump() {
    let (running, _bridge) = start("dump_effort=stored dump_rounds=20", 0);
    running.console.wait_for("Afterimage: dump level");
    let host = receive(&running);
    received(running, host);
}

#[test]
fn host_killed_and_started_again_gets_the_whole_dump() {
    let (running, bridge) = start("dump_effort=stored", 0);
    let mut first = receive(&running);
    let part = running.dir().join("vmcore.part");
    let is_under_way = || (bridge.to_host() > 350_000 && part.exists()).then_some(());
    assert_eq!(Deadline::after(LIMIT).poll(is_under_way), Some(()));
    first.kill().expect("a running host command");
    first.wait().expect("a killed host command");
    assert!(!running.dir().join("vmcore").exists());
    let second = receive(&running);
    received(running, second);
}

#[test]
fn region_of_16_mib_is_used_and_the_dump_is_whole() {
    let (running, _bridge) = start("crashkernel=16M", 0);
    let host = receive(&running);
    received(running, host);
}

/// Names of the frame files in the machine's directory.
fn frame_files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the machine's directory");
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".frames"))
        .collect()
}

#[test]
fn dump_to_semihosting_is_a_file_of_frames() {
    let running = machine("dump_to=semihosting")
        .extra(&["-semihosting-config", "enable=on,target=native"])
        .start();
    running.console.wait_for("Afterimage: halted");
    assert_eq!(frame_files(running.dir()), ["afterimage-00.frames"]);
    let (frames, vmcore) = (
        running.dir().join("afterimage-00.frames"),
        running.dir().join("vmcore"),
    );
    let done = host::receive(&frames, &vmcore, &oracle::elf());
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    let crashed = oracle::judge(running);
    let memory = crashed.running.memory.pages();
    oracle::assert_equals_memory(&crashed, &memory);
    // All of it went to the file.
    assert!(!crashed.running.console.bytes().contains(&0));
}

#[test]
fn dump_to_semihosting_without_a_debugger_goes_to_the_uart() {
    let running = machine("dump_to=semihosting dump_rounds=1").start();
    let crashed = oracle::finish(running);
    assert!(frame_files(crashed.running.dir()).is_empty());
    let memory = crashed.running.memory.pages();
    oracle::assert_equals_memory(&crashed, &memory);
}

#[test]
fn dump_with_nobody_answering_goes_out_in_rounds() {
    let running = machine("").start();
    let crashed = oracle::finish(running);
    let text = crashed.running.console.text();
    assert!(text.contains("Afterimage: dump complete, nobody answered"));
    // Manifests of both rounds: version 2, type 1, and the round at offset 88 of the payload.
    println!("{} bytes of frames in 2 rounds", frame_bytes(&crashed));
}
