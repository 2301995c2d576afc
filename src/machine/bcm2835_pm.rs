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

use crate::bcm2836::Registers;

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

/// Driver over one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bcm2835Pm<R>(pub(crate) R);

impl<R: Registers> Bcm2835Pm<R> {
    /// Resets the chip within a moment.
    pub(crate) fn reset(&self) {
        self.0.write(WATCHDOG, PASSWORD | SOON);
        let control = self.0.read(RESET_CONTROL) & !(CONFIG | 0xff00_0000);
        self.0.write(RESET_CONTROL, PASSWORD | control | FULL_RESET);
    }

    /// Resets the chip and tells the firmware to stay there.
    pub(crate) fn power_off(&self) {
        let status = self.0.read(RESET_STATUS) & 0x00ff_ffff;
        self.0.write(RESET_STATUS, PASSWORD | status | HALT);
        self.reset();
    }

    /// Turns a running watchdog off. Returns whether one ran.
    pub(crate) fn stop(&self) -> bool {
        let was_running = self.0.read(RESET_CONTROL) & CONFIG != 0;
        if was_running {
            self.0.write(RESET_CONTROL, PASSWORD | STOPPED);
        }
        was_running
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    /// The three registers, and what was written to them.
    struct Fake {
        control: u32,
        status: u32,
        written: RefCell<Vec<(u64, u32)>>,
    }

    fn fake(control: u32, status: u32) -> Fake {
        let written = RefCell::default();
        Fake {
            control,
            status,
            written,
        }
    }

    impl Registers for &Fake {
        fn read(&self, offset: u64) -> u32 {
            match offset {
                0x1c => self.control,
                0x20 => self.status,
                _ => panic!("{offset:#x} read"),
            }
        }
        fn write(&self, offset: u64, value: u32) {
            self.written.borrow_mut().push((offset, value));
        }
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
    fn running_watchdog_is_turned_off_and_another_left_alone() {
        let chip = fake(0x122, 0);
        assert!(Bcm2835Pm(&chip).stop());
        assert_eq!(*chip.written.borrow(), [(0x1c, 0x5a00_0102)]);
        let chip = fake(0x102, 0);
        assert!(!Bcm2835Pm(&chip).stop());
        assert_eq!(*chip.written.borrow(), []);
    }
}
