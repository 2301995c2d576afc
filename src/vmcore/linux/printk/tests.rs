// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the ring's reader, on a ring of 8 records and 128 bytes of text.

use super::*;
use crate::linux::testing::{Guest, START};
use proptest::prelude::*;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

const PRB: u64 = START + 0x100;
const DESCS: u64 = START + 0x200;
const INFOS: u64 = START + 0x300;
const DATA: u64 = START + 0x400;
const SIZE: u64 = 128;

/// The sizes and offsets of Linux 6.12, but for smaller information on a record.
const NOTE: &str = "OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48\n\
    OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
    OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)=24\n\
    OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\n\
    OFFSET(prb_data_blk_lpos.next)=8\nSIZE(printk_info)=24\nOFFSET(printk_info.ts_nsec)=8\n\
    OFFSET(printk_info.text_len)=16\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n\
    OFFSET(atomic_long_t.counter)=0\n";

/// A ring with these ids from the tail to the head, and no record in it.
fn ring(tail: u64, head: u64) -> Guest {
    let mut guest = Guest::new(0x600);
    guest.note.push_str(NOTE);
    guest
        .note
        .push_str(&std::format!("SYMBOL(prb)={START:x}\n"));
    guest.put_u64(START, PRB);
    guest.put_u32(PRB, 3);
    guest.put_u64(PRB + 8, DESCS);
    guest.put_u64(PRB + 16, INFOS);
    guest.put_u64(PRB + 24, head);
    guest.put_u64(PRB + 32, tail);
    guest.put_u32(PRB + 48, 7);
    guest.put_u64(PRB + 56, DATA);
    guest
}

/// Writes a record's descriptor, and its text behind `begin` (or at the start of the ring, when it does not fit).
fn put(guest: &mut Guest, id: u64, state: u64, (begin, next): (u64, u64), text: &str) {
    let index = id % 8;
    guest.put_u64(DESCS + index * 24, state << 62 | id);
    guest.put_u64(DESCS + index * 24 + 8, begin);
    guest.put_u64(DESCS + index * 24 + 16, next);
    guest.put_u64(INFOS + index * 24 + 8, id * 1000);
    guest.put_u64(INFOS + index * 24 + 16, text.len() as u64);
    let wraps = (next - 1) / SIZE != begin / SIZE;
    let start = if wraps { 0 } else { begin % SIZE };
    guest.put(DATA + start + 8, text.as_bytes());
}

/// Every record: time and text, or the error.
fn read(guest: &Guest) -> Vec<Result<(u64, String), String>> {
    let mut memory = guest.memory();
    let mut log = PrintkLog::open(&guest.info(), &mut memory).unwrap();
    let mut records = Vec::new();
    while let Some(next) = log.next(&mut memory) {
        records.push(match next {
            Ok(record) => {
                let mut text = vec![0; record.len as usize];
                memory.read(record.text, &mut text).unwrap();
                Ok((record.ts_nsec, String::from_utf8(text).unwrap()))
            }
            Err(unreadable) => Err(std::format!("{}: {}", unreadable.id, unreadable.error)),
        });
        assert!(records.len() <= 8);
    }
    records
}

fn texts(guest: &Guest) -> Vec<String> {
    let records = read(guest).into_iter();
    records.map(|record| record.unwrap().1).collect()
}

#[test]
fn records_come_in_order_with_their_time() {
    let mut guest = ring(5, 7);
    put(&mut guest, 5, FINALIZED, (0, 16), "five");
    put(&mut guest, 6, FINALIZED, (16, 32), "six");
    put(&mut guest, 7, COMMITTED, (32, 48), "seven");
    let expected = [(5000, "five"), (6000, "six"), (7000, "seven")];
    let expected = expected.map(|(ts, text)| Ok((ts, text.to_string())));
    assert_eq!(read(&guest), expected);
}

#[test]
fn ids_go_round_at_62_bits() {
    let mut guest = ring(ID_MASK, 0);
    put(&mut guest, 0, FINALIZED, (16, 32), "second");
    let last = ID_MASK;
    put(&mut guest, last & 7, FINALIZED, (0, 16), "first");
    guest.put_u64(DESCS + 7 * 24, FINALIZED << 62 | last);
    assert_eq!(texts(&guest), ["first", "second"]);
}

#[test]
fn records_reserved_reusable_or_of_another_id_are_passed_over() {
    let mut guest = ring(0, 3);
    put(&mut guest, 0, 3, (0, 16), "reusable");
    put(&mut guest, 1, FINALIZED, (16, 32), "shown");
    put(&mut guest, 2, 0, (32, 48), "reserved");
    put(&mut guest, 3 + 8, FINALIZED, (48, 64), "another");
    assert_eq!(texts(&guest), ["shown"]);
}

#[test]
fn text_that_does_not_fit_at_the_end_stands_at_the_start() {
    let mut guest = ring(0, 0);
    // From 120 on there was no room for 24 bytes: the block is 0..24 of the next round.
    put(&mut guest, 0, FINALIZED, (120, 128 + 24), "at the start");
    assert_eq!(texts(&guest), ["at the start"]);
}

#[test]
fn text_that_ends_with_the_ring_is_where_it_begins() {
    let mut guest = ring(0, 0);
    put(&mut guest, 0, FINALIZED, (104, 128), "at the very end");
    assert_eq!(texts(&guest), ["at the very end"]);
}

#[test]
fn record_without_text_is_an_empty_line() {
    let mut guest = ring(0, 0);
    put(&mut guest, 0, FINALIZED, (3, 3), "");
    assert_eq!(texts(&guest), [""]);
}

#[test]
fn text_longer_than_its_block_is_cut_there() {
    let mut guest = ring(0, 0);
    put(&mut guest, 0, FINALIZED, (0, 16), "longer than eight");
    assert_eq!(texts(&guest), ["longer t"]);
}

#[test]
fn tail_far_behind_shows_each_record_once() {
    let mut guest = ring(0, 1000);
    put(&mut guest, 1000, FINALIZED, (0, 16), "last");
    put(&mut guest, 993, FINALIZED, (16, 32), "first");
    assert_eq!(texts(&guest), ["first", "last"]);
}

#[test]
fn descriptors_outside_memory_are_counted_one_by_one() {
    let mut guest = ring(0, 1);
    guest.put_u64(PRB + 8, START + 0x4000_0000);
    let records = read(&guest);
    let expected = std::format!(
        "0: virtual address {:#x} is not mapped: descriptor 0x0 at level 1",
        START + 0x4000_0000
    );
    assert_eq!(records.len(), 2);
    assert_eq!(records[0], Err(expected));
}

#[test]
fn impossible_sizes_are_refused() {
    let open = |guest: &Guest| {
        let mut memory = guest.memory();
        PrintkLog::open(&guest.info(), &mut memory).unwrap_err()
    };
    let mut guest = ring(0, 0);
    guest.put_u32(PRB, 27);
    let count = Error::BadValue {
        offset: 0,
        value: 27,
    };
    assert_eq!(open(&guest), count);
    let mut guest = ring(0, 0);
    guest.put_u32(PRB + 48, 0);
    let size = Error::BadValue {
        offset: 48,
        value: 0,
    };
    assert_eq!(open(&guest), size);
    let mut guest = ring(0, 0);
    guest.note = guest.note.replace("SIZE(prb_desc)=24", "SIZE(prb_desc)=0");
    assert_eq!(
        open(&guest).to_string(),
        "vmcoreinfo: SIZE(prb_desc) is \"0\""
    );
    guest.note = guest.note.replace("SYMBOL(prb)", "SYMBOL(log_buf)");
    assert_eq!(open(&guest).to_string(), "vmcoreinfo has no SYMBOL(prb)");
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn any_ring_is_read_in_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0x400),
        at in 0_u64..0x100,
        header in any::<[u64; 12]>(),
    ) {
        let mut guest = ring(header[3], header[4]);
        guest.put(DESCS, &bytes[..0x200]);
        guest.put(PRB + at, &bytes[0x200..0x220]);
        let mut memory = guest.memory();
        if let Ok(mut log) = PrintkLog::open(&guest.info(), &mut memory) {
            let mut count = 0;
            while log.next(&mut memory).is_some() {
                count += 1;
                prop_assert!(count <= u64::from(MOST_UNREADABLE) + 8);
            }
        }
    }

    #[test]
    fn records_read_back(lengths in proptest::collection::vec(0_usize..24, 1..20)) {
        // As data_alloc() places them: aligned to 8, never in two parts.
        let mut guest = ring((lengths.len() as u64).saturating_sub(8), lengths.len() as u64 - 1);
        let mut position = 0;
        let mut expected = Vec::new();
        for (id, len) in lengths.iter().enumerate() {
            let text = "x".repeat(*len);
            let size = (8 + *len as u64).next_multiple_of(8);
            let fits = (position + size - 1) / SIZE == position / SIZE;
            let next = if fits { position + size } else { position.next_multiple_of(SIZE) + size };
            put(&mut guest, id as u64, FINALIZED, (position, next), &text);
            position = next;
            expected.push(text);
        }
        let kept = expected.split_off(expected.len().saturating_sub(8));
        let lengths = |texts: Vec<String>| texts.iter().map(String::len).collect::<Vec<_>>();
        prop_assert_eq!(lengths(texts_of_any(&guest)), lengths(kept));
    }
}

/// Texts whose bytes may have been overwritten by later ones.
fn texts_of_any(guest: &Guest) -> Vec<String> {
    let records = read(guest).into_iter();
    records
        .map(|record| record.map_or_else(|error| error, |(_, text)| text))
        .collect()
}
