// SPDX-License-Identifier: MIT OR Apache-2.0
//! The board's watchdog after a crash: fed while there is progress, so that it resets a machine whose dump hangs (E14).
//!
//! Only what is told here of progress feeds it, and nothing does before it was taken over: until the crash it is the program's.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use boot_config::Dtb;

use crate::bcm2835_pm::Bcm2835Pm;
use crate::mmio::Block;
use crate::mmu::AddressSpace;
use crate::npcm_watchdog::NpcmWatchdog;
use crate::{arch, emergency, reset};

/// Seconds without progress until one that was found running resets the machine; a Raspberry Pi's takes no more.
const TAKEN_OVER_S: u32 = 15;
/// How often it is fed within its period: often enough that it outlives a late call or two.
const FEEDS: u64 = 8;

/// Bytes of an NPCM's register.
const NPCM_LEN: u64 = 4;
/// Virtual address of it, 0 without one.
static NPCM: AtomicU64 = AtomicU64::new(0);
/// Seconds that it is fed with; 0 until it is taken over or armed.
static PERIOD_S: AtomicU32 = AtomicU32::new(0);
/// Counter when it was last fed, and at the last progress.
static FED: AtomicU64 = AtomicU64::new(0);
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// The watchdogs that are driven.
enum Watchdog {
    Bcm2835(Bcm2835Pm<Block>),
    Npcm(NpcmWatchdog<Block>),
}

impl Watchdog {
    fn get() -> Option<Self> {
        if let Some(pm) = reset::pm() {
            return Some(Self::Bcm2835(pm));
        }
        let base = NPCM.load(Ordering::Acquire);
        (base != 0).then(|| {
            // SAFETY: only `install` stores here, an address at which `map_device` mapped the register for good.
            Self::Npcm(NpcmWatchdog(unsafe { Block::new(base, NPCM_LEN) }))
        })
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Bcm2835(pm) => pm.is_running(),
            Self::Npcm(watchdog) => watchdog.is_running(),
        }
    }

    fn start(&self, seconds: u32) -> u32 {
        match self {
            Self::Bcm2835(pm) => pm.start(seconds),
            Self::Npcm(watchdog) => watchdog.start(seconds),
        }
    }

    fn stop(&self) {
        match self {
            Self::Bcm2835(pm) => pm.stop(),
            Self::Npcm(watchdog) => watchdog.stop(),
        }
    }
}

/// Finds out from the DTB what there is, after [`reset::install`]. What is wrong with it is said, and then it counts as absent.
pub fn install(space: &mut AddressSpace, dtb: &Dtb<'_>) {
    match dtb.npcm_watchdog() {
        Ok(None) => {}
        Ok(Some(range)) => match space.map_device(range.start, NPCM_LEN) {
            Ok(base) => NPCM.store(base, Ordering::Release),
            Err(error) => emergency!("Afterimage: watchdog: {error}\n"),
        },
        Err(error) => emergency!("Afterimage: device tree, watchdog: {error}\n"),
    }
}

/// Takes a running one over: fed now, and with each progress from here on. Returns its period in seconds; `None` when none runs.
pub fn take_over() -> Option<u32> {
    Watchdog::get()
        .filter(Watchdog::is_running)
        .map(|watchdog| start(&watchdog, TAKEN_OVER_S))
}

/// Starts it, or sets a running one to this period. Returns the period that it has then, in seconds; `None` without a watchdog.
pub fn arm(seconds: u32) -> Option<u32> {
    Watchdog::get().map(|watchdog| start(&watchdog, seconds.max(1)))
}

/// Turns a running one off. Returns whether one ran.
pub fn stop() -> bool {
    PERIOD_S.store(0, Ordering::Release);
    let running = Watchdog::get().filter(Watchdog::is_running);
    running.is_some_and(|watchdog| {
        watchdog.stop();
        true
    })
}

/// Tells of progress: memory was read, a byte left.
pub fn progress() {
    let period_s = PERIOD_S.load(Ordering::Acquire);
    if period_s != 0 {
        let now = arch::counter();
        PROGRESS.store(now, Ordering::Relaxed);
        feed_at(now, period_s);
    }
}

/// Tells that something is waited for, which is as good as progress for `limit_s` seconds after the last one.
pub fn waiting(limit_s: u64) {
    let period_s = PERIOD_S.load(Ordering::Acquire);
    if period_s != 0 {
        let now = arch::counter();
        let since = now.saturating_sub(PROGRESS.load(Ordering::Relaxed));
        if since < limit_s.saturating_mul(arch::counter_hz()) {
            feed_at(now, period_s);
        }
    }
}

/// Feeds it unless that was done a moment ago.
fn feed_at(now: u64, period_s: u32) {
    let every = u64::from(period_s)
        .saturating_mul(arch::counter_hz())
        .wrapping_div(FEEDS);
    let since = now.saturating_sub(FED.load(Ordering::Relaxed));
    if since >= every
        && let Some(watchdog) = Watchdog::get()
    {
        watchdog.start(period_s);
        FED.store(now, Ordering::Relaxed);
    }
}

fn start(watchdog: &Watchdog, seconds: u32) -> u32 {
    let period_s = watchdog.start(seconds);
    let now = arch::counter();
    FED.store(now, Ordering::Relaxed);
    PROGRESS.store(now, Ordering::Relaxed);
    PERIOD_S.store(period_s, Ordering::Release);
    period_s
}
