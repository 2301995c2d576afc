// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's heap: `buddy_system_allocator` over all free RAM, and the page-state map of each range.
//!
//! The allocator cannot tell which pages are free, so each range carries a map of live allocations per page
//! (`vmcore::page_state`), which the capture kernel reads to leave free pages out. Interrupts are masked while the lock is held.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use buddy_system_allocator::Heap;
use spin::Mutex;
use vmcore::page_state::PageStateMut;

use crate::arch;
use crate::layout::{LINEAR_BASE, PAGE_SIZE};

/// Free RAM ranges that the heap takes; more are left unused and named.
pub const MAX_RANGES: usize = 32;
/// Longest wait of [`KernelHeap::usage`], which is asked in an interrupt.
const USAGE_US: u64 = 10_000;

/// A range that the heap could not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeapError {
    /// All [`MAX_RANGES`] are taken.
    TooManyRanges {
        /// First byte of the range (physical).
        start: u64,
    },
    /// The range is too small to hold its own map.
    TooSmall {
        /// First byte of the range (physical).
        start: u64,
        /// Bytes.
        len: u64,
    },
}

impl fmt::Display for HeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRanges { start } => {
                write!(f, "heap: the range at {start:#x} is one too many")
            }
            Self::TooSmall { start, len } => {
                write!(f, "heap: {len:#x} bytes at {start:#x} are too few")
            }
        }
    }
}

/// Where the page-state map of one range lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLocation {
    /// Physical address of the map.
    pub physical: u64,
    /// Bytes of the map.
    pub len: u64,
    /// Virtual address of the map.
    pub virtual_address: u64,
}

struct Range {
    first_pfn: u64,
    pages: u64,
    location: MapLocation,
    state: PageStateMut<'static>,
}

struct Inner {
    heap: Heap<36>,
    ranges: [Option<Range>; MAX_RANGES],
    /// Whether an allocation could not be noted: the maps are then no longer true, and are not offered.
    is_untrue: bool,
}

/// The kernel's global allocator.
pub struct KernelHeap {
    inner: Mutex<Inner>,
    is_closed: AtomicBool,
}

impl fmt::Debug for KernelHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelHeap")
    }
}

/// Size and use of the heap, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Managed.
    pub total: usize,
    /// Handed out, rounded to the allocator's blocks.
    pub used: usize,
}

impl KernelHeap {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Self {
        let inner = Inner {
            heap: Heap::empty(),
            ranges: [const { None }; MAX_RANGES],
            is_untrue: false,
        };
        Self {
            inner: Mutex::new(inner),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Gives a range of RAM, in the linear map, to the heap; its page-state map takes the first pages.
    ///
    /// # Errors
    /// The range is too small, or one too many: it stays unused.
    pub(crate) fn add(&self, start: u64, len: u64) -> Result<(), HeapError> {
        let too_small = HeapError::TooSmall { start, len };
        let pages = len / PAGE_SIZE;
        let first_pfn = start / PAGE_SIZE;
        let map_bytes = PageStateMut::size_for(pages).ok_or(too_small)? as u64;
        let map_pages = map_bytes.div_ceil(PAGE_SIZE);
        if map_pages >= pages {
            return Err(too_small);
        }
        let virtual_address = LINEAR_BASE + start;
        arch::without_irq(|| {
            let mut inner = self.inner.lock();
            let slot = inner
                .ranges
                .iter()
                .position(Option::is_none)
                .ok_or(HeapError::TooManyRanges { start })?;
            // SAFETY: the caller of `give_memory` vouches that the range is mapped, unused and never touched otherwise.
            let bytes = unsafe {
                core::slice::from_raw_parts_mut(virtual_address as *mut u8, map_bytes as usize)
            };
            let mut state = PageStateMut::init(bytes, first_pfn, pages).map_err(|_| too_small)?;
            state
                .allocated(first_pfn, map_pages)
                .map_err(|_| too_small)?;
            let location = MapLocation {
                physical: start,
                len: map_bytes,
                virtual_address,
            };
            inner.ranges[slot] = Some(Range {
                first_pfn,
                pages,
                location,
                state,
            });
            let heap_start = (virtual_address + map_pages * PAGE_SIZE) as usize;
            // SAFETY: as above; the map's own pages are left out.
            unsafe {
                inner
                    .heap
                    .add_to_heap(heap_start, (virtual_address + pages * PAGE_SIZE) as usize)
            };
            Ok(())
        })
    }

    /// The page-state maps; none when they are not true.
    pub fn maps(&self, mut each: impl FnMut(MapLocation)) {
        arch::without_irq(|| {
            let Some(inner) = self.inner.try_lock() else {
                return;
            };
            if !inner.is_untrue {
                inner
                    .ranges
                    .iter()
                    .flatten()
                    .for_each(|range| each(range.location));
            }
        });
    }

    /// Size and use; `None` when another CPU has had the heap for longer than an allocation takes, and may never give it back.
    pub fn usage(&self) -> Option<Usage> {
        arch::without_irq(|| {
            let deadline = arch::Deadline::after_us(USAGE_US);
            let inner = loop {
                match self.inner.try_lock() {
                    Some(inner) => break inner,
                    None if deadline.is_past() => return None,
                    None => core::hint::spin_loop(),
                }
            };
            Some(Usage {
                total: inner.heap.stats_total_bytes(),
                used: inner.heap.stats_alloc_actual(),
            })
        })
    }

    /// Takes the lock for good: for crashes that are provoked while a CPU has it.
    pub fn keep_lock(&self) {
        core::mem::forget(self.inner.lock());
    }

    /// Refuses every allocation from now on; the crash path calls this first.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}

impl Default for KernelHeap {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// Notes `layout` at `address` in its range's map.
    fn note(&mut self, address: usize, layout: Layout, is_allocated: bool) {
        let bytes = layout.size().max(layout.align()).max(8).next_power_of_two() as u64;
        let physical = (address as u64).wrapping_sub(LINEAR_BASE);
        let pfn = physical / PAGE_SIZE;
        let pages = bytes.div_ceil(PAGE_SIZE);
        let range = self
            .ranges
            .iter_mut()
            .flatten()
            .find(|range| pfn.wrapping_sub(range.first_pfn) < range.pages);
        let result = match range {
            Some(range) if is_allocated => range.state.allocated(pfn, pages).is_ok(),
            Some(range) => range.state.freed(pfn, pages).is_ok(),
            None => false,
        };
        self.is_untrue |= !result;
    }
}

// SAFETY: 1. `Heap` hands out disjoint blocks of the size and alignment asked for. 2. The lock serialises all access.
// 3. Neither method unwinds.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.is_closed.load(Ordering::Acquire) {
            return core::ptr::null_mut();
        }
        arch::without_irq(|| {
            let mut inner = self.inner.lock();
            match inner.heap.alloc(layout) {
                Ok(block) => {
                    inner.note(block.addr().get(), layout, true);
                    block.as_ptr()
                }
                Err(()) => core::ptr::null_mut(),
            }
        })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(pointer) else {
            return;
        };
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        arch::without_irq(|| {
            let mut inner = self.inner.lock();
            inner.note(pointer.addr(), layout, false);
            // SAFETY: the caller returns a block that `alloc` gave for this layout.
            unsafe { inner.heap.dealloc(block, layout) };
        });
    }
}

/// Free RAM that has been mapped for the heap and is used by nothing else. Made by [`crate::ram::LinearMap`].
#[derive(Debug)]
pub struct FreeMemory {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl FreeMemory {
    /// Gives it to `heap` for good.
    ///
    /// # Errors
    /// See [`HeapError`].
    pub fn give_to(self, heap: &'static KernelHeap) -> Result<(), HeapError> {
        heap.add(self.start, self.len)
    }
}
