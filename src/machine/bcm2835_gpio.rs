// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pins 14 and 15 of a BCM2835's and its successors' GPIO, which are both UARTs' on a Raspberry Pi's header.
//!
//! Sources: Broadcom, BCM2835 ARM Peripherals, sections 6.1 and 6.2; BCM2711 ARM Peripherals, sections 5.2 and 5.3.
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

/// Functions of pins 10 to 19, three bits each.
const FUNCTION_1: u64 = 0x04;
/// A BCM2835's pulls: what to set; and for which of pins 0 to 31.
const PULL: u64 = 0x94;
const PULL_CLOCK_0: u64 = 0x98;
/// A BCM2711's pulls of pins 0 to 15, two bits each.
const PULLS_0: u64 = 0xe4;

/// The transmitter's pin, which has no pull, and the receiver's, which is pulled up: a line that hangs open is idle.
const PINS: [Pin; 2] = [
    Pin {
        number: 14,
        is_pulled_up: false,
    },
    Pin {
        number: 15,
        is_pulled_up: true,
    },
];

struct Pin {
    number: u32,
    is_pulled_up: bool,
}

/// A UART that can be had at the pins: its alternate function there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// ALT0, TXD0 and RXD0: the PL011.
    Pl011 = 0b100,
    /// ALT5, TXD1 and RXD1: the mini UART.
    MiniUart = 0b010,
}

/// Driver over one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bcm2835Gpio<R> {
    pub(crate) registers: R,
    pub(crate) is_bcm2711: bool,
}

impl<R: Registers> Bcm2835Gpio<R> {
    /// Connects both pins with `function`; one that has it stays as it is, its pull too. `wait` lasts 150 cycles of the core at least.
    /// Returns whether anything was changed.
    pub(crate) fn connect(&self, function: Function, wait: impl Fn()) -> bool {
        let mut is_changed = false;
        for pin in PINS {
            let shift = (pin.number % 10).wrapping_mul(3);
            let functions = self.registers.read(FUNCTION_1);
            let wanted = (function as u32).wrapping_shl(shift);
            let mask = 0b111_u32.wrapping_shl(shift);
            if functions & mask == wanted {
                continue;
            }
            // Before the function: the receiver shall see no line that floats.
            self.pull(&pin, &wait);
            self.registers.write(FUNCTION_1, functions & !mask | wanted);
            is_changed = true;
        }
        is_changed
    }

    fn pull(&self, pin: &Pin, wait: &impl Fn()) {
        if self.is_bcm2711 {
            let shift = pin.number.wrapping_mul(2);
            let wanted = u32::from(pin.is_pulled_up).wrapping_shl(shift);
            let pulls = self.registers.read(PULLS_0) & !0b11_u32.wrapping_shl(shift);
            self.registers.write(PULLS_0, pulls | wanted);
            return;
        }
        // Section 6.1, GPPUDCLKn: the sequence of events.
        let up = if pin.is_pulled_up { 0b10 } else { 0b00 };
        self.registers.write(PULL, up);
        wait();
        self.registers
            .write(PULL_CLOCK_0, 1_u32.wrapping_shl(pin.number));
        wait();
        self.registers.write(PULL, 0);
        self.registers.write(PULL_CLOCK_0, 0);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    /// Stands in the list of writes for a wait.
    const WAITED: (u64, u32) = (u64::MAX, 0);

    /// Functions and pulls, and what was written, in order.
    struct Fake {
        functions: RefCell<u32>,
        pulls: RefCell<u32>,
        written: RefCell<Vec<(u64, u32)>>,
    }

    impl Registers for &Fake {
        fn read(&self, offset: u64) -> u32 {
            match offset {
                0x04 => *self.functions.borrow(),
                0xe4 => *self.pulls.borrow(),
                _ => panic!("{offset:#x} read"),
            }
        }
        fn write(&self, offset: u64, value: u32) {
            match offset {
                0x04 => *self.functions.borrow_mut() = value,
                0xe4 => *self.pulls.borrow_mut() = value,
                _ => {}
            }
            self.written.borrow_mut().push((offset, value));
        }
    }

    fn connected(functions: u32, is_bcm2711: bool, function: Function) -> (bool, Vec<(u64, u32)>) {
        let fake = Fake {
            functions: functions.into(),
            // BCM2711 ARM Peripherals, table of GPIO_PUP_PDN_CNTRL_REG0: pins 9 to 15 are pulled down at reset, 0 to 8 up.
            pulls: 0xaaa9_5555.into(),
            written: RefCell::default(),
        };
        let gpio = Bcm2835Gpio {
            registers: &fake,
            is_bcm2711,
        };
        let is_changed = gpio.connect(function, || fake.written.borrow_mut().push(WAITED));
        (is_changed, fake.written.into_inner())
    }

    #[test]
    fn inputs_of_a_bcm2835_become_the_mini_uarts() {
        // Section 6.2: TXD1 and RXD1 are ALT5 of GPIO 14 and 15, which is 010; GPPUD is 0 for off, 2 for up.
        let (is_changed, written) = connected(0, false, Function::MiniUart);
        assert!(is_changed);
        assert_eq!(
            written,
            [
                (0x94, 0),
                WAITED,
                (0x98, 1 << 14),
                WAITED,
                (0x94, 0),
                (0x98, 0),
                (0x04, 0x0000_2000),
                (0x94, 2),
                WAITED,
                (0x98, 1 << 15),
                WAITED,
                (0x94, 0),
                (0x98, 0),
                (0x04, 0x0001_2000),
            ]
        );
    }

    #[test]
    fn pins_of_a_bcm2711_go_from_one_uart_to_the_other() {
        // All other pins of the register are outputs; ALT0 is 100, ALT5 010. Pulls: 0 none, 1 up.
        let others = 0x0924_0249;
        let (is_changed, written) = connected(others | 0x0001_2000, true, Function::Pl011);
        assert!(is_changed);
        assert_eq!(
            written,
            [
                (0xe4, 0x8aa9_5555),
                (0x04, others | 0x0001_4000),
                (0xe4, 0x4aa9_5555),
                (0x04, others | 0x0002_4000),
            ]
        );
    }

    #[test]
    fn pins_that_have_the_function_are_left_alone() {
        let mini = connected(0x3ffc_0fff | 0x0001_2000, false, Function::MiniUart);
        assert_eq!(mini, (false, Vec::new()));
        let pl011 = connected(0x0002_4000, true, Function::Pl011);
        assert_eq!(pl011, (false, Vec::new()));
    }

    #[test]
    fn only_the_pin_that_differs_is_changed() {
        let (is_changed, written) = connected(0x0000_4000, true, Function::Pl011);
        assert!(is_changed);
        assert_eq!(written, [(0xe4, 0x6aa9_5555), (0x04, 0x0002_4000)]);
    }
}
