// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's Raspberry Pis with the device trees of Debian's kernel package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::artefacts;
use crate::device_tree;
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
    with_tree(number, &tree(number))
}

/// A Pi 3 or 4 whose tree is `edit` of its text, in a directory that must outlive it.
///
/// # Panics
/// The edit changes nothing, or dtc does not take the result.
#[must_use]
pub fn pi_with(number: u32, edit: impl Fn(&str) -> String) -> (Machine, TempDir) {
    let old = fs::read(tree(number)).expect("Debian's device tree");
    let old = device_tree::decompile(&old).text;
    let new = edit(&old);
    assert_ne!(new, old, "the edit changes nothing");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("edited.dtb");
    fs::write(&path, device_tree::compile(&new)).expect("a temporary file");
    (with_tree(number, &path), dir)
}

fn with_tree(number: u32, tree: &Path) -> Machine {
    let tree = tree.display().to_string();
    Machine::new()
        .pi(number)
        .limit(LIMIT)
        .extra(&["-dtb", &tree])
}

fn tree(number: u32) -> PathBuf {
    artefacts::board_tree(match number {
        3 => "bcm2837-rpi-3-b.dtb",
        _ => "bcm2711-rpi-4-b.dtb",
    })
}
