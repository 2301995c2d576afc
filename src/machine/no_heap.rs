// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's allocator: there is none.
//!
//! Libraries that could allocate are linked, so the linker asks for one; nothing that runs after a crash may call it.

use core::alloc::{GlobalAlloc, Layout};

/// Refuses every allocation.
#[derive(Debug)]
pub struct NoHeap;

// SAFETY: no memory is handed out; a null pointer says so.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
