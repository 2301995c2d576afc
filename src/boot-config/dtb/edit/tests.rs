// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the edits, with `dtc` as the judge.

use super::*;
use crate::dtb::testing::{Blob, PI, VIRT, dtc};
use std::string::String;
use std::vec;
use std::vec::Vec;

const REGION: PhysRange = PhysRange {
    start: 0x4760_0000,
    end: 0x4780_0000,
};
const HEADER: PhysRange = PhysRange {
    start: 0x477f_f000,
    end: 0x4780_0000,
};

const CAPTURE: CaptureDtb<'static> = CaptureDtb {
    usable_memory: &[REGION],
    elf_core_header: HEADER,
    boot_args: b"dump_then=halt",
    initrd: None,
    reservations: &[],
};

fn edited(dts: &str, edit: impl Fn(&Dtb<'_>, &mut [u8]) -> Result<usize, EditError>) -> Vec<u8> {
    let (blob, _) = dtc("dts", "dtb", dts.as_bytes());
    let mut out = vec![0; 0x1_0000];
    let len = edit(&Dtb::validate(&blob).unwrap(), &mut out).unwrap();
    out.truncate(len);
    out
}

/// The lines that `dtc` prints for `blob`, without indentation.
fn lines(blob: &[u8]) -> Vec<String> {
    let (text, _) = dtc("dtb", "dts", blob);
    let text = String::from_utf8(text).unwrap();
    text.lines()
        .map(|line| String::from(line.trim()))
        .filter(|line| !line.is_empty())
        .collect()
}

/// What is in `new` and not in `old`, and what is in `old` and not in `new`.
fn difference(old: &[u8], new: &[u8]) -> (Vec<String>, Vec<String>) {
    let (old, new) = (lines(old), lines(new));
    let added = new
        .iter()
        .filter(|line| !old.contains(line))
        .cloned()
        .collect();
    let removed = old
        .iter()
        .filter(|line| !new.contains(line))
        .cloned()
        .collect();
    (added, removed)
}

fn assert_no_new_warning(old: &[u8], new: &[u8]) {
    let (_, before) = dtc("dtb", "dts", old);
    let (_, after) = dtc("dtb", "dts", new);
    let news: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(*line))
        .collect();
    assert!(news.is_empty(), "{news:?}");
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn no_edits_change_nothing_that_dtc_sees() {
    let (blob, _) = dtc("dts", "dtb", VIRT.as_bytes());
    let copy = edited(VIRT, |dtb, out| Edits::new().apply(dtb, out));
    assert_eq!(lines(&copy), lines(&blob));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn crash_region_without_a_parent_adds_the_parent() {
    let (blob, _) = dtc("dts", "dtb", VIRT.as_bytes());
    let copy = edited(VIRT, |dtb, out| add_crash_region(dtb, REGION, out));
    let (added, removed) = difference(&blob, &copy);
    let expected = [
        "reserved-memory {",
        "crashkernel@47600000 {",
        "reg = <0x00 0x47600000 0x00 0x200000>;",
        "no-map;",
    ];
    assert_eq!(added, expected);
    assert!(removed.is_empty(), "{removed:?}");
    assert_no_new_warning(&blob, &copy);
    let dtb = Dtb::validate(&copy).unwrap();
    let region = dtb.crash_region().unwrap().unwrap();
    assert_eq!((region.range, region.is_no_map), (REGION, true));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn crash_region_uses_the_cells_of_an_existing_parent() {
    let (blob, _) = dtc("dts", "dtb", PI.as_bytes());
    let copy = edited(PI, |dtb, out| add_crash_region(dtb, REGION, out));
    let (added, removed) = difference(&blob, &copy);
    let expected = [
        "crashkernel@47600000 {",
        "reg = <0x00 0x47600000 0x200000>;",
    ];
    assert_eq!(added, expected);
    assert!(removed.is_empty(), "{removed:?}");
    assert_no_new_warning(&blob, &copy);
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn crash_region_that_exists_is_rejected() {
    let once = edited(VIRT, |dtb, out| add_crash_region(dtb, REGION, out));
    let dtb = Dtb::validate(&once).unwrap();
    let error = EditError::CrashRegionExists { region: REGION };
    assert_eq!(add_crash_region(&dtb, REGION, &mut [0; 4096]), Err(error));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn capture_blob_loses_what_is_stale() {
    let (blob, _) = dtc("dts", "dtb", VIRT.as_bytes());
    let copy = edited(VIRT, |dtb, out| CAPTURE.write(dtb, out));
    let (added, removed) = difference(&blob, &copy);
    let expected = [
        "/memreserve/\t0x00000000477ff000 0x0000000000001000;",
        "bootargs = \"dump_then=halt\";",
        "linux,usable-memory-range = <0x00 0x47600000 0x00 0x200000>;",
        "linux,elfcorehdr = <0x00 0x477ff000 0x00 0x1000>;",
    ];
    assert_eq!(added, expected);
    let gone = [
        "linux,initrd-end = <0x48100000>;",
        "linux,initrd-start = <0x48000000>;",
        "kaslr-seed = <0x03 0x04>;",
        "rng-seed = <0x01 0x02>;",
        "bootargs = \"crashkernel=2M lkdtm=PANIC\";",
    ];
    assert!(
        gone.iter()
            .all(|line| removed.iter().any(|found| found == line)),
        "{removed:?}"
    );
    assert_eq!(removed.len(), gone.len());
    assert_no_new_warning(&blob, &copy);
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn capture_blob_is_what_a_capture_kernel_reads() {
    let own = edited(VIRT, |dtb, out| add_crash_region(dtb, REGION, out));
    let mut out = vec![0; 0x1_0000];
    let len = CAPTURE
        .write(&Dtb::validate(&own).unwrap(), &mut out)
        .unwrap();
    let dtb = Dtb::validate(&out[..len]).unwrap();
    let info = dtb.kdump_info().unwrap().unwrap();
    assert_eq!(
        (info.usable_memory.first(), info.elf_core_header),
        (Some(REGION), HEADER)
    );
    assert_eq!(dtb.boot_args(), b"dump_then=halt");
    assert_eq!(dtb.initrd(), Ok(None));
    assert_eq!(dtb.crash_region(), Ok(None));
    assert_eq!(
        dtb.root().child("chosen").unwrap().property("kaslr-seed"),
        None
    );
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn capture_blob_of_a_capture_blob_keeps_one_of_everything() {
    let once = edited(VIRT, |dtb, out| CAPTURE.write(dtb, out));
    let moved = CaptureDtb {
        elf_core_header: PhysRange {
            start: 0x477f_e000,
            end: 0x477f_f000,
        },
        initrd: Some(PhysRange {
            start: 0x4770_0000,
            end: 0x4771_0000,
        }),
        ..CAPTURE
    };
    let mut out = vec![0; 0x1_0000];
    let len = moved
        .write(&Dtb::validate(&once).unwrap(), &mut out)
        .unwrap();
    let dtb = Dtb::validate(&out[..len]).unwrap();
    assert_eq!(dtb.elf_core_header(), Ok(Some(moved.elf_core_header)));
    assert_eq!(dtb.initrd(), Ok(moved.initrd));
    let reservations: Vec<PhysRange> = dtb.memory_reservations().map(Result::unwrap).collect();
    let first = PhysRange {
        start: 0x4000_0000,
        end: 0x4000_1000,
    };
    assert_eq!(reservations, [first, moved.elf_core_header]);
    let text = lines(&out[..len]);
    let count = text
        .iter()
        .filter(|line| line.starts_with("linux,elfcorehdr"))
        .count();
    assert_eq!(count, 1);
}

#[test]
fn capture_blob_without_chosen_gets_one() {
    let blob = Blob::new()
        .two_cells()
        .memory(0x4000_0000, 0x800_0000)
        .finish();
    let mut out = [0; 1024];
    let len = CAPTURE
        .write(&Dtb::validate(&blob).unwrap(), &mut out)
        .unwrap();
    let dtb = Dtb::validate(&out[..len]).unwrap();
    assert_eq!(dtb.elf_core_header(), Ok(Some(HEADER)));
}

#[test]
fn boot_cpu_and_nop_tokens_do_not_disturb() {
    let mut blob = Blob::new()
        .token(4)
        .text("model", "m")
        .token(4)
        .begin("a")
        .token(4)
        .end()
        .finish();
    blob[28..32].copy_from_slice(&7_u32.to_be_bytes());
    let mut out = [0; 512];
    let edits = Edits::new()
        .set("/a", "b", Value::Cell(1))
        .set("/", "model", Value::Text(b"n"));
    let len = edits
        .apply(&Dtb::validate(&blob).unwrap(), &mut out)
        .unwrap();
    let dtb = Dtb::validate(&out[..len]).unwrap();
    assert_eq!((dtb.boot_cpu_id(), dtb.model()), (7, Some("n")));
    assert_eq!(dtb.node("/a").unwrap().cell("b"), Ok(Some(1)));
}

#[test]
fn edits_of_nested_missing_nodes_share_their_parents() {
    let blob = Blob::new().finish();
    let mut out = [0; 512];
    let edits = Edits::new()
        .set("/a/b", "p", Value::Cell(1))
        .set("/a", "q", Value::Cell(2))
        .set("/a/c", "p", Value::Bytes(b"xyz"));
    let len = edits
        .apply(&Dtb::validate(&blob).unwrap(), &mut out)
        .unwrap();
    let dtb = Dtb::validate(&out[..len]).unwrap();
    assert_eq!(dtb.root().children().count(), 1);
    assert_eq!(dtb.node("/a/b").unwrap().cell("p"), Ok(Some(1)));
    assert_eq!(dtb.node("/a").unwrap().cell("q"), Ok(Some(2)));
    assert_eq!(dtb.node("/a/c").unwrap().property("p"), Some(&b"xyz"[..]));
}

#[test]
fn buffer_one_byte_short_is_told_how_much_is_needed() {
    let blob = Blob::new().two_cells().finish();
    let dtb = Dtb::validate(&blob).unwrap();
    let Err(EditError::DoesNotFit {
        needed,
        capacity: 0,
    }) = CAPTURE.write(&dtb, &mut [])
    else {
        panic!("an empty buffer is too short");
    };
    let mut out = vec![0; needed];
    assert_eq!(CAPTURE.write(&dtb, &mut out), Ok(needed));
    let short = EditError::DoesNotFit {
        needed,
        capacity: needed - 1,
    };
    assert_eq!(CAPTURE.write(&dtb, &mut out[1..]), Err(short));
}

#[test]
fn region_above_4_gib_in_one_cell_is_rejected() {
    let blob = Blob::new()
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .finish();
    let region = PhysRange {
        start: 1 << 32,
        end: (1 << 32) + 0x20_0000,
    };
    let result = add_crash_region(&Dtb::validate(&blob).unwrap(), region, &mut [0; 1024]);
    assert_eq!(
        result,
        Err(EditError::CellsTooSmall {
            value: 1 << 32,
            cells: 1
        })
    );
}

#[test]
fn region_in_three_cells_is_rejected() {
    let blob = Blob::new().cells("#address-cells", &[3]).finish();
    let result = add_crash_region(&Dtb::validate(&blob).unwrap(), REGION, &mut [0; 1024]);
    assert_eq!(
        result,
        Err(EditError::CellsTooSmall {
            value: REGION.start,
            cells: 3
        })
    );
}

#[test]
fn too_many_edits_are_rejected() {
    let blob = Blob::new().finish();
    let edits = (0..=MAX_EDITS).fold(Edits::new(), |edits, _| edits.remove("/", "x"));
    let result = edits.apply(&Dtb::validate(&blob).unwrap(), &mut [0; 512]);
    assert_eq!(
        result,
        Err(EditError::TooManyEdits {
            capacity: MAX_EDITS
        })
    );
}
