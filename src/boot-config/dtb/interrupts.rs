// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller, interrupt numbers, and the architectural timer.
//!
//! Linux's Documentation/devicetree/bindings/interrupt-controller/arm,gic.yaml, arm,gic-v3.yaml, brcm,bcm2836-l1-intc.yaml and
//! brcm,bcm2835-armctrl-ic.yaml, and timer/arm,arch_timer.yaml.

use super::error::DtbError;
use super::header::be32;
use super::{Dtb, Node};
use crate::fixed_list::FixedList;
use crate::range::PhysRange;

/// How many redistributor regions are kept.
const MAX_REDISTRIBUTORS: usize = 8;

const GIC_V2: [&str; 8] = [
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a7-gic",
    "arm,eb11mp-gic",
    "arm,tc11mp-gic",
    "arm,pl390",
    "arm,gic-v2",
];
const GIC_V3: &str = "arm,gic-v3";
const BCM2836_LOCAL: &str = "brcm,bcm2836-l1-intc";
const BCM2836_SHARED: &str = "brcm,bcm2836-armctrl-ic";

/// The interrupt controller, with the physical addresses of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 and what is compatible with it.
    V2 {
        /// GICD.
        distributor: PhysRange,
        /// GICC.
        cpu_interface: PhysRange,
    },
    /// GICv3 and GICv4, with system registers as CPU interface.
    V3 {
        /// GICD.
        distributor: PhysRange,
        /// GICR regions, each with the frames of one or more CPUs.
        redistributors: FixedList<PhysRange, MAX_REDISTRIBUTORS>,
    },
}

/// The interrupt controllers of a BCM2836 or BCM2837, which have no GIC: physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bcm2836 {
    /// The local one, with timers and mailboxes of each core.
    pub local: PhysRange,
    /// The one for the devices of all cores, which is one source of the local one; where the tree has it.
    pub shared: Option<PhysRange>,
}

/// When an interrupt is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// On an edge.
    Edge,
    /// As long as a level lasts.
    Level,
}

/// An interrupt of a controller that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// The GIC's number: 16-31 for a PPI, 32-1019 for an SPI, 1056-1119 and 4096-5119 for extended ones.
    ///
    /// Of a [`Bcm2836`], numbered in the same manner: 16 and the number of a local source; 32, 64 and 96 and the number in bank 0, 1 and 2 of the
    /// shared controller.
    pub intid: u32,
    /// When it is signalled.
    pub trigger: Trigger,
}

/// The interrupts of the architectural timer; all of them PPIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchTimer {
    /// Of the non-secure EL1 physical timer (CNTP).
    pub physical: Option<Interrupt>,
    /// Of the virtual timer (CNTV).
    pub virtual_: Option<Interrupt>,
    /// Of the EL2 physical timer (CNTHP).
    pub hypervisor: Option<Interrupt>,
    /// The counter's frequency in Hz, only where CNTFRQ_EL0 is not to be trusted.
    pub clock_hz: Option<u32>,
}

impl<'a> Dtb<'a> {
    /// Returns the GIC; `None` when the board has none, such as a Raspberry Pi 3.
    ///
    /// # Errors
    /// [`DtbError::MissingProperty`] when a part is missing, else whatever is wrong with its registers.
    pub fn gic(&self) -> Result<Option<Gic>, DtbError> {
        let Some(node) = self.find(|node| is_gic(node) && node.is_available()) else {
            return Ok(None);
        };
        let missing = DtbError::MissingProperty {
            node: "interrupt-controller",
            property: "reg",
        };
        let distributor = node.registers(0)?.ok_or(missing)?;
        if !node.is_compatible(GIC_V3) {
            let cpu_interface = node.registers(1)?.ok_or(missing)?;
            return Ok(Some(Gic::V2 {
                distributor,
                cpu_interface,
            }));
        }
        let regions = node.cell("#redistributor-regions")?.unwrap_or(1);
        let regions = usize::try_from(regions).unwrap_or(usize::MAX);
        let mut redistributors = FixedList::new();
        for index in 1..=regions.min(MAX_REDISTRIBUTORS) {
            redistributors.push(node.registers(index)?.ok_or(missing)?);
        }
        if regions > MAX_REDISTRIBUTORS {
            let capacity = MAX_REDISTRIBUTORS;
            return Err(DtbError::TooMany {
                what: "redistributor regions",
                capacity,
            });
        }
        if redistributors.is_empty() {
            return Err(missing);
        }
        Ok(Some(Gic::V3 {
            distributor,
            redistributors,
        }))
    }

    /// Returns the interrupt controllers of a BCM2836; `None` when the local one is not there, or is no interrupt controller any more
    /// (a Raspberry Pi 4 has a GIC instead).
    ///
    /// # Errors
    /// [`DtbError::MissingProperty`] when one has no registers, else whatever is wrong with them.
    pub fn bcm2836_interrupts(&self) -> Result<Option<Bcm2836>, DtbError> {
        let registers = |name: &str| {
            let found = self.find(|node| {
                let is_controller = node.property("interrupt-controller").is_some();
                node.is_compatible(name) && is_controller && node.is_available()
            });
            let missing = DtbError::MissingProperty {
                node: "interrupt-controller",
                property: "reg",
            };
            found
                .map(|node| node.registers(0)?.ok_or(missing))
                .transpose()
        };
        let Some(local) = registers(BCM2836_LOCAL)? else {
            return Ok(None);
        };
        let shared = registers(BCM2836_SHARED)?;
        Ok(Some(Bcm2836 { local, shared }))
    }

    /// Returns the timer's interrupts; `None` when there is no timer node.
    ///
    /// # Errors
    /// Whatever is wrong with its `interrupts`.
    pub fn arch_timer(&self) -> Result<Option<ArchTimer>, DtbError> {
        let Some(node) = self.find_compatible(&["arm,armv8-timer", "arm,armv7-timer"]) else {
            return Ok(None);
        };
        // Without names the order is: secure physical, non-secure physical, virtual, hypervisor.
        let by_name = |name: &str, index: usize| {
            let index = match node.property("interrupt-names") {
                Some(_) => node
                    .strings("interrupt-names")
                    .position(|listed| listed == name),
                None => Some(index),
            };
            index.map_or(Ok(None), |index| self.interrupt(&node, index))
        };
        Ok(Some(ArchTimer {
            physical: by_name("phys", 1)?,
            virtual_: by_name("virt", 2)?,
            hypervisor: by_name("hyp-phys", 3)?,
            clock_hz: node.cell("clock-frequency")?,
        }))
    }

    /// Returns interrupt `index` of a device; `None` when it has no such one or its controller is not known here.
    ///
    /// # Errors
    /// [`DtbError::PhandleNotFound`] when the controller is not there, wrong cells, an impossible number.
    pub fn interrupt(&self, node: &Node<'a>, index: usize) -> Result<Option<Interrupt>, DtbError> {
        if let Some(value) = node.property("interrupts-extended") {
            return self.extended_interrupt(node, value, index);
        }
        let Some(value) = node.property("interrupts") else {
            return Ok(None);
        };
        let Some(parent) = self.interrupt_parent(node)? else {
            return Ok(None);
        };
        let Some(kind) = Kind::of(&parent) else {
            return Ok(None);
        };
        let len = specifier_len(&parent)?;
        if !value.len().is_multiple_of(len) {
            return Err(node.bad_length("interrupts", value));
        }
        match value.chunks_exact(len).nth(index) {
            None => Ok(None),
            Some(specifier) => kind
                .decode(specifier)
                .map(Some)
                .ok_or_else(|| node.bad_value("interrupts", specifier)),
        }
    }

    fn extended_interrupt(
        &self,
        node: &Node<'a>,
        value: &'a [u8],
        index: usize,
    ) -> Result<Option<Interrupt>, DtbError> {
        const NAME: &str = "interrupts-extended";
        let bad_length = || node.bad_length(NAME, value);
        let mut rest = value;
        for at in 0..=index {
            if rest.is_empty() {
                break;
            }
            let parent = self.node_by_phandle(be32(rest, 0).ok_or_else(bad_length)?)?;
            let len = specifier_len(&parent)?;
            rest = rest.get(4..).ok_or_else(bad_length)?;
            let specifier = rest.get(..len).ok_or_else(bad_length)?;
            rest = rest.get(len..).ok_or_else(bad_length)?;
            if at == index
                && let Some(kind) = Kind::of(&parent)
            {
                let decoded = kind.decode(specifier);
                return decoded
                    .map(Some)
                    .ok_or_else(|| node.bad_value(NAME, specifier));
            }
        }
        Ok(None)
    }

    /// Returns the controller named by the nearest `interrupt-parent`, on the node or above it.
    fn interrupt_parent(&self, node: &Node<'a>) -> Result<Option<Node<'a>>, DtbError> {
        let mut at = *node;
        loop {
            if let Some(phandle) = at.cell("interrupt-parent")? {
                return self.node_by_phandle(phandle).map(Some);
            }
            match at.parent() {
                Some(parent) if parent.property("interrupt-controller").is_some() => {
                    return Ok(Some(parent));
                }
                Some(parent) => at = parent,
                None => return Ok(None),
            }
        }
    }
}

fn is_gic(node: &Node<'_>) -> bool {
    node.is_compatible(GIC_V3) || node.is_compatible_with_any(&GIC_V2)
}

/// A kind of controller whose specifiers are understood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gic,
    Bcm2836Local,
    Bcm2836Shared,
}

/// Returns the length in bytes of an interrupt specifier of `controller`.
fn specifier_len(controller: &Node<'_>) -> Result<usize, DtbError> {
    const NAME: &str = "#interrupt-cells";
    let missing = DtbError::MissingProperty {
        node: "interrupt-controller",
        property: NAME,
    };
    let cells = controller.cell(NAME)?.ok_or(missing)?;
    match (cells, Kind::of(controller)) {
        (1..=4, None) | (3..=4, Some(Kind::Gic)) => {}
        (2, Some(Kind::Bcm2836Local | Kind::Bcm2836Shared)) => {}
        _ => {
            return Err(DtbError::BadCells {
                property: "interrupts",
                address: cells,
                size: 0,
            });
        }
    }
    usize::try_from(cells.saturating_mul(4)).map_err(|_| missing)
}

impl Kind {
    fn of(controller: &Node<'_>) -> Option<Self> {
        if is_gic(controller) {
            Some(Self::Gic)
        } else if controller.is_compatible(BCM2836_LOCAL) {
            Some(Self::Bcm2836Local)
        } else if controller.is_compatible(BCM2836_SHARED) {
            Some(Self::Bcm2836Shared)
        } else {
            None
        }
    }

    /// Decodes a specifier. A GIC's is kind, number, flags; the local controller's is number, flags; the shared one's is bank, number.
    fn decode(self, specifier: &[u8]) -> Option<Interrupt> {
        let (first, count, number, flags) = match self {
            Self::Gic => {
                let (first, count) = match be32(specifier, 0)? {
                    0 => (32, 988),
                    1 => (16, 16),
                    2 => (4096, 1024),
                    3 => (1056, 64),
                    _ => return None,
                };
                (first, count, be32(specifier, 4)?, be32(specifier, 8)?)
            }
            Self::Bcm2836Local => (16, 16, be32(specifier, 0)?, be32(specifier, 4)?),
            Self::Bcm2836Shared => {
                let first = match be32(specifier, 0)? {
                    0 => 32,
                    1 => 64,
                    2 => 96,
                    _ => return None,
                };
                // All are levels.
                (first, 32, be32(specifier, 4)?, 4)
            }
        };
        if number >= count {
            return None;
        }
        let trigger = match flags & 0xf {
            1..=3 => Trigger::Edge,
            _ => Trigger::Level,
        };
        Some(Interrupt {
            intid: number.checked_add(first)?,
            trigger,
        })
    }
}
