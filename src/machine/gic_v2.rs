// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the registers of a GICv2 beside the driver crate (Arm IHI 0048B.b): groups, the stop request, and leaving it quiet.
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

use crate::gic_v3::{quiesce_word, register_at};
use crate::registers::Registers;

/// Interrupt id of the stop request, an SGI.
pub(crate) const STOP_INTID: u32 = 7;

// Section 4.3.
pub(crate) const GICD_CTLR: u64 = 0;
pub(crate) const GICD_TYPER: u64 = 4;
pub(crate) const GICD_IGROUPR: u64 = 0x80;
pub(crate) const GICD_ITARGETSR: u64 = 0x800;
pub(crate) const GICD_SGIR: u64 = 0xf00;
// Section 4.4.
pub(crate) const GICC_CTLR: u64 = 0;
pub(crate) const GICC_PMR: u64 = 4;
const GICC_IAR: u64 = 0xc;
const GICC_EOIR: u64 = 0x10;
pub(crate) const GICC_APR0: u64 = 0xd0;
pub(crate) const GICC_NSAPR0: u64 = 0xe0;
/// Ids from here on are no interrupts (section 3.2.5).
pub(crate) const SPECIAL: u32 = 1020;

/// Which group serves what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// The stop request is Group 0, taken as FIQ, all else Group 1.
    Both,
    /// Group 0 is not ours: everything is the only group that is seen.
    One,
    /// Group 0 would be ours and is not asked for: everything is Group 0, which without FIQEn is signalled as IRQ.
    Left,
}

impl Groups {
    /// IGROUPR of 32 interrupts.
    const fn of_others(self) -> u32 {
        match self {
            Self::Left => 0,
            Self::Both | Self::One => u32::MAX,
        }
    }
}

/// Whether Group 0 is ours: IGROUPR at `register` can be written and read back.
pub(crate) fn owns_group0(registers: &impl Registers, register: u64) -> bool {
    let pattern = !(1 << STOP_INTID);
    registers.write(register, pattern);
    registers.read(register) == pattern
}

/// Number of the last word of 32 interrupts (GICD_TYPER.ITLinesNumber).
pub(crate) fn lines(distributor: &impl Registers) -> u64 {
    u64::from(distributor.read(GICD_TYPER) & 0x1f)
}

/// Driver over a distributor and this CPU's interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GicV2<R> {
    pub(crate) distributor: R,
    pub(crate) interface: R,
}

impl<R: Registers> GicV2<R> {
    /// Sets up what all CPUs share, and finds out about Group 0 unless it `is_left`.
    pub(crate) fn init(&self, is_left: bool) -> Groups {
        let distributor = &self.distributor;
        distributor.write(GICD_CTLR, 0);
        let preset = if is_left { Groups::Left } else { Groups::One };
        for word in 0..=lines(distributor) {
            distributor.write(register_at(0, GICD_IGROUPR, word), preset.of_others());
        }
        let groups = if !is_left && owns_group0(distributor, GICD_IGROUPR) {
            Groups::Both
        } else {
            preset
        };
        // EnableGrp0 and EnableGrp1; seen from the non-secure side bit 0 is EnableGrp1.
        let enables = if groups == Groups::Both { 3 } else { 1 };
        distributor.write(GICD_CTLR, enables);
        groups
    }

    /// Sets the groups of this CPU's own interrupts: SGIs and PPIs are banked.
    pub(crate) fn init_own_groups(&self, groups: Groups) {
        let own = match groups {
            Groups::Both => !(1 << STOP_INTID),
            Groups::One | Groups::Left => groups.of_others(),
        };
        self.distributor.write(GICD_IGROUPR, own);
    }

    /// Lets this CPU's interface signal them.
    pub(crate) fn init_interface(&self, groups: Groups) {
        self.interface.write(GICC_PMR, 0xff);
        // EnableGrp0, EnableGrp1, AckCtl, FIQEn. With AckCtl one IAR serves both groups: QEMU has no GICC_AIAR.
        let control = if groups == Groups::Both { 0b1111 } else { 1 };
        self.interface.write(GICC_CTLR, control);
    }

    /// Sends a shared interrupt to this CPU alone.
    pub(crate) fn target_own(&self, intid: u32) {
        // The CPU's own mask stands in the banked targets of its SGIs (section 4.3.12).
        let own = self.distributor.read(GICD_ITARGETSR) & 0xff;
        let word = GICD_ITARGETSR.wrapping_add(u64::from(intid & !3));
        let shift = (intid & 3).wrapping_mul(8);
        let others = self.distributor.read(word) & !0xff_u32.wrapping_shl(shift);
        let value = others | own.wrapping_shl(shift);
        self.distributor.write(word, value);
    }

    /// Takes the next interrupt, of either group; `None` when it was spurious.
    pub(crate) fn acknowledge(&self) -> Option<u32> {
        Some(self.interface.read(GICC_IAR) & 0x3ff).filter(|id| *id < SPECIAL)
    }

    /// Ends an interrupt.
    pub(crate) fn end(&self, intid: u32) {
        self.interface.write(GICC_EOIR, intid);
    }

    /// Takes and ends an interrupt. Returns its id.
    pub(crate) fn take(&self) -> Option<u32> {
        // For an SGI the register names the sender, too, and the end has to (section 4.4.5).
        let taken = self.interface.read(GICC_IAR);
        let id = taken & 0x3ff;
        (id < SPECIAL).then(|| {
            self.end(taken);
            id
        })
    }

    /// Asks all other CPUs to stop.
    pub(crate) fn send_stop(&self, groups: Groups) {
        // All but self; NSATT chooses the group where the GIC has both (section 4.3.15).
        let is_group1 = u32::from(groups != Groups::Both) << 15;
        self.distributor
            .write(GICD_SGIR, 1 << 24 | is_group1 | STOP_INTID);
    }

    /// Disables and clears everything that this CPU reaches.
    pub(crate) fn quiesce(&self) {
        let last = lines(&self.distributor);
        for word in 0..=last {
            quiesce_word(&self.distributor, 0, word);
        }
        self.distributor.write(GICD_CTLR, 0);
        // As at reset (section 4.3.4): Linux never writes the groups of a GICv2, and enables Group 0 only. On a GICv3 it writes them all.
        for word in 0..=last {
            let register = register_at(0, GICD_IGROUPR, word);
            self.distributor.write(register, 0);
        }
        for register in [GICC_APR0, GICC_NSAPR0, GICC_CTLR] {
            self.interface.write(register, 0);
        }
    }

    /// The same for the interrupts of this CPU, which no other reaches.
    pub(crate) fn quiesce_own(&self) {
        quiesce_word(&self.distributor, 0, 0);
        self.distributor.write(GICD_IGROUPR, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::Fake;

    /// A GIC-400 as a Raspberry Pi 4's: 7 words of 32 interrupts, 256 in all (BCM2711 ARM Peripherals, section 6.3; DDI 0471, 3.3).
    const TYPER: u32 = 0x0000_fc67;

    fn gic<'a>(distributor: &'a Fake, interface: &'a Fake) -> GicV2<&'a Fake> {
        distributor.set(GICD_TYPER, TYPER);
        GicV2 {
            distributor,
            interface,
        }
    }

    /// Firmware keeps Group 0: the non-secure side reads IGROUPR as zero and its writes are ignored (section 4.3.4).
    struct Owned<'a>(&'a Fake);

    impl Registers for Owned<'_> {
        fn read(&self, offset: u64) -> u32 {
            Registers::read(&self.0, offset)
        }
        fn write(&self, offset: u64, value: u32) {
            if !(GICD_IGROUPR..GICD_IGROUPR + 0x80).contains(&offset) {
                Registers::write(&self.0, offset, value);
            }
        }
    }

    #[test]
    fn group_0_that_can_be_written_is_for_the_stop_request() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        let gic = gic(&distributor, &interface);
        let groups = gic.init(false);
        assert_eq!(groups, Groups::Both);
        let written = distributor.written.take();
        assert_eq!(written.first(), Some(&(0, 0)), "off while it is changed");
        let all_group1 = (0..8).map(|word| (0x80 + 4 * word, u32::MAX));
        assert!(written[1..9].iter().copied().eq(all_group1));
        assert_eq!(written[9..], [(0x80, !0x80), (0, 3)]);
        gic.init_own_groups(groups);
        gic.init_interface(groups);
        // FIQEn, AckCtl, both groups (table 4-30); the lowest priority is let through.
        assert_eq!(*distributor.written.borrow(), [(0x80, !0x80)]);
        assert_eq!(*interface.written.borrow(), [(4, 0xff), (0, 0xf)]);
    }

    #[test]
    fn group_0_of_the_firmware_leaves_the_one_that_is_seen() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        distributor.set(GICD_TYPER, TYPER);
        let gic = GicV2 {
            distributor: Owned(&distributor),
            interface: Owned(&interface),
        };
        let groups = gic.init(false);
        assert_eq!(groups, Groups::One);
        gic.init_own_groups(groups);
        gic.init_interface(groups);
        assert_eq!(*distributor.written.borrow(), [(0, 0), (0, 1)]);
        assert_eq!(*interface.written.borrow(), [(4, 0xff), (0, 1)]);
        distributor.written.take();
        gic.send_stop(groups);
        // TargetListFilter 1, NSATT, id 7.
        assert_eq!(*distributor.written.borrow(), [(0xf00, 0x0100_8007)]);
    }

    #[test]
    fn group_0_that_is_left_alone_serves_everything() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        let gic = gic(&distributor, &interface);
        let groups = gic.init(true);
        assert_eq!(groups, Groups::Left);
        gic.init_own_groups(groups);
        let written = distributor.written.borrow();
        let is_group0 = |(offset, value): &(u64, u32)| *offset < 0x80 || *value == 0;
        assert!(written.iter().all(is_group0), "{written:x?}");
        assert!(written.contains(&(0, 1)));
    }

    #[test]
    fn stop_request_is_a_group_0_sgi_to_all_others() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        gic(&distributor, &interface).send_stop(Groups::Both);
        assert_eq!(*distributor.written.borrow(), [(0xf00, 0x0100_0007)]);
    }

    #[test]
    fn shared_interrupt_is_sent_to_the_own_cpu_and_its_neighbours_stay() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        // CPU 2 reads its mask in each byte of the first words.
        distributor.set(0x800, 0x0404_0404);
        // The PL011's 153 lies in the word at 0x898, second byte.
        distributor.set(0x898, 0x0102_0108);
        gic(&distributor, &interface).target_own(153);
        assert_eq!(*distributor.written.borrow(), [(0x898, 0x0102_0408)]);
    }

    #[test]
    fn interrupts_are_taken_and_spurious_ones_are_none() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        let gic = gic(&distributor, &interface);
        // An SGI's sender stands in bits 10 to 12 (table 4-33).
        interface.set(0xc, 3 << 10 | 7);
        assert_eq!(gic.acknowledge(), Some(7));
        assert_eq!(gic.take(), Some(7));
        assert_eq!(*interface.written.borrow(), [(0x10, 3 << 10 | 7)]);
        for special in 1020..1024 {
            interface.set(0xc, special);
            assert_eq!((gic.acknowledge(), gic.take()), (None, None));
        }
        assert_eq!(interface.written.borrow().len(), 1, "nothing to end");
        interface.set(0xc, 1019);
        assert_eq!(gic.acknowledge(), Some(1019));
    }

    #[test]
    fn nothing_is_left_to_the_next_kernel() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        gic(&distributor, &interface).quiesce();
        let written = distributor.written.borrow();
        for word in 0..8 {
            for register in [0x180, 0x280, 0x380] {
                assert!(written.contains(&(register + 4 * word, u32::MAX)));
            }
            assert!(written.contains(&(0x80 + 4 * word, 0)));
        }
        assert!(written.contains(&(0, 0)));
        assert_eq!(written.len(), 8 * 4 + 1);
        assert_eq!(*interface.written.borrow(), [(0xd0, 0), (0xe0, 0), (0, 0)]);
    }

    #[test]
    fn cpu_that_stops_clears_its_own_word_alone() {
        let (distributor, interface) = (Fake::default(), Fake::default());
        gic(&distributor, &interface).quiesce_own();
        let own = [
            (0x180, u32::MAX),
            (0x380, u32::MAX),
            (0x280, u32::MAX),
            (0x80, 0),
        ];
        assert_eq!(*distributor.written.borrow(), own);
        assert!(interface.written.borrow().is_empty());
    }
}
