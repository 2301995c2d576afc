// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed Linux of 4 MiB for tests: page tables, sections and a page array that can be set page by page.

use super::page_array::PageStruct;
use super::{Buffers, PageClasses, Vmcoreinfo};
use crate::phys_memory::SliceMemory;
use crate::{DumpLevel, Error, PAGE_SIZE, PageClass};
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

/// RAM of 4 MiB: tables from page 0 on, sections in page 32, code in page 64; the page array in the second half.
pub(super) const BASE: u64 = 0x4000_0000;
pub(super) const FIRST: u64 = BASE / PAGE_SIZE;
pub(super) const PAGES: u64 = 1024;
pub(super) const SECTIONS: u64 = BASE + 32 * PAGE_SIZE;
pub(super) const TEXT: u64 = BASE + 64 * PAGE_SIZE;
pub(super) const ARRAY: u64 = BASE + 0x20_0000;
pub(super) const STRUCT_LEN: u64 = 64;
/// Pages that the tests are free to use.
pub(super) const ORDINARY: u64 = FIRST + 128;

const IMAGE_VA: u64 = 0xffff_8000_8000_0000;
const SECTIONS_VA: u64 = 0xffff_0000_4002_0000;
pub(super) const ARRAY_VA: u64 = 0xffff_fe20_0000_0000;

pub(super) const LRU: u64 = 1 << 5;
pub(super) const HEAD: u64 = 1 << 6;
pub(super) const SLAB_FLAG: u64 = 1 << 9;
pub(super) const SWAPCACHE: u64 = 1 << 10;
pub(super) const PRIVATE: u64 = 1 << 14;
pub(super) const SWAPBACKED: u64 = 1 << 17;
pub(super) const SLAB: u32 = 0xf500_0000;
pub(super) const HUGETLB: u32 = 0xf400_0000;
pub(super) const BUDDY: u32 = 0xf000_0000;

/// VMCOREINFO as Linux 6.12 has it, as far as it matters here.
pub(super) fn note_of_6_12(va_bits: u32) -> BTreeMap<String, String> {
    let text = format!(
        "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)={IMAGE_VA:x}\nSYMBOL(_stext)={:x}\nSYMBOL(mem_section)={SECTIONS_VA:x}\n\
         LENGTH(mem_section)=8192\nSIZE(mem_section)=16\nOFFSET(mem_section.section_mem_map)=0\nNUMBER(SECTION_SIZE_BITS)=27\n\
         NUMBER(MAX_PHYSMEM_BITS)=48\nSIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\n\
         OFFSET(page.lru)=8\nOFFSET(page._mapcount)=48\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8\n\
         LENGTH(zone.free_area)=11\nNUMBER(PG_lru)=5\nNUMBER(PG_private)=14\nNUMBER(PG_swapcache)=10\nNUMBER(PG_swapbacked)=17\n\
         NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\nNUMBER(PG_head_mask)=64\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n\
         NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\nNUMBER(VA_BITS)=52\nNUMBER(kimage_voffset)={:#x}\n\
         NUMBER(TCR_EL1_T1SZ)={:#x}\n",
        IMAGE_VA + TEXT - BASE,
        IMAGE_VA - BASE,
        64 - va_bits
    );
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// A crashed Linux.
pub(super) struct Linux {
    pub(super) ram: Vec<u8>,
    pub(super) note: BTreeMap<String, String>,
    va_bits: u32,
    next_table: u64,
}

impl Linux {
    /// All pages as boot leaves those that it keeps.
    pub(super) fn new(va_bits: u32) -> Self {
        let mut linux = Self {
            ram: vec![0; (PAGES * PAGE_SIZE) as usize],
            note: note_of_6_12(va_bits),
            va_bits,
            next_table: BASE + PAGE_SIZE,
        };
        linux.map(SECTIONS_VA, SECTIONS, 3);
        linux.map(ARRAY_VA, ARRAY, 2);
        // The root, whose first entry is a table of sections behind it; section 8 begins at BASE.
        linux.put(SECTIONS, SECTIONS_VA + 0x100);
        let word = ARRAY_VA - FIRST * STRUCT_LEN;
        linux.put(SECTIONS + 0x100 + 8 * 16, word | 0b1111);
        (FIRST..FIRST + PAGES).for_each(|frame| linux.set(frame, kept(frame)));
        linux
    }

    pub(super) fn put(&mut self, pa: u64, word: u64) {
        let at = (pa - BASE) as usize;
        self.ram[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// Maps a page, or at level 2 a block of 2 MiB.
    fn map(&mut self, va: u64, pa: u64, level: u32) {
        let levels = (self.va_bits - 12).div_ceil(9);
        let mut table = BASE;
        for at in 4 - levels as i32..level as i32 {
            let entry = table + self.index(va, at) * 8;
            let place = (entry - BASE) as usize;
            let found = u64::from_le_bytes(self.ram[place..place + 8].try_into().unwrap());
            table = found & !0xfff;
            if found == 0 {
                table = self.next_table;
                self.next_table += PAGE_SIZE;
                self.put(entry, table | 3);
            }
        }
        let leaf = table + self.index(va, level as i32) * 8;
        self.put(leaf, pa | if level == 3 { 3 } else { 1 });
    }

    fn index(&self, va: u64, level: i32) -> u64 {
        let translated = va & ((1 << self.va_bits) - 1);
        translated >> (39 - 9 * level) & 511
    }

    pub(super) fn set(&mut self, frame: u64, page: PageStruct) {
        let at = ARRAY + (frame - FIRST) * STRUCT_LEN;
        self.put(at, page.flags);
        // In a tail compound_head is where lru is.
        let is_tail = page.compound_head & 1 != 0;
        self.put(
            at + 8,
            if is_tail {
                page.compound_head
            } else {
                page.next
            },
        );
        self.put(at + 24, page.mapping);
        self.put(at + 40, page.private);
        let counts = u64::from(page.refcount) << 32 | u64::from(page.mapcount);
        self.put(at + 48, counts);
    }

    pub(super) fn set_free(&mut self, first: u64, order: u32) {
        for frame in first..first + (1 << order) {
            self.set(
                frame,
                PageStruct {
                    refcount: 0,
                    ..kept(frame)
                },
            );
        }
        let private = u64::from(order);
        let head = PageStruct {
            mapcount: BUDDY,
            private,
            refcount: 0,
            ..kept(first)
        };
        self.set(first, head);
    }

    pub(super) fn set_compound(&mut self, first: u64, order: u32, head: PageStruct) {
        self.set(
            first,
            PageStruct {
                flags: head.flags | HEAD,
                ..head
            },
        );
        for frame in first + 1..first + (1 << order) {
            let compound_head = struct_at(first) | 1;
            self.set(
                frame,
                PageStruct {
                    compound_head,
                    refcount: 0,
                    ..kept(frame)
                },
            );
        }
    }

    pub(super) fn note(&self) -> Vec<u8> {
        let lines = self
            .note
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"));
        lines.collect::<String>().into_bytes()
    }

    /// The classes of some pages, in this order, and the first page that could not be read.
    pub(super) fn asked(
        &self,
        level: u32,
        frames: impl IntoIterator<Item = u64>,
    ) -> (Vec<Option<PageClass>>, Option<u64>) {
        let (note, mut buffers) = (self.note(), Buffers::new());
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &self.ram,
        };
        let info = Vmcoreinfo::new(&note);
        let mut classes = PageClasses::open(&info, &mut memory, &mut buffers).unwrap();
        let mut ask =
            |frame: u64| classes.class(&mut memory, frame * PAGE_SIZE + 8, DumpLevel(level));
        let found = frames.into_iter().map(&mut ask).collect();
        (found, classes.first_unread())
    }

    pub(super) fn class(&self, frame: u64) -> Option<PageClass> {
        self.asked(31, [frame]).0[0]
    }

    pub(super) fn refusal(&self) -> Error {
        let (note, mut buffers) = (self.note(), Buffers::new());
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &self.ram,
        };
        PageClasses::open(&Vmcoreinfo::new(&note), &mut memory, &mut buffers).unwrap_err()
    }
}

pub(super) const fn struct_at(frame: u64) -> u64 {
    ARRAY_VA + (frame - FIRST) * STRUCT_LEN
}

pub(super) fn kept(frame: u64) -> PageStruct {
    PageStruct {
        refcount: 1,
        mapcount: u32::MAX,
        next: struct_at(frame) + 8,
        ..PageStruct::default()
    }
}

pub(super) fn with_flags(frame: u64, flags: u64) -> PageStruct {
    PageStruct {
        flags,
        ..kept(frame)
    }
}
