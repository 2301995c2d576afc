// SPDX-License-Identifier: MIT OR Apache-2.0
//! PL011 UART (Arm DDI 0183, chapter 3), polled and bounded.
//!
//! The driver knows no address; whoever makes one vouches for the register block behind the reference.
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

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use crate::uart::{Divisors, Driver};

register_bitfields! [u32,
    /// Data, section 3.3.1.
    Data [ DATA OFFSET(0) NUMBITS(8) [], FRAMING OFFSET(8) NUMBITS(1) [], PARITY OFFSET(9) NUMBITS(1) [],
           BREAK OFFSET(10) NUMBITS(1) [], OVERRUN OFFSET(11) NUMBITS(1) [] ],
    /// Flags, section 3.3.3.
    Flags [ BUSY OFFSET(3) NUMBITS(1) [], RX_EMPTY OFFSET(4) NUMBITS(1) [], TX_FULL OFFSET(5) NUMBITS(1) [] ],
    /// Line control, section 3.3.7.
    LineControl [ FIFO OFFSET(4) NUMBITS(1) [], WORD OFFSET(5) NUMBITS(2) [ EIGHT = 3 ] ],
    /// Control, section 3.3.8.
    Control [ ENABLE OFFSET(0) NUMBITS(1) [], LOOPBACK OFFSET(7) NUMBITS(1) [], TRANSMIT OFFSET(8) NUMBITS(1) [], RECEIVE OFFSET(9) NUMBITS(1) [] ],
    /// Interrupt mask and clear, sections 3.3.10 and 3.3.13.
    Interrupts [ RECEIVE OFFSET(4) NUMBITS(1) [], RECEIVE_TIMEOUT OFFSET(6) NUMBITS(1) [], BREAK OFFSET(9) NUMBITS(1) [],
                 ALL OFFSET(0) NUMBITS(11) [] ],
];

register_structs! {
    /// The register block.
    pub Registers {
        (0x000 => data: ReadWrite<u32, Data::Register>),
        (0x004 => _reserved0),
        (0x018 => flags: ReadOnly<u32, Flags::Register>),
        (0x01c => _reserved1),
        (0x024 => integer_divisor: ReadWrite<u32>),
        (0x028 => fractional_divisor: ReadWrite<u32>),
        (0x02c => line_control: ReadWrite<u32, LineControl::Register>),
        (0x030 => control: ReadWrite<u32, Control::Register>),
        (0x034 => _reserved2),
        (0x038 => interrupt_mask: ReadWrite<u32, Interrupts::Register>),
        (0x03c => _reserved3),
        (0x044 => interrupt_clear: WriteOnly<u32, Interrupts::Register>),
        (0x048 => dma_control: ReadWrite<u32>),
        (0x04c => @END),
    }
}

const _: () = assert!(size_of::<Registers>() == 0x4c);

/// Baud rate divisor: integer part, and fraction in 1/64 (sections 3.3.5 and 3.3.6: clock / (16 × baud)).
///
/// `None` when the rate cannot be made from the clock: the divisor is 1 to 65535. It is rounded to 1/64, so the rate that is
/// made is off by at most 1/128, which leaves a receiver's 2 % alone.
pub fn divisors(clock_hz: u32, baud: u32) -> Option<(u32, u32)> {
    // 64 * clock / (16 * baud), rounded.
    let twice = u64::from(clock_hz)
        .saturating_mul(8)
        .checked_div(baud.into())?;
    let scaled = twice.div_ceil(2);
    let (integer, fraction) = ((scaled >> 6) as u32, (scaled & 63) as u32);
    let is_possible = (1..=0xffff).contains(&integer) && !(integer == 0xffff && fraction != 0);
    is_possible.then_some((integer, fraction))
}

/// Baud rate that divisors make of the clock; `None` for divisors that the UART does not take: integer part 0 (what a reset
/// leaves), or more than 65535 in all (section 3.3.6).
pub fn actual_baud(clock_hz: u32, (integer, fraction): (u32, u32)) -> Option<u32> {
    let scaled = u64::from(integer) << 6 | u64::from(fraction);
    let is_valid = fraction < 64 && (1 << 6..=0xffff << 6).contains(&scaled);
    // clock / (16 × divisor) = 4 × clock / (64 × divisor), rounded; at most clock / 16.
    let rounded = u64::from(clock_hz)
        .saturating_mul(4)
        .saturating_add(scaled >> 1);
    rounded
        .checked_div(scaled)
        .filter(|_| is_valid)
        .and_then(|baud| u32::try_from(baud).ok())
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte.
    Byte(u8),
    /// A BREAK on the line.
    Break,
}

/// A character as the receive FIFO keeps it: eight bits, and what went wrong with them (section 3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Character {
    /// The eight bits; 0 for a BREAK.
    pub byte: u8,
    /// The line was low for longer than a character: no sender sent this byte.
    pub is_break: bool,
    /// The stop bit or the parity bit was wrong: noise, or the other side's baud rate.
    pub is_damaged: bool,
    /// Characters before this one found the FIFO full and are lost. This one is good.
    pub is_after_overrun: bool,
}

/// A damaged byte, too, is a byte.
impl From<Character> for Received {
    fn from(character: Character) -> Self {
        match character.is_break {
            true => Self::Break,
            false => Self::Byte(character.byte),
        }
    }
}

/// Driver over one register block.
#[derive(Clone, Copy)]
pub struct Pl011<'a> {
    registers: &'a Registers,
}

impl<'a> Pl011<'a> {
    /// A driver over `registers`.
    pub fn new(registers: &'a Registers) -> Self {
        Self { registers }
    }
}

impl Driver for Pl011<'_> {
    fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors> {
        divisors(clock_hz, baud)
    }

    fn actual_baud(&self, clock_hz: u32, divisors: Divisors) -> Option<u32> {
        actual_baud(clock_hz, divisors)
    }

    /// 8 data bits, no parity, FIFOs on, transmitter and receiver on, interrupts and DMA off; `rate` sets the divisors.
    ///
    /// What an earlier owner left in the transmit FIFO is lost if it was still busy: the crash path waits before.
    fn configure(&self, rate: Option<Divisors>) {
        self.registers.interrupt_mask.set(0);
        self.registers.dma_control.set(0);
        if let Some((integer, fraction)) = rate {
            self.registers.control.set(0);
            self.registers.integer_divisor.set(integer);
            self.registers.fractional_divisor.set(fraction);
        }
        // Writing the line control latches the divisors (section 3.3.7).
        self.registers
            .line_control
            .write(LineControl::WORD::EIGHT + LineControl::FIFO::SET);
        self.registers
            .interrupt_clear
            .write(Interrupts::ALL.val(0x7ff));
        self.registers
            .control
            .write(Control::ENABLE::SET + Control::TRANSMIT::SET + Control::RECEIVE::SET);
    }

    /// Raises every interrupt, asks for DMA both ways, and loops back what is sent: for tests of what comes after.
    fn disturb(&self) {
        self.registers
            .interrupt_mask
            .write(Interrupts::ALL.val(0x7ff));
        self.registers.dma_control.set(3);
        self.registers.control.write(
            Control::ENABLE::SET
                + Control::LOOPBACK::SET
                + Control::TRANSMIT::SET
                + Control::RECEIVE::SET,
        );
    }

    /// The divisors that are set: integer part, and fraction in 1/64; both 0 after a reset.
    fn divisors(&self) -> Divisors {
        (
            self.registers.integer_divisor.get() & 0xffff,
            self.registers.fractional_divisor.get() & 0x3f,
        )
    }

    /// Interrupts on received bytes and BREAK.
    fn enable_receive_interrupt(&self) {
        self.registers.interrupt_mask.write(
            Interrupts::RECEIVE::SET + Interrupts::RECEIVE_TIMEOUT::SET + Interrupts::BREAK::SET,
        );
    }

    /// Clears what raised the interrupt.
    fn acknowledge(&self) {
        self.registers.interrupt_clear.write(
            Interrupts::RECEIVE::SET + Interrupts::RECEIVE_TIMEOUT::SET + Interrupts::BREAK::SET,
        );
    }

    /// Writes `byte` if the FIFO has room.
    fn try_write(&self, byte: u8) -> bool {
        if self.registers.flags.is_set(Flags::TX_FULL) {
            return false;
        }
        self.registers.data.set(u32::from(byte));
        true
    }

    /// Whether bytes are still on their way out.
    fn is_busy(&self) -> bool {
        self.registers.flags.is_set(Flags::BUSY)
    }

    /// The next character received, if any, with its flags.
    fn try_read_character(&self) -> Option<Character> {
        if self.registers.flags.is_set(Flags::RX_EMPTY) {
            return None;
        }
        let data = self.registers.data.extract();
        Some(Character {
            byte: data.read(Data::DATA) as u8,
            is_break: data.is_set(Data::BREAK),
            is_damaged: data.is_set(Data::FRAMING) || data.is_set(Data::PARITY),
            is_after_overrun: data.is_set(Data::OVERRUN),
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    /// A register block of plain memory.
    fn fake() -> Box<[u32; 0x4c / 4]> {
        Box::new([0; 0x4c / 4])
    }

    fn driver(block: &[u32; 0x4c / 4]) -> Pl011<'_> {
        // SAFETY: the block has the size and alignment of `Registers`, and every register is a plain u32 cell.
        Pl011::new(unsafe { &*core::ptr::from_ref(block).cast::<Registers>() })
    }

    #[test]
    fn uart_left_disturbed_is_configured_anew() {
        let block = fake();
        let uart = driver(&block);
        uart.disturb();
        uart.configure(None);
        // IMSC, DMACR: nothing; CR: on, both ways, no loop.
        assert_eq!(
            [block[0x38 / 4], block[0x48 / 4], block[0x30 / 4]],
            [0, 0, 0x301]
        );
    }

    #[test]
    fn divisors_match_the_manuals_example() {
        // DDI 0183 section 3.3.6: 4 MHz and 230400 baud give 1 and 5.
        assert_eq!(divisors(4_000_000, 230_400), Some((1, 5)));
    }

    #[test]
    fn divisors_of_48_mhz_and_115200_are_26_and_3() {
        assert_eq!(divisors(48_000_000, 115_200), Some((26, 3)));
    }

    #[test]
    fn divisors_of_impossible_rates_are_rejected() {
        assert_eq!(divisors(24_000_000, 0), None);
        assert_eq!(divisors(24_000_000, 2_000_000), None);
        assert_eq!(divisors(4_000_000_000, 1), None);
    }

    #[test]
    fn divisors_and_rates_match_the_manuals_table() {
        // Section 3.3.6, divisors for 4 MHz. For the first two the manual prints 231911 and 115101: it rounded the divisor.
        for (baud, divisor, actual) in [
            (230_400, (0x1, 0x5), 231_884),
            (115_200, (0x2, 0xb), 115_108),
            (76_800, (0x3, 0x10), 76_923),
            (38_400, (0x6, 0x21), 38_369),
            (14_400, (0x11, 0x17), 14_401),
            (2_400, (0x68, 0xb), 2_400),
            (110, (0x8e0, 0x2f), 110),
        ] {
            assert_eq!(divisors(4_000_000, baud), Some(divisor));
            assert_eq!(actual_baud(4_000_000, divisor), Some(actual));
        }
    }

    #[test]
    fn divisors_of_48_mhz_reach_921600_and_3_mbaud() {
        assert_eq!(divisors(48_000_000, 921_600), Some((3, 16)));
        assert_eq!(actual_baud(48_000_000, (3, 16)), Some(923_077));
        assert_eq!(divisors(48_000_000, 3_000_000), Some((1, 0)));
        assert_eq!(actual_baud(48_000_000, (1, 0)), Some(3_000_000));
    }

    #[test]
    fn rate_above_a_sixteenth_of_the_clock_is_rejected() {
        assert_eq!(divisors(48_000_000, 3_060_000), None);
        assert_eq!(divisors(48_000_000, 6_000_000), None);
        assert_eq!(divisors(48_000_000, u32::MAX), None);
        assert_eq!(divisors(0, 115_200), None);
    }

    #[test]
    fn rate_below_the_largest_divisor_is_rejected() {
        // 48 MHz / (16 × 65535) is 45.8 baud.
        assert_eq!(divisors(48_000_000, 46), Some((65_217, 25)));
        assert_eq!(divisors(48_000_000, 45), None);
        assert_eq!(divisors(48_000_000, 0), None);
    }

    #[test]
    fn every_rate_that_is_made_is_within_two_percent() {
        let worst = (1_000..=3_100_000_u32)
            .step_by(997)
            .filter_map(|baud| {
                let actual = actual_baud(48_000_000, divisors(48_000_000, baud)?)?;
                Some(u64::from(actual.abs_diff(baud)) * 10_000 / u64::from(baud))
            })
            .max();
        assert!(worst.is_some_and(|worst| worst <= 80), "{worst:?}");
    }

    #[test]
    fn rates_at_the_edge_of_numbers_do_not_overflow() {
        assert_eq!(divisors(u32::MAX, u32::MAX / 16), Some((1, 0)));
        assert_eq!(actual_baud(u32::MAX, (1, 0)), Some(u32::MAX / 16 + 1));
        assert_eq!(divisors(u32::MAX, 1), None);
        assert_eq!(actual_baud(0, (1, 0)), Some(0));
        assert_eq!(actual_baud(u32::MAX, (u32::MAX, u32::MAX)), None);
    }

    #[test]
    fn rate_of_invalid_divisors_is_unknown() {
        // What a reset leaves, and what the manual forbids.
        assert_eq!(actual_baud(48_000_000, (0, 0)), None);
        assert_eq!(actual_baud(48_000_000, (0, 5)), None);
        assert_eq!(actual_baud(48_000_000, (0xffff, 1)), None);
        assert_eq!(actual_baud(48_000_000, (0x1_0000, 0)), None);
        assert_eq!(actual_baud(48_000_000, (1, 64)), None);
    }

    #[test]
    fn divisors_are_read_back_without_reserved_bits() {
        let mut block = fake();
        block[0x24 / 4] = 0xabcd_001a;
        block[0x28 / 4] = 0xffff_ff03;
        assert_eq!(driver(&block).divisors(), (0x1a, 3));
    }

    #[test]
    fn configure_sets_divisors_line_and_control() {
        let block = fake();
        driver(&block).configure(Some((1, 5)));
        assert_eq!(
            (
                block[0x24 / 4],
                block[0x28 / 4],
                block[0x2c / 4],
                block[0x30 / 4]
            ),
            (1, 5, 0x70, 0x301)
        );
    }

    #[test]
    fn configure_without_rate_leaves_divisors_alone() {
        let mut block = fake();
        block[0x24 / 4] = 13;
        driver(&block).configure(None);
        assert_eq!(block[0x24 / 4], 13);
    }

    #[test]
    fn write_to_full_fifo_is_refused() {
        let mut block = fake();
        block[0x18 / 4] = 1 << 5;
        assert!(!driver(&block).try_write(b'x'));
        assert_eq!(block[0], 0);
    }

    #[test]
    fn read_of_empty_fifo_is_none() {
        let mut block = fake();
        block[0x18 / 4] = 1 << 4;
        assert_eq!(
            driver(&block).try_read_character().map(Received::from),
            None
        );
    }

    #[test]
    fn read_tells_break_from_data() {
        let mut block = fake();
        block[0] = 1 << 10;
        assert_eq!(
            driver(&block).try_read_character().map(Received::from),
            Some(Received::Break)
        );
        block[0] = 0x41;
        assert_eq!(
            driver(&block).try_read_character().map(Received::from),
            Some(Received::Byte(0x41))
        );
    }

    #[test]
    fn write_some_to_full_fifo_takes_nothing() {
        let mut block = fake();
        block[0x18 / 4] = 1 << 5;
        assert_eq!(driver(&block).write_some(b"abc"), 0);
        assert_eq!(block[0], 0);
    }

    #[test]
    fn write_some_to_free_fifo_takes_all() {
        let block = fake();
        assert_eq!(driver(&block).write_some(b"abc"), 3);
        assert_eq!(block[0], u32::from(b'c'));
    }

    #[test]
    fn write_some_of_nothing_writes_nothing() {
        let block = fake();
        assert_eq!(driver(&block).write_some(b""), 0);
        assert_eq!(block[0], 0);
    }

    #[test]
    fn character_of_empty_fifo_is_none() {
        let mut block = fake();
        block[0x18 / 4] = 1 << 4;
        block[0] = 0x41;
        assert_eq!(driver(&block).try_read_character(), None);
    }

    /// The flags of a character whose data register reads `data`: BREAK, damaged, overrun.
    fn flags_of(data: u32) -> (u8, bool, bool, bool) {
        let mut block = fake();
        block[0] = data;
        let read = driver(&block).try_read_character().unwrap();
        (
            read.byte,
            read.is_break,
            read.is_damaged,
            read.is_after_overrun,
        )
    }

    #[test]
    fn character_without_flags_is_clean() {
        assert_eq!(flags_of(0x41), (0x41, false, false, false));
    }

    #[test]
    fn character_with_framing_or_parity_error_keeps_its_byte() {
        assert_eq!(flags_of(1 << 8 | 0x41), (0x41, false, true, false));
        assert_eq!(flags_of(1 << 9 | 0x41), (0x41, false, true, false));
    }

    #[test]
    fn character_after_overrun_keeps_its_byte() {
        assert_eq!(flags_of(1 << 11 | 0x41), (0x41, false, false, true));
    }

    #[test]
    fn break_is_told_with_its_framing_error() {
        // Section 3.3.1: a BREAK loads one 0 into the FIFO, and its stop bit is missing too.
        assert_eq!(flags_of(1 << 10 | 1 << 8), (0, true, true, false));
    }
}
