// SPDX-License-Identifier: MIT OR Apache-2.0
//! The watchdog of Nuvoton's NPCM7xx and NPCM8xx: one register of a timer block.
//!
//! Nuvoton documents it under a non-disclosure agreement only; source: Linux's drivers/watchdog/npcm_wdt.c.
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

use crate::registers::Registers;

// WTCR.
const ENABLE: u32 = 1 << 7;
/// It has run out once, and resets when 1024 of its clocks are over, too; cleared by writing 1.
const HAS_RUN_OUT: u32 = 1 << 3;
const RESETS: u32 = 1 << 1;
/// Counts from the beginning again.
const RESTART: u32 = 1 << 0;

/// Whole seconds until it runs out, at least, and the clock and interval that make them.
const PERIODS: [(u32, u32); 10] = [
    (1, 0x800),
    (2, 0x420),
    (5, 0x810),
    (10, 0x430),
    (21, 0x820),
    (43, 0xc00),
    (85, 0x830),
    (172, 0xc10),
    (687, 0xc20),
    (2750, 0xc30),
];

/// Driver over one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NpcmWatchdog<R>(pub(crate) R);

impl<R: Registers> NpcmWatchdog<R> {
    /// Whether it counts and would reset the machine.
    pub(crate) fn is_running(&self) -> bool {
        let both = ENABLE | RESETS;
        self.0.read(0) & both == both
    }

    /// Starts it, or starts it again, with the first period that is not shorter than `seconds`; returns that period.
    pub(crate) fn start(&self, seconds: u32) -> u32 {
        let fits = PERIODS.iter().find(|(period, _)| *period >= seconds);
        let (period, value) = *fits.unwrap_or(&(2750, 0xc30));
        let flags = ENABLE | HAS_RUN_OUT | RESETS | RESTART;
        self.0.write(0, value | flags);
        period
    }

    /// Turns it off.
    pub(crate) fn stop(&self) {
        self.0.write(0, HAS_RUN_OUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::Fake;

    #[test]
    fn period_is_the_next_longer_one() {
        // Linux's npcm_wdt.c, "Watchdog timeouts".
        for (seconds, period, value) in [
            (0, 1, 0x800),
            (1, 1, 0x800),
            (3, 5, 0x810),
            (15, 21, 0x820),
            (2750, 2750, 0xc30),
            (u32::MAX, 2750, 0xc30),
        ] {
            let register = Fake::default();
            assert_eq!(NpcmWatchdog(&register).start(seconds), period);
            let written = register.written.borrow();
            assert_eq!(*written, [(0, value | 0x8b)], "{seconds} s");
        }
    }

    #[test]
    fn watchdog_that_would_not_reset_does_not_run() {
        for (value, is_running) in [
            (0x400, false),
            (0x480, false),
            (0x402, false),
            (0x482, true),
        ] {
            let register = Fake::default();
            register.set(0, value);
            assert_eq!(NpcmWatchdog(&register).is_running(), is_running);
        }
    }

    #[test]
    fn watchdog_turned_off_does_not_run() {
        let register = Fake::default();
        NpcmWatchdog(&register).start(10);
        assert!(NpcmWatchdog(&register).is_running());
        NpcmWatchdog(&register).stop();
        assert!(!NpcmWatchdog(&register).is_running());
    }
}
