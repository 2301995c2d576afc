// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix: every crash that can be provoked, on every kind of machine, with the class that is expected of each.
//!
//! A class is said beforehand; a dump that is expected whole equals QEMU's own memory. A sample runs always (each crash on one
//! kind of machine, each kind with several crashes), all of it under `AFTERIMAGE_SOAK=1`.

use std::fmt;
use std::sync::Mutex;

use blackbox::faults::{self, Expected, FAULTS, NEEDS_ANOTHER_CPU};
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
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            parameters,
            entry,
            gic,
            cpus,
            ..
        } = self;
        write!(f, "{name} {parameters} | {entry:?}, GICv{gic}, {cpus} CPUs")
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
                }));
            }
        }
    }
    rows.retain(|row| row.cpus > 1 || !NEEDS_ANOTHER_CPU.contains(&row.name));
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
            "lkdtm={}@150 lkdtm_cpu={} {} dump_then=halt dump_rounds=1",
            row.name,
            row.cpus - 1,
            row.parameters
        ))
}

/// Runs a row and returns what was found.
fn check(row: &Row) -> String {
    let name = row.to_string();
    let outcome = faults::judge(machine(row).start(), row.expected, row.cpus, &name);
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
