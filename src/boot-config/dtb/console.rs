// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console that the boot loader chose.
//!
//! `stdout-path` (Devicetree Specification v0.4, section 3.6) with the options after its `:`, which Linux reads as
//! baud rate, parity, bits and flow (`115200n8`); then the older `linux,stdout-path`; then what the command line says: the last
//! `console=` of a UART that the tree has (`ttyAMA0`, `ttyS0`), or the last `earlycon=` or `console=` with an address; then the alias
//! `serial0`, the port that Linux numbers first.

use super::early_console;
use super::error::DtbError;
use super::interrupts::Interrupt;
use super::{Dtb, Node};
use crate::command_line::parameters;
use crate::range::PhysRange;

/// Bytes of a PL011's registers.
const PL011_LEN: u64 = 0x1000;
/// Bytes of a mini UART's own registers.
const BCM2835_AUX_LEN: u64 = 0x40;
/// Bytes of a Cadence UART's registers.
const CADENCE_LEN: u64 = 0x1000;
/// Registers of a 16550.
const NS16550_REGISTERS: u64 = 8;
/// Longest alias: "serial" and a number.
const ALIAS_LEN: usize = 16;

/// The kind of a UART.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UartModel {
    /// Arm's PL011.
    Pl011,
    /// A 16550, or what is programmed like one: registers as in TI's PC16550D.
    Ns16550,
    /// The mini UART in the auxiliary block of a BCM2835 and its successors: Raspberry Pis.
    Bcm2835Aux,
    /// Cadence's, as in AMD's Zynq.
    Cadence,
    /// Something else.
    Other,
}

impl UartModel {
    const PL011: [&'static str; 1] = ["arm,pl011"];
    /// Drivers/tty/serial/8250/8250_of.c, 8250_dw.c.
    const NS16550: [&'static str; 8] = [
        "ns16550a",
        "ns16550",
        "ns16450",
        "ns8250",
        "snps,dw-apb-uart",
        "nvidia,tegra20-uart",
        "nuvoton,npcm750-uart",
        "ti,da830-uart",
    ];

    const BCM2835_AUX: [&'static str; 1] = ["brcm,bcm2835-aux-uart"];
    /// Drivers/tty/serial/xilinx_uartps.c.
    const CADENCE: [&'static str; 3] = ["xlnx,xuartps", "cdns,uart-r1p8", "cdns,uart-r1p12"];

    /// Returns the kind of the UART `node`.
    #[must_use]
    pub fn of(node: &Node<'_>) -> Self {
        if node.is_compatible_with_any(&Self::PL011) {
            Self::Pl011
        } else if node.is_compatible_with_any(&Self::NS16550) {
            Self::Ns16550
        } else if node.is_compatible_with_any(&Self::BCM2835_AUX) {
            Self::Bcm2835Aux
        } else if node.is_compatible_with_any(&Self::CADENCE) {
            Self::Cadence
        } else {
            Self::Other
        }
    }

    /// Returns what Linux's driver for this kind calls its ports; the mini UART's is a 16550's (8250_bcm2835aux.c).
    const fn tty(self) -> &'static str {
        match self {
            Self::Pl011 => "ttyAMA",
            Self::Ns16550 | Self::Bcm2835Aux => "ttyS",
            Self::Cadence => "ttyPS",
            Self::Other => "",
        }
    }
}

/// The console's UART.
#[derive(Debug, Clone, Copy)]
pub struct Console<'a> {
    /// Path, alias or parameter that chose it, without options.
    pub path: &'a str,
    /// What it is.
    pub model: UartModel,
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
    node: Option<Node<'a>>,
}

impl<'a> Console<'a> {
    /// Returns whether the UART is compatible with `name`, such as `arm,pl011`; no when only its address is known.
    #[must_use]
    pub fn is_compatible(&self, name: &str) -> bool {
        self.node.is_some_and(|node| node.is_compatible(name))
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
        let Some(path) = chosen_path else {
            return self.console_without_path();
        };
        let (path, options) = path.split_once(':').unwrap_or((path, ""));
        let missing = DtbError::MissingNode {
            node: "stdout-path",
        };
        self.console_at(path, options, self.node(path).ok_or(missing)?)
    }

    /// What the command line names, else the first serial port.
    fn console_without_path(&self) -> Result<Option<Console<'a>>, DtbError> {
        let values = |key: &'static str| {
            let all = parameters(self.boot_args()).filter(move |parameter| parameter.is(key));
            all.filter_map(|parameter| parameter.value_str())
        };
        let named = values("console").filter_map(|value| {
            let (name, options) = value.split_once(',').unwrap_or((value, ""));
            Some((name, options, self.serial_port(name)?))
        });
        if let Some((name, options, node)) = named.last() {
            return self.console_at(name, options, node);
        }
        let early = values("earlycon").chain(values("console"));
        if let Some(early) = early.filter_map(early_console::parse).last() {
            let len = match early.model {
                UartModel::Pl011 => PL011_LEN,
                UartModel::Bcm2835Aux => BCM2835_AUX_LEN,
                UartModel::Cadence => CADENCE_LEN,
                _ => NS16550_REGISTERS << early.register_shift,
            };
            let registers = PhysRange::from_len(early.address, len);
            return Ok(registers.ok().map(|registers| Console {
                path: "earlycon",
                model: early.model,
                options: early.options,
                baud: early.baud,
                registers,
                clock_hz: None,
                register_shift: early.register_shift,
                register_width: early.register_width,
                interrupt: None,
                node: None,
            }));
        }
        match self.node("serial0") {
            Some(node) => self.console_at("serial0", "", node),
            None => Ok(None),
        }
    }

    /// The UART that Linux calls `name`: the alias of its number if that is of the right kind, else the one of that number in the tree.
    fn serial_port(&self, name: &str) -> Option<Node<'a>> {
        let number = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let driver = name.strip_suffix(number).filter(|it| !it.is_empty())?;
        let is_meant = |node: &Node<'_>| UartModel::of(node).tty() == driver;
        let mut alias = [0; ALIAS_LEN];
        let alias = alias.get_mut(..6_usize.checked_add(number.len())?)?;
        let (word, digits) = alias.split_at_mut_checked(6)?;
        word.copy_from_slice(b"serial");
        digits.copy_from_slice(number.as_bytes());
        let by_alias = core::str::from_utf8(alias)
            .ok()
            .and_then(|it| self.node(it));
        if let Some(node) = by_alias.filter(is_meant) {
            return Some(node);
        }
        let mut left: u32 = number.parse().ok()?;
        self.find(|node| {
            let is_right = node.is_available() && is_meant(node);
            let is_it = is_right && left == 0;
            left = left.saturating_sub(u32::from(is_right));
            is_it
        })
    }

    fn console_at(
        &self,
        path: &'a str,
        options: &'a str,
        node: Node<'a>,
    ) -> Result<Option<Console<'a>>, DtbError> {
        let registers = node.registers(0)?.filter(|registers| !registers.is_empty());
        let missing = DtbError::MissingProperty {
            node: "stdout-path",
            property: "reg",
        };
        Ok(Some(Console {
            path,
            model: UartModel::of(&node),
            options,
            baud: leading_number(options),
            registers: registers.ok_or(missing)?,
            clock_hz: self.clock_hz(&node),
            register_shift: node.cell("reg-shift")?.unwrap_or(0),
            register_width: node.cell("reg-io-width")?.unwrap_or(1),
            interrupt: self.interrupt(&node, 0).ok().flatten(),
            node: Some(node),
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
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..len)?.parse().ok().filter(|baud| *baud > 0)
}
