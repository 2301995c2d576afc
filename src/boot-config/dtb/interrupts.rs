// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GIC, interrupt numbers, and the architectural timer.
//!
//! Linux's Documentation/devicetree/bindings/interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml, and
//! timer/arm,arch_timer.yaml.

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

/// When an interrupt is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// On an edge.
    Edge,
    /// As long as a level lasts.
    Level,
}

/// An interrupt of a GIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// The GIC's number: 16-31 for a PPI, 32-1019 for an SPI, 1056-1119 and 4096-5119 for extended ones.
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

    /// Returns interrupt `index` of a device; `None` when it has no such one or its controller is no GIC.
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
        if !is_gic(&parent) {
            return Ok(None);
        }
        let len = specifier_len(&parent)?;
        if !value.len().is_multiple_of(len) {
            return Err(node.bad_length("interrupts", value));
        }
        match value.chunks_exact(len).nth(index) {
            None => Ok(None),
            Some(specifier) => decode(specifier)
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
            if at == index && is_gic(&parent) {
                let decoded = decode(specifier).ok_or_else(|| node.bad_value(NAME, specifier))?;
                return Ok(Some(decoded));
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

/// Returns the length in bytes of an interrupt specifier of `controller`.
fn specifier_len(controller: &Node<'_>) -> Result<usize, DtbError> {
    const NAME: &str = "#interrupt-cells";
    let missing = DtbError::MissingProperty {
        node: "interrupt-controller",
        property: NAME,
    };
    let cells = controller.cell(NAME)?.ok_or(missing)?;
    match (cells, is_gic(controller)) {
        (1..=4, false) | (3..=4, true) => {
            usize::try_from(cells.saturating_mul(4)).map_err(|_| missing)
        }
        _ => Err(DtbError::BadCells {
            property: "interrupts",
            address: cells,
            size: 0,
        }),
    }
}

/// Decodes a GIC's specifier: kind, number, flags.
fn decode(specifier: &[u8]) -> Option<Interrupt> {
    let (kind, number, flags) = (
        be32(specifier, 0)?,
        be32(specifier, 4)?,
        be32(specifier, 8)?,
    );
    let (first, count) = match kind {
        0 => (32, 988),
        1 => (16, 16),
        2 => (4096, 1024),
        3 => (1056, 64),
        _ => return None,
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
