// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crashes of our own kernel on QEMU virt, at both dump levels.

use std::time::{Duration, Instant};

use blackbox::dump::Dump;
use blackbox::memory::Memory;
use blackbox::oracle::{self, Crashed};
use blackbox::{Entry, Machine};

use crate::encodings::Encodings;
use crate::line::{self, word};
use crate::region_use::RegionUse;

/// Type of the TIMINGS note, and its phases (docs/architecture.md).
const NOTE_TIMINGS: u32 = 0x4146_0007;
const PHASE_FAULT: u64 = 1;
const PHASE_WON: u64 = 2;
const PHASE_STOPPED: u64 = 3;
/// In a note that is a list: the argument (here the counter's frequency), and where entries begin.
const LIST_ARGUMENT: usize = 16;
const LIST_HEAD: usize = 24;
const TIMING_LEN: usize = 16;

/// A kind of machine.
struct Kind {
    name: &'static str,
    memory_mib: u64,
    machine: fn() -> Machine,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "128 MiB, EL1, GICv2, 4 x cortex-a72",
        memory_mib: 128,
        machine: || Machine::new().cpus(4),
    },
    Kind {
        name: "128 MiB, EL2, GICv3, 1 x max",
        memory_mib: 128,
        machine: || Machine::new().entry(Entry::El2).gic(3).cpu("max"),
    },
    Kind {
        name: "1 GiB, EL1, GICv2, 4 x cortex-a72",
        memory_mib: 1024,
        machine: || Machine::new().cpus(4),
    },
    Kind {
        name: "8 GiB, EL1, GICv2, 4 x cortex-a72",
        memory_mib: 8192,
        machine: || Machine::new().cpus(4),
    },
];

/// What one kind of machine gave.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) region: RegionUse,
    pub(crate) encodings: Encodings,
    pub(crate) level_0: Measured,
    pub(crate) level_17: Measured,
}

/// What one crash gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// By the target's own counter, since the fault.
    pub(crate) target: Phases,
    /// As seen on the line, since the first byte of the crash's first message.
    pub(crate) host: Phases,
    /// How long the other CPUs took to stop.
    pub(crate) stop: Duration,
    /// Bytes on the line from the first message to the last frame and its closing text.
    pub(crate) wire: u64,
}

/// Times of the dump's ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) first_frame: Duration,
    pub(crate) last_frame: Duration,
}

/// Runs all of them, one after the other.
///
/// # Panics
/// One does not come to its end.
pub(crate) fn measure() -> Vec<Row> {
    KINDS.iter().map(Kind::measure).collect()
}

impl Kind {
    fn measure(&self) -> Row {
        let (level_0, _) = self.crash(0);
        let (level_17, crashed) = self.crash(17);
        let memory: &Memory = &crashed.running.memory;
        let region = RegionUse::read(memory, &crashed.region);
        let raw = self.memory_mib << 20;
        let mut pages = memory.pages();
        pages.retain(|at, _| !crashed.region.contains(at));
        let encodings = Encodings::of(&pages, raw, crashed.running.dir());
        Row {
            name: self.name,
            region,
            encodings,
            level_0,
            level_17,
        }
    }

    fn crash(&self, level: u32) -> (Measured, Crashed) {
        eprintln!("bench: {}, dump level {level}", self.name);
        let crash = format!("lkdtm=ACCESS_NULL@300 dump_level={level} dump_then=halt");
        let running = (self.machine)()
            .memory_mib(self.memory_mib)
            .append(&crash)
            .start();
        let text_begin = running
            .console
            .wait_for_from("Afterimage: this machine has crashed", 0);
        let crashed = Instant::now();
        running.console.wait_for_from("\0", text_begin);
        let first_frame = crashed.elapsed();
        let text_end = running
            .console
            .wait_for_from("Afterimage: dump complete", text_begin);
        let last_frame = crashed.elapsed();
        let host = Phases {
            first_frame,
            last_frame,
        };
        let done = oracle::finish(running);
        let ticks =
            line::frame_ticks(&done.running.console.bytes()).expect("a summary on the line");
        let timings = Timings::read(&done.dump).expect("a TIMINGS note");
        let target = Phases {
            first_frame: timings.since_fault(ticks.begin),
            last_frame: timings.since_fault(ticks.end),
        };
        let stop = timings
            .since_fault(timings.stopped)
            .saturating_sub(timings.since_fault(timings.won));
        (
            Measured {
                target,
                host,
                stop,
                wire: (text_end - text_begin) as u64,
            },
            done,
        )
    }
}

/// The TIMINGS note.
#[derive(Debug)]
struct Timings {
    hz: u64,
    fault: u64,
    won: u64,
    stopped: u64,
}

impl Timings {
    fn read(dump: &Dump) -> Option<Self> {
        let note = dump
            .notes
            .iter()
            .find(|note| note.name == "AFTERIMAGE" && note.kind == NOTE_TIMINGS)?;
        let entries = note.desc.get(LIST_HEAD..)?.chunks_exact(TIMING_LEN);
        let ticks_of = |phase: u64| {
            let mut entries = entries.clone();
            entries
                .find(|entry| word(entry, 0) == Some(phase))
                .and_then(|entry| word(entry, 8))
        };
        Some(Self {
            hz: word(&note.desc, LIST_ARGUMENT)?,
            fault: ticks_of(PHASE_FAULT)?,
            won: ticks_of(PHASE_WON)?,
            stopped: ticks_of(PHASE_STOPPED)?,
        })
    }

    fn since_fault(&self, ticks: u64) -> Duration {
        let seconds = ticks.saturating_sub(self.fault) as f64 / self.hz.max(1) as f64;
        Duration::from_secs_f64(seconds)
    }
}
