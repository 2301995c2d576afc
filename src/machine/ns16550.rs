// SPDX-License-Identifier: MIT OR Apache-2.0
//! 16550 UART (TI PC16550D, SNLS378, section 8), polled and bounded.
//!
//! Registers lie `1 << shift` bytes apart and are accessed `width` bytes wide, as the DTB says (`reg-shift`, `reg-io-width`). The
//! driver reaches them through [`Port`], so that it can be tested without a device.
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

use crate::pl011::Character;
use crate::uart::{Divisors, Driver};

/// Receiver buffer and transmitter holding; the divisor's low byte while LCR.DLAB is set.
const DATA: u8 = 0;
/// Interrupt enable; the divisor's high byte while LCR.DLAB is set.
const INTERRUPTS: u8 = 1;
/// FIFO control.
const FIFO: u8 = 2;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;

/// FIFOs on and emptied (section 8.5).
const FIFO_ON: u8 = 0b111;
const FIFO_KEEP: u8 = 0b001;
const EIGHT_BITS: u8 = 0b11;
const DLAB: u8 = 1 << 7;
const LOOPBACK: u8 = 1 << 4;
/// DTR, RTS and OUT2; the latter lets interrupts through on a PC.
const MODEM_READY: u8 = 0b1011;
const RECEIVE_INTERRUPTS: u8 = 0b101;

const DATA_READY: u8 = 1 << 0;
const OVERRUN: u8 = 1 << 1;
const PARITY: u8 = 1 << 2;
const FRAMING: u8 = 1 << 3;
const BREAK: u8 = 1 << 4;
/// The transmit FIFO is empty.
const HOLDING_EMPTY: u8 = 1 << 5;
/// The last stop bit has left.
const ALL_EMPTY: u8 = 1 << 6;

/// Bytes that the transmit FIFO takes when it is empty.
const FIFO_LEN: usize = 16;

/// The registers of one UART, by number.
pub trait Port {
    /// Reads register `number`.
    fn read(&self, number: u8) -> u8;
    /// Writes register `number`.
    fn write(&self, number: u8, value: u8);
}

/// Baud rate divisor: clock / (16 × baud), rounded (section 8.3). `None` when it is not 1 to 65535, or makes a rate that is off by more
/// than 2 %.
pub fn divisor(clock_hz: u32, baud: u32) -> Option<u32> {
    let per_bit = u64::from(baud).checked_mul(16).filter(|it| *it != 0)?;
    let rounded = u64::from(clock_hz)
        .saturating_add(per_bit >> 1)
        .checked_div(per_bit)?;
    let divisor = u16::try_from(rounded).ok().filter(|it| *it != 0)?;
    let made = u64::from(divisor).saturating_mul(per_bit);
    let off = made.abs_diff(u64::from(clock_hz));
    (off.saturating_mul(50) <= u64::from(clock_hz)).then_some(u32::from(divisor))
}

/// Baud rate that a divisor makes of the clock; `None` for divisor 0.
pub fn actual_baud(clock_hz: u32, divisor: u32) -> Option<u32> {
    let per_bit = u64::from(divisor).saturating_mul(16);
    let rounded = u64::from(clock_hz).saturating_add(per_bit >> 1);
    rounded
        .checked_div(per_bit)
        .and_then(|baud| u32::try_from(baud).ok())
}

/// Driver over one UART.
#[derive(Clone, Copy, Debug)]
pub struct Ns16550<P> {
    port: P,
}

impl<P: Port> Ns16550<P> {
    /// A driver over `port`.
    pub fn new(port: P) -> Self {
        Self { port }
    }
}

impl<P: Port> Driver for Ns16550<P> {
    fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors> {
        divisor(clock_hz, baud).map(|divisor| (divisor, 0))
    }

    fn actual_baud(&self, clock_hz: u32, (divisor, _): Divisors) -> Option<u32> {
        actual_baud(clock_hz, divisor)
    }

    /// 8 data bits, no parity, FIFOs on and the receiver's emptied, interrupts off, no loopback; `rate` sets the divisor.
    fn configure(&self, rate: Option<Divisors>) {
        self.port.write(INTERRUPTS, 0);
        if let Some((divisor, _)) = rate {
            let [low, high, ..] = divisor.to_le_bytes();
            self.port.write(LINE_CONTROL, DLAB | EIGHT_BITS);
            self.port.write(DATA, low);
            self.port.write(INTERRUPTS, high);
        }
        self.port.write(LINE_CONTROL, EIGHT_BITS);
        let fifo = if rate.is_some() { FIFO_ON } else { FIFO_KEEP };
        self.port.write(FIFO, fifo);
        self.port.write(MODEM_CONTROL, MODEM_READY);
    }

    /// Raises every interrupt and loops back what is sent: for tests of what comes after.
    fn disturb(&self) {
        self.port.write(INTERRUPTS, 0xf);
        self.port.write(MODEM_CONTROL, MODEM_READY | LOOPBACK);
    }

    fn divisors(&self) -> Divisors {
        let line = self.port.read(LINE_CONTROL);
        self.port.write(LINE_CONTROL, line | DLAB);
        let bytes = [self.port.read(DATA), self.port.read(INTERRUPTS)];
        self.port.write(LINE_CONTROL, line & !DLAB);
        (u32::from(u16::from_le_bytes(bytes)), 0)
    }

    /// Interrupts on received bytes and BREAK. Reading what came is what clears them.
    fn enable_receive_interrupt(&self) {
        self.port.write(INTERRUPTS, RECEIVE_INTERRUPTS);
    }

    /// Writes `byte` if the FIFO is empty.
    fn try_write(&self, byte: u8) -> bool {
        self.write_some(&[byte]) == 1
    }

    /// Writes as many of `bytes` as an empty FIFO takes, none if it is not: the UART does not tell how full it is. Returns how many.
    fn write_some(&self, bytes: &[u8]) -> usize {
        if self.port.read(LINE_STATUS) & HOLDING_EMPTY == 0 {
            return 0;
        }
        let taken = bytes.get(..FIFO_LEN).unwrap_or(bytes);
        taken.iter().for_each(|byte| self.port.write(DATA, *byte));
        taken.len()
    }

    /// Whether bytes are still on their way out.
    fn is_busy(&self) -> bool {
        self.port.read(LINE_STATUS) & ALL_EMPTY == 0
    }

    /// The next character received, if any, with what was wrong with it.
    fn try_read_character(&self) -> Option<Character> {
        let status = self.port.read(LINE_STATUS);
        (status & DATA_READY != 0).then(|| Character {
            byte: self.port.read(DATA),
            is_break: status & BREAK != 0,
            is_damaged: status & (FRAMING | PARITY) != 0,
            is_after_overrun: status & OVERRUN != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// A UART as section 8 describes it: DLAB chooses what registers 0 and 1 are.
    #[derive(Default)]
    struct Chip {
        line_control: u8,
        divisor: [u8; 2],
        interrupts: u8,
        fifo_control: u8,
        modem_control: u8,
        sent: Vec<u8>,
        /// Bytes that the transmit FIFO holds.
        waiting: usize,
        received: VecDeque<(u8, u8)>,
    }

    #[derive(Default)]
    struct Fake(RefCell<Chip>);

    impl Port for &Fake {
        fn read(&self, number: u8) -> u8 {
            let mut chip = self.0.borrow_mut();
            let is_latch = chip.line_control & DLAB != 0;
            match number {
                DATA if is_latch => chip.divisor[0],
                INTERRUPTS if is_latch => chip.divisor[1],
                DATA => chip.received.pop_front().map_or(0, |(byte, _)| byte),
                INTERRUPTS => chip.interrupts,
                LINE_CONTROL => chip.line_control,
                MODEM_CONTROL => chip.modem_control,
                LINE_STATUS => {
                    let empty = if chip.waiting == 0 {
                        HOLDING_EMPTY | ALL_EMPTY
                    } else {
                        0
                    };
                    empty
                        | chip
                            .received
                            .front()
                            .map_or(0, |(_, flags)| flags | DATA_READY)
                }
                _ => panic!("register {number} read"),
            }
        }

        fn write(&self, number: u8, value: u8) {
            let mut chip = self.0.borrow_mut();
            let is_latch = chip.line_control & DLAB != 0;
            match number {
                DATA if is_latch => chip.divisor[0] = value,
                INTERRUPTS if is_latch => chip.divisor[1] = value,
                DATA => {
                    assert!(chip.waiting < FIFO_LEN, "the FIFO overflows");
                    chip.waiting += 1;
                    chip.sent.push(value);
                }
                INTERRUPTS => chip.interrupts = value,
                FIFO => chip.fifo_control = value,
                LINE_CONTROL => chip.line_control = value,
                MODEM_CONTROL => chip.modem_control = value,
                _ => panic!("register {number} written"),
            }
        }
    }

    #[test]
    fn uart_left_disturbed_is_configured_anew() {
        let chip = Fake::default();
        let uart = Ns16550::new(&chip);
        uart.disturb();
        uart.configure(Some((0x0102, 0)));
        let chip = chip.0.borrow();
        assert_eq!((chip.line_control, chip.interrupts), (EIGHT_BITS, 0));
        assert_eq!(chip.divisor, [2, 1]);
        assert_eq!((chip.fifo_control, chip.modem_control), (7, 0b1011));
        assert_eq!(chip.sent, []);
    }

    #[test]
    fn uart_without_a_clock_keeps_its_divisor_and_what_is_received() {
        let chip = Fake::default();
        let uart = Ns16550::new(&chip);
        uart.configure(Some((13, 0)));
        uart.configure(None);
        assert_eq!(uart.divisors(), (13, 0));
        // The latch is closed again: data is data.
        assert!(uart.try_write(b'x'));
        assert_eq!(chip.0.borrow().fifo_control, 1);
        assert_eq!(
            (chip.0.borrow().sent.as_slice(), chip.0.borrow().divisor),
            (&b"x"[..], [13, 0])
        );
    }

    #[test]
    fn full_fifo_takes_nothing_until_it_is_empty() {
        let chip = Fake::default();
        let uart = Ns16550::new(&chip);
        assert!(!uart.is_busy());
        assert_eq!(uart.write_some(&[7; 40]), 16);
        assert!(uart.is_busy());
        assert_eq!(uart.write_some(&[7; 40]), 0);
        assert!(!uart.try_write(8));
        chip.0.borrow_mut().waiting = 0;
        assert_eq!(uart.write_some(b"end"), 3);
        assert_eq!(chip.0.borrow().sent.len(), 19);
    }

    #[test]
    fn received_characters_carry_what_was_wrong_with_them() {
        let chip = Fake::default();
        let uart = Ns16550::new(&chip);
        assert_eq!(uart.try_read_character(), None);
        for (byte, flags) in [
            (b'a', 0),
            (0, BREAK | FRAMING),
            (b'b', FRAMING),
            (b'c', OVERRUN),
            (b'd', PARITY),
        ] {
            chip.0.borrow_mut().received.push_back((byte, flags));
        }
        let next = || uart.try_read_character().expect("a character");
        let good = next();
        assert!(good.byte == b'a' && !good.is_damaged && !good.is_break && !good.is_after_overrun);
        assert!(next().is_break);
        let damaged = next();
        assert!(damaged.byte == b'b' && damaged.is_damaged && !damaged.is_break);
        assert!(next().is_after_overrun);
        assert!(next().is_damaged);
        assert_eq!(uart.try_read_character(), None);
    }

    #[test]
    fn receive_interrupt_is_for_bytes_and_breaks_only() {
        let chip = Fake::default();
        Ns16550::new(&chip).enable_receive_interrupt();
        assert_eq!(chip.0.borrow().interrupts, 0b101);
    }

    #[test]
    fn divisors_match_the_data_sheets_table() {
        // SNLS378 table 8-2, 1.8432 MHz and 18.432 MHz.
        for (baud, slow, fast) in [
            (50, 2304, 23040),
            (300, 384, 3840),
            (9600, 12, 120),
            (19200, 6, 60),
            (38400, 3, 30),
        ] {
            assert_eq!(divisor(1_843_200, baud), Some(slow));
            assert_eq!(divisor(18_432_000, baud), Some(fast));
            assert_eq!(actual_baud(1_843_200, slow), Some(baud));
        }
        assert_eq!(divisor(1_843_200, 115_200), Some(1));
    }

    #[test]
    fn rates_that_cannot_be_made_are_rejected() {
        assert_eq!(divisor(1_843_200, 0), None);
        assert_eq!(divisor(1_843_200, 230_400), None);
        assert_eq!(divisor(0, 115_200), None);
        // 24 MHz / (16 x 921600) is 1.63: neither 1 nor 2 is near.
        assert_eq!(divisor(24_000_000, 921_600), None);
        assert_eq!(divisor(u32::MAX, 50), None);
        assert_eq!(divisor(u32::MAX, u32::MAX), None);
        assert_eq!(actual_baud(24_000_000, 0), None);
    }
}
