// SPDX-License-Identifier: MIT OR Apache-2.0
//! Editing a blob: a copy is streamed out, and properties and nodes change on the way.
//!
//! Written by hand instead of with `dtoolkit`'s model, which was the plan: the model allocates for every property,
//! recurses as deep as the blob nests, merges siblings of one name, and writes 0 for the boot CPU. Streaming keeps
//! the order of nodes and properties and every byte that is not edited, needs neither heap nor recursion over the
//! input, and tells how much room is missing. NOP tokens and stray bytes between blocks are left out.

mod kdump;
mod pass;
mod writer;

use core::fmt;

use super::Dtb;
use super::error::DtbError;
use super::header::{HEADER_LEN, Header};
use super::validate::reservations;
use crate::fixed_list::FixedList;
use crate::range::PhysRange;

pub use kdump::{CaptureDtb, add_crash_region};
use pass::{Pass, new_names, old_strings};
use writer::Writer;

/// How many changes one pass makes.
const MAX_EDITS: usize = 24;

/// How many memory reservations one pass adds, and how many it removes.
const MAX_RESERVATIONS: usize = 16;

/// Why an edited blob cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditError {
    /// The result does not fit into the buffer.
    DoesNotFit {
        /// Length of the result in bytes.
        needed: usize,
        /// Length of the buffer in bytes.
        capacity: usize,
    },
    /// The result is longer than a blob may be.
    TooLong {
        /// Length of the result in bytes.
        len: usize,
    },
    /// A number does not fit into the cells it has to be written in.
    CellsTooSmall {
        /// The number.
        value: u64,
        /// How many cells there are.
        cells: u32,
    },
    /// More changes than one pass makes.
    TooManyEdits {
        /// How many it makes.
        capacity: usize,
    },
    /// The blob sets a crash region aside already.
    CrashRegionExists {
        /// Where it is.
        region: PhysRange,
    },
    /// The blob to be edited cannot be read.
    Dtb(DtbError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotFit { needed, capacity } => {
                write!(
                    f,
                    "edited device tree needs {needed} bytes and has room for {capacity}"
                )
            }
            Self::TooLong { len } => write!(f, "edited device tree is too long: {len:#x} bytes"),
            Self::CellsTooSmall { value, cells } => {
                write!(f, "{value:#x} does not fit into {cells} cells")
            }
            Self::TooManyEdits { capacity } => write!(f, "more than {capacity} edits"),
            Self::CrashRegionExists { region } => {
                write!(f, "device tree has a crash region already, {region}")
            }
            Self::Dtb(cause) => cause.fmt(f),
        }
    }
}

impl core::error::Error for EditError {}

impl From<DtbError> for EditError {
    fn from(cause: DtbError) -> Self {
        Self::Dtb(cause)
    }
}

/// The value a property is set to.
#[derive(Debug, Clone, Copy)]
pub enum Value<'e> {
    /// No bytes: the property being there is what matters.
    Empty,
    /// Bytes as they are.
    Bytes(&'e [u8]),
    /// Text, to which a NUL is added.
    Text(&'e [u8]),
    /// One cell.
    Cell(u32),
    /// Two cells.
    DoubleCell(u64),
    /// Ranges as pairs of address and size.
    Ranges {
        /// What is written, in order.
        ranges: &'e [PhysRange],
        /// Cells of an address, 1 or 2.
        address_cells: u32,
        /// Cells of a size, 1 or 2.
        size_cells: u32,
    },
}

#[derive(Debug, Clone, Copy)]
enum Action<'e> {
    Set { name: &'e str, value: Value<'e> },
    Remove { name: &'e str },
    RemoveChildren { base_name: &'e str },
}

/// A change at the node `path`, and how far the pass has come with it.
#[derive(Debug, Clone, Copy)]
struct Edit<'e> {
    path: &'e str,
    action: Action<'e>,
    /// How many components of `path` the node being copied and those above it match.
    matched: usize,
    is_done: bool,
}

impl<'e> Edit<'e> {
    fn components(&self) -> impl Iterator<Item = &'e str> + use<'e> {
        self.path.split('/').filter(|name| !name.is_empty())
    }

    fn depth(&self) -> usize {
        self.components().count()
    }

    /// Returns whether the change is for the node at `depth` that is being copied.
    fn is_at(&self, depth: usize) -> bool {
        self.matched == depth && self.depth() == depth
    }

    fn is_pending_set(&self) -> bool {
        matches!(self.action, Action::Set { .. }) && !self.is_done
    }

    fn shares_path(&self, other: &Edit<'_>, depth: usize) -> bool {
        self.depth() >= depth
            && self
                .components()
                .take(depth)
                .eq(other.components().take(depth))
    }
}

/// A set of changes to make to a blob in one pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edits<'e> {
    edits: FixedList<Edit<'e>, MAX_EDITS>,
    reserved: FixedList<PhysRange, MAX_RESERVATIONS>,
    released: FixedList<PhysRange, MAX_RESERVATIONS>,
}

impl<'e> Edits<'e> {
    /// Returns no changes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            edits: FixedList::new(),
            reserved: FixedList::new(),
            released: FixedList::new(),
        }
    }

    /// Sets a property of the node at `path`, in place if it is there, else after the node's others.
    ///
    /// Nodes that are missing are added after their siblings.
    #[must_use]
    pub fn set(self, path: &'e str, name: &'e str, value: Value<'e>) -> Self {
        self.with(path, Action::Set { name, value })
    }

    /// Removes a property of the node at `path`.
    #[must_use]
    pub fn remove(self, path: &'e str, name: &'e str) -> Self {
        self.with(path, Action::Remove { name })
    }

    /// Removes the children of the node at `path` that are called `base_name`, whatever their unit address.
    #[must_use]
    pub fn remove_children(self, path: &'e str, base_name: &'e str) -> Self {
        self.with(path, Action::RemoveChildren { base_name })
    }

    /// Adds a memory reservation, unless it is there already.
    #[must_use]
    pub fn reserve(mut self, range: PhysRange) -> Self {
        self.reserved.push(range);
        self
    }

    /// Removes the memory reservation of exactly `range`.
    #[must_use]
    pub fn release(mut self, range: PhysRange) -> Self {
        self.released.push(range);
        self
    }

    fn with(mut self, path: &'e str, action: Action<'e>) -> Self {
        self.edits.push(Edit {
            path,
            action,
            matched: 0,
            is_done: false,
        });
        self
    }

    /// Writes the changed blob to `out`; returns its length in bytes.
    ///
    /// # Errors
    /// [`EditError::DoesNotFit`] says how many bytes are needed; `out` then holds nothing of use.
    pub fn apply(self, dtb: &Dtb<'_>, out: &mut [u8]) -> Result<usize, EditError> {
        if self.edits.missed() > 0 {
            return Err(EditError::TooManyEdits {
                capacity: MAX_EDITS,
            });
        }
        if self.reserved.missed() > 0 || self.released.missed() > 0 {
            return Err(EditError::TooManyEdits {
                capacity: MAX_RESERVATIONS,
            });
        }
        let mut edits = [None; MAX_EDITS];
        for (slot, edit) in edits.iter_mut().zip(self.edits.iter()) {
            *slot = Some(edit);
        }
        let mut writer = Writer::new(out);
        writer.bytes(&[0; HEADER_LEN]);
        self.write_reservations(dtb, &mut writer);
        let structure = writer.len();
        let pass = Pass::new(dtb, edits, writer);
        let (mut writer, edits) = pass.copy_structure()?;
        let strings = writer.len();
        writer.bytes(old_strings(dtb));
        for name in new_names(dtb, &edits) {
            writer.text(name.as_bytes());
        }
        let total_size = writer.len();
        if total_size > super::MAX_LEN {
            return Err(EditError::TooLong { len: total_size });
        }
        let header = Header {
            total_size,
            structure,
            structure_len: strings.saturating_sub(structure),
            strings,
            strings_len: total_size.saturating_sub(strings),
            reservations: HEADER_LEN,
            boot_cpu_id: dtb.header.boot_cpu_id,
        };
        let header = header
            .to_bytes()
            .ok_or(EditError::TooLong { len: total_size })?;
        writer.finish(&header)
    }

    fn write_reservations(&self, dtb: &Dtb<'_>, writer: &mut Writer<'_>) {
        let is_listed = |list: &FixedList<PhysRange, MAX_RESERVATIONS>, entry: (u64, u64)| {
            list.iter().any(|range| (range.start, range.len()) == entry)
        };
        let old = reservations(dtb.blob, &dtb.header);
        let kept = old.filter(|entry| {
            !is_listed(&self.released, *entry) && !is_listed(&self.reserved, *entry)
        });
        let added = self.reserved.iter().map(|range| (range.start, range.len()));
        for (address, size) in kept.chain(added).chain([(0, 0)]) {
            writer.bytes(&address.to_be_bytes());
            writer.bytes(&size.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
