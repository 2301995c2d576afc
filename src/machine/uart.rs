// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a UART's driver does, and which drivers there are.
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

use crate::pl011::{Character, Received};
#[cfg(target_os = "none")]
use crate::{cadence::Cadence, mini_uart::MiniUart, mmio::Ports, ns16550::Ns16550, pl011::Pl011};

/// Baud rate divisor as a driver takes it: its integer part, and what else there is to set: a PL011's fraction in 1/64, a Cadence UART's BDIV.
pub type Divisors = (u32, u32);

/// A UART, polled: nothing here waits.
pub trait Driver {
    /// Divisors for a rate; `None` when it cannot be made from the clock.
    fn divisors_for(&self, clock_hz: u32, baud: u32) -> Option<Divisors>;
    /// The rate that divisors make of the clock; `None` when they, or the clock (0), are none.
    fn actual_baud(&self, clock_hz: u32, divisors: Divisors) -> Option<u32>;
    /// 8 data bits, no parity, FIFOs on, both ways on, interrupts and loopback off; `rate` sets the divisors. Without it what was
    /// received stays.
    fn configure(&self, rate: Option<Divisors>);
    /// The divisors that are set.
    fn divisors(&self) -> Divisors;
    /// Leaves it as no kernel should: for tests of what comes after.
    fn disturb(&self);
    /// Writes `byte` if there is room.
    fn try_write(&self, byte: u8) -> bool;
    /// Writes as many of `bytes` as there is room for now. Returns how many.
    fn write_some(&self, bytes: &[u8]) -> usize {
        bytes
            .iter()
            .take_while(|byte| self.try_write(**byte))
            .count()
    }
    /// Whether bytes are still on their way out.
    fn is_busy(&self) -> bool;
    /// The next character received, if any, with what was wrong with it.
    fn try_read_character(&self) -> Option<Character>;
    /// The next thing received.
    fn try_read(&self) -> Option<Received> {
        self.try_read_character().map(Received::from)
    }
    /// Interrupts on received bytes, and on BREAK where the UART knows it.
    fn enable_receive_interrupt(&self);
    /// Clears what raised the interrupt, where it does not go with what is read.
    fn acknowledge(&self) {}
}

/// One UART of those that are driven.
#[cfg(target_os = "none")]
pub(crate) enum Uart {
    Pl011(Pl011<'static>),
    Ns16550(Ns16550<Ports>),
    Mini(MiniUart<'static>),
    Cadence(Cadence<'static>),
}

#[cfg(target_os = "none")]
impl core::ops::Deref for Uart {
    type Target = dyn Driver;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Pl011(uart) => uart,
            Self::Ns16550(uart) => uart,
            Self::Mini(uart) => uart,
            Self::Cadence(uart) => uart,
        }
    }
}
