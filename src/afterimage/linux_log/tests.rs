// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the log's form, and of a log that a dump has in part.

use super::*;
use crate::contents::Contents;
use crate::dump_file::{DumpFile, Mapping};
use crate::note_bytes::NoteBytes;
use vmcore::PhysRange;
use vmcore::linux::Key;

fn record(ts_nsec: u64, text: &[u8]) -> Entry {
    Entry::Record {
        ts_nsec,
        text: text.to_vec(),
    }
}

fn hole(count: u64) -> Entry {
    let error = vmcore::Error::KeyMissing(Key::Symbol("x"));
    Entry::Missing { count, error }
}

#[test]
fn records_are_lines_with_their_time_in_microseconds() {
    let entries = [
        record(0, b"Booting"),
        record(6_902_011_999, b"sysrq: Trigger a crash"),
        record(123_456_000_000_000, b""),
    ];
    assert_eq!(
        log_lines(&entries),
        "[    0.000000] Booting\n[    6.902011] sysrq: Trigger a crash\n[123456.000000] \n"
    );
    assert_eq!(missing(&entries), None);
}

#[test]
fn bytes_that_are_no_text_are_escaped_and_space_is_not() {
    assert_eq!(
        printable(b"a\x1b[1m\tb\x7f\xc3\xa9\n c\0"),
        "a\\x1b[1m\tb\\x7f\\xc3\\xa9\n c\\x00"
    );
}

#[test]
fn holes_are_said_in_their_place_and_in_sum() {
    let entries = [hole(2), record(1000, b"x"), hole(3)];
    assert_eq!(
        log_lines(&entries),
        "[2 records missing from the dump]\n[    0.000001] x\n[3 records missing from the dump]\n"
    );
    let said = missing(&entries).expect("said");
    assert_eq!(
        said,
        "5 records of the log are not in the dump; the first: vmcoreinfo has no SYMBOL(x)"
    );
}

#[test]
fn records_missing_one_behind_the_other_are_one_hole() {
    let mut entries = vec![hole(1)];
    add_missing(&mut entries, 4, vmcore::Error::BadMagic { value: 0 });
    assert_eq!(entries, [hole(5)]);
}

/// Physical address of the page table, which maps the first GiB by a block; behind it the ring, and two pages of text.
const TABLE: u64 = 0x4000_0000;
const RING: u64 = TABLE + 0x1000;
const TEXT: u64 = TABLE + 0x2000;
/// Virtual address of physical address 0.
const DISTANCE: u64 = 0xffff_ff80_0000_0000;
/// Where in the ring's page its descriptors and the information on them are.
const DESCS: u64 = 0x200;
const INFOS: u64 = 0x600;

const NOTE: &str = "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffff8040000000\nNUMBER(VA_BITS)=39\n\
    NUMBER(TCR_EL1_T1SZ)=0x19\nNUMBER(kimage_voffset)=0xffffff8000000000\nSYMBOL(prb)=ffffff8040001000\n\
    OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48\n\
    OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
    OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)=24\n\
    OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\n\
    OFFSET(prb_data_blk_lpos.next)=8\nSIZE(printk_info)=24\nOFFSET(printk_info.ts_nsec)=8\n\
    OFFSET(printk_info.text_len)=16\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n\
    OFFSET(atomic_long_t.counter)=0\n";

/// Writes a dump of a log of four records: the second and third have their text in a page that the dump has, or not.
fn dump(dir: &std::path::Path, has_all: bool) -> CoreFile {
    let mut ring = vec![0; 0x1000];
    let mut put = |at: u64, value: u64| {
        let at = at as usize;
        ring[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    let structure = 0x100;
    put(0, DISTANCE + RING + structure);
    put(structure, 2);
    put(structure + 8, DISTANCE + RING + DESCS);
    put(structure + 16, DISTANCE + RING + INFOS);
    put(structure + 24, 3);
    put(structure + 48, 13);
    put(structure + 56, DISTANCE + TEXT);
    for (id, begin) in (0..).zip([0x10, 0x1000, 0x1100, 0x80]) {
        put(DESCS + id * 24, 2 << 62 | id);
        put(DESCS + id * 24 + 8, begin);
        put(DESCS + id * 24 + 16, begin + 16);
        put(INFOS + id * 24 + 8, id * 1000);
        put(INFOS + id * 24 + 16, 4);
    }
    let mut table = vec![0; 0x1000];
    table[8..16].copy_from_slice(&(TABLE | 0x701).to_le_bytes());
    let ram = PhysRange {
        start: TABLE,
        end: TABLE + 0x4000,
    };
    let mut dump = DumpFile::create(&dir.join("part"), &[ram]).expect("create");
    dump.store(TABLE, &table).expect("store");
    dump.store(RING, &ring).expect("store");
    dump.store(TEXT, &[b'a'; 0x1000]).expect("store");
    if has_all {
        dump.store(TEXT + 0x1000, &[b'b'; 0x1000]).expect("store");
    }
    let mut notes = NoteBytes::default();
    notes.add(b"VMCOREINFO", 0, NOTE.as_bytes());
    let map = Mapping {
        vaddr: 0,
        paddr: TABLE,
        len: 0x4000,
    };
    let path = dir.join("core");
    dump.finish(&[map], notes.as_bytes(), &path, true)
        .expect("finish");
    CoreFile::open(&path).expect("a core")
}

fn log_of(core: &CoreFile) -> Vec<Entry> {
    let contents = Contents::of(core.note_bytes());
    read_log(core, contents.linux().expect("a note")).expect("a log")
}

#[test]
fn log_of_a_whole_dump_is_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let entries = log_of(&dump(dir.path(), true));
    assert_eq!(
        log_lines(&entries),
        "[    0.000000] aaaa\n[    0.000001] bbbb\n[    0.000002] bbbb\n[    0.000003] aaaa\n"
    );
    assert_eq!(missing(&entries), None);
}

#[test]
fn records_that_the_dump_does_not_have_are_said_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().expect("directory");
    let entries = log_of(&dump(dir.path(), false));
    assert_eq!(
        log_lines(&entries),
        "[    0.000000] aaaa\n[2 records missing from the dump]\n[    0.000003] aaaa\n"
    );
    assert_eq!(
        missing(&entries).as_deref(),
        Some("2 records of the log are not in the dump; the first: cannot read 0x40003008: no ram")
    );
}
