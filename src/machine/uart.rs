// SPDX-License-Identifier: MIT OR Apache-2.0
//! A UART of any kind that is driven, behind one set of calls.
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

use crate::mini_uart::{self, MiniUart};
use crate::mmio::Ports;
use crate::ns16550::{self, Ns16550};
use crate::pl011::{self, Character, Pl011, Received};

/// Baud rate divisor: integer part, and fraction in 1/64, which only a PL011 has; of a mini UART its baud register.
pub(crate) type Divisors = (u32, u32);

/// One UART.
pub(crate) enum Uart {
    Pl011(Pl011<'static>),
    Ns16550(Ns16550<Ports>),
    Mini(MiniUart<'static>),
}

impl Uart {
    /// Divisors for a rate; `None` when it cannot be made from the clock.
    pub(crate) fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors> {
        match self {
            Self::Pl011(_) => pl011::divisors(clock_hz, baud),
            Self::Ns16550(_) => ns16550::divisor(clock_hz, baud).map(|integer| (integer, 0)),
            Self::Mini(_) => mini_uart::divisor(clock_hz, baud).map(|integer| (integer, 0)),
        }
    }

    /// The rate that divisors make of the clock.
    pub(crate) fn actual_baud(&self, clock_hz: u32, divisors: Divisors) -> Option<u32> {
        match self {
            Self::Pl011(_) => pl011::actual_baud(clock_hz, divisors),
            Self::Ns16550(_) => ns16550::actual_baud(clock_hz, divisors.0),
            Self::Mini(_) => mini_uart::actual_baud(clock_hz, divisors.0),
        }
    }

    /// 8 data bits, no parity, FIFOs on, interrupts off; `rate` sets the divisors.
    pub(crate) fn configure(&self, rate: Option<Divisors>) {
        match self {
            Self::Pl011(uart) => uart.configure(rate),
            Self::Ns16550(uart) => uart.configure(rate.map(|(integer, _)| integer)),
            Self::Mini(uart) => uart.configure(rate.map(|(integer, _)| integer)),
        }
    }

    /// The divisors that are set.
    pub(crate) fn divisors(&self) -> Divisors {
        match self {
            Self::Pl011(uart) => uart.divisors(),
            Self::Ns16550(uart) => (uart.divisor(), 0),
            Self::Mini(uart) => (uart.divisor(), 0),
        }
    }

    /// Leaves it as no kernel should.
    pub(crate) fn disturb(&self) {
        match self {
            Self::Pl011(uart) => uart.disturb(),
            Self::Ns16550(uart) => uart.disturb(),
            Self::Mini(uart) => uart.disturb(),
        }
    }

    /// Writes `byte` if there is room.
    pub(crate) fn try_write(&self, byte: u8) -> bool {
        match self {
            Self::Pl011(uart) => uart.try_write(byte),
            Self::Ns16550(uart) => uart.try_write(byte),
            Self::Mini(uart) => uart.try_write(byte),
        }
    }

    /// Writes as many bytes as there is room for now. Returns how many.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Pl011(uart) => uart.write_some(bytes),
            Self::Ns16550(uart) => uart.write_some(bytes),
            Self::Mini(uart) => uart.write_some(bytes),
        }
    }

    /// Whether bytes are still on their way out.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Pl011(uart) => uart.is_busy(),
            Self::Ns16550(uart) => uart.is_busy(),
            Self::Mini(uart) => uart.is_busy(),
        }
    }

    /// The next character received, with its flags.
    pub(crate) fn try_read_character(&self) -> Option<Character> {
        match self {
            Self::Pl011(uart) => uart.try_read_character(),
            Self::Ns16550(uart) => uart.try_read_character(),
            Self::Mini(uart) => uart.try_read_character(),
        }
    }

    /// The next thing received.
    pub(crate) fn try_read(&self) -> Option<Received> {
        self.try_read_character().map(Received::from)
    }

    /// Interrupts on received bytes and BREAK.
    pub(crate) fn enable_receive_interrupt(&self) {
        match self {
            Self::Pl011(uart) => uart.enable_receive_interrupt(),
            Self::Ns16550(uart) => uart.enable_receive_interrupt(),
            Self::Mini(uart) => uart.enable_receive_interrupt(),
        }
    }

    /// Clears what raised the interrupt; those of the others go with what is read.
    pub(crate) fn acknowledge(&self) {
        match self {
            Self::Pl011(uart) => uart.acknowledge(),
            Self::Ns16550(_) | Self::Mini(_) => {}
        }
    }
}
