// SPDX-License-Identifier: MIT OR Apache-2.0
//! A spin lock that knows who holds it: taken twice by one CPU, or not given back in time, it is a crash that says where.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::sync::atomic::{AtomicUsize, Ordering};

use machine::{arch, exceptions, percpu};
use spin::{Mutex, MutexGuard};
use vmcore::afterimage_notes::CrashKind;

use super::HARD;
use crate::crash;
use crate::interrupts::TICK_US;

const NOBODY: usize = usize::MAX;
/// Longest step of the counter between two looks that counts as waiting: more means that the machine was held.
const STEP_US: u64 = 1_000;

/// A spin lock for a program's own data.
///
/// A CPU that waits for a lock that it holds itself will wait for ever, and crashes at once; one that waits for another CPU for
/// `watchdog_thresh=` seconds crashes, too. The crash says where the lock was taken. Threads of the program must not be
/// switched while one of them holds a lock. Interrupts stay as they are.
pub struct Lock<T> {
    data: Mutex<T>,
    /// Slot of the CPU that holds it.
    holder: AtomicUsize,
    /// Where it was taken; only ever tried.
    place: Mutex<Option<&'static Location<'static>>>,
}

/// Access to what a [`Lock`] holds; it is given back when this is dropped.
#[must_use = "the lock is given back when this is dropped"]
pub struct LockGuard<'a, T> {
    holder: &'a AtomicUsize,
    data: MutexGuard<'a, T>,
}

impl<T> Lock<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        Self {
            data: Mutex::new(data),
            holder: AtomicUsize::new(NOBODY),
            place: Mutex::new(None),
        }
    }

    /// Takes the lock, and waits for it if need be.
    #[track_caller]
    pub fn lock(&self) -> LockGuard<'_, T> {
        let caller = Location::caller();
        let data = match self.data.try_lock() {
            Some(data) => data,
            None => self.wait(caller),
        };
        self.hold(data, caller)
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        let data = self.data.try_lock()?;
        Some(self.hold(data, Location::caller()))
    }

    fn hold<'a>(
        &'a self,
        data: MutexGuard<'a, T>,
        caller: &'static Location<'static>,
    ) -> LockGuard<'a, T> {
        self.holder.store(percpu::current_slot(), Ordering::Relaxed);
        if let Some(mut place) = self.place.try_lock() {
            *place = Some(caller);
        }
        LockGuard {
            holder: &self.holder,
            data,
        }
    }

    #[inline(never)]
    fn wait(&self, caller: &'static Location<'static>) -> MutexGuard<'_, T> {
        let own = percpu::current_slot();
        let limit_us = HARD.seconds().saturating_mul(1_000_000);
        let first_tick = super::ticks_of(own);
        let (mut last, mut waited_us) = (arch::counter(), 0_u64);
        loop {
            if let Some(data) = self.data.try_lock() {
                return data;
            }
            let holder = self.holder.load(Ordering::Relaxed);
            let now = arch::counter();
            let step = now.saturating_sub(last);
            // Less than a microsecond would be lost each time.
            if arch::ticks_to_us(step) > 0 {
                waited_us = waited_us.saturating_add(arch::ticks_to_us(step).min(STEP_US));
                last = now;
            }
            // Where ticks come they are the better measure, and make this found before the soft lockup that it also is.
            let ticks = u64::from(super::ticks_of(own).wrapping_sub(first_tick));
            let ticked_us = ticks.saturating_mul(TICK_US);
            let is_too_long = limit_us != 0 && waited_us.max(ticked_us) >= limit_us;
            if holder == own || is_too_long {
                self.locked_up(holder, own, waited_us.max(ticked_us), caller);
            }
            core::hint::spin_loop();
        }
    }

    #[cold]
    fn locked_up(
        &self,
        holder: usize,
        own: usize,
        waited_us: u64,
        caller: &'static Location<'static>,
    ) -> ! {
        let registers = crash::notes::registers(&exceptions::capture_registers());
        let place = Taken(self.place.try_lock().and_then(|place| *place));
        if holder == own {
            crash::die(
                CrashKind::SpinLockup,
                &registers,
                None,
                format_args!(
                    "spin lockup: CPU {own} waits at {caller} for a lock that it took itself {place}"
                ),
            )
        }
        super::ACCUSED.store(holder, Ordering::Relaxed);
        crash::die(
            CrashKind::SpinLockup,
            &registers,
            None,
            format_args!(
                "spin lockup: CPU {own} waited {} s at {caller} for a lock that CPU {} took {place}",
                waited_us / 1_000_000,
                Holder(holder)
            ),
        )
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // Before the lock itself is free, which happens when the fields are dropped.
        self.holder.store(NOBODY, Ordering::Relaxed);
    }
}

/// Where a lock was taken, in words.
struct Taken(Option<&'static Location<'static>>);

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => write!(f, "at {place}"),
            None => f.write_str("somewhere"),
        }
    }
}

/// A CPU's slot, or that it is not known.
struct Holder(usize);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == NOBODY {
            f.write_str("?")
        } else {
            write!(f, "{}", self.0)
        }
    }
}
