// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory blocks: runs of pages, and the bytes of those that are in the dump.
//!
//! Raw layout: length of the table u16, the table, then the page data of the data runs in their order. Every RAM page
//! stands in one run of some block, so that the host can tell a page that was left out from one that was lost. A run
//! is a few variable-length numbers: pages, class, and, unless it follows the run before, where it starts. A head has room
//! for eight classes; one of no pages, which no run is, is followed by the number of pages and means one of the next eight.

use crate::block::{PAGES_MAX, RAW_MAX};
use crate::cursor::{Reader, VARINT_MAX, Writer};
use crate::{Error, PAGE_SIZE};

/// Bytes for the table while a block is being written; also the longest table.
pub const TABLE_MAX: usize = 4096;
/// Bytes of the table's length.
pub(crate) const COUNT_LEN: usize = 2;
/// Longest run: head, start, source.
const RUN_MAX: usize = 3 * VARINT_MAX;
/// In a run's head: the number of pages begins above class and jump bit.
const PAGES_SHIFT: u32 = 4;
/// In a run's head: it does not start where the run before ended.
const JUMP: u64 = 8;
/// In a run's head: its class.
const CLASS_MASK: u64 = 7;
/// Classes from here on do not fit a run's head.
const FIRST_MORE: u8 = 8;

/// What became of a page on the target; the numbers up to 5 are those of the notes.
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
    /// It was not looked at: a minimal dump does without it, or the capture kernel failed when it came to it.
    Skipped,
    /// It holds what another page holds, whose bytes are in this block or in one of a lower number.
    Duplicate,
    /// Linux's page cache, without data of a file system's own.
    Cache,
    /// Linux's page cache, with such data.
    PrivateCache,
    /// Memory of a process of Linux.
    User,
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
            Self::Skipped => 6,
            Self::Duplicate => 7,
            Self::Cache => 8,
            Self::PrivateCache => 9,
            Self::User => 10,
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
            6 => Ok(Self::Skipped),
            7 => Ok(Self::Duplicate),
            8 => Ok(Self::Cache),
            9 => Ok(Self::PrivateCache),
            10 => Ok(Self::User),
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
    /// For duplicates the physical address of the first page that they are like; else 0.
    pub source: u64,
}

impl Run {
    /// Returns a run of any class but duplicates.
    #[must_use]
    pub const fn new(pa: u64, pages: u32, class: PageClass) -> Self {
        Self {
            pa,
            pages,
            class,
            source: 0,
        }
    }

    /// Returns the page at `pa`, which is like the one at `source`.
    #[must_use]
    pub const fn duplicate(pa: u64, source: u64) -> Self {
        Self {
            pa,
            pages: 1,
            class: PageClass::Duplicate,
            source,
        }
    }

    /// Returns the address after the last page.
    ///
    /// # Errors
    /// [`Error::BadRun`] when it passes 2^64, when the run is empty or not page-aligned; the source likewise.
    pub const fn end(&self) -> Result<u64, Error> {
        let bytes = (self.pages as u64).saturating_mul(PAGE_SIZE as u64);
        let is_aligned = (self.pa | self.source).is_multiple_of(PAGE_SIZE as u64);
        match (self.pa.checked_add(bytes), self.source.checked_add(bytes)) {
            (Some(end), Some(_)) if self.pages != 0 && is_aligned => Ok(end),
            _ => Err(Error::BadRun {
                pa: self.pa,
                pages: self.pages,
            }),
        }
    }

    /// Tells whether `next` goes on where this one ends, in class and source too, and returns both as one.
    fn joined(&self, next: &Self) -> Option<Self> {
        let bytes = u64::from(self.pages).saturating_mul(PAGE_SIZE as u64);
        let source = match self.class {
            PageClass::Duplicate => self.source.checked_add(bytes)?,
            _ => 0,
        };
        let is_next = self.class == next.class
            && self.pa.checked_add(bytes) == Some(next.pa)
            && source == next.source;
        let pages = self.pages.checked_add(next.pages)?;
        is_next.then_some(Self { pages, ..*self })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>, expected: u64) -> Result<(), Error> {
        let jump = if self.pa == expected { 0 } else { JUMP };
        let (pages, code) = (u64::from(self.pages), self.class.code());
        match code.checked_sub(FIRST_MORE) {
            None => writer.varint(pages << PAGES_SHIFT | jump | u64::from(code))?,
            Some(code) => {
                writer.varint(jump | u64::from(code))?;
                writer.varint(pages)?;
            }
        }
        if jump != 0 {
            writer.signed_varint(pages_between(expected, self.pa))?;
        }
        if self.class == PageClass::Duplicate {
            writer.signed_varint(pages_between(self.pa, self.source))?;
        }
        Ok(())
    }

    fn take(reader: &mut Reader<'_>, expected: u64) -> Result<Self, Error> {
        let head = reader.varint()?;
        let mut code = (head & CLASS_MASK) as u8;
        let mut pages = head >> PAGES_SHIFT;
        if pages == 0 {
            code |= FIRST_MORE;
            pages = reader.varint()?;
        }
        let class = PageClass::from_code(code)?;
        let wrong = |pa| Error::BadRun {
            pa,
            pages: u32::try_from(pages).unwrap_or(u32::MAX),
        };
        let mut pa = expected;
        if head & JUMP != 0 {
            pa = page_after(expected, reader.signed_varint()?).ok_or(wrong(expected))?;
        }
        let mut source = 0;
        if class == PageClass::Duplicate {
            source = page_after(pa, reader.signed_varint()?).ok_or(wrong(pa))?;
        }
        let run = Self {
            pa,
            pages: u32::try_from(pages).map_err(|_| wrong(pa))?,
            class,
            source,
        };
        run.end()?;
        Ok(run)
    }
}

const fn page_number(address: u64) -> u64 {
    address.div_euclid(PAGE_SIZE as u64)
}

/// Returns how many pages `to` lies behind `from`.
const fn pages_between(from: u64, to: u64) -> i64 {
    // Below 2^52 each, so the difference fits.
    page_number(to).wrapping_sub(page_number(from)) as i64
}

/// Returns the address `pages` pages behind `from`; `None` outside the address space.
fn page_after(from: u64, pages: i64) -> Option<u64> {
    let page = page_number(from).checked_add_signed(pages)?;
    page.checked_mul(PAGE_SIZE as u64)
}

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
