// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of symbols in an ELF.

use std::fs;
use std::ops::Range;
use std::path::Path;

use object::{Object, ObjectSymbol};

/// Returns the address of `name` in the symbol table of `elf`.
///
/// # Panics
/// There is no such file, or no such symbol.
#[must_use]
pub fn address_of(elf: &Path, name: &str) -> u64 {
    find(elf, |symbol| symbol == name)
        .unwrap_or_else(|| panic!("no symbol {name} in {}", elf.display()))
        .start
}

/// Returns where the code of the Rust function lies whose path ends with `name`.
///
/// # Panics
/// There is no such file, or no such function.
#[must_use]
pub fn code_of(elf: &Path, name: &str) -> Range<u64> {
    // Both manglings write a name as its length and itself.
    let part = format!("{}{name}", name.len());
    find(elf, |symbol| symbol.contains(&part))
        .unwrap_or_else(|| panic!("no function {name} in {}", elf.display()))
}

fn find(elf: &Path, is_wanted: impl Fn(&str) -> bool) -> Option<Range<u64>> {
    let bytes = fs::read(elf).unwrap_or_else(|error| panic!("{}: {error}", elf.display()));
    let file = object::File::parse(bytes.as_slice())
        .unwrap_or_else(|error| panic!("{}: {error}", elf.display()));
    let found = file
        .symbols()
        .find(|symbol| symbol.name().is_ok_and(&is_wanted));
    found.map(|symbol| symbol.address()..symbol.address() + symbol.size())
}
