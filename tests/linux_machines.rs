// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines on which Linux crashes in tests/linux.rs.

use std::fmt;

/// A kind of machine that Linux crashes on.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) machine: &'static str,
    pub(crate) cpu: &'static str,
    pub(crate) cpus: &'static str,
    pub(crate) memory_mib: u64,
    /// The Debian suite that its kernel is from.
    pub(crate) suite: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Debian 12, with Linux 6.1 and 48-bit addresses.
pub(crate) const OLD_SUITE: &str = "bookworm";

/// The rows of each run: the hand-over at EL1, and from VHE at EL2, and the older kernel.
pub(crate) const ROWS: [Row; 3] = [
    Row {
        name: "EL1, GICv2, cortex-a72",
        machine: "gic-version=2",
        cpu: "cortex-a72",
        cpus: "1",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL2 with VHE, GICv3, max",
        machine: "virtualization=on,gic-version=3",
        cpu: MAX,
        cpus: "1",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL1, GICv3, 2 x cortex-a72, Linux 6.1",
        machine: "gic-version=3",
        cpu: "cortex-a72",
        cpus: "2",
        memory_mib: 256,
        suite: OLD_SUITE,
    },
];

/// Further rows under `AFTERIMAGE_SOAK=1`.
pub(crate) const SOAK_ROWS: [Row; 8] = [
    Row {
        name: "EL2, GICv2, cortex-a72",
        machine: "virtualization=on,gic-version=2",
        cpu: "cortex-a72",
        cpus: "1",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL1, GICv3, max",
        machine: "gic-version=3",
        cpu: MAX,
        cpus: "1",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL1, GICv3, 4 x cortex-a72",
        machine: "gic-version=3",
        cpu: "cortex-a72",
        cpus: "4",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL2, GICv2, 2 x cortex-a53",
        machine: "virtualization=on,gic-version=2",
        cpu: "cortex-a53",
        cpus: "2",
        memory_mib: 256,
        suite: "trixie",
    },
    Row {
        name: "EL1, GICv2, 8 x cortex-a72, 1 GiB",
        machine: "gic-version=2",
        cpu: "cortex-a72",
        cpus: "8",
        memory_mib: 1024,
        suite: "trixie",
    },
    Row {
        name: "EL2 with VHE, GICv2, 4 x max, 2 GiB",
        machine: "virtualization=on,gic-version=2",
        cpu: MAX,
        cpus: "4",
        memory_mib: 2048,
        suite: "trixie",
    },
    Row {
        name: "EL2, GICv3, 8 x cortex-a72, 8 GiB",
        machine: "virtualization=on,gic-version=3",
        cpu: "cortex-a72",
        cpus: "8",
        memory_mib: 8192,
        suite: "trixie",
    },
    Row {
        name: "EL1, GICv3, 8 x max, 8 GiB",
        machine: "gic-version=3",
        cpu: MAX,
        cpus: "8",
        memory_mib: 8192,
        suite: "trixie",
    },
];

/// QEMU's own pointer authentication instead of the architected one, which takes most of the time in TCG.
pub(crate) const MAX: &str = "max,pauth-impdef=on";
