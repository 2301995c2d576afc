// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single bits that flip, in everything that the way from a crash to its dump relies on.
//!
//! The bit is flipped in the file that is the machine's RAM: either while the kernel runs, or after the last check, at the
//! capture kernel's first instruction. Every run ends within its time in a dump or in a stated reason, and a capture kernel
//! that is not what was armed is never entered.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::sync::Mutex;

use blackbox::seed::Seed;
use blackbox::{Entry, Machine, Running, host, matrix, oracle, partial};

/// What the capture kernel says first.
const ENTERED: &str = "this is the capture kernel";
/// Type of the note that tells what lies where (docs/architecture.md), and bytes before its entries.
const NOTE_REGIONS: u32 = 0x4146_0008;
const LIST_HEAD: usize = 24;
const REGION_LEN: usize = 48;
const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";

/// Where things of each kind lie in a kernel, and in each machine's.
type Places = HashMap<u32, Vec<Range<u64>>>;
type Known = Mutex<HashMap<String, Places>>;

/// What a bit is flipped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Area {
    Image,
    CoreHeader,
    DeviceTree,
    Notes,
    LogRing,
    PageStates,
    PageTables,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before the crash: the digest tells.
    Armed,
    /// At the capture kernel's first instruction.
    Entered,
}

/// Where and when bits are flipped, and what has to come of it.
const PLACES: [(Area, When, Expected); 9] = [
    (Area::Image, When::Armed, Expected::NotEntered),
    (Area::CoreHeader, When::Armed, Expected::NotEntered),
    (Area::DeviceTree, When::Armed, Expected::NotEntered),
    (Area::CoreHeader, When::Entered, Expected::Bounded),
    (Area::DeviceTree, When::Entered, Expected::Bounded),
    (Area::Notes, When::Entered, Expected::Dump),
    (Area::LogRing, When::Entered, Expected::Dump),
    (Area::PageStates, When::Entered, Expected::Dump),
    (Area::PageTables, When::Entered, Expected::Dump),
];

/// The class of a run, said beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The capture kernel is not entered, and that is said.
    NotEntered,
    /// A dump, whole or with a named gap.
    Dump,
    /// A dump, or the reason why there is none.
    Bounded,
}

/// One run.
struct Flip {
    seed: Seed,
    area: Area,
    when: When,
    expected: Expected,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, {:?}, {:?}", self.seed.0, self.area, self.when)
    }
}

impl Flip {
    fn new(seed: Seed) -> Self {
        let (area, when, expected) = PLACES[seed.0 as usize % PLACES.len()];
        Self {
            seed,
            area,
            when,
            expected,
        }
    }

    fn machine(&self) -> Machine {
        let machine = Machine::new()
            .cpus(1 + (self.seed.0 / 9 % 2) as usize)
            .append("dump_then=halt dump_rounds=1");
        if (self.seed.0 / 18).is_multiple_of(2) {
            machine
        } else {
            machine.entry(Entry::El2).gic(3)
        }
    }

    /// Flips a bit in one of `places`; returns what.
    fn apply(&self, running: &Running, places: &[Range<u64>]) -> String {
        let total = places.iter().map(|place| place.end - place.start).sum();
        assert!(total > 0, "{self}: there is nothing to flip");
        let mut offset = self.seed.number(1, total);
        let mut at = 0;
        for place in places {
            let len = place.end - place.start;
            if offset < len {
                at = place.start + offset;
                break;
            }
            offset -= len;
        }
        let bit = self.seed.number(2, 8);
        let byte = running.memory.read(at, 1)[0];
        running.memory.write(at, &[byte ^ 1 << bit]);
        format!("bit {bit} at {at:#x}")
    }
}

/// Where the loader put things in the region, found by their magic numbers.
fn in_region(running: &Running, area: Area) -> Vec<Range<u64>> {
    let region = oracle::region(&running.console.text());
    let bytes = running
        .memory
        .read(region.start, (region.end - region.start) as usize);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    // arm64 booting.rst: image_size at 16.
    let behind_image = word(16) as usize;
    let find = |magic: &[u8]| {
        (behind_image..bytes.len() - 4096)
            .step_by(8)
            .find(|at| bytes[*at..].starts_with(magic))
            .unwrap_or_else(|| panic!("nothing begins with {magic:x?} in the region"))
    };
    let file_len = fs::metadata(blackbox::artefacts::image("capture.Image"))
        .expect("capture.Image")
        .len();
    let header = find(b"\x7fELF");
    let count = usize::from(u16::from_le_bytes([bytes[header + 56], bytes[header + 57]]));
    let range =
        |start: usize, len: u64| region.start + start as u64..region.start + start as u64 + len;
    match area {
        Area::Image => vec![range(0, file_len)],
        Area::CoreHeader => vec![range(header, 64 + 56 * count as u64)],
        Area::DeviceTree => {
            let tree = find(b"\xd0\x0d\xfe\xed");
            let len = u32::from_be_bytes(bytes[tree + 4..tree + 8].try_into().expect("four bytes"));
            vec![range(tree, u64::from(len))]
        }
        // p_paddr and p_filesz of each PT_NOTE.
        Area::Notes => (0..count)
            .map(|number| header + 64 + 56 * number)
            .filter(|at| bytes[*at] == 4)
            .map(|at| word(at + 24)..word(at + 24) + word(at + 32))
            .collect(),
        Area::LogRing | Area::PageStates | Area::PageTables => Vec::new(),
    }
}

/// Where a kernel of this kind keeps things, by the note in a dump of it.
fn in_kernel(flip: &Flip, known: &Known) -> Vec<Range<u64>> {
    let kind = match flip.area {
        Area::LogRing => 1,
        Area::PageStates => 2,
        _ => 4,
    };
    let name = format!("{:?}", flip.machine());
    let mut known = known.lock().expect("the places");
    let places = known.entry(name).or_insert_with(|| {
        let crashed = oracle::crash(flip.machine().append("lkdtm=PANIC@150"));
        let mut found = Places::new();
        let notes = crashed.dump.notes.iter();
        for note in notes.filter(|note| note.name == "AFTERIMAGE" && note.kind == NOTE_REGIONS) {
            for entry in note
                .desc
                .get(LIST_HEAD..)
                .unwrap_or(&[])
                .chunks_exact(REGION_LEN)
            {
                let word = |at: usize| {
                    u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"))
                };
                let kind = u32::from_le_bytes(entry[..4].try_into().expect("four bytes"));
                found
                    .entry(kind)
                    .or_default()
                    .push(word(8)..word(8) + word(16));
            }
        }
        found
    });
    places.get(&kind).cloned().unwrap_or_default()
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Whole,
    /// Something is missing, and the dump says what.
    Partial,
    /// No dump, but the reason why.
    Stated,
}

fn run(flip: &Flip, known: &Known) {
    let kernel_places = match flip.area {
        Area::LogRing | Area::PageStates | Area::PageTables => in_kernel(flip, known),
        _ => Vec::new(),
    };
    let machine = match flip.when {
        When::Armed => flip.machine(),
        When::Entered => flip.machine().with_gdb(),
    };
    let mut running = machine.start();
    if let Some(gdb) = &mut running.gdb {
        gdb.go_on();
    }
    running.console.wait_for("idle, with");
    let places = if kernel_places.is_empty() {
        in_region(&running, flip.area)
    } else {
        kernel_places
    };
    let flipped = match flip.when {
        When::Armed => {
            let flipped = flip.apply(&running, &places);
            running.console.send(SYSRQ_CRASH);
            flipped
        }
        When::Entered => {
            let entry = oracle::region(&running.console.text()).start;
            let mut gdb = running.gdb.take().expect("a gdbstub");
            // Only a stopped machine takes a breakpoint.
            gdb.interrupt();
            gdb.hardware_breakpoint(entry, true);
            gdb.go_on();
            running.console.send(SYSRQ_CRASH);
            gdb.wait_for_stop();
            gdb.hardware_breakpoint(entry, false);
            let flipped = flip.apply(&running, &places);
            gdb.go_on();
            running.gdb = Some(gdb);
            flipped
        }
    };
    let has_ended = partial::has_ended(&running);
    let transcript = running.console.transcript();
    assert!(
        has_ended,
        "{flip}, {flipped}: it does not end:\n{transcript}"
    );
    let class = judge(flip, &running, &flipped);
    println!("| {flip} | {flipped} | {:?} | {class:?} |", flip.expected);
    let text = running.console.text();
    match flip.expected {
        Expected::NotEntered => {
            assert!(
                !text.contains(ENTERED),
                "{flip}, {flipped}: entered:\n{transcript}"
            );
            assert!(
                text.contains("is corrupted"),
                "{flip}, {flipped}: not said:\n{transcript}"
            );
        }
        Expected::Dump => assert_ne!(class, Class::Stated, "{flip}, {flipped}:\n{transcript}"),
        Expected::Bounded => {}
    }
}

/// Receives what came and checks what has to be in it.
fn judge(flip: &Flip, running: &Running, flipped: &str) -> Class {
    let vmcore = running.dir().join("vmcore");
    let (code, said) = partial::receive_any(running);
    let transcript = running.console.transcript();
    let class = match code {
        Some(0) => Class::Whole,
        Some(3) => Class::Partial,
        _ => {
            if std::env::var_os("AFTERIMAGE_SEED").is_some() {
                println!("{said}\n{transcript}");
            }
            // No dump: the console tells what happened, where and why there is none.
            for said in ["has crashed", "pc 0x"] {
                assert!(
                    transcript.contains(said),
                    "{flip}, {flipped}: {said:?} is not said:\n{transcript}"
                );
            }
            return Class::Stated;
        }
    };
    // What the bit hit may be gone: a note, and the log that only a note tells the place of.
    let is_notes = matches!(flip.area, Area::Notes | Area::CoreHeader);
    let log = host::try_dmesg(&vmcore);
    let has_log = log.status.success() || flip.area == Area::LogRing || is_notes;
    let info = host::info(&vmcore);
    let has_reason = info["reason"]["kind"] == "sysrq" || is_notes;
    assert!(
        has_log && has_reason,
        "{flip}, {flipped}: log {}, reason {}\n{said}{transcript}",
        log.stderr,
        info["reason"]
    );
    class
}

#[test]
fn flipped_bit_never_hangs_the_crash_path_nor_enters_a_corrupted_image() {
    let seeds = Seed::all(PLACES.len() as u64, 200);
    let flips: Vec<Flip> = seeds.into_iter().map(Flip::new).collect();
    println!("| run | flipped | expected | found |\n|---|---|---|---|");
    let known = Mutex::default();
    matrix::for_each(&flips, |flip| run(flip, &known));
}
