// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a tree says of a BCM2835's VideoCore: its mailbox, its pins, its DMA, the memory that it shows on a screen.
//!
//! Linux's Documentation/devicetree/bindings/mailbox/brcm,bcm2835-mbox.yaml, pinctrl/brcm,bcm2835-gpio.yaml and
//! display/simple-framebuffer.yaml; `dma-ranges` is the Devicetree Specification v0.4, section 2.3.9.

use super::Dtb;
use super::cells::Way;
use super::error::DtbError;
use super::node::Node;
use crate::range::PhysRange;

/// What the VideoCore sees of the RAM: the first GiB, at its bus addresses from here on (BCM2835 ARM Peripherals, section 1.2.4).
const BUS_BASE: u64 = 0xc000_0000;
const BUS_LEN: u64 = 1 << 30;
const DMA: &str = "brcm,bcm2835-dma";

/// The mailboxes between the CPUs and the VideoCore's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bcm2835Mailbox {
    /// Registers, physical.
    pub registers: PhysRange,
    /// Bus address at which the VideoCore sees the buffer; `None` when it does not see all of it.
    pub bus_address: Option<u32>,
}

/// The pins' function registers, of which kind they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bcm2835Gpio {
    /// Registers, physical.
    pub registers: PhysRange,
    /// Whether pulls are set as in a BCM2711 (Raspberry Pi 4).
    pub is_bcm2711: bool,
}

/// Memory that others than the CPUs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherMemory<'a> {
    /// The node's name without its unit address.
    pub name: &'a str,
    /// Whether it is shown on a screen; else it is marked `no-map`.
    pub is_framebuffer: bool,
    /// Where it is, or what is wrong with its `reg`.
    pub range: Result<PhysRange, DtbError>,
}

impl<'a> Dtb<'a> {
    /// Returns the mailboxes of a BCM2835 or a successor, for questions in `buffer`; `None` without any.
    ///
    /// # Errors
    /// Whatever is wrong with its registers, or with the `dma-ranges` of its bus.
    pub fn bcm2835_mailbox(&self, buffer: &PhysRange) -> Result<Option<Bcm2835Mailbox>, DtbError> {
        let Some(node) = self.find_compatible(&["brcm,bcm2835-mbox"]) else {
            return Ok(None);
        };
        let Some(registers) = node.registers(0)? else {
            return Ok(None);
        };
        let bus_address = bus_address(&node, buffer)?;
        Ok(Some(Bcm2835Mailbox {
            registers,
            bus_address,
        }))
    }

    /// Returns the registers of a BCM2835's DMA controller or a successor's; `None` without one.
    ///
    /// # Errors
    /// Whatever is wrong with its registers.
    pub fn bcm2835_dma(&self) -> Result<Option<PhysRange>, DtbError> {
        self.registers_of(DMA)
    }

    /// Returns where in memory that controller writes `len` bytes at a bus address; `None` when that is no memory of the CPUs'.
    ///
    /// # Errors
    /// Whatever is wrong with the `dma-ranges` of its bus.
    pub fn bcm2835_dma_target(&self, bus: u32, len: u64) -> Result<Option<PhysRange>, DtbError> {
        let node = self.find_compatible(&[DMA]);
        // Above 0x40000000 each quarter of the 4 GiB is the same memory, cached in another manner (BCM2835 ARM Peripherals, section 1.2.3).
        let quarter = u64::from(bus) % BUS_LEN;
        for bus in [u64::from(bus), quarter.saturating_add(BUS_BASE)] {
            let start = node.map(|node| through_dma_ranges(&node, Way::Up, bus, len));
            if let Some(start) = start.transpose()?.flatten() {
                return Ok(PhysRange::from_len(start, len).ok());
            }
        }
        Ok(None)
    }

    /// Returns the pins of a BCM2835 or a successor; `None` without any.
    ///
    /// # Errors
    /// Whatever is wrong with their registers.
    pub fn bcm2835_gpio(&self) -> Result<Option<Bcm2835Gpio>, DtbError> {
        const NEW: &str = "brcm,bcm2711-gpio";
        let Some(node) = self.find_compatible(&[NEW, "brcm,bcm2835-gpio"]) else {
            return Ok(None);
        };
        let is_bcm2711 = node.is_compatible(NEW);
        let registers = node.registers(0)?;
        Ok(registers.map(|registers| Bcm2835Gpio {
            registers,
            is_bcm2711,
        }))
    }

    /// Hands out memory that is not the CPUs' alone: framebuffers that the boot loader left (`simple-framebuffer` in `/chosen`), as far as
    /// they are in use, and static regions of `/reserved-memory` that are marked `no-map`; of each the first range. A framebuffer that
    /// names its memory by `memory-region` has it there.
    pub fn each_other_memory(&self, mut found: impl FnMut(OtherMemory<'a>)) {
        let _ = self.find(|node| {
            let is_framebuffer = node.is_compatible("simple-framebuffer");
            let parent = match node.parent() {
                Some(parent) if is_framebuffer || node.property("no-map").is_some() => parent,
                _ => return false,
            };
            let is_there = matches!(parent.name(), "chosen" | "reserved-memory");
            let is_one = is_there && parent.parent().is_some_and(|it| it.parent().is_none());
            if let Some(reg) = node.property("reg").filter(|_| is_one)
                && node.is_available()
            {
                let range = node.registers(0).and_then(|range| {
                    let range = range.filter(|range| !range.is_empty());
                    range.ok_or_else(|| node.bad_value("reg", reg))
                });
                found(OtherMemory {
                    name: node.base_name(),
                    is_framebuffer,
                    range,
                });
            }
            false
        });
    }
}

/// Where a device at `node` sees `buffer`: through the `dma-ranges` of its bus, else as the manual says.
fn bus_address(node: &Node<'_>, buffer: &PhysRange) -> Result<Option<u32>, DtbError> {
    if buffer.is_empty() || buffer.end > BUS_LEN {
        return Ok(None);
    }
    let start = through_dma_ranges(node, Way::Down, buffer.start, buffer.len())?;
    // All of it must have a bus address of 32 bits.
    let last = start.and_then(|start| start.checked_add(buffer.len())?.checked_sub(1));
    let is_low = last.is_some_and(|last| u32::try_from(last).is_ok());
    Ok(start
        .filter(|_| is_low)
        .and_then(|start| u32::try_from(start).ok()))
}

/// Leads an address between the bus of the device at `node` and memory; `None` when `len` bytes there are not all led.
fn through_dma_ranges(
    node: &Node<'_>,
    way: Way,
    address: u64,
    len: u64,
) -> Result<Option<u64>, DtbError> {
    const NAME: &str = "dma-ranges";
    let bus = node.parent();
    let ranges = bus.and_then(|bus| bus.property(NAME));
    match (bus, bus.and_then(|bus| bus.parent()), ranges) {
        (Some(_), Some(_), Some([])) => Ok(Some(address)),
        (Some(bus), Some(parent), Some(ranges)) => {
            let cells = (bus.cell_sizes()?, parent.cell_sizes()?);
            bus.map_through((NAME, ranges), cells, way, address, len)
        }
        _ => Ok(match way {
            Way::Down => BUS_BASE.checked_add(address),
            Way::Up => address.checked_sub(BUS_BASE),
        }),
    }
}
