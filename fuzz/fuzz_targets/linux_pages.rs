// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the page classes of a crashed Linux: a page array of any content, behind a note and tables that hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::linux::{Buffers, PageClasses, Vmcoreinfo};
use vmcore::{DumpLevel, FaultCause, PhysMemory, ReadFault};

/// The first GiB is mapped at 0xffffffc000000000 by a block; section 0 has its part of the page array at 1 MiB.
const NOTE: &[u8] = b"PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffc000001000\nSYMBOL(_stext)=ffffffc000002000\n\
    SYMBOL(mem_section)=ffffffc000003000\nLENGTH(mem_section)=1\nSIZE(mem_section)=16\n\
    OFFSET(mem_section.section_mem_map)=0\nNUMBER(SECTION_SIZE_BITS)=27\nNUMBER(MAX_PHYSMEM_BITS)=28\n\
    SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\nOFFSET(page.lru)=8\n\
    OFFSET(page._mapcount)=48\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8\nLENGTH(zone.free_area)=11\n\
    NUMBER(PG_lru)=5\nNUMBER(PG_private)=14\nNUMBER(PG_swapcache)=10\nNUMBER(PG_swapbacked)=17\nNUMBER(PG_slab)=9\n\
    NUMBER(PG_head_mask)=64\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(HUGETLB_PAGE_DTOR)=2\n\
    OFFSET(page.compound_dtor)=16\nNUMBER(VA_BITS)=39\nNUMBER(TCR_EL1_T1SZ)=0x19\n\
    NUMBER(kimage_voffset)=0xffffffc000000000\n";
const VA: u64 = 0xffff_ffc0_0000_0000;
const ARRAY: u64 = 0x10_0000;
const STRUCT_LEN: u64 = 64;
/// Pages that are asked for, from this one on; those before it are as boot leaves them.
const FIRST: u64 = 16;
const COUNT: u64 = 256;

struct Machine<'a>(&'a [u8]);

impl Machine<'_> {
    fn byte(&self, pa: u64) -> u8 {
        let word = match pa & !7 {
            // The first descriptor of the upper half, the root array, the section.
            0x1800 => 0x701,
            0x3000 => VA + 0x4000,
            0x4000 => (VA + ARRAY) | 3,
            at if at >= ARRAY && at < ARRAY + FIRST * STRUCT_LEN => {
                let start = at / STRUCT_LEN * STRUCT_LEN;
                match at % STRUCT_LEN {
                    8 => VA + start + 8,
                    48 => 1 << 32 | 0xffff_ffff,
                    _ => 0,
                }
            }
            at if at >= ARRAY => {
                let offset = pa - ARRAY - FIRST * STRUCT_LEN;
                return self.0.get(offset as usize).copied().unwrap_or(0);
            }
            _ => 0,
        };
        word.to_le_bytes()[(pa % 8) as usize]
    }
}

impl PhysMemory for Machine<'_> {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let end = pa.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > 1 << 30) {
            return Err(ReadFault {
                address: pa,
                cause: FaultCause::NotRam,
            });
        }
        for (at, byte) in (pa..).zip(buf) {
            *byte = self.byte(at);
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let level = DumpLevel(u32::from(bytes.first().copied().unwrap_or(31)) & 31);
    let mut memory = Machine(bytes);
    let mut buffers = Buffers::new();
    let mut classes = PageClasses::open(&Vmcoreinfo::new(NOTE), &mut memory, &mut buffers)
        .expect("a note and tables that hold");
    let mut ask = |frame: u64| classes.class(&mut memory, frame << 12, level);
    let up: Vec<_> = (FIRST..FIRST + COUNT).map(&mut ask).collect();
    let mut down: Vec<_> = (FIRST..FIRST + COUNT).rev().map(&mut ask).collect();
    down.reverse();
    assert_eq!(up, down);
});
