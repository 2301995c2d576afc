// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cadence's UART, as in AMD's Zynq UltraScale+ (UG1085, chapter 21; UG1087, module UART), polled and bounded.
//!
//! What was wrong with a character is told for the receiver as a whole, not for each: it is taken to be the next one that is read.
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

use crate::pl011::Character;
use crate::uart::{Divisors, Driver};

register_bitfields! [u32,
    /// Control: the enables and their opposites are bits of their own.
    Control [ RESETS OFFSET(0) NUMBITS(2) [ BOTH = 3 ], RECEIVER OFFSET(2) NUMBITS(2) [ ON = 1, OFF = 2 ],
              TRANSMITTER OFFSET(4) NUMBITS(2) [ ON = 1, OFF = 2 ] ],
    /// Mode: source of the clock, length, parity, stop bits, channel.
    Mode [ LENGTH OFFSET(1) NUMBITS(2) [ EIGHT = 0 ], PARITY OFFSET(3) NUMBITS(3) [ NONE = 4 ],
           CHANNEL OFFSET(8) NUMBITS(2) [ NORMAL = 0, LOCAL_LOOPBACK = 2 ] ],
    /// Interrupt enable, disable and status; a bit of the status is cleared by writing it.
    Interrupts [ RECEIVED OFFSET(0) NUMBITS(1) [], OVERRUN OFFSET(5) NUMBITS(1) [], FRAMING OFFSET(6) NUMBITS(1) [],
                 PARITY OFFSET(7) NUMBITS(1) [], BREAK OFFSET(13) NUMBITS(1) [], ALL OFFSET(0) NUMBITS(14) [] ],
    /// Channel status.
    Status [ RX_EMPTY OFFSET(1) NUMBITS(1) [], TX_EMPTY OFFSET(3) NUMBITS(1) [], TX_FULL OFFSET(4) NUMBITS(1) [],
             TX_ACTIVE OFFSET(11) NUMBITS(1) [] ],
];

register_structs! {
    /// The register block.
    pub Registers {
        (0x00 => control: ReadWrite<u32, Control::Register>),
        (0x04 => mode: ReadWrite<u32, Mode::Register>),
        (0x08 => interrupt_enable: WriteOnly<u32, Interrupts::Register>),
        (0x0c => interrupt_disable: WriteOnly<u32, Interrupts::Register>),
        (0x10 => _mask),
        (0x14 => interrupt_status: ReadWrite<u32, Interrupts::Register>),
        (0x18 => divisor: ReadWrite<u32>),
        (0x1c => receive_timeout: ReadWrite<u32>),
        (0x20 => receive_trigger: ReadWrite<u32>),
        (0x24 => _modem),
        (0x2c => status: ReadOnly<u32, Status::Register>),
        (0x30 => data: ReadWrite<u32>),
        (0x34 => samples: ReadWrite<u32>),
        (0x38 => @END),
    }
}

/// CD and BDIV for a rate: clock / (CD × (BDIV + 1)), with BDIV from 4 to 255 (UG1085, chapter 21, "Baud Rate Generator"). The pair that is
/// nearest; `None` when none is within 2 %.
pub fn divisors(clock_hz: u32, baud: u32) -> Option<Divisors> {
    let clock = u64::from(clock_hz);
    let off = |divisors: &Divisors| made_of(clock, *divisors).abs_diff(u64::from(baud));
    let candidates = (4..=255_u32).filter_map(|samples| {
        let per_count = u64::from(samples)
            .checked_add(1)?
            .checked_mul(u64::from(baud))?;
        let rounded = clock.checked_add(per_count >> 1)?.checked_div(per_count)?;
        let divisor = u16::try_from(rounded).ok().filter(|it| *it != 0)?;
        Some((u32::from(divisor), samples))
    });
    let best = candidates.min_by_key(off)?;
    (off(&best).saturating_mul(50) <= u64::from(baud)).then_some(best)
}

/// The rate that CD and BDIV make; 0 when they make none.
fn made_of(clock: u64, (divisor, samples): Divisors) -> u64 {
    let per_bit = u64::from(divisor).saturating_mul(u64::from(samples).saturating_add(1));
    clock
        .saturating_add(per_bit >> 1)
        .checked_div(per_bit)
        .unwrap_or(0)
}

/// Driver over one register block.
#[derive(Clone, Copy)]
pub struct Cadence<'a> {
    registers: &'a Registers,
}

impl<'a> Cadence<'a> {
    /// A driver over `registers`.
    pub fn new(registers: &'a Registers) -> Self {
        Self { registers }
    }
}

impl Driver for Cadence<'_> {
    fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors> {
        divisors(clock_hz, baud)
    }

    fn actual_baud(&self, clock_hz: u32, divisors: Divisors) -> Option<u32> {
        u32::try_from(made_of(clock_hz.into(), divisors))
            .ok()
            .filter(|baud| *baud != 0)
    }

    fn configure(&self, rate: Option<Divisors>) {
        let registers = self.registers;
        registers
            .interrupt_disable
            .write(Interrupts::ALL.val(0x3fff));
        registers
            .mode
            .write(Mode::LENGTH::EIGHT + Mode::PARITY::NONE + Mode::CHANNEL::NORMAL);
        let on = Control::RECEIVER::ON + Control::TRANSMITTER::ON;
        if let Some((divisor, samples)) = rate {
            // The divisors may be changed while both ways are off only; they take effect with the resets (chapter 21).
            registers
                .control
                .write(Control::RECEIVER::OFF + Control::TRANSMITTER::OFF);
            registers.divisor.set(divisor);
            registers.samples.set(samples);
            registers.control.write(on + Control::RESETS::BOTH);
        } else {
            registers.control.write(on);
        }
        registers.receive_timeout.set(0);
        registers.receive_trigger.set(1);
        registers
            .interrupt_status
            .write(Interrupts::ALL.val(0x3fff));
    }

    fn divisors(&self) -> Divisors {
        let registers = self.registers;
        (
            registers.divisor.get() & 0xffff,
            registers.samples.get() & 0xff,
        )
    }

    fn disturb(&self) {
        self.registers
            .interrupt_enable
            .write(Interrupts::ALL.val(0x3fff));
        self.registers
            .mode
            .write(Mode::PARITY::NONE + Mode::CHANNEL::LOCAL_LOOPBACK);
    }

    fn try_write(&self, byte: u8) -> bool {
        if self.registers.status.is_set(Status::TX_FULL) {
            return false;
        }
        self.registers.data.set(u32::from(byte));
        true
    }

    fn is_busy(&self) -> bool {
        let status = self.registers.status.extract();
        !status.is_set(Status::TX_EMPTY) || status.is_set(Status::TX_ACTIVE)
    }

    fn try_read_character(&self) -> Option<Character> {
        if self.registers.status.is_set(Status::RX_EMPTY) {
            return None;
        }
        let byte = self.registers.data.get() as u8;
        let wrong = self.registers.interrupt_status.extract();
        self.registers.interrupt_status.write(
            Interrupts::OVERRUN::SET
                + Interrupts::FRAMING::SET
                + Interrupts::PARITY::SET
                + Interrupts::BREAK::SET,
        );
        Some(Character {
            byte,
            is_break: wrong.is_set(Interrupts::BREAK),
            is_damaged: wrong.is_set(Interrupts::FRAMING) || wrong.is_set(Interrupts::PARITY),
            is_after_overrun: wrong.is_set(Interrupts::OVERRUN),
        })
    }

    fn enable_receive_interrupt(&self) {
        self.registers
            .interrupt_enable
            .write(Interrupts::RECEIVED::SET + Interrupts::BREAK::SET);
    }

    fn acknowledge(&self) {
        self.registers
            .interrupt_status
            .write(Interrupts::RECEIVED::SET);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    const WORDS: usize = 0x38 / 4;
    const CONTROL: usize = 0;
    const MODE: usize = 1;
    const ENABLE: usize = 2;
    const DISABLE: usize = 3;
    const PENDING: usize = 5;
    const TRIGGER: usize = 8;
    const STATUS: usize = 0x2c / 4;
    const DATA: usize = 0x30 / 4;

    /// A register block of plain memory.
    fn fake() -> Box<[u32; WORDS]> {
        Box::new([0; WORDS])
    }

    fn driver(block: &[u32; WORDS]) -> Cadence<'_> {
        // SAFETY: the block has the size and alignment of `Registers`, and every register is a plain u32 cell.
        Cadence::new(unsafe { &*core::ptr::from_ref(block).cast::<Registers>() })
    }

    #[test]
    fn uart_left_disturbed_is_configured_anew() {
        let block = fake();
        let uart = driver(&block);
        uart.disturb();
        uart.configure(Some((62, 6)));
        // Both ways on and reset; 8N1, no loop; all interrupts off and cleared; an interrupt for each byte.
        assert_eq!(
            [
                block[CONTROL],
                block[MODE],
                block[DISABLE],
                block[PENDING],
                block[TRIGGER]
            ],
            [0b1_0111, 0x20, 0x3fff, 0x3fff, 1]
        );
        assert_eq!(uart.divisors(), (62, 6));
    }

    #[test]
    fn uart_without_a_clock_keeps_its_rate_and_what_is_received() {
        let mut block = fake();
        block[6] = 0x7c;
        block[13] = 6;
        let uart = driver(&block);
        uart.configure(None);
        assert_eq!((uart.divisors(), block[CONTROL]), ((0x7c, 6), 0b1_0100));
    }

    #[test]
    fn full_fifo_takes_nothing() {
        let mut block = fake();
        block[STATUS] = 1 << 4;
        assert_eq!(driver(&block).write_some(b"ab"), 0);
        assert!(driver(&block).is_busy());
        assert_eq!(block[DATA], 0);
        // Empty, but the last one is on its way; then that has left, too.
        block[STATUS] = 1 << 3 | 1 << 11;
        assert_eq!(driver(&block).write_some(b"ab"), 2);
        assert!(driver(&block).is_busy());
        assert_eq!(block[DATA], u32::from(b'b'));
        block[STATUS] = 1 << 3;
        assert!(!driver(&block).is_busy());
    }

    #[test]
    fn received_characters_carry_what_was_wrong() {
        let mut block = fake();
        block[STATUS] = 1 << 1;
        assert_eq!(driver(&block).try_read_character(), None);
        block[STATUS] = 0;
        for (bits, expected) in [
            (0, (false, false, false)),
            (1 << 5, (false, false, true)),
            (1 << 6, (false, true, false)),
            (1 << 7, (false, true, false)),
            (1 << 13 | 1 << 6, (true, true, false)),
        ] {
            block[DATA] = u32::from(b'A');
            block[PENDING] = bits;
            let read = driver(&block).try_read_character().expect("a character");
            assert_eq!(read.byte, b'A');
            assert_eq!(
                (read.is_break, read.is_damaged, read.is_after_overrun),
                expected
            );
            // The trigger stays for the interrupt's handler.
            assert_eq!(block[PENDING], 0x20e0);
        }
    }

    #[test]
    fn receive_interrupt_is_for_bytes_and_breaks_only() {
        let block = fake();
        driver(&block).enable_receive_interrupt();
        driver(&block).acknowledge();
        assert_eq!((block[ENABLE], block[PENDING]), (0x2001, 1));
    }

    #[test]
    fn divisors_are_as_near_as_the_manuals() {
        // UG1085, table 21-2, UART reference clock of 100 MHz: CD and BDIV for these rates; ours may be another pair that is as near.
        for (baud, manual) in [
            (9_600, (1_488, 6)),
            (28_800, (694, 4)),
            (115_200, (124, 6)),
            (460_800, (31, 6)),
            (921_600, (15, 6)),
        ] {
            let ours = divisors(100_000_000, baud).expect("a pair");
            let off = |pair| made_of(100_000_000, pair).abs_diff(baud.into());
            assert!(off(ours) <= off(manual), "{baud}: {ours:?}");
            assert!((1..=0xffff).contains(&ours.0) && (4..=255).contains(&ours.1));
        }
        let block = fake();
        assert_eq!(
            driver(&block).actual_baud(100_000_000, (124, 6)),
            Some(115_207)
        );
    }

    #[test]
    fn rates_that_cannot_be_made_are_rejected() {
        assert_eq!(divisors(100_000_000, 0), None);
        assert_eq!(divisors(0, 115_200), None);
        // A fifth of the clock is the most.
        assert_eq!(divisors(100_000_000, 20_000_000), Some((1, 4)));
        assert_eq!(divisors(100_000_000, 25_000_000), None);
        assert_eq!(divisors(u32::MAX, 1), None);
        assert_eq!(divisors(u32::MAX, u32::MAX), None);
        let block = fake();
        assert_eq!(driver(&block).actual_baud(100_000_000, (0, 4)), None);
        assert_eq!(driver(&block).actual_baud(0, (124, 6)), None);
    }
}
