// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pass over the structure block that makes the edits.

use super::super::Dtb;
use super::super::error::DtbError;
use super::super::validate::{BEGIN_NODE, END, END_NODE, PROPERTY, Token, Tokens};
use super::writer::Writer;
use super::{Action, Edit, EditError, MAX_EDITS};

pub(super) type EditTable<'e> = [Option<Edit<'e>>; MAX_EDITS];

pub(super) fn old_strings<'a>(dtb: &Dtb<'a>) -> &'a [u8] {
    let block = dtb.blob.get(dtb.header.strings..);
    block
        .and_then(|tail| tail.get(..dtb.header.strings_len))
        .unwrap_or(&[])
}

/// Returns where `name` lies in the blob's strings block; the tail of a longer string serves as well.
fn old_string_offset(dtb: &Dtb<'_>, name: &str) -> Option<usize> {
    let len = name.len().saturating_add(1);
    old_strings(dtb).windows(len).position(|window| {
        window
            .strip_suffix(&[0])
            .is_some_and(|text| text == name.as_bytes())
    })
}

/// Iterates over the property names that the edits need and the blob does not have, each once.
pub(super) fn new_names<'e>(dtb: &Dtb<'_>, edits: &EditTable<'e>) -> impl Iterator<Item = &'e str> {
    let name_of = |edit: &Option<Edit<'e>>| match edit {
        Some(Edit {
            action: Action::Set { name, .. },
            ..
        }) => Some(*name),
        _ => None,
    };
    edits.iter().enumerate().filter_map(move |(index, edit)| {
        let name = name_of(edit)?;
        let earlier = edits.get(..index)?;
        let is_repeated = earlier.iter().any(|other| name_of(other) == Some(name));
        (!is_repeated && old_string_offset(dtb, name).is_none()).then_some(name)
    })
}

/// One pass over the structure block.
pub(super) struct Pass<'d, 'a, 'e, 'o> {
    dtb: &'d Dtb<'a>,
    edits: EditTable<'e>,
    writer: Writer<'o>,
    /// How many nodes lie above the one being copied.
    depth: usize,
}

impl<'d, 'a, 'e, 'o> Pass<'d, 'a, 'e, 'o> {
    pub(super) fn new(dtb: &'d Dtb<'a>, edits: EditTable<'e>, writer: Writer<'o>) -> Self {
        Self {
            dtb,
            edits,
            writer,
            depth: 0,
        }
    }

    /// Copies the structure block with the edits made; gives back the writer and the table.
    pub(super) fn copy_structure(mut self) -> Result<(Writer<'o>, EditTable<'e>), EditError> {
        let mut tokens = Tokens::new(self.dtb.blob, &self.dtb.header);
        let mut is_root_open = false;
        loop {
            match tokens.next()?.1 {
                Token::BeginNode { name } => {
                    if is_root_open {
                        self.write_pending_properties(self.depth)?;
                        if self.is_removed(name) {
                            skip_node(&mut tokens)?;
                            continue;
                        }
                        self.enter(name);
                    }
                    is_root_open = true;
                    self.writer.cell(BEGIN_NODE);
                    self.writer.text(name);
                    self.writer.pad();
                }
                Token::Property {
                    name,
                    name_offset,
                    value,
                } => {
                    self.copy_property(name, name_offset, value)?;
                }
                Token::EndNode => {
                    self.write_pending_properties(self.depth)?;
                    self.write_missing_children()?;
                    self.writer.cell(END_NODE);
                    self.leave();
                }
                Token::Nop => {}
                Token::End => {
                    self.writer.cell(END);
                    return Ok((self.writer, self.edits));
                }
            }
        }
    }

    fn enter(&mut self, name: &[u8]) {
        let above = self.depth;
        self.depth = above.saturating_add(1);
        for edit in self.edits.iter_mut().flatten() {
            let component = edit.components().nth(above);
            if edit.matched == above && component.map(str::as_bytes) == Some(name) {
                edit.matched = self.depth;
            }
        }
    }

    fn leave(&mut self) {
        let above = self.depth.saturating_sub(1);
        for edit in self.edits.iter_mut().flatten() {
            edit.matched = edit.matched.min(above);
        }
        self.depth = above;
    }

    fn is_removed(&self, child: &[u8]) -> bool {
        let base = child.split(|byte| *byte == b'@').next();
        self.edits.iter().flatten().any(|edit| match edit.action {
            Action::RemoveChildren { base_name } => {
                edit.is_at(self.depth) && base == Some(base_name.as_bytes())
            }
            _ => false,
        })
    }

    fn copy_property(&mut self, name: &[u8], offset: u32, value: &[u8]) -> Result<(), EditError> {
        let depth = self.depth;
        let found = self.edits.iter().position(|edit| {
            edit.is_some_and(|edit| match edit.action {
                Action::Set { name: own, .. } | Action::Remove { name: own } => {
                    edit.is_at(depth) && own.as_bytes() == name
                }
                Action::RemoveChildren { .. } => false,
            })
        });
        match found {
            Some(index) => self.write_set(index),
            None => {
                let len = u32::try_from(value.len())
                    .map_err(|_| EditError::TooLong { len: value.len() })?;
                self.writer.cell(PROPERTY);
                self.writer.cell(len);
                self.writer.cell(offset);
                self.writer.bytes(value);
                self.writer.pad();
                Ok(())
            }
        }
    }

    /// Writes the property that edit `index` sets, unless it was written or is to be removed.
    fn write_set(&mut self, index: usize) -> Result<(), EditError> {
        let Some(Some(edit)) = self.edits.get_mut(index) else {
            return Ok(());
        };
        let Action::Set { name, value } = edit.action else {
            return Ok(());
        };
        if edit.is_done {
            return Ok(());
        }
        edit.is_done = true;
        let offset = self.name_offset(name).unwrap_or(u32::MAX);
        self.writer.property(offset, value)
    }

    fn name_offset(&self, wanted: &str) -> Option<u32> {
        if let Some(offset) = old_string_offset(self.dtb, wanted) {
            return u32::try_from(offset).ok();
        }
        let mut offset = self.dtb.header.strings_len;
        for name in new_names(self.dtb, &self.edits) {
            if name == wanted {
                return u32::try_from(offset).ok();
            }
            offset = offset.checked_add(name.len())?.checked_add(1)?;
        }
        None
    }

    fn write_pending_properties(&mut self, depth: usize) -> Result<(), EditError> {
        for index in 0..MAX_EDITS {
            let edit = self.edits.get(index).copied().flatten();
            if edit.is_some_and(|edit| edit.is_pending_set() && edit.is_at(depth)) {
                self.write_set(index)?;
            }
        }
        Ok(())
    }

    fn write_missing_children(&mut self) -> Result<(), EditError> {
        let depth = self.depth;
        while let Some(edit) = self
            .edits
            .iter()
            .copied()
            .flatten()
            .find(|edit| edit.is_pending_set() && edit.matched == depth && edit.depth() > depth)
        {
            self.write_new_node(&edit, depth.saturating_add(1))?;
        }
        Ok(())
    }

    /// Writes the node at the first `depth` components of the path of `first`, with all that is set in and below it.
    ///
    /// The recursion is as deep as our own paths are long, whatever the blob says.
    fn write_new_node(&mut self, first: &Edit<'e>, depth: usize) -> Result<(), EditError> {
        let name = first
            .components()
            .nth(depth.saturating_sub(1))
            .unwrap_or("");
        self.writer.cell(BEGIN_NODE);
        self.writer.text(name.as_bytes());
        self.writer.pad();
        for index in 0..MAX_EDITS {
            let edit = self.edits.get(index).copied().flatten();
            if edit.is_some_and(|edit| {
                edit.is_pending_set() && edit.depth() == depth && edit.shares_path(first, depth)
            }) {
                self.write_set(index)?;
            }
        }
        while let Some(below) = self.edits.iter().copied().flatten().find(|edit| {
            edit.is_pending_set() && edit.depth() > depth && edit.shares_path(first, depth)
        }) {
            self.write_new_node(&below, depth.saturating_add(1))?;
        }
        self.writer.cell(END_NODE);
        Ok(())
    }
}

/// Skips the rest of the node whose begin token was read.
fn skip_node(tokens: &mut Tokens<'_>) -> Result<(), DtbError> {
    let mut open = 1_usize;
    while open > 0 {
        match tokens.next()?.1 {
            Token::BeginNode { .. } => open = open.saturating_add(1),
            Token::EndNode => open = open.saturating_sub(1),
            Token::Property { .. } | Token::Nop | Token::End => {}
        }
    }
    Ok(())
}
