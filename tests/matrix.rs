// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of machines: a covering set in which every pair of values occurs, or the full product.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::machine::{Entry, Machine};

/// Threads that work on rows: as many as QEMUs may run.
const WORKERS: usize = 2;
/// Values that differ between rows.
const FACTORS: usize = 5;

const MEMORY_MIB: [u64; 5] = [128, 512, 1024, 3072, 8192];
const GICS: [u32; 2] = [2, 3];
const ENTRIES: [Entry; 3] = [Entry::El1, Entry::El2, Entry::El3];
const CPUS: [usize; 3] = [1, 2, 8];
const MODELS: [&str; 3] = ["cortex-a53", "cortex-a72", "max"];

/// One kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// RAM.
    pub memory_mib: u64,
    /// Version of the interrupt controller.
    pub gic: u32,
    /// Exception level of the entry.
    pub entry: Entry,
    /// Number of CPUs.
    pub cpus: usize,
    /// CPU model.
    pub cpu: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory_mib,
            gic,
            entry,
            cpus,
            cpu,
        } = self;
        write!(f, "{memory_mib} MiB, GICv{gic}, {entry:?}, {cpus} x {cpu}")
    }
}

impl Row {
    /// The machine of this row.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine::new()
            .memory_mib(self.memory_mib)
            .gic(self.gic)
            .entry(self.entry)
            .cpus(self.cpus)
            .cpu(self.cpu)
    }

    /// The last CPU, which crashes in most tests.
    #[must_use]
    pub fn last_cpu(&self) -> usize {
        self.cpus.saturating_sub(1)
    }

    fn values(&self) -> [usize; FACTORS] {
        let entry = ENTRIES
            .iter()
            .position(|entry| *entry == self.entry)
            .unwrap_or(0);
        let cpu = MODELS.iter().position(|cpu| *cpu == self.cpu).unwrap_or(0);
        [
            self.memory_mib as usize,
            self.gic as usize,
            entry,
            self.cpus,
            cpu,
        ]
    }

    /// The pairs of values that this row shows.
    fn pairs(&self) -> Vec<[usize; 4]> {
        let values = self.values();
        let pair = |(i, first): (usize, &usize)| {
            let first = *first;
            let later = values.into_iter().enumerate().skip(i + 1);
            later
                .map(move |(j, second)| [i, first, j, second])
                .collect::<Vec<_>>()
        };
        values.iter().enumerate().flat_map(pair).collect()
    }
}

/// Whether `scripts/soak` runs: `AFTERIMAGE_SOAK=1`.
#[must_use]
pub fn is_soak() -> bool {
    std::env::var("AFTERIMAGE_SOAK").as_deref() == Ok("1")
}

/// The rows to run: the full product under `AFTERIMAGE_SOAK=1`, else the covering set.
#[must_use]
pub fn rows() -> Vec<Row> {
    if is_soak() {
        full_product()
    } else {
        covering_set()
    }
}

/// Every machine that there is; at EL3 with one CPU only.
fn full_product() -> Vec<Row> {
    let mut rows = Vec::new();
    for memory_mib in MEMORY_MIB {
        for gic in GICS {
            for entry in ENTRIES {
                for cpus in CPUS {
                    let of_model = |cpu| Row {
                        memory_mib,
                        gic,
                        entry,
                        cpus,
                        cpu,
                    };
                    rows.extend(MODELS.map(of_model));
                }
            }
        }
    }
    rows.retain(|row| row.entry != Entry::El3 || row.cpus == 1);
    rows
}

/// Few rows in which every possible pair of values occurs: always the row that shows most pairs not yet seen.
fn covering_set() -> Vec<Row> {
    let all = full_product();
    let mut unseen: Vec<[usize; 4]> = all.iter().flat_map(Row::pairs).collect();
    unseen.sort_unstable();
    unseen.dedup();
    let mut rows = Vec::new();
    while !unseen.is_empty() {
        let gain = |row: &&Row| {
            row.pairs()
                .iter()
                .filter(|pair| unseen.contains(pair))
                .count()
        };
        let Some(best) = all.iter().max_by_key(gain) else {
            break;
        };
        let seen = best.pairs();
        unseen.retain(|pair| !seen.contains(pair));
        rows.push(*best);
    }
    rows
}

/// Runs `check` on each of `rows`, two at a time, and names every one that failed.
///
/// # Panics
/// One or more failed.
pub fn for_each<T: fmt::Display + Sync>(rows: &[T], check: impl Fn(&T) + Sync) {
    let failed = failures(rows, check);
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        rows.len(),
        failed.join("\n")
    );
}

/// Runs `check` on each of `rows`, two at a time, and returns what each one said that failed.
///
/// # Panics
/// A thread of it was broken.
#[must_use]
pub fn failures<T: fmt::Display + Sync>(rows: &[T], check: impl Fn(&T) + Sync) -> Vec<String> {
    let queue = Mutex::new(rows.iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue.lock().expect("the queue").next();
            let Some(row) = next else { break };
            println!("row: {row}");
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(row))) {
                let text = cause.downcast_ref::<String>().map(String::as_str);
                let text = text
                    .or_else(|| cause.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                failed
                    .lock()
                    .expect("the list")
                    .push(format!("--- {row}\n{text}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    failed.into_inner().expect("the list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covering_set_shows_every_pair_in_few_rows() {
        let rows = covering_set();
        let seen: Vec<_> = rows.iter().flat_map(Row::pairs).collect();
        let missing = full_product()
            .iter()
            .flat_map(Row::pairs)
            .find(|pair| !seen.contains(pair));
        assert_eq!(missing, None);
        // 15 is the least: 5 sizes times 3 models.
        assert!((15..=24).contains(&rows.len()), "{} rows", rows.len());
    }

    #[test]
    fn full_product_has_one_cpu_at_el3() {
        let rows = full_product();
        assert_eq!(rows.len(), 5 * 2 * (2 * 3 + 1) * 3);
        assert!(
            rows.iter()
                .all(|row| row.entry != Entry::El3 || row.cpus == 1)
        );
    }
}
