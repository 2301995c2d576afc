// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks on memory: what a dump leaves out, what it never sends, what it sends first.
//!
//! A mark holds for as long as its guard lives. Marks travel in the REGIONS note.

use core::ops::Range;

use machine::layout::{LINEAR_BASE, MAX_CPUS, PHYSICAL_LIMIT};
use machine::{mmu, percpu};
use spin::Mutex;
use vmcore::Error;
use vmcore::afterimage_notes::{ListWriter, Region, RegionKind, name_field};

use crate::logger;

/// The most marks at a time.
pub const MAX_MARKS: usize = 64;

static MARKS: Mutex<[Option<Region>; MAX_MARKS]> = Mutex::new([None; MAX_MARKS]);

/// Why memory could not be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkError {
    /// All [`MAX_MARKS`] are in use.
    Full,
    /// The range is empty, or no RAM that this kernel maps.
    NotRam {
        /// First virtual address.
        start: u64,
        /// End.
        end: u64,
    },
}

impl core::fmt::Display for MarkError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => write!(f, "all {MAX_MARKS} marks are in use"),
            Self::NotRam { start, end } => {
                write!(f, "{start:#x}..{end:#x} is no RAM of this kernel")
            }
        }
    }
}

impl core::error::Error for MarkError {}

/// A mark; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the mark ends when this is dropped"]
pub struct Mark {
    slot: usize,
}

impl Drop for Mark {
    fn drop(&mut self) {
        machine::arch::without_irq(|| {
            if let Some(entry) = MARKS.lock().get_mut(self.slot) {
                *entry = None;
            }
        });
    }
}

/// Marks the program's own data: left out by dump level bit 8.
///
/// # Errors
/// See [`MarkError`].
pub fn app_data(range: Range<*const u8>) -> Result<Mark, MarkError> {
    mark(RegionKind::AppData, range, "")
}

/// Marks memory that is never sent, at any level. All pages that the range touches are left out.
///
/// # Errors
/// See [`MarkError`].
pub fn secret(range: Range<*const u8>) -> Result<Mark, MarkError> {
    mark(RegionKind::Secret, range, "")
}

/// Marks memory that is sent early, under a name.
///
/// # Errors
/// See [`MarkError`].
pub fn also(range: Range<*const u8>, name: &str) -> Result<Mark, MarkError> {
    mark(RegionKind::Extra, range, name)
}

fn mark(kind: RegionKind, range: Range<*const u8>, name: &str) -> Result<Mark, MarkError> {
    let (start, end) = (range.start.addr() as u64, range.end.addr() as u64);
    let not_ram = MarkError::NotRam { start, end };
    let len = end
        .checked_sub(start)
        .filter(|len| *len != 0)
        .ok_or(not_ram)?;
    let pa = physical(start).ok_or(not_ram)?;
    physical(end - 1)
        .filter(|last| *last == pa + len - 1)
        .ok_or(not_ram)?;
    let region = Region {
        kind,
        argument: 0,
        pa,
        len,
        va: start,
        name: name_field(name),
    };
    machine::arch::without_irq(|| {
        let mut marks = MARKS.lock();
        let (slot, entry) = marks
            .iter_mut()
            .enumerate()
            .find(|(_, entry)| entry.is_none())
            .ok_or(MarkError::Full)?;
        *entry = Some(region);
        Ok(Mark { slot })
    })
}

/// Physical address of RAM that this kernel maps.
fn physical(address: u64) -> Option<u64> {
    let image = machine::image::bounds();
    if (image.begin..image.end).contains(&address) {
        return Some(machine::image::physical(address));
    }
    address
        .checked_sub(LINEAR_BASE)
        .filter(|physical| *physical < PHYSICAL_LIMIT)
}

/// Writes the REGIONS payload. In the crash path: a list that is locked by a stopped CPU is left out.
pub(crate) fn encode_regions(out: &mut [u8]) -> Result<usize, Error> {
    let mut list = ListWriter::new(out, 0)?;
    // Secrets first: if the list does not fit, it is not they that are missing.
    if let Some(marks) = MARKS.try_lock() {
        for kind in [RegionKind::Secret, RegionKind::AppData, RegionKind::Extra] {
            for region in marks.iter().flatten().filter(|region| region.kind == kind) {
                list.push(region)?;
            }
        }
    }
    for slot in 0..percpu::capacity().min(MAX_CPUS) {
        let Some(stacks) = percpu::stacks(slot) else {
            continue;
        };
        for (name, (bottom, top)) in [
            ("thread", stacks.thread),
            ("exception", stacks.exception),
            ("crash", stacks.crash),
        ] {
            list.push(&in_image(RegionKind::Stack, slot as u32, bottom, top, name))?;
        }
    }
    let ring = logger::ring_address();
    list.push(&in_image(
        RegionKind::LogRing,
        0,
        ring,
        ring + logger::RING_LEN as u64,
        "log",
    ))?;
    let (start, end) = mmu::table_pool();
    list.push(&Region {
        kind: RegionKind::PageTables,
        argument: 0,
        pa: start,
        len: end.saturating_sub(start),
        va: 0,
        name: name_field("tables"),
    })?;
    let image = machine::image::bounds();
    list.push(&in_image(
        RegionKind::KernelData,
        0,
        image.rodata_end,
        image.bss_end,
        "data",
    ))?;
    let mut result = Ok(());
    crate::HEAP.maps(|map| {
        let region = Region {
            kind: RegionKind::PageState,
            argument: 0,
            pa: map.physical,
            len: map.len,
            va: map.virtual_address,
            name: name_field("heap"),
        };
        if result.is_ok() {
            result = list.push(&region);
        }
    });
    result?;
    list.finish()
}

fn in_image(kind: RegionKind, argument: u32, start: u64, end: u64, name: &str) -> Region {
    Region {
        kind,
        argument,
        pa: machine::image::physical(start),
        len: end.saturating_sub(start),
        va: start,
        name: name_field(name),
    }
}
