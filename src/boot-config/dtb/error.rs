// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a device tree blob.

use core::fmt;

use crate::range::RangeError;

/// The parts of a blob that its header points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The memory reservation block.
    MemoryReservations,
    /// The structure block.
    Structure,
    /// The strings block.
    Strings,
}

/// Why a device tree blob cannot be used; offsets count from the start of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtbError {
    /// The magic number is wrong.
    NotADtb {
        /// What stands there.
        found: u32,
    },
    /// There are fewer bytes than needed.
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        len: usize,
    },
    /// The header's total size is impossible.
    TotalSize {
        /// Total size in bytes.
        total_size: u32,
    },
    /// The format version is not 17 or compatible with it.
    Version {
        /// The blob's version.
        version: u32,
        /// The oldest version it is compatible with.
        last_compatible: u32,
    },
    /// A block is not inside the blob, or not aligned.
    BlockBounds {
        /// Which block.
        block: Block,
        /// Its offset.
        offset: u32,
        /// Its length in bytes; 0 for the memory reservation block, which has none.
        len: u32,
    },
    /// The memory reservation block has no end.
    ReservationsUnterminated,
    /// A token of the structure block is unknown or stands in the wrong place.
    BadToken {
        /// Where it stands.
        offset: usize,
        /// The token.
        token: u32,
    },
    /// A node's name has no end or an impossible character, or the root has one.
    BadNodeName {
        /// Where the name begins.
        offset: usize,
    },
    /// A property's name is not in the strings block, or has an impossible character.
    BadPropertyName {
        /// Where the property begins.
        offset: usize,
        /// Its offset into the strings block.
        name_offset: u32,
    },
    /// A property's value reaches beyond the structure block.
    PropertyTooLong {
        /// Where the property begins.
        offset: usize,
        /// Its length in bytes.
        len: u32,
    },
    /// Nodes are nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep {
        /// Where the node begins.
        offset: usize,
    },
    /// The structure block ends without an end token, or goes on after it.
    BadEnd {
        /// Where that was noticed.
        offset: usize,
    },
    /// The `fdt` crate refuses what the validator accepted.
    Unreadable,
    /// A node is missing.
    MissingNode {
        /// Its path or its name.
        node: &'static str,
    },
    /// A property is missing.
    MissingProperty {
        /// Path or name of the node.
        node: &'static str,
        /// Name of the property.
        property: &'static str,
    },
    /// A `#...-cells` property has a value that cannot be used there.
    BadCells {
        /// Name of the property that needs the cells.
        property: &'static str,
        /// Cells of an address, or of an interrupt.
        address: u32,
        /// Cells of a size; 0 for an interrupt.
        size: u32,
    },
    /// The length of a property does not fit its meaning.
    BadLength {
        /// Name of the property.
        property: &'static str,
        /// Where its value begins.
        offset: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// The value of a property is impossible.
    BadValue {
        /// Name of the property.
        property: &'static str,
        /// Where its value begins.
        offset: usize,
    },
    /// A range in a property is impossible.
    BadRange {
        /// Name of the property.
        property: &'static str,
        /// What is impossible about it.
        cause: RangeError,
    },
    /// An address has no translation through the `ranges` of a bus above it.
    Untranslatable {
        /// The address on its bus.
        address: u64,
    },
    /// No node has the phandle that a property names.
    PhandleNotFound {
        /// The phandle.
        phandle: u32,
    },
    /// There are more entries than a fixed list holds.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many fit.
        capacity: usize,
    },
}

impl fmt::Display for DtbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADtb { found } => write!(f, "no device tree: magic is {found:#010x}"),
            Self::Truncated { needed, len } => {
                write!(f, "device tree needs {needed} bytes and has {len}")
            }
            Self::TotalSize { total_size } => {
                write!(f, "device tree total size {total_size:#x} is impossible")
            }
            Self::Version {
                version,
                last_compatible,
            } => write!(
                f,
                "device tree version {version} (compatible back to {last_compatible}) is not 17"
            ),
            Self::BlockBounds { block, offset, len } => {
                write!(
                    f,
                    "{block:?} block of {len:#x} bytes at {offset:#x} is out of bounds"
                )
            }
            Self::ReservationsUnterminated => f.write_str("memory reservations have no end"),
            Self::BadToken { offset, token } => {
                write!(f, "token {token:#x} at {offset:#x} does not belong there")
            }
            Self::BadNodeName { offset } => write!(f, "node name at {offset:#x} is impossible"),
            Self::BadPropertyName {
                offset,
                name_offset,
            } => {
                write!(
                    f,
                    "property at {offset:#x} has a bad name (string {name_offset:#x})"
                )
            }
            Self::PropertyTooLong { offset, len } => {
                write!(f, "property at {offset:#x} is too long: {len:#x} bytes")
            }
            Self::TooDeep { offset } => write!(f, "node at {offset:#x} is nested too deep"),
            Self::BadEnd { offset } => write!(f, "structure block ends badly at {offset:#x}"),
            Self::Unreadable => f.write_str("device tree reader refuses the blob"),
            Self::MissingNode { node } => write!(f, "device tree has no node {node}"),
            Self::MissingProperty { node, property } => {
                write!(f, "device tree node {node} has no property {property}")
            }
            Self::BadCells {
                property,
                address,
                size,
            } => {
                write!(
                    f,
                    "{property} with {address} and {size} cells cannot be read"
                )
            }
            Self::BadLength {
                property,
                offset,
                len,
            } => {
                write!(
                    f,
                    "{property} at {offset:#x} has the wrong length, {len} bytes"
                )
            }
            Self::BadValue { property, offset } => {
                write!(f, "{property} at {offset:#x} has an impossible value")
            }
            Self::BadRange { property, cause } => write!(f, "{property}: {cause}"),
            Self::Untranslatable { address } => {
                write!(f, "bus address {address:#x} has no physical address")
            }
            Self::PhandleNotFound { phandle } => write!(f, "no node has phandle {phandle:#x}"),
            Self::TooMany { what, capacity } => write!(f, "more than {capacity} {what}"),
        }
    }
}

impl core::error::Error for DtbError {}
