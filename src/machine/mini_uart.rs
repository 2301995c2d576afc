// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mini UART of Raspberry Pis (Broadcom, BCM2835 ARM Peripherals, sections 2.1 and 2.2), polled and bounded.
//!
//! Programmed like half a 16550: 7 or 8 bits, no parity, no BREAK, no framing errors, FIFOs of 8. It belongs to the auxiliary
//! block, whose one enable register it needs, so the block is what the driver gets. Its clock is the core's, which the firmware is
//! asked for (`videocore`); without an answer the rate that the firmware set stays. The rate is right as long as the core runs at what the
//! firmware said, and that is the case when its clock is fixed (`enable_uart=1` in config.txt), and not under turbo.
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
use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

use crate::pl011::Character;
use crate::uart::{Divisors, Driver};

register_bitfields! [u32,
    /// AUX_ENABLES, section 2.1.1.
    Enables [ MINI_UART OFFSET(0) NUMBITS(1) [] ],
    /// AUX_MU_IER_REG, section 2.2.2. Bits 0 and 1 are exchanged in the manual (its errata, and Linux, where it is an 8250).
    Interrupts [ KINDS OFFSET(0) NUMBITS(4) [ RECEIVE_AND_LINE_STATUS = 0b101 ] ],
    /// AUX_MU_IIR_REG, written: clears the FIFOs.
    Fifo [ CLEAR OFFSET(1) NUMBITS(2) [ BOTH = 3 ] ],
    /// AUX_MU_LCR_REG. Eight bits are 0b11, not 0b01 as in the manual (its errata).
    LineControl [ SIZE OFFSET(0) NUMBITS(2) [ EIGHT = 3 ], DLAB OFFSET(7) NUMBITS(1) [] ],
    /// AUX_MU_LSR_REG. OVERRUN is cleared by reading it.
    LineStatus [ DATA_READY OFFSET(0) NUMBITS(1) [], OVERRUN OFFSET(1) NUMBITS(1) [], HAS_ROOM OFFSET(5) NUMBITS(1) [],
                 IDLE OFFSET(6) NUMBITS(1) [] ],
    /// AUX_MU_CNTL_REG.
    Control [ ENABLE OFFSET(0) NUMBITS(2) [ TRANSMITTER = 2, BOTH = 3 ] ],
];

register_structs! {
    /// The auxiliary block, as far as the mini UART goes.
    pub Registers {
        (0x000 => _interrupts),
        (0x004 => enables: ReadWrite<u32, Enables::Register>),
        (0x008 => _reserved0),
        (0x040 => data: ReadWrite<u32>),
        (0x044 => interrupts: ReadWrite<u32, Interrupts::Register>),
        (0x048 => fifo: ReadWrite<u32, Fifo::Register>),
        (0x04c => line_control: ReadWrite<u32, LineControl::Register>),
        (0x050 => modem_control: ReadWrite<u32>),
        (0x054 => line_status: ReadOnly<u32, LineStatus::Register>),
        (0x058 => _reserved1),
        (0x060 => control: ReadWrite<u32, Control::Register>),
        (0x064 => _status),
        (0x068 => baud: ReadWrite<u32>),
        (0x06c => @END),
    }
}

const _: () = assert!(size_of::<Registers>() == 0x6c);

/// How far the mini UART's own registers, which a device tree names, lie behind the block's start.
pub const OFFSET_IN_BLOCK: u64 = 0x40;

/// Value of the baud register: clock / (8 × baud) - 1 (section 2.2.1), rounded. `None` when it is not 0 to 65535, or makes a rate that is
/// off by more than 2 %.
pub fn divisor(clock_hz: u32, baud: u32) -> Option<u32> {
    let per_bit = u64::from(baud).checked_mul(8).filter(|it| *it != 0)?;
    let rounded = u64::from(clock_hz)
        .saturating_add(per_bit >> 1)
        .checked_div(per_bit)?;
    let register = u16::try_from(rounded.checked_sub(1)?).ok()?;
    let off = rounded.saturating_mul(per_bit).abs_diff(clock_hz.into());
    (off.saturating_mul(50) <= u64::from(clock_hz)).then_some(u32::from(register))
}

/// Baud rate that a value of the baud register makes of the clock; `None` when the clock is not known (0).
pub fn actual_baud(clock_hz: u32, register: u32) -> Option<u32> {
    let per_bit = u64::from(register & 0xffff)
        .saturating_add(1)
        .saturating_mul(8);
    let rounded = u64::from(clock_hz).saturating_add(per_bit >> 1);
    rounded
        .checked_div(per_bit)
        .and_then(|baud| u32::try_from(baud).ok())
        .filter(|baud| *baud != 0)
}

/// Driver over one auxiliary block.
#[derive(Clone, Copy)]
pub struct MiniUart<'a> {
    registers: &'a Registers,
}

impl<'a> MiniUart<'a> {
    /// A driver over `registers`.
    pub fn new(registers: &'a Registers) -> Self {
        Self { registers }
    }
}

impl Driver for MiniUart<'_> {
    fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors> {
        divisor(clock_hz, baud).map(|register| (register, 0))
    }

    fn actual_baud(&self, clock_hz: u32, (register, _): Divisors) -> Option<u32> {
        actual_baud(clock_hz, register)
    }

    /// 8 data bits, both ways on, interrupts off, no flow control; `rate` sets the baud register, which empties the FIFOs.
    fn configure(&self, rate: Option<Divisors>) {
        // The block's other two devices, both SPI, stay as they are.
        let enables = self.registers.enables.get();
        self.registers
            .enables
            .set(enables | Enables::MINI_UART::SET.value);
        self.registers.interrupts.set(0);
        self.registers.line_control.write(LineControl::SIZE::EIGHT);
        self.registers.modem_control.set(0);
        if let Some((register, _)) = rate {
            self.registers.control.set(0);
            self.registers.baud.set(register);
            self.registers.fifo.write(Fifo::CLEAR::BOTH);
        }
        self.registers.control.write(Control::ENABLE::BOTH);
    }

    /// Raises interrupts, 7 bits, and the receiver off: for tests of what comes after.
    fn disturb(&self) {
        self.registers.interrupts.set(0xf);
        self.registers.line_control.set(0);
        self.registers.control.write(Control::ENABLE::TRANSMITTER);
    }

    /// The baud register.
    fn divisors(&self) -> Divisors {
        (self.registers.baud.get() & 0xffff, 0)
    }

    /// Interrupts on received bytes. Reading them is what clears it.
    fn enable_receive_interrupt(&self) {
        self.registers
            .interrupts
            .write(Interrupts::KINDS::RECEIVE_AND_LINE_STATUS);
    }

    /// Writes `byte` if the FIFO has room.
    fn try_write(&self, byte: u8) -> bool {
        if !self.registers.line_status.is_set(LineStatus::HAS_ROOM) {
            return false;
        }
        self.registers.data.set(u32::from(byte));
        true
    }

    /// Whether bytes are still on their way out.
    fn is_busy(&self) -> bool {
        !self.registers.line_status.is_set(LineStatus::IDLE)
    }

    /// The next character received, if any. A BREAK comes as a byte 0: the UART cannot tell it.
    fn try_read_character(&self) -> Option<Character> {
        let status = self.registers.line_status.extract();
        status.is_set(LineStatus::DATA_READY).then(|| Character {
            byte: self.registers.data.get() as u8,
            is_break: false,
            is_damaged: false,
            is_after_overrun: status.is_set(LineStatus::OVERRUN),
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    const WORDS: usize = 0x6c / 4;
    const ENABLES: usize = 1;
    const DATA: usize = 0x40 / 4;
    const INTERRUPTS: usize = 0x44 / 4;
    const FIFO: usize = 0x48 / 4;
    const LINE_CONTROL: usize = 0x4c / 4;
    const LINE_STATUS: usize = 0x54 / 4;
    const CONTROL: usize = 0x60 / 4;
    const BAUD: usize = 0x68 / 4;

    /// A register block of plain memory.
    fn fake() -> Box<[u32; WORDS]> {
        Box::new([0; WORDS])
    }

    fn driver(block: &[u32; WORDS]) -> MiniUart<'_> {
        // SAFETY: the block has the size and alignment of `Registers`, and every register is a plain u32 cell.
        MiniUart::new(unsafe { &*core::ptr::from_ref(block).cast::<Registers>() })
    }

    #[test]
    fn uart_left_disturbed_is_configured_anew() {
        let mut block = fake();
        block[ENABLES] = 0b110;
        let uart = driver(&block);
        uart.disturb();
        uart.configure(Some((270, 0)));
        assert_eq!(
            block[ENABLES], 0b111,
            "the SPI masters stay as they were, the UART is on"
        );
        assert_eq!(
            [block[INTERRUPTS], block[LINE_CONTROL], block[CONTROL]],
            [0, 3, 3]
        );
        assert_eq!([block[BAUD], block[FIFO], block[DATA]], [270, 6, 0]);
    }

    #[test]
    fn uart_without_a_clock_keeps_the_firmwares_rate_and_what_is_received() {
        let mut block = fake();
        block[BAUD] = 0x21d;
        let uart = driver(&block);
        uart.configure(None);
        assert_eq!(
            (uart.divisors(), block[FIFO], block[CONTROL]),
            ((0x21d, 0), 0, 3)
        );
    }

    #[test]
    fn full_fifo_takes_nothing() {
        let mut block = fake();
        assert_eq!(driver(&block).write_some(b"ab"), 0);
        assert!(driver(&block).is_busy());
        assert_eq!(block[DATA], 0);
        // Room, not idle; then both.
        block[LINE_STATUS] = 1 << 5;
        assert_eq!(driver(&block).write_some(b"ab"), 2);
        assert!(driver(&block).is_busy());
        assert_eq!(block[DATA], u32::from(b'b'));
        block[LINE_STATUS] = 1 << 5 | 1 << 6;
        assert!(!driver(&block).is_busy());
    }

    #[test]
    fn received_characters_tell_of_an_overrun_and_of_nothing_else() {
        let mut block = fake();
        assert_eq!(driver(&block).try_read_character(), None);
        block[LINE_STATUS] = 1;
        // The register's other bits are not part of the byte.
        block[DATA] = 0x141;
        let read = driver(&block).try_read_character().expect("a character");
        assert!(read.byte == b'A' && !read.is_after_overrun && !read.is_damaged && !read.is_break);
        block[LINE_STATUS] = 0b11;
        let read = driver(&block).try_read_character().expect("a character");
        assert!(read.is_after_overrun);
    }

    #[test]
    fn receive_interrupt_is_for_received_bytes_only() {
        let block = fake();
        driver(&block).enable_receive_interrupt();
        assert_eq!(block[INTERRUPTS], 0b101);
    }

    #[test]
    fn divisors_match_the_manuals_equation() {
        // Section 2.2.1, baud = clock / (8 × (register + 1)), with the core clocks of Pi 3 (250 MHz, 400 MHz) and Pi 4 (500 MHz).
        assert_eq!(divisor(250_000_000, 115_200), Some(270));
        assert_eq!(divisor(400_000_000, 115_200), Some(433));
        assert_eq!(divisor(500_000_000, 115_200), Some(542));
        assert_eq!(actual_baud(250_000_000, 270), Some(115_314));
        // "If the system clock is 250 MHz and the baud register is zero the baudrate is 31.25 Mega baud"; at the other end 476.
        assert_eq!(actual_baud(250_000_000, 0), Some(31_250_000));
        assert_eq!(actual_baud(250_000_000, 65_535), Some(477));
        assert_eq!(divisor(250_000_000, 31_250_000), Some(0));
    }

    #[test]
    fn rates_that_cannot_be_made_are_rejected() {
        assert_eq!(divisor(250_000_000, 0), None);
        assert_eq!(divisor(0, 115_200), None);
        assert_eq!(divisor(250_000_000, 300), None);
        assert_eq!(divisor(250_000_000, 62_500_000), None);
        // 250 MHz / (8 × 12 Mbaud) is 2.6: neither 2 nor 3 is near.
        assert_eq!(divisor(250_000_000, 12_000_000), None);
        assert_eq!(divisor(u32::MAX, u32::MAX), None);
        assert_eq!(actual_baud(0, 270), None);
    }
}
