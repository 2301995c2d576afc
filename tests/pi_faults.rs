// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix on Raspberry Pi 3 and 4, as QEMU has them: entered at EL2, CPUs by spin table.
//!
//! Every seventh crash runs always, each on another machine than the one before, all of them on all machines under `AFTERIMAGE_SOAK=1`.
#![cfg(test)]

use std::fmt;

use blackbox::faults::{self, Expected, FAULTS, NEEDS_ANOTHER_CPU};
use blackbox::{matrix, raspberry};

/// One in so many faults is in the sample.
const STEP: usize = 7;

struct Row {
    name: &'static str,
    parameters: &'static str,
    expected: Expected,
    pi: u32,
    cpus: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            parameters,
            pi,
            cpus,
            ..
        } = self;
        write!(f, "{name} {parameters} | Pi {pi}, {cpus} CPUs")
    }
}

/// Every machine for one fault.
fn rows_of(fault: &(&'static str, &'static str, Expected, Expected)) -> Vec<Row> {
    let (name, parameters, _, expected) = *fault;
    let machines = [(3, 4), (4, 1), (4, 4), (3, 1)];
    let is_possible = |cpus: usize| cpus > 1 || !NEEDS_ANOTHER_CPU.contains(&name);
    let possible = machines.into_iter().filter(|(_, cpus)| is_possible(*cpus));
    possible
        .map(|(pi, cpus)| Row {
            name,
            parameters,
            expected,
            pi,
            cpus,
        })
        .collect()
}

fn rows() -> Vec<Row> {
    if matrix::is_soak() {
        return FAULTS.iter().flat_map(rows_of).collect();
    }
    let sample = FAULTS.iter().step_by(STEP).enumerate();
    sample
        .filter_map(|(number, fault)| {
            let mut rows = rows_of(fault);
            let chosen = number % rows.len();
            rows.drain(chosen..).next()
        })
        .collect()
}

#[test]
fn every_crash_of_a_pi_ends_in_the_class_that_was_said_beforehand() {
    let mut rows = rows();
    for number in [3, 4] {
        if !raspberry::is_there(number) {
            rows.retain(|row| row.pi != number);
        }
    }
    matrix::for_each(&rows, |row| {
        let running = raspberry::pi(row.pi)
            .append(&format!(
                "lkdtm={}@300 lkdtm_cpu={} {} maxcpus={} dump_then=halt dump_rounds=1",
                row.name,
                row.cpus - 1,
                row.parameters,
                row.cpus
            ))
            .start();
        let outcome = faults::judge(running, row.expected, row.cpus, &row.to_string());
        println!("| {row} | {:?} | {} |", row.expected, outcome.found);
    });
    assert!(rows.len() > 4, "rows that were judged: {}", rows.len());
}
