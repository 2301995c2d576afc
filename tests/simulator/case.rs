// SPDX-License-Identifier: MIT OR Apache-2.0
//! One dump from the first byte to the last, and what it came to.

use std::cell::RefCell;
use std::rc::Rc;

use capture::{Inputs, Located, Outcome, Room, Sizes, Workspace};
use vmcore::PAGE_SIZE;
use wire::lzma::Encoder;

use crate::host::{Host, SmallHost};
use crate::line::{CLOCK_HZ, SimulatedClock, SimulatedLine};
use crate::machine::Machine;
use crate::tap::Tap;
use crate::world::{Setting, World};

/// Time that the host is given after the target's last byte, in nanoseconds.
const AFTER_NS: u64 = 5_000_000_000;

/// A dump that is to be simulated.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What chance decides.
    pub seed: u64,
    /// The capture kernel's command line.
    pub bootargs: String,
    /// Bytes that the capture kernel has for its buffers.
    pub room_bytes: usize,
    /// The highest rate that the host can set, in baud; 0 for none.
    pub host_baud_max: u32,
    /// Of so many pages the host knows one, from an earlier dump say; 0 for none.
    pub known_pages: u64,
    /// The line.
    pub setting: Setting,
}

impl Case {
    /// A dump in a crash region of 2 MiB, at the least effort, which is not what these cases are about.
    #[must_use]
    pub fn new(name: &'static str, seed: u64, setting: Setting) -> Self {
        Self {
            name,
            seed,
            bootargs: "dump_then=halt dump_effort=0".to_owned(),
            room_bytes: 0,
            host_baud_max: 0,
            known_pages: 0,
            setting,
        }
    }
}

/// What a dump came to.
#[derive(Debug)]
pub struct Run<H> {
    /// What the capture code returned.
    pub outcome: Outcome,
    /// The world at the end.
    pub world: World<H>,
    /// When the capture code returned, in nanoseconds.
    pub ended_ns: u64,
}

impl<H> core::fmt::Debug for World<H> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a simulated world")
    }
}

/// Runs the dump of `machine` with the small host.
#[must_use]
pub fn run(case: &Case, machine: &mut Machine) -> Run<SmallHost> {
    let mut host = SmallHost::new(case.setting.baud, case.host_baud_max);
    if case.known_pages > 0 {
        let dumped = machine.dumped();
        let step = usize::try_from(case.known_pages * PAGE_SIZE).expect("a few pages");
        let known = (dumped.start..dumped.end).step_by(step);
        host.know(known.filter_map(|pa| machine.ram.page(pa)));
    }
    run_with(case, machine, host)
}

/// Runs the dump of `machine` with any host.
///
/// # Panics
/// The two ends of the world are still in use, which is a fault of the simulator.
#[must_use]
pub fn run_with<H: Host>(case: &Case, machine: &mut Machine, host: H) -> Run<H> {
    let world = World::new(case.setting.clone(), case.seed, host);
    let world = Rc::new(RefCell::new(world));
    let mut line = SimulatedLine(Rc::clone(&world));
    let clock = SimulatedClock(Rc::clone(&world));
    let outcome = capture(case, machine, &mut line, &clock);
    drop((line, clock));
    let Ok(world) = Rc::try_unwrap(world) else {
        panic!("the world is still in use");
    };
    let mut world = world.into_inner();
    let ended_ns = world.now();
    world.advance(AFTER_NS);
    Run {
        outcome,
        world,
        ended_ns,
    }
}

fn capture<H: Host>(
    case: &Case,
    machine: &mut Machine,
    line: &mut SimulatedLine<H>,
    clock: &SimulatedClock<H>,
) -> Outcome {
    let Sizes {
        raw,
        ring,
        parity,
        maps,
        encoder,
        index,
        hashes,
        ..
    } = Sizes::fitting(case.room_bytes);
    // What lies in it does not matter, so it is not zeros.
    let room = Room {
        raw: &mut vec![0xee; raw],
        ring: &mut vec![0xee; ring],
        parity: &mut vec![0xee; parity],
        maps: &mut vec![7; maps],
        encoder: &mut vec![7; encoder],
        index: &mut vec![7; index],
        hashes: &mut vec![7; hashes],
    };
    let header = machine.header.clone();
    let memory = [machine.ram.range()];
    let own = [machine.own];
    let inputs = Inputs {
        bootargs: case.bootargs.as_bytes(),
        elfcorehdr: Some(Located {
            address: machine.own.end - PAGE_SIZE,
            bytes: &header,
        }),
        memory: &memory,
        own: &own,
        foreign: &[],
        counter_hz: CLOCK_HZ,
        entry_ticks: 0,
    };
    capture::run(
        &inputs,
        &mut machine.ram,
        line,
        clock,
        &mut Box::new(Workspace::new()),
        room,
        &mut Box::new(Encoder::new()),
    )
}

impl Run<SmallHost> {
    /// Checks that the host has all of `machine`.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn is_whole(&self, machine: &Machine) -> Result<(), String> {
        let host = self.world.host();
        if let Err(error) = self.outcome.totals {
            return Err(format!("the dump ended early: {error}"));
        }
        let (verdict, _) = host.verdict();
        match verdict {
            Some(verdict) if verdict.is_whole() => host.compare(machine),
            verdict => Err(format!(
                "not whole: {verdict:?}, not believed: {:?}",
                host.errors().iter().take(4).collect::<Vec<_>>()
            )),
        }
    }

    /// Sums the run up.
    pub fn figures(&mut self) -> Figures {
        let lost_frames = self
            .outcome
            .totals
            .map_or(0, |totals| totals.counts.lost_frames);
        let last = self.world.tap().last_piece().copied();
        let first_ns = self.world.tap().first_ns();
        let (Some(last), Some(first_ns)) = (last, first_ns) else {
            return Figures::default();
        };
        let capacity = self.world.capacity(first_ns, last.at_ns);
        let tap: &Tap = self.world.tap();
        let seconds = (last.at_ns - first_ns) as f64 / 1e9;
        Figures {
            line_share: last.frame_bytes as f64 / capacity,
            payload_share: tap.payload() as f64 / last.frame_bytes as f64,
            goodput: tap.distinct_payload() as f64 / capacity,
            frames: tap.frames().len() as u64,
            lost_frames,
            frame_bytes: last.frame_bytes,
            payload: tap.distinct_payload(),
            seconds,
            total_seconds: self.ended_ns as f64 / 1e9,
        }
    }
}

/// What a dump took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Share of the line's bytes that carried frames, from the first byte of a frame to the last of a block. A byte is the time
    /// of a byte: an idle line counts against it.
    pub line_share: f64,
    /// Share of these frames' bytes that were bytes of blocks, sent again or not.
    pub payload_share: f64,
    /// Bytes of blocks, each counted once, as a share of what the line could carry in that time.
    pub goodput: f64,
    /// Frames.
    pub frames: u64,
    /// Frames that the target knew to be lost.
    pub lost_frames: u64,
    /// Bytes of frames up to the last byte of a block.
    pub frame_bytes: u64,
    /// Bytes of blocks, each counted once.
    pub payload: u64,
    /// From the first byte of a frame to the last of a block.
    pub seconds: f64,
    /// From the crash until the capture kernel was done.
    pub total_seconds: f64,
}
