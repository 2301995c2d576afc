// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a header wants to know of the crashed kernel: from Linux's VMCOREINFO and memory, where the dump is of a Linux.

use vmcore::PAGE_SIZE;
use vmcore::linux::{Key, VirtualMemory, Vmcoreinfo};
use vmcore::notes::{HEADER_LEN, Note, Notes, VMCOREINFO};

use super::headers::Names;
use super::source::Source;
use crate::core_file::CoreFile;
use crate::error::{Error, Result};

/// Name of makedumpfile's note of what it erased.
const ERASEINFO: &str = "ERASEINFO";
/// Page sizes of arm64.
const PAGE_SIZES: [u64; 3] = [4 << 10, 16 << 10, 64 << 10];

/// The facts.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Bytes of a page.
    pub(super) page_size: u64,
    /// Where the linear mapping's memory begins.
    pub(super) phys_base: u64,
    /// When it crashed, in seconds since 1970; 0 when it does not say.
    pub(super) crash_time: u64,
    /// Its `utsname`.
    pub(super) names: Names,
}

impl Kernel {
    /// Finds out.
    ///
    /// # Errors
    ///
    /// [`Error::NotCore`] for a page size that arm64 does not have.
    pub(super) fn of(source: &Source<'_>) -> Result<Self> {
        let note = source
            .core
            .notes()
            .find(|note| note.name == VMCOREINFO.as_bytes());
        let info = Vmcoreinfo::new(note.map_or(&[], |note| note.desc));
        let first = source.ram.first().map_or(0, |range| range.start);
        Ok(Self {
            page_size: note.map_or(Ok(PAGE_SIZE), |note| page_size(source.core, &note, &info))?,
            phys_base: info.number("PHYS_OFFSET").unwrap_or(first),
            crash_time: info.decimal("CRASHTIME").unwrap_or(0),
            names: names(source, &info),
        })
    }
}

/// Returns offset and length of the payload of the note `name` in `notes`; zeros without one.
pub(super) fn place_of(notes: &[u8], name: &str) -> (u64, u64) {
    let mut walk = Notes::new(notes);
    let Some(note) = walk.find(|note| note.name == name.as_bytes()) else {
        return (0, 0);
    };
    let head = notes.get(note.offset..).unwrap_or_default();
    let name_len = head.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    let start = note
        .offset
        .saturating_add(HEADER_LEN)
        .saturating_add((name_len as usize).next_multiple_of(4));
    (start as u64, note.desc.len() as u64)
}

/// Returns offset and length of Linux's note in `notes`, and of makedumpfile's.
pub(super) fn places(notes: &[u8]) -> [(u64, u64); 2] {
    [VMCOREINFO, ERASEINFO].map(|name| place_of(notes, name))
}

fn page_size(core: &CoreFile, note: &Note<'_>, info: &Vmcoreinfo<'_>) -> Result<u64> {
    let key = Key::Bare("PAGESIZE");
    if !info.has(key) {
        return Ok(PAGE_SIZE);
    }
    let size = info.decimal("PAGESIZE").ok();
    size.filter(|size| PAGE_SIZES.contains(size))
        .ok_or_else(|| Error::NotCore {
            path: core.path().to_path_buf(),
            offset: core.notes_offset().saturating_add(note.offset as u64),
            what: format!("{}: no page size of arm64; note", info.refuse(key)),
        })
}

/// Returns Linux's names as its memory has them, if they agree with VMCOREINFO; else what VMCOREINFO says.
fn names(source: &Source<'_>, info: &Vmcoreinfo<'_>) -> Names {
    let Ok(release) = info.text("OSRELEASE") else {
        let is_ours = source.contents.is_afterimage();
        return Names::new(if is_ours { "Afterimage" } else { "" }, "");
    };
    let read = || {
        let mut bytes = [0; Names::LEN];
        let offset = info.offset("uts_namespace.name").ok()?;
        let at = info.symbol("init_uts_ns").ok()?.checked_add(offset)?;
        // The page tables first: kexec-tools may have written wrong addresses into the segments.
        VirtualMemory::new(info, source.core)
            .and_then(|mut memory| memory.read(at, &mut bytes))
            .or_else(|_| source.core.read_virtual(at, &mut bytes))
            .ok()?;
        let names = Names::from_memory(bytes);
        (names.system() == b"Linux" && names.release() == release.as_bytes()).then_some(names)
    };
    read().unwrap_or_else(|| Names::new("Linux", release))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note_bytes::NoteBytes;

    #[test]
    fn payload_is_placed_whatever_its_padding() {
        let mut notes = NoteBytes::default();
        notes.add(b"CORE", 1, &[0; 9]);
        notes.add(b"VMCOREINFO", 0, b"A=1\nB");
        let unpadded = &notes.as_bytes()[..notes.as_bytes().len() - 3];
        let (start, len) = place_of(unpadded, VMCOREINFO);
        assert_eq!(&unpadded[start as usize..(start + len) as usize], b"A=1\nB");
        assert_eq!(place_of(notes.as_bytes(), ERASEINFO), (0, 0));
    }
}
