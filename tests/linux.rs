// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux crashes, and our capture kernel dumps it from a region of 2 MiB.
//!
//! Debian's own kernel and `kexec -p`, nothing of either changed. What the dump has to be like is read from the guest:
//! its memory, and in it the ELF core header and the notes that Linux made.
#![cfg(test)]

#[path = "bench/linux_guest.rs"]
mod linux_guest;
mod linux_machines;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::backtrace::assert_readelf_accepts;
use blackbox::converted::{Reader, assert_readers_agree};
use blackbox::dump::{Load, Note, merged};
use blackbox::memory::{PAGE, Pages};
use blackbox::process::run;
use blackbox::{artefacts, host, matrix};
use linux_guest::{LinuxGuest, Setup};
use linux_machines::{MAX, OLD_SUITE, ROWS, Row, SOAK_ROWS};
use object::LittleEndian;
use object::elf::{ET_CORE, FileHeader64, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

/// Longest run of a reader.
const READER_LIMIT: Duration = Duration::from_secs(60);
/// How much longer a guest may run for each GiB: its page array is dumped, and every page looked at.
const GIB_SECONDS: u64 = 30;
/// RAM that the readers of kdump-compressed files go through.
const READERS_MIB: u64 = 512;
/// Bytes of `crashkernel=2M`.
const REGION_LEN: u64 = 2 << 20;
/// Notes that the host adds to a dump.
const OUR_NAME: &str = "AFTERIMAGE";

#[test]
fn linux_crash_is_dumped_whole_from_2_mib() {
    if let Some(why) = linux_guest::missing() {
        panic!("{why}");
    }
    let rows: Vec<Row> = ROWS
        .into_iter()
        .chain(SOAK_ROWS.into_iter().filter(|_| matrix::is_soak()))
        .collect();
    matrix::for_each(&rows, check);
}

fn check(row: &Row) {
    let setup = Setup {
        suite: Some(row.suite),
        memory_mib: row.memory_mib,
        limit: linux_guest::limit() + Duration::from_secs(row.memory_mib * GIB_SECONDS / 1024),
        ..Setup::default()
    };
    let qemu = ["-M", row.machine, "-cpu", row.cpu, "-smp", row.cpus];
    let mut guest = LinuxGuest::start(&setup, &qemu);
    guest.wait_for_first_frame();
    let before = guest.pages();
    let times = guest.wait_for_end();
    let after = guest.pages();
    println!("{row}: {times:?}, {} bytes", guest.bytes().len());

    let linux = CrashedLinux::find(&before);
    assert_same(
        "RAM at the first frame",
        &outside(before, &linux.region),
        "after the last",
        &outside(after.clone(), &linux.region),
    );

    let dump = host::receive_whole(guest.bytes(), guest.dir(), &guest.transcript());
    let theirs: Vec<Note> = dump
        .notes
        .iter()
        .filter(|note| note.name != OUR_NAME)
        .cloned()
        .collect();
    assert_eq!(
        described(&theirs),
        described(&linux.notes),
        "notes, and Linux's own"
    );
    assert!(
        theirs.iter().any(|note| note.name == "VMCOREINFO"),
        "{:?}",
        described(&theirs)
    );
    assert_eq!(
        mappings(&dump.loads),
        mappings(&linux.loads),
        "segments, and those of Linux's ELF core header"
    );
    let ram = merged(
        linux
            .loads
            .iter()
            .map(|load| load.paddr..load.paddr + load.len)
            .collect(),
    );
    assert_eq!(dump.covered(), ram, "nothing of RAM is missing");
    let lacking =
        (row.memory_mib << 20) - ram.iter().map(|range| range.end - range.start).sum::<u64>();
    assert_eq!(
        lacking, REGION_LEN,
        "RAM that is not in the dump is the crash region"
    );
    assert_same(
        "RAM",
        &outside(after, &linux.region),
        "the dump",
        &dump.pages(),
    );

    assert_readelf_accepts(&dump.path);
    let log = judged_log(&dump.path, guest.bytes(), row);
    assert!(log.contains("Linux version"), "{log}");
    assert!(log.contains("sysrq: Trigger a crash"), "{log}");
    let last = log.lines().next_back().unwrap_or("");
    assert!(
        last.contains("Bye!"),
        "the last thing Linux says before the jump is not the end of its log: {last:?}"
    );
    let readers: &[Reader] = if row.memory_mib > READERS_MIB {
        println!(
            "{row}: libkdumpfile and drgn go page by page through Python, so not through this much"
        );
        &[]
    } else {
        &[Reader::Libkdumpfile, Reader::Drgn]
    };
    let kdump = assert_readers_agree(&dump, 0, readers);
    let names = fs::read(kdump)
        .expect("kdump")
        .get(12..402)
        .map(<[u8]>::to_vec);
    let names = String::from_utf8_lossy(&names.expect("utsname")).into_owned();
    assert!(
        names.contains("Linux") && names.contains(" SMP ") && names.contains("aarch64"),
        "names are Linux's own: {names:?}"
    );
    assert_backtrace_agrees(&host::linux_bt(&dump.path), &log, row);
    assert_info_agrees(&host::info(&dump.path), &dump.notes, row);
}

/// The log by our `dmesg`, which has to be that of `vmcore-dmesg`; kexec-tools finds no `_text` in 6.1 and writes segments that it cannot read
/// itself, so there it has to hold each line that was on the console.
fn judged_log(vmcore: &Path, line: &[u8], row: &Row) -> String {
    let ours = host::dmesg(vmcore);
    let theirs = run(Command::new("vmcore-dmesg").arg(vmcore), READER_LIMIT);
    if row.suite != OLD_SUITE {
        assert_eq!(ours, theirs.success(), "our dmesg, and vmcore-dmesg");
        return ours;
    }
    assert!(!theirs.status.success(), "{}", theirs.stdout);
    let console = line.split(|byte| *byte == 0).next().unwrap_or(line);
    let console = String::from_utf8_lossy(console).into_owned();
    let known: BTreeSet<&str> = ours.lines().map(str::trim_end).collect();
    let printed: Vec<&str> = console
        .lines()
        .map(str::trim_end)
        .filter(|line| line.starts_with("[ ") && line.contains("] "))
        .collect();
    assert!(printed.len() > 100, "{console}");
    let absent: Vec<&&str> = printed.iter().filter(|it| !known.contains(**it)).collect();
    assert_eq!(absent, Vec::<&&str>::new(), "on the console only:\n{ours}");
    ours
}

/// Compares our backtrace with the one that Linux printed of itself, symbol, offset and size; ours begins deeper, since Linux walked
/// its stack before it saved the registers.
fn assert_backtrace_agrees(ours: &str, log: &str, row: &Row) {
    let message = |line: &str| line.split_once("] ").map(|(_, text)| text.to_owned());
    let theirs: Vec<String> = log
        .lines()
        .filter_map(message)
        .skip_while(|text| text != "Call trace:")
        .skip(1)
        .take_while(|text| text.starts_with(' '))
        .map(|text| text.trim().to_owned())
        .collect();
    let is_panic = |name: &String| name.starts_with("panic+");
    let since_panic = theirs
        .iter()
        .position(is_panic)
        .expect("panic() in the log")
        + 1;
    let expected = &theirs[since_panic..];
    for name in ["sysrq_handle_crash", "write_sysrq_trigger", "el0t_64_sync"] {
        let is_there = ours.contains(&format!(" in {name}+"));
        assert!(is_there, "{name} is not in the backtrace: {ours}");
    }
    let frames = |text: &str| -> Vec<String> {
        let name = |line: &str| line.rsplit_once(" in ").map(|(_, name)| name.to_owned());
        text.lines().filter_map(name).collect()
    };
    let cpus: Vec<&str> = ours.split("CPU ").skip(1).collect();
    assert_eq!(cpus.len().to_string(), row.cpus, "{ours}");
    assert!(!ours.contains("stopped"), "{ours}");
    assert!(!ours.contains("??"), "{ours}");
    let crashed: Vec<Vec<String>> = cpus
        .iter()
        .map(|cpu| frames(cpu))
        .filter(|frames| frames.iter().any(is_panic))
        .collect();
    assert_eq!(crashed.len(), 1, "CPUs in panic():\n{ours}");
    let since_panic = crashed[0].iter().position(is_panic).expect("found") + 1;
    let found = &crashed[0][since_panic..];
    assert_eq!(found.len(), expected.len(), "{ours}\n{log}");
    for (ours, theirs) in found.iter().zip(expected) {
        // Of a call that does not return 6.1 names the function behind it.
        let is_behind = row.suite == OLD_SUITE && theirs.contains("+0x0/");
        assert!(ours == theirs || is_behind, "{ours}, {theirs}\n{log}");
    }
}

/// Compares what `info` says with the notes, and with the machine.
fn assert_info_agrees(info: &serde_json::Value, notes: &[Note], row: &Row) {
    let note = notes.iter().find(|note| note.name == "VMCOREINFO");
    let note = String::from_utf8_lossy(&note.expect("VMCOREINFO").desc).into_owned();
    let value = |key: &str| {
        let value = note.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_else(|| panic!("no {key} in {note}"))
    };
    let linux = &info["linux"];
    let folder = match row.suite {
        OLD_SUITE => "target/linux/bookworm",
        _ => "target/linux",
    };
    let version = fs::read_to_string(artefacts::root().join(folder).join("version"));
    assert_eq!(linux["release"], version.expect("a version").trim());
    assert_eq!(linux["release"], value("OSRELEASE="));
    assert_eq!(linux["build_id"], value("BUILD-ID="));
    assert_eq!(linux["crash_time"].to_string(), value("CRASHTIME="));
    assert_eq!(linux["page_bytes"].to_string(), value("PAGESIZE="));
    let offset = u64::from_str_radix(value("KERNELOFFSET="), 16).expect("an offset");
    assert_eq!(linux["kaslr_offset"], offset);
    // max has LPA2, with which Debian's kernel takes 52 bits; cortex-a72 and a53 have not.
    let va_bits = if row.cpu == MAX { 52 } else { 48 };
    assert_eq!(linux["va_bits"], va_bits);
    let panic = [
        "sysrq: Trigger a crash",
        "Kernel panic - not syncing: sysrq triggered crash",
    ];
    assert_eq!(linux["panic"], serde_json::json!(panic));
    assert_eq!(linux["unknown"], serde_json::json!([]));
    assert_eq!(info["source"], "linux");
}

/// What the crashed Linux left for its capture kernel.
struct CrashedLinux {
    region: Range<u64>,
    notes: Vec<Note>,
    loads: Vec<Load>,
}

impl CrashedLinux {
    /// Finds the ELF core header that kexec-tools made: the one page of RAM that begins with one.
    fn find(pages: &Pages) -> Self {
        let is_core = |page: &&[u8; PAGE as usize]| {
            page.starts_with(b"\x7fELF\x02\x01")
                && page.get(16..18) == Some(&ET_CORE.0.to_le_bytes())
        };
        let found: Vec<_> = pages
            .iter()
            .filter(|(_, page)| is_core(&&***page))
            .collect();
        let candidates = found
            .into_iter()
            .filter_map(|(at, page)| Self::read(*at, page.as_slice(), pages));
        let mut headers: Vec<Self> = candidates.collect();
        assert_eq!(headers.len(), 1, "ELF core headers in the guest's RAM");
        headers.remove(0)
    }

    /// Reads the header at `at`; `None` when it does not speak of notes and memory of this machine, as a copy of some other may.
    fn read(at: u64, header: &[u8], pages: &Pages) -> Option<Self> {
        let elf = FileHeader64::<LittleEndian>::parse(header).ok()?;
        let endian = elf.endian().ok()?;
        let (mut notes, mut loads) = (Vec::new(), Vec::new());
        for segment in elf.program_headers(endian, header).ok()? {
            let (paddr, len) = (segment.p_paddr(endian), segment.p_memsz(endian));
            match segment.p_type(endian) {
                PT_NOTE => notes.extend(notes_at(pages, segment.p_offset(endian), len)),
                // kexec-tools' segment of the kernel's text is nonsense in 6.1.
                PT_LOAD if paddr.checked_add(len).is_none() => {}
                PT_LOAD => loads.push(Load {
                    vaddr: segment.p_vaddr(endian),
                    paddr,
                    offset: 0,
                    len,
                }),
                _ => return None,
            }
        }
        // The region is aligned to its size, and the header lies in it.
        let start = at / REGION_LEN * REGION_LEN;
        (!loads.is_empty()).then_some(Self {
            region: start..start + REGION_LEN,
            notes,
            loads,
        })
    }
}

/// The notes in `len` bytes at `at`; a name of no length ends them.
fn notes_at(pages: &Pages, at: u64, len: u64) -> Vec<Note> {
    let read = |at: u64, len: usize| -> Vec<u8> {
        let byte = |at: u64| {
            pages
                .get(&(at / PAGE * PAGE))
                .map_or(0, |page| page[(at % PAGE) as usize])
        };
        (at..).take(len).map(byte).collect()
    };
    let mut notes = Vec::new();
    let (mut next, end) = (at, at + len);
    while next + 12 <= end {
        let word = |at: u64| u32::from_le_bytes(read(at, 4).try_into().expect("four bytes"));
        let (name_len, desc_len, kind) = (word(next), word(next + 4), word(next + 8));
        if name_len == 0 {
            break;
        }
        let desc_at = next + 12 + u64::from(name_len).next_multiple_of(4);
        let name = String::from_utf8_lossy(&read(next + 12, name_len as usize))
            .trim_end_matches('\0')
            .to_owned();
        notes.push(Note {
            name,
            kind,
            desc: read(desc_at, desc_len as usize),
        });
        next = desc_at + u64::from(desc_len).next_multiple_of(4);
    }
    notes
}

/// Notes in a form that a failure can show.
fn described(notes: &[Note]) -> Vec<String> {
    let describe =
        |Note { name, kind, desc }: &Note| format!("{name} {kind:#x}: {}", desc.escape_ascii());
    notes.iter().map(describe).collect()
}

/// Virtual address, physical address and length of each segment, in order of address.
fn mappings(loads: &[Load]) -> Vec<String> {
    let mut all: Vec<_> = loads
        .iter()
        .map(|load| (load.vaddr, load.paddr, load.len))
        .collect();
    all.sort_unstable();
    all.iter()
        .map(|(vaddr, paddr, len)| format!("{vaddr:#x} -> {paddr:#x}, {len:#x}"))
        .collect()
}

/// Leaves out the pages of `region`.
fn outside(mut pages: Pages, region: &Range<u64>) -> Pages {
    pages.retain(|at, _| !region.contains(at));
    pages
}

fn assert_same(one: &str, first: &Pages, other: &str, second: &Pages) {
    let all = first
        .keys()
        .chain(second.keys().filter(|at| !first.contains_key(at)));
    let differing: Vec<String> = all
        .filter(|at| first.get(at) != second.get(at))
        .map(|at| format!("{at:#x}"))
        .collect();
    let shown = differing.get(..8).unwrap_or(&differing);
    assert!(
        differing.is_empty(),
        "{} pages differ between {one} and {other}: {shown:?}",
        differing.len()
    );
}

#[test]
fn region_too_small_for_the_image_is_refused_by_kexec() {
    if let Some(why) = linux_guest::missing() {
        panic!("{why}");
    }
    let mut script = Command::new(artefacts::root().join("scripts/linux-guest"));
    let limit = linux_guest::limit();
    script
        .env("AFTERIMAGE_LINUX_APPEND", "crashkernel=1M")
        .arg("--crash")
        .arg(artefacts::image("capture.Image"))
        .args(["--timeout", &limit.as_secs().to_string()]);
    let done = run(&mut script, limit + READER_LIMIT);
    let console = &done.stdout;
    assert!(
        console.contains("crash region of 1048576 bytes"),
        "{}\n{console}",
        done.stderr
    );
    assert!(
        console.contains("Cannot load /guest/capture.Image"),
        "{console}"
    );
    assert!(console.contains("guest: kexec -p FAILED"), "{console}");
    assert!(!console.contains("guest: crashing"), "{console}");
}
