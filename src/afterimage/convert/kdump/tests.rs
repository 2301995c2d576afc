// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the kdump-compressed format: what a reader finds, page by page, is what the core holds.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vmcore::PageClass;
use vmcore::afterimage_notes::Gap;

use super::*;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::dump_file::{DumpFile, Mapping};
use crate::note_bytes::NoteBytes;

const BASE: u64 = 0x4000_0000;
const PAGE: u64 = 4096;

/// A file in memory.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset as usize + bytes.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a reader finds in a kdump file, by makedumpfile's description of the format.
struct Found {
    bytes: Vec<u8>,
    block: usize,
}

impl Found {
    fn word(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("4")) as usize
    }

    fn wide(&self, at: usize) -> usize {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("8")) as usize
    }

    fn bitmaps_at(&self) -> usize {
        self.block * (1 + self.word(432))
    }

    fn bitmap(&self, number: usize) -> Vec<u64> {
        let len = self.word(436) * self.block / 2;
        let start = self.bitmaps_at() + number * len;
        let bytes = &self.bytes[start..start + len];
        let bits = (0..len as u64 * 8).filter(|bit| bytes[*bit as usize / 8] >> (bit % 8) & 1 == 1);
        bits.collect()
    }

    /// Returns the pages by number.
    fn pages(&self) -> BTreeMap<u64, Vec<u8>> {
        let table = self.bitmaps_at() + self.word(436) * self.block;
        let page = |(index, number)| {
            let at = table + index * 24;
            let (offset, len) = (self.wide(at), self.word(at + 8));
            let bytes = &self.bytes[offset..offset + len];
            let page = match self.word(at + 12) {
                0 => bytes.to_vec(),
                1 => miniz_oxide::inflate::decompress_to_vec_zlib(bytes).expect("zlib"),
                flags => panic!("flags {flags:#x}"),
            };
            (number, page)
        };
        self.bitmap(1).into_iter().enumerate().map(page).collect()
    }
}

/// Converts a core with this memory: pages by their place in RAM; `None` is a gap.
fn converted(pages: &[Option<u8>], notes: &[u8], level: u32) -> Found {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("core");
    let len = pages.len() as u64 * PAGE;
    let ram = PhysRange {
        start: BASE,
        end: BASE + len,
    };
    let mut dump = DumpFile::create(&dir.path().join("part"), &[ram]).expect("create");
    let mut gaps = Vec::new();
    for (at, page) in (BASE..).step_by(PAGE as usize).zip(pages) {
        match page {
            Some(byte) => dump.store(at, &content(*byte)).expect("store"),
            None => gaps.push(Gap {
                range: PhysRange {
                    start: at,
                    end: at + PAGE,
                },
                class: PageClass::Free,
            }),
        }
    }
    let mut all = NoteBytes::default();
    vmcore::notes::Notes::new(notes).for_each(|note| all.add_note(&note));
    all.add_gaps(&gaps, true);
    let mapping = |vaddr| Mapping {
        vaddr,
        paddr: BASE,
        len,
    };
    // Two mappings of the same memory, as the kernel's text has.
    let mappings = [
        mapping(0xffff_0000_0000_0000),
        mapping(0xffff_8000_0000_0000),
    ];
    dump.finish(&mappings, all.as_bytes(), &path, false)
        .expect("finish");
    let core = CoreFile::open(&path).expect("core");
    let contents = Contents::of(core.note_bytes());
    let source = Source::new(&core, &contents).expect("source");
    let kernel = Kernel::of(&source).expect("kernel");
    let block = kernel.page_size;
    let whole = source.pages(block).whole;
    let how = How {
        level,
        is_incomplete: false,
    };
    let mut bytes = Bytes::default();
    let never = Interrupt::never();
    assert!(write(&source, kernel, &whole, how, &mut bytes, &never).expect("kdump"));
    assert_eq!(
        &bytes.0[block as usize + 104..][..all.as_bytes().len()],
        all.as_bytes()
    );
    Found {
        bytes: bytes.0,
        block: block as usize,
    }
}

/// Returns a page: zeros, what packs, or what does not.
fn content(byte: u8) -> Vec<u8> {
    let noise = |n: u64| {
        let mixed = (n ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .to_be_bytes()[1]
    };
    match byte {
        200.. => (0..PAGE).map(noise).collect(),
        byte => vec![byte; PAGE as usize],
    }
}

fn vmcoreinfo(text: &str) -> Vec<u8> {
    let mut notes = NoteBytes::default();
    notes.add(b"VMCOREINFO", 0, text.as_bytes());
    notes.as_bytes().to_vec()
}

#[test]
fn zero_pages_share_one_and_noise_is_stored() {
    let found = converted(&[Some(0), Some(7), Some(0), Some(255)], &[], 1);
    let table = found.bitmaps_at() + found.word(436) * found.block;
    let descriptors: Vec<(usize, usize, usize)> = (0..4)
        .map(|n| table + 24 * n)
        .map(|at| (found.wide(at), found.word(at + 8), found.word(at + 12)))
        .collect();
    assert_eq!(descriptors[0], (table + 4 * 24, 4096, 0));
    assert_eq!(descriptors[2], descriptors[0]);
    assert_eq!((descriptors[1].1 < 100, descriptors[1].2), (true, 1));
    assert_eq!((descriptors[3].1, descriptors[3].2), (4096, 0));
    assert_eq!(found.bytes.len(), descriptors[3].0 + 4096);
}

#[test]
fn gap_is_ram_but_not_in_the_file() {
    let found = converted(&[Some(1), None, Some(2)], &[], 17);
    let first = BASE / PAGE;
    assert_eq!(found.bitmap(0), [first, first + 1, first + 2]);
    assert_eq!(found.bitmap(1), [first, first + 2]);
    assert_eq!(found.wide(4096 + 96), first as usize + 3);
    assert_eq!((found.word(424), found.word(4096 + 8)), (1, 17));
}

#[test]
fn larger_pages_are_whole_or_absent() {
    let mut pages = vec![Some(3); 48];
    pages[20] = None;
    let found = converted(&pages, &vmcoreinfo("OSRELEASE=6.1\nPAGESIZE=65536\n"), 1);
    assert_eq!(found.block, 65536);
    let first = BASE / 65536;
    assert_eq!(found.bitmap(0), [first, first + 1, first + 2]);
    assert_eq!(found.bitmap(1), [first, first + 2]);
    assert_eq!(found.pages()[&first], vec![3; 65536]);
}

#[test]
fn part_of_a_page_that_is_no_ram_reads_as_zeros() {
    let found = converted(&[Some(3); 20], &vmcoreinfo("PAGESIZE=16384\n"), 1);
    assert_eq!(found.bitmap(1).len(), 5);
    let found = converted(&[Some(3); 18], &vmcoreinfo("PAGESIZE=16384\n"), 1);
    let last = &found.pages()[&(BASE / 16384 + 4)];
    assert!(last[..8192].iter().all(|byte| *byte == 3));
    assert!(last[8192..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_linux_says_is_in_the_headers() {
    let text =
        "OSRELEASE=6.12.1\nPAGESIZE=4096\nNUMBER(PHYS_OFFSET)=0x12340000\nCRASHTIME=1700000000\n";
    let found = converted(&[Some(1)], &vmcoreinfo(text), 1);
    assert_eq!(&found.bytes[12..17], b"Linux");
    assert_eq!(&found.bytes[142..149], b"6.12.1\0");
    assert_eq!(&found.bytes[272..279], b"aarch64");
    assert_eq!(found.wide(408), 1_700_000_000);
    assert_eq!(found.wide(4096), 0x1234_0000);
    let (start, len) = (found.wide(4096 + 32), found.wide(4096 + 40));
    assert_eq!(&found.bytes[start..start + len], text.as_bytes());
}

#[test]
fn bitmap_bits_cross_bytes_and_parts() {
    let mut bytes = Bytes::default();
    let bits = BITMAP_PART * 8;
    let ranges = [3..5, 6..21, bits - 1..bits + 2, 3 * bits..3 * bits + 1];
    put_bitmap(100, &ranges, &mut bytes).expect("bitmap");
    let bit = |n: u64| bytes.0[100 + (n / 8) as usize] >> (n % 8) & 1 == 1;
    let found: Vec<u64> = (0..=3 * bits).filter(|n| bit(*n)).collect();
    let expected: Vec<u64> = ranges.into_iter().flatten().collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_page_comes_back(pages in proptest::collection::vec(proptest::option::of(any::<u8>()), 1..60)) {
        let found = converted(&pages, &[], 1).pages();
        let numbered = (BASE / PAGE..).zip(&pages);
        let expected: BTreeMap<u64, Vec<u8>> =
            numbered.filter_map(|(n, page)| Some((n, content((*page)?)))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn changed_headers_never_panic(changes in proptest::collection::vec((0_usize..900, any::<u8>()), 1..6)) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("core");
        let mut bytes = small_core(&path);
        for (at, value) in changes {
            bytes[at] = value;
        }
        std::fs::write(&path, bytes).expect("write");
        let Ok(core) = CoreFile::open(&path) else { return Ok(()) };
        let contents = Contents::of(core.note_bytes());
        let Ok(source) = Source::new(&core, &contents) else { return Ok(()) };
        let Ok(kernel) = Kernel::of(&source) else { return Ok(()) };
        let whole = source.pages(kernel.page_size).whole;
        // Some changes make a machine of petabytes.
        let len: u64 = whole.iter().map(PhysRange::len).sum();
        let end = source.ram.last().map_or(0, |last| last.end);
        if len < 1 << 20 && end < 1 << 40 {
            let how = How { level: 0, is_incomplete: true };
            let mut bytes = Bytes::default();
            let _ = write(&source, kernel, &whole, how, &mut bytes, &Interrupt::never());
        }
    }
}

/// Writes a core of two pages with notes of a Linux to `path` and returns its bytes.
fn small_core(path: &std::path::Path) -> Vec<u8> {
    let ram = PhysRange {
        start: BASE,
        end: BASE + 2 * PAGE,
    };
    let mut dump = DumpFile::create(&path.with_extension("part"), &[ram]).expect("create");
    dump.store(BASE, &[5; 2 * PAGE as usize]).expect("store");
    let mut notes = NoteBytes::default();
    let info = "OSRELEASE=6.1\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffff000040000000\nOFFSET(uts_namespace.name)=4\n";
    notes.add(b"VMCOREINFO", 0, info.as_bytes());
    let gap = Gap {
        range: PhysRange {
            start: BASE + 2 * PAGE,
            end: BASE + 4 * PAGE,
        },
        class: PageClass::Free,
    };
    notes.add_gaps(&[gap], true);
    let mapping = Mapping {
        vaddr: 0xffff_0000_4000_0000,
        paddr: BASE,
        len: 2 * PAGE,
    };
    dump.finish(&[mapping], notes.as_bytes(), path, true)
        .expect("finish");
    std::fs::read(path).expect("read")
}
