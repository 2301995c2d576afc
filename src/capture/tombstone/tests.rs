// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the tombstone in its words.

use super::*;

fn words(value: u64) -> [AtomicU64; WORDS] {
    core::array::from_fn(|_| AtomicU64::new(value))
}

const PAGES: PhysRange = PhysRange {
    start: 0x4000_0000,
    end: 0x4002_0000,
};

#[test]
fn memory_of_any_content_is_no_tombstone() {
    for value in [0, 1, SEALED, RUNNING, u64::MAX] {
        let words = words(value);
        let tomb = Tombstone::begin(&words);
        assert_eq!(tomb.failures(), 0, "{value:#x}");
        assert_eq!(tomb.dump(), None);
        assert!(!tomb.is_closing() && tomb.skips().next().is_none());
    }
}

#[test]
fn failure_while_sending_leaves_out_its_block() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([7; 16], 99);
    tomb.set_round(1);
    tomb.sending(4);
    tomb.line(1000, 3);
    assert_eq!(tomb.failed(0xabc), None);
    let next = Tombstone::begin(&words);
    assert_eq!((next.failures(), next.dump()), (1, Some(([7; 16], 99))));
    assert_eq!(next.skipped_block(4), Some(false));
    assert_eq!(next.skipped_block(3), None);
    assert_eq!(next.round(), (1, 2));
    assert!(next.next_sequence() > 1000);
    let skip = next.skips().next().unwrap();
    assert_eq!((skip.block, skip.pc), (4, 0xabc));
}

#[test]
fn failure_while_reading_leaves_out_its_pages() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([7; 16], 99);
    tomb.sending(4);
    tomb.reading(5, PAGES);
    assert_eq!(tomb.failed(1), None);
    let next = Tombstone::begin(&words);
    assert_eq!(next.skipped_block(5), None);
    let around = PhysRange {
        start: 0x3fff_0000,
        end: 0x4001_0000,
    };
    let found = next.skipped_pages(around).unwrap();
    assert_eq!((found.start, found.end), (0x4000_0000, 0x4001_0000));
    assert!(next.has_failed_at(5) && next.dump().is_some());
}

#[test]
fn failure_while_reading_again_what_was_sent_makes_another_dump() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([7; 16], 99);
    tomb.sending(2);
    let _ = tomb.failed(0);
    let tomb = Tombstone::begin(&words);
    tomb.sending(9);
    tomb.reading(3, PAGES);
    let _ = tomb.failed(0);
    let next = Tombstone::begin(&words);
    assert_eq!(next.dump(), None);
    assert_eq!(
        next.skipped_block(2),
        None,
        "numbers have no meaning any more"
    );
    assert!(next.skipped_pages(PAGES).is_some());
    assert_eq!(next.round(), (0, 0));
}

#[test]
fn failure_while_sending_again_leaves_the_later_blocks_valid() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([7; 16], 99);
    tomb.sending(9);
    tomb.sending(3);
    let _ = tomb.failed(0);
    let next = Tombstone::begin(&words);
    assert!(next.dump().is_some());
    assert_eq!(next.skipped_block(3), Some(true));
}

#[test]
fn failures_are_bounded() {
    let words = words(0);
    let mut restarts = 0;
    let end = loop {
        let tomb = Tombstone::begin(&words);
        tomb.set_then(DumpThen::PowerOff);
        tomb.sending(restarts);
        match tomb.failed(0) {
            None => restarts += 1,
            end => break end,
        }
    };
    assert_eq!(u64::from(restarts), MAX_FAILURES + 1);
    assert_eq!(end, Some(DumpThen::PowerOff));
}

#[test]
fn failures_before_the_first_block_end_in_a_run_without_the_header() {
    let words = words(0);
    for _ in 0..PRELUDE_FAILURES {
        assert!(!Tombstone::begin(&words).is_header_suspect());
        let _ = Tombstone::new(&words).failed(0);
    }
    assert!(Tombstone::begin(&words).is_header_suspect());
}

#[test]
fn failure_after_the_dump_or_outside_of_one_ends_it() {
    let fresh = words(5);
    assert_eq!(Tombstone::new(&fresh).failed(0), Some(DumpThen::Reboot));
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_then(DumpThen::Halt);
    tomb.over();
    assert_eq!(tomb.failed(0), Some(DumpThen::Halt));
    assert_eq!(Tombstone::begin(&words).failures(), 0);
}

#[test]
fn sealed_tombstone_with_a_flipped_bit_is_none() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([7; 16], 99);
    let _ = tomb.failed(0);
    words[BLOCK].fetch_xor(1, Ordering::SeqCst);
    assert_eq!(Tombstone::begin(&words).dump(), None);
}

#[test]
fn failure_when_memory_is_read_again_costs_that_only() {
    let words = words(0);
    let tomb = Tombstone::begin(&words);
    tomb.set_dump([1; 16], 5);
    tomb.sending(3);
    tomb.reading_again();
    assert_eq!(tomb.failed(0x1234), None);
    let next = Tombstone::begin(&words);
    assert!(next.has_failed_again() && !next.is_closing());
    assert_eq!(next.skips().count(), 0);
    assert_eq!(next.dump(), Some(([1; 16], 5)));
}
