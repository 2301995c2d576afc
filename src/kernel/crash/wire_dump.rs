// SPDX-License-Identifier: MIT OR Apache-2.0
//! The minimal dump as frames (docs/protocol.md): what the crashed kernel can send of itself, one way.
//!
//! Notes, all stacks, the log, page tables and kernel data; all other memory is described as skipped, so that the host's map of gaps
//! is honest. A page at a time through a buffer on the stack; nothing is allocated, locked or waited for but the UART, whose waits
//! are bounded.

use machine::layout::PAGE_SIZE;
use machine::own_memory::OwnMemory;
use machine::{arch, console, mmu, percpu};
use vmcore::{PhysMemory, PhysRange, RangeSet};
use wire::block::block_hash;
use wire::manifest::{Range, Source};
use wire::memory_block::Run;
use wire::{BlockKind, Finished, Manifest, OneWay, PageClass, SegmentBlock};

use super::{after, notes};
use crate::{cpus, dump, logger, memory, region};

/// How often everything is sent: what was damaged in the first round comes in the second.
const ROUNDS: u8 = 2;
/// Ranges of memory that are told apart: those of RAM, and what sending parts of it splits.
const RANGES: usize = memory::MAX_RANGES + 32;
const PAGE: usize = PAGE_SIZE as usize;
/// p_flags of all mappings: the notes of the page tables know better.
const READ_WRITE_EXECUTE: u32 = 7;

/// Sends the minimal dump of the crash on CPU `slot`; `why` says why it is not more. Frames that do not fit their limits cannot
/// occur, and would be missing.
pub(super) fn send(slot: usize, why: &str) {
    let begin = arch::counter();
    let mut seed = [0; 16];
    for (to, from) in seed.iter_mut().zip(begin.to_le_bytes()) {
        *to = from;
    }
    let mut sending = Sending {
        // Written to the UART as far as it takes it.
        sender: OneWay::new(block_hash(&seed), |bytes: &[u8]| {
            console::write_raw(bytes);
        }),
        run: None,
    };
    let _ = sending.send(block_hash(&seed), slot, why, begin);
}

/// What is known of RAM, as mappings and as pages.
struct Memory {
    mappings: [Range; memory::MAX_RANGES + 1],
    count: usize,
    left: RangeSet<RANGES>,
}

impl Memory {
    fn new() -> Self {
        let mut found = Self {
            mappings: [Range::default(); memory::MAX_RANGES + 1],
            count: 0,
            left: RangeSet::new(),
        };
        let image = machine::image::range();
        found.add(machine::image::bounds().begin, image.start, image.end);
        let mut ram = RangeSet::<RANGES>::new();
        memory::each_range(|start, end| {
            let start = start.next_multiple_of(PAGE_SIZE);
            let end = end & !(PAGE_SIZE - 1);
            // There is room for all.
            let _ = ram.insert(PhysRange { start, end });
        });
        if let Some(region) = region::active() {
            let region = PhysRange {
                start: region.start(),
                end: region.end(),
            };
            let _ = ram.remove(region);
        }
        for range in ram.as_slice() {
            let base = machine::layout::LINEAR_BASE;
            found.add(base.wrapping_add(range.start), range.start, range.end);
        }
        found
    }

    fn add(&mut self, vaddr: u64, start: u64, end: u64) {
        if let Some(place) = self.mappings.get_mut(self.count) {
            *place = Range {
                vaddr,
                paddr: start,
                len: end.saturating_sub(start),
                flags: READ_WRITE_EXECUTE,
            };
            self.count = self.count.saturating_add(1);
            let _ = self.left.insert(PhysRange { start, end });
        }
    }

    fn mappings(&self) -> &[Range] {
        self.mappings.get(..self.count).unwrap_or_default()
    }
}

struct Sending<W> {
    sender: OneWay<W>,
    /// Pages without bytes that could still get more.
    run: Option<Run>,
}

impl<W: FnMut(&[u8])> Sending<W> {
    fn send(
        &mut self,
        id: [u8; 16],
        slot: usize,
        why: &str,
        begin: u64,
    ) -> Result<(), wire::Error> {
        for round in 0..ROUNDS {
            let mut memory = Memory::new();
            let mut manifest = Manifest::new(id, Source::Afterimage);
            manifest.set_build_id(machine::image::build_id());
            manifest.is_minimal = true;
            manifest.cpu_count = cpus::count() as u32;
            manifest.note_segments = notes::buffers() as u32;
            manifest.range_count = memory.mappings().len() as u32;
            manifest.counter_hz = u32::try_from(arch::counter_hz()).unwrap_or(u32::MAX);
            self.sender.begin(&manifest, memory.mappings(), round)?;
            self.round(&mut memory, slot, why)?;
            self.sender.end((begin, arch::counter()))?;
        }
        self.sender.finish(Finished {
            next: after::next(),
            is_cut_short: false,
        })
    }

    /// Everything once, what explains the crash first.
    fn round(&mut self, memory: &mut Memory, slot: usize, why: &str) -> Result<(), wire::Error> {
        self.notes(slot)?;
        for machine_wide in notes::machine()..notes::buffers() {
            self.notes(machine_wide)?;
        }
        self.sender.segment(
            BlockKind::Text,
            &SegmentBlock {
                index: 0,
                address: 0,
                total_len: why.len() as u64,
                offset: 0,
                bytes: why.as_bytes(),
            },
        )?;
        self.stacks(memory, slot)?;
        let others = || (0..percpu::capacity()).filter(|other| *other != slot);
        for other in others() {
            self.notes(other)?;
        }
        for other in others() {
            self.stacks(memory, other)?;
        }
        let ring = logger::ring_address();
        let ring_end = ring.saturating_add(logger::RING_LEN as u64);
        self.virtual_range(memory, ring, ring_end)?;
        let (start, end) = mmu::table_pool();
        self.range(memory, PhysRange { start, end })?;
        let image = machine::image::bounds();
        self.virtual_range(memory, image.rodata_end, image.bss_end)?;
        for rest in memory.left.as_slice() {
            self.without_bytes(*rest, PageClass::Skipped)?;
        }
        self.flush()
    }

    fn notes(&mut self, number: usize) -> Result<(), wire::Error> {
        let mut result = Ok(());
        notes::with_buffer(number, |address, bytes| {
            let total_len = bytes.len() as u64;
            let mut offset = 0;
            for part in bytes.chunks(PAGE) {
                let block = SegmentBlock {
                    index: number as u32,
                    address,
                    total_len,
                    offset,
                    bytes: part,
                };
                if result.is_ok() {
                    result = self.sender.segment(BlockKind::Notes, &block);
                }
                offset = offset.saturating_add(part.len() as u64);
            }
        });
        result
    }

    fn stacks(&mut self, memory: &mut Memory, slot: usize) -> Result<(), wire::Error> {
        let Some(stacks) = percpu::stacks(slot) else {
            return Ok(());
        };
        for (bottom, top) in [stacks.thread, stacks.exception, stacks.crash] {
            self.virtual_range(memory, bottom, top)?;
        }
        Ok(())
    }

    fn virtual_range(
        &mut self,
        memory: &mut Memory,
        start: u64,
        end: u64,
    ) -> Result<(), wire::Error> {
        let (start, end) = (
            machine::image::physical(start),
            machine::image::physical(end),
        );
        self.range(memory, PhysRange { start, end })
    }

    /// Sends the pages of `range` that were not sent yet.
    fn range(&mut self, memory: &mut Memory, range: PhysRange) -> Result<(), wire::Error> {
        let range = PhysRange {
            start: range.start & !(PAGE_SIZE - 1),
            end: range.end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0),
        };
        for part in memory.left.as_slice() {
            let part = part.intersection(&range);
            for at in (part.start..part.end).step_by(PAGE) {
                self.page(at)?;
            }
        }
        // Without room for another piece its pages come twice, with the same bytes.
        let _ = memory.left.remove(range);
        Ok(())
    }

    fn page(&mut self, at: u64) -> Result<(), wire::Error> {
        let end = at.saturating_add(PAGE_SIZE);
        let one = PhysRange { start: at, end };
        if dump::is_secret(at, PAGE_SIZE) {
            return self.without_bytes(one, PageClass::Secret);
        }
        let mut bytes = [0; PAGE];
        if OwnMemory.read(at, &mut bytes).is_err() {
            return self.without_bytes(one, PageClass::Unreadable);
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return self.without_bytes(one, PageClass::Zero);
        }
        self.flush()?;
        self.sender.page(at, &bytes)
    }

    fn without_bytes(&mut self, range: PhysRange, class: PageClass) -> Result<(), wire::Error> {
        if let Some(run) = self.run.as_mut()
            && run.class == class
            && run.end() == Ok(range.start)
        {
            run.pages = run.pages.saturating_add(pages_of(range));
            return Ok(());
        }
        self.flush()?;
        self.run = Some(Run::new(range.start, pages_of(range), class));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), wire::Error> {
        match self.run.take() {
            Some(run) if run.pages != 0 => self.sender.run(&run),
            _ => Ok(()),
        }
    }
}

/// Pages of a range; a run of 16 TiB is the longest that there is.
fn pages_of(range: PhysRange) -> u32 {
    u32::try_from(range.len() / PAGE_SIZE).unwrap_or(u32::MAX)
}
