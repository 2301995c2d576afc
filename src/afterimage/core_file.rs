// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads an ELF core: headers, notes, and memory by virtual or physical address.
//!
//! Nothing in the file is believed: each bound is checked against the file's length, and an error names the offset.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use vmcore::elf_core::{
    DUMP_ELF_INCOMPLETE, EHDR_LEN, PHDR_LEN, PN_XNUM, PT_LOAD, PT_NOTE, Segment,
};
use vmcore::notes::{Note, Notes, NotesEnd};
use vmcore::{FaultCause, PhysMemory, PhysRange, ReadFault};

use crate::error::{Error, Result};
use crate::phys_ranges::merged;
use crate::unwind::Memory;

/// Most bytes of notes that are read: a thousand CPUs with all their notes stay far below.
const MAX_NOTES: u64 = 256 << 20;

/// An open core.
#[derive(Debug)]
pub struct CoreFile {
    path: PathBuf,
    file: File,
    len: u64,
    loads: Vec<Segment>,
    /// Indices into `loads`, by virtual address.
    by_vaddr: Vec<usize>,
    /// Indices into `loads`, by physical address.
    by_paddr: Vec<usize>,
    notes: Vec<u8>,
    /// Where the notes lie in the file.
    notes_offset: u64,
    missing_bytes: u64,
    flags: u32,
}

/// Fields of the headers at fixed offsets.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0
            .get(offset..offset.saturating_add(N))
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; N])
    }
    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }
    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }
    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }
}

impl CoreFile {
    /// Opens the core at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be read; [`Error::NotCore`] with the offset of what is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let len = file.metadata().map_err(Error::file("read", path))?.len();
        let mut core = Self {
            path: path.to_path_buf(),
            file,
            len,
            loads: Vec::new(),
            by_vaddr: Vec::new(),
            by_paddr: Vec::new(),
            notes: Vec::new(),
            notes_offset: 0,
            missing_bytes: 0,
            flags: 0,
        };
        let (table_offset, count) = core.read_header()?;
        core.read_segments(table_offset, count)?;
        Ok(core)
    }

    fn bad(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::NotCore {
            path: self.path.clone(),
            offset,
            what: what.into(),
        }
    }

    fn read_at(&self, offset: u64, len: u64, what: &str) -> Result<Vec<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(self.bad(
                offset,
                format!(
                    "{what} of {len} bytes passes the end of the file ({} bytes)",
                    self.len
                ),
            ));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(Error::file("read", &self.path))?;
        Ok(bytes)
    }

    /// Checks the ELF header; returns where the program headers are and how many.
    fn read_header(&mut self) -> Result<(u64, u64)> {
        let bytes = self.read_at(0, EHDR_LEN as u64, "the ELF header")?;
        let header = Fields(&bytes);
        if header.bytes(0) != *b"\x7fELF" {
            return Err(self.bad(0, "no ELF magic"));
        }
        for (offset, expected, name) in [
            (4, 2, "not 64-bit: EI_CLASS"),
            (5, 1, "not little-endian: EI_DATA"),
        ] {
            let [found] = header.bytes(offset);
            if found != expected {
                return Err(self.bad(offset as u64, format!("{name} is {found}")));
            }
        }
        for (offset, expected, name) in [
            (16, 4, "not a core: e_type"),
            (18, 183, "not AArch64: e_machine"),
            (54, PHDR_LEN as u16, "e_phentsize"),
        ] {
            let found = header.u16(offset);
            if found != expected {
                return Err(self.bad(offset as u64, format!("{name} is {found}, not {expected}")));
            }
        }
        let count = match header.u16(56) {
            PN_XNUM => {
                let section = header.u64(40);
                let bytes = self.read_at(
                    section,
                    64,
                    "section header 0, which holds the segment count,",
                )?;
                u64::from(Fields(&bytes).u32(44))
            }
            count => u64::from(count),
        };
        self.flags = header.u32(48);
        Ok((header.u64(32), count))
    }

    fn read_segments(&mut self, table_offset: u64, count: u64) -> Result<()> {
        let entry = PHDR_LEN as u64;
        let bytes = self.read_at(
            table_offset,
            count.saturating_mul(entry),
            "the program header table",
        )?;
        let mut has_notes = false;
        for (index, entry) in bytes.chunks_exact(PHDR_LEN).enumerate() {
            let at = table_offset.saturating_add((index.saturating_mul(PHDR_LEN)) as u64);
            let fields = Fields(entry);
            let segment = Segment {
                kind: fields.u32(0),
                flags: fields.u32(4),
                offset: fields.u64(8),
                vaddr: fields.u64(16),
                paddr: fields.u64(24),
                file_len: fields.u64(32),
                mem_len: fields.u64(40),
                align: fields.u64(48),
            };
            match segment.kind {
                PT_LOAD => self.add_load(segment, at)?,
                PT_NOTE if has_notes => return Err(self.bad(at, "a second PT_NOTE")),
                PT_NOTE => {
                    has_notes = true;
                    if segment.file_len > MAX_NOTES {
                        return Err(self.bad(at, format!("notes of {} bytes", segment.file_len)));
                    }
                    self.notes_offset = segment.offset;
                    self.notes = self.read_at(segment.offset, segment.file_len, "the notes")?;
                }
                _ => {}
            }
        }
        let mut walk = self.notes();
        while walk.next().is_some() {}
        if let NotesEnd::Truncated { offset } = walk.end() {
            let at = self.notes_offset.saturating_add(offset as u64);
            return Err(self.bad(at, "a note passes the end of the notes"));
        }
        let mut by_vaddr: Vec<usize> = (0..self.loads.len()).collect();
        let mut by_paddr = by_vaddr.clone();
        by_vaddr.sort_by_key(|i| self.loads.get(*i).map(|s| s.vaddr));
        by_paddr.sort_by_key(|i| self.loads.get(*i).map(|s| s.paddr));
        self.by_vaddr = by_vaddr;
        self.by_paddr = by_paddr;
        Ok(())
    }

    fn add_load(&mut self, segment: Segment, at: u64) -> Result<()> {
        if segment.file_len > segment.mem_len {
            return Err(self.bad(at, "p_filesz is above p_memsz"));
        }
        let wraps = |start: u64, len: u64| start.checked_add(len).is_none();
        if wraps(segment.vaddr, segment.mem_len)
            || wraps(segment.paddr, segment.mem_len)
            || wraps(segment.offset, segment.file_len)
        {
            return Err(self.bad(at, "a segment passes 2^64"));
        }
        let end = segment.offset.saturating_add(segment.file_len);
        let missing = end.saturating_sub(self.len.max(segment.offset));
        self.missing_bytes = self.missing_bytes.saturating_add(missing);
        self.loads.push(segment);
        Ok(())
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file's length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the file has no byte; never true of a core that was opened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the memory segments in file order.
    #[must_use]
    pub fn loads(&self) -> &[Segment] {
        &self.loads
    }

    /// Returns the bytes of all notes.
    #[must_use]
    pub fn note_bytes(&self) -> &[u8] {
        &self.notes
    }

    /// Returns where the notes lie in the file.
    #[must_use]
    pub const fn notes_offset(&self) -> u64 {
        self.notes_offset
    }

    /// Walks the notes.
    #[must_use]
    pub fn notes(&self) -> Notes<'_> {
        Notes::new(&self.notes)
    }

    /// Returns the payload of the first note with this name and type.
    #[must_use]
    pub fn note(&self, name: &str, kind: u32) -> Option<&[u8]> {
        self.notes()
            .find(|n: &Note<'_>| n.is(name, kind))
            .map(|n| n.desc)
    }

    /// Returns how many bytes of segments lie past the end of the file: more than 0 when it was cut off.
    #[must_use]
    pub const fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// Returns whether its own header says that not all of the dump is in it: makedumpfile's flag for a disk that got full.
    #[must_use]
    pub const fn is_flagged_incomplete(&self) -> bool {
        self.flags & DUMP_ELF_INCOMPLETE != 0
    }

    /// Returns how much of a segment's memory the file holds: all of it, unless the file was cut off.
    fn held_len(&self, segment: &Segment) -> u64 {
        let in_file = self.len.saturating_sub(segment.offset);
        if in_file < segment.file_len {
            in_file
        } else {
            segment.mem_len
        }
    }

    /// Returns the physical memory that the segments describe, each byte once.
    #[must_use]
    pub fn described(&self) -> Vec<PhysRange> {
        self.physical(|segment| segment.mem_len)
    }

    /// Returns the physical memory that the file holds, each byte once.
    #[must_use]
    pub fn held(&self) -> Vec<PhysRange> {
        self.physical(|segment| self.held_len(segment))
    }

    fn physical(&self, len_of: impl Fn(&Segment) -> u64) -> Vec<PhysRange> {
        let range = |segment: &Segment| PhysRange {
            start: segment.paddr,
            end: segment.paddr.saturating_add(len_of(segment)),
        };
        merged(self.loads.iter().map(range).collect())
    }

    /// Reads memory; returns whether all of it is in the dump.
    fn read(
        &self,
        index: &[usize],
        start_of: fn(&Segment) -> u64,
        mut at: u64,
        mut out: &mut [u8],
    ) -> std::result::Result<(), u64> {
        while !out.is_empty() {
            let after =
                index.partition_point(|i| self.loads.get(*i).is_some_and(|s| start_of(s) <= at));
            let found = index
                .get(..after)
                .unwrap_or_default()
                .iter()
                .rev()
                .filter_map(|i| self.loads.get(*i))
                .find(|s| at.wrapping_sub(start_of(s)) < self.held_len(s))
                .ok_or(at)?;
            let inside = at.wrapping_sub(start_of(found));
            let available = self.held_len(found).saturating_sub(inside);
            let take = usize::try_from(available)
                .unwrap_or(usize::MAX)
                .min(out.len());
            let (now, later) = out.split_at_mut_checked(take).ok_or(at)?;
            let in_file = usize::try_from(found.file_len.saturating_sub(inside))
                .unwrap_or(usize::MAX)
                .min(take);
            let (stored, zeros) = now.split_at_mut_checked(in_file).ok_or(at)?;
            let offset = found.offset.saturating_add(inside);
            self.file.read_exact_at(stored, offset).map_err(|_| at)?;
            zeros.fill(0);
            at = at.wrapping_add(take as u64);
            out = later;
        }
        Ok(())
    }

    /// Fills `out` from virtual address `at`.
    ///
    /// # Errors
    ///
    /// The address that the dump does not have.
    pub fn read_virtual(&self, at: u64, out: &mut [u8]) -> std::result::Result<(), u64> {
        self.read(&self.by_vaddr, |s| s.vaddr, at, out)
    }

    /// Fills `out` from physical address `at`.
    ///
    /// # Errors
    ///
    /// The address that the dump does not have.
    pub fn read_physical(&self, at: u64, out: &mut [u8]) -> std::result::Result<(), u64> {
        self.read(&self.by_paddr, |s| s.paddr, at, out)
    }
}

impl Memory for CoreFile {
    fn read_u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read_virtual(address, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

impl PhysMemory for &CoreFile {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> std::result::Result<(), ReadFault> {
        self.read_physical(pa, buf).map_err(|address| ReadFault {
            address,
            cause: FaultCause::NotRam,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump_file::{DumpFile, Mapping};
    use crate::note_bytes::NoteBytes;
    use proptest::prelude::*;
    use vmcore::registers::PrStatus;

    const LEN: u64 = 0x2000;

    /// Writes a small core into `dir` and returns its bytes up to the end of the notes.
    fn core(dir: &Path) -> Vec<u8> {
        let ram = PhysRange {
            start: 0x1000,
            end: 0x1000 + LEN,
        };
        let mut dump = DumpFile::create(&dir.join("part"), &[ram]).expect("create");
        dump.store(0x1000, &[5; LEN as usize]).expect("store");
        let mut notes = NoteBytes::default();
        notes.add_status(&PrStatus::default());
        let map = Mapping {
            vaddr: 0x1000,
            paddr: 0x1000,
            len: LEN,
        };
        let path = dir.join("core");
        dump.finish(&[map], notes.as_bytes(), &path, true)
            .expect("finish");
        std::fs::read(&path).expect("read")
    }

    fn open(dir: &Path, bytes: &[u8]) -> Result<CoreFile> {
        let path = dir.join("changed");
        std::fs::write(&path, bytes).expect("write");
        CoreFile::open(&path)
    }

    #[track_caller]
    fn assert_rejected_at(change: impl FnOnce(&mut Vec<u8>), expected: u64) {
        let dir = tempfile::tempdir().expect("directory");
        let mut bytes = core(dir.path());
        change(&mut bytes);
        match open(dir.path(), &bytes) {
            Err(Error::NotCore { offset, .. }) => assert_eq!(offset, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_wrong_header_field_is_named_by_its_offset() {
        assert_rejected_at(|b| b[0] = 0, 0);
        assert_rejected_at(|b| b[4] = 1, 4);
        assert_rejected_at(|b| b[5] = 2, 5);
        assert_rejected_at(|b| b[16] = 2, 16);
        assert_rejected_at(|b| b[18] = 62, 18);
        assert_rejected_at(|b| b[54] = 32, 54);
    }

    #[test]
    fn segment_table_past_the_end_is_rejected() {
        assert_rejected_at(
            |b| b[32..40].copy_from_slice(&u64::MAX.to_le_bytes()),
            u64::MAX,
        );
    }

    #[test]
    fn note_past_the_end_of_the_notes_is_rejected() {
        let first_note = 64 + 2 * 56;
        assert_rejected_at(
            |b| b[first_note + 4..first_note + 8].fill(0xff),
            first_note as u64,
        );
    }

    #[test]
    fn segment_that_wraps_is_rejected() {
        assert_rejected_at(|b| b[64 + 56 + 16..64 + 56 + 24].fill(0xff), 64 + 56);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn changed_headers_never_panic(changes in proptest::collection::vec((0_usize..700, any::<u8>()), 1..6)) {
            let dir = tempfile::tempdir().expect("directory");
            let mut bytes = core(dir.path());
            for (at, value) in changes {
                bytes[at] = value;
            }
            if let Ok(core) = open(dir.path(), &bytes) {
                let mut buffer = [0; 64];
                let _ = core.read_virtual(0x1fff, &mut buffer);
                let _ = PhysMemory::read(&mut &core, 0x1000, &mut buffer);
                let _ = crate::inspect::info_text(&core, &crate::contents::Contents::of(core.note_bytes()));
            }
        }
    }
}
