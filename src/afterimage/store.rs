// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is kept of a dump: its memory in the file, its notes, and which pages wait for the page that they are like.

use std::path::Path;
use std::time::{Duration, Instant};

use vmcore::afterimage_notes::Gap;
use vmcore::{PAGE_SIZE, PageClass, PhysRange};
use wire::assembler::Block;
use wire::block::block_hash;
use wire::manifest::Range;
use wire::memory_block::Run;
use wire::{BlockKind, Manifest, MemoryBlock, Summary};

use crate::contents::Contents;
use crate::destination::manifest_parts;
use crate::dump_file::{DumpFile, Mapping};
use crate::duplicates::Duplicates;
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal};
use crate::note_bytes::NoteBytes;
use crate::note_segments::NoteSegments;
use crate::phys_ranges::merged;
use crate::unwind::Memory;

/// Time between two writings of the headers, so that even a killed receiver leaves a core of what it stored. It doubles
/// from the first to the last: what comes first matters most, and the headers grow.
const CHECKPOINTS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// What is kept of a dump.
#[derive(Debug)]
pub struct Store {
    file: DumpFile,
    journal: Journal,
    mappings: Vec<Mapping>,
    segments: NoteSegments,
    duplicates: Duplicates,
    /// Note buffers that the manifest announced.
    note_segments: u32,
    build_id: Vec<u8>,
    /// Who sends, in words.
    speaker: &'static str,
    /// Rate of the system counter, by the manifest.
    counter_hz: u32,
    last_checkpoint: Instant,
    until_checkpoint: Duration,
}

impl Store {
    /// Creates the files at `part` for the dump that the manifest announces.
    ///
    /// # Errors
    ///
    /// When the manifest makes no sense or the files cannot be written.
    pub fn create(part: &Path, manifest: &Manifest, ranges: &[Range]) -> Result<Self> {
        let ram = ram(ranges)?;
        let journal = Journal::create(part, &manifest_parts(manifest, ranges)?)?;
        let store = Self::new(DumpFile::create(part, &ram)?, journal, manifest, ranges);
        store.write_headers()?;
        Ok(store)
    }

    /// Opens the files that an earlier run left of the same dump. Returns the blocks too that they hold: those whose hash
    /// agrees, page data included. They are not stored yet.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or written.
    pub fn reopen(
        part: &Path,
        manifest: &Manifest,
        ranges: &[Range],
    ) -> Result<(Self, Vec<Entry>)> {
        let (journal, contents) = Journal::open(part)?;
        let file = DumpFile::reopen(part, &ram(ranges)?)?;
        let store = Self::new(file, journal, manifest, ranges);
        Ok((store, contents.blocks))
    }

    fn new(file: DumpFile, journal: Journal, manifest: &Manifest, ranges: &[Range]) -> Self {
        Self {
            file,
            journal,
            mappings: mappings(ranges),
            segments: NoteSegments::default(),
            duplicates: Duplicates::default(),
            note_segments: manifest.note_segments,
            build_id: manifest.build_id().to_vec(),
            speaker: if manifest.is_minimal {
                "crashed kernel"
            } else {
                "capture kernel"
            },
            counter_hz: manifest.counter_hz,
            last_checkpoint: Instant::now(),
            until_checkpoint: CHECKPOINTS[0],
        }
    }

    /// Puts a block together of what the journal and the file say; `None` when that is not what its hash says.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn rebuild(&self, entry: &Entry) -> Result<Option<Block>> {
        let mut raw = entry.bytes.clone();
        raw.resize(entry.raw_len as usize, 0);
        if entry.kind == BlockKind::Memory {
            let Ok(memory) = MemoryBlock::decode(&raw) else {
                return Ok(None);
            };
            let mut at = entry.bytes.len();
            let runs: Vec<Run> = memory.runs().map(|(run, _)| run).collect();
            for run in runs.iter().filter(|run| run.class == wire::PageClass::Data) {
                let Ok(end) = run.end() else { return Ok(None) };
                let range = PhysRange { start: run.pa, end };
                let room_end =
                    at.saturating_add(usize::try_from(range.len()).unwrap_or(usize::MAX));
                let Some(room) = raw.get_mut(at..room_end) else {
                    return Ok(None);
                };
                if !self.file.read_old(range, room)? {
                    return Ok(None);
                }
                at = room_end;
            }
        }
        let is_right = block_hash(&raw) == entry.hash;
        Ok(is_right.then_some(Block {
            number: entry.number,
            kind: entry.kind,
            raw,
        }))
    }

    /// Notes in the journal that a block was stored.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub fn note(&mut self, block: &Block) -> Result<()> {
        let data_pages = match block.kind {
            BlockKind::Memory => block.memory().map_or(0, |memory| memory.data_pages()),
            _ => 0,
        };
        let data_len = data_pages.saturating_mul(wire::PAGE_SIZE);
        let kept = block.raw.len().saturating_sub(data_len);
        self.journal.add(&Entry {
            number: block.number,
            kind: block.kind,
            raw_len: u32::try_from(block.raw.len()).unwrap_or(u32::MAX),
            hash: block_hash(&block.raw),
            bytes: block.raw.get(..kept).unwrap_or_default().to_vec(),
        })
    }

    /// Returns the bytes of memory that the manifest announced.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        let sizes = self.file.ram().map(|range| range.len());
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns whether no register has arrived.
    #[must_use]
    pub fn has_no_notes(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the numbers of the note buffers of which a part is missing.
    pub fn partial_notes(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.partial()
    }

    /// Returns whether the notes tell which CPU each set of registers is of: an Afterimage kernel's say so themselves, any
    /// other's count.
    #[must_use]
    pub fn has_cpu_numbers(&self) -> bool {
        self.segments.has_all(self.note_segments)
            || Contents::of(self.notes().as_bytes()).reason.is_some()
    }

    /// Returns the notes that have arrived.
    #[must_use]
    pub fn notes(&self) -> NoteBytes {
        self.segments.file_notes(&self.build_id, &[], false)
    }

    /// Returns what the file does not hold.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let pieces = self.file.pieces().into_iter();
        let missing = pieces.filter(|(_, class)| !class.is_known());
        missing.map(|(range, class)| Gap { range, class }).collect()
    }

    /// Keeps a block; what is to be told of it goes to `tell`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn store(&mut self, block: &Block, tell: &mut dyn FnMut(String)) -> Result<()> {
        match block.kind {
            BlockKind::Memory => self.store_memory(block, tell)?,
            BlockKind::Notes => {
                if !block.segment().is_ok_and(|part| self.segments.add(&part)) {
                    tell(format!("block {}: notes out of bounds", block.number));
                }
            }
            BlockKind::Text => {
                if let Ok(part) = block.segment() {
                    let text = String::from_utf8_lossy(part.bytes);
                    tell(format!("{}: {text}", self.speaker));
                }
            }
            // The manifest says all that the file needs of it.
            BlockKind::ElfHeader => {}
        }
        Ok(())
    }

    fn store_memory(&mut self, block: &Block, tell: &mut dyn FnMut(String)) -> Result<()> {
        let Ok(memory) = block.memory() else {
            tell(format!("block {}: not understood", block.number));
            return Ok(());
        };
        for (run, bytes) in memory.runs() {
            let Ok(end) = run.end() else { continue };
            let range = PhysRange { start: run.pa, end };
            match run.class {
                wire::PageClass::Data => {
                    self.file.store(run.pa, bytes)?;
                    self.arrived(range)?;
                }
                wire::PageClass::Duplicate => self.copy(&run, range, block.number, tell)?,
                class => {
                    self.file.mark(range, in_notes(class))?;
                }
            }
        }
        Ok(())
    }

    /// Makes the pages of `run` those that they are like, as far as these are there; lets the others wait.
    fn copy(
        &mut self,
        run: &Run,
        range: PhysRange,
        block: u32,
        tell: &mut dyn FnMut(String),
    ) -> Result<()> {
        let offset = run.source.wrapping_sub(run.pa);
        let shared = self.file.ram().map(|ram| ram.intersection(&range));
        let shared: Vec<PhysRange> = shared.filter(|part| !part.is_empty()).collect();
        let pages = shared.iter().flat_map(|part| pages_of(*part));
        for page in pages {
            let source = page.wrapping_add(offset);
            if self.file.copy_page(source, page)? {
                self.arrived(page_at(page))?;
            } else if self.file.has(page_at(source)) && !self.duplicates.add(page, source) {
                tell(format!("block {block}: too many pages wait for others"));
                break;
            }
        }
        Ok(())
    }

    /// Copies the pages in `range`, which have come, to those that wait for them, and these to those that wait for them.
    fn arrived(&mut self, range: PhysRange) -> Result<()> {
        if self.duplicates.is_empty() {
            return Ok(());
        }
        pages_of(range).for_each(|page| self.duplicates.remove(page));
        let mut waiting = self.duplicates.take(range);
        while let Some((source, page)) = waiting.pop() {
            if self.file.copy_page(source, page)? {
                waiting.extend(self.duplicates.take(page_at(page)));
            }
        }
        Ok(())
    }

    /// Writes the headers when they are old, so that the file is a valid core whatever happens.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn checkpoint(&mut self) -> Result<()> {
        if self.last_checkpoint.elapsed() < self.until_checkpoint {
            return Ok(());
        }
        let [_, longest] = CHECKPOINTS;
        self.until_checkpoint = self.until_checkpoint.saturating_mul(2).min(longest);
        self.last_checkpoint = Instant::now();
        self.write_headers()
    }

    /// Writes the headers.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_headers(&self) -> Result<()> {
        let notes = self
            .segments
            .file_notes(&self.build_id, &self.gaps(), false);
        self.file.write_headers(&self.mappings, notes.as_bytes())
    }

    /// Gives the file its name and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the name is taken.
    pub fn finish(
        self,
        path: &Path,
        overwrite: bool,
        gaps: &[Gap],
        summary: Option<&Summary>,
        is_vouched_for: bool,
    ) -> Result<u64> {
        let mut notes = self
            .segments
            .file_notes(&self.build_id, gaps, is_vouched_for);
        if let Some(summary) = summary {
            notes.add_summary(summary, self.counter_hz);
        }
        let len = self
            .file
            .finish(&self.mappings, notes.as_bytes(), path, overwrite)?;
        self.journal.remove()?;
        Ok(len)
    }
}

impl Memory for Store {
    fn read_u64(&self, address: u64) -> Option<u64> {
        let mapping = self
            .mappings
            .iter()
            .find(|mapping| address.wrapping_sub(mapping.vaddr) < mapping.len)?;
        let paddr = mapping
            .paddr
            .checked_add(address.wrapping_sub(mapping.vaddr))?;
        let mut bytes = [0; 8];
        let is_known = self.file.read(paddr, &mut bytes).ok()?;
        is_known.then_some(u64::from_le_bytes(bytes))
    }
}

/// Returns what the notes call pages of this class that came without bytes.
const fn in_notes(class: wire::PageClass) -> PageClass {
    match class {
        wire::PageClass::Zero => PageClass::Zero,
        wire::PageClass::Free => PageClass::Free,
        wire::PageClass::AppData => PageClass::AppData,
        wire::PageClass::Secret => PageClass::Secret,
        wire::PageClass::Unreadable => PageClass::Unreadable,
        wire::PageClass::Skipped => PageClass::Skipped,
        wire::PageClass::Cache => PageClass::Cache,
        wire::PageClass::PrivateCache => PageClass::PrivateCache,
        wire::PageClass::User => PageClass::User,
        // Neither comes here without its bytes.
        wire::PageClass::Data | wire::PageClass::Duplicate => PageClass::Lost,
    }
}

/// Returns where the pages in `range` begin.
fn pages_of(range: PhysRange) -> impl Iterator<Item = u64> {
    let first = range.start.checked_next_multiple_of(PAGE_SIZE);
    (first.unwrap_or(range.end)..range.end).step_by(PAGE_SIZE as usize)
}

const fn page_at(start: u64) -> PhysRange {
    PhysRange {
        start,
        end: start.saturating_add(PAGE_SIZE),
    }
}

fn mappings(ranges: &[Range]) -> Vec<Mapping> {
    let mapping = |range: &Range| Mapping {
        vaddr: range.vaddr,
        paddr: range.paddr,
        len: range.len,
    };
    ranges.iter().map(mapping).collect()
}

/// Returns the memory in `ranges`, each byte once.
fn ram(ranges: &[Range]) -> Result<Vec<PhysRange>> {
    let made = ranges
        .iter()
        .map(|range| PhysRange::new(range.paddr, range.len));
    let made: std::result::Result<_, _> = made.collect();
    Ok(merged(made.map_err(|e: vmcore::Error| {
        Error::Manifest(e.to_string())
    })?))
}
