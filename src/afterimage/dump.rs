// SPDX-License-Identifier: MIT OR Apache-2.0
//! One dump being received: frames in, a file out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vmcore::afterimage_notes::Gap;
use vmcore::{PageClass, PhysRange};
use wire::assembler::{Assembler, Block, Outcome};
use wire::memory_block::Run;
use wire::{BlockKind, Frame, Manifest};

use crate::dump_file::{DumpFile, Mapping};
use crate::error::{Error, Result};
use crate::note_segments::NoteSegments;
use crate::progress::Progress;

/// Most bytes of blocks that are held until the manifest says where they belong.
const HELD_MAX: usize = 64 << 20;
/// Time between two writings of the headers, so that even a killed receiver leaves a valid core.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// Silence after the summary that means that the last frame was lost.
const AFTER_SUMMARY: Duration = Duration::from_secs(5);

/// A dump being received.
#[derive(Debug)]
pub struct Dump {
    assembler: Assembler,
    segments: NoteSegments,
    file: Option<DumpFile>,
    mappings: Vec<Mapping>,
    held: Vec<Block>,
    held_bytes: usize,
    faults: Vec<String>,
    damaged: u64,
    started: Instant,
    last_frame: Instant,
    last_checkpoint: Instant,
    progress: Progress,
}

/// What a frame meant for the dump as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    On,
    /// The manifest is complete; now the file can be created.
    Began,
    /// It is over.
    Over,
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
    /// Starts with the dump of this short id.
    #[must_use]
    pub fn new(short_id: u32) -> Self {
        let now = Instant::now();
        Self {
            assembler: Assembler::new(short_id),
            segments: NoteSegments::default(),
            file: None,
            mappings: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            faults: Vec::new(),
            damaged: 0,
            started: now,
            last_frame: now,
            last_checkpoint: now,
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

    /// Returns the progress bar.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Returns the bytes of memory that the manifest announced.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        let ranges = self.file.iter().flat_map(DumpFile::ram);
        ranges.fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Returns whether it has been silent for so long that it will not go on.
    #[must_use]
    pub fn is_silent(&self, limit: Duration) -> bool {
        let has_summary = self.assembler.summary().is_some();
        let limit = if has_summary {
            limit.min(AFTER_SUMMARY)
        } else {
            limit
        };
        self.last_frame.elapsed() >= limit
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
    pub fn accept(&mut self, frame: &Frame<'_>, trouble: &mut dyn FnMut(String)) -> Result<Step> {
        self.last_frame = Instant::now();
        let outcome = match self.assembler.accept(frame) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.count_damage();
                trouble(format!("frame {}: {error}", frame.header.sequence));
                return Ok(Step::On);
            }
        };
        match outcome {
            Outcome::Manifest => return Ok(Step::Began),
            Outcome::Block(block) if self.file.is_some() => self.store(&block, trouble)?,
            Outcome::Block(block) => self.hold(block, trouble),
            Outcome::Summary(_) if self.assembler.verdict().is_whole() => return Ok(Step::Over),
            Outcome::Finished(_) => return Ok(Step::Over),
            Outcome::Nothing | Outcome::OtherDump(_) | Outcome::Summary(_) => {}
        }
        self.show_progress();
        self.checkpoint()?;
        Ok(Step::On)
    }

    /// Creates the file at `part` and stores what was held for it.
    ///
    /// # Errors
    ///
    /// When the manifest makes no sense or the file cannot be written.
    pub fn create(&mut self, part: &Path, trouble: &mut dyn FnMut(String)) -> Result<()> {
        let ranges = self.assembler.ranges();
        let mut ram = Vec::with_capacity(ranges.len());
        for range in ranges {
            let made = PhysRange::new(range.paddr, range.len);
            ram.push(made.map_err(|e| Error::Manifest(e.to_string()))?);
        }
        self.mappings = ranges
            .iter()
            .map(|r| Mapping {
                vaddr: r.vaddr,
                paddr: r.paddr,
                len: r.len,
            })
            .collect();
        self.file = Some(DumpFile::create(part, &merged(ram))?);
        self.progress = Progress::start(self.ram_bytes());
        for block in std::mem::take(&mut self.held) {
            self.store(&block, trouble)?;
        }
        self.held_bytes = 0;
        Ok(())
    }

    fn hold(&mut self, block: Block, trouble: &mut dyn FnMut(String)) {
        let bytes = self.held_bytes.saturating_add(block.raw.len());
        if bytes > HELD_MAX {
            trouble(format!(
                "block {} came before the manifest and could not be kept",
                block.number
            ));
            return;
        }
        self.held_bytes = bytes;
        self.held.push(block);
    }

    fn store(&mut self, block: &Block, trouble: &mut dyn FnMut(String)) -> Result<()> {
        match block.kind {
            BlockKind::Memory => self.store_memory(block, trouble),
            BlockKind::Notes => {
                if !block.segment().is_ok_and(|part| self.segments.add(&part)) {
                    trouble(format!("block {}: notes out of bounds", block.number));
                }
                Ok(())
            }
            BlockKind::Text => {
                if let Ok(part) = block.segment() {
                    trouble(format!(
                        "capture kernel: {}",
                        String::from_utf8_lossy(part.bytes)
                    ));
                }
                Ok(())
            }
            // The manifest says all that the file needs of it.
            BlockKind::ElfHeader => Ok(()),
        }
    }

    fn store_memory(&mut self, block: &Block, trouble: &mut dyn FnMut(String)) -> Result<()> {
        let (Some(file), Ok(memory)) = (&mut self.file, block.memory()) else {
            trouble(format!("block {}: not understood", block.number));
            return Ok(());
        };
        for (run, bytes) in memory.runs() {
            match class_of(&run) {
                PageClass::Data => file.store(run.pa, bytes)?,
                class => {
                    if let Ok(end) = run.end() {
                        file.mark(PhysRange { start: run.pa, end }, class);
                    }
                }
            }
        }
        Ok(())
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

    fn checkpoint(&mut self) -> Result<()> {
        if self.last_checkpoint.elapsed() < CHECKPOINT {
            return Ok(());
        }
        self.last_checkpoint = Instant::now();
        if let Some(file) = &self.file {
            let notes = self
                .segments
                .file_notes(self.build_id(), &gaps(file), false);
            file.write_headers(&self.mappings, notes.as_bytes())?;
        }
        Ok(())
    }

    fn build_id(&self) -> &[u8] {
        self.manifest().map_or(&[], Manifest::build_id)
    }

    /// Ends the dump, whole or not, and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] when no manifest came, since nothing can be written then; or when the file cannot be.
    pub fn end(mut self, path: &Path, overwrite: bool) -> Result<Ended> {
        self.progress.clear();
        let Some(file) = self.file.take() else {
            let blocks = self.assembler.blocks_done();
            return Err(Error::Manifest(format!(
                "it did not arrive ({blocks} blocks did)"
            )));
        };
        let gaps = gaps(&file);
        self.judge(&gaps);
        let notes = self
            .segments
            .file_notes(self.build_id(), &gaps, self.faults.is_empty());
        let len = file.finish(&self.mappings, notes.as_bytes(), path, overwrite)?;
        Ok(Ended {
            len,
            elapsed: self.started.elapsed(),
            faults: self.faults,
            gaps: gaps.len(),
        })
    }

    /// Lists what is missing: blocks by number, then the memory that nothing is known of.
    fn judge(&mut self, gaps: &[Gap]) {
        let verdict = self.assembler.verdict();
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
        if !verdict.has_summary {
            self.faults
                .push("the summary did not arrive: the dump ended early".to_owned());
        } else if verdict.missing.is_empty() && !verdict.is_whole() {
            self.faults
                .push("the summary disagrees with what arrived".to_owned());
        }
        if self.assembler.finished().is_some_and(|f| f.is_cut_short) {
            self.faults
                .push("the capture kernel gave up before the end".to_owned());
        }
        if self.segments.is_empty() {
            self.faults.push("the registers did not arrive".to_owned());
        }
    }
}

/// Returns what the file does not hold.
fn gaps(file: &DumpFile) -> Vec<Gap> {
    let pieces = file.pieces().into_iter();
    let missing = pieces.filter(|(_, class)| !class.is_known());
    missing.map(|(range, class)| Gap { range, class }).collect()
}

/// The wire numbers classes as the notes do.
fn class_of(run: &Run) -> PageClass {
    PageClass::from_code(run.class.code()).unwrap_or(PageClass::Lost)
}

/// Returns the ranges without overlaps: the kernel's text mapping shows memory that the linear mapping shows too.
fn merged(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort();
    let mut out: Vec<PhysRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// Returns the name of a dump in `directory` that nothing has yet: `UTC-DUMPID.vmcore`.
#[must_use]
pub fn free_name(directory: &Path, dump_id: &[u8; 16]) -> PathBuf {
    let [a, b, c, d, ..] = *dump_id;
    let id = crate::symbols::hex(&[a, b, c, d]);
    let stamp = crate::utc::stamp(std::time::SystemTime::now());
    let base = directory.join(format!("{stamp}-{id}.vmcore"));
    let later = (2..1000).map(|n| directory.join(format!("{stamp}-{id}-{n}.vmcore")));
    std::iter::once(base.clone())
        .chain(later)
        .find(|path| !path.exists() && !crate::dump_file::part_path(path).exists())
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_mappings_are_one_range_of_memory() {
        let range = |start, end| PhysRange { start, end };
        let all = vec![
            range(0x4000, 0x9000),
            range(0x5000, 0x6000),
            range(0xa000, 0xb000),
        ];
        assert_eq!(merged(all), [range(0x4000, 0x9000), range(0xa000, 0xb000)]);
    }

    #[test]
    fn taken_name_gets_a_number() {
        let dir = tempfile::tempdir().expect("directory");
        let first = free_name(dir.path(), &[0xab; 16]);
        std::fs::write(&first, "").expect("write");
        let second = free_name(dir.path(), &[0xab; 16]);
        assert_ne!(first, second);
    }

    #[test]
    fn dump_without_a_manifest_cannot_be_written() {
        let error = Dump::new(7)
            .end(Path::new("/nonexistent/x"), false)
            .expect_err("nothing there");
        assert!(matches!(error, Error::Manifest(_)), "{error}");
    }
}
