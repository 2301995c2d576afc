// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a dump as `receive` does: a sparse ELF core in which what is missing is absent.

use std::path::Path;

use super::source::Source;
use crate::dump_file::{DumpFile, Mapping};
use crate::error::Result;
use crate::interrupt::Interrupt;

/// Writes the dump to the file at `path`. Returns whether nobody interrupted it.
///
/// # Errors
///
/// When the core cannot be read or the file cannot be written.
pub(super) fn write(
    source: &Source<'_>,
    is_incomplete: bool,
    path: &Path,
    interrupt: &Interrupt,
) -> Result<bool> {
    let mut file = DumpFile::create(path, &source.ram)?;
    if is_incomplete {
        file.flag_incomplete();
    }
    let is_done = source.walk(&source.held, interrupt, |at, piece| file.store(at, piece))?;
    let mapping = |load: &vmcore::elf_core::Segment| Mapping {
        vaddr: load.vaddr,
        paddr: load.paddr,
        len: load.mem_len,
    };
    let mappings: Vec<Mapping> = source.core.loads().iter().map(mapping).collect();
    file.write_headers(&mappings, &source.notes)?;
    Ok(is_done)
}
