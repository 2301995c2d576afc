// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dump itself, from the report to the last frame.

use vmcore::elf_core::CoreHeader;
use vmcore::page_state::PageStateReader;
use vmcore::{DumpLevel, PAGE_SIZE, PageClass, PhysMemory};
use wire::block::RAW_LEN;
use wire::memory_block::Run;
use wire::{BlockKind, BlockWriter, Encoder, Finished, FrameType, Manifest, Next, Summary};

use crate::facts::Facts;
use crate::frame_out::{Buffers, FrameOut};
use crate::manifest::{Ranges, dump_id, fill_ranges, manifest};
use crate::marks::Marks;
use crate::old_notes::OldNotes;
use crate::params::{DumpThen, Params};
use crate::plan::{Cursor, Plan};
use crate::report::{self, REPORT_BYTES};
use crate::survey::{self, PAGE_STATE_MAPS};
use crate::text::Text;
use crate::walk::{PageCounts, Walk};
use crate::{Clock, Error, Inputs, Line, Located, params};

/// Blocks after which the manifest is sent again, for a host that came late: 4 MiB of data.
const MANIFEST_EVERY: u32 = 64;

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
    buffers: Buffers,
    progress: Progress,
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
            buffers: Buffers::new(),
            progress: Progress {
                cursor: Cursor::START,
                pages: PageCounts::new(),
            },
        }
    }
}

/// How far the memory of a dump has been described. Whole blocks only: whoever goes on from here repeats nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    cursor: Cursor,
    pages: PageCounts,
}

/// What a whole dump came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What became of the pages.
    pub pages: PageCounts,
    /// Blocks sent.
    pub blocks: u32,
    /// Bytes of all frames on the line.
    pub line_bytes: u64,
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

/// Reports the crash in plain text, then sends everything.
pub fn run<L: Line, E: Encoder + ?Sized>(
    inputs: &Inputs<'_>,
    memory: &mut impl PhysMemory,
    line: &mut L,
    clock: &impl Clock,
    work: &mut Workspace,
    encoder: &mut E,
) -> Outcome {
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
    let header = parse_header(inputs.elfcorehdr, &mut text);
    if let Some(header) = &header {
        work.notes.gather(header, memory, &mut text);
    }
    let Workspace {
        plan,
        marks,
        notes,
        ranges,
        buffers,
        progress,
    } = work;
    let facts = Facts::decode(notes.bytes(), &mut text);
    survey::add_memory(plan, inputs, header.as_ref(), &facts, &mut text);
    survey::order(plan, header.as_ref(), &facts, &mut text);
    survey::mark(marks, &facts, &mut text);
    let mut page_states = [const { None::<PageStateReader> }; PAGE_STATE_MAPS];
    survey::open_page_states(&mut page_states, memory, &facts, &mut text);
    fill_ranges(ranges, plan, header.as_ref(), &facts);
    if ranges.dropped > 0 {
        text.complain(format_args!(
            "{} memory ranges are not in the manifest: no room",
            ranges.dropped
        ));
    }
    report::write(&facts, header.as_ref(), memory, &params, &mut text);
    if let Err(error) = text.finish() {
        return Outcome {
            then: params.then,
            totals: Err(error),
        };
    }

    let id = dump_id(clock.ticks(), notes.bytes(), &mut buffers.raw);
    let manifest = manifest(id, inputs, header.as_ref(), &facts, params.level);
    let (mut out, raw) = FrameOut::new(line, encoder, buffers, id);
    let level = DumpLevel(u32::from(params.level));
    let mut walk = Walk {
        plan,
        marks,
        page_states: &mut page_states,
        level,
    };
    let totals = send(
        Dump {
            inputs,
            header,
            notes,
            manifest,
            ranges,
            then: params.then,
        },
        &mut walk,
        memory,
        clock,
        progress,
        &mut out,
        raw,
    );
    let failed_parts = walk.failed_parts();
    close(line, &params, totals, failed_parts, inputs.counter_hz);
    Outcome {
        then: params.then,
        totals,
    }
}

/// What is fixed before the first frame.
struct Dump<'a> {
    inputs: &'a Inputs<'a>,
    header: Option<CoreHeader<'a>>,
    notes: &'a OldNotes,
    manifest: Manifest,
    ranges: &'a Ranges,
    then: DumpThen,
}

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
    CoreHeader::parse(bytes)
        .inspect_err(|error| {
            text.complain(format_args!(
                "elfcorehdr at {address:#x} not believed: {error}; all RAM of the device tree is dumped, without registers"
            ));
        })
        .ok()
}

/// Sends all frames.
fn send<L: Line, E: Encoder + ?Sized>(
    dump: Dump<'_>,
    walk: &mut Walk<'_>,
    memory: &mut impl PhysMemory,
    clock: &impl Clock,
    progress: &mut Progress,
    out: &mut FrameOut<'_, L, E>,
    raw: &mut [u8; RAW_LEN],
) -> Result<Totals, Error> {
    let ticks_begin = clock.ticks();
    send_manifest(&dump, out, raw)?;
    if let (Some(header), Some(located)) = (dump.header, dump.inputs.elfcorehdr) {
        let bytes = located.bytes.get(..header.len()).unwrap_or(located.bytes);
        out.segment(BlockKind::ElfHeader, 0, located.address, bytes, raw)?;
    }
    for note in dump.notes.segments() {
        out.segment(BlockKind::Notes, note.index, note.address, note.bytes, raw)?;
    }
    loop {
        let (len, reached) = fill_block(walk, *progress, memory, raw)?;
        if len == 0 {
            break;
        }
        out.block(BlockKind::Memory, raw.get(..len).unwrap_or_default())?;
        *progress = reached;
        if out.blocks().is_multiple_of(MANIFEST_EVERY) {
            send_manifest(&dump, out, raw)?;
        }
    }
    let ticks_end = clock.ticks();
    send_summary(progress.pages, ticks_begin, ticks_end, out)?;
    let next = match dump.then {
        DumpThen::Reboot => Next::Reboot,
        DumpThen::Halt => Next::Halt,
        DumpThen::PowerOff => Next::PowerOff,
        DumpThen::Wait => Next::Wait,
    };
    out.frame(
        FrameType::Finished,
        &Finished {
            next,
            is_cut_short: false,
        }
        .encode(),
    )?;
    let ticks = ticks_end.saturating_sub(ticks_begin);
    Ok(Totals {
        pages: progress.pages,
        blocks: out.blocks(),
        line_bytes: out.line_bytes(),
        ticks,
    })
}

fn send_manifest<L: Line, E: Encoder + ?Sized>(
    dump: &Dump<'_>,
    out: &mut FrameOut<'_, L, E>,
    room: &mut [u8],
) -> Result<(), Error> {
    let ranges = dump.ranges.as_slice();
    for part in 0..Manifest::parts(ranges.len())? {
        let len = dump.manifest.encode_part(ranges, part, room)?;
        out.frame(FrameType::Manifest, room.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

fn send_summary<L: Line, E: Encoder + ?Sized>(
    pages: PageCounts,
    ticks_begin: u64,
    ticks_end: u64,
    out: &mut FrameOut<'_, L, E>,
) -> Result<(), Error> {
    let mut summary = Summary {
        blocks: out.blocks(),
        frames: out.frames(),
        tree_hash: out.tree_hash(),
        line_bytes: out.line_bytes(),
        ticks_begin,
        ticks_end,
        ..Summary::default()
    };
    for (to, from) in summary.pages.iter_mut().zip(pages.by_class()) {
        *to = *from;
    }
    let mut payload = [0; Summary::LEN];
    let len = summary.encode(&mut payload)?;
    out.frame(FrameType::Summary, payload.get(..len).unwrap_or_default())
}

/// Gathers the next block in `raw` and returns its length, 0 at the end, and how far it reaches.
fn fill_block(
    walk: &mut Walk<'_>,
    progress: Progress,
    memory: &mut impl PhysMemory,
    raw: &mut [u8; RAW_LEN],
) -> Result<(usize, Progress), Error> {
    let mut reached = progress;
    let mut block = BlockWriter::new(raw)?;
    while let Some(page) = block.page() {
        let Some(step) = walk.step(reached.cursor, memory, page) else {
            break;
        };
        let is_added = if step.class == PageClass::Data {
            block.commit_page(step.range.start)?
        } else {
            let class = wire::PageClass::from_code(step.class.code())?;
            // A run is at most 1 GiB long where it is scanned; a marked one is cut here and goes on in the next step.
            let pages = u32::try_from(step.range.len().div_euclid(PAGE_SIZE)).unwrap_or(u32::MAX);
            block.add_run(Run {
                pa: step.range.start,
                pages,
                class,
            })?
        };
        if !is_added {
            break;
        }
        reached.pages.add(&step);
        reached.cursor = step.next;
        if walk.plan.is_stage_end(reached.cursor) {
            break;
        }
    }
    Ok((block.finish()?.len(), reached))
}

/// Says in plain text how it went; a line that is stuck by now does not matter any more.
fn close(
    line: &mut impl Line,
    params: &Params,
    totals: Result<Totals, Error>,
    failed_parts: u32,
    counter_hz: u64,
) {
    let mut text = Text::new(line, CLOSING_BYTES);
    if failed_parts > 0 {
        text.say(format_args!(
            "Afterimage: {failed_parts} parts of the page-state map not believed, sent whole"
        ));
    }
    match totals {
        Ok(Totals {
            pages,
            line_bytes,
            ticks,
            ..
        }) => {
            let of = |class| pages.of(class);
            let left_out = of(PageClass::AppData).saturating_add(of(PageClass::Secret));
            let tenths = ticks
                .saturating_mul(10)
                .checked_div(counter_hz)
                .unwrap_or(0);
            text.say(format_args!(
                "Afterimage: dump complete: {} pages sent, {} zero, {} free, {left_out} held back, {} unreadable; {line_bytes} bytes in {}.{} s",
                of(PageClass::Data),
                of(PageClass::Zero),
                of(PageClass::Free),
                of(PageClass::Unreadable),
                tenths.div_euclid(10),
                tenths.rem_euclid(10),
            ));
        }
        Err(error) => text.say(format_args!("Afterimage: dump incomplete: {error}")),
    }
    text.say(format_args!("Afterimage: next: {}", params.then));
    let _nobody_left_to_tell = text.finish();
}
