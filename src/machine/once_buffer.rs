// SPDX-License-Identifier: MIT OR Apache-2.0
//! A static buffer that is handed out once, so that owners need no `unsafe` and no allocation.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A static `T` that [`OnceBuffer::take`] gives away once.
#[derive(Debug)]
pub struct OnceBuffer<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `take` gives the only reference away, once.
unsafe impl<T: Send> Sync for OnceBuffer<T> {}

impl<T> OnceBuffer<T> {
    /// A buffer with this first content.
    pub const fn new(value: T) -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// The buffer, the first time; `None` after.
    #[expect(
        clippy::mut_from_ref,
        reason = "the flag lets exactly one caller through"
    )]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.is_taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the swap let exactly one caller through, and the static lives for ever.
        Some(unsafe { &mut *self.value.get() })
    }

    /// Address of the content.
    pub fn address(&'static self) -> u64 {
        self.value.get().addr() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_given_away_once() {
        static BUFFER: OnceBuffer<[u8; 4]> = OnceBuffer::new([7; 4]);
        let first = BUFFER.take().expect("nobody took it yet");
        first[0] = 1;
        assert!(BUFFER.take().is_none());
        assert_eq!(*first, [1, 7, 7, 7]);
    }
}
