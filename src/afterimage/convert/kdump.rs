// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a kdump-compressed dump: headers, notes, two bitmaps, page descriptors, pages.
//!
//! Bit n of the first bitmap says that page n is RAM, of the second that it is in the file; the descriptors are of the
//! latter, in order. Where everything but the pages goes is known beforehand, so one walk over the memory is enough. All
//! pages of zeros share one (makedumpfile, IMPLEMENTATION, "The kdump-compressed format").

use std::ops::Range;

use vmcore::PhysRange;

use super::headers::{DESCRIPTOR_LEN, Headers, INCOMPLETE, SUB_HEADER_LEN, ZLIB, descriptor};
use super::linux::{Kernel, places};
use super::packer::Packer;
use super::sink::{Sink, Stream};
use super::source::Source;
use crate::error::Result;
use crate::interrupt::Interrupt;

/// Bytes of a bitmap that are made at once.
const BITMAP_PART: u64 = 64 << 10;

/// Writes the dump into `sink`. Returns whether nobody interrupted it.
///
/// # Errors
///
/// When the core cannot be read or the dump cannot be written.
pub(super) fn write(
    source: &Source<'_>,
    kernel: Kernel,
    whole: &[PhysRange],
    how: How,
    sink: &mut dyn Sink,
    interrupt: &Interrupt,
) -> Result<bool> {
    let block = kernel.page_size;
    let notes_len = source.notes.len() as u64;
    let sub_header_blocks = SUB_HEADER_LEN.saturating_add(notes_len).div_ceil(block);
    let max_mapnr = source.ram.last().map_or(0, |last| last.end.div_ceil(block));
    let bitmap_len = max_mapnr.div_ceil(8).next_multiple_of(block);
    let bitmaps_at = sub_header_blocks.saturating_add(1).saturating_mul(block);
    let descriptors_at = bitmaps_at.saturating_add(bitmap_len.saturating_mul(2));
    let count = whole
        .iter()
        .fold(0_u64, |sum, range| sum.saturating_add(range.len() / block));
    let pages_at = descriptors_at.saturating_add(count.saturating_mul(DESCRIPTOR_LEN));

    let notes_at = block.saturating_add(SUB_HEADER_LEN);
    let [vmcoreinfo, eraseinfo] = places(&source.notes).map(|(offset, len)| match len {
        0 => (0, 0),
        len => (notes_at.saturating_add(offset), len),
    });
    let incomplete = if how.is_incomplete { INCOMPLETE } else { 0 };
    let headers = Headers {
        names: kernel.names,
        crash_time: kernel.crash_time,
        status: ZLIB | incomplete,
        block_size: block as u32,
        sub_header_blocks: sub_header_blocks as u32,
        bitmap_blocks: (bitmap_len.saturating_mul(2) / block) as u32,
        max_mapnr,
        cpus: source.contents.cpus().len() as u32,
        phys_base: kernel.phys_base,
        dump_level: how.level,
        vmcoreinfo,
        notes: (notes_at, notes_len),
        eraseinfo,
    };
    sink.put(0, &headers.main())?;
    sink.put(block, &headers.sub())?;
    sink.put(notes_at, &source.notes)?;
    let numbers = |ranges: &[PhysRange]| -> Vec<Range<u64>> {
        let number = |range: &PhysRange| range.start / block..range.end.div_ceil(block);
        ranges.iter().map(number).collect()
    };
    put_bitmap(bitmaps_at, &numbers(&source.ram), sink)?;
    put_bitmap(bitmaps_at.saturating_add(bitmap_len), &numbers(whole), sink)?;
    let mut pages = PageWriter::new(block, descriptors_at, pages_at, sink)?;
    let is_done = source.walk(whole, interrupt, |_, piece| {
        piece
            .chunks_exact(block as usize)
            .try_for_each(|page| pages.add(page))
    })?;
    pages.finish()?;
    Ok(is_done)
}

/// What is said of the dump in its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// makedumpfile's dump level.
    pub(super) level: u32,
    /// Whether something is missing that should be there.
    pub(super) is_incomplete: bool,
}

/// Sets the bits of the pages in `ranges` of the bitmap at `at`; parts without any are left out, and read as zeros.
fn put_bitmap(at: u64, ranges: &[Range<u64>], sink: &mut dyn Sink) -> Result<()> {
    let bits = BITMAP_PART.saturating_mul(8);
    let mut part = vec![0_u8; BITMAP_PART as usize];
    let mut number = 0;
    let mut is_set = false;
    // A part is as long as what is set in it; the file has the rest as a hole.
    let mut used = 0_usize;
    for range in ranges {
        let mut page = range.start;
        while page < range.end {
            if page / bits != number {
                if is_set {
                    put_part(at, number, part.get(..used).unwrap_or_default(), sink)?;
                }
                part.fill(0);
                number = page / bits;
            }
            let end = range.end.min(number.saturating_add(1).saturating_mul(bits));
            set(
                &mut part,
                (page % bits)..(page % bits).saturating_add(end.saturating_sub(page)),
            );
            used = (end.saturating_sub(number.saturating_mul(bits))).div_ceil(8) as usize;
            is_set = true;
            page = end;
        }
    }
    if is_set {
        put_part(at, number, part.get(..used).unwrap_or_default(), sink)?;
    }
    Ok(())
}

fn put_part(at: u64, number: u64, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
    sink.put(at.saturating_add(number.saturating_mul(BITMAP_PART)), bytes)
}

/// Sets `bits`, bit 0 of each byte first.
fn set(bytes: &mut [u8], bits: Range<u64>) {
    let mut bit = bits.start;
    while bit < bits.end {
        let Some(byte) = bytes.get_mut((bit / 8) as usize) else {
            return;
        };
        let last = bits.end.min((bit / 8).saturating_add(1).saturating_mul(8));
        let until = |end: u64| {
            u8::MAX
                .checked_shr(8_u64.saturating_sub(end) as u32)
                .unwrap_or(0)
        };
        let in_byte = bit % 8;
        *byte |= until(in_byte.saturating_add(last.saturating_sub(bit))) & !until(in_byte);
        bit = last;
    }
}

/// Writes pages and their descriptors, side by side.
struct PageWriter<'a> {
    sink: &'a mut dyn Sink,
    packer: Packer,
    descriptors: Stream,
    pages: Stream,
    /// A page of zeros, and its descriptor.
    zeros: Vec<u8>,
    zero: [u8; DESCRIPTOR_LEN as usize],
}

impl<'a> PageWriter<'a> {
    /// Begins with the page of zeros, which is there whether one needs it or not.
    fn new(
        page_size: u64,
        descriptors_at: u64,
        pages_at: u64,
        sink: &'a mut dyn Sink,
    ) -> Result<Self> {
        let mut pages = Stream::new(pages_at);
        let zeros = vec![0; page_size as usize];
        pages.add(&zeros, sink)?;
        Ok(Self {
            sink,
            packer: Packer::new(page_size as usize),
            descriptors: Stream::new(descriptors_at),
            pages,
            zeros,
            zero: descriptor(pages_at, page_size as u32, 0),
        })
    }

    fn add(&mut self, page: &[u8]) -> Result<()> {
        let entry = if page == self.zeros {
            self.zero
        } else {
            let at = self.pages.at();
            let (bytes, flags) = match self.packer.pack(page) {
                Some(packed) => (packed, ZLIB),
                None => (page, 0),
            };
            let entry = descriptor(at, bytes.len() as u32, flags);
            self.pages.add(bytes, self.sink)?;
            entry
        };
        self.descriptors.add(&entry, self.sink)
    }

    fn finish(mut self) -> Result<()> {
        self.descriptors.flush(self.sink)?;
        self.pages.flush(self.sink)
    }
}

#[cfg(test)]
mod tests;
