// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dump itself, from the report to the last frame.

use core::cell::Cell;
use core::sync::atomic::AtomicU64;

use vmcore::elf_core::CoreHeader;
use vmcore::linux::Buffers;
use vmcore::page_state::PageStateReader;
use vmcore::{DumpLevel, PAGE_SIZE, PhysMemory};
use wire::block::TreeHash;
use wire::lzma::Encoder;
use wire::target::{Memory, Tables};
use wire::{Finished, OneWay, PageClass, Target, frame};

use crate::effort::Controller;
use crate::facts::Facts;
use crate::foreign::{self, ForeignNote};
use crate::granules::Granules;
use crate::index::PageIndex;
use crate::manifest::{Ranges, dump_id, fill_ranges, manifest};
use crate::marks::Marks;
use crate::old_notes::OldNotes;
use crate::params::{DumpEffort, DumpThen, Params};
use crate::pass::{Dump, Finder};
use crate::plan::Plan;
use crate::port::Port;
use crate::prompt::{self, Command};
use crate::report::{self, REPORT_BYTES};
use crate::room::Room;
use crate::send::Sending;
use crate::survey::{self, PAGE_STATE_MAPS};
use crate::text::Text;
use crate::tombstone::{Tombstone, WORDS};
use crate::walk::{PageCounts, Walk};
use crate::{Clock, Error, Inputs, Line, Located, params};

/// Bytes of plain text after the last frame.
const CLOSING_BYTES: usize = 512;

/// The large buffers of a dump, made once: nothing is allocated after a crash. For one [`run`].
///
/// All zeros when new, so that a `static` one takes no room in the Image.
#[derive(Debug)]
pub struct Workspace {
    plan: Plan,
    marks: Marks,
    notes: OldNotes,
    ranges: Ranges,
    scratch: [u8; PAGE_SIZE as usize],
    buffers: Buffers,
    tables: Tables,
    words: [AtomicU64; WORDS],
    survivor: Option<&'static [AtomicU64; WORDS]>,
    provoke: Option<fn()>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workspace {
    /// Returns an empty workspace, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            plan: Plan::new(),
            marks: Marks::new(),
            notes: OldNotes::new(),
            ranges: Ranges::new(),
            scratch: [0; PAGE_SIZE as usize],
            buffers: Buffers::new(),
            tables: Tables::new(),
            words: [const { AtomicU64::new(0) }; WORDS],
            survivor: None,
            provoke: None,
        }
    }

    /// Keeps what is to be known after a failure of the capture kernel itself in `words`, which a new start leaves as they are;
    /// `abort` makes the fault that `dump_fault=` may ask for.
    pub fn survive(&mut self, words: &'static [AtomicU64; WORDS], abort: fn()) {
        (self.survivor, self.provoke) = (Some(words), Some(abort));
    }
}

/// What a whole dump came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What became of the pages.
    pub pages: PageCounts,
    /// Memory that changed while it was dumped.
    pub moved: wire::Moved,
    /// Blocks of it.
    pub blocks: u32,
    /// What went over the line for it.
    pub counts: wire::target::Counts,
    /// Whether a host has all of it; `None` when nobody answered.
    pub is_received: Option<bool>,
    /// Ticks from the first frame to the last.
    pub ticks: u64,
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the machine is to do now.
    pub then: DumpThen,
    /// What was sent, or why the dump ended early.
    pub totals: Result<Totals, Error>,
}

/// Reports the crash in plain text, then sends everything, as often as it takes.
pub fn run<L: Line>(
    inputs: &Inputs<'_>,
    memory: &mut impl PhysMemory,
    line: &mut L,
    clock: &impl Clock,
    work: &mut Workspace,
    room: Room<'_>,
    encoder: &mut Encoder,
) -> Outcome {
    let tomb = Tombstone::begin(work.survivor.unwrap_or(&work.words));
    let mut text = Text::new(line, REPORT_BYTES);
    text.say(format_args!(
        "Afterimage: a kernel crashed; this is the capture kernel"
    ));
    // Early, because the report may be cut.
    text.say(format_args!(
        "Afterimage: to capture: afterimage receive LINK -o vmcore"
    ));
    let params = params::parse(inputs.bootargs, |problem| {
        text.complain(format_args!("{problem}"))
    });
    tomb.set_then(params.then);
    for skip in tomb.skips() {
        text.say(format_args!("Afterimage: it {skip}"));
    }
    if tomb.has_failed_again() {
        text.complain(format_args!(
            "it failed when it read memory again: what changed meanwhile is not known"
        ));
    }
    if tomb.is_closing() {
        return end_failed(&tomb, text);
    }
    let elfcorehdr = inputs.elfcorehdr.filter(|_| !tomb.is_header_suspect());
    let header = parse_header(elfcorehdr, &mut text);
    if let Some(header) = &header {
        work.notes.gather(header, memory, &mut text);
    }
    let Workspace {
        plan,
        marks,
        notes,
        ranges,
        scratch,
        buffers,
        tables,
        provoke,
        ..
    } = work;
    let facts = Facts::decode(notes.bytes(), &mut text);
    survey::add_memory(plan, inputs, header.as_ref(), &facts, &mut text);
    foreign::leave_out(plan, inputs.foreign, &mut text);
    survey::order(plan, header.as_ref(), &facts, &mut text);
    survey::mark(marks, &facts, &mut text);
    let mut page_states = [const { None::<PageStateReader> }; PAGE_STATE_MAPS];
    survey::open_page_states(&mut page_states, memory, &facts, &mut text);
    let level = DumpLevel(u32::from(params.level));
    let linux = survey::open_linux(buffers, memory, &facts, level, &mut text);
    fill_ranges(ranges, plan, header.as_ref(), &facts);
    if ranges.dropped > 0 {
        text.complain(format_args!(
            "{} memory ranges are not in the manifest: no room",
            ranges.dropped
        ));
    }
    // Who reads it has it, and it may be what failed.
    if tomb.failures() == 0 {
        foreign::write(inputs.foreign, &mut text);
        report::write(&facts, header.as_ref(), memory, &params, &mut text);
    }
    if let Err(error) = text.finish() {
        return Outcome {
            then: params.then,
            totals: Err(error),
        };
    }

    let (id, ticks_begin) = tomb.dump().unwrap_or_else(|| {
        let ticks = clock.ticks();
        (dump_id(ticks, notes.bytes(), room.raw), ticks)
    });
    tomb.set_dump(id, ticks_begin);
    let manifest = manifest(id, inputs, header.as_ref(), &facts, params.level);
    let mut target = Target::new(
        frame::short_id(id),
        Memory {
            tables,
            ring: Cell::from_mut(room.ring).as_slice_of_cells(),
            maps: room.maps,
            parity: room.parity,
        },
        !line.is_perfect(),
    );
    target.go_on_at(tomb.next_sequence());
    let rate = line.rate();
    let effort = match params.effort {
        DumpEffort::Auto => Controller::new(rate),
        DumpEffort::Stored => Controller::fixed(None),
        DumpEffort::Fixed(effort) => Controller::fixed(Some(effort)),
    };
    let mut sending = Sending {
        port: Port::new(line, clock, inputs.counter_hz, target),
        encoder,
        words: room.encoder,
        effort,
        timeout_us: u64::from(params.timeout_s).saturating_mul(1_000_000),
        blocks: 0,
        tree: TreeHash::new(),
        tomb,
        resume_at: 0,
        fault: params.fault.zip(*provoke),
    };
    sending.port.allow_rates();
    let mut walk = Walk {
        plan,
        marks,
        page_states: &mut page_states,
        linux,
        level,
        tomb: Some(tomb),
    };
    let mut dump = Dump {
        elfcorehdr: header.zip(elfcorehdr),
        notes,
        foreign: ForeignNote::new(inputs.foreign),
        crashed: facts.crashed_cpu(),
        manifest,
        ranges,
        params: &params,
        ticks_begin,
        ticks_entry: inputs.entry_ticks,
    };
    let mut finder = Finder {
        index: PageIndex::new(room.index),
        granules: Granules::new(
            room.hashes,
            plan.ram(),
            params.is_rechecked && !tomb.has_failed_again(),
        ),
        scratch,
    };
    loop {
        let totals = dump.send(&mut sending, &mut walk, memory, &mut finder, room.raw);
        let unread = (walk.failed_parts(), walk.first_unread());
        let line = sending.port.line();
        if line.rate() != rate {
            // Whoever reads on expects the rate of before.
            let _was_settable_before = line.set_rate(rate);
        }
        tomb.over();
        close(line, &params, totals, unread, inputs.counter_hz);
        let then = match params.then {
            DumpThen::Wait => wait(line, clock, inputs.counter_hz, |text| {
                report::write(&facts, header.as_ref(), memory, &params, text);
            }),
            then => Some(then),
        };
        if let Some(then) = then {
            return Outcome { then, totals };
        }
        tomb.again();
        finder.granules.restart();
        sending.port.restart();
        sending.port.allow_rates();
        dump.ticks_begin = clock.ticks();
    }
}

/// Asks what is next; `None` is the dump once more.
fn wait<L: Line>(
    line: &mut L,
    clock: &impl Clock,
    counter_hz: u64,
    mut report: impl FnMut(&mut Text<'_, L>),
) -> Option<DumpThen> {
    loop {
        match prompt::ask(line, clock, counter_hz) {
            Command::Then(then) => return Some(then),
            Command::Again => return None,
            _ => {
                let mut text = Text::new(line, REPORT_BYTES);
                report(&mut text);
                // Who did not see it asks again.
                let _lost = text.finish();
            }
        }
    }
}

/// Ends the dump of a capture kernel that failed too often: says so, in words and as a last frame.
fn end_failed<L: Line>(tomb: &Tombstone<'_>, mut text: Text<'_, L>) -> Outcome {
    let error = Error::Failed {
        failures: tomb.failures(),
    };
    let then = tomb.then();
    text.say(format_args!("Afterimage: dump incomplete: {error}"));
    text.say(format_args!("Afterimage: next: {then}"));
    let (id, _) = tomb.dump().unwrap_or_default();
    let mut sender = OneWay::new(id, |bytes: &[u8]| text.send_frame(bytes));
    sender.go_on_at(tomb.next_sequence());
    let finished = Finished {
        next: then.on_the_wire(),
        is_cut_short: true,
    };
    // Either may be lost. Its length is fixed.
    for _ in 0..2 {
        let _fits = sender.finish(finished);
    }
    tomb.over();
    let _nobody_left_to_tell = text.finish();
    Outcome {
        then,
        totals: Err(error),
    }
}

/// Program headers that are named one by one when they are left out.
const WRAPPING_SAID: usize = 4;

fn parse_header<'a>(
    elfcorehdr: Option<Located<'a>>,
    text: &mut Text<'_, impl Line>,
) -> Option<CoreHeader<'a>> {
    let Some(Located { address, bytes }) = elfcorehdr else {
        text.complain(format_args!(
            "no elfcorehdr: all RAM of the device tree is dumped, without registers"
        ));
        return None;
    };
    let header = CoreHeader::parse(bytes)
        .inspect_err(|error| {
            text.complain(format_args!(
                "elfcorehdr at {address:#x} not believed: {error}; all RAM of the device tree is dumped, without registers"
            ));
        })
        .ok()?;
    for (index, error) in header.wrapping().take(WRAPPING_SAID) {
        text.complain(format_args!(
            "elfcorehdr at {address:#x}: program header {index} left out: {error}"
        ));
    }
    Some(header)
}

/// Says what changed while it was dumped.
fn say_moved(moved: &wire::Moved, text: &mut Text<'_, impl Line>) {
    if moved.granules > 0 {
        text.say(format_args!(
            "Afterimage: memory changed while it was dumped: {} times {} KiB, the first at {:#x}",
            moved.granules,
            u64::from(moved.granule_pages).saturating_mul(PAGE_SIZE) >> 10,
            moved.ranges().first().map_or(0, |range| range.start),
        ));
    }
}

/// Says in plain text how it went; a line that is stuck by now does not matter any more.
fn close(
    line: &mut impl Line,
    params: &Params,
    totals: Result<Totals, Error>,
    (failed_parts, first_unread): (u32, Option<u64>),
    counter_hz: u64,
) {
    let mut text = Text::new(line, CLOSING_BYTES);
    if failed_parts > 0 {
        text.say(format_args!(
            "Afterimage: {failed_parts} parts of the page-state map not believed, sent whole"
        ));
    }
    if let Some(frame) = first_unread {
        text.say(format_args!(
            "Afterimage: struct page of page frame {frame:#x} and perhaps others could not be read: their pages were sent"
        ));
    }
    match totals {
        Ok(Totals {
            pages,
            counts,
            ticks,
            is_received,
            moved,
            ..
        }) => {
            let of = |class| pages.of(class);
            let left_out = of(PageClass::AppData).saturating_add(of(PageClass::Secret));
            let cache = of(PageClass::Cache).saturating_add(of(PageClass::PrivateCache));
            let line_bytes = counts.line_bytes;
            let tenths = ticks
                .saturating_mul(10)
                .checked_div(counter_hz)
                .unwrap_or(0);
            text.say(format_args!(
                "Afterimage: dump {}: {} pages sent, {} like others, {} zero, {} free, {cache} cache, {} user, {left_out} held back, {} unreadable; {line_bytes} bytes in {}.{} s",
                match is_received {
                    Some(true) => "complete, received whole",
                    Some(false) => "incomplete, the host went silent",
                    None => "complete, nobody answered",
                },
                of(PageClass::Data),
                of(PageClass::Duplicate),
                of(PageClass::Zero),
                of(PageClass::Free),
                of(PageClass::User),
                of(PageClass::Unreadable),
                tenths.div_euclid(10),
                tenths.rem_euclid(10),
            ));
            say_moved(&moved, &mut text);
        }
        Err(error) => text.say(format_args!("Afterimage: dump incomplete: {error}")),
    }
    text.say(format_args!("Afterimage: next: {}", params.then));
    let _nobody_left_to_tell = text.finish();
}
