// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's `npcm845-evb`, a Cortex-A35 with RAM at 0, a 16550 for its console and a watchdog, told by device trees made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::machine::{Machine, Running};
use crate::process::run;

/// Where the tests' memory file begins for the machine; the helper counts from where `virt` has its RAM.
pub const HELPERS_START: u64 = 0x4000_0000;
/// The least that the machine takes, and more than `virt` has in other tests.
const MEMORY_MIB: u64 = 1024;
const LIMIT: Duration = Duration::from_secs(180);
/// Filled with a pattern before the start; nothing else lies there.
pub const PATTERN_AT: u64 = 0x1234_5000;
/// The machine's tree with these properties of `/chosen` and of its UART.
#[must_use]
pub fn tree(chosen: &str, uart: &str) -> String {
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
    watchdog@f000801c {{ compatible = "nuvoton,npcm845-wdt", "nuvoton,npcm750-wdt"; reg = <0 0xf000801c 0 4>; }};
    serial@f0000000 {{ reg = <0 0xf0000000 0 0x1000>; interrupts = <0 192 4>; {uart} }};
}};
"#
    )
}

/// What its UART is.
pub const UART: &str = r#"compatible = "nuvoton,npcm845-uart", "nuvoton,npcm750-uart"; reg-shift = <2>; clock-frequency = <24000000>;"#;

/// Boots `kernel` with that tree, and with these arguments of QEMU.
///
/// # Panics
/// The tree is none, or QEMU does not start.
#[must_use]
pub fn boot(dir: &Path, kernel: PathBuf, tree: &str, append: &str, extra: &[&str]) -> Running {
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
        .kernel(kernel)
        .append(&format!("dump_rounds=1 dump_recheck=0 {append}"))
        .extra(&["-dtb", &blob.display().to_string()])
        .extra(extra)
        .paused()
        .start();
    let pattern: Vec<u8> = (0..4096_u32)
        .map(|number| ((number * 7) >> 3) as u8)
        .collect();
    running.memory.write(HELPERS_START + PATTERN_AT, &pattern);
    running.go_on();
    running
}
