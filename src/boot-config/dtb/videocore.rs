// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a tree says of a BCM2835's VideoCore: its mailbox, its pins, the memory that it shows on a screen.
//!
//! Linux's Documentation/devicetree/bindings/mailbox/brcm,bcm2835-mbox.yaml, pinctrl/brcm,bcm2835-gpio.yaml and
//! display/simple-framebuffer.yaml; `dma-ranges` is the Devicetree Specification v0.4, section 2.3.9.

use super::Dtb;
use super::cells::take_cells;
use super::error::DtbError;
use super::node::Node;
use crate::fixed_list::FixedList;
use crate::range::PhysRange;

/// What the VideoCore sees of the RAM: the first GiB, at its bus addresses from here on (BCM2835 ARM Peripherals, section 1.2.4).
const BUS_BASE: u64 = 0xc000_0000;
const BUS_LEN: u64 = 1 << 30;
/// Windows of `dma-ranges` that are looked at; bcm2711.dtsi has one, Raspberry Pi's own three.
const MAX_WINDOWS: usize = 8;
/// Framebuffers that are kept.
pub const MAX_FRAMEBUFFERS: usize = 4;

/// The mailboxes between the CPUs and the VideoCore's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bcm2835Mailbox {
    /// Registers, physical.
    pub registers: PhysRange,
    /// Windows of the bus: physical addresses, and the bus address of the first. `None` when the tree does not say.
    windows: Option<FixedList<(PhysRange, u64), MAX_WINDOWS>>,
}

impl Bcm2835Mailbox {
    /// Returns the bus address at which the VideoCore sees all of `range`; `None` when it does not.
    #[must_use]
    pub fn bus_address(&self, range: &PhysRange) -> Option<u32> {
        if range.is_empty() || range.end > BUS_LEN {
            return None;
        }
        let bus = match &self.windows {
            None => BUS_BASE.checked_add(range.start),
            Some(windows) => windows.iter().find_map(|(window, bus)| {
                let offset = range.start.checked_sub(window.start)?;
                window
                    .contains_range(range)
                    .then(|| bus.checked_add(offset))?
            }),
        };
        // All of it must have a bus address of 32 bits.
        let last = bus?.checked_add(range.len())?.checked_sub(1)?;
        u32::try_from(last).ok()?;
        u32::try_from(bus?).ok()
    }
}

/// The pins' function registers, of which kind they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bcm2835Gpio {
    /// Registers, physical.
    pub registers: PhysRange,
    /// Whether pulls are set as in a BCM2711 (Raspberry Pi 4).
    pub is_bcm2711: bool,
}

/// Memory that is shown on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framebuffer<'a> {
    /// The node's name with its unit address.
    pub name: &'a str,
    /// Where it is, or what is wrong with its `reg`.
    pub range: Result<PhysRange, DtbError>,
}

impl<'a> Dtb<'a> {
    /// Returns the mailboxes of a BCM2835 or a successor; `None` without any.
    ///
    /// # Errors
    /// Whatever is wrong with its registers, or with the `dma-ranges` of its bus.
    pub fn bcm2835_mailbox(&self) -> Result<Option<Bcm2835Mailbox>, DtbError> {
        let Some(node) = self.find_compatible(&["brcm,bcm2835-mbox"]) else {
            return Ok(None);
        };
        let Some(registers) = node.registers(0)? else {
            return Ok(None);
        };
        let windows = match node.parent() {
            Some(bus) => windows(&bus)?,
            None => None,
        };
        Ok(Some(Bcm2835Mailbox { registers, windows }))
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

    /// Returns the framebuffers that the boot loader left: `simple-framebuffer` in `/chosen`, as far as they are in use, the first
    /// [`MAX_FRAMEBUFFERS`]. One that names its memory by `memory-region` has its name there, in `/reserved-memory`, and is left out.
    #[must_use]
    pub fn framebuffers(&self) -> FixedList<Framebuffer<'a>, MAX_FRAMEBUFFERS> {
        let mut found = FixedList::new();
        let chosen = self.root().child("chosen");
        for node in chosen.iter().flat_map(Node::children) {
            let is_one = node.is_compatible("simple-framebuffer") && node.is_available();
            let Some(reg) = node.property("reg").filter(|_| is_one) else {
                continue;
            };
            let range = node.registers(0).and_then(|range| {
                let range = range.filter(|range| !range.is_empty());
                range.ok_or_else(|| node.bad_value("reg", reg))
            });
            let name = node.name();
            // More screens than that have no cable to hang on.
            let _ = found.push(Framebuffer { name, range });
        }
        found
    }
}

/// The windows of the bus `bus`; none of them where addresses are the same on both sides.
fn windows(bus: &Node<'_>) -> Result<Option<FixedList<(PhysRange, u64), MAX_WINDOWS>>, DtbError> {
    const NAME: &str = "dma-ranges";
    let (Some(value), Some(parent)) = (bus.property(NAME), bus.parent()) else {
        return Ok(None);
    };
    let mut windows = FixedList::new();
    if value.is_empty() {
        let all = PhysRange {
            start: 0,
            end: BUS_LEN,
        };
        let _ = windows.push((all, 0));
        return Ok(Some(windows));
    }
    let (child, up) = (bus.cell_sizes()?, parent.cell_sizes()?);
    let mut rest = value;
    while !rest.is_empty() {
        let entry = take_cells(rest, child.address).and_then(|(from, rest)| {
            let (to, rest) = take_cells(rest, up.address)?;
            let (len, rest) = take_cells(rest, child.size)?;
            (child.address > 0 && up.address > 0).then_some((from, to, len, rest))
        });
        let Some((from, to, len, next)) = entry else {
            return Err(bus.bad_length(NAME, value));
        };
        let window = PhysRange::from_len(to, len).map_err(|cause| DtbError::BadRange {
            property: NAME,
            cause,
        })?;
        // What does not fit is a window less.
        let _ = windows.push((window, from));
        rest = next;
    }
    Ok(Some(windows))
}
