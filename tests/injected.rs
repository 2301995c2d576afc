// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults injected into the way from a crash to its dump, what has to come of each, and the machines that a seed draws for them.

use std::fmt;

use crate::machine::{Entry, Machine};
use crate::seed::Seed;

/// Blocks of memory that a dump of any of these machines has behind its notes.
const MEMORY_BLOCKS: u64 = 3;

/// What has to come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A whole dump, made by this level of the chain.
    Whole(&'static str),
    /// A dump that lacks this, and nothing else.
    Partial(Missing),
}

/// What a partial dump lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Most of memory: it is the minimal dump.
    MostMemory,
    /// The pages of one block.
    Block,
    /// The pages that were being read.
    PagesRead,
    /// The registers of the CPU that crashed.
    CrashedRegisters,
    /// What the kernel says of itself: the reason, and where the log is.
    MachineNotes,
    /// The interrupt controller's registers.
    ControllerNotes,
    /// The registers of a CPU that was stopped.
    StoppedRegisters,
    /// Pages that were being read, in every block, the log's among them.
    PagesOfEach,
    /// All that is sent in blocks.
    Everything,
}

use Expected::{Partial, Whole};
use Missing::{
    Block, ControllerNotes, CrashedRegisters, Everything, MachineNotes, MostMemory, PagesOfEach,
    PagesRead, StoppedRegisters,
};

/// What makes the machine crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// One of the crashes that any machine stands.
    Drawn,
    /// The injected fault itself, which is a panic or an abort.
    Fault,
    /// The injected fault, which is always this.
    Always(&'static str),
    /// Somebody asks for it, once the image was damaged: these copies.
    Damaged(&'static [usize]),
}

use Crash::{Always, Damaged, Drawn};

/// An injected fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where it is.
    pub name: &'static str,
    /// Parameters; KIND, MEMORY and STOPPED are replaced by what the seed draws.
    parameters: &'static str,
    /// What makes the machine crash.
    pub crash: Crash,
    regions: &'static [&'static str],
    cpus: &'static [usize],
    /// What has to come of it.
    pub expected: Expected,
}

/// `crashkernel=`: room for one copy, and for two.
const ONE: &[&str] = &["2M"];
const TWO: &[&str] = &["4M", "16M"];
const ANY: &[&str] = &["2M", "4M", "16M"];
const CPUS: &[usize] = &[1, 2, 4];

const fn fault(
    name: &'static str,
    parameters: &'static str,
    crash: Crash,
    regions: &'static [&'static str],
    expected: Expected,
) -> Fault {
    Fault {
        name,
        parameters,
        crash,
        regions,
        cpus: CPUS,
        expected,
    }
}

const fn on(cpus: &'static [usize], mut fault: Fault) -> Fault {
    fault.cpus = cpus;
    fault
}

const FIRST: Expected = Whole("first-copy");
const MINIMAL: Expected = Partial(MostMemory);

/// Blocks are numbered in this order: notes of the CPU that crashed, the kernel's, the interrupt controller's; the first block of memory;
/// ELF core header, which the host makes anew from the rest; notes of the other CPUs; the rest of memory. With room for two copies all
/// of memory is less than the eight blocks that the capture kernel may fail at.
pub const FAULTS: [Fault; 25] = [
    fault("no capture kernel", "capture=none", Drawn, ANY, MINIMAL),
    fault("no region", "", Drawn, &["0"], MINIMAL),
    fault(
        "before loading",
        "fault=before-load:KIND",
        Crash::Fault,
        ANY,
        MINIMAL,
    ),
    fault("loading", "fault=load:KIND", Crash::Fault, ANY, MINIMAL),
    fault(
        "replacing the only copy",
        "fault=reload:KIND",
        Crash::Fault,
        ONE,
        MINIMAL,
    ),
    fault(
        "replacing one of two",
        "fault=reload:KIND",
        Crash::Fault,
        TWO,
        FIRST,
    ),
    fault(
        "between two new copies",
        "fault=switch:KIND",
        Crash::Fault,
        TWO,
        FIRST,
    ),
    fault(
        "message of a panic",
        "fault=message:KIND",
        Always("panic"),
        ANY,
        FIRST,
    ),
    fault("stopping CPUs", "fault=stop:KIND", Drawn, ANY, FIRST),
    fault("writing notes", "fault=notes:KIND", Drawn, ANY, FIRST),
    fault("leaving", "fault=leave:KIND", Drawn, ANY, FIRST),
    on(
        &[4],
        fault("two CPUs", "fault=pair", Always("exception"), ANY, FIRST),
    ),
    fault("first copy, no other", "", Damaged(&[0]), ONE, MINIMAL),
    fault(
        "first of two copies",
        "",
        Damaged(&[0]),
        TWO,
        Whole("second-copy"),
    ),
    fault("second of two copies", "", Damaged(&[1]), TWO, FIRST),
    fault("both copies", "", Damaged(&[0, 1]), TWO, MINIMAL),
    fault(
        "notes of the crashed CPU",
        "dump_fault=0:KIND",
        Drawn,
        ANY,
        Partial(CrashedRegisters),
    ),
    fault(
        "the kernel's notes",
        "dump_fault=1:KIND",
        Drawn,
        ANY,
        Partial(MachineNotes),
    ),
    fault(
        "the controller's notes",
        "dump_fault=2:KIND",
        Drawn,
        ANY,
        Partial(ControllerNotes),
    ),
    fault("ELF core header", "dump_fault=4:KIND", Drawn, ANY, FIRST),
    on(
        &[2, 4],
        fault(
            "notes of a stopped CPU",
            "dump_fault=STOPPED:KIND",
            Drawn,
            ANY,
            Partial(StoppedRegisters),
        ),
    ),
    fault(
        "packing memory",
        "dump_fault=MEMORY:KIND",
        Drawn,
        ANY,
        Partial(Block),
    ),
    fault(
        "reading memory",
        "dump_fault=MEMORY:KIND:reading",
        Drawn,
        ANY,
        Partial(PagesRead),
    ),
    fault(
        "packing, every block",
        "dump_fault=every:KIND",
        Drawn,
        ANY,
        Partial(Everything),
    ),
    fault(
        "reading, every block",
        "dump_fault=every:KIND:reading",
        Drawn,
        TWO,
        Partial(PagesOfEach),
    ),
];

/// Crashes that any machine stands, and the kind of reason.
const CRASHES: [(&str, &str); 14] = [
    ("PANIC", "panic"),
    ("PANIC_STOP_IRQOFF", "panic"),
    ("PANIC_IN_HARDIRQ", "panic"),
    ("BUG", "exception"),
    ("BUG_IN_HARDIRQ", "exception"),
    ("ACCESS_NULL", "exception"),
    ("UNALIGNED", "exception"),
    ("WRITE_RO", "exception"),
    ("EXEC_DATA", "exception"),
    ("EXEC_NULL", "exception"),
    ("EXHAUST_STACK", "stack-overflow"),
    ("STACK_GUARD_PAGE_LEADING", "stack-overflow"),
    ("CORRUPT_STACK", "exception"),
    ("ARRAY_BOUNDS", "panic"),
];

/// What a seed chooses; each has a salt of its own.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// The exception level of the entry.
    Level = 1,
    /// The interrupt controller.
    Gic,
    /// How many CPUs.
    Cpus,
    /// Size of the crash region.
    Region,
    /// A panic or an abort.
    Kind,
    /// Which crash.
    Crash,
    /// When.
    Delay,
    /// On which CPU.
    Cpu,
    /// The block of memory at which the capture kernel fails.
    Memory,
    /// Whether it is one behind the notes.
    IsLate,
    /// The CPU at whose notes it fails.
    Stopped,
    /// The byte of the image that is damaged.
    Byte,
    /// And its bit.
    Bit,
}

/// One row of the matrix: a fault, and the machine that the seed draws for it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What all of it follows from.
    pub seed: Seed,
    /// The fault.
    pub fault: &'static Fault,
    entry: Entry,
    gic: u32,
    cpus: usize,
    /// `crashkernel=`.
    pub region: &'static str,
    parameters: String,
    /// The kind of the reason.
    pub reason: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} | seed {}: {:?}, GICv{}, {} CPUs, region {}, {}",
            self.fault.name,
            self.seed.0,
            self.entry,
            self.gic,
            self.cpus,
            self.region,
            self.parameters
        )
    }
}

impl Row {
    /// The row of this seed.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let number = |choice: Choice, end: u64| seed.number(choice as u64, end);
        let fault = &FAULTS[seed.0 as usize % FAULTS.len()];
        let cpus = seed.pick(Choice::Cpus as u64, fault.cpus);
        let kind = seed.pick(Choice::Kind as u64, &["panic", "abort"]);
        // Where all notes went before it, so that it is a block of memory whatever the machine is.
        let memory = match number(Choice::IsLate, 4) {
            0 => 3,
            _ => 4 + cpus as u64 + number(Choice::Memory, MEMORY_BLOCKS),
        };
        let stopped = 5 + number(Choice::Stopped, (cpus as u64).saturating_sub(1));
        let mut parameters = fault
            .parameters
            .replace("KIND", kind)
            .replace("MEMORY", &memory.to_string())
            .replace("STOPPED", &stopped.to_string());
        let reason = match fault.crash {
            Drawn => {
                let (name, reason) = seed.pick(Choice::Crash as u64, &CRASHES);
                let (delay, cpu) = (
                    150 + number(Choice::Delay, 200),
                    number(Choice::Cpu, cpus as u64),
                );
                parameters.push_str(&format!(" lkdtm={name}@{delay} lkdtm_cpu={cpu}"));
                reason
            }
            Crash::Fault if kind == "panic" => "panic",
            Crash::Fault => "exception",
            Always(reason) => reason,
            Damaged(_) => "sysrq",
        };
        Self {
            seed,
            fault,
            entry: seed.pick(Choice::Level as u64, &[Entry::El1, Entry::El2]),
            gic: seed.pick(Choice::Gic as u64, &[2, 3]),
            cpus,
            region: seed.pick(Choice::Region as u64, fault.regions),
            parameters,
            reason,
        }
    }

    /// Its machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine::new()
            .entry(self.entry)
            .gic(self.gic)
            .cpus(self.cpus)
            .append(&format!(
                "crashkernel={} {} dump_effort=0 dump_then=halt dump_rounds=1",
                self.region, self.parameters
            ))
    }

    /// CPUs that are up when it crashes.
    #[must_use]
    pub fn cpus_up(&self) -> usize {
        let is_early = ["before-load", "=load"]
            .iter()
            .any(|place| self.parameters.contains(place));
        if is_early { 1 } else { self.cpus }
    }
}
