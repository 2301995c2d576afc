// SPDX-License-Identifier: MIT OR Apache-2.0
//! One dump being received: frames in, a file out.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmcore::PageClass;
use vmcore::afterimage_notes::Gap;
use wire::assembler::{Assembler, Block, Outcome};
use wire::manifest::Range;
use wire::offer::PageHash;
use wire::{BaudChange, BlockKind, Frame, FrameType, Manifest};

use crate::answering::Answering;
use crate::early_backtrace::EarlyBacktraces;
use crate::error::{Error, Result};
use crate::inspect::{MINIMAL, skipped};
use crate::page_library::PageLibrary;
use crate::progress::Progress;
use crate::store::Store;
use crate::symbols::Symbols;

/// Most bytes of blocks that are held until the manifest says where they belong.
const HELD_MAX: usize = 64 << 20;
/// Silence after a summary, or the last frame, of a target that hears nobody: it has ended.
const AFTER_END: Duration = Duration::from_secs(5);

/// A dump being received.
#[derive(Debug)]
pub struct Dump {
    assembler: Assembler,
    store: Option<Store>,
    /// The protocol's version, of the latest frame.
    version: u8,
    /// `None` when the line is a recording.
    answering: Option<Answering>,
    /// The latest frame was one of those that end the dump, or a round of it.
    is_at_end: bool,
    held: Vec<Block>,
    held_bytes: usize,
    faults: Vec<String>,
    damaged: u64,
    started: Instant,
    last_frame: Instant,
    library: Option<Arc<PageLibrary>>,
    backtraces: Option<EarlyBacktraces>,
    /// Blocks of notes, and of any kind, that came since backtraces were looked for.
    new_blocks: (bool, bool),
    progress: Progress,
}

/// What a frame, and those that it brought back, meant for the dump as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// The manifest is complete; now the file can be created.
    pub has_begun: bool,
    /// It is over.
    pub is_over: bool,
    /// The target says this of the line's speed.
    pub baud: Option<BaudChange>,
}

/// A dump that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The file's length in bytes.
    pub len: u64,
    /// Time from the first frame.
    pub elapsed: Duration,
    /// What is missing though it was sent, a line each.
    pub faults: Vec<String>,
    /// Number of gaps, those that were asked for included.
    pub gaps: usize,
}

impl Dump {
    /// Starts with the dump of this short id; `session` is this run's number, where the line can be answered.
    #[must_use]
    pub fn new(short_id: u32, session: Option<u32>) -> Self {
        let now = Instant::now();
        Self {
            assembler: Assembler::new(short_id),
            store: None,
            version: 0,
            answering: session.map(|session| Answering::new(short_id, session)),
            is_at_end: false,
            held: Vec::new(),
            held_bytes: 0,
            faults: Vec::new(),
            damaged: 0,
            started: now,
            last_frame: now,
            library: None,
            backtraces: None,
            new_blocks: (false, false),
            progress: Progress::hidden(),
        }
    }

    /// Returns the short id.
    #[must_use]
    pub const fn short_id(&self) -> u32 {
        self.assembler.dump()
    }

    /// Returns the manifest, once it is there.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Manifest> {
        self.assembler.manifest()
    }

    /// Returns the memory ranges, once the manifest is there.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        self.assembler.ranges()
    }

    /// Returns the progress bar.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Returns the bytes of memory that the manifest announced.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::ram_bytes)
    }

    /// Returns until when its next frame has to come, where `limit` is the longest silence.
    #[must_use]
    pub fn silent_at(&self, limit: Duration) -> Option<Instant> {
        let limit = if self.is_at_end && !self.is_heard() {
            limit.min(AFTER_END)
        } else {
            limit
        };
        self.last_frame.checked_add(limit)
    }

    /// Returns whether the target sends what we say that we lack.
    fn is_heard(&self) -> bool {
        let session = self.answering.as_ref().map(Answering::session);
        session == Some(self.assembler.pass().session)
    }

    /// Returns the bytes that are to be sent to the target now.
    pub fn answer(&mut self, now: Instant) -> Vec<u8> {
        let answering = self.answering.as_mut();
        answering.map_or_else(Vec::new, |answering| answering.take(now))
    }

    /// Takes the answers out, for the time after the end.
    pub const fn take_answering(&mut self) -> Option<Answering> {
        self.answering.take()
    }

    /// Counts a frame that did not arrive whole.
    pub fn count_damage(&mut self) {
        self.damaged = self.damaged.saturating_add(1);
    }

    /// Takes in a frame of this dump; a trouble with its payload is told to `trouble`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn accept(&mut self, frame: &Frame<'_>, trouble: &mut dyn FnMut(String)) -> Result<Steps> {
        let mut steps = Steps::default();
        if matches!(frame.kind(), Some(FrameType::Status | FrameType::Want)) {
            // What a host said: an echo.
            return Ok(steps);
        }
        self.last_frame = Instant::now();
        self.version = frame.header.version;
        // A target of version 1 does not listen.
        if let Some(answering) = self.answering.as_mut().filter(|_| frame.header.version > 1) {
            answering.answers().frame(frame.header.sequence);
        }
        self.accept_one(frame, &mut steps, trouble)?;
        while let Some((header, payload)) = self.assembler.next_recovered() {
            let payload = &payload;
            self.accept_one(&Frame { header, payload }, &mut steps, trouble)?;
        }
        if let Some(answering) = &mut self.answering {
            answering.answers().rejected(self.assembler.rejected());
        }
        self.show_progress();
        if let Some(store) = &mut self.store {
            store.checkpoint()?;
        }
        Ok(steps)
    }

    fn accept_one(
        &mut self,
        frame: &Frame<'_>,
        steps: &mut Steps,
        trouble: &mut dyn FnMut(String),
    ) -> Result<()> {
        let outcome = match self.assembler.accept(frame) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.count_damage();
                trouble(format!("frame {}: {error}", frame.header.sequence));
                return Ok(());
            }
        };
        self.is_at_end = match frame.kind() {
            Some(FrameType::Summary | FrameType::Finished) => true,
            Some(FrameType::Poll | FrameType::Baud) => self.is_at_end,
            _ => false,
        };
        match outcome {
            Outcome::Manifest => steps.has_begun = true,
            Outcome::Block(block) if self.store.is_some() => self.keep(&block, trouble)?,
            Outcome::Block(block) => self.hold(block, trouble),
            Outcome::Summary => {
                steps.is_over |= self.assembler.verdict().is_whole();
                self.asked(steps.is_over);
            }
            Outcome::Finished(finished) => {
                steps.is_over |= finished.is_cut_short || !self.has_hope();
                self.asked(steps.is_over);
            }
            Outcome::Poll => self.asked(false),
            Outcome::Offer(block) => {
                let library = self.library.as_ref();
                let find = |hash: &PageHash| library?.find(hash);
                let want = self.assembler.answer(block, find);
                if let (Some(answering), Some(want)) = (&mut self.answering, want) {
                    answering.want(&want);
                }
            }
            Outcome::Baud(change) => steps.baud = Some(change),
            Outcome::Nothing | Outcome::OtherDump(_) => {}
        }
        Ok(())
    }

    fn asked(&mut self, is_over: bool) {
        if let Some(answering) = &mut self.answering {
            answering.answers().asked(is_over);
        }
    }

    /// Returns whether more can come after the last frame: what it lacks, when it can say so.
    fn has_hope(&self) -> bool {
        let is_complete = self.assembler.summary().is_some() && self.assembler.missing().is_empty();
        self.answering.is_some() && !is_complete
    }

    /// Stores a block, and says so.
    fn keep(&mut self, block: &Block, trouble: &mut dyn FnMut(String)) -> Result<()> {
        if let Some(store) = &mut self.store {
            store.store(block, trouble)?;
            // The hash of version 1 is over other bytes; nobody would ask for its blocks either.
            if self.version > 1 {
                store.note(block)?;
            }
        }
        if let Some(answering) = &mut self.answering {
            answering.answers().stored(block.number);
        }
        self.note_new(block);
        Ok(())
    }

    fn note_new(&mut self, block: &Block) {
        self.new_blocks.0 |= block.kind == BlockKind::Notes;
        self.new_blocks.1 = true;
    }

    /// Says up to which rate the line can be set here, in baud.
    pub fn set_baud_max(&mut self, rate: u32) {
        if let Some(answering) = &mut self.answering {
            answering.answers().set_baud_max(rate);
        }
    }

    /// Says something of a change of speed.
    pub fn say_baud(&mut self, change: BaudChange) {
        if let Some(answering) = &mut self.answering {
            answering.say(FrameType::Baud, &change.encode());
        }
    }

    /// Has pages offered by the target from now on, and looked up in `library`.
    pub fn look_up_in(&mut self, library: Arc<PageLibrary>) {
        if let Some(answering) = self.answering.as_mut().filter(|_| !library.is_empty()) {
            answering.answers().want_offers();
            answering.answers().asked(false);
            self.library = Some(library);
        }
    }

    /// Has the backtraces told from now on.
    pub fn tell_backtraces(&mut self, symbols: Option<Symbols>) {
        self.backtraces = Some(EarlyBacktraces::new(symbols));
    }

    /// Returns the backtraces that what arrived since the last time is enough for; at the end, `is_last`, all the others too.
    pub fn backtraces(&mut self, is_last: bool) -> Vec<String> {
        let (Some(backtraces), Some(store)) = (&mut self.backtraces, &self.store) else {
            return Vec::new();
        };
        let (has_new_notes, has_new_blocks) = std::mem::take(&mut self.new_blocks);
        let mut lines = Vec::new();
        if has_new_blocks {
            lines = backtraces.look(store, has_new_notes);
        }
        if is_last {
            lines.extend(backtraces.finish(store));
        }
        lines
    }

    /// Creates the file at `part` and stores what was held for it.
    ///
    /// # Errors
    ///
    /// When the manifest makes no sense or the file cannot be written.
    pub fn create(&mut self, part: &Path, trouble: &mut dyn FnMut(String)) -> Result<()> {
        let Some(manifest) = self.assembler.manifest() else {
            return Ok(());
        };
        let store = Store::create(part, manifest, self.assembler.ranges())?;
        self.begin(store, trouble)
    }

    /// Goes on with the file at `part`, which holds some of this dump; returns how many blocks are there, of how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn resume(
        &mut self,
        part: &Path,
        trouble: &mut dyn FnMut(String),
    ) -> Result<(usize, usize)> {
        let Some(manifest) = self.assembler.manifest() else {
            return Ok((0, 0));
        };
        let (mut store, entries) = Store::reopen(part, manifest, self.assembler.ranges())?;
        let mut named = BTreeSet::new();
        // Some may have come again meanwhile.
        let mut arrived: BTreeSet<u32> = self.assembler.done().map(|(number, _)| number).collect();
        for entry in &entries {
            named.insert(entry.number);
            if arrived.contains(&entry.number) {
                continue;
            }
            let Some(block) = store.rebuild(entry)? else {
                continue;
            };
            if self.assembler.restore(&block, entry.hash).is_err() {
                continue;
            }
            // What there was to tell of it was told then.
            store.store(&block, &mut |_| ())?;
            arrived.insert(block.number);
            if let Some(answering) = &mut self.answering {
                answering.answers().stored(block.number);
            }
            self.note_new(&block);
        }
        store.write_headers()?;
        self.begin(store, trouble)?;
        Ok((named.intersection(&arrived).count(), named.len()))
    }

    fn begin(&mut self, store: Store, trouble: &mut dyn FnMut(String)) -> Result<()> {
        self.progress = Progress::start(store.ram_bytes());
        self.store = Some(store);
        self.held_bytes = 0;
        for block in std::mem::take(&mut self.held) {
            self.keep(&block, trouble)?;
        }
        Ok(())
    }

    fn hold(&mut self, block: Block, trouble: &mut dyn FnMut(String)) {
        let bytes = self.held_bytes.saturating_add(block.raw.len());
        if bytes > HELD_MAX {
            trouble(format!(
                "block {} came before the manifest and could not be kept",
                block.number
            ));
            self.assembler.forget(&block);
            return;
        }
        self.held_bytes = bytes;
        self.held.push(block);
    }

    fn show_progress(&self) {
        let pages = self
            .assembler
            .pages()
            .iter()
            .fold(0_u64, |sum, n| sum.saturating_add(*n));
        self.progress
            .set(pages.saturating_mul(wire::PAGE_SIZE as u64), self.damaged);
    }

    /// Ends the dump, whole or not, and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] when no manifest came, since nothing can be written then; or when the file cannot be.
    pub fn end(mut self, path: &Path, overwrite: bool) -> Result<Ended> {
        self.progress.clear();
        let Some(store) = self.store.take() else {
            let blocks = self.assembler.blocks_done();
            return Err(Error::Manifest(format!(
                "it did not arrive ({blocks} blocks did)"
            )));
        };
        let gaps = store.gaps();
        let of_notes = |number| format!("note buffer {number} is missing in part");
        let partial: Vec<String> = store.partial_notes().map(of_notes).collect();
        self.judge(&gaps, store.has_no_notes(), partial);
        let (summary, is_vouched_for) = (self.assembler.summary(), self.faults.is_empty());
        let len = store.finish(path, overwrite, &gaps, summary, is_vouched_for)?;
        Ok(Ended {
            len,
            elapsed: self.started.elapsed(),
            faults: self.faults,
            gaps: gaps.len(),
        })
    }

    /// Lists what is missing: what concerns all of it, blocks by number, then the memory that nothing is known of.
    fn judge(&mut self, gaps: &[Gap], has_no_notes: bool, partial_notes: Vec<String>) {
        let verdict = self.assembler.verdict();
        if self.assembler.finished().is_some_and(|f| f.is_cut_short) {
            self.faults
                .push("the capture kernel gave up before the end".to_owned());
        }
        if has_no_notes {
            self.faults.push("the registers did not arrive".to_owned());
        }
        if !verdict.has_summary {
            self.faults
                .push("the summary did not arrive: the dump ended early".to_owned());
        } else if verdict.missing.is_empty() && !verdict.is_whole() {
            self.faults
                .push("the summary disagrees with what arrived".to_owned());
        }
        if self.assembler.manifest().is_some_and(|m| m.is_minimal) {
            self.faults.push(MINIMAL.to_owned());
        } else {
            self.faults.extend(skipped(gaps));
        }
        self.faults.extend(partial_notes);
        for run in &verdict.missing {
            let (first, last) = (run.start(), run.end());
            self.faults.push(if first == last {
                format!("block {first} did not arrive whole")
            } else {
                format!("blocks {first} to {last} did not arrive whole")
            });
        }
        for gap in gaps.iter().filter(|g| g.class == PageClass::Lost) {
            self.faults.push(format!(
                "memory {:#x}..{:#x} was lost",
                gap.range.start, gap.range.end
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_without_a_manifest_cannot_be_written() {
        let error = Dump::new(7, None)
            .end(Path::new("/nonexistent/x"), false)
            .expect_err("nothing there");
        assert!(matches!(error, Error::Manifest(_)), "{error}");
    }
}
