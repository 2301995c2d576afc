// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes with their ancestors, and how to find them.
//!
//! The `fdt` crate's nodes know one parent only; translating a register's address and finding the interrupt parent
//! need the whole path to the root, so a [`Node`] carries it. Its iterators are stopped at the first error, which
//! cannot occur after validation.

use fdt::helpers::UnalignedFallibleNode;
use fdt::nodes::NodeProperty;

use super::Dtb;
use super::error::DtbError;
use super::header::be32;
use crate::range::PhysRange;

/// How deep nodes may be nested, the root counted as one level. The deepest real tree known has 8.
pub const MAX_DEPTH: usize = 16;

type FdtNode<'a> = UnalignedFallibleNode<'a>;

/// A node of the device tree, together with the nodes above it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    blob: &'a [u8],
    /// The path from the root; `None` throughout only when the reader refuses a validated blob.
    path: [Option<FdtNode<'a>>; MAX_DEPTH],
    depth: usize,
}

impl core::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Node").field(&self.name()).finish()
    }
}

/// Iterator over the strings of a property such as `compatible`.
#[derive(Debug, Clone, Copy)]
pub struct StringList<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for StringList<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let len = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.rest.get(..len)?;
        self.rest = self.rest.get(len.saturating_add(1)..)?;
        core::str::from_utf8(text).ok()
    }
}

impl<'a> Node<'a> {
    fn this(&self) -> Option<FdtNode<'a>> {
        self.path.get(self.depth).copied().flatten()
    }

    /// Returns the node's name with its unit address; empty for the root.
    #[must_use]
    pub fn name(&self) -> &'a str {
        // The name is the first thing in the node; the crate's own accessor splits it at the '@'.
        let name = self.this().and_then(|node| node.name().ok());
        match name {
            Some(name) if self.depth > 0 => joined(self.blob, name.name, name.unit_address),
            _ => "",
        }
    }

    /// Returns the node's name without its unit address.
    #[must_use]
    pub fn base_name(&self) -> &'a str {
        let name = self.name();
        name.split_once('@').map_or(name, |(base, _)| base)
    }

    /// Returns the node above; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let depth = self.depth.checked_sub(1)?;
        Some(Self { depth, ..*self })
    }

    /// Returns the value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        let properties = self.this()?.properties().ok()?;
        properties
            .find(name)
            .ok()
            .flatten()
            .map(|property: NodeProperty<'a>| property.value)
    }

    /// Returns the first string of a property, without its NUL.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.strings(name).next()
    }

    /// Returns the strings of a property; none if it is absent.
    #[must_use]
    pub fn strings(&self, name: &str) -> StringList<'a> {
        StringList {
            rest: self.property(name).unwrap_or(&[]),
        }
    }

    /// Returns the one cell of a property; `None` if it is absent.
    ///
    /// # Errors
    /// [`DtbError::BadLength`] when it is not one cell long.
    pub fn cell(&self, name: &'static str) -> Result<Option<u32>, DtbError> {
        match self.property(name) {
            None => Ok(None),
            Some(value) if value.len() == 4 => Ok(be32(value, 0)),
            Some(value) => Err(self.bad_length(name, value)),
        }
    }

    /// Returns whether the node lists `name` in its `compatible` property.
    #[must_use]
    pub fn is_compatible(&self, name: &str) -> bool {
        self.strings("compatible").any(|listed| listed == name)
    }

    /// Returns whether the node lists any of `names` in its `compatible` property.
    #[must_use]
    pub fn is_compatible_with_any(&self, names: &[&str]) -> bool {
        self.strings("compatible")
            .any(|listed| names.contains(&listed))
    }

    /// Returns whether the node's `status` lets it be used: absent, `okay` or `ok`.
    #[must_use]
    pub fn is_available(&self) -> bool {
        match self.property("status") {
            None => true,
            Some(_) => matches!(self.text("status"), Some("okay" | "ok")),
        }
    }

    /// Returns the node's own phandle.
    #[must_use]
    pub fn phandle(&self) -> Option<u32> {
        let value = self
            .property("phandle")
            .or_else(|| self.property("linux,phandle"))?;
        be32(value, 0)
    }

    /// Iterates over the children in the order of the blob.
    pub fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let parent = *self;
        let children = self.this().and_then(|node| node.children().ok());
        children
            .into_iter()
            .flat_map(|children| children.iter().map_while(Result::ok))
            .filter_map(move |child| parent.with_child(child))
    }

    /// Returns the child called `name`; without a unit address in it, the first whose base name it is.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        let has_unit = name.contains('@');
        self.children()
            .find(|child| child.name() == name || (!has_unit && child.base_name() == name))
    }

    fn with_child(&self, child: FdtNode<'a>) -> Option<Self> {
        let depth = self.depth.checked_add(1)?;
        let mut path = self.path;
        *path.get_mut(depth)? = Some(child);
        Some(Self {
            blob: self.blob,
            path,
            depth,
        })
    }

    /// Returns how far `value` lies from the start of the blob.
    pub(super) fn offset_of(&self, value: &[u8]) -> usize {
        value
            .as_ptr()
            .addr()
            .saturating_sub(self.blob.as_ptr().addr())
    }

    pub(super) fn bad_length(&self, property: &'static str, value: &[u8]) -> DtbError {
        DtbError::BadLength {
            property,
            offset: self.offset_of(value),
            len: value.len(),
        }
    }

    pub(super) fn bad_value(&self, property: &'static str, value: &[u8]) -> DtbError {
        DtbError::BadValue {
            property,
            offset: self.offset_of(value),
        }
    }
}

/// Returns `base@unit` as it stands in the blob, where the two parts are neighbours.
fn joined<'a>(blob: &'a [u8], base: &'a str, unit: Option<&'a str>) -> &'a str {
    let Some(unit) = unit else { return base };
    let start = base.as_ptr().addr().saturating_sub(blob.as_ptr().addr());
    let len = base.len().saturating_add(1).saturating_add(unit.len());
    let text = blob.get(start..).and_then(|tail| tail.get(..len));
    text.and_then(|text| core::str::from_utf8(text).ok())
        .unwrap_or(base)
}

impl<'a> Dtb<'a> {
    /// Returns the root node.
    #[must_use]
    pub fn root(&self) -> Node<'a> {
        use fdt::nodes::AsNode;
        let mut path = [None; MAX_DEPTH];
        if let Some(slot) = path.first_mut() {
            let root = self.reader().ok().and_then(|reader| reader.root().ok());
            *slot = root.map(|root| root.as_node());
        }
        Node {
            blob: self.as_bytes(),
            path,
            depth: 0,
        }
    }

    /// Returns the node at `path`: from the root when it begins with `/`, else from the alias it begins with.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node<'a>> {
        let mut node = self.root();
        let rest = match path.strip_prefix('/') {
            Some(rest) => rest,
            None => {
                let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
                let target = node.child("aliases")?.text(alias)?;
                // An alias names a full path; one that names another alias would let them loop.
                for name in target
                    .strip_prefix('/')?
                    .split('/')
                    .filter(|name| !name.is_empty())
                {
                    node = node.child(name)?;
                }
                rest
            }
        };
        for name in rest.split('/').filter(|name| !name.is_empty()) {
            node = node.child(name)?;
        }
        Some(node)
    }

    /// Returns the first node, parents before children, for which `is_wanted` holds.
    pub fn find(&self, mut is_wanted: impl FnMut(&Node<'a>) -> bool) -> Option<Node<'a>> {
        self.find_by(&mut is_wanted)
    }

    /// The walk itself, once in an Image for all that is looked for.
    fn find_by(&self, is_wanted: &mut dyn FnMut(&Node<'a>) -> bool) -> Option<Node<'a>> {
        let mut node = self.root();
        if is_wanted(&node) {
            return Some(node);
        }
        let mut levels = [None; MAX_DEPTH];
        *levels.first_mut()? = node.this().and_then(|this| this.children().ok());
        let mut depth = 0_usize;
        // Each level's children are read on from where they were left, so every node is seen once.
        let mut iterators = levels.map(|level| level.map(|children| children.iter()));
        loop {
            let next = iterators
                .get_mut(depth)
                .and_then(Option::as_mut)
                .and_then(Iterator::next);
            match next.and_then(Result::ok) {
                Some(child) => {
                    node = Node { depth, ..node }.with_child(child)?;
                    if is_wanted(&node) {
                        return Some(node);
                    }
                    depth = node.depth;
                    if let Some(slot) = iterators.get_mut(depth) {
                        *slot = child.children().ok().map(|children| children.iter());
                    }
                }
                None => depth = depth.checked_sub(1)?,
            }
        }
    }

    /// Returns the first node that is compatible with any of `names` and available.
    #[must_use]
    pub fn find_compatible(&self, names: &[&str]) -> Option<Node<'a>> {
        self.find(|node| node.is_compatible_with_any(names) && node.is_available())
    }

    /// Returns the registers of the first device in use that is compatible with `name`; `None` without one.
    ///
    /// # Errors
    /// Whatever is wrong with its registers.
    pub(super) fn registers_of(&self, name: &str) -> Result<Option<PhysRange>, DtbError> {
        match self.find_compatible(&[name]) {
            Some(node) => node.registers(0),
            None => Ok(None),
        }
    }

    /// Returns the node with this phandle.
    ///
    /// # Errors
    /// [`DtbError::PhandleNotFound`].
    pub fn node_by_phandle(&self, phandle: u32) -> Result<Node<'a>, DtbError> {
        let found = self.find(|node| node.phandle() == Some(phandle));
        found.ok_or(DtbError::PhandleNotFound { phandle })
    }
}
