// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a dump as a sparse ELF core while its blocks arrive.
//!
//! Where each byte of memory goes is known as soon as the RAM ranges are: header, program headers and notes have a
//! reserved area in front (they go to the end of the file when they outgrow it), memory follows, range after range.
//! A segment is cut at every gap, so what is missing is absent; zero pages are holes in the file. Two segments over the
//! same memory (linear mapping and kernel text mapping) share its bytes. ELF gABI chapter 5; PN_XNUM as in elf(5).

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vmcore::elf_core::{DUMP_ELF_INCOMPLETE, EHDR_LEN, PHDR_LEN, PN_XNUM, PT_NOTE, SHDR_LEN};
use vmcore::gap_map::GapMap;
use vmcore::{PAGE_SIZE, PageClass, PhysRange};

use crate::error::{Error, Result};

mod headers;

use headers::{elf_header, put_load, put_phdr, section_zero};

/// Bytes in front of the memory for headers and notes.
pub const RESERVED: u64 = 128 << 10;

/// A page of zeros, to compare with.
static ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];

/// A mapping that becomes segments: `len` bytes at `vaddr` show the memory at `paddr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Virtual address in the crashed kernel.
    pub vaddr: u64,
    /// Physical address.
    pub paddr: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A dump being written.
#[derive(Debug)]
pub struct DumpFile {
    path: PathBuf,
    file: File,
    /// RAM ranges, sorted and disjoint, with the file offset of each.
    storage: Vec<(PhysRange, u64)>,
    data_end: u64,
    classes: GapMap,
    stored_bytes: u64,
    /// It may hold anything where nothing is known.
    is_old: bool,
    /// e_flags of the header.
    flags: u32,
}

/// Returns the name of the file while it is being received.
#[must_use]
pub fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Longest wait for the lock on a part file.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Whether somebody else keeps the lock. For a moment it may be a program on its way up: a child shares its parent's locks until it is
/// executed (flock(2)), which outlasts the parent's own use of the file.
fn is_locked(file: &File) -> bool {
    let start = Instant::now();
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        if start.elapsed() > LOCK_WAIT {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

impl DumpFile {
    /// Creates the file at `path` for the memory in `ram`; all of it is lost until written or marked.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; [`Error::Manifest`] when the ranges overlap, are unaligned or too large for a file.
    pub fn create(path: &Path, ram: &[PhysRange]) -> Result<Self> {
        Self::open(path, ram, false)
    }

    /// Opens the file that an earlier run created for the same memory. What it holds counts as lost all the same, until it
    /// is stored again; [`DumpFile::read_old`] reads it.
    ///
    /// # Errors
    ///
    /// Those of [`DumpFile::create`].
    pub fn reopen(path: &Path, ram: &[PhysRange]) -> Result<Self> {
        Self::open(path, ram, true)
    }

    fn open(path: &Path, ram: &[PhysRange], is_old: bool) -> Result<Self> {
        let (storage, data_end) = place(ram)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::file("create", path))?;
        // Another run of the command may be receiving into it.
        if is_locked(&file) {
            return Err(Error::InUse(path.to_path_buf()));
        }
        if !is_old {
            file.set_len(0).map_err(Error::file("size", path))?;
        }
        let len = file.metadata().map_err(Error::file("read", path))?.len();
        // Behind the memory of an old file its headers may lie: it stays a valid core.
        if len < data_end {
            file.set_len(data_end).map_err(Error::file("size", path))?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            storage,
            data_end,
            classes: GapMap::new(),
            stored_bytes: 0,
            is_old,
            flags: 0,
        })
    }

    /// Flags the file as incomplete in its header, as makedumpfile does.
    pub const fn flag_incomplete(&mut self) {
        self.flags |= DUMP_ELF_INCOMPLETE;
    }

    /// Returns the RAM ranges in ascending order.
    pub fn ram(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.storage.iter().map(|(range, _)| *range)
    }

    /// Returns the bytes of memory that were written, zero pages left out.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Stores `bytes` of the memory at `paddr`; zero pages become holes. What lies outside RAM is left out.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the disk is full or fails.
    pub fn store(&mut self, paddr: u64, bytes: &[u8]) -> Result<()> {
        let mut at = paddr;
        let mut rest = bytes;
        while !rest.is_empty() {
            let to_boundary = PAGE_SIZE.saturating_sub(at % PAGE_SIZE) as usize;
            let (page, later) = rest.split_at_checked(to_boundary).unwrap_or((rest, &[]));
            self.store_page(at, page)?;
            at = at.wrapping_add(page.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn store_page(&mut self, paddr: u64, page: &[u8]) -> Result<()> {
        let end = paddr.saturating_add(page.len() as u64);
        let range = PhysRange { start: paddr, end };
        let Some(offset) = self.file_offset(range) else {
            return Ok(());
        };
        if ZEROS.get(..page.len()) == Some(page) {
            return self.mark(range, PageClass::Zero);
        }
        self.file
            .write_all_at(page, offset)
            .map_err(Error::file("write", &self.path))?;
        self.classes.insert(range, PageClass::Data);
        self.stored_bytes = self.stored_bytes.saturating_add(page.len() as u64);
        Ok(())
    }

    /// Returns whether all of `range` is RAM.
    #[must_use]
    pub fn has(&self, range: PhysRange) -> bool {
        self.file_offset(range).is_some()
    }

    /// Fills `out` with the memory at `paddr`; returns whether all of it is known.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the file cannot be read.
    pub fn read(&self, paddr: u64, out: &mut [u8]) -> Result<bool> {
        let Some(end) = paddr.checked_add(out.len() as u64) else {
            return Ok(false);
        };
        let range = PhysRange { start: paddr, end };
        if self
            .pieces_of(range)
            .iter()
            .any(|(_, class)| !class.is_known())
        {
            return Ok(false);
        }
        self.read_old(range, out)
    }

    /// Fills `out` with what the file holds of `range`, known or not; returns whether that is RAM.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the file cannot be read.
    pub fn read_old(&self, range: PhysRange, out: &mut [u8]) -> Result<bool> {
        let Some(offset) = self.file_offset(range) else {
            return Ok(false);
        };
        self.file
            .read_exact_at(out, offset)
            .map_err(Error::file("read", &self.path))?;
        Ok(true)
    }

    /// Stores in the page at `to` what the one at `from` holds; returns whether that is known.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the disk is full or fails.
    pub fn copy_page(&mut self, from: u64, to: u64) -> Result<bool> {
        let mut page = [0; PAGE_SIZE as usize];
        let is_known = self.read(from, &mut page)?;
        if is_known {
            self.store(to, &page)?;
        }
        Ok(is_known)
    }

    /// Notes that `range` is all zeros, or missing for a reason.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when an old file cannot be cleared there.
    pub fn mark(&mut self, range: PhysRange, class: PageClass) -> Result<()> {
        if self.is_old && class == PageClass::Zero {
            for (ram, _) in &self.storage {
                self.clear(ram.intersection(&range))?;
            }
        }
        self.classes.insert(range, class);
        Ok(())
    }

    /// Makes a hole of `range`, which is RAM.
    fn clear(&self, range: PhysRange) -> Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let Some(offset) = self.file_offset(range).filter(|_| !range.is_empty()) else {
            return Ok(());
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.file, flags, offset, range.len()).is_ok() {
            return Ok(());
        }
        // Not every file system has holes.
        let mut at = offset;
        let end = offset.saturating_add(range.len());
        while at < end {
            let len = usize::try_from(end.saturating_sub(at))
                .map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
            self.file
                .write_all_at(ZEROS.get(..len).unwrap_or_default(), at)
                .map_err(Error::file("write", &self.path))?;
            at = at.saturating_add(len as u64);
        }
        Ok(())
    }

    /// Returns what is known of each piece of RAM, in ascending order.
    #[must_use]
    pub fn pieces(&self) -> Vec<(PhysRange, PageClass)> {
        self.ram().flat_map(|range| self.pieces_of(range)).collect()
    }

    /// Returns `range` cut into pieces of one class each, without holes; what nothing is known of is lost.
    fn pieces_of(&self, range: PhysRange) -> Vec<(PhysRange, PageClass)> {
        let mut out = Vec::new();
        let mut at = range.start;
        for (run, class) in self.classes.overlapping(range) {
            let piece = run.intersection(&range);
            if at < piece.start {
                out.push((
                    PhysRange {
                        start: at,
                        end: piece.start,
                    },
                    PageClass::Lost,
                ));
            }
            at = piece.end;
            out.push((piece, class));
        }
        if at < range.end {
            out.push((
                PhysRange {
                    start: at,
                    end: range.end,
                },
                PageClass::Lost,
            ));
        }
        out
    }

    fn file_offset(&self, range: PhysRange) -> Option<u64> {
        let after = self
            .storage
            .partition_point(|(r, _)| r.start <= range.start);
        let (ram, offset) = self.storage.get(after.checked_sub(1)?)?;
        if range.end > ram.end {
            return None;
        }
        Some(offset.saturating_add(range.start.saturating_sub(ram.start)))
    }

    /// Returns the program headers of the present pieces of `mapping`.
    fn segments_of(&self, mapping: &Mapping, table: &mut Vec<u8>) {
        let mapped = PhysRange {
            start: mapping.paddr,
            end: mapping.paddr.saturating_add(mapping.len),
        };
        let first = self
            .storage
            .partition_point(|(ram, _)| ram.end <= mapped.start);
        for (ram, offset) in self.storage.get(first..).unwrap_or_default() {
            let shared = ram.intersection(&mapped);
            if shared.is_empty() {
                break;
            }
            let mut run: Option<PhysRange> = None;
            for (piece, class) in self.pieces_of(shared) {
                run = match (run, class.is_known()) {
                    (Some(r), true) => Some(PhysRange {
                        start: r.start,
                        end: piece.end,
                    }),
                    (None, true) => Some(piece),
                    (ended, false) => {
                        put_load(table, ended, mapping, ram, *offset);
                        None
                    }
                };
            }
            put_load(table, run, mapping, ram, *offset);
        }
    }

    /// Writes the headers, so that the file is a valid core of what arrived until now.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the disk is full or fails.
    pub fn write_headers(&self, mappings: &[Mapping], notes: &[u8]) -> Result<()> {
        let mut loads = Vec::new();
        for mapping in mappings {
            self.segments_of(mapping, &mut loads);
        }
        let count = loads.len() / PHDR_LEN + 1;
        let has_many = count >= usize::from(PN_XNUM);
        // The section header comes first where there is one; it carries the true count.
        let section_len = if has_many { SHDR_LEN } else { 0 };
        let head = (EHDR_LEN + section_len) as u64;
        let table_len = (count * PHDR_LEN) as u64;
        let notes_len = notes.len() as u64;
        let fits = head.saturating_add(table_len).saturating_add(notes_len) <= RESERVED;
        let table_at = if fits { head } else { self.data_end };
        let notes_at = table_at.saturating_add(table_len);
        let end = if fits {
            self.data_end
        } else {
            notes_at.saturating_add(notes_len)
        };

        let mut table = Vec::with_capacity(loads.len() + PHDR_LEN);
        put_phdr(
            &mut table,
            [PT_NOTE, 0],
            [notes_at, 0, 0, notes_len, notes_len, 4],
        );
        table.extend_from_slice(&loads);
        let count_field = if has_many { PN_XNUM } else { count as u16 };
        let mut header = elf_header(table_at, count_field, has_many, self.flags);
        if has_many {
            header.extend_from_slice(&section_zero(count as u32));
        }
        // A longer tail of an earlier call is cut off, then the header comes last: it makes the rest valid.
        self.file
            .set_len(end)
            .map_err(Error::file("size", &self.path))?;
        for (bytes, at) in [(&table[..], table_at), (notes, notes_at), (&header[..], 0)] {
            self.file
                .write_all_at(bytes, at)
                .map_err(Error::file("write", &self.path))?;
        }
        Ok(())
    }

    /// Writes the headers, waits for the disk and gives the file its name. With `overwrite` an existing file is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; [`Error::Exists`] when the name was taken meanwhile. The part file then stays.
    pub fn finish(
        self,
        mappings: &[Mapping],
        notes: &[u8],
        path: &Path,
        overwrite: bool,
    ) -> Result<u64> {
        self.write_headers(mappings, notes)?;
        self.file
            .sync_all()
            .map_err(Error::file("write", &self.path))?;
        let len = self
            .file
            .metadata()
            .map_err(Error::file("read", &self.path))?
            .len();
        if overwrite {
            std::fs::rename(&self.path, path).map_err(Error::file("create", path))?;
            return Ok(len);
        }
        // A hard link fails where rename would silently replace a file that came between.
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => {
                std::fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(path.to_path_buf()));
            }
            // Not every file system has hard links.
            Err(_) => std::fs::rename(&self.path, path).map_err(Error::file("create", path))?,
        }
        Ok(len)
    }
}

/// Returns where in the file each range lies, in ascending order, and where the last ends.
fn place(ram: &[PhysRange]) -> Result<(Vec<(PhysRange, u64)>, u64)> {
    let mut sorted: Vec<PhysRange> = ram.iter().copied().filter(|r| !r.is_empty()).collect();
    sorted.sort();
    let mut storage = Vec::with_capacity(sorted.len());
    let mut offset = RESERVED;
    let mut last_end = 0;
    for range in sorted {
        if range.start < last_end {
            return Err(Error::Manifest(format!(
                "RAM range at {:#x} overlaps the one before",
                range.start
            )));
        }
        last_end = range.end;
        // The offset stays congruent to the address, so that page-aligned memory is page-aligned in the file.
        offset = offset.saturating_add(range.start % PAGE_SIZE);
        storage.push((range, offset));
        offset = offset
            .saturating_add(range.len())
            .next_multiple_of(PAGE_SIZE);
        if offset >= 1 << 62 {
            return Err(Error::Manifest(format!("RAM of more than {offset} bytes")));
        }
    }
    Ok((storage, offset))
}

#[cfg(test)]
mod tests;
