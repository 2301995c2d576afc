// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPUs, and how they are started.
//!
//! Linux's Documentation/devicetree/bindings/arm/cpus.yaml and psci.yaml.

use super::cells::take_cells;
use super::error::DtbError;
use super::header::{be32, be64};
use super::{Dtb, Node};
use crate::fixed_list::FixedList;
use crate::range::PhysAddr;

/// How a CPU is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnableMethod {
    /// By PSCI's CPU_ON.
    Psci,
    /// By writing its entry point to an address it polls.
    SpinTable {
        /// `cpu-release-addr`.
        release: PhysAddr,
    },
    /// The node names no method that is known: only the boot CPU can be used.
    Unknown,
}

/// A CPU that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Its affinity as in MPIDR_EL1: Aff3 in bits 32-39, Aff2 to Aff0 in bits 0-23.
    pub mpidr: u64,
    /// How it is started.
    pub enable_method: EnableMethod,
}

/// The instruction that calls the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// The PSCI version a node claims compatibility with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PsciVersion {
    /// `arm,psci`: the function numbers stand in the node.
    V0_1,
    /// `arm,psci-0.2`.
    V0_2,
    /// `arm,psci-1.0` and later.
    V1_0,
}

/// The PSCI firmware interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Psci {
    /// How it is called.
    pub conduit: Conduit,
    /// Which version it is.
    pub version: PsciVersion,
}

/// The affinity bits of MPIDR_EL1; cpus.yaml wants all others of `reg` to be 0.
const AFFINITY_MASK: u64 = 0xff_00ff_ffff;

impl<'a> Dtb<'a> {
    /// Returns the available CPUs in the order of the blob; those beyond `N` are counted as missed.
    ///
    /// # Errors
    /// [`DtbError::MissingNode`] without any, wrong cells or lengths, an impossible `reg`.
    pub fn cpus<const N: usize>(&self) -> Result<FixedList<Cpu, N>, DtbError> {
        let missing = DtbError::MissingNode { node: "/cpus" };
        let parent = self.root().child("cpus").ok_or(missing)?;
        let address_cells = parent.cell_sizes()?.address;
        let mut cpus = FixedList::new();
        for node in parent.children() {
            let is_cpu = node.text("device_type") == Some("cpu") || node.base_name() == "cpu";
            if is_cpu && node.is_available() {
                cpus.push(cpu(&node, address_cells)?);
            }
        }
        if cpus.is_empty() && cpus.missed() == 0 {
            return Err(DtbError::MissingNode { node: "/cpus/cpu" });
        }
        Ok(cpus)
    }

    /// Returns the PSCI firmware interface; `None` when there is none.
    ///
    /// # Errors
    /// A `method` that is absent or neither `hvc` nor `smc`.
    pub fn psci(&self) -> Result<Option<Psci>, DtbError> {
        const VERSIONS: [(&str, PsciVersion); 3] = [
            ("arm,psci-1.0", PsciVersion::V1_0),
            ("arm,psci-0.2", PsciVersion::V0_2),
            ("arm,psci", PsciVersion::V0_1),
        ];
        let Some(node) = self.find_compatible(&VERSIONS.map(|(name, _)| name)) else {
            return Ok(None);
        };
        let best = VERSIONS.iter().find(|(name, _)| node.is_compatible(name));
        let conduit = match (node.text("method"), node.property("method")) {
            (Some("hvc"), _) => Conduit::Hvc,
            (Some("smc"), _) => Conduit::Smc,
            (_, Some(value)) => return Err(node.bad_value("method", value)),
            (_, None) => {
                return Err(DtbError::MissingProperty {
                    node: "/psci",
                    property: "method",
                });
            }
        };
        Ok(best.map(|(_, version)| Psci {
            conduit,
            version: *version,
        }))
    }
}

fn cpu(node: &Node<'_>, address_cells: u32) -> Result<Cpu, DtbError> {
    let missing = |property| DtbError::MissingProperty {
        node: "/cpus/cpu",
        property,
    };
    let reg = node.property("reg").ok_or(missing("reg"))?;
    let mpidr = match address_cells {
        1 | 2 => take_cells(reg, address_cells).map(|(mpidr, _)| mpidr),
        address => {
            return Err(DtbError::BadCells {
                property: "reg",
                address,
                size: 0,
            });
        }
    };
    let mpidr = mpidr.ok_or_else(|| node.bad_length("reg", reg))?;
    if mpidr & !AFFINITY_MASK != 0 {
        return Err(node.bad_value("reg", reg));
    }
    let enable_method = match node.text("enable-method") {
        Some("psci") => EnableMethod::Psci,
        Some("spin-table") => {
            const RELEASE: &str = "cpu-release-addr";
            let value = node.property(RELEASE).ok_or(missing(RELEASE))?;
            // Always two cells by the binding; some old blobs write one.
            let release = match value.len() {
                4 => be32(value, 0).map(u64::from),
                8 => be64(value, 0),
                _ => None,
            };
            let release = release.ok_or_else(|| node.bad_length(RELEASE, value))?;
            EnableMethod::SpinTable {
                release: PhysAddr(release),
            }
        }
        _ => EnableMethod::Unknown,
    };
    Ok(Cpu {
        mpidr,
        enable_method,
    })
}
