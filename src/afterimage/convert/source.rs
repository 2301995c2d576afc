// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a core holds of the machine's memory, and which notes go with it.
//!
//! Memory is walked in pieces, so that a dump of any size needs the same room here.

use std::borrow::Cow;

use vmcore::afterimage_notes::{GAPS, Gap};
use vmcore::gap_map::GapMap;
use vmcore::notes::AFTERIMAGE;
use vmcore::{PageClass, PhysRange};

use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Result};
use crate::inspect::ram;
use crate::interrupt::Interrupt;
use crate::note_bytes::NoteBytes;
use crate::progress::Progress;

/// Bytes that are read at once; a multiple of every page size.
const PIECE: u64 = 1 << 20;
/// Where physical addresses of arm64 end (FEAT_LPA).
const PHYS_END: u64 = 1 << 52;

/// A core that is converted.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) core: &'a CoreFile,
    pub(super) contents: &'a Contents<'a>,
    /// The notes of the result: those of the core, with what a cut-off file has lost.
    pub(super) notes: Cow<'a, [u8]>,
    /// All RAM that the core speaks of.
    pub(super) ram: Vec<PhysRange>,
    /// What of it is in the core.
    pub(super) held: Vec<PhysRange>,
}

/// The pages of a core, for a format that knows whole pages only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pages {
    /// Ranges of pages of which all that is RAM is in the core.
    pub(super) whole: Vec<PhysRange>,
    /// Bytes of the pages of which only a part is.
    pub(super) torn_bytes: u64,
}

impl<'a> Source<'a> {
    /// Looks at what `core` holds.
    ///
    /// # Errors
    ///
    /// [`Error::NotCore`] for an address that no arm64 machine has.
    pub(super) fn new(core: &'a CoreFile, contents: &'a Contents<'a>) -> Result<Self> {
        let ram = ram(core, contents);
        if let Some(last) = ram.last().filter(|last| last.end > PHYS_END) {
            return Err(Error::NotCore {
                path: core.path().to_path_buf(),
                offset: core.notes_offset(),
                what: format!(
                    "memory {:#x}..{:#x} is beyond physical addresses of 52 bits; notes",
                    last.start, last.end
                ),
            });
        }
        let held = core.held();
        Ok(Self {
            core,
            contents,
            notes: notes(core, contents, &held),
            ram,
            held,
        })
    }

    /// Returns the pages of `page_size` bytes.
    pub(super) fn pages(&self, page_size: u64) -> Pages {
        let outward = |range: &PhysRange| PhysRange {
            start: range.start / page_size * page_size,
            end: range.end.next_multiple_of(page_size),
        };
        let known = known(&self.held);
        let mut pages = GapMap::new();
        for range in &self.held {
            pages.insert(outward(range), PageClass::Data);
        }
        let touched = pages.bytes_of(PageClass::Data);
        for missing in known.missing(&self.ram) {
            pages.insert(outward(&missing), PageClass::Lost);
        }
        let whole = pages.iter().filter(|(_, class)| *class == PageClass::Data);
        Pages {
            whole: whole.map(|(range, _)| range).collect(),
            torn_bytes: touched.saturating_sub(pages.bytes_of(PageClass::Data)),
        }
    }

    /// Hands the memory in `ranges` to `each`, piece by piece with its address; what is no RAM reads as zeros. Returns
    /// whether nobody interrupted it.
    ///
    /// # Errors
    ///
    /// When the core cannot be read, or what `each` returned.
    pub(super) fn walk(
        &self,
        ranges: &[PhysRange],
        interrupt: &Interrupt,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let total = ranges
            .iter()
            .fold(0_u64, |sum, r| sum.saturating_add(r.len()));
        let progress = Progress::start(total);
        let mut buffer = vec![0; PIECE as usize];
        let mut done = 0_u64;
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                if interrupt.is_raised() {
                    progress.clear();
                    return Ok(false);
                }
                let len = range.end.saturating_sub(at).min(PIECE);
                let piece = buffer.get_mut(..len as usize).unwrap_or_default();
                self.read(at, piece)?;
                each(at, piece)?;
                at = at.saturating_add(len);
                done = done.saturating_add(len);
                progress.set(done, 0);
            }
        }
        progress.clear();
        Ok(true)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let wanted = PhysRange {
            start: at,
            end: at.saturating_add(out.len() as u64),
        };
        let first = self.held.partition_point(|held| held.end <= wanted.start);
        let held = self.held.get(first..).unwrap_or_default();
        let shared = held.iter().map(|range| range.intersection(&wanted));
        let mut filled = wanted.start;
        for part in shared.take_while(|part| !part.is_empty()) {
            let place = |address: u64| address.saturating_sub(at) as usize;
            fill(out, place(filled)..place(part.start), |gap| {
                gap.fill(0);
                Ok(())
            })?;
            fill(out, place(part.start)..place(part.end), |bytes| {
                self.core
                    .read_physical(part.start, bytes)
                    .map_err(|address| Error::Unreadable {
                        path: self.core.path().to_path_buf(),
                        address,
                    })
            })?;
            filled = part.end;
        }
        let rest = filled.saturating_sub(at) as usize;
        out.get_mut(rest..).unwrap_or_default().fill(0);
        Ok(())
    }
}

fn fill(
    out: &mut [u8],
    place: std::ops::Range<usize>,
    with: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    with(out.get_mut(place).unwrap_or_default())
}

fn known(held: &[PhysRange]) -> GapMap {
    let mut known = GapMap::new();
    held.iter()
        .for_each(|range| known.insert(*range, PageClass::Data));
    known
}

/// Returns the notes: as they are, but for the list of what is missing when the file was cut off.
fn notes<'a>(core: &'a CoreFile, contents: &Contents<'_>, held: &[PhysRange]) -> Cow<'a, [u8]> {
    if core.missing_bytes() == 0 {
        return Cow::Borrowed(core.note_bytes());
    }
    let mut gaps = contents.gaps.clone().unwrap_or_default();
    let lost = known(held).missing(&core.described());
    gaps.extend(lost.into_iter().map(|range| Gap {
        range,
        class: PageClass::Lost,
    }));
    let mut notes = NoteBytes::default();
    for note in core.notes().filter(|note| !note.is(AFTERIMAGE, GAPS)) {
        notes.add_note(&note);
    }
    notes.add_gaps(&gaps, false);
    Cow::Owned(notes.as_bytes().to_vec())
}
