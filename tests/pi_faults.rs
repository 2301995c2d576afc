// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault matrix on Raspberry Pi 3 and 4, as QEMU has them: entered at EL2, CPUs by spin table.
//!
//! Every crash on both, with 1 and 4 CPUs, the other CPUs idle, masked, or holding locks, under `AFTERIMAGE_SOAK=1`. Always: few rows in which
//! every pair of such values occurs, with another crash each.
#![cfg(test)]

use std::fmt;

use blackbox::faults::{self, Cpus, Expected, FAULTS, NEEDS_ANOTHER_CPU, NEEDS_CPU_0, Secondaries};
use blackbox::{matrix, raspberry};

/// Values that differ between rows, beside the crash itself.
const FACTORS: usize = 4;
/// Crashes from one row of the sample to the next: prime, so that they do not repeat.
const STEP: usize = 7;

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    parameters: &'static str,
    expected: Expected,
    pi: u32,
    cpus: usize,
    others: Secondaries,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            parameters,
            pi,
            cpus,
            others,
            ..
        } = self;
        write!(
            f,
            "{name} {parameters} | Pi {pi}, {cpus} CPUs, others {others:?}"
        )
    }
}

impl Row {
    /// Machine, CPUs, what the others do, and whether CPU 0 has a part in the crash.
    fn values(&self) -> [usize; FACTORS] {
        [
            self.pi as usize,
            self.cpus,
            self.others as usize,
            usize::from(NEEDS_CPU_0.contains(&self.name)),
        ]
    }

    /// The pairs of values that this row shows.
    fn pairs(&self) -> Vec<[usize; 4]> {
        let values = self.values();
        (0..FACTORS)
            .flat_map(|i| (i + 1..FACTORS).map(move |j| [i, values[i], j, values[j]]))
            .collect()
    }
}

/// Every crash on every machine of `pis`.
fn all_rows(pis: &[u32]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, parameters, _, expected) in FAULTS {
        for &pi in pis {
            let row = |cpus, others| Row {
                name,
                parameters,
                expected,
                pi,
                cpus,
                others,
            };
            if !NEEDS_ANOTHER_CPU.contains(&name) {
                rows.push(row(1, Secondaries::Idle));
            }
            rows.extend(Secondaries::ALL.map(|others| row(4, others)));
        }
    }
    rows
}

/// Few rows in which every pair of values occurs that does in `all`: always one that shows most pairs not yet seen.
fn sample(all: &[Row]) -> Vec<Row> {
    let mut unseen: Vec<[usize; 4]> = all.iter().flat_map(Row::pairs).collect();
    let mut rows: Vec<Row> = Vec::new();
    while !unseen.is_empty() {
        let gain = |row: &&Row| {
            let pairs = row.pairs();
            pairs.iter().filter(|pair| unseen.contains(pair)).count()
        };
        let Some(best) = all.iter().max_by_key(gain) else {
            break;
        };
        let seen = best.pairs();
        unseen.retain(|pair| !seen.contains(pair));
        let alike = all.iter().filter(|row| row.values() == best.values());
        rows.extend(alike.cycle().nth(rows.len() * STEP).copied());
    }
    rows
}

fn check(row: &Row) {
    let cpus = Cpus {
        count: row.cpus,
        others: row.others,
        has_stub: true,
    };
    let running = raspberry::pi(row.pi)
        .append(&format!(
            "lkdtm={}@300 {} {} maxcpus={} dump_then=halt dump_rounds=1",
            row.name,
            cpus.parameters(row.name),
            row.parameters,
            row.cpus
        ))
        .start();
    let outcome = faults::judge(running, row.name, row.expected, &cpus, &row.to_string());
    println!("| {row} | {:?} | {} |", row.expected, outcome.found);
}

#[test]
fn every_crash_of_a_pi_ends_in_the_class_that_was_said_beforehand() {
    let mut pis = vec![3_u32, 4];
    pis.retain(|pi| raspberry::is_there(*pi));
    assert!(!pis.is_empty(), "no Raspberry Pi that this QEMU has");
    let all = all_rows(&pis);
    let rows = if matrix::is_soak() { all } else { sample(&all) };
    matrix::for_each(&rows, check);
}

#[test]
fn sample_shows_every_pair_in_few_rows_of_different_crashes() {
    let all = all_rows(&[3, 4]);
    let rows = sample(&all);
    let seen: Vec<_> = rows.iter().flat_map(Row::pairs).collect();
    let missing = all
        .iter()
        .flat_map(Row::pairs)
        .find(|pair| !seen.contains(pair));
    assert_eq!(missing, None);
    // Each state of the others, with CPU 0 in the crash and without.
    assert!((6..=8).contains(&rows.len()), "{} rows", rows.len());
    let mut names: Vec<_> = rows.iter().map(|row| (row.name, row.parameters)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rows.len(), "crashes of the sample: {names:?}");
}
