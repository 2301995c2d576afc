// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture Image on a machine that it was not made for: QEMU's `npcm845-evb`, a Cortex-A35 with RAM at 0 and a 16550 for its console.
//! It is told by device trees made here, as a kernel that crashed on such a board would.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use blackbox::dump::Dump;
use blackbox::npcm::{self, HELPERS_START, PATTERN_AT, UART, tree};
use blackbox::{Running, artefacts, host, oracle};

/// Where QEMU `virt` has its PL011, and this machine RAM: not a byte may be written there.
const VIRTS_UART: u64 = 0x0900_0000;

/// Boots the capture Image with that tree.
fn boot(dir: &Path, tree: &str, append: &str) -> Running {
    let append = format!("dump_then=halt {append}");
    npcm::boot(dir, artefacts::image("capture.Image"), tree, &append, &[])
}

/// Waits for the end, and asserts that the dump holds the pattern.
fn assert_dumps(running: &Running) -> String {
    running.console.wait_for("Afterimage: halted");
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording of the line");
    // Nobody left registers, which makes it incomplete (3), but memory is all there.
    let received = host::receive(&recording, &vmcore, &oracle::elf());
    assert_eq!(received.status.code(), Some(3), "{}", received.stderr);
    let pages = Dump::open(&vmcore).pages();
    let page = pages.get(&PATTERN_AT).expect("the page with the pattern");
    let memory = running.memory.read(HELPERS_START + PATTERN_AT, 4096);
    assert_eq!(page.as_slice(), memory);
    assert!(!pages.contains_key(&VIRTS_UART), "that page was zeros");
    running.console.text()
}

#[test]
fn console_of_a_16550_is_found_by_stdout_path() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tree = tree(r#"stdout-path = "/serial@f0000000:115200n8";"#, UART);
    let text = assert_dumps(&boot(dir.path(), &tree, ""));
    assert!(text.contains("this is the capture kernel"), "{text}");
    assert!(text.contains("no elfcorehdr"), "{text}");
}

#[test]
fn console_of_a_16550_is_found_by_the_command_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A UART of no known make, but its place is told.
    let unknown = tree("", r#"compatible = "acme,uart";"#);
    for (tree, append) in [
        (tree("", UART), "console=ttyS0,115200"),
        (unknown, "earlycon=uart8250,mmio32,0xf0000000"),
    ] {
        let running = boot(dir.path(), &tree, append);
        running.console.wait_for("this is the capture kernel");
    }
}

#[test]
fn reset_that_fails_itself_ends_in_a_halt() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The tree has PSCI by SMC; QEMU's machine does not take one.
    let tree = tree("", UART);
    let kernel = artefacts::image("capture.Image");
    let append = "console=ttyS0,115200 dump_then=reboot";
    let running = npcm::boot(dir.path(), kernel, &tree, append, &[]);
    running.console.wait_for("Afterimage: halted");
    let text = running.console.text();
    let failures = text.matches("the capture kernel itself failed").count();
    assert_eq!(failures, 1, "{text}");
}

#[test]
fn machine_without_a_known_console_is_not_written_to() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (chosen, uart) in [
        ("", UART),
        (
            r#"stdout-path = "/serial@f0000000";"#,
            r#"compatible = "acme,uart";"#,
        ),
        (
            r#"stdout-path = "/serial@f0000000";"#,
            r#"compatible = "ns16550a"; reg-shift = <1>; reg-io-width = <4>;"#,
        ),
    ] {
        let running = boot(dir.path(), &tree(chosen, uart), "dump_timeout=1");
        // Nothing comes on a line that is not known; what could be written in this time would have been.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(running.console.bytes(), b"", "{uart}");
        let there = running.memory.read(HELPERS_START + VIRTS_UART, 0x1000);
        assert!(
            there.iter().all(|byte| *byte == 0),
            "written to RAM: {uart}"
        );
    }
}
