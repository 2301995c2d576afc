// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run: contiguous pages of one class, and how it stands in a block's table.

use crate::cursor::{Reader, VARINT_MAX, Writer};
use crate::{Error, PAGE_SIZE};

/// Longest run: head, start, source.
pub(super) const RUN_MAX: usize = 3 * VARINT_MAX;
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
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
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

    pub(super) fn take(reader: &mut Reader<'_>, expected: u64) -> Result<Self, Error> {
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
