// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vmcore, read with the `object` crate: independent of our own reader.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::elf::{EM_AARCH64, ET_CORE, FileHeader64, NT_PRSTATUS, PT_LOAD};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::memory::{self, Pages};

/// Type of the note that lists what is missing (docs/architecture.md).
const NOTE_GAPS: u32 = 0x4146_0005;
/// Bytes before the entries of one of our lists: version, count, checksum, entry size, argument.
const LIST_HEAD: usize = 24;
/// Where the registers lie in NT_PRSTATUS, and the pid (struct elf_prstatus, arm64).
const PR_PID: usize = 32;
const PR_REG: usize = 112;

/// A note, unpacked.
#[derive(Clone, Debug)]
pub struct Note {
    /// Whose type it is.
    pub name: String,
    /// Type.
    pub kind: u32,
    /// Content.
    pub desc: Vec<u8>,
}

/// A PT_LOAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Virtual address.
    pub vaddr: u64,
    /// Physical address.
    pub paddr: u64,
    /// Where in the file.
    pub offset: u64,
    /// Bytes in the file, and in memory.
    pub len: u64,
}

/// Registers of a CPU, from NT_PRSTATUS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// CPU number + 1.
    pub pid: u32,
    /// x0 to x30.
    pub x: Vec<u64>,
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// Processor state.
    pub pstate: u64,
}

/// A range that the GAPS note declares as missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Physical addresses.
    pub range: Range<u64>,
    /// Why, as `docs/protocol.md` numbers it.
    pub class: u32,
}

/// A vmcore.
#[derive(Debug)]
pub struct Dump {
    /// Its path.
    pub path: PathBuf,
    file: File,
    /// PT_LOADs, in the file's order.
    pub loads: Vec<Load>,
    /// All notes, in the file's order.
    pub notes: Vec<Note>,
}

impl Dump {
    /// Reads headers and notes.
    ///
    /// # Panics
    /// It is no ELF64 core file for AArch64.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cache = ReadCache::new(file.try_clone().expect("a second handle of a file"));
        let header = FileHeader64::<LittleEndian>::parse(&cache).expect("an ELF header");
        let endian = header.endian().expect("little-endian");
        assert_eq!(header.e_type(endian), ET_CORE);
        assert_eq!(header.e_machine(endian), EM_AARCH64);
        let (mut loads, mut notes) = (Vec::new(), Vec::new());
        for segment in header
            .program_headers(endian, &cache)
            .expect("program headers")
        {
            if segment.p_type(endian) == PT_LOAD {
                let len = segment.p_filesz(endian);
                assert_eq!(
                    len,
                    segment.p_memsz(endian),
                    "what is missing is absent, not zero"
                );
                let (offset, paddr) = (segment.p_offset(endian), segment.p_paddr(endian));
                loads.push(Load {
                    vaddr: segment.p_vaddr(endian),
                    paddr,
                    offset,
                    len,
                });
            }
            let Some(mut found) = segment.notes(endian, &cache).expect("notes") else {
                continue;
            };
            while let Some(note) = found.next().expect("a note") {
                let name = String::from_utf8_lossy(note.name())
                    .trim_end_matches('\0')
                    .to_owned();
                notes.push(Note {
                    name,
                    kind: note.n_type(endian).0,
                    desc: note.desc().to_vec(),
                });
            }
        }
        Self {
            path: path.to_owned(),
            file,
            loads,
            notes,
        }
    }

    /// All pages that are not zero, by physical address.
    ///
    /// # Panics
    /// Two segments hold different bytes of the same page.
    #[must_use]
    pub fn pages(&self) -> Pages {
        let mut pages = Pages::new();
        for load in &self.loads {
            memory::read_pages(
                &self.file,
                load.offset..load.offset + load.len,
                |offset, page| {
                    let at = load.paddr + offset;
                    if let Some(other) = pages.get(&at) {
                        assert!(*other == page, "two segments differ in the page at {at:#x}");
                    }
                    pages.insert(at, page);
                },
            );
        }
        pages
    }

    /// Physical addresses that the file holds, merged and in order.
    #[must_use]
    pub fn covered(&self) -> Vec<Range<u64>> {
        merged(
            self.loads
                .iter()
                .map(|load| load.paddr..load.paddr + load.len)
                .collect(),
        )
    }

    /// Registers of each CPU, in the file's order.
    #[must_use]
    pub fn registers(&self) -> Vec<Registers> {
        let is_status = |note: &&Note| note.name == "CORE" && note.kind == NT_PRSTATUS.0;
        self.notes
            .iter()
            .filter(is_status)
            .map(|note| registers(&note.desc))
            .collect()
    }

    /// Registers of CPU `cpu`.
    ///
    /// # Panics
    /// The file holds none.
    #[must_use]
    pub fn registers_of(&self, cpu: u32) -> Registers {
        let all = self.registers();
        all.iter()
            .find(|found| found.pid == cpu + 1)
            .unwrap_or_else(|| panic!("no CPU {cpu} in {all:x?}"))
            .clone()
    }

    /// What the file says is missing from it.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let of_gaps = |note: &&Note| note.name == "AFTERIMAGE" && note.kind == NOTE_GAPS;
        let lists = self
            .notes
            .iter()
            .filter(of_gaps)
            .map(|note| note.desc.get(LIST_HEAD..).unwrap_or(&[]));
        lists
            .flat_map(|list| list.chunks_exact(24))
            .map(|entry| Gap {
                range: word(entry, 0)..word(entry, 8),
                class: word(entry, 16) as u32,
            })
            .collect()
    }
}

/// Sorts ranges and joins those that touch.
#[must_use]
pub fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

fn registers(desc: &[u8]) -> Registers {
    assert_eq!(desc.len(), 392, "size of arm64's struct elf_prstatus");
    let register = |number: usize| word(desc, PR_REG + 8 * number);
    Registers {
        pid: word(desc, PR_PID) as u32,
        x: (0..31).map(register).collect(),
        sp: register(31),
        pc: register(32),
        pstate: register(33),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let part = bytes
        .get(at..at + 8)
        .expect("a note long enough for its fields");
    part.iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_ranges_that_touch_become_one() {
        assert_eq!(merged(vec![8..9, 1..3, 3..5, 6..6]), [1..5, 8..9]);
    }

    #[test]
    fn merged_ranges_with_a_gap_stay_apart() {
        assert_eq!(merged(vec![4..5, 1..3]), [1..3, 4..5]);
    }
}
