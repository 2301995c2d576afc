// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages of a crashed Linux a dump can do without: makedumpfile's classes, by the kernel's page array.
//!
//! makedumpfile goes once through all of the array, from the lowest page frame up (`__exclude_unnecessary_pages` in
//! makedumpfile.c). Here any page can be asked for, and the answer is the same each time: for a page in the middle of a free
//! block or of a compound page the head is looked for. A structure in which anything may stand costs no more than its own
//! pages: a page is free only if nobody holds it, and in a compound page only if it says so itself.
//!
//! Not left out, unlike there: pages that are offline or poisoned, as reading them here is guarded.

use super::page_array::{CHUNK, PageArray, PageStruct};
use super::vmcoreinfo::{Key, Vmcoreinfo};
use crate::{DumpLevel, Error, PageClass, PhysMemory};

/// Orders of free blocks that are believed: 11 with 4 KiB pages, up to 14 else.
const ORDERS: usize = 32;
/// Largest order of a compound page that is believed: 2^18 pages of 4 KiB are 1 GiB, of 64 KiB 16 GiB.
const COMPOUND_ORDER: u32 = 18;
/// In `page.mapping`: memory of a process (`PAGE_MAPPING_ANON`).
const MAPPING_ANON: u64 = 1;
/// In `page.compound_head`: this is not the head.
const IS_TAIL: u64 = 1;
/// `_mapcount` of a page that is mapped nowhere.
const NOT_MAPPED: u32 = u32::MAX;

/// A page at which a free block may begin.
#[derive(Clone, Copy, Debug)]
struct Head {
    frame: u64,
    /// The page behind the block; 0 where none begins.
    end: u64,
}

/// No page that can be asked for.
const NO_HEAD: Head = Head {
    frame: u64::MAX,
    end: 0,
};

/// What is read of the page array, and remembered of it. All zeros when new.
#[derive(Debug)]
pub struct Buffers {
    chunk: [u8; CHUNK],
    heads: [Head; ORDERS],
}

impl Buffers {
    /// Returns empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chunk: [0; CHUNK],
            heads: [Head { frame: 0, end: 0 }; ORDERS],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// How a kernel marks a kind of page.
#[derive(Clone, Copy, Debug)]
enum Mark {
    /// By a bit of `flags`.
    Flag(u64),
    /// By the page's type.
    Type(u32),
    /// By a bit of `flags` of the structure behind that of the head.
    SecondFlag(u64),
    /// By a byte of the structure behind that of the head.
    SecondByte(usize, u8),
    /// Not at all.
    Never,
}

/// The page classes of a crashed Linux.
#[derive(Debug)]
pub struct PageClasses<'a> {
    array: PageArray<'a>,
    heads: &'a mut [Head; ORDERS],
    orders: u64,
    lru: u64,
    private: u64,
    swapcache: u64,
    /// 0 in kernels before 4.10, where a page of the swap cache needs no other bit.
    swapbacked: u64,
    head: u64,
    slab: Mark,
    hugetlb: Mark,
    /// The type of the first page of a free block.
    buddy: u32,
    /// The head of a compound page that was looked at last, and its class.
    compound: Option<(u64, Option<PageClass>)>,
}

impl<'a> PageClasses<'a> {
    /// Finds the page array of the kernel that wrote `info`, and sees whether it is one: the pages of its code and of its
    /// page tables must look like what the kernel has reserved at boot.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`]; [`Error::NoPageArray`] when they do not.
    pub fn open(
        info: &Vmcoreinfo<'_>,
        memory: &mut impl PhysMemory,
        buffers: &'a mut Buffers,
    ) -> Result<Self, Error> {
        let Buffers { chunk, heads } = buffers;
        heads.fill(NO_HEAD);
        let orders = info.length("zone.free_area")?;
        if orders == 0 || orders > ORDERS as u64 {
            return Err(info.refuse(Key::Length("zone.free_area")));
        }
        let slab = if info.has(Key::Number("PAGE_SLAB_MAPCOUNT_VALUE")) {
            Mark::Type(page_type(info, "PAGE_SLAB_MAPCOUNT_VALUE")?)
        } else {
            Mark::Flag(flag(info, "PG_slab")?)
        };
        let mut classes = Self {
            array: PageArray::of(info, chunk)?,
            heads,
            orders,
            lru: flag(info, "PG_lru")?,
            private: flag(info, "PG_private")?,
            swapcache: flag(info, "PG_swapcache")?,
            swapbacked: if info.has(Key::Number("PG_swapbacked")) {
                flag(info, "PG_swapbacked")?
            } else {
                0
            },
            head: info.number("PG_head_mask")?,
            slab,
            hugetlb: hugetlb(info)?,
            buddy: page_type(info, "PAGE_BUDDY_MAPCOUNT_VALUE")?,
            compound: None,
        };
        let voffset = info.number("kimage_voffset")?;
        for name in ["_stext", "swapper_pg_dir"] {
            let address = info.symbol(name)?.wrapping_sub(voffset);
            let frame = classes.array.frame_of(address);
            if !classes.is_reserved(memory, frame) {
                return Err(Error::NoPageArray { frame });
            }
        }
        Ok(classes)
    }

    /// Tells whether a page frame's structure is as boot leaves that of a page that is never given out: in no list, held once,
    /// mapped nowhere, of no class.
    fn is_reserved(&mut self, memory: &mut impl PhysMemory, frame: u64) -> bool {
        let Some(page) = self.array.get(memory, frame) else {
            return false;
        };
        let is_in_no_list = self.array.list_of(memory, frame) == Some(page.next);
        let is_kept = page.refcount == 1 && page.mapcount == NOT_MAPPED && page.mapping == 0;
        is_in_no_list && is_kept && self.class_of_head(memory, frame, &page).is_none()
    }

    /// Returns the class for which the page at `address` is left out at `level`; none for what goes into the dump.
    pub fn class(
        &mut self,
        memory: &mut impl PhysMemory,
        address: u64,
        level: DumpLevel,
    ) -> Option<PageClass> {
        let frame = self.array.frame_of(address);
        let page = self.array.get(memory, frame)?;
        if level.leaves_out(PageClass::Free) && self.is_free(memory, frame, &page) {
            return Some(PageClass::Free);
        }
        let class = if page.compound_head & IS_TAIL == 0 {
            self.class_of_head(memory, frame, &page)
        } else {
            self.class_of_tail(memory, frame, &page)
        };
        class.filter(|class| level.leaves_out(*class))
    }

    /// Returns the first page frame whose structure could not be read, so that its page and others were left in.
    #[must_use]
    pub const fn first_unread(&self) -> Option<u64> {
        self.array.first_unread()
    }

    /// Tells whether nobody holds the page and a free block covers it. A block begins at a multiple of its length.
    fn is_free(&mut self, memory: &mut impl PhysMemory, frame: u64, page: &PageStruct) -> bool {
        if page.refcount != 0 {
            return false;
        }
        let mut last = None;
        for order in 0..self.orders {
            let length = 1_u64.checked_shl(order as u32).unwrap_or(1);
            let head = frame & !length.wrapping_sub(1);
            if last == Some(head) {
                continue;
            }
            last = Some(head);
            if self.block_end(memory, order, head, (frame, page)) > frame {
                return true;
            }
        }
        false
    }

    /// Returns where the free block ends that begins at `head`, 0 if none does; `known` is a structure that was read already.
    fn block_end(
        &mut self,
        memory: &mut impl PhysMemory,
        order: u64,
        head: u64,
        known: (u64, &PageStruct),
    ) -> u64 {
        let place = usize::try_from(order).unwrap_or(usize::MAX);
        if let Some(cached) = self.heads.get(place)
            && cached.frame == head
        {
            return cached.end;
        }
        let end = if known.0 == head {
            self.end_of_block(head, known.1)
        } else {
            let page = self.array.get(memory, head);
            page.map_or(0, |page| self.end_of_block(head, &page))
        };
        if let Some(cached) = self.heads.get_mut(place) {
            *cached = Head { frame: head, end };
        }
        end
    }

    fn end_of_block(&self, head: u64, page: &PageStruct) -> u64 {
        let order = page.private;
        if page.mapcount != self.buddy || self.is_slab(page) || order >= self.orders {
            return 0;
        }
        let length = u32::try_from(order)
            .ok()
            .and_then(|order| 1_u64.checked_shl(order))
            .filter(|length| head & length.wrapping_sub(1) == 0);
        length.map_or(0, |length| head.saturating_add(length))
    }

    fn is_slab(&self, page: &PageStruct) -> bool {
        match self.slab {
            Mark::Flag(flag) => page.flags & flag != 0,
            Mark::Type(value) => page.mapcount == value,
            _ => false,
        }
    }

    /// Returns the class of a page that is part of a compound page: that of its head.
    fn class_of_tail(
        &mut self,
        memory: &mut impl PhysMemory,
        frame: u64,
        page: &PageStruct,
    ) -> Option<PageClass> {
        let address = page.compound_head & !IS_TAIL;
        let head = self.array.frame_at(memory, address, frame)?;
        let before = frame.checked_sub(head)?;
        if before == 0 || before >> COMPOUND_ORDER != 0 {
            return None;
        }
        if let Some((cached, class)) = self.compound
            && cached == head
        {
            return class;
        }
        let page = self.array.get(memory, head)?;
        let is_head = page.flags & self.head != 0 && page.compound_head & IS_TAIL == 0;
        let class = is_head
            .then(|| self.class_of_head(memory, head, &page))
            .flatten();
        self.compound = Some((head, class));
        class
    }

    /// Returns the class of a page that is no part of another, as makedumpfile tells them.
    fn class_of_head(
        &mut self,
        memory: &mut impl PhysMemory,
        frame: u64,
        page: &PageStruct,
    ) -> Option<PageClass> {
        let has = |flag| page.flags & flag != 0;
        let is_anonymous = page.mapping & MAPPING_ANON != 0 && !self.is_slab(page);
        let is_swapped = has(self.swapcache) && (self.swapbacked == 0 || has(self.swapbacked));
        if is_anonymous {
            Some(PageClass::User)
        } else if has(self.lru) || is_swapped {
            Some(if has(self.private) {
                PageClass::PrivateCache
            } else {
                PageClass::Cache
            })
        } else if has(self.head) && self.is_hugetlb(memory, frame, page) {
            Some(PageClass::User)
        } else {
            None
        }
    }

    fn is_hugetlb(&mut self, memory: &mut impl PhysMemory, frame: u64, page: &PageStruct) -> bool {
        let second = frame.saturating_add(1);
        match self.hugetlb {
            Mark::Type(value) => page.mapcount == value,
            Mark::SecondFlag(flag) => self
                .array
                .get(memory, second)
                .is_some_and(|second| second.flags & flag != 0),
            Mark::SecondByte(at, value) => self
                .array
                .bytes(memory, second)
                .is_some_and(|bytes| bytes.get(at) == Some(&value)),
            Mark::Flag(_) | Mark::Never => false,
        }
    }
}

/// Returns how the kernel marks pages of hugetlbfs: from 6.9 on by their type, in 6.6 by a flag, before by their destructor.
fn hugetlb(info: &Vmcoreinfo<'_>) -> Result<Mark, Error> {
    if info.has(Key::Number("PAGE_HUGETLB_MAPCOUNT_VALUE")) {
        return Ok(Mark::Type(page_type(info, "PAGE_HUGETLB_MAPCOUNT_VALUE")?));
    }
    if info.has(Key::Number("PG_hugetlb")) {
        return Ok(Mark::SecondFlag(flag(info, "PG_hugetlb")?));
    }
    if !info.has(Key::Number("HUGETLB_PAGE_DTOR")) {
        return Ok(Mark::Never);
    }
    let refuse = |key| move || info.refuse(key);
    let value = u8::try_from(info.number("HUGETLB_PAGE_DTOR")?)
        .ok()
        .ok_or_else(refuse(Key::Number("HUGETLB_PAGE_DTOR")))?;
    // Of a folio, which begins with the head, or of the page itself.
    let (key, offset) = match info.offset("folio._folio_dtor") {
        Ok(offset) => (
            Key::Offset("folio._folio_dtor"),
            offset.checked_sub(info.size("page")?),
        ),
        Err(_) => (
            Key::Offset("page.compound_dtor"),
            Some(info.offset("page.compound_dtor")?),
        ),
    };
    let size = info.size("page")?;
    let at = offset
        .filter(|offset| *offset < size)
        .and_then(|offset| usize::try_from(offset).ok())
        .ok_or_else(refuse(key))?;
    Ok(Mark::SecondByte(at, value))
}

/// Returns the bit of `page.flags` whose number is given.
fn flag(info: &Vmcoreinfo<'_>, name: &'static str) -> Result<u64, Error> {
    let number = info.number(name)?;
    u32::try_from(number)
        .ok()
        .and_then(|number| 1_u64.checked_shl(number))
        .ok_or_else(|| info.refuse(Key::Number(name)))
}

/// Returns a page's type, which is given as a signed number.
fn page_type(info: &Vmcoreinfo<'_>, name: &'static str) -> Result<u32, Error> {
    let number = info.number(name)?;
    i32::try_from(number.cast_signed())
        .map(i32::cast_unsigned)
        .or_else(|_| u32::try_from(number))
        .map_err(|_| info.refuse(Key::Number(name)))
}
