// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of both ends of memory blocks.

use super::*;
use crate::block::RAW_LEN;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn put_page(writer: &mut BlockWriter<'_>, pa: u64, byte: u8) -> bool {
    match writer.page() {
        Some(page) => page.fill(byte),
        None => return false,
    }
    writer.commit_page(pa).unwrap()
}

#[test]
fn block_of_version_1_has_its_golden_bytes() {
    let mut buf = vec![0xff; RAW_LEN];
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    assert!(put_page(&mut writer, 0x4000_0000, 0xaa));
    assert!(put_page(&mut writer, 0x4000_1000, 0xbb));
    let zero = Run {
        pa: 0x4000_2000,
        pages: 3,
        class: PageClass::Zero,
    };
    assert_eq!(writer.add_run(zero), Ok(true));
    let raw = writer.finish().unwrap();
    #[rustfmt::skip]
    assert_eq!(raw[..36], [
        2, 0, 0, 0,
        0, 0, 0, 0x40, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        0, 0x20, 0, 0x40, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0,
    ]);
    assert_eq!(raw.len(), 36 + 2 * PAGE_SIZE);
    assert!(raw[36..36 + PAGE_SIZE].iter().all(|&byte| byte == 0xaa));
    assert!(raw[36 + PAGE_SIZE..].iter().all(|&byte| byte == 0xbb));
}

#[test]
fn block_of_64_kib_takes_15_pages_and_says_when_full() {
    let mut buf = vec![0; RAW_LEN];
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let taken = (0..20_u64)
        .filter(|n| put_page(&mut writer, n << 12, 1))
        .count();
    assert_eq!(taken, 15);
}

#[test]
fn block_full_of_runs_says_so_and_still_decodes() {
    let mut buf = vec![0; RAW_LEN];
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let added = (0..300_u64).filter(|n| {
        writer
            .add_run(Run {
                pa: n << 13,
                pages: 1,
                class: PageClass::Free,
            })
            .unwrap()
    });
    assert_eq!(added.count(), RUNS_MAX);
    assert_eq!(
        MemoryBlock::decode(writer.finish().unwrap())
            .unwrap()
            .runs()
            .count(),
        RUNS_MAX
    );
}

#[test]
fn run_unaligned_empty_or_wrapping_is_refused() {
    let mut buf = vec![0; RAW_LEN];
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let bad = |pa, pages| Run {
        pa,
        pages,
        class: PageClass::Zero,
    };
    assert_eq!(
        writer.add_run(bad(1, 1)),
        Err(Error::BadRun { pa: 1, pages: 1 })
    );
    assert!(writer.add_run(bad(0, 0)).is_err());
    assert!(writer.add_run(bad(u64::MAX - 4095, 2)).is_err());
    assert!(writer.commit_page(0x10).is_err());
    assert!(writer.is_empty());
}

#[test]
fn data_as_a_run_is_refused() {
    let mut buf = vec![0; RAW_LEN];
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let run = Run {
        pa: 0,
        pages: 1,
        class: PageClass::Data,
    };
    assert_eq!(writer.add_run(run), Err(Error::UnknownPageClass(0)));
}

#[test]
fn empty_block_is_no_bytes() {
    let mut buf = vec![0; RAW_LEN];
    assert_eq!(BlockWriter::new(&mut buf).unwrap().finish(), Ok(&[][..]));
}

#[test]
fn buffer_of_the_wrong_size_is_refused() {
    assert!(BlockWriter::new(&mut [0; 4096]).is_err());
    assert!(BlockWriter::new(&mut vec![0; RAW_MAX + 1]).is_err());
}

#[test]
fn block_with_too_little_or_too_much_data_is_refused() {
    let mut raw = vec![0; 20 + PAGE_SIZE];
    raw[0] = 1;
    raw[12] = 1;
    assert_eq!(MemoryBlock::decode(&raw).unwrap().runs().count(), 1);
    let short = MemoryBlock::decode(&raw[..100]).unwrap_err();
    assert_eq!(
        short,
        Error::DataLength {
            expected: 4096,
            found: 80
        }
    );
    raw.push(0);
    let long = MemoryBlock::decode(&raw).unwrap_err();
    assert_eq!(
        long,
        Error::DataLength {
            expected: 4096,
            found: 4097
        }
    );
}

#[test]
fn block_with_a_table_past_its_end_is_refused() {
    assert!(matches!(
        MemoryBlock::decode(&[0xff; 64]),
        Err(Error::Truncated { offset: 4, .. })
    ));
}

#[test]
fn block_with_an_unknown_class_is_refused() {
    let mut raw = [0; 20];
    (raw[0], raw[12], raw[16]) = (1, 1, 77);
    assert_eq!(
        MemoryBlock::decode(&raw).unwrap_err(),
        Error::UnknownPageClass(77)
    );
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn pages_round_trip(pages in proptest::collection::vec((0_u64..64, 0_u8..6), 1..40)) {
        let mut buf = vec![0; RAW_LEN];
        let mut writer = BlockWriter::new(&mut buf).unwrap();
        let mut added = Vec::new();
        for (n, (page, class)) in pages.into_iter().enumerate() {
            let class = PageClass::from_code(class).unwrap();
            let run = Run { pa: page << 12, pages: 1, class };
            let is_added = match class {
                PageClass::Data => put_page(&mut writer, run.pa, n as u8),
                _ => writer.add_run(run).unwrap(),
            };
            if is_added { added.push((run.pa, class, n as u8)) }
        }
        let raw = writer.finish().unwrap();
        let mut found = Vec::new();
        for (run, data) in MemoryBlock::decode(raw).unwrap().runs() {
            for page in 0..u64::from(run.pages) {
                let byte = data.get(page as usize * PAGE_SIZE).copied();
                found.push((run.pa + (page << 12), run.class, byte));
            }
        }
        prop_assert_eq!(found.len(), added.len());
        for (found, added) in found.iter().zip(&added) {
            prop_assert_eq!((found.0, found.1), (added.0, added.1));
            prop_assert!(found.2.is_none_or(|byte| byte == added.2));
        }
    }

    #[test]
    fn decode_of_any_bytes_is_bounded(raw in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200)) {
        if let Ok(block) = MemoryBlock::decode(&raw) {
            prop_assert!(block.runs().count() <= raw.len() / RUN_LEN);
        }
    }
}
