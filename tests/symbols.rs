// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of symbols in an ELF.

use std::fs;
use std::path::Path;

use object::{Object, ObjectSymbol};

/// Returns the address of `name` in the symbol table of `elf`.
///
/// # Panics
/// There is no such file, or no such symbol.
#[must_use]
pub fn address_of(elf: &Path, name: &str) -> u64 {
    let bytes = fs::read(elf).unwrap_or_else(|error| panic!("{}: {error}", elf.display()));
    let file = object::File::parse(bytes.as_slice())
        .unwrap_or_else(|error| panic!("{}: {error}", elf.display()));
    let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
    found
        .unwrap_or_else(|| panic!("no symbol {name} in {}", elf.display()))
        .address()
}
