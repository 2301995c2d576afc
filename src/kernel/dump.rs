// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks on memory: what a dump leaves out, what it never sends, what it sends first.
//!
//! A mark holds for as long as its guard lives. Marks travel in the REGIONS note.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::exceptions::copy_guarded;
use machine::layout::{LINEAR_BASE, MAX_CPUS, PHYSICAL_LIMIT};
use machine::{mmu, percpu};
use vmcore::Error;
use vmcore::afterimage_notes::{ListWriter, NAME_LEN, Region, RegionKind, name_field};

use crate::logger;

/// The most marks at a time.
pub const MAX_MARKS: usize = 64;

/// The marks. Without a lock: a CPU may be stopped at any instruction, and secrets must not be lost with it.
static MARKS: [Entry; MAX_MARKS] = [const { Entry::new() }; MAX_MARKS];

/// One place for a mark. A mark counts from the moment its kind is written.
struct Entry {
    /// `RegionKind` code; [`FREE`] or [`TAKEN`] when there is none.
    kind: AtomicU32,
    pa: AtomicU64,
    len: AtomicU64,
    va: AtomicU64,
    name: [AtomicU64; 2],
}

const FREE: u32 = 0;
/// Being written.
const TAKEN: u32 = u32::MAX;

impl Entry {
    const fn new() -> Self {
        Self {
            kind: AtomicU32::new(FREE),
            pa: AtomicU64::new(0),
            len: AtomicU64::new(0),
            va: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Takes the place for `region`; false when it is in use.
    fn fill(&self, region: &Region) -> bool {
        if self
            .kind
            .compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.pa.store(region.pa, Ordering::Relaxed);
        self.len.store(region.len, Ordering::Relaxed);
        self.va.store(region.va, Ordering::Relaxed);
        for (to, from) in self.name.iter().zip(region.name.as_chunks::<8>().0) {
            to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
        }
        self.kind.store(region.kind.code(), Ordering::Release);
        true
    }

    fn get(&self) -> Option<Region> {
        let code = self.kind.load(Ordering::Acquire);
        if code == FREE || code == TAKEN {
            return None;
        }
        let mut name = [0; NAME_LEN];
        for (to, from) in name.as_chunks_mut::<8>().0.iter_mut().zip(&self.name) {
            *to = from.load(Ordering::Relaxed).to_le_bytes();
        }
        Some(Region {
            kind: RegionKind::from_code(code),
            argument: 0,
            pa: self.pa.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            va: self.va.load(Ordering::Relaxed),
            name,
        })
    }
}

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
        if let Some(entry) = MARKS.get(self.slot) {
            entry.kind.store(FREE, Ordering::Release);
        }
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
    let slot = MARKS
        .iter()
        .position(|entry| entry.fill(&region))
        .ok_or(MarkError::Full)?;
    Ok(Mark { slot })
}

/// Physical address of RAM that this kernel maps.
fn physical(address: u64) -> Option<u64> {
    let image = machine::image::bounds();
    if (image.begin..image.end).contains(&address) {
        return Some(machine::image::physical(address));
    }
    let physical = address
        .checked_sub(LINEAR_BASE)
        .filter(|physical| *physical < PHYSICAL_LIMIT)?;
    // What is not mapped (no RAM, the crash region) cannot be read.
    let mut probe = Pair([0; 16]);
    copy_guarded(&mut probe.0, address & !15)
        .ok()
        .map(|()| physical)
}

#[repr(C, align(16))]
struct Pair([u8; 16]);

/// Whether any of `len` bytes at physical address `pa` lies in a page with a secret.
pub(crate) fn is_secret(pa: u64, len: u64) -> bool {
    let page = machine::layout::PAGE_SIZE;
    MARKS
        .iter()
        .filter_map(Entry::get)
        .filter(|region| region.kind == RegionKind::Secret)
        .any(|secret| {
            let first = secret.pa & !(page - 1);
            let end = secret
                .pa
                .saturating_add(secret.len)
                .checked_next_multiple_of(page)
                .unwrap_or(u64::MAX);
            pa < end && pa.saturating_add(len) > first
        })
}

/// Pages that marks of this kind touch; a page under two marks counts twice.
pub(crate) fn marked_pages(kind: RegionKind) -> u64 {
    let page = machine::layout::PAGE_SIZE;
    MARKS
        .iter()
        .filter_map(Entry::get)
        .filter(|region| region.kind == kind)
        .map(|region| {
            let end = region.pa.saturating_add(region.len).div_ceil(page);
            end.saturating_sub(region.pa / page)
        })
        .sum()
}

/// Writes the REGIONS payload. In the crash path.
pub(crate) fn encode_regions(out: &mut [u8]) -> Result<usize, Error> {
    let mut list = ListWriter::new(out, 0)?;
    // Secrets first: if the list does not fit, it is not they that are missing.
    for kind in [RegionKind::Secret, RegionKind::AppData, RegionKind::Extra] {
        for region in MARKS
            .iter()
            .filter_map(Entry::get)
            .filter(|region| region.kind == kind)
        {
            list.push(&region)?;
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
