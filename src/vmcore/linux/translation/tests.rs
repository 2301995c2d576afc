// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the walk, on tables whose descriptors are written out by hand.

use super::*;
use crate::FaultCause;
use crate::phys_memory::SliceMemory;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

const BASE: u64 = 0x4000_0000;
/// Table, page; and access flag, inner shareable, so that attributes are set which are no address.
const TABLE: u64 = 3;
const PAGE: u64 = 0x703;
const BLOCK: u64 = 0x701;

/// Memory of a few pages of tables.
struct Ram(Vec<u8>);

impl Ram {
    fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn with(mut self, pa: u64, descriptor: u64) -> Self {
        let at = (pa - BASE) as usize;
        self.0[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
        self
    }

    fn walk(&self, tables: &PageTables, va: u64) -> Result<Span, Error> {
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &self.0,
        };
        tables.translate(&mut memory, va)
    }
}

fn tables(page_bits: u32, va_bits: u32) -> PageTables {
    PageTables::new(BASE, page_bits, va_bits).unwrap()
}

fn span(pa: u64, len: u64) -> Result<Span, Error> {
    Ok(Span { pa, len })
}

/// 4 KiB, 48 bits: levels 0 to 3. Of 0xffff_8000_8123_4567 the indices are 256, 2, 9, 0x34.
fn four_kib() -> Ram {
    Ram::new(4 * 0x1000)
        .with(BASE + 256 * 8, (BASE + 0x1000) | TABLE)
        .with(BASE + 0x1000 + 2 * 8, (BASE + 0x2000) | TABLE)
        .with(BASE + 0x2000 + 9 * 8, (BASE + 0x3000) | TABLE)
        .with(BASE + 0x3000 + 0x34 * 8, 0x0060_0000_5678_9000 | PAGE)
}

const FOUR_KIB_VA: u64 = 0xffff_8000_8123_4567;

#[test]
fn four_kib_48_bits_translate_a_page() {
    let found = four_kib().walk(&tables(12, 48), FOUR_KIB_VA);
    assert_eq!(found, span(0x5678_9567, 0xa99));
}

#[test]
fn four_kib_48_bits_translate_blocks_of_2_mib_and_1_gib() {
    let ram = four_kib().with(BASE + 0x2000 + 9 * 8, 0x5120_0000 | BLOCK);
    let found = ram.walk(&tables(12, 48), FOUR_KIB_VA);
    assert_eq!(found, span(0x5123_4567, 0x20_0000 - 0x3_4567));
    let ram = four_kib().with(BASE + 0x1000 + 2 * 8, 0x8000_0000 | BLOCK);
    let found = ram.walk(&tables(12, 48), FOUR_KIB_VA);
    assert_eq!(found, span(0x8123_4567, 0x4000_0000 - 0x123_4567));
}

#[test]
fn four_kib_39_bits_begin_at_level_1() {
    // Index 0x1ff of level 1: the last GiB.
    let ram = Ram::new(0x1000).with(BASE + 0x1ff * 8, 0x1_4000_0000 | BLOCK);
    let found = ram.walk(&tables(12, 39), 0xffff_ffff_c000_1000);
    assert_eq!(found, span(0x1_4000_1000, 0x3fff_f000));
}

#[test]
fn four_kib_52_bits_begin_at_level_minus_1_with_lpa2_descriptors() {
    // Bits 51:48 of the address are 0xf at level -1, bits 47:39 are 0x100. OA[51:50] stand in bits 9:8.
    let ram = Ram::new(2 * 0x1000)
        .with(BASE + 15 * 8, (BASE + 0x1000) | TABLE)
        .with(
            BASE + 0x1000 + 0x100 * 8,
            0x0003_0080_0000_0000 | 2 << 8 | 1 << 10 | 1,
        );
    let found = ram.walk(&tables(12, 52), 0xffff_8000_0000_1234);
    assert_eq!(found, span(0x000b_0080_0000_1234, (1 << 39) - 0x1234));
}

#[test]
fn sixteen_kib_36_bits_have_two_levels_and_blocks_of_32_mib() {
    // Indices of 0xffff_fff0_0200_4abc: 1, 1.
    let ram = Ram::new(2 * 0x4000)
        .with(BASE + 8, (BASE + 0x4000) | TABLE)
        .with(BASE + 0x4000 + 8, 0x7000_c000 | PAGE);
    let found = ram.walk(&tables(14, 36), 0xffff_fff0_0200_4abc);
    assert_eq!(found, span(0x7000_cabc, 0x4000 - 0xabc));
    let ram = Ram::new(0x4000).with(BASE + 8, 0x4200_0000 | BLOCK);
    let found = ram.walk(&tables(14, 36), 0xffff_fff0_0200_4abc);
    assert_eq!(found, span(0x4200_4abc, 0x200_0000 - 0x4abc));
}

#[test]
fn sixteen_kib_47_bits_have_three_levels() {
    // Bits 46:36 are 0x400, 35:25 are 3, 24:14 are 5.
    let ram = Ram::new(3 * 0x4000)
        .with(BASE + 0x400 * 8, (BASE + 0x4000) | TABLE)
        .with(BASE + 0x4000 + 3 * 8, (BASE + 0x8000) | TABLE)
        .with(BASE + 0x8000 + 5 * 8, 0xffff_ffff_c000 | PAGE);
    let found = ram.walk(&tables(14, 47), 0xffff_c000_0601_4000);
    assert_eq!(found, span(0xffff_ffff_c000, 0x4000));
}

#[test]
fn sixteen_kib_48_bits_have_two_descriptors_at_level_0() {
    let ram = Ram::new(2 * 0x4000)
        .with(BASE + 8, (BASE + 0x4000) | TABLE)
        .with(BASE + 0x4000, (BASE + 0x4000) | TABLE);
    // Level 2 is the same table again, whose descriptor 1 is a hole.
    let error = ram
        .walk(&tables(14, 48), 0xffff_8000_0200_0000)
        .unwrap_err();
    let expected = Error::NotMapped {
        va: 0xffff_8000_0200_0000,
        level: 2,
        descriptor: 0,
    };
    assert_eq!(error, expected);
}

#[test]
fn sixteen_kib_52_bits_allow_blocks_of_64_gib_with_lpa2() {
    // Bits 51:47 are 0x1f, 46:36 are 0x400. OA[51:50] stand in bits 9:8.
    let ram = |below| {
        Ram::new(2 * 0x4000)
            .with(BASE + 0x1f * 8, (BASE + 0x4000) | TABLE)
            .with(BASE + 0x4000 + 0x400 * 8, below)
    };
    let block = 0x0001_0010_0000_0000 | 1 << 8 | 1;
    let found = ram(block).walk(&tables(14, 52), 0xffff_c000_0000_0010);
    assert_eq!(found, span(0x0005_0010_0000_0010, (1 << 36) - 0x10));
}

#[test]
fn sixty_four_kib_42_bits_have_two_levels_and_52_bit_addresses() {
    // Bits 41:29 are 0x1000, 28:16 are 2. OA[51:48] stand in bits 15:12.
    let ram = Ram::new(2 * 0x1_0000)
        .with(BASE + 0x1000 * 8, (BASE + 0x1_0000) | TABLE)
        .with(BASE + 0x1_0000 + 2 * 8, 0x1234_5678_0000 | 0xa000 | PAGE);
    let found = ram.walk(&tables(16, 42), 0xffff_fe00_0002_ffff);
    assert_eq!(found, span(0x000a_1234_5678_ffff, 1));
    let ram = Ram::new(0x1_0000).with(BASE + 0x1000 * 8, 0x6000_0000 | BLOCK);
    let found = ram.walk(&tables(16, 42), 0xffff_fe00_0002_ffff);
    assert_eq!(found, span(0x6002_ffff, 0x2000_0000 - 0x2_ffff));
}

#[test]
fn sixty_four_kib_52_bits_fill_a_root_of_1024_descriptors() {
    // Bits 51:42 are 0x3e0.
    let ram = Ram::new(0x1_0000 * 2)
        .with(BASE + 0x3e0 * 8, (BASE + 0x1_0000) | TABLE)
        .with(BASE + 0x1_0000, 0x2000_0000 | BLOCK);
    let found = ram.walk(&tables(16, 52), 0xffff_8000_0000_0000);
    assert_eq!(found, span(0x2000_0000, 0x2000_0000));
}

#[test]
fn hole_is_named_with_its_level() {
    let ram = four_kib().with(BASE + 0x1000 + 2 * 8, 0xdead_0000);
    let error = ram.walk(&tables(12, 48), FOUR_KIB_VA).unwrap_err();
    assert_eq!(
        error.to_string(),
        "virtual address 0xffff800081234567 is not mapped: descriptor 0xdead0000 at level 1"
    );
}

#[test]
fn reserved_forms_are_holes() {
    let level_of = |ram: Ram| match ram.walk(&tables(12, 48), FOUR_KIB_VA) {
        Err(Error::NotMapped { level, .. }) => level,
        other => panic!("{other:?}"),
    };
    // A block of 512 GiB without LPA2, and the form of a block at the last level.
    assert_eq!(level_of(four_kib().with(BASE + 256 * 8, BLOCK)), 0);
    let last = BASE + 0x3000 + 0x34 * 8;
    assert_eq!(level_of(four_kib().with(last, 0x5678_9000 | BLOCK)), 3);
    // A block of 64 GiB with 16 KiB pages and without LPA2.
    let ram = Ram::new(0x4000).with(BASE + 0x400 * 8, BLOCK);
    let found = ram.walk(&tables(14, 47), 0xffff_c000_0000_0000);
    assert!(
        matches!(found, Err(Error::NotMapped { level: 1, .. })),
        "{found:?}"
    );
}

#[test]
fn table_that_holds_itself_ends_at_the_last_level() {
    let ram = (0..512).fold(Ram::new(0x1000), |ram, index| {
        ram.with(BASE + index * 8, BASE | TABLE)
    });
    assert_eq!(
        ram.walk(&tables(12, 48), FOUR_KIB_VA),
        span(BASE + 0x567, 0xa99)
    );
}

#[test]
fn table_outside_memory_is_a_read_fault() {
    let ram = four_kib().with(BASE + 0x2000 + 9 * 8, 0x9_0000_0000 | TABLE);
    let error = ram.walk(&tables(12, 48), FOUR_KIB_VA).unwrap_err();
    assert!(
        matches!(error, Error::Read(fault) if fault.cause == FaultCause::NotRam && fault.address == 0x9_0000_01a0),
        "{error:?}"
    );
}

#[test]
fn address_below_the_kernels_is_not_mapped() {
    for va in [0, 0x1234, 0xfffe_ffff_ffff_ffff, 0x0fff_8000_8123_4567] {
        let found = four_kib().walk(&tables(12, 48), va);
        let expected = Error::NotMapped {
            va,
            level: 0,
            descriptor: 0,
        };
        assert_eq!(found, Err(expected));
    }
}

#[test]
fn impossible_tables_are_refused() {
    assert_eq!(PageTables::new(BASE, 13, 48), None);
    assert_eq!(PageTables::new(BASE, 12, 53), None);
    assert_eq!(PageTables::new(BASE, 12, 32), None);
    assert_eq!(PageTables::new(BASE | 4, 12, 48), None);
    assert_eq!(PageTables::new(1 << 52, 12, 48), None);
}

/// The note of a kernel with these numbers, whose swapper_pg_dir is at BASE.
fn note(page: u64, built_for: &str, t1sz: &str) -> String {
    format!(
        "PAGESIZE={page}\nSYMBOL(swapper_pg_dir)=ffffd38a4c200000\nNUMBER(VA_BITS)={built_for}\n\
         NUMBER(kimage_voffset)=0xffffd38a0c200000\nNUMBER(PHYS_OFFSET)=0x40000000\n{t1sz}"
    )
}

fn found(note: &str) -> Result<PageTables, String> {
    PageTables::of(&Vmcoreinfo::new(note.as_bytes())).map_err(|error| error.to_string())
}

#[test]
fn tables_are_found_by_vmcoreinfo() {
    let t1sz = "NUMBER(TCR_EL1_T1SZ)=0x10\n";
    assert_eq!(found(&note(4096, "48", t1sz)), Ok(tables(12, 48)));
    // Built for 52 bits, on a CPU of 48: a level less.
    assert_eq!(found(&note(4096, "52", t1sz)), Ok(tables(12, 48)));
    let t1sz = "NUMBER(TCR_EL1_T1SZ)=0xc\n";
    assert_eq!(found(&note(16384, "52", t1sz)), Ok(tables(14, 52)));
    let of_42_bits = note(65536, "42", "").replace("ffffd38a", "ffffff8a");
    assert_eq!(found(&of_42_bits), Ok(tables(16, 42)));
}

#[test]
fn root_of_64_kib_built_for_52_bits_is_used_from_its_end_by_a_cpu_of_48() {
    // 1024 descriptors, of which the last 64 are in reach (TTBR1_BADDR_4852_OFFSET).
    let found = found(&note(65536, "52", "NUMBER(TCR_EL1_T1SZ)=0x10\n"));
    assert_eq!(found, Ok(PageTables::new(BASE + 0x1e00, 16, 48).unwrap()));
    let ram = Ram::new(0x1_0000).with(BASE + 0x3e0 * 8, 1 << 42 | BLOCK);
    assert_eq!(
        ram.walk(&found.unwrap(), 0xffff_8000_0000_0000),
        span(1 << 42, 1 << 42)
    );
}

#[track_caller]
fn assert_refused(note: &str, expected: &str) {
    assert_eq!(found(note).unwrap_err(), expected);
}

#[test]
fn nonsense_in_vmcoreinfo_is_named() {
    let good = "NUMBER(TCR_EL1_T1SZ)=0x10\n";
    assert_refused(&note(8192, "48", good), "vmcoreinfo: PAGESIZE is \"8192\"");
    assert_refused(
        &note(4096, "32", good),
        "vmcoreinfo: NUMBER(VA_BITS) is \"32\"",
    );
    assert_refused(
        &note(4096, "48", "NUMBER(TCR_EL1_T1SZ)=0x40\n"),
        "vmcoreinfo: NUMBER(TCR_EL1_T1SZ) is \"0x40\"",
    );
    assert_refused(
        &note(4096, "48", "NUMBER(TCR_EL1_T1SZ)=0xffffffffffffffff\n"),
        "vmcoreinfo: NUMBER(TCR_EL1_T1SZ) is \"0xffffffffffffffff\"",
    );
    let without = note(4096, "48", good).replace("kimage_voffset", "voffset");
    assert_refused(&without, "vmcoreinfo has no NUMBER(kimage_voffset)");
    // The note of a 32-bit kernel, whose addresses are none of ours.
    let of_32_bits = "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=c0004000\nNUMBER(VA_BITS)=48\nNUMBER(kimage_voffset)=0xffff800000000000\n";
    assert_refused(
        of_32_bits,
        "vmcoreinfo: SYMBOL(swapper_pg_dir) is \"c0004000\"",
    );
}

fn linear(note: &str) -> LinearMap {
    LinearMap::of(&Vmcoreinfo::new(note.as_bytes())).unwrap()
}

#[test]
fn linear_map_of_48_bits_is_the_lower_half() {
    let map = linear(&note(4096, "48", "NUMBER(TCR_EL1_T1SZ)=0x10\n"));
    let first = map.translate(0xffff_0000_0000_0000).unwrap();
    assert_eq!((first.pa, first.len), (0x4000_0000, 1 << 47));
    assert_eq!(map.translate(0xffff_7fff_ffff_ffff).unwrap().len, 1);
    assert_eq!(map.translate(0xffff_8000_0000_0000), None);
    assert_eq!(map.translate(0xfffe_ffff_ffff_ffff), None);
    assert_eq!(map.va_of(0x4000_1000), Some(0xffff_0000_0000_1000));
    assert_eq!(map.va_of(0x1000), None);
}

#[test]
fn linear_map_built_for_52_bits_on_48_has_a_negative_phys_offset() {
    // memstart_addr of RAM at 0x4000_0000: less the distance of the two linear maps, 2^52 - 2^48.
    let note = note(4096, "52", "NUMBER(TCR_EL1_T1SZ)=0x10\n")
        .replace("=0x40000000", "=0xfff1000040000000");
    let map = linear(&note);
    assert_eq!(
        map.translate(0xffff_0000_0123_4000).unwrap().pa,
        0x4123_4000
    );
    assert_eq!(map.va_of(0x4123_4000), Some(0xffff_0000_0123_4000));
    // What would lie below physical address 0.
    assert_eq!(map.translate(0xfff0_0000_0000_0000), None);
}

#[test]
fn linear_map_of_16_kib_and_52_bits_ends_at_the_half_of_47() {
    let map = linear(&note(16384, "52", "NUMBER(TCR_EL1_T1SZ)=0xc\n"));
    assert!(map.translate(0xffff_bfff_ffff_ffff).is_some());
    assert_eq!(map.translate(0xffff_c000_0000_0000), None);
}

#[test]
fn linear_map_of_a_kernel_too_old_to_say_is_not_known() {
    let note = note(4096, "48", "");
    let error = LinearMap::of(&Vmcoreinfo::new(note.as_bytes())).unwrap_err();
    assert_eq!(error.to_string(), "vmcoreinfo has no NUMBER(TCR_EL1_T1SZ)");
}

proptest! {
    #[test]
    fn any_tables_end_in_a_span_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0x200),
        page_bits in prop::sample::select(&[12_u32, 14, 16][..]),
        va_bits in 36_u32..=52,
        va: u64,
        has_kernel_address: bool,
    ) {
        // The bytes over and over, so that most addresses in them are of no memory.
        let ram = Ram(bytes.repeat(0x2_0000 / 0x200));
        let va = if has_kernel_address { va | !bits(va_bits) } else { va };
        if let Ok(span) = ram.walk(&tables(page_bits, va_bits), va) {
            prop_assert!(span.pa <= bits(PA_BITS));
            prop_assert!(span.len >= 1);
            prop_assert_eq!(span.pa & bits(page_bits), va & bits(page_bits));
            // The span ends where a page does.
            prop_assert_eq!(va.wrapping_add(span.len) & bits(page_bits), 0);
        }
    }

    #[test]
    fn mapped_page_is_found_and_the_next_is_not(
        page_bits in prop::sample::select(&[12_u32, 14, 16][..]),
        va_bits in 36_u32..=48,
        page: u64,
        target: u64,
        within: u64,
    ) {
        let page_bytes = 1_u64 << page_bits;
        let va = !bits(va_bits) | (page & bits(va_bits) & !bits(page_bits));
        let pa = target & bits(48) & !bits(page_bits);
        let (stride, tables) = (page_bits - 3, tables(page_bits, va_bits));
        let levels = (va_bits - page_bits).div_ceil(stride);
        let mut ram = Ram::new((u64::from(levels) * page_bytes) as usize);
        for level in 0..levels {
            let shift = page_bits + (levels - 1 - level) * stride;
            let table = BASE + u64::from(level) * page_bytes;
            let index = (va & bits(va_bits)) >> shift & bits(stride);
            let is_last = level + 1 == levels;
            let descriptor = if is_last { pa | PAGE } else { (table + page_bytes) | TABLE };
            ram = ram.with(table + index * 8, descriptor);
        }
        let within = within & bits(page_bits);
        prop_assert_eq!(ram.walk(&tables, va | within), span(pa | within, page_bytes - within));
        prop_assert!(ram.walk(&tables, va ^ page_bytes).is_err());
    }
}

/// Every mapping from `va` on, with a bound on what is read, and what is left of that.
fn mapped(ram: &Ram, tables: &PageTables, va: u64, mut reads: u32) -> (Vec<(u64, Span)>, u32) {
    let mut memory = SliceMemory {
        base: BASE,
        bytes: &ram.0,
    };
    let (mut found, mut at) = (Vec::new(), Some(va));
    while let Some((va, span)) = at.and_then(|at| tables.next_mapped(&mut memory, at, &mut reads)) {
        found.push((va, span));
        at = va.checked_add(span.len);
    }
    (found, reads)
}

#[test]
fn mappings_are_found_one_after_the_other_up_to_the_last_address() {
    let ram = four_kib()
        .with(BASE + 0x2000 + 511 * 8, 0x5120_0000 | BLOCK)
        .with(BASE + 511 * 8, (BASE + 0x1000) | TABLE)
        .with(BASE + 0x1000 + 511 * 8, 0x8000_0000 | BLOCK);
    let page = |va| {
        (
            va,
            Span {
                pa: 0x5678_9000,
                len: 0x1000,
            },
        )
    };
    let block = |va| {
        (
            va,
            Span {
                pa: 0x5120_0000,
                len: 0x20_0000,
            },
        )
    };
    let gib = |va| {
        (
            va,
            Span {
                pa: 0x8000_0000,
                len: 0x4000_0000,
            },
        )
    };
    let expected = [
        page(0xffff_8000_8123_4000),
        block(0xffff_8000_bfe0_0000),
        gib(0xffff_807f_c000_0000),
        page(0xffff_ff80_8123_4000),
        block(0xffff_ff80_bfe0_0000),
        gib(0xffff_ffff_c000_0000),
    ];
    let (found, _) = mapped(&ram, &tables(12, 48), 0, 1 << 16);
    assert_eq!(found, expected);
    let (found, _) = mapped(&ram, &tables(12, 48), 0xffff_ffff_c000_1000, 1 << 16);
    let rest = Span {
        pa: 0x8000_1000,
        len: 0x3fff_f000,
    };
    assert_eq!(found, [(0xffff_ffff_c000_1000, rest)]);
}

#[test]
fn mappings_behind_a_table_that_is_not_there_are_found() {
    let ram = four_kib().with(BASE + 0x1000 + 8, 0x7000_0000 | TABLE);
    let (found, left) = mapped(&ram, &tables(12, 48), 0, 1 << 16);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, FOUR_KIB_VA & !0xfff);
    // Passed over as a whole: not page by page.
    assert!((1 << 16) - left < 3 * 4 * 512 + 4 * 512, "{left}");
}

#[test]
fn tables_that_lead_in_circles_are_read_as_often_as_allowed() {
    let ram = (0..512).fold(Ram::new(0x1000), |ram, index| {
        ram.with(BASE + index * 8, BASE | TABLE)
    });
    let (found, left) = mapped(&ram, &tables(12, 48), 0, 4000);
    assert_eq!((found.len(), left), (1000, 0));
    let (found, left) = mapped(&ram, &tables(12, 48), 0, 3);
    assert_eq!((found.len(), left), (0, 3));
}

#[test]
fn nothing_is_mapped_by_tables_that_are_not_there() {
    let ram = Ram::new(8);
    let tables = PageTables::new(0x5000_0000, 12, 48).unwrap();
    assert_eq!(mapped(&ram, &tables, 0, 1 << 16).0, []);
}
