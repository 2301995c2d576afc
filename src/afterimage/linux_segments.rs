// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a crashed Linux at the addresses that its own page tables give it.
//!
//! Linux's ELF core header has the linear map and, if kexec-tools found it, the kernel's image. Stacks, modules, per-CPU data and all else
//! that vmalloc() hands out lie elsewhere: a debugger that does not walk page tables sees no stack.

use vmcore::elf_core::Segment;
use vmcore::linux::{LinearMap, PageTables, Span, Vmcoreinfo};

use crate::core_file::CoreFile;

/// Descriptors that are read at most: the mappings of 4 GiB by pages of 4 KiB.
const MOST_READS: u32 = 1 << 22;
/// More than one walk takes.
const LEVELS: u32 = 8;

/// Segments, and whether they are all.
#[derive(Debug, Default)]
pub struct LinuxSegments {
    /// What is mapped, in order of address; then RAM in the linear map.
    pub segments: Vec<Segment>,
    /// Whether the tables were walked to their end.
    pub is_all: bool,
}

impl LinuxSegments {
    /// Walks the tables of the kernel that wrote this note.
    ///
    /// # Errors
    ///
    /// When VMCOREINFO does not say where the tables are, or where the linear map is.
    pub fn of(core: &CoreFile, info: &Vmcoreinfo<'_>) -> Result<Self, vmcore::Error> {
        let (tables, linear) = (PageTables::of(info)?, LinearMap::of(info)?);
        let places = Places::of(core);
        let mut segments = Vec::new();
        let mut reads = MOST_READS;
        let mut next = Some(linear.end());
        let mut memory = core;
        while let Some((va, span)) =
            next.and_then(|va| tables.next_mapped(&mut memory, va, &mut reads))
        {
            places.add(va, span, &mut segments);
            next = va.checked_add(span.len);
        }
        let is_all = reads > LEVELS;
        let of_ram = |place: &Segment| Segment {
            vaddr: linear.va_of(place.paddr).unwrap_or(place.vaddr),
            ..*place
        };
        segments.extend(places.0.iter().map(of_ram));
        Ok(Self { segments, is_all })
    }
}

/// The memory in a core, each byte once, in order of physical address.
struct Places(Vec<Segment>);

impl Places {
    fn of(core: &CoreFile) -> Self {
        let mut all = core.loads().to_vec();
        // Of several that begin at one address the longest.
        all.sort_by_key(|load| (load.paddr, u64::MAX.saturating_sub(load.mem_len)));
        let mut places: Vec<Segment> = Vec::new();
        for load in all {
            let last = places.last();
            let seen = last.map_or(0, |last| last.paddr.saturating_add(last.mem_len));
            let skipped = seen.saturating_sub(load.paddr);
            if let Some(rest) = part(&load, skipped, u64::MAX) {
                places.push(rest);
            }
        }
        Self(places)
    }

    /// Adds to `segments` what the core holds of `span`, which is mapped at `va`.
    fn add(&self, va: u64, span: Span, segments: &mut Vec<Segment>) {
        let end = span.pa.saturating_add(span.len);
        let first = self
            .0
            .partition_point(|place| place.paddr.saturating_add(place.mem_len) <= span.pa);
        for place in self.0.get(first..).unwrap_or_default() {
            if place.paddr >= end {
                break;
            }
            let skipped = span.pa.saturating_sub(place.paddr);
            let most = end.saturating_sub(place.paddr.max(span.pa));
            let Some(found) = part(place, skipped, most) else {
                continue;
            };
            let vaddr = va.wrapping_add(found.paddr.saturating_sub(span.pa));
            push(segments, Segment { vaddr, ..found });
        }
    }
}

/// Returns the part of a segment behind its first `skipped` bytes, of at most `most`.
fn part(segment: &Segment, skipped: u64, most: u64) -> Option<Segment> {
    let mem_len = segment.mem_len.checked_sub(skipped)?.min(most);
    (mem_len > 0).then(|| Segment {
        offset: segment.offset.saturating_add(skipped),
        vaddr: segment.vaddr.wrapping_add(skipped),
        paddr: segment.paddr.saturating_add(skipped),
        file_len: segment.file_len.saturating_sub(skipped).min(mem_len),
        mem_len,
        ..*segment
    })
}

/// Adds a segment, to the last one where it goes on in every respect.
fn push(segments: &mut Vec<Segment>, next: Segment) {
    let goes_on = |last: &&mut Segment| {
        last.file_len == last.mem_len
            && last.vaddr.checked_add(last.mem_len) == Some(next.vaddr)
            && last.paddr.checked_add(last.mem_len) == Some(next.paddr)
            && last.offset.checked_add(last.file_len) == Some(next.offset)
    };
    match segments.last_mut().filter(goes_on) {
        Some(last) => {
            last.mem_len = last.mem_len.saturating_add(next.mem_len);
            last.file_len = last.file_len.saturating_add(next.file_len);
        }
        None => segments.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Contents;
    use crate::dump_file::{DumpFile, Mapping};
    use crate::note_bytes::NoteBytes;
    use std::path::Path;
    use vmcore::PhysRange;

    const RAM: u64 = 0x4000_0000;
    const LEN: u64 = 0x8000;
    /// 39 bits of address: the linear map is the lower half.
    const LINEAR: u64 = 0xffff_ff80_0000_0000;
    const UPPER: u64 = 0xffff_ffc0_0000_0000;
    const IMAGE: u64 = 0xffff_ffd0_0000_0000;
    const TABLE: u64 = 3;
    const PAGE: u64 = 0x703;

    /// VMCOREINFO of a kernel whose tables begin at RAM.
    fn note() -> String {
        let distance = IMAGE - RAM;
        format!(
            "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)={IMAGE:x}\nNUMBER(VA_BITS)=39\nNUMBER(TCR_EL1_T1SZ)=0x19\n\
             NUMBER(kimage_voffset)={distance:#x}\nNUMBER(PHYS_OFFSET)={RAM:#x}\n"
        )
    }

    /// A core in which pages 5, 6 and 4 are mapped at UPPER, and behind them one that is no RAM. Of its segments one shows two pages a second
    /// time, and the other says a wrong address, as kexec-tools may.
    fn core(dir: &Path, note: &str) -> CoreFile {
        let ram = PhysRange {
            start: RAM,
            end: RAM + LEN,
        };
        let mut dump = DumpFile::create(&dir.join("part"), &[ram]).expect("create");
        let descriptors = [
            (0x0800, (RAM + 0x1000) | TABLE),
            (0x1000, (RAM + 0x2000) | TABLE),
            (0x2000, (RAM + 0x5000) | PAGE),
            (0x2008, (RAM + 0x6000) | PAGE),
            (0x2010, (RAM + 0x4000) | PAGE),
            (0x2018, 0x900_0000 | PAGE),
        ];
        let mut memory = vec![0; LEN as usize];
        for (at, descriptor) in descriptors {
            memory[at..at + 8].copy_from_slice(&u64::to_le_bytes(descriptor));
        }
        for page in 4..8 {
            memory[page << 12..][..8].fill(page as u8);
        }
        dump.store(RAM, &memory).expect("store");
        let mut notes = NoteBytes::default();
        notes.add(b"VMCOREINFO", 0, note.as_bytes());
        let maps = [(0x1000, RAM + 0x3000, 0x2000), (0x7000_0000, RAM, LEN)];
        let maps = maps.map(|(vaddr, paddr, len)| Mapping { vaddr, paddr, len });
        let path = dir.join("vmcore");
        dump.finish(&maps, notes.as_bytes(), &path, false)
            .expect("finish");
        CoreFile::open(&path).expect("core")
    }

    fn segments(core: &CoreFile) -> Result<LinuxSegments, vmcore::Error> {
        let contents = Contents::of(core.note_bytes());
        LinuxSegments::of(core, contents.linux().expect("a Linux"))
    }

    #[test]
    fn what_is_mapped_and_the_linear_map_are_segments() {
        let dir = tempfile::tempdir().expect("directory");
        let core = core(dir.path(), &note());
        let found = segments(&core).expect("tables");
        assert!(found.is_all);
        let places = found
            .segments
            .iter()
            .map(|one| (one.vaddr, one.paddr, one.mem_len));
        let places: Vec<_> = places.collect();
        let expected = [
            (UPPER, RAM + 0x5000, 0x2000),
            (UPPER + 0x2000, RAM + 0x4000, 0x1000),
            (LINEAR, RAM, LEN),
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn stack_is_read_where_it_is_mapped() {
        let dir = tempfile::tempdir().expect("directory");
        let core = core(dir.path(), &note());
        assert!(core.read_virtual(UPPER, &mut [0]).is_err());
        let found = segments(&core).expect("tables");
        let copy = crate::gdb_core::write(&core, &found.segments).expect("copy");
        let copied = CoreFile::open(copy.path()).expect("core");
        let read = |at| {
            let mut byte = [0];
            copied.read_virtual(at, &mut byte).map(|()| byte[0])
        };
        assert_eq!(read(UPPER), Ok(5));
        assert_eq!(read(UPPER + 0x1007), Ok(6));
        assert_eq!(read(UPPER + 0x2000), Ok(4));
        assert_eq!(read(UPPER + 0x3000), Err(UPPER + 0x3000));
        assert_eq!(read(LINEAR + 0x7000), Ok(7));
    }

    #[test]
    fn note_without_tables_or_linear_map_is_refused() {
        for key in [
            "SYMBOL(swapper_pg_dir)",
            "NUMBER(PHYS_OFFSET)",
            "NUMBER(VA_BITS)",
        ] {
            let dir = tempfile::tempdir().expect("directory");
            let note = note().replace(key, "NUMBER(other)");
            let error = segments(&core(dir.path(), &note)).expect_err("nothing to walk");
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn part_of_a_segment_that_ends_in_zeros_keeps_them() {
        let whole = Segment {
            vaddr: 0x1000,
            paddr: 0x8000,
            offset: 0x200,
            file_len: 0x100,
            mem_len: 0x300,
            ..Segment::default()
        };
        let behind = part(&whole, 0x180, 0x80).expect("zeros");
        assert_eq!((behind.file_len, behind.mem_len), (0, 0x80));
        let over = part(&whole, 0x80, u64::MAX).expect("both");
        assert_eq!((over.file_len, over.mem_len), (0x80, 0x280));
        assert_eq!(
            (over.vaddr, over.paddr, over.offset),
            (0x1080, 0x8080, 0x280)
        );
        assert_eq!(part(&whole, 0x300, 1), None);
        assert_eq!(part(&whole, 0x301, 1), None);
    }
}
