// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bounded arena as global allocator: for library codecs in the capture kernel, which allocate once and never free.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// `N` bytes, handed out upwards; nothing is taken back.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Arena<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    used: AtomicUsize,
}

// SAFETY: `alloc` hands out disjoint parts, reserved atomically.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Arena<N> {
    /// An empty arena.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; N]),
            used: AtomicUsize::new(0),
        }
    }

    /// Bytes handed out.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: 1. Each call reserves `start..end` by compare-and-exchange, so parts are disjoint. 2. `start` is aligned as asked.
// 3. Nothing unwinds.
unsafe impl<const N: usize> GlobalAlloc for Arena<N> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let place = |used: usize| {
            let start = base
                .addr()
                .checked_add(used)?
                .checked_next_multiple_of(layout.align())?
                - base.addr();
            let end = start.checked_add(layout.size())?;
            (end <= N).then_some((start, end))
        };
        let reserved = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                place(used).map(|(_, end)| end)
            });
        match reserved.ok().and_then(place) {
            // SAFETY: `start..end` lies inside the arena.
            Some((start, _)) => unsafe { base.add(start) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_and_disjoint() {
        static ARENA: Arena<256> = Arena::new();
        let layout = Layout::from_size_align(24, 16).expect("valid layout");
        // SAFETY: the layout has a size.
        let first = unsafe { ARENA.alloc(layout) };
        // SAFETY: the layout has a size.
        let second = unsafe { ARENA.alloc(layout) };
        assert_eq!((first.addr() % 16, second.addr() % 16), (0, 0));
        assert!(second.addr() >= first.addr() + 24);
    }

    #[test]
    fn allocation_past_the_end_is_refused() {
        static ARENA: Arena<64> = Arena::new();
        let layout = Layout::from_size_align(65, 1).expect("valid layout");
        // SAFETY: the layout has a size.
        assert!(unsafe { ARENA.alloc(layout) }.is_null());
        assert_eq!(ARENA.used(), 0);
    }
}
