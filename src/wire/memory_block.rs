// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory blocks: runs of pages, and the bytes of those that are in the dump.
//!
//! Raw layout: run count u32, then per run pa u64, pages u32, class u8, three reserved bytes; then the page data of the
//! data runs in their order. Every RAM page stands in one run of some block, so that the host can tell a page that was
//! left out from one that was lost.

use crate::block::RAW_MAX;
use crate::cursor::{Reader, Writer};
use crate::{Error, PAGE_SIZE};

/// Bytes of a run.
pub const RUN_LEN: usize = 16;
/// Most runs in a block that this code writes: with the count they fill one page.
pub const RUNS_MAX: usize = 255;
/// Bytes before the page data while a block is being written.
const TABLE_LEN: usize = 4 + RUNS_MAX * RUN_LEN;

/// What became of a page on the target; the numbers are those of the notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageClass {
    /// Its bytes are in the block.
    Data,
    /// It holds zeros only.
    Zero,
    /// The allocator held it as free.
    Free,
    /// The program marked it as its own data.
    AppData,
    /// The program marked it as secret.
    Secret,
    /// Reading it failed.
    Unreadable,
}

impl PageClass {
    /// Returns the class's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Zero => 1,
            Self::Free => 2,
            Self::AppData => 3,
            Self::Secret => 4,
            Self::Unreadable => 5,
        }
    }

    /// Returns the class with this number.
    ///
    /// # Errors
    /// [`Error::UnknownPageClass`].
    pub const fn from_code(code: u8) -> Result<Self, Error> {
        match code {
            0 => Ok(Self::Data),
            1 => Ok(Self::Zero),
            2 => Ok(Self::Free),
            3 => Ok(Self::AppData),
            4 => Ok(Self::Secret),
            5 => Ok(Self::Unreadable),
            code => Err(Error::UnknownPageClass(code)),
        }
    }
}

/// Neighbouring pages of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Physical address of the first; a multiple of the page size.
    pub pa: u64,
    /// How many.
    pub pages: u32,
    /// What became of them.
    pub class: PageClass,
}

impl Run {
    /// Returns the address after the last page.
    ///
    /// # Errors
    /// [`Error::BadRun`] when it passes 2^64, when the run is empty or not page-aligned.
    pub const fn end(&self) -> Result<u64, Error> {
        let bytes = (self.pages as u64).saturating_mul(PAGE_SIZE as u64);
        match self.pa.checked_add(bytes) {
            Some(end) if self.pages != 0 && self.pa.is_multiple_of(PAGE_SIZE as u64) => Ok(end),
            _ => Err(Error::BadRun {
                pa: self.pa,
                pages: self.pages,
            }),
        }
    }
}

/// Gathers pages into a block, in the caller's buffer.
///
/// A page is read straight into the block ([`BlockWriter::page`]), looked at, and only then added
/// ([`BlockWriter::commit_page`]) or described as something else ([`BlockWriter::add_run`]).
#[derive(Debug)]
pub struct BlockWriter<'a> {
    out: &'a mut [u8],
    runs: usize,
    last: Option<Run>,
    data_pages: usize,
}

impl<'a> BlockWriter<'a> {
    /// Starts an empty block in `out`; [`crate::block::RAW_LEN`] bytes take 15 pages.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when not even one page fits; [`Error::TooLong`] past [`RAW_MAX`].
    pub fn new(out: &'a mut [u8]) -> Result<Self, Error> {
        let (needed, have) = ((TABLE_LEN + PAGE_SIZE) as u64, out.len() as u64);
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
            runs: 0,
            last: None,
            data_pages: 0,
        })
    }

    /// Tells whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Returns the room for the next page's bytes; `None` when the block is full of data or of runs.
    pub fn page(&mut self) -> Option<&mut [u8]> {
        if self.runs >= RUNS_MAX {
            return None;
        }
        let start = TABLE_LEN.saturating_add(self.data_pages.saturating_mul(PAGE_SIZE));
        self.out.get_mut(start..start.saturating_add(PAGE_SIZE))
    }

    /// Adds the page at `pa`, whose bytes [`BlockWriter::page`] took; false when there was no room for it.
    ///
    /// # Errors
    /// [`Error::BadRun`] when `pa` is not page-aligned.
    pub fn commit_page(&mut self, pa: u64) -> Result<bool, Error> {
        if self.page().is_none() {
            return Ok(false);
        }
        let is_added = self.add(Run {
            pa,
            pages: 1,
            class: PageClass::Data,
        })?;
        self.data_pages = self.data_pages.saturating_add(usize::from(is_added));
        Ok(is_added)
    }

    /// Adds pages that are not in the dump; false when the block is full.
    ///
    /// # Errors
    /// [`Error::BadRun`]; [`Error::UnknownPageClass`] for data, which only [`BlockWriter::commit_page`] adds.
    pub fn add_run(&mut self, run: Run) -> Result<bool, Error> {
        if run.class == PageClass::Data {
            return Err(Error::UnknownPageClass(run.class.code()));
        }
        self.add(run)
    }

    /// Ends the block and returns its raw bytes; empty when nothing was added.
    ///
    /// # Errors
    /// None: the buffer was measured at the start.
    pub fn finish(mut self) -> Result<&'a [u8], Error> {
        if self.is_empty() {
            return Ok(&[]);
        }
        self.write_last()?;
        let runs = u32::try_from(self.runs).unwrap_or(u32::MAX);
        Writer::new(self.out).u32(runs)?;
        let table_end = self.runs.saturating_mul(RUN_LEN).saturating_add(4);
        let data_len = self.data_pages.saturating_mul(PAGE_SIZE);
        let data_end = TABLE_LEN.saturating_add(data_len);
        if data_end <= self.out.len() && table_end <= TABLE_LEN {
            self.out.copy_within(TABLE_LEN..data_end, table_end);
        }
        let out: &'a [u8] = self.out;
        Ok(out
            .get(..table_end.saturating_add(data_len))
            .unwrap_or_default())
    }

    fn add(&mut self, run: Run) -> Result<bool, Error> {
        run.end()?;
        if let Some(last) = &mut self.last
            && last.class == run.class
            && last.end() == Ok(run.pa)
            && let Some(pages) = last.pages.checked_add(run.pages)
        {
            last.pages = pages;
            return Ok(true);
        }
        if self.runs.saturating_add(usize::from(self.last.is_some())) >= RUNS_MAX {
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
        let start = self.runs.saturating_mul(RUN_LEN).saturating_add(4);
        let mut writer = Writer::new(self.out.get_mut(start..TABLE_LEN).unwrap_or_default());
        writer.u64(run.pa)?;
        writer.u32(run.pages)?;
        writer.put(&[run.class.code(), 0, 0, 0])?;
        self.runs = self.runs.saturating_add(1);
        Ok(())
    }
}

/// A memory block that was found right.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBlock<'a> {
    table: &'a [u8],
    data: &'a [u8],
}

impl<'a> MemoryBlock<'a> {
    /// Checks the raw bytes of a block: every run, and that the page data is exactly what they say.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownPageClass`], [`Error::BadRun`], [`Error::DataLength`].
    pub fn decode(raw: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(raw);
        let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        let table = reader.take(count.saturating_mul(RUN_LEN))?;
        let block = Self {
            table,
            data: reader.rest(),
        };
        let mut expected: u64 = 0;
        let mut reader = Reader::new(table);
        while !reader.rest().is_empty() {
            let run = take_run(&mut reader)?;
            run.end()?;
            if run.class == PageClass::Data {
                let bytes = u64::from(run.pages).saturating_mul(PAGE_SIZE as u64);
                expected = expected.saturating_add(bytes);
            }
        }
        let found = block.data.len() as u64;
        if expected != found {
            return Err(Error::DataLength { expected, found });
        }
        Ok(block)
    }

    /// Returns the runs, each with its bytes; those of other classes than data have none.
    #[must_use]
    pub const fn runs(&self) -> Runs<'a> {
        Runs {
            table: Reader::new(self.table),
            data: self.data,
        }
    }
}

fn take_run(reader: &mut Reader<'_>) -> Result<Run, Error> {
    let run = Run {
        pa: reader.u64()?,
        pages: reader.u32()?,
        class: PageClass::from_code(reader.u8()?)?,
    };
    reader.take(3)?;
    Ok(run)
}

/// The runs of a [`MemoryBlock`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    table: Reader<'a>,
    data: &'a [u8],
}

impl<'a> Iterator for Runs<'a> {
    type Item = (Run, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let run = take_run(&mut self.table).ok()?;
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
