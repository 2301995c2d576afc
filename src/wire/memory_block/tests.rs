// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of both ends of memory blocks.

use super::*;
use crate::block::raw_len;
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

fn buffer(pages: usize) -> Vec<u8> {
    vec![0xff; raw_len(pages)]
}

#[test]
fn block_of_version_2_has_its_golden_bytes() {
    let mut buf = buffer(2);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    assert!(put_page(&mut writer, 0x4000_0000, 0xaa));
    assert!(put_page(&mut writer, 0x4000_1000, 0xbb));
    let zero = Run::new(0x4000_2000, 300, PageClass::Zero);
    assert_eq!(writer.add_run(zero), Ok(true));
    let like = Run::duplicate(0x4200_0000, 0x4000_1000);
    assert_eq!(writer.add_run(like), Ok(true));
    let len = writer.finish().unwrap();
    #[rustfmt::skip]
    assert_eq!(buf[..15], [
        11, 0,
        // Two data pages, with a jump of 0x40000 pages from 0.
        0x28, 0x80, 0x80, 0x20,
        // 300 zero pages behind them.
        0xc1, 0x25,
        // A duplicate 0x2000 - 302 pages on, of the page 0x1fff before it.
        0x1f, 0xa4, 0x7b, 0xfd, 0x7f,
        0xaa, 0xaa,
    ]);
    assert_eq!(len, 13 + 2 * PAGE_SIZE);
    let runs: Vec<Run> = MemoryBlock::decode(&buf[..len])
        .unwrap()
        .runs()
        .map(|(run, _)| run)
        .collect();
    assert_eq!(
        runs,
        [Run::new(0x4000_0000, 2, PageClass::Data), zero, like]
    );
}

#[test]
fn runs_of_later_classes_have_their_golden_bytes() {
    let mut buf = buffer(1);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let runs = [
        Run::new(0x3000, 300, PageClass::Cache),
        Run::new(0x12_f000, 1, PageClass::User),
        Run::new(0x13_0000, 2, PageClass::Free),
        Run::new(0x13_2000, 5, PageClass::PrivateCache),
    ];
    for run in runs {
        assert_eq!(writer.add_run(run), Ok(true));
    }
    let len = writer.finish().unwrap();
    #[rustfmt::skip]
    assert_eq!(buf[..len], [
        9, 0,
        // Class 8 with a jump of 3 pages, 300 of them.
        0x08, 0xac, 0x02, 0x06,
        0x02, 0x01,
        0x22,
        0x01, 0x05,
    ]);
    let block = MemoryBlock::decode(&buf[..len]).unwrap();
    let found: Vec<Run> = block.runs().map(|(run, _)| run).collect();
    assert_eq!(found, runs);
}

#[test]
fn run_of_a_later_class_without_pages_or_unknown_is_refused() {
    let refused = |table: &[u8]| MemoryBlock::decode(table).unwrap_err();
    assert!(matches!(refused(&[2, 0, 0, 0]), Error::BadRun { .. }));
    assert_eq!(refused(&[2, 0, 3, 1]), Error::UnknownPageClass(11));
    assert!(matches!(refused(&[1, 0, 0]), Error::Truncated { .. }));
}

#[test]
fn block_of_three_pages_takes_three_and_says_when_full() {
    let mut buf = buffer(3);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let taken = (0..20_u64)
        .filter(|n| put_page(&mut writer, n << 12, 1))
        .count();
    assert_eq!(taken, 3);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn block_full_of_runs_says_so_and_still_decodes() {
    let mut buf = buffer(1);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let added = (0..9000_u64)
        .take_while(|n| {
            let run = Run::new(n << 13, 1, PageClass::Free);
            writer.add_run(run).unwrap()
        })
        .count();
    assert!(added > 1000, "{added}");
    assert!(writer.page().is_none());
    let len = writer.finish().unwrap();
    let runs = MemoryBlock::decode(&buf[..len]).unwrap().runs().count();
    assert_eq!(runs, added);
}

#[test]
fn run_unaligned_empty_or_wrapping_is_refused() {
    let mut buf = buffer(1);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let bad = |pa, pages| Run::new(pa, pages, PageClass::Zero);
    assert_eq!(
        writer.add_run(bad(1, 1)),
        Err(Error::BadRun { pa: 1, pages: 1 })
    );
    assert!(writer.add_run(bad(0, 0)).is_err());
    assert!(writer.add_run(bad(u64::MAX - 4095, 2)).is_err());
    assert!(writer.add_run(Run::duplicate(0, 17)).is_err());
    assert!(writer.commit_page(0x10).is_err());
    assert!(writer.is_empty());
}

#[test]
fn data_as_a_run_is_refused() {
    let mut buf = buffer(1);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    let run = Run::new(0, 1, PageClass::Data);
    assert_eq!(writer.add_run(run), Err(Error::UnknownPageClass(0)));
}

#[test]
fn empty_block_is_no_bytes() {
    assert_eq!(BlockWriter::new(&mut buffer(1)).unwrap().finish(), Ok(0));
}

#[test]
fn buffer_of_the_wrong_size_is_refused() {
    assert!(BlockWriter::new(&mut [0; 4096]).is_err());
    assert!(BlockWriter::new(&mut vec![0; RAW_MAX + 1]).is_err());
}

#[test]
fn duplicates_in_a_row_are_one_run() {
    let mut buf = buffer(1);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    for page in 0..4_u64 {
        let run = Run::duplicate(0x9000 + (page << 12), 0x1000 + (page << 12));
        assert!(writer.add_run(run).unwrap());
    }
    let len = writer.finish().unwrap();
    let (run, _) = MemoryBlock::decode(&buf[..len])
        .unwrap()
        .runs()
        .next()
        .unwrap();
    assert_eq!((run.pages, run.source), (4, 0x1000));
}

/// A block of one data page at 0.
fn one_page() -> Vec<u8> {
    let mut raw = vec![1, 0, 0x10];
    raw.extend([5; PAGE_SIZE]);
    raw
}

#[test]
fn block_with_too_little_or_too_much_data_is_refused() {
    let mut raw = one_page();
    assert_eq!(MemoryBlock::decode(&raw).unwrap().runs().count(), 1);
    let short = MemoryBlock::decode(&raw[..100]).unwrap_err();
    assert_eq!(
        short,
        Error::DataLength {
            expected: 4096,
            found: 97
        }
    );
    raw.push(0);
    assert!(matches!(
        MemoryBlock::decode(&raw),
        Err(Error::DataLength { .. })
    ));
}

#[test]
fn block_with_an_absurd_table_is_refused() {
    assert!(matches!(
        MemoryBlock::decode(&[0xff; 64]),
        Err(Error::TooLong { .. })
    ));
    assert!(matches!(
        MemoryBlock::decode(&[9, 0, 0]),
        Err(Error::Truncated { .. })
    ));
    // Before the first page, no pages, and more data pages than any block has.
    assert!(MemoryBlock::decode(&[2, 0, 0x18, 1]).is_err());
    assert!(MemoryBlock::decode(&[1, 0, 0]).is_err());
    assert!(matches!(
        MemoryBlock::decode(&[3, 0, 0x90, 0x80, 1]),
        Err(Error::TooLong { .. })
    ));
}

#[test]
fn pages_that_the_host_has_are_taken_out() {
    let mut buf = buffer(3);
    let mut writer = BlockWriter::new(&mut buf).unwrap();
    (0..3).for_each(|page| assert!(put_page(&mut writer, page << 12, page as u8)));
    let len = writer.finish().unwrap();
    let table_len = len - 3 * PAGE_SIZE;
    let left = leave_out_known(&mut buf, len, |page| page != 1).unwrap();
    assert_eq!(left, table_len + PAGE_SIZE + 1);
    assert_eq!(buf[table_len..table_len + 2], [1, 1]);
    assert_eq!(buf[left - 1], 0b010);
}

#[test]
fn block_of_which_the_host_has_nothing_is_left_as_it_is() {
    let mut raw = one_page();
    let len = raw.len();
    raw.push(0);
    assert_eq!(leave_out_known(&mut raw, len, |_| false), Ok(len));
    assert!(leave_out_known(&mut raw, len - 1, |_| true).is_err());
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn pages_round_trip(pages in proptest::collection::vec((0_u64..64, 0_u8..10), 1..40)) {
        let mut buf = buffer(15);
        let mut writer = BlockWriter::new(&mut buf).unwrap();
        let mut added = Vec::new();
        for (n, (page, class)) in pages.into_iter().enumerate() {
            let class = PageClass::from_code(if class >= 6 { class + 1 } else { class }).unwrap();
            let mut run = Run::new(page << 12, 1, class);
            let is_added = match class {
                PageClass::Data => put_page(&mut writer, run.pa, n as u8),
                PageClass::Duplicate => {
                    run.source = (63 - page) << 12;
                    writer.add_run(run).unwrap()
                }
                _ => writer.add_run(run).unwrap(),
            };
            if is_added { added.push((run, n as u8)) }
        }
        let len = writer.finish().unwrap();
        let mut found = Vec::new();
        for (run, data) in MemoryBlock::decode(&buf[..len]).unwrap().runs() {
            for page in 0..u64::from(run.pages) {
                let byte = data.get(page as usize * PAGE_SIZE).copied();
                let source = if run.class == PageClass::Duplicate { run.source + (page << 12) } else { 0 };
                found.push((Run { pa: run.pa + (page << 12), pages: 1, source, ..run }, byte));
            }
        }
        prop_assert_eq!(found.len(), added.len());
        for (found, added) in found.iter().zip(&added) {
            prop_assert_eq!(found.0, added.0);
            prop_assert!(found.1.is_none_or(|byte| byte == added.1));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn decode_of_any_bytes_is_bounded(raw in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200)) {
        if let Ok(block) = MemoryBlock::decode(&raw) {
            prop_assert!(block.runs().count() <= raw.len());
        }
    }
}
