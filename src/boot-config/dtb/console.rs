// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console that the boot loader chose.
//!
//! `stdout-path` (Devicetree Specification v0.4, section 3.6) with the options after its `:`, which Linux reads as
//! baud rate, parity, bits and flow (`115200n8`); then the older `linux,stdout-path`; then the alias `serial0`, the
//! port that Linux numbers first.

use super::error::DtbError;
use super::interrupts::Interrupt;
use super::{Dtb, Node};
use crate::range::PhysRange;

/// The console's UART.
#[derive(Debug, Clone, Copy)]
pub struct Console<'a> {
    /// Path or alias that chose it, without options.
    pub path: &'a str,
    /// The options after the `:`, empty if there are none.
    pub options: &'a str,
    /// Baud rate in the options.
    pub baud: Option<u32>,
    /// The UART's registers, physical.
    pub registers: PhysRange,
    /// Frequency of the UART's clock in Hz, where the node says it (`clock-frequency`, or a fixed clock).
    pub clock_hz: Option<u32>,
    /// Registers lie `1 << register_shift` bytes apart (`reg-shift`, 0 if absent); for 16550s.
    pub register_shift: u32,
    /// Width of a register access in bytes (`reg-io-width`, 1 if absent); for 16550s.
    pub register_width: u32,
    /// The UART's first interrupt, where its controller is a GIC.
    pub interrupt: Option<Interrupt>,
    node: Node<'a>,
}

impl<'a> Console<'a> {
    /// Returns whether the UART is compatible with `name`, such as `arm,pl011`.
    #[must_use]
    pub fn is_compatible(&self, name: &str) -> bool {
        self.node.is_compatible(name)
    }

    /// Returns the UART's `compatible` strings, most specific first.
    #[must_use]
    pub fn compatible(&self) -> super::StringList<'a> {
        self.node.strings("compatible")
    }

    /// Returns the UART's node.
    #[must_use]
    pub const fn node(&self) -> &Node<'a> {
        &self.node
    }
}

impl<'a> Dtb<'a> {
    /// Returns the console; `None` when the blob names none.
    ///
    /// # Errors
    /// [`DtbError::MissingNode`] when the node it names is not there, else whatever is wrong with its registers. An
    /// interrupt or clock that cannot be resolved is no error: a console must not fail for it.
    pub fn console(&self) -> Result<Option<Console<'a>>, DtbError> {
        let chosen = self.root().child("chosen");
        let chosen_path = chosen.and_then(|chosen| {
            chosen
                .text("stdout-path")
                .or_else(|| chosen.text("linux,stdout-path"))
        });
        let (path, options) = match chosen_path {
            Some(path) => path.split_once(':').unwrap_or((path, "")),
            None => ("serial0", ""),
        };
        let node = match self.node(path) {
            Some(node) => node,
            None if chosen_path.is_none() => return Ok(None),
            None => {
                return Err(DtbError::MissingNode {
                    node: "stdout-path",
                });
            }
        };
        let registers = node.registers(0)?.filter(|registers| !registers.is_empty());
        let missing = DtbError::MissingProperty {
            node: "stdout-path",
            property: "reg",
        };
        Ok(Some(Console {
            path,
            options,
            baud: leading_number(options),
            registers: registers.ok_or(missing)?,
            clock_hz: self.clock_hz(&node),
            register_shift: node.cell("reg-shift")?.unwrap_or(0),
            register_width: node.cell("reg-io-width")?.unwrap_or(1),
            interrupt: self.interrupt(&node, 0).ok().flatten(),
            node,
        }))
    }

    /// Returns the frequency of a device's first clock, where the blob fixes it.
    fn clock_hz(&self, node: &Node<'a>) -> Option<u32> {
        if let Some(own) = node.cell("clock-frequency").ok()? {
            return Some(own).filter(|hz| *hz > 0);
        }
        let phandle = super::header::be32(node.property("clocks")?, 0)?;
        let clock = self.node_by_phandle(phandle).ok()?;
        clock.cell("clock-frequency").ok()?.filter(|hz| *hz > 0)
    }
}

/// Returns the decimal number at the start of `text`; 0 and what does not fit count as none.
fn leading_number(text: &str) -> Option<u32> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..len)?.parse().ok().filter(|baud| *baud > 0)
}
