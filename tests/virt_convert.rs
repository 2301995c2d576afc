// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps of an Afterimage kernel in other formats hold what the dump holds, as other readers see it.
#![cfg(test)]

use std::fs;

use blackbox::converted::{Reader, assert_readers_agree, convert};
use blackbox::dump::Dump;
use blackbox::memory::PAGE;
use blackbox::{Machine, oracle};

/// Where `status` and `block_size` lie in `struct disk_dump_header` on arm64.
const STATUS: usize = 424;
const INCOMPLETE: u32 = 8;

fn status_of(kdump: &[u8]) -> u32 {
    u32::from_le_bytes(kdump[STATUS..STATUS + 4].try_into().expect("four bytes"))
}

#[test]
fn converted_dump_holds_what_the_dump_holds() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@200"));
    let kdump = assert_readers_agree(&crashed.dump, 0, &[Reader::Libkdumpfile]);
    assert_eq!(status_of(&fs::read(kdump).expect("kdump")) & INCOMPLETE, 0);

    // The same file, cut off in its longest segment: what is there is converted, and flagged.
    let bytes = fs::read(&crashed.dump.path).expect("the dump");
    let longest = crashed.dump.loads.iter().max_by_key(|load| load.len);
    let longest = longest.expect("segments");
    let end = longest.offset + (longest.len / 2).next_multiple_of(PAGE);
    let cut = crashed.dump.path.with_file_name("cut");
    fs::write(&cut, &bytes[..end as usize]).expect("a file");
    let elf = cut.with_file_name("partial");
    let done = convert(&cut, "elf", &elf);
    assert_eq!(done.status.code(), Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("cut off"), "{}", done.stderr);
    let partial = Dump::open(&elf);
    assert!(partial.covered() != crashed.dump.covered() && !partial.covered().is_empty());
    let kdump = assert_readers_agree(&partial, 3, &[Reader::Libkdumpfile]);
    assert_eq!(
        status_of(&fs::read(kdump).expect("kdump")) & INCOMPLETE,
        INCOMPLETE
    );
}
