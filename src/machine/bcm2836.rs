// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupt controllers of a BCM2836 or BCM2837 (Raspberry Pi 2 and 3), which have no GIC.
//!
//! Sources: Broadcom, ARM Quad A7 core (QA7), revision 3.4: timers and mailboxes of each core; BCM2835 ARM Peripherals, chapter 7:
//! the devices of all cores, which are one source of the first controller. Interrupts are numbered as `boot_config` does: 16 and the
//! local source, 64 and 96 and the number in bank 1 and 2. The stop request is a mailbox that raises FIQ (decision 5).
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

/// Cores of the chip.
const CORES: u64 = 4;

// QA7, section 4.1. What is one for each core is an array.
/// Core timers interrupt control: bit n raises IRQ for source n, 0 to 3.
const TIMER_CONTROL: u64 = 0x40;
/// Core mailboxes interrupt control: bit n raises IRQ for mailbox n, bit 4 + n FIQ.
const MAILBOX_CONTROL: u64 = 0x50;
const MAILBOX_0_FIQ: u32 = 1 << 4;
const IRQ_SOURCE: u64 = 0x60;
/// Four mailboxes of each core: written, bits are set; at the other place they are read, and cleared by writing them.
const MAILBOX_SET: u64 = 0x80;
pub(crate) const MAILBOX_CLEAR: u64 = 0xc0;
const MAILBOXES: u64 = 4;

/// First number of the local sources; 0 to 3 are timers, 8 is the shared controller.
const LOCAL_FIRST: u32 = 16;
const TIMERS: u32 = 4;
const SHARED_SOURCE: u32 = 8;
/// First number of bank 1; bank 2 follows. Bank 0 holds what the Arm side of a BCM2835 had, and is not used.
const BANK_1: u32 = 64;

// BCM2835 ARM Peripherals, section 7.5.
const PENDING_1: u64 = 0x04;
const FIQ_CONTROL: u64 = 0x0c;
const ENABLE_1: u64 = 0x10;
const DISABLE_1: u64 = 0x1c;
/// Disables of bank 1, bank 2 and bank 0.
const DISABLES: u64 = 3;

/// Both controllers; the shared one where the DTB has it. `core` is the number of a core, the lowest part of its affinity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bcm2836<R> {
    pub(crate) local: R,
    pub(crate) shared: Option<R>,
}

/// The register of `core` in an array of words.
const fn of_core(array: u64, core: u64) -> u64 {
    array.wrapping_add((core & 3).wrapping_mul(4))
}

/// Mailbox 0 of `core` in an array of all cores' mailboxes.
const fn mailbox(array: u64, core: u64) -> u64 {
    array.wrapping_add((core & 3).wrapping_mul(4 * MAILBOXES))
}

impl<R: Registers> Bcm2836<R> {
    /// Whether a number is one that [`Self::enable`] takes.
    pub(crate) const fn exists(&self, intid: u32) -> bool {
        match intid.checked_sub(LOCAL_FIRST) {
            Some(0..TIMERS) => true,
            _ => self.shared.is_some() && intid >= BANK_1 && intid < BANK_1 + 64,
        }
    }

    /// Sets a core's own part up: the stop request, and nothing else.
    pub(crate) fn init_core(&self, core: u64) {
        self.local.write(mailbox(MAILBOX_CLEAR, core), u32::MAX);
        self.local.write(of_core(TIMER_CONTROL, core), 0);
        self.local
            .write(of_core(MAILBOX_CONTROL, core), MAILBOX_0_FIQ);
    }

    /// Enables a timer of `core`, or a device's interrupt for all; nothing for a number that does not exist.
    pub(crate) fn enable(&self, core: u64, intid: u32) {
        if !self.exists(intid) {
            return;
        }
        let bit = 1_u32.wrapping_shl(intid);
        match (intid >= BANK_1, &self.shared) {
            (false, _) => {
                let control = of_core(TIMER_CONTROL, core);
                let source = 1_u32.wrapping_shl(intid.wrapping_sub(LOCAL_FIRST));
                self.local.write(control, self.local.read(control) | source);
            }
            (true, Some(shared)) => shared.write(bank(ENABLE_1, intid), bit),
            _ => {}
        }
    }

    /// The lowest number that `core` is interrupted by. There is nothing to acknowledge or to end: levels go away at their sources.
    pub(crate) fn pending(&self, core: u64) -> Option<u32> {
        let sources = self.local.read(of_core(IRQ_SOURCE, core));
        let timers = sources & ((1 << TIMERS) - 1);
        if timers != 0 {
            return Some(LOCAL_FIRST.wrapping_add(timers.trailing_zeros()));
        }
        let shared = self
            .shared
            .as_ref()
            .filter(|_| sources >> SHARED_SOURCE & 1 != 0)?;
        [BANK_1, BANK_1 + 32].into_iter().find_map(|first| {
            let pending = shared.read(bank(PENDING_1, first));
            (pending != 0).then(|| first.wrapping_add(pending.trailing_zeros()))
        })
    }

    /// Takes the stop request of `core`. Returns whether there was one.
    pub(crate) fn take_stop(&self, core: u64) -> bool {
        let register = mailbox(MAILBOX_CLEAR, core);
        let bits = self.local.read(register);
        self.local.write(register, bits);
        bits != 0
    }

    /// Asks all cores but `own` to stop.
    pub(crate) fn send_stop(&self, own: u64) {
        for core in (0..CORES).filter(|core| *core != own) {
            self.local.write(mailbox(MAILBOX_SET, core), 1);
        }
    }

    /// Leaves both controllers as at reset: nothing is enabled, and no mailbox of any core holds anything.
    pub(crate) fn quiesce(&self) {
        for core in 0..CORES {
            self.local.write(of_core(TIMER_CONTROL, core), 0);
            self.local.write(of_core(MAILBOX_CONTROL, core), 0);
            for number in 0..MAILBOXES {
                let register = mailbox(MAILBOX_CLEAR, core).wrapping_add(number.wrapping_mul(4));
                self.local.write(register, u32::MAX);
            }
        }
        if let Some(shared) = &self.shared {
            shared.write(FIQ_CONTROL, 0);
            for number in 0..DISABLES {
                shared.write(DISABLE_1.wrapping_add(number.wrapping_mul(4)), u32::MAX);
            }
        }
    }
}

/// The word of an interrupt of bank 1 or 2 in a pair of registers.
const fn bank(registers: u64, intid: u32) -> u64 {
    registers.wrapping_add(if intid >= BANK_1 + 32 { 4 } else { 0 })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::registers::fake::Fake;

    fn both<'a>(local: &'a Fake, shared: &'a Fake) -> Bcm2836<&'a Fake> {
        Bcm2836 {
            local,
            shared: Some(shared),
        }
    }

    #[test]
    fn core_takes_mailbox_0_as_fiq_and_nothing_else() {
        let (local, shared) = (Fake::default(), Fake::default());
        local.set(0x4c, 0xf);
        both(&local, &shared).init_core(3);
        // QA7, table 7: core 3's mailboxes are read and cleared at 0xf0; 0x4c and 0x5c are its two controls.
        assert_eq!(
            *local.written.borrow(),
            [(0xf0, u32::MAX), (0x4c, 0), (0x5c, 0x10)]
        );
        assert_eq!(*shared.written.borrow(), []);
    }

    #[test]
    fn timers_are_enabled_at_their_core_and_devices_in_their_bank() {
        let (local, shared) = (Fake::default(), Fake::default());
        let chip = both(&local, &shared);
        local.set(0x48, 0b0001);
        chip.enable(2, 19);
        assert_eq!(*local.written.borrow(), [(0x48, 0b1001)]);
        // The auxiliary block is GPU interrupt 29, the PL011 57 (section 7.5, table of GPU peripherals).
        chip.enable(0, 64 + 29);
        chip.enable(0, 96 + 25);
        assert_eq!(*shared.written.borrow(), [(0x10, 1 << 29), (0x14, 1 << 25)]);
    }

    #[test]
    fn numbers_that_do_not_exist_are_not_enabled() {
        let (local, shared) = (Fake::default(), Fake::default());
        let chip = both(&local, &shared);
        let absent = [0, 7, 15, 20, 24, 31, 32, 63, 128, u32::MAX];
        for intid in absent {
            assert!(!chip.exists(intid), "{intid}");
            chip.enable(0, intid);
        }
        let alone = Bcm2836 {
            local: &local,
            shared: None,
        };
        assert!(alone.exists(19) && !alone.exists(64 + 29));
        alone.enable(0, 64 + 29);
        assert!(local.written.borrow().is_empty() && shared.written.borrow().is_empty());
    }

    #[test]
    fn pending_interrupts_are_named_timers_first() {
        let (local, shared) = (Fake::default(), Fake::default());
        let chip = both(&local, &shared);
        assert_eq!(chip.pending(1), None);
        local.set(0x64, 1 << 3 | 1 << 8);
        assert_eq!(chip.pending(1), Some(19));
        assert_eq!(chip.pending(0), None);
        local.set(0x64, 1 << 8);
        // The shared source without anything behind it: gone again.
        assert_eq!(chip.pending(1), None);
        shared.set(0x08, 1 << 25);
        assert_eq!(chip.pending(1), Some(96 + 25));
        shared.set(0x04, 1 << 29);
        assert_eq!(chip.pending(1), Some(64 + 29));
        // A mailbox or the PMU raises nothing that was asked for.
        local.set(0x64, 1 << 4 | 1 << 9);
        assert_eq!(chip.pending(1), None);
    }

    #[test]
    fn stop_request_reaches_the_others_and_is_taken_once() {
        let (local, shared) = (Fake::default(), Fake::default());
        let chip = both(&local, &shared);
        chip.send_stop(1);
        assert_eq!(*local.written.borrow(), [(0x80, 1), (0xa0, 1), (0xb0, 1)]);
        local.written.borrow_mut().clear();
        local.set(0xe0, 1);
        assert!(chip.take_stop(2));
        assert_eq!(*local.written.borrow(), [(0xe0, 1)]);
        local.set(0xe0, 0);
        assert!(!chip.take_stop(2));
    }

    #[test]
    fn nothing_is_left_to_the_next_kernel() {
        let (local, shared) = (Fake::default(), Fake::default());
        both(&local, &shared).quiesce();
        let local = local.written.borrow();
        for core in 0..4 {
            assert!(local.contains(&(0x40 + 4 * core, 0)) && local.contains(&(0x50 + 4 * core, 0)));
            for number in 0..4 {
                assert!(local.contains(&(0xc0 + 16 * core + 4 * number, u32::MAX)));
            }
        }
        let disabled = [0x1c, 0x20, 0x24].map(|register| (register, u32::MAX));
        assert_eq!(shared.written.borrow()[1..], disabled);
        assert_eq!(shared.written.borrow()[0], (0x0c, 0));
    }
}
