// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix: every crash that can be provoked, on every kind of machine, with the class that is expected of each.
//!
//! A class is said beforehand; a dump that is expected whole equals QEMU's own memory. A sample runs always (each crash on one
//! kind of machine, each kind with several crashes), all of it under `AFTERIMAGE_SOAK=1`.

use std::fmt;
use std::sync::Mutex;

use blackbox::faults::{self, Cpus, Expected, FAULTS, NEEDS_ANOTHER_CPU, Secondaries};
use blackbox::{Entry, Machine, matrix, oracle};

/// One row of the matrix.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    parameters: &'static str,
    expected: Expected,
    entry: Entry,
    gic: u32,
    cpus: usize,
    others: Secondaries,
}

impl Row {
    fn cpus(&self) -> Cpus {
        Cpus {
            count: self.cpus,
            others: self.others,
            has_stub: self.entry == Entry::El2,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            parameters,
            entry,
            gic,
            cpus,
            others,
            ..
        } = self;
        write!(
            f,
            "{name} {parameters} | {entry:?}, GICv{gic}, {cpus} CPUs, others {others:?}"
        )
    }
}

/// Every crash on every kind of machine.
fn all_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, parameters, at_el1, at_el2) in FAULTS {
        for (entry, expected) in [(Entry::El1, at_el1), (Entry::El2, at_el2)] {
            for gic in [2, 3] {
                rows.extend([1, 4].map(|cpus| Row {
                    name,
                    parameters,
                    expected,
                    entry,
                    gic,
                    cpus,
                    others: Secondaries::Idle,
                }));
            }
        }
    }
    rows.retain(|row| row.cpus > 1 || !NEEDS_ANOTHER_CPU.contains(&row.name));
    rows
}

/// Every crash with the other CPUs masked and holding locks, at EL1, where a masked CPU cannot be stopped, and at EL2, on both interrupt controllers in turn.
fn rows_with_others() -> Vec<Row> {
    let kinds = [
        (Entry::El1, Secondaries::Masked),
        (Entry::El1, Secondaries::Locks),
        (Entry::El2, Secondaries::Masked),
        (Entry::El2, Secondaries::Locks),
    ];
    let mut rows = Vec::new();
    for (number, (name, parameters, at_el1, at_el2)) in FAULTS.into_iter().enumerate() {
        for (kind, (entry, others)) in kinds.into_iter().enumerate() {
            rows.push(Row {
                name,
                parameters,
                expected: if entry == Entry::El1 { at_el1 } else { at_el2 },
                entry,
                gic: if (number + kind) % 2 == 0 { 2 } else { 3 },
                cpus: 4,
                others,
            });
        }
    }
    rows
}

/// One row for each crash, each on another kind of machine than the one before.
fn sample() -> Vec<Row> {
    let rows = all_rows();
    let of_fault = |number: usize, (name, parameters): (&str, &str)| {
        let mine: Vec<Row> = rows
            .iter()
            .filter(|row| row.name == name && row.parameters == parameters)
            .copied()
            .collect();
        mine[number * 3 % mine.len()]
    };
    let faults = FAULTS.iter().enumerate();
    faults
        .map(|(number, (name, parameters, ..))| of_fault(number, (name, parameters)))
        .collect()
}

fn machine(row: &Row) -> Machine {
    Machine::new()
        .entry(row.entry)
        .gic(row.gic)
        .cpus(row.cpus)
        .append(&format!(
            "lkdtm={}@150 {} {} dump_then=halt dump_rounds=1",
            row.name,
            row.cpus().parameters(row.name),
            row.parameters
        ))
}

/// Runs a row and returns what was found.
fn check(row: &Row) -> String {
    let name = row.to_string();
    let outcome = faults::judge(
        machine(row).start(),
        row.name,
        row.expected,
        &row.cpus(),
        &name,
    );
    if let Some(crashed) = &outcome.crashed {
        oracle::assert_only_free_pages_are_missing(crashed);
    }
    outcome.found
}

#[test]
fn every_crash_ends_in_the_class_that_was_said_beforehand() {
    let is_soak = matrix::is_soak();
    let rows = if is_soak { all_rows() } else { sample() };
    let table = Mutex::new(Vec::new());
    matrix::for_each(&rows, |row| {
        let found = check(row);
        let line = format!("| {row} | {:?} | {found} |", row.expected);
        table.lock().expect("the table").push(line);
    });
    let mut table = table.into_inner().expect("the table");
    table.sort();
    println!(
        "| crash | machine | expected | found |\n|---|---|---|---|\n{}",
        table.join("\n")
    );
    assert_eq!(table.len(), rows.len(), "rows that were judged");
}

/// Always one crash on each kind of machine: 41 and 4 have no common divisor.
#[test]
fn crash_while_others_are_masked_or_hold_locks_ends_in_the_same_class() {
    let mut rows = rows_with_others();
    if !matrix::is_soak() {
        rows = rows.into_iter().step_by(41).collect();
    }
    matrix::for_each(&rows, |row| {
        println!("| {row} | {:?} | {} |", row.expected, check(row));
    });
    assert!(rows.len() >= 4, "rows that were judged: {}", rows.len());
}

#[test]
fn unknown_state_of_the_other_cpus_is_named_and_they_idle() {
    let machine = Machine::new().cpus(2);
    let crashed = oracle::crash(machine.append("lkdtm=PANIC@150 lkdtm_secondaries=asleep"));
    let is_named = crashed
        .report
        .contains("lkdtm_secondaries=asleep: there is no such state");
    let is_in_it = crashed.report.contains("CPUs are in it");
    assert!(is_named && !is_in_it, "{}", crashed.report);
}

/// CPU 1 holds every lock that can be held: CPU 0 answers all the same, and crashes when it is asked to.
#[test]
fn sysrq_is_answered_while_another_cpu_holds_the_locks() {
    let machine = Machine::new().cpus(3).append(
        "lkdtm=LOOP@150 lkdtm_cpu=2 lkdtm_secondaries=locks nowatchdog dump_then=halt dump_rounds=1",
    );
    let running = machine.start();
    let mut from = running.console.wait_for_from("lkdtm: provoking", 0);
    for (command, answer) in [
        (b'm', "sysrq: another CPU keeps the heap"),
        (b'k', "sysrq: crash region"),
        (b't', "sysrq: a crash would leave a dump"),
    ] {
        running.console.send(b"~~~SysRq");
        running.console.send(&[command]);
        from = running.console.wait_for_from(answer, from);
    }
    running.console.send(b"~~~SysRqc");
    let crashed = oracle::finish(running);
    oracle::assert_equals_memory(&crashed, &crashed.running.memory.pages());
}

/// The kernel lists its names when it is asked for one that it does not know.
#[test]
fn matrix_names_every_crash_that_the_kernel_knows() {
    let running = Machine::new().append("lkdtm=NO_SUCH_NAME").start();
    running.console.wait_for("idle, with");
    let text = running.console.text();
    let line = text
        .lines()
        .find(|line| line.contains("lkdtm=NO_SUCH_NAME"));
    let (_, names) = line
        .and_then(|line| line.split_once("known are: "))
        .unwrap_or_else(|| panic!("no list of names:\n{text}"));
    let unnamed: Vec<&str> = names
        .split([',', ' '])
        .map(str::trim)
        .filter(|name| !name.is_empty() && !FAULTS.iter().any(|fault| fault.0 == *name))
        .collect();
    assert!(unnamed.is_empty(), "crashes without a row: {unnamed:?}");
}
