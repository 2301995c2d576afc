// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the file that a dump becomes.

use super::*;
use crate::core_file::CoreFile;

const LINEAR: u64 = 0xffff_0000_0000_0000;
const BASE: u64 = 0x4000_0000;
const PAGE: u64 = PAGE_SIZE;

fn ram(pages: u64) -> PhysRange {
    PhysRange {
        start: BASE,
        end: BASE + pages * PAGE,
    }
}

fn linear(pages: u64) -> Mapping {
    Mapping {
        vaddr: LINEAR + BASE,
        paddr: BASE,
        len: pages * PAGE,
    }
}

fn write(dir: &Path, pages: u64, fill: impl FnOnce(&mut DumpFile), maps: &[Mapping]) -> CoreFile {
    let path = dir.join("vmcore");
    let mut dump = DumpFile::create(&part_path(&path), &[ram(pages)]).expect("create");
    fill(&mut dump);
    dump.finish(maps, b"", &path, false).expect("finish");
    assert!(!part_path(&path).exists());
    CoreFile::open(&path).expect("valid core")
}

#[test]
fn lock_that_is_about_to_be_let_go_is_waited_for() {
    let dir = tempfile::tempdir().expect("directory");
    let part = part_path(&dir.path().join("vmcore"));
    let held = File::create(&part).expect("create");
    held.lock().expect("lock");
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        drop(held);
    });
    let opened = DumpFile::create(&part, &[ram(1)]);
    assert!(opened.is_ok(), "{:?}", opened.err());
    letting_go.join().expect("let go");
}

#[test]
fn file_that_another_receiver_writes_is_left_alone() {
    let dir = tempfile::tempdir().expect("directory");
    let part = part_path(&dir.path().join("vmcore"));
    let mut first = DumpFile::create(&part, &[ram(1)]).expect("create");
    first.store(BASE, &[7; 4096]).expect("store");
    for open in [DumpFile::create, DumpFile::reopen] {
        let error = open(&part, &[ram(1)]).expect_err("it is in use");
        assert!(matches!(error, Error::InUse(_)), "{error}");
    }
    drop(first);
    let bytes = std::fs::read(&part).expect("read");
    assert!(bytes.ends_with(&[7; 4096]));
    DumpFile::create(&part, &[ram(1)]).expect("nobody has it now");
}

#[test]
fn gaps_are_absent_and_zero_pages_read_as_zeros() {
    let dir = tempfile::tempdir().expect("directory");
    let core = write(
        dir.path(),
        4,
        |d| {
            d.store(BASE, &[7; 4096]).expect("store");
            d.store(BASE + PAGE, &[0; 4096]).expect("store");
            d.store(BASE + 3 * PAGE, &[9; 4096]).expect("store");
        },
        &[linear(4)],
    );
    assert_eq!(core.loads().len(), 2);
    let mut page = vec![1; 8192];
    core.read_virtual(LINEAR + BASE, &mut page)
        .expect("present");
    assert!(page[..4096].iter().all(|b| *b == 7) && page[4096..].iter().all(|b| *b == 0));
    assert_eq!(
        core.read_virtual(LINEAR + BASE + PAGE, &mut page),
        Err(LINEAR + BASE + 2 * PAGE)
    );
    assert_eq!(
        core.read_physical(BASE + 3 * PAGE, &mut page[..4096]),
        Ok(())
    );
    assert_eq!(page[0], 9);
}

#[test]
fn segments_ask_for_no_alignment_as_those_of_proc_vmcore() {
    let dir = tempfile::tempdir().expect("directory");
    let fill = |dump: &mut DumpFile| dump.store(BASE, &[7; 4096]).expect("store");
    let core = write(dir.path(), 2, fill, &[linear(2)]);
    let alignments: Vec<u64> = core.loads().iter().map(|load| load.align).collect();
    assert_eq!(alignments, [0]);
}

#[test]
fn text_mapping_shares_the_bytes_of_the_linear_mapping() {
    let dir = tempfile::tempdir().expect("directory");
    let text = Mapping {
        vaddr: 0xffff_8000_8000_0000,
        paddr: BASE + PAGE,
        len: PAGE,
    };
    let core = write(
        dir.path(),
        2,
        |d| d.store(BASE, &[5; 8192]).expect("store"),
        &[text, linear(2)],
    );
    let offsets: Vec<u64> = core.loads().iter().map(|s| s.offset).collect();
    assert_eq!(offsets, [RESERVED + PAGE, RESERVED]);
    assert_eq!(
        crate::unwind::Memory::read_u64(&core, text.vaddr),
        Some(0x0505_0505_0505_0505)
    );
}

#[test]
fn more_than_65534_gaps_need_pn_xnum() {
    let dir = tempfile::tempdir().expect("directory");
    let pages = 140_000;
    let core = write(
        dir.path(),
        pages,
        |d| {
            for n in (0..pages).step_by(2) {
                let start = BASE + n * PAGE;
                d.mark(
                    PhysRange {
                        start,
                        end: start + PAGE,
                    },
                    PageClass::Zero,
                )
                .expect("mark");
            }
        },
        &[linear(pages)],
    );
    assert_eq!(core.loads().len(), 70_000);
    let mut byte = [1];
    assert_eq!(
        core.read_virtual(LINEAR + BASE + (pages - 2) * PAGE, &mut byte),
        Ok(())
    );
    assert!(
        core.read_virtual(LINEAR + BASE + (pages - 1) * PAGE, &mut byte)
            .is_err()
    );
}

#[test]
fn overlapping_ram_is_rejected() {
    let dir = tempfile::tempdir().expect("directory");
    let twice = [
        ram(4),
        PhysRange {
            start: BASE + PAGE,
            end: BASE + 9 * PAGE,
        },
    ];
    let result = DumpFile::create(&dir.path().join("x"), &twice);
    assert!(matches!(result, Err(Error::Manifest(_))));
}

#[test]
fn existing_file_is_not_replaced() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("vmcore");
    std::fs::write(&path, "precious").expect("write");
    let dump = DumpFile::create(&part_path(&path), &[ram(1)]).expect("create");
    let result = dump.finish(&[linear(1)], b"", &path, false);
    assert!(matches!(result, Err(Error::Exists(_))));
    assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    assert!(part_path(&path).exists());
}

#[test]
fn memory_outside_ram_is_left_out() {
    let dir = tempfile::tempdir().expect("directory");
    let core = write(
        dir.path(),
        1,
        |d| d.store(BASE - PAGE, &[3; 8192]).expect("store"),
        &[linear(1)],
    );
    assert_eq!(core.loads().len(), 1);
}

#[test]
fn unwritable_directory_is_a_clear_error() {
    let path = Path::new("/nonexistent/dir/vmcore.part");
    let error = DumpFile::create(path, &[ram(1)]).expect_err("no directory");
    assert!(
        error
            .to_string()
            .starts_with("cannot create /nonexistent/dir/vmcore.part"),
        "{error}"
    );
}

#[test]
fn reopened_file_shows_nothing_that_was_not_stored_again() {
    let dir = tempfile::tempdir().expect("directory");
    let part = dir.path().join("x");
    let mut old = DumpFile::create(&part, &[ram(3)]).expect("create");
    old.store(BASE, &[7; 3 * 4096]).expect("store");
    drop(old);
    let mut again = DumpFile::reopen(&part, &[ram(3)]).expect("reopen");
    let mut page = [0; 4096];
    assert!(!again.read(BASE, &mut page).expect("read"));
    assert!(again.read_old(ram(1), &mut page).expect("read") && page[0] == 7);
    let second = PhysRange {
        start: BASE + PAGE,
        end: BASE + 2 * PAGE,
    };
    again.mark(second, PageClass::Zero).expect("mark");
    again.store(BASE + 2 * PAGE, &[0; 4096]).expect("store");
    for start in [BASE + PAGE, BASE + 2 * PAGE] {
        page[0] = 1;
        assert!(again.read(start, &mut page).expect("read"));
        assert_eq!(page, [0; 4096]);
    }
}
