// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory blocks: runs of pages, and the bytes of those that are in the dump.
//!
//! Raw layout: length of the table u16, the table, then the page data of the data runs in their order. Every RAM page
//! stands in one run of some block, so that the host can tell a page that was left out from one that was lost. A run
//! is a few variable-length numbers: pages, class, and, unless it follows the run before, where it starts. A head has room
//! for eight classes; one of no pages, which no run is, is followed by the number of pages and means one of the next eight.

use crate::block::{PAGES_MAX, RAW_MAX};
use crate::cursor::{Reader, Writer};
use crate::{Error, PAGE_SIZE};

mod run;

use run::RUN_MAX;
pub use run::{PageClass, Run};

/// Bytes for the table while a block is being written; also the longest table.
pub const TABLE_MAX: usize = 4096;
/// Bytes of the table's length.
pub(crate) const COUNT_LEN: usize = 2;

/// Gathers pages into a block, in the caller's buffer.
///
/// A page is read straight into the block ([`BlockWriter::page`]), looked at, and only then added
/// ([`BlockWriter::commit_page`]) or described as something else ([`BlockWriter::add_run`]).
#[derive(Debug)]
pub struct BlockWriter<'a> {
    out: &'a mut [u8],
    table_len: usize,
    last: Option<Run>,
    /// Where the last run that was written ends.
    expected: u64,
    data_pages: usize,
}

impl<'a> BlockWriter<'a> {
    /// Starts an empty block in `out`; [`crate::block::raw_len`] tells how many pages that takes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when not even one page fits; [`Error::TooLong`] past [`RAW_MAX`].
    pub fn new(out: &'a mut [u8]) -> Result<Self, Error> {
        let (needed, have) = ((TABLE_MAX + PAGE_SIZE) as u64, out.len() as u64);
        if have < needed {
            return Err(Error::BufferTooSmall { needed, have });
        }
        if out.len() > RAW_MAX {
            return Err(Error::TooLong {
                len: have,
                limit: RAW_MAX as u64,
            });
        }
        Ok(Self {
            out,
            table_len: COUNT_LEN,
            last: None,
            expected: 0,
            data_pages: 0,
        })
    }

    /// Tells whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Returns how many pages of data were added.
    #[must_use]
    pub const fn data_pages(&self) -> usize {
        self.data_pages
    }

    /// Returns the room for the next page's bytes; `None` when the block is full of data or of runs.
    pub fn page(&mut self) -> Option<&mut [u8]> {
        if !self.has_run_room() {
            return None;
        }
        let start = TABLE_MAX.saturating_add(self.data_pages.saturating_mul(PAGE_SIZE));
        self.out.get_mut(start..start.saturating_add(PAGE_SIZE))
    }

    /// Returns the bytes of the data page number `index` of this block.
    #[must_use]
    pub fn data_page(&self, index: usize) -> Option<&[u8]> {
        let start = TABLE_MAX.checked_add(index.checked_mul(PAGE_SIZE)?)?;
        self.out
            .get(start..start.checked_add(PAGE_SIZE)?)
            .filter(|_| index < self.data_pages)
    }

    /// Adds the page at `pa`, whose bytes [`BlockWriter::page`] took; false when there was no room for it.
    ///
    /// # Errors
    /// [`Error::BadRun`] when `pa` is not page-aligned.
    pub fn commit_page(&mut self, pa: u64) -> Result<bool, Error> {
        if self.page().is_none() {
            return Ok(false);
        }
        let is_added = self.add(Run::new(pa, 1, PageClass::Data))?;
        self.data_pages = self.data_pages.saturating_add(usize::from(is_added));
        Ok(is_added)
    }

    /// Adds pages whose bytes are not in this block; false when the block is full.
    ///
    /// # Errors
    /// [`Error::BadRun`]; [`Error::UnknownPageClass`] for data, which only [`BlockWriter::commit_page`] adds.
    pub fn add_run(&mut self, run: Run) -> Result<bool, Error> {
        if run.class == PageClass::Data {
            return Err(Error::UnknownPageClass(run.class.code()));
        }
        self.add(run)
    }

    /// Ends the block and returns how long its raw bytes are, from the start of the buffer; 0 when nothing was added.
    ///
    /// # Errors
    /// None: the buffer was measured at the start.
    pub fn finish(mut self) -> Result<usize, Error> {
        if self.is_empty() {
            return Ok(0);
        }
        self.write_last()?;
        let runs_len = self.table_len.saturating_sub(COUNT_LEN);
        Writer::new(self.out).u16(u16::try_from(runs_len).unwrap_or(u16::MAX))?;
        let data_len = self.data_pages.saturating_mul(PAGE_SIZE);
        let data_end = TABLE_MAX.saturating_add(data_len);
        if data_end <= self.out.len() && self.table_len <= TABLE_MAX {
            self.out.copy_within(TABLE_MAX..data_end, self.table_len);
        }
        Ok(self.table_len.saturating_add(data_len))
    }

    /// Tells whether the table takes the run that is open and another one.
    fn has_run_room(&self) -> bool {
        self.table_len.saturating_add(2 * RUN_MAX) <= TABLE_MAX
    }

    fn add(&mut self, run: Run) -> Result<bool, Error> {
        run.end()?;
        if let Some(joined) = self.last.and_then(|last| last.joined(&run)) {
            self.last = Some(joined);
            return Ok(true);
        }
        if !self.has_run_room() {
            return Ok(false);
        }
        self.write_last()?;
        self.last = Some(run);
        Ok(true)
    }

    /// Writes the run that could still have grown.
    fn write_last(&mut self) -> Result<(), Error> {
        let Some(run) = self.last.take() else {
            return Ok(());
        };
        let room = self.out.get_mut(self.table_len..TABLE_MAX);
        let mut writer = Writer::new(room.unwrap_or_default());
        run.write(&mut writer, self.expected)?;
        self.table_len = self.table_len.saturating_add(writer.offset());
        self.expected = run.end()?;
        Ok(())
    }
}

/// Takes the pages that the host has out of a block: `is_known` says of each data page whether it has it.
///
/// What is left is the table, the other pages, and a bit for each data page, set when the page is there. Returns its
/// length; `len` when the host has none of them.
///
/// # Errors
/// What [`MemoryBlock::decode`] finds wrong with the block.
pub fn leave_out_known(
    raw: &mut [u8],
    len: usize,
    mut is_known: impl FnMut(usize) -> bool,
) -> Result<usize, Error> {
    let block = MemoryBlock::decode(raw.get(..len).unwrap_or_default())?;
    let (table_len, pages) = (block.table_len(), block.data_pages());
    let mut present = [0_u8; PAGES_MAX.div_ceil(8)];
    let mut end = table_len;
    for index in 0..pages {
        if is_known(index) {
            continue;
        }
        if let Some(byte) = present.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
        let start = table_len.saturating_add(index.saturating_mul(PAGE_SIZE));
        raw.copy_within(start..start.saturating_add(PAGE_SIZE), end);
        end = end.saturating_add(PAGE_SIZE);
    }
    let map = present.get(..pages.div_ceil(8)).unwrap_or_default();
    let total = end.saturating_add(map.len());
    if total >= len {
        return Ok(len);
    }
    Writer::new(raw.get_mut(end..).unwrap_or_default()).put(map)?;
    Ok(total)
}

/// A memory block that was found right.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBlock<'a> {
    table: &'a [u8],
    data: &'a [u8],
}

/// Checks every run of the table at the start of `raw`; returns the table, how many data pages it has, and the rest.
pub(crate) fn split_table(raw: &[u8]) -> Result<(&[u8], usize, &[u8]), Error> {
    let mut reader = Reader::new(raw);
    let len = usize::from(reader.u16()?);
    if len > TABLE_MAX - COUNT_LEN {
        return Err(Error::TooLong {
            len: len as u64,
            limit: TABLE_MAX as u64,
        });
    }
    let table = reader.take(len)?;
    let mut data_pages = 0_u64;
    let mut runs = Reader::new(table);
    let mut expected = 0;
    while !runs.rest().is_empty() {
        let run = Run::take(&mut runs, expected)?;
        expected = run.end()?;
        if run.class == PageClass::Data {
            data_pages = data_pages.saturating_add(u64::from(run.pages));
        }
    }
    match usize::try_from(data_pages) {
        Ok(pages) if pages <= PAGES_MAX => Ok((table, pages, reader.rest())),
        _ => Err(Error::TooLong {
            len: data_pages,
            limit: PAGES_MAX as u64,
        }),
    }
}

impl<'a> MemoryBlock<'a> {
    /// Checks the raw bytes of a block: every run, and that the page data is exactly what they say.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownPageClass`], [`Error::BadRun`], [`Error::DataLength`], [`Error::TooLong`].
    pub fn decode(raw: &'a [u8]) -> Result<Self, Error> {
        let (table, pages, data) = split_table(raw)?;
        let (expected, found) = ((pages.saturating_mul(PAGE_SIZE)) as u64, data.len() as u64);
        if expected != found {
            return Err(Error::DataLength { expected, found });
        }
        Ok(Self { table, data })
    }

    /// Returns the runs, each with its bytes; those of other classes than data have none.
    #[must_use]
    pub const fn runs(&self) -> Runs<'a> {
        Runs {
            table: Reader::new(self.table),
            expected: 0,
            data: self.data,
        }
    }

    /// Returns how many pages of data it has.
    #[must_use]
    pub const fn data_pages(&self) -> usize {
        self.data.len() / PAGE_SIZE
    }

    /// Returns the bytes before the page data.
    const fn table_len(&self) -> usize {
        COUNT_LEN.saturating_add(self.table.len())
    }
}

/// The runs of a [`MemoryBlock`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    table: Reader<'a>,
    expected: u64,
    data: &'a [u8],
}

impl<'a> Iterator for Runs<'a> {
    type Item = (Run, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let run = Run::take(&mut self.table, self.expected).ok()?;
        self.expected = run.end().ok()?;
        if run.class != PageClass::Data {
            return Some((run, &[]));
        }
        let len = usize::try_from(run.pages).ok()?.checked_mul(PAGE_SIZE)?;
        let (bytes, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some((run, bytes))
    }
}

#[cfg(test)]
mod tests;
