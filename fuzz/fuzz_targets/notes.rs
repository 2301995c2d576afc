// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the walk over a note buffer and every payload of ours.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::afterimage_notes::{
    CpuStop, Entries, Fallback, Gap, GicRegister, KernelInfo, Mapping, MovedRange, Reason, Region,
    SysReg, Taint, Thread, Timing,
};
use vmcore::log_ring::LogReader;
use vmcore::notes::{HEADER_LEN, Notes};
use vmcore::page_state::PageStateReader;
use vmcore::phys_memory::SliceMemory;
use vmcore::registers::{FpRegisters, PrStatus};

fuzz_target!(|bytes: &[u8]| {
    payload(bytes);
    let mut notes = Notes::new(bytes);
    let mut count = 0;
    for note in notes.by_ref() {
        count += 1;
        payload(note.desc);
    }
    assert!(notes.offset() <= bytes.len());
    assert!(count <= bytes.len() / HEADER_LEN);
});

/// Reads `desc` as each payload, and as each structure of the crashed kernel's RAM.
fn payload(desc: &[u8]) {
    let _ = PrStatus::decode(desc);
    let _ = FpRegisters::decode(desc);
    let _ = KernelInfo::decode(desc);
    if let Ok(reason) = Reason::decode(desc) {
        assert!(reason.text.len() <= desc.len());
    }
    let _ = Fallback::decode(desc);
    let _ = Taint::decode(desc);
    list::<CpuStop>(desc);
    list::<Gap>(desc);
    list::<GicRegister>(desc);
    list::<Mapping>(desc);
    list::<MovedRange>(desc);
    list::<Region>(desc);
    list::<SysReg>(desc);
    list::<Thread>(desc);
    list::<Timing>(desc);

    let mut memory = SliceMemory {
        base: 0x1000,
        bytes: desc,
    };
    if let Ok(mut log) = LogReader::open(&mut memory, 0x1000, desc.len() as u64) {
        let mut total = 0;
        let mut buf = [0; 64];
        while let Ok(len @ 1..) = log.read(&mut memory, &mut buf) {
            total += len;
            assert!(total <= desc.len());
        }
    }
    if let Ok(mut map) = PageStateReader::open(&mut memory, 0x1000, desc.len() as u64) {
        let (first, pages) = map.covered();
        for pfn in [
            first,
            first.wrapping_add(pages / 2),
            first.wrapping_add(pages),
        ] {
            let _ = map.is_free(&mut memory, pfn);
        }
    }
}

fn list<E: vmcore::afterimage_notes::Entry>(desc: &[u8]) {
    if let Ok(entries) = Entries::<E>::decode(desc) {
        assert!(entries.count() <= desc.len() / E::LEN);
    }
}
