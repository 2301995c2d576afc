// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of both ends of the ELF core header.

use super::*;
use crate::Error;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// Two CPUs' notes, machine-wide notes, the kernel's mapping, and the RAM that it lies in.
fn sample() -> Vec<u8> {
    let mut out = vec![0xff; core_header_len(5)];
    let mut writer = CoreHeaderWriter::new(&mut out);
    writer.note(0x4100_0000, 0x400).unwrap();
    writer.note(0x4100_0400, 0x400).unwrap();
    writer.note(0x4100_0800, 0x1000).unwrap();
    writer
        .load(0xffff_8000_8000_0000, 0x4020_0000, 0x20_0000)
        .unwrap();
    writer
        .load(0xffff_0000_4000_0000, 0x4000_0000, 0x800_0000)
        .unwrap();
    assert_eq!(writer.finish(), Ok(344));
    out
}

#[test]
fn header_starts_with_its_golden_bytes() {
    #[rustfmt::skip]
    assert_eq!(sample()[..120], [
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        4, 0, 183, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 64, 0, 56, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0,
        0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0,
        4, 0, 0, 0, 0, 0, 0, 0,
    ]);
}

#[test]
fn header_round_trips() {
    let bytes = sample();
    let header = CoreHeader::parse(&bytes).unwrap();
    let notes: Vec<_> = header
        .notes()
        .map(|note| (note.index, note.paddr, note.len))
        .collect();
    assert_eq!(
        notes,
        [
            (0, 0x4100_0000, 0x400),
            (1, 0x4100_0400, 0x400),
            (2, 0x4100_0800, 0x1000)
        ]
    );
    let loads: Vec<_> = header
        .loads()
        .map(|load| (load.index, load.paddr, load.len))
        .collect();
    assert_eq!(
        loads,
        [(3, 0x4020_0000, 0x20_0000), (4, 0x4000_0000, 0x800_0000)]
    );
    assert_eq!(header.len(), 344);
}

#[test]
fn kernel_mapping_inside_ram_is_merged_and_counted() {
    let bytes = sample();
    let (ranges, overlaps) = CoreHeader::parse(&bytes)
        .unwrap()
        .ram_ranges::<4>()
        .unwrap();
    assert_eq!(
        ranges.as_slice(),
        &[PhysRange {
            start: 0x4000_0000,
            end: 0x4800_0000
        }]
    );
    assert_eq!(overlaps, 1);
}

#[test]
fn ram_in_more_pieces_than_there_is_room_for_is_refused() {
    let mut out = [0; 256];
    let mut writer = CoreHeaderWriter::new(&mut out);
    writer.load(0, 0x1000, 0x1000).unwrap();
    writer.load(0, 0x8000, 0x1000).unwrap();
    writer.finish().unwrap();
    let header = CoreHeader::parse(&out).unwrap();
    assert_eq!(
        header.ram_ranges::<1>().unwrap_err(),
        Error::TooMany { limit: 1 }
    );
}

#[test]
fn header_without_segments_is_empty() {
    let mut out = [0xff; 64];
    assert_eq!(CoreHeaderWriter::new(&mut out).finish(), Ok(64));
    assert!(CoreHeader::parse(&out).unwrap().is_empty());
}

#[test]
fn header_not_finished_is_no_elf() {
    let mut out = [0; 256];
    CoreHeaderWriter::new(&mut out).note(0, 0).unwrap();
    assert_eq!(
        CoreHeader::parse(&out).unwrap_err(),
        Error::BadMagic { value: 0 }
    );
}

/// Parses the sample with one byte replaced.
fn parse_with(offset: usize, value: u8) -> Result<(), Error> {
    let mut bytes = sample();
    bytes[offset] = value;
    CoreHeader::parse(&bytes).map(|_| ())
}

#[test]
fn wrong_identity_is_refused_by_name() {
    assert_eq!(
        parse_with(0, 0),
        Err(Error::BadMagic { value: 0x464c_4500 })
    );
    assert_eq!(parse_with(4, 1), Err(Error::ElfClass(1)));
    assert_eq!(parse_with(5, 2), Err(Error::ElfByteOrder(2)));
    assert_eq!(parse_with(16, 2), Err(Error::ElfType(2)));
    assert_eq!(parse_with(18, 62), Err(Error::ElfMachine(62)));
    assert_eq!(parse_with(54, 32), Err(Error::ElfProgramHeaderSize(32)));
}

#[test]
fn table_outside_is_refused() {
    assert_eq!(
        parse_with(56, 6),
        Err(Error::ElfTableOutside {
            offset: 64,
            count: 6,
            have: 344
        })
    );
    assert!(matches!(
        parse_with(39, 0xff),
        Err(Error::ElfTableOutside { .. })
    ));
}

#[test]
fn segment_that_wraps_is_left_out_and_named() {
    let good = sample();
    let (notes, loads) = CoreHeader::parse(&good)
        .map(|header| (header.notes().count(), header.loads().count()))
        .unwrap();
    // p_paddr of segment 0, a note, and p_offset of segment 3, a load: all ones.
    let mut bytes = good;
    bytes[64 + 24..64 + 32].fill(0xff);
    bytes[64 + 3 * PHDR_LEN + 8..64 + 3 * PHDR_LEN + 16].fill(0xff);
    let header = CoreHeader::parse(&bytes).unwrap();
    let wrapping: Vec<_> = header.wrapping().collect();
    let start = u64::MAX;
    assert_eq!(wrapping.len(), 2);
    assert_eq!(wrapping[0], (0, Error::RangeWraps { start, len: 0x400 }));
    assert_eq!(wrapping[1].0, 3);
    assert_eq!(
        (header.notes().count(), header.loads().count()),
        (notes - 1, loads - 1)
    );
    assert_eq!(header.notes().next().map(|note| note.index), Some(1));
}

#[test]
fn header_cut_anywhere_is_refused() {
    let bytes = sample();
    assert!((0..bytes.len()).all(|len| CoreHeader::parse(&bytes[..len]).is_err()));
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn more_segments_than_e_phnum_holds_round_trip() {
    let count = 70_000;
    let mut out = vec![0xff; core_header_len(count)];
    let mut writer = CoreHeaderWriter::new(&mut out);
    (0..count as u64).for_each(|n| writer.load(n << 13, n << 13, 4096).unwrap());
    assert_eq!(writer.finish(), Ok(out.len()));
    assert_eq!(out[56..58], [0xff, 0xff]);
    assert_eq!(CoreHeader::parse(&out).unwrap().loads().count(), count);
}

#[test]
fn extended_count_without_its_section_is_refused() {
    assert!(matches!(
        parse_with(56, 0xff).and(parse_with(57, 0xff)),
        Err(Error::ElfTableOutside { .. })
    ));
    let mut bytes = sample();
    bytes[56..58].fill(0xff);
    assert!(matches!(
        CoreHeader::parse(&bytes),
        Err(Error::ElfTableOutside { offset: 0, .. })
    ));
}

#[test]
fn writer_without_room_is_refused() {
    let mut out = [0; 119];
    let error = CoreHeaderWriter::new(&mut out).note(0, 0).unwrap_err();
    assert_eq!(
        error,
        Error::BufferTooSmall {
            needed: 120,
            have: 119
        }
    );
    assert!(CoreHeaderWriter::new(&mut [0; 63]).finish().is_err());
}

#[test]
fn writer_refuses_a_range_that_wraps() {
    let mut out = [0; 200];
    let mut writer = CoreHeaderWriter::new(&mut out);
    assert!(writer.load(0, u64::MAX, 2).is_err());
    // The topmost page of virtual memory is no wrap.
    assert!(writer.load(0xffff_ffff_ffff_f000, 0, 0x1000).is_ok());
}

proptest! {
    #[test]
    fn parse_of_any_bytes_is_bounded(mut bytes in proptest::collection::vec(any::<u8>(), 64..400)) {
        bytes[..20].copy_from_slice(&sample()[..20]);
        bytes[54..56].copy_from_slice(&[56, 0]);
        if let Ok(header) = CoreHeader::parse(&bytes) {
            prop_assert!(header.segments().count() <= bytes.len() / PHDR_LEN);
            prop_assert!(header.len() <= bytes.len());
        }
    }

    #[test]
    fn parse_of_damaged_sample_does_not_panic(at in 0_usize..344, value in any::<u8>()) {
        let mut bytes = sample();
        bytes[at] = value;
        if let Ok(header) = CoreHeader::parse(&bytes) {
            prop_assert!(header.notes().count() + header.loads().count() <= 5);
        }
    }
}
