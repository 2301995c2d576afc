// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture Image on a machine that it was not made for: QEMU's `npcm845-evb`, a Cortex-A35 with RAM at 0 and a 16550 for its console.
//! It is told by device trees made here, as a kernel that crashed on such a board would.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::dump::Dump;
use blackbox::process::run;
use blackbox::{Machine, Running, artefacts, host, oracle};

/// Where the tests' memory file begins for the machine; the helper counts from where `virt` has its RAM.
const HELPERS_START: u64 = 0x4000_0000;
/// The least that the machine takes, and more than `virt` has in other tests.
const MEMORY_MIB: u64 = 1024;
const LIMIT: Duration = Duration::from_secs(180);
/// Filled with a pattern before the start; nothing else lies there.
const PATTERN_AT: u64 = 0x1234_5000;
/// Where QEMU `virt` has its PL011, and this machine RAM: not a byte may be written there.
const VIRTS_UART: u64 = 0x0900_0000;

/// The machine's tree with these properties of `/chosen` and of its UART.
fn tree(chosen: &str, uart: &str) -> String {
    format!(
        r#"/dts-v1/;
/ {{
    #address-cells = <2>; #size-cells = <2>; interrupt-parent = <&gic>;
    model = "NPCM845 evaluation board"; compatible = "nuvoton,npcm845";
    chosen {{ {chosen} }};
    memory@0 {{ device_type = "memory"; reg = <0 0 0 0x40000000>; }};
    cpus {{
        #address-cells = <2>; #size-cells = <0>;
        cpu@0 {{ device_type = "cpu"; compatible = "arm,cortex-a35"; reg = <0 0>; enable-method = "psci"; }};
    }};
    psci {{ compatible = "arm,psci-1.0"; method = "smc"; }};
    timer {{ compatible = "arm,armv8-timer"; interrupts = <1 13 8 1 14 8 1 11 8 1 10 8>; }};
    gic: interrupt-controller@dfff9000 {{
        compatible = "arm,gic-400"; #interrupt-cells = <3>; interrupt-controller;
        reg = <0 0xdfff9000 0 0x1000 0 0xdfffa000 0 0x2000>;
    }};
    serial@f0000000 {{ reg = <0 0xf0000000 0 0x1000>; interrupts = <0 192 4>; {uart} }};
}};
"#
    )
}

const UART: &str = r#"compatible = "nuvoton,npcm845-uart", "nuvoton,npcm750-uart"; reg-shift = <2>; clock-frequency = <24000000>;"#;

/// Boots the capture Image with that tree.
fn boot(dir: &Path, tree: &str, append: &str) -> Running {
    let (source, blob) = (dir.join("tree.dts"), dir.join("tree.dtb"));
    fs::write(&source, tree).expect("a device tree");
    let mut dtc = Command::new("dtc");
    dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o"]);
    let done = run(dtc.arg(&blob).arg(&source), Duration::from_secs(20));
    assert!(done.status.success(), "dtc: {}", done.stderr);
    let mut running = Machine::new()
        .board("npcm845-evb")
        .memory_mib(MEMORY_MIB)
        .limit(LIMIT)
        .kernel(artefacts::image("capture.Image"))
        .append(&format!(
            "dump_then=halt dump_rounds=1 dump_recheck=0 {append}"
        ))
        .extra(&["-dtb", &blob.display().to_string()])
        .paused()
        .start();
    let pattern: Vec<u8> = (0..4096_u32)
        .map(|number| ((number * 7) >> 3) as u8)
        .collect();
    running.memory.write(HELPERS_START + PATTERN_AT, &pattern);
    running.go_on();
    running
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
