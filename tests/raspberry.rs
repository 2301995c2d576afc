// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's Raspberry Pis with the device trees of Debian's kernel package.

use std::process::Command;
use std::time::Duration;

use crate::artefacts;
use crate::machine::Machine;
use crate::process::run;

/// Longest run of one: nearly 1 GiB of RAM is looked at.
const LIMIT: Duration = Duration::from_secs(240);

/// Returns whether this QEMU has the machine, and says so if it has not.
///
/// # Panics
/// QEMU does not run.
#[must_use]
pub fn is_there(number: u32) -> bool {
    let mut qemu = Command::new("qemu-system-aarch64");
    let list = run(qemu.args(["-M", "help"]), Duration::from_secs(20));
    let is_there = list.stdout.contains(&format!("raspi{number}b"));
    if !is_there {
        println!("NOT RUN: this QEMU has no raspi{number}b (raspi4b needs 9.0)");
    }
    is_there
}

/// A Pi 3 or 4 with its tree.
#[must_use]
pub fn pi(number: u32) -> Machine {
    let tree = match number {
        3 => "bcm2837-rpi-3-b.dtb",
        _ => "bcm2711-rpi-4-b.dtb",
    };
    let tree = artefacts::board_tree(tree).display().to_string();
    Machine::new()
        .pi(number)
        .limit(LIMIT)
        .extra(&["-dtb", &tree])
}
