// SPDX-License-Identifier: MIT OR Apache-2.0
//! The backtrace of each CPU, as soon as what arrived is enough for it.
//!
//! It is enough when the walk reaches the outermost frame. Where it stops for want of a page, that page is waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vmcore::registers::PrStatus;

use crate::backtrace::{chain_of, function_chain, start_of};
use crate::contents::Contents;
use crate::store::Store;
use crate::symbols::Symbols;
use crate::unwind::{End, Memory as _, walk};

/// Time until a walk is tried again that stopped for another reason than a page that is not there.
const RETRY: Duration = Duration::from_secs(1);

/// A CPU whose backtrace was not told yet.
#[derive(Debug)]
struct Waiting {
    status: PrStatus,
    is_crashed: bool,
    /// Address that the walk needs, and when it was tried.
    tried: Option<(Option<u64>, Instant)>,
}

/// What is told of the CPUs of one dump.
#[derive(Debug)]
pub struct EarlyBacktraces {
    symbols: Option<Symbols>,
    /// `None` once told.
    cpus: BTreeMap<u32, Option<Waiting>>,
}

impl EarlyBacktraces {
    /// Starts; without symbols nothing is told before the end.
    #[must_use]
    pub const fn new(symbols: Option<Symbols>) -> Self {
        Self {
            symbols,
            cpus: BTreeMap::new(),
        }
    }

    /// Returns what can be told now; `has_new_notes` when there may be more registers than the last time.
    pub fn look(&mut self, store: &Store, has_new_notes: bool) -> Vec<String> {
        if self.symbols.is_none() {
            return Vec::new();
        }
        if has_new_notes && store.has_cpu_numbers() {
            self.take_registers(store);
        }
        let Some(symbols) = &self.symbols else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for (cpu, place) in &mut self.cpus {
            let Some(waiting) = place.as_mut().filter(|waiting| waiting.is_due(store)) else {
                continue;
            };
            let (frames, end) = walk(symbols, store, start_of(&waiting.status.registers));
            let needed = match end {
                End::Outermost => {
                    lines.push(line(*cpu, waiting.is_crashed, &chain_of(symbols, &frames)));
                    *place = None;
                    continue;
                }
                End::NoMemory(at) => Some(at),
                _ => None,
            };
            waiting.tried = Some((needed, Instant::now()));
        }
        lines
    }

    /// Returns what is left to tell when nothing more comes: how far each walk gets.
    pub fn finish(&mut self, store: &Store) -> Vec<String> {
        self.take_registers(store);
        let mut left: Vec<(u32, Waiting)> = Vec::new();
        for (cpu, place) in &mut self.cpus {
            left.extend(place.take().map(|waiting| (*cpu, waiting)));
        }
        left.sort_by_key(|(cpu, waiting)| (!waiting.is_crashed, *cpu));
        // Addresses of CPUs that were only stopped tell nobody anything.
        let shown = if self.symbols.is_some() {
            left.len()
        } else {
            1
        };
        let symbols = self.symbols.as_ref();
        left.iter()
            .take(shown)
            .map(|(cpu, waiting)| {
                let chain = function_chain(symbols, store, &waiting.status.registers);
                line(*cpu, waiting.is_crashed, &chain)
            })
            .collect()
    }

    fn take_registers(&mut self, store: &Store) {
        let notes = store.notes();
        let contents = Contents::of(notes.as_bytes());
        let crashed = contents.reason.as_ref().map(|reason| reason.cpu);
        for (cpu, status) in contents.cpus() {
            self.cpus.entry(cpu).or_insert(Some(Waiting {
                status,
                is_crashed: crashed == Some(cpu),
                tried: None,
            }));
        }
    }
}

impl Waiting {
    /// Returns whether another walk may get further than the last.
    fn is_due(&self, store: &Store) -> bool {
        match self.tried {
            None => true,
            Some((Some(address), _)) => store.read_u64(address).is_some(),
            Some((None, at)) => at.elapsed() >= RETRY,
        }
    }
}

fn line(cpu: u32, is_crashed: bool, chain: &str) -> String {
    if is_crashed {
        format!("backtrace: {chain}")
    } else {
        format!("backtrace of CPU {cpu}: {chain}")
    }
}
