// SPDX-License-Identifier: MIT OR Apache-2.0
//! `convert` as a user runs it: what comes out, what is refused, and what is left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use afterimage::note_bytes::NoteBytes;

use crate::place::{Place, assert_exit, err, out, physical, run, text};
use crate::stream::{Machine, PAGE, RAM, first_memory_frame, framed};

/// Where fields lie: e_flags of an ELF header, the first program header's successor, status of a kdump header.
const E_FLAGS: usize = 48;
const FIRST_LOAD: usize = 64 + 56;
const KDUMP_STATUS: usize = 424;

fn convert(vmcore: &Path, to: &str, output: &Path, more: &[&str]) -> Output {
    let args = ["convert", text(vmcore), "--to", to, "-o", text(output)];
    run(&[&args[..], more].concat())
}

fn word(path: &Path, at: usize) -> u32 {
    let bytes = fs::read(path).expect("read");
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Asserts that nothing but `names` is in the place.
#[track_caller]
fn assert_left(place: &Place, names: &[&str]) {
    let entries = fs::read_dir(place.0.path()).expect("directory");
    let mut found: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, names);
}

/// Receives a dump whose memory block 3 did not arrive whole.
fn incomplete(place: &Place) -> PathBuf {
    let mut frames = Machine::new().frames();
    frames.remove(first_memory_frame(&frames));
    assert_exit(&place.receive(&framed(&frames)), 3);
    place.vmcore()
}

/// Receives a whole dump and changes its bytes.
fn changed(place: &Place, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let path = place.whole();
    let mut bytes = fs::read(&path).expect("read");
    change(&mut bytes);
    fs::write(&path, bytes).expect("write");
    path
}

#[test]
fn elf_holds_the_same_memory_and_notes() {
    let place = Place::new();
    let (core, copy) = (place.whole(), place.path("copy"));
    let output = convert(&core, "elf", &copy, &[]);
    assert_exit(&output, 0);
    assert!(
        err(&output).starts_with("afterimage: done "),
        "{}",
        err(&output)
    );
    for n in 0..33 {
        let at = RAM + n * PAGE;
        assert_eq!(
            physical(&copy, at, 4096),
            physical(&core, at, 4096),
            "page {n}"
        );
    }
    let info = |path: &Path| {
        let told = out(&run(&["info", "--json", text(path)]));
        serde_json::from_str::<serde_json::Value>(&told).expect("json")
    };
    assert_eq!(info(&copy), info(&core));
    assert_left(&place, &["copy", "line", "vmcore"]);
}

#[test]
fn flattened_stream_is_the_same_as_the_file() {
    let place = Place::new();
    let (core, file) = (place.whole(), place.path("flat"));
    assert_exit(&convert(&core, "flattened", &file, &[]), 0);
    let stream = convert(&core, "flattened", Path::new("-"), &[]);
    assert_exit(&stream, 0);
    assert!(stream.stdout.starts_with(b"makedumpfile\0"));
    assert!(stream.stdout == fs::read(&file).expect("read"));
}

#[test]
fn makedumpfile_rebuilds_the_kdump_file() {
    let place = Place::new();
    let core = place.whole();
    let [kdump, flat, rebuilt] = ["kdump", "flat", "rebuilt"].map(|name| place.path(name));
    assert_exit(&convert(&core, "kdump", &kdump, &[]), 0);
    assert_exit(&convert(&core, "flattened", &flat, &[]), 0);
    let mut makedumpfile = Command::new("makedumpfile");
    makedumpfile.arg("-R").arg(&rebuilt);
    let status = makedumpfile
        .stdin(File::open(&flat).expect("open"))
        .stdout(Stdio::null())
        .status();
    let Ok(status) = status else {
        eprintln!("not run: makedumpfile is not installed");
        return;
    };
    assert!(status.success());
    assert!(fs::read(&rebuilt).expect("read") == fs::read(&kdump).expect("read"));
}

#[test]
fn incomplete_dump_is_converted_flagged_and_told() {
    let place = Place::new();
    let core = incomplete(&place);
    let (elf, kdump) = (place.path("elf"), place.path("kdump"));
    let output = convert(&core, "elf", &elf, &[]);
    assert_exit(&output, 3);
    assert!(
        err(&output).contains("0x40000000..0x40008000"),
        "{}",
        err(&output)
    );
    assert_eq!((word(&core, E_FLAGS), word(&elf, E_FLAGS)), (0, 1));
    let verified = run(&["verify", text(&elf)]);
    assert_exit(&verified, 3);
    assert!(
        out(&verified).contains("header is flagged"),
        "{}",
        out(&verified)
    );
    assert_exit(&convert(&core, "kdump", &kdump, &[]), 3);
    assert_eq!(word(&kdump, KDUMP_STATUS), 1 | 8);
}

#[test]
fn whole_dump_is_not_flagged() {
    let place = Place::new();
    let (core, kdump) = (place.whole(), place.path("kdump"));
    assert_exit(&convert(&core, "kdump", &kdump, &[]), 0);
    assert_eq!(word(&kdump, KDUMP_STATUS), 1);
}

#[test]
fn cut_off_file_keeps_what_is_there_and_names_what_is_lost() {
    let place = Place::new();
    let core = changed(&place, |bytes| {
        bytes.truncate(bytes.len() - 3 * PAGE as usize)
    });
    let copy = place.path("copy");
    assert_exit(&convert(&core, "elf", &copy, &[]), 3);
    assert_eq!(physical(&copy, RAM + 28 * PAGE, 1), Some(vec![29]));
    assert_eq!(physical(&copy, RAM + 29 * PAGE, 1), None);
    let verified = run(&["verify", "--json", text(&copy)]);
    let json: serde_json::Value = serde_json::from_str(&out(&verified)).expect("json");
    assert_eq!(json["lost"][0]["start"], RAM + 29 * PAGE);
    assert_eq!(json["lost"][0]["end"], RAM + 32 * PAGE);
}

#[test]
fn level_that_a_file_does_not_tell_is_refused_in_words() {
    let place = Place::new();
    let core = place.whole();
    let output = convert(&core, "kdump", &place.path("kdump"), &["-d", "31"]);
    assert_exit(&output, 0);
    assert!(
        err(&output).contains("-d 31: bits 2, 4, 8 cannot be applied"),
        "{}",
        err(&output)
    );
    // dump_level of the sub header: zero pages, and the free page that was left out.
    assert_eq!(word(&place.path("kdump"), 4096 + 8), 17);
    let output = convert(&core, "elf", &place.path("elf"), &["-d", "1"]);
    assert_exit(&output, 0);
    assert!(
        err(&output).contains("what bit 16 left out"),
        "{}",
        err(&output)
    );
}

#[test]
fn usage_errors_exit_2() {
    let place = Place::new();
    let core = place.whole();
    assert_exit(&convert(&core, "elf", &place.path("x"), &["-d", "32"]), 2);
    assert_exit(&convert(&core, "qcow", &place.path("x"), &[]), 2);
    for to in ["elf", "kdump"] {
        let output = convert(&core, to, Path::new("-"), &[]);
        assert_exit(&output, 2);
        assert!(
            err(&output).contains("only --to flattened"),
            "{}",
            err(&output)
        );
    }
    assert_left(&place, &["line", "vmcore"]);
}

/// Converts `core` to each format and asserts that it fails with `expected` in its message, and leaves nothing.
#[track_caller]
fn assert_refused(place: &Place, core: &Path, expected: &str) {
    for to in ["elf", "kdump", "flattened"] {
        let output = convert(core, to, &place.path("x"), &[]);
        assert_exit(&output, 1);
        assert!(err(&output).contains(expected), "{to}: {}", err(&output));
        assert!(err(&output).contains(text(core)), "{to}: {}", err(&output));
    }
    assert_left(place, &["line", "vmcore"]);
}

#[test]
fn what_is_no_arm64_core_is_refused_by_name_and_place() {
    for (at, value, expected) in [
        (0, 0, "no ELF magic at offset 0x0"),
        (4, 1, "not 64-bit: EI_CLASS is 1 at offset 0x4"),
        (18, 62, "not AArch64: e_machine is 62"),
    ] {
        let place = Place::new();
        let core = changed(&place, |bytes| bytes[at] = value);
        assert_refused(&place, &core, expected);
    }
}

#[test]
fn cut_off_header_is_refused() {
    let place = Place::new();
    let core = changed(&place, |bytes| bytes.truncate(100));
    assert_refused(&place, &core, "passes the end of the file");
}

#[test]
fn memory_beyond_52_bits_is_refused() {
    let place = Place::new();
    let core = changed(&place, |bytes| bytes[FIRST_LOAD + 24 + 7] = 0x10);
    assert_refused(&place, &core, "beyond physical addresses of 52 bits");
}

#[test]
fn page_size_that_arm64_does_not_have_is_refused() {
    for size in ["5000", "0", "18446744073709551616", "-1", "2097152"] {
        let place = Place::new();
        let mut machine = Machine::new();
        let mut notes = NoteBytes::default();
        let info = format!("OSRELEASE=6.1\nPAGESIZE={size}\n");
        notes.add(b"VMCOREINFO", 0, info.as_bytes());
        machine.notes.push(notes.as_bytes().to_vec());
        assert_exit(&place.receive(&machine.line()), 0);
        assert_refused(&place, &place.vmcore(), "no page size of arm64");
    }
}

#[test]
fn overlapping_segments_give_each_page_once() {
    let place = Place::new();
    // The kernel's text becomes all of RAM but its first page.
    let core = changed(&place, |bytes| {
        let linear: Vec<u8> = bytes[FIRST_LOAD..FIRST_LOAD + 56].to_vec();
        let put = |bytes: &mut Vec<u8>, at: usize, by: u64| {
            let old = u64::from_le_bytes(linear[at..at + 8].try_into().expect("8"));
            let at = FIRST_LOAD + at;
            bytes[at..at + 8].copy_from_slice(&old.wrapping_add(by).to_le_bytes());
        };
        for at in [8, 16, 24] {
            put(bytes, at, PAGE);
        }
    });
    let (kdump, elf) = (place.path("kdump"), place.path("elf"));
    assert_exit(&convert(&core, "kdump", &kdump, &[]), 0);
    assert_exit(&convert(&core, "elf", &elf, &[]), 0);
    // Five pages of 32 are missing at most, and one bit stands for each of the others.
    let bitmaps = fs::read(&kdump).expect("read");
    let [sub, blocks] = [432, 436].map(|at| word(&kdump, at) as usize);
    let start = 4096 * (1 + sub + blocks / 2);
    let ones: u32 = bitmaps[start..start + 2048 * blocks]
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert_eq!(ones, 29);
    assert_eq!(
        physical(&elf, RAM + 3 * PAGE, 4096),
        physical(&core, RAM + 3 * PAGE, 4096)
    );
}

#[test]
fn existing_output_is_kept_without_force() {
    let place = Place::new();
    let (core, taken) = (place.whole(), place.path("taken"));
    for to in ["elf", "kdump", "flattened"] {
        fs::write(&taken, "precious").expect("write");
        let output = convert(&core, to, &taken, &[]);
        assert_exit(&output, 1);
        assert!(
            err(&output).contains("taken exists; use --force"),
            "{}",
            err(&output)
        );
        assert_eq!(fs::read(&taken).expect("read"), b"precious");
        assert_exit(&convert(&core, to, &taken, &["--force"]), 0);
        assert!(fs::metadata(&taken).expect("file").len() > 1000);
    }
}

#[test]
fn dump_can_replace_itself_by_force() {
    let place = Place::new();
    let core = place.whole();
    assert_exit(&convert(&core, "elf", &core, &["--force"]), 0);
    assert_exit(&run(&["verify", text(&core)]), 0);
}

#[test]
fn output_that_is_no_file_is_never_replaced() {
    let place = Place::new();
    let core = place.whole();
    fs::create_dir(place.path("dir")).expect("directory");
    for output in [place.path("dir"), PathBuf::from("/dev/full")] {
        for more in [&[][..], &["--force"]] {
            let refused = convert(&core, "kdump", &output, more);
            assert_exit(&refused, 1);
            assert!(
                err(&refused).contains("is no regular file"),
                "{}",
                err(&refused)
            );
        }
    }
    assert_left(&place, &["dir", "line", "vmcore"]);
}

#[test]
fn unwritable_output_is_a_clear_error() {
    let place = Place::new();
    let output = convert(&place.whole(), "kdump", Path::new("/proc/nowhere/x"), &[]);
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("cannot create /proc/nowhere/x"),
        "{}",
        err(&output)
    );
}

#[test]
fn full_standard_output_is_an_error() {
    let place = Place::new();
    let core = place.whole();
    let full = File::options().write(true).open("/dev/full").expect("open");
    let output = Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["convert", text(&core), "--to", "flattened", "-o", "-"])
        .stdout(full)
        .output()
        .expect("starts");
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("cannot write standard output: No space left"),
        "{}",
        err(&output)
    );
}

#[test]
fn reader_that_goes_away_is_an_error() {
    let place = Place::new();
    let core = place.whole();
    let mut child = Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["convert", text(&core), "--to", "flattened", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("cannot write standard output"),
        "{}",
        err(&output)
    );
}

#[test]
fn interrupted_conversion_leaves_nothing() {
    let place = Place::new();
    // A tebibyte of zeros takes far longer than the signal.
    let core = changed(&place, |bytes| {
        let len = (1_u64 << 40).to_le_bytes();
        bytes[FIRST_LOAD + 40..FIRST_LOAD + 48].copy_from_slice(&len);
    });
    for to in ["kdump", "flattened"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_afterimage"))
            .args([
                "convert",
                text(&core),
                "--to",
                to,
                "-o",
                text(&place.path("x")),
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let has_part = || fs::read_dir(place.0.path()).expect("directory").count() > 2;
        while !has_part() {
            assert!(
                child.try_wait().expect("state").is_none(),
                "it ended by itself"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert_eq!(child.wait().expect("ends").code(), Some(130));
        assert_left(&place, &["line", "vmcore"]);
    }
}
