// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dump from its manifest to its last frame, as often as it is needed.
//!
//! Each pass goes through all blocks in the same order and makes the same ones, because memory no longer changes; what the host
//! has stored by then is not sent. So a host that comes late, or lost what it had, costs a pass and no memory.

use vmcore::elf_core::CoreHeader;
use vmcore::notes::{CORE, Notes};
use vmcore::registers::{NT_PRSTATUS, PrStatus};
use vmcore::{PAGE_SIZE, PhysMemory};
use wire::manifest::{PART_MAX, Pass};
use wire::memory_block::{Run, TABLE_MAX};
use wire::{BlockKind, BlockWriter, Finished, FrameType, Manifest, Moved, PageClass, Summary};

use crate::dump::Totals;
use crate::foreign::ForeignNote;
use crate::granules::Granules;
use crate::index::{PageIndex, PageKey};
use crate::manifest::Ranges;
use crate::old_notes::{OldNote, OldNotes};
use crate::params::Params;
use crate::plan::Cursor;
use crate::send::{Sending, Stop};
use crate::text::Sentence;
use crate::walk::{PageCounts, Walk};
use crate::{Clock, Error, Line, Located, Work};

/// Blocks after which the manifest is sent again, for a host that came late and cannot answer.
const MANIFEST_EVERY: u32 = 64;
/// Time between two last frames, until the host says that it has them, in microseconds.
const FINISHED_US: u64 = 200_000;
/// Last frames that are sent to a host that does not say so.
const FINISHED_FRAMES: u32 = 50;

/// What is fixed before the first frame.
pub(crate) struct Dump<'a> {
    pub(crate) elfcorehdr: Option<(CoreHeader<'a>, Located<'a>)>,
    pub(crate) notes: &'a OldNotes,
    /// What this kernel adds to them.
    pub(crate) foreign: ForeignNote,
    /// The CPU that crashed.
    pub(crate) crashed: Option<PrStatus>,
    pub(crate) manifest: Manifest,
    pub(crate) ranges: &'a Ranges,
    pub(crate) params: &'a Params,
    pub(crate) ticks_begin: u64,
    pub(crate) ticks_entry: u64,
}

/// What remembers pages: finds those that are like others, and those that changed.
pub(crate) struct Finder<'a> {
    pub(crate) index: PageIndex<'a>,
    pub(crate) granules: Granules<'a>,
    pub(crate) scratch: &'a mut [u8; PAGE_SIZE as usize],
}

/// What a pass came to, for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    pages: PageCounts,
    moved: Moved,
}

/// How far the memory of a dump has been described, in whole blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    cursor: Cursor,
    pages: PageCounts,
}

impl Dump<'_> {
    /// Sends everything: once over a perfect line, in rounds when nobody answers, else until the host has it.
    ///
    /// # Errors
    /// [`Error`] of the line.
    pub(crate) fn send<L: Line, C: Clock>(
        &self,
        sending: &mut Sending<'_, L, C>,
        walk: &mut Walk<'_>,
        memory: &mut impl PhysMemory,
        finder: &mut Finder<'_>,
        raw: &mut [u8],
    ) -> Result<Totals, Error> {
        let rounds = if sending.port.is_perfect() {
            1
        } else {
            self.params.rounds
        };
        let (mut round, resume_at) = sending.tomb.round();
        if !sending.port.is_perfect() {
            sending.resume_at = resume_at;
        }
        loop {
            sending.tomb.set_round(round);
            sending.begin_pass();
            finder.index.clear();
            let pass = self.pass((round, rounds), sending, walk, memory, finder, raw);
            let (said, is_silent) = match pass {
                Ok(said) => (said, false),
                Err(Stop::NewHost) => continue,
                Err(Stop::Silent) => (Said::default(), true),
                Err(Stop::Failed(error)) => return Err(error),
            };
            round = round.saturating_add(1);
            sending.resume_at = 0;
            let is_answered = sending.port.target.is_answered();
            if !is_answered && round < rounds {
                continue;
            }
            match self.finish(&said, is_silent, sending) {
                Ok(()) => {}
                Err(Stop::NewHost) => continue,
                // There is nobody left to tell.
                Err(Stop::Silent) => {}
                Err(Stop::Failed(error)) => return Err(error),
            }
            let is_received = is_answered.then_some(!is_silent);
            return Ok(Totals {
                pages: said.pages,
                moved: said.moved,
                blocks: sending.blocks,
                counts: sending.port.target.counts(),
                is_received,
                ticks: sending.port.ticks().saturating_sub(self.ticks_begin),
            });
        }
    }

    /// Goes through all blocks once, and ends when the host has them, or the line when nobody answers.
    fn pass<L: Line, C: Clock>(
        &self,
        (round, rounds): (u32, u32),
        sending: &mut Sending<'_, L, C>,
        walk: &mut Walk<'_>,
        memory: &mut impl PhysMemory,
        finder: &mut Finder<'_>,
        raw: &mut [u8],
    ) -> Result<Said, Stop> {
        self.send_manifest(round, sending)?;
        // What a backtrace of the crashed CPU takes goes first: its registers, what the kernel says of itself, its stack.
        let first = |note: &OldNote<'_>| self.is_crashed(note) || !has_registers(note);
        for note in self.notes.segments().filter(|note| first(note)) {
            sending.segment(BlockKind::Notes, note.index, note.address, note.bytes, raw)?;
        }
        let own = self.foreign.as_bytes();
        if !own.is_empty() {
            // Behind all that the header has.
            let index = self.manifest.note_segments.saturating_sub(1);
            sending.segment(BlockKind::Notes, index, 0, own, raw)?;
        }
        let mut progress = Progress::default();
        let mut is_header_sent = false;
        loop {
            let (len, reached) = fill_block(walk, progress, memory, finder, sending, raw)?;
            let is_over = len == 0;
            if !is_over {
                sending.block(BlockKind::Memory, raw, len)?;
                progress = reached;
            }
            if !is_header_sent {
                is_header_sent = true;
                self.send_rest_of_notes(sending, raw, first)?;
            }
            if is_over {
                break;
            }
            if walk.plan.is_stage_end(progress.cursor) {
                sending.port.target.close_group();
            }
            let is_time = sending.blocks.is_multiple_of(MANIFEST_EVERY);
            if is_time && !sending.port.target.is_answered() {
                self.send_manifest(round, sending)?;
            }
        }
        self.send_failures(sending, raw)?;
        sending.port.target.close_group();
        // Reading all again takes as long as reading it: once, in the last round, while the last blocks are on their way.
        let is_last = sending.port.target.is_answered() || round.saturating_add(1) >= rounds;
        let moved = if is_last {
            sending.tomb.reading_again();
            let page = raw.get_mut(..PAGE_SIZE as usize).unwrap_or_default();
            finder.granules.compare(walk, memory, page, |pages| {
                sending.check()?;
                sending.port.pump(Work::Pages(pages)).map_err(Stop::from)
            })?
        } else {
            Moved::default()
        };
        sending.wait(|target, _| target.is_drained())?;
        let said = Said {
            pages: progress.pages,
            moved,
        };
        self.send_summary(&said, sending)?;
        sending.port.target.close_group();
        Ok(said)
    }

    /// Says what was left out because the capture kernel failed at it.
    fn send_failures<L: Line, C: Clock>(
        &self,
        sending: &mut Sending<'_, L, C>,
        raw: &mut [u8],
    ) -> Result<(), Stop> {
        for (number, skip) in (0..).zip(sending.tomb.skips()) {
            let sentence = Sentence::new(format_args!("{skip}"));
            sending.segment(BlockKind::Text, number, 0, sentence.as_bytes(), raw)?;
        }
        Ok(())
    }

    fn send_rest_of_notes<L: Line, C: Clock>(
        &self,
        sending: &mut Sending<'_, L, C>,
        raw: &mut [u8],
        is_sent: impl Fn(&OldNote<'_>) -> bool,
    ) -> Result<(), Stop> {
        if let Some((header, located)) = &self.elfcorehdr {
            let bytes = located.bytes.get(..header.len()).unwrap_or(located.bytes);
            sending.segment(BlockKind::ElfHeader, 0, located.address, bytes, raw)?;
        }
        for note in self.notes.segments().filter(|note| !is_sent(note)) {
            sending.segment(BlockKind::Notes, note.index, note.address, note.bytes, raw)?;
        }
        Ok(())
    }

    /// Tells whether a note buffer is that of the CPU that crashed.
    fn is_crashed(&self, note: &OldNote<'_>) -> bool {
        self.crashed.is_some() && registers(note) == self.crashed
    }

    fn send_manifest<L: Line, C: Clock>(
        &self,
        round: u32,
        sending: &mut Sending<'_, L, C>,
    ) -> Result<(), Stop> {
        let ranges = self.ranges.as_slice();
        let pass = Pass {
            session: sending.port.target.session(),
            round: u8::try_from(round).unwrap_or(u8::MAX),
        };
        let mut payload = [0; PART_MAX];
        for part in 0..Manifest::parts(ranges.len())? {
            let len = self
                .manifest
                .encode_part(ranges, part, pass, &mut payload)?;
            let payload = payload.get(..len).unwrap_or_default();
            sending.port.control(FrameType::Manifest, payload)?;
        }
        Ok(())
    }

    fn send_summary<L: Line, C: Clock>(
        &self,
        said: &Said,
        sending: &mut Sending<'_, L, C>,
    ) -> Result<(), Stop> {
        let counts = sending.port.target.counts();
        let summary = Summary {
            blocks: sending.blocks,
            frames: sending.port.target.frames(),
            pages: *said.pages.by_class(),
            tree_hash: sending.tree.value(),
            line_bytes: counts.line_bytes,
            ticks_begin: self.ticks_begin,
            ticks_end: sending.port.ticks(),
            ticks_entry: self.ticks_entry,
            moved: said.moved,
        };
        let mut payload = [0; Summary::LEN_MAX];
        let len = summary.encode(&mut payload)?;
        let payload = payload.get(..len).unwrap_or_default();
        Ok(sending.port.control(FrameType::Summary, payload)?)
    }

    /// Says what comes next, until the host has heard it.
    fn finish<L: Line, C: Clock>(
        &self,
        said: &Said,
        is_silent: bool,
        sending: &mut Sending<'_, L, C>,
    ) -> Result<(), Stop> {
        let finished = Finished {
            next: self.params.then.on_the_wire(),
            is_cut_short: is_silent,
        };
        let frames = if sending.port.target.is_answered() && !is_silent {
            FINISHED_FRAMES
        } else {
            1
        };
        for number in 0..frames {
            if number > 0 {
                // Either may have been lost.
                self.send_manifest(0, sending)?;
                self.send_summary(said, sending)?;
            }
            sending
                .port
                .control(FrameType::Finished, &finished.encode())?;
            let until = sending.port.now_us().saturating_add(FINISHED_US);
            sending.port.flush()?;
            if !is_silent && sending.port.target.is_answered() {
                sending.wait(|target, now| target.has_finished() || now >= until)?;
            }
            if sending.port.target.has_finished() {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the registers in a note buffer, if it is that of a CPU.
fn registers(note: &OldNote<'_>) -> Option<PrStatus> {
    let status = Notes::new(note.bytes).find(|note| note.is(CORE, NT_PRSTATUS))?;
    PrStatus::decode(status.desc).ok()
}

fn has_registers(note: &OldNote<'_>) -> bool {
    registers(note).is_some()
}

/// Gathers the next block in `raw` and returns its length, 0 at the end, and how far it reaches.
fn fill_block<L: Line, C: Clock>(
    walk: &mut Walk<'_>,
    progress: Progress,
    memory: &mut impl PhysMemory,
    finder: &mut Finder<'_>,
    sending: &mut Sending<'_, L, C>,
    raw: &mut [u8],
) -> Result<(usize, Progress), Stop> {
    let mut reached = progress;
    let number = sending.blocks;
    let skipped = sending.tomb.skipped_block(number);
    let data_max = raw
        .len()
        .saturating_sub(TABLE_MAX)
        .div_euclid(wire::PAGE_SIZE);
    let mut left_out = 0_usize;
    let mut block = BlockWriter::new(raw)?;
    let ram = walk.plan.ram();
    while let Some(page) = block.page() {
        let Some(step) = walk.step(reached.cursor, number, memory, page) else {
            break;
        };
        let pages = step.range.len().div_euclid(PAGE_SIZE);
        let looked_at = if step.class.is_by_account() { 0 } else { pages };
        let looked_at = u32::try_from(looked_at).unwrap_or(u32::MAX);
        sending.port.pump(Work::Pages(looked_at))?;
        sending.fault_in_reading(number);
        let mut class = on_the_wire(step.class);
        let key = (class == PageClass::Data).then(|| PageKey::of(page));
        let is_added = if let Some(key) = key {
            match find_like(finder, key, page, memory) {
                Some(source) => {
                    class = PageClass::Duplicate;
                    block.add_run(Run::duplicate(step.range.start, source))?
                }
                // The block ends where it would have ended with its bytes.
                None if skipped.is_some() => {
                    class = PageClass::Skipped;
                    if skipped == Some(true) {
                        finder.index.insert(key, step.range.start);
                    }
                    left_out = left_out.saturating_add(1);
                    left_out <= data_max && block.add_run(Run::new(step.range.start, 1, class))?
                }
                None => {
                    let is_added = block.commit_page(step.range.start)?;
                    if is_added {
                        finder.index.insert(key, step.range.start);
                    }
                    is_added
                }
            }
        } else {
            let pages = u32::try_from(pages).unwrap_or(u32::MAX);
            block.add_run(Run::new(step.range.start, pages, class))?
        };
        if !is_added {
            break;
        }
        let position = reached.pages.total();
        finder.granules.add(position, step.range, key, ram);
        reached.pages.add(class, pages);
        reached.cursor = step.next;
        if walk.plan.is_stage_end(reached.cursor) {
            break;
        }
    }
    Ok((block.finish()?, reached))
}

/// Returns what a class is called on the wire.
const fn on_the_wire(class: vmcore::PageClass) -> PageClass {
    match class {
        vmcore::PageClass::Data => PageClass::Data,
        vmcore::PageClass::Zero => PageClass::Zero,
        vmcore::PageClass::Free => PageClass::Free,
        vmcore::PageClass::AppData => PageClass::AppData,
        vmcore::PageClass::Secret => PageClass::Secret,
        vmcore::PageClass::Unreadable => PageClass::Unreadable,
        vmcore::PageClass::Cache => PageClass::Cache,
        vmcore::PageClass::PrivateCache => PageClass::PrivateCache,
        vmcore::PageClass::User => PageClass::User,
        // What is lost on the line no sender knows.
        vmcore::PageClass::Skipped | vmcore::PageClass::Lost => PageClass::Skipped,
    }
}

/// Returns the address of a page that was sent and holds what `page` holds.
fn find_like(
    finder: &mut Finder<'_>,
    key: PageKey,
    page: &[u8],
    memory: &mut impl PhysMemory,
) -> Option<u64> {
    let candidates = finder.index.candidates(key);
    candidates.into_iter().flatten().find(|&address| {
        let is_read = memory.read(address, &mut finder.scratch[..]).is_ok();
        is_read && finder.scratch[..] == *page
    })
}
