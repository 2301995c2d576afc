// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix's other half: faults injected into the way from a crash to its dump, on machines that a seed draws.
//!
//! What has to come of each fault is said beforehand: a whole dump and who makes it, or a partial one and what it lacks. None is ever
//! lost. Seed `n` is fault `n % FAULTS.len()`; one seed of each runs always, twenty under `AFTERIMAGE_SOAK=1`, and
//! `AFTERIMAGE_SEED=n` repeats one.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use blackbox::injected::Crash::Damaged;
use blackbox::injected::Expected::{Partial, Whole};
use blackbox::injected::Missing::{
    self, Block, ControllerNotes, CrashedRegisters, Everything, MachineNotes, MostMemory,
    PagesOfEach, PagesRead, StoppedRegisters,
};
use blackbox::injected::{Choice, FAULTS, Row};
use blackbox::oracle::{self, Crashed};
use blackbox::seed::Seed;
use blackbox::{Running, artefacts, host, matrix, partial};
use serde_json::{Value, json};

/// Seeds of each fault, all in all.
const SEEDS: u64 = 20;
const KIB: u64 = 1 << 10;

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Whole,
    Partial,
    Lost,
}

/// What the line tells first of the crash: kind, CPU and pc. Where the message of a panic faults, it is the capture kernel that tells.
fn printed(running: &Running) -> (String, u32, u64) {
    let text = running.console.text();
    let (_, report) = text
        .split_once("this machine has crashed")
        .or_else(|| text.split_once("\ncrash: "))
        .unwrap_or_else(|| panic!("no crash in {}", running.console.transcript()));
    let (kind, rest) = report.split_once(" on CPU ").expect("the CPU");
    let (cpu, rest) = rest.split_once(':').expect("a text");
    let (_, rest) = rest.split_once("pc 0x").expect("the pc");
    let pc = u64::from_str_radix(rest.split(' ').next().unwrap_or_default(), 16);
    let kind = kind.trim().to_owned();
    (
        kind,
        cpu.parse().expect("a number"),
        pc.expect("an address"),
    )
}

/// What the host says of a dump that lacks this.
fn name_of(missing: Missing, said: &str) -> bool {
    let words: &[&str] = match missing {
        MostMemory => &["this is the minimal dump"],
        Block => &["was skipped", "failed at block"],
        PagesRead | PagesOfEach => &["was skipped", "reading memory"],
        CrashedRegisters | MachineNotes | ControllerNotes | StoppedRegisters => {
            &["is missing in part"]
        }
        Everything => &["gave up before the end"],
    };
    words.iter().all(|word| said.contains(word))
}

/// Judges a dump that has no gap but the expected one.
fn judge(row: &Row, crashed: &Crashed, said: &str) -> String {
    let info = host::info(&crashed.dump.path);
    let missing = match row.fault.expected {
        Whole(level) => {
            assert_eq!(info["fallback"]["level"], json!(level));
            oracle::assert_equals_memory(crashed, &crashed.running.memory.pages());
            oracle::assert_only_free_pages_are_missing(crashed);
            None
        }
        Partial(missing) => Some(missing),
    };
    let (verdict, status) = host::verify(&crashed.dump.path);
    let lacks_registers = matches!(missing, Some(CrashedRegisters | Everything));
    let lacks_reason = matches!(missing, Some(MachineNotes | Everything));
    let lacks_log = lacks_reason || missing == Some(PagesOfEach);
    let (kind, cpu, pc) = printed(&crashed.running);
    assert_eq!(kind, row.reason, "the reason on the console");
    if !lacks_reason {
        let reason = &info["reason"];
        assert_eq!(reason["kind"], json!(row.reason));
        assert_eq!((&reason["cpu"], &reason["pc"]), (&json!(cpu), &json!(pc)));
    }
    let registers = crashed.dump.registers();
    let found = registers.iter().filter(|found| found.pid <= 1000).count();
    match missing {
        Some(Everything) => {}
        Some(CrashedRegisters | StoppedRegisters) => assert_eq!(found, row.cpus_up() - 1),
        _ => assert_eq!(found, row.cpus_up(), "CPUs with registers"),
    }
    if !lacks_registers {
        assert_eq!(crashed.dump.registers_of(cpu).pc, pc, "of the crashed CPU");
    }
    if !lacks_log {
        let log = host::try_dmesg(&crashed.dump.path);
        let is_there = log.stdout.contains("RAM 0x40000000");
        assert!(
            is_there || is_log_hit(crashed, missing, &log.stderr),
            "the log: {log:?}"
        );
    }
    let Some(missing) = missing else {
        assert_eq!(status, Some(0), "{verdict}");
        return format!("by {}", info["fallback"]["level"]);
    };
    assert_eq!(status, Some(3), "{verdict}");
    let named = verdict["missing"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(!named.is_empty(), "{verdict}");
    assert!(name_of(missing, said), "{missing:?} is not named: {said}");
    lacks_only(row, crashed, missing);
    let named: Vec<&str> = named.iter().filter_map(Value::as_str).collect();
    format!("lacks {}", named.join("; "))
}

/// Whether the fault hit exactly the log: it lies in memory that is skipped, as `said` says.
fn is_log_hit(crashed: &Crashed, missing: Option<Missing>, said: &str) -> bool {
    let is_of_memory = matches!(missing, Some(Block | PagesRead));
    let address = said.split_once("no readable log ring at 0x");
    let address = address.and_then(|(_, digits)| u64::from_str_radix(digits.trim(), 16).ok());
    let gaps = crashed.dump.gaps();
    let mut skipped = gaps.iter().filter(|gap| gap.class == partial::SKIPPED);
    is_of_memory && address.is_some_and(|at| skipped.any(|gap| gap.range.contains(&at)))
}

/// Asserts that nothing else is missing, and that what is there equals memory.
fn lacks_only(row: &Row, crashed: &Crashed, missing: Missing) {
    let block = if row.region == "2M" {
        256 * KIB
    } else {
        2048 * KIB
    };
    let skipped = match missing {
        MostMemory => {
            let (cpus, reason) = (row.cpus_up(), row.reason);
            return partial::assert_minimal(crashed, cpus, reason, "RAM 0x40000000");
        }
        Everything => {
            let memory = crashed.running.memory.pages();
            return oracle::assert_equals_memory(crashed, &memory);
        }
        _ => partial::assert_honest(crashed),
    };
    let expected = match missing {
        Block => 4 * KIB..=block,
        PagesRead => 4 * KIB..=128 * KIB,
        PagesOfEach => 4 * KIB..=8 * 128 * KIB,
        _ => 0..=0,
    };
    assert!(expected.contains(&skipped), "{skipped} bytes are skipped");
}

/// Boots the machine and makes the fault; the crash comes by itself.
fn start(row: &Row) -> Running {
    let Damaged(copies) = row.fault.crash else {
        return row.machine().start();
    };
    let len = fs::metadata(artefacts::image("capture.Image"))
        .expect("capture.Image")
        .len();
    let bit = 1 << row.seed.number(Choice::Bit as u64, 8);
    partial::damage(row.machine(), bit, |running| {
        thread::sleep(Duration::from_millis(
            row.seed.number(Choice::Delay as u64, 200),
        ));
        let of_copy = |copy: &usize| {
            let start = if *copy == 0 {
                0
            } else {
                partial::second_copy(running)
            };
            start
                + row
                    .seed
                    .number(Choice::Byte as u64 + 100 * *copy as u64, len)
        };
        copies.iter().map(of_copy).collect()
    })
}

/// Runs a row, and writes into `table` what came of it before it is judged.
fn check(row: &Row, table: &Mutex<Vec<Class>>) {
    let running = start(row);
    let has_ended = partial::has_ended(&running);
    let (code, said) = partial::receive_any(&running);
    let class = match code {
        Some(0) if has_ended => Class::Whole,
        Some(3) if has_ended => Class::Partial,
        _ => Class::Lost,
    };
    table.lock().expect("the table").push(class);
    let expected = match row.fault.expected {
        Whole(_) => Class::Whole,
        Partial(_) => Class::Partial,
    };
    let found = if class == expected {
        judge(row, &oracle::judge(running), &said)
    } else {
        let transcript = running.console.transcript();
        panic!("{class:?}, not {expected:?}: {said}\n{transcript}");
    };
    println!("| {row} | {:?} | {class:?}: {found} |", row.fault.expected);
}

#[test]
fn every_injected_fault_ends_in_the_class_that_was_said_beforehand() {
    let faults = FAULTS.len() as u64;
    let seeds = Seed::all(faults, SEEDS * faults);
    let rows: Vec<Row> = seeds.into_iter().map(Row::new).collect();
    println!("| fault | seed and machine | expected | found |\n|---|---|---|---|");
    let table = Mutex::default();
    let failed = matrix::failures(&rows, |row| check(row, &table));
    let table = table.into_inner().expect("the table");
    let count = |class: Class| table.iter().filter(|found| **found == class).count();
    println!(
        "{} rows: {} whole, {} partial, {} lost",
        rows.len(),
        count(Class::Whole),
        count(Class::Partial),
        count(Class::Lost)
    );
    assert!(
        failed.is_empty(),
        "{} of {} rows failed:\n{}",
        failed.len(),
        rows.len(),
        failed.join("\n")
    );
    assert_eq!(table.len(), rows.len(), "rows that were judged");
}
