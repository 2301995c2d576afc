// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees in a machine's memory, as bytes and, through dtc, as text.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::machine::Running;
use crate::memory::{Memory, RAM_START};
use crate::process::run;

/// First word of a flattened device tree (Devicetree Specification 5.2).
const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
/// Largest device tree that booting.rst allows.
const MAX_LEN: u32 = 2 << 20;
/// Where QEMU's boot stub keeps the value of x0: after six instructions (hw/arm/boot.c, bootloader_aarch64).
const STUB_X0: u64 = RAM_START + 0x18;
const LIMIT: Duration = Duration::from_secs(20);

/// A device tree as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What dtc prints.
    pub text: String,
    /// dtc's warnings, without the file's name.
    pub warnings: BTreeSet<String>,
}

/// Physical address of the device tree that a paused machine is going to be given.
#[must_use]
pub fn handed_address(memory: &Memory) -> u64 {
    memory
        .read(STUB_X0, 8)
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Makes the boot stub of a paused machine pass `x0`.
pub fn hand_address(memory: &Memory, x0: u64) {
    memory.write(STUB_X0, &x0.to_le_bytes());
}

/// The device tree that a paused machine is going to be given, cut to what is used of it.
///
/// # Panics
/// There is none.
#[must_use]
pub fn handed(memory: &Memory) -> Vec<u8> {
    let address = handed_address(memory);
    let len = big_endian(&memory.read(address + 4, 4));
    let bytes = memory.read(address, len as usize);
    assert!(bytes.starts_with(&MAGIC), "no device tree at {address:#x}");
    bytes
}

/// Replaces the device tree of a paused machine by `edit` of its text.
///
/// # Panics
/// dtc does not take the result.
pub fn edit_source(running: &Running, edit: impl Fn(String) -> String) {
    let old = decompile(&handed(&running.memory)).text;
    let new = edit(old.clone());
    assert_ne!(new, old, "the edit changes nothing in:\n{old}");
    running
        .memory
        .write(handed_address(&running.memory), &compile(&new));
}

/// Replaces the device tree of a paused machine by `edit` of its bytes.
pub fn edit_bytes(running: &Running, edit: impl Fn(&mut [u8])) {
    let mut bytes = handed(&running.memory);
    edit(&mut bytes);
    running
        .memory
        .write(handed_address(&running.memory), &bytes);
}

/// All device trees in `bytes` that start at a page.
#[must_use]
pub fn find_all(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts = (0..bytes.len()).step_by(4096);
    starts
        .filter_map(|start| {
            let rest = bytes.get(start..).filter(|rest| rest.starts_with(&MAGIC))?;
            let len = big_endian(rest.get(4..8)?);
            rest.get(..len as usize)
                .filter(|_| len <= MAX_LEN)
                .map(<[u8]>::to_vec)
        })
        .collect()
}

/// Turns a device tree into text.
///
/// # Panics
/// dtc does not take it.
#[must_use]
pub fn decompile(dtb: &[u8]) -> Source {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("dtb");
    fs::write(&path, dtb).expect("a temporary file");
    let done = run(
        Command::new("dtc")
            .args(["-I", "dtb", "-O", "dts"])
            .arg(&path),
        LIMIT,
    );
    let is_warning = |line: &&str| line.contains("Warning");
    let without_name = |line: &str| {
        line.split_once("Warning")
            .map_or(line, |(_, rest)| rest)
            .to_owned()
    };
    let warnings = done
        .stderr
        .lines()
        .filter(is_warning)
        .map(without_name)
        .collect();
    Source {
        warnings,
        text: done.success(),
    }
}

/// Turns text into a device tree, wrong cells and all.
///
/// # Panics
/// dtc does not take it.
#[must_use]
pub fn compile(source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dts, dtb) = (dir.path().join("dts"), dir.path().join("dtb"));
    fs::write(&dts, source).expect("a temporary file");
    let mut dtc = Command::new("dtc");
    let _ = run(
        dtc.args(["-q", "-f", "-I", "dts", "-O", "dtb", "-o"])
            .arg(&dtb)
            .arg(&dts),
        LIMIT,
    )
    .success();
    fs::read(&dtb).expect("what dtc wrote")
}

/// Takes the node `name` (as it stands before the brace) with all in it out of a text.
///
/// # Panics
/// There is no such node.
#[must_use]
pub fn without_node(source: &str, name: &str) -> String {
    let indented = |line: &str| line.len() - line.trim_start().len();
    let opens = |line: &str| line.trim_start() == format!("{name} {{");
    let first = source
        .lines()
        .position(opens)
        .unwrap_or_else(|| panic!("no node {name} in:\n{source}"));
    let depth = source.lines().nth(first).map_or(0, indented);
    let is_end = |line: &&str| indented(line) == depth && line.trim() == "};";
    let len = source
        .lines()
        .skip(first)
        .take_while(|line| !is_end(line))
        .count()
        + 1;
    let kept = source
        .lines()
        .enumerate()
        .filter(|(number, _)| !(first..first + len).contains(number));
    kept.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// The values of the property `name`, wherever it stands.
#[must_use]
pub fn values<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        line.trim()
            .strip_prefix(name)?
            .strip_prefix(" = ")?
            .strip_suffix(';')
    };
    source.lines().filter_map(value).collect()
}

/// The 32-bit cells of `<0x1 0x2>`, joined to numbers of two cells.
#[must_use]
pub fn cell_pairs(value: &str) -> Vec<u64> {
    let cells = value.trim_matches(['<', '>']).split_whitespace();
    let numbers: Vec<u64> = cells
        .filter_map(|cell| u64::from_str_radix(cell.trim_start_matches("0x"), 16).ok())
        .collect();
    numbers
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |value, cell| value << 32 | cell))
        .collect()
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "/ {\n\ta = <0x00 0x40>;\n\n\tpsci {\n\t\tb;\n\t\tc {\n\t\t};\n\t};\n\n\td;\n};\n";

    #[test]
    fn node_is_taken_out_with_what_is_in_it() {
        assert_eq!(
            without_node(SOURCE, "psci"),
            "/ {\n\ta = <0x00 0x40>;\n\n\n\td;\n};\n"
        );
    }

    #[test]
    fn value_of_two_cells_is_one_number() {
        let value = values(SOURCE, "a");
        assert_eq!(value, ["<0x00 0x40>"]);
        assert_eq!(cell_pairs(value[0]), [0x40]);
    }
}
