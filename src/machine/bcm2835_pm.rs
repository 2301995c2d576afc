// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power management of a BCM2835 and its successors, as far as reset, power off and the watchdog go.
//!
//! Broadcom documents it nowhere; source: Linux's drivers/watchdog/bcm2835_wdt.c. Writes need a password in the top byte.
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

const RESET_CONTROL: u64 = 0x1c;
const RESET_STATUS: u64 = 0x20;
const WATCHDOG: u64 = 0x24;
const PASSWORD: u32 = 0x5a00_0000;
/// What happens when the watchdog has run out: nothing, or a full reset.
const CONFIG: u32 = 0x30;
const FULL_RESET: u32 = 0x20;
/// The reset value of the control register: the watchdog does nothing.
const STOPPED: u32 = 0x102;
/// Partition 63, which the firmware takes to mean that it shall not boot.
const HALT: u32 = 0x555;
/// Ticks of 1/65536 s until the reset.
const SOON: u32 = 10;
/// The watchdog counts 20 bits of such ticks.
const LONGEST_S: u32 = 15;

/// Driver over one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bcm2835Pm<R>(pub(crate) R);

impl<R: Registers> Bcm2835Pm<R> {
    /// Resets the chip within a moment.
    pub(crate) fn reset(&self) {
        self.reset_after(SOON);
    }

    /// Resets the chip and tells the firmware to stay there.
    pub(crate) fn power_off(&self) {
        let status = self.0.read(RESET_STATUS) & 0x00ff_ffff;
        self.0.write(RESET_STATUS, PASSWORD | status | HALT);
        self.reset();
    }

    /// Whether something follows when the watchdog has run out.
    pub(crate) fn is_running(&self) -> bool {
        self.0.read(RESET_CONTROL) & CONFIG != 0
    }

    /// Starts the watchdog, or starts it again; 15 s at most. Returns the seconds until it resets the chip.
    pub(crate) fn start(&self, seconds: u32) -> u32 {
        let seconds = seconds.clamp(1, LONGEST_S);
        self.reset_after(seconds.wrapping_shl(16));
        seconds
    }

    /// Turns the watchdog off.
    pub(crate) fn stop(&self) {
        self.0.write(RESET_CONTROL, PASSWORD | STOPPED);
    }

    fn reset_after(&self, ticks: u32) {
        self.0.write(WATCHDOG, PASSWORD | ticks);
        let control = self.0.read(RESET_CONTROL) & !(CONFIG | 0xff00_0000);
        self.0.write(RESET_CONTROL, PASSWORD | control | FULL_RESET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::Fake;

    fn fake(control: u32, status: u32) -> Fake {
        let chip = Fake::default();
        chip.set(0x1c, control);
        chip.set(0x20, status);
        chip
    }

    #[test]
    fn reset_sets_the_watchdog_before_what_follows_it() {
        // Linux's bcm2835_wdt.c, __bcm2835_restart: 10 ticks, then WRCFG = full reset.
        let chip = fake(0x112, 0x1000);
        Bcm2835Pm(&chip).reset();
        let wanted = [(0x24, 0x5a00_000a), (0x1c, 0x5a00_0122)];
        assert_eq!(*chip.written.borrow(), wanted);
    }

    #[test]
    fn power_off_names_partition_63_and_resets() {
        let chip = fake(0x102, 0x1000);
        Bcm2835Pm(&chip).power_off();
        let wanted = [
            (0x20, 0x5a00_1555),
            (0x24, 0x5a00_000a),
            (0x1c, 0x5a00_0122),
        ];
        assert_eq!(*chip.written.borrow(), wanted);
    }

    #[test]
    fn watchdog_is_started_with_20_bits_of_ticks() {
        // bcm2835_wdt_start: seconds << 16, then WRCFG = full reset; 20 bits at 65,536 Hz are 15 s.
        for (seconds, taken, ticks) in [
            (0, 1, 0x1_0000),
            (2, 2, 0x2_0000),
            (15, 15, 0xf_0000),
            (16, 15, 0xf_0000),
            (u32::MAX, 15, 0xf_0000),
        ] {
            let chip = fake(0x102, 0);
            assert_eq!(Bcm2835Pm(&chip).start(seconds), taken);
            let wanted = [(0x24, 0x5a00_0000 | ticks), (0x1c, 0x5a00_0122)];
            assert_eq!(*chip.written.borrow(), wanted, "{seconds} s");
        }
    }

    #[test]
    fn running_watchdog_is_told_and_turned_off() {
        let chip = fake(0x122, 0);
        assert!(Bcm2835Pm(&chip).is_running());
        Bcm2835Pm(&chip).stop();
        assert_eq!(*chip.written.borrow(), [(0x1c, 0x5a00_0102)]);
        assert!(!Bcm2835Pm(&fake(0x102, 0)).is_running());
    }
}
