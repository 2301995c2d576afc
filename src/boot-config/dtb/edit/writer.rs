// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a blob into a buffer, and goes on counting when the buffer is full.

use super::super::header::HEADER_LEN;
use super::super::validate::PROPERTY;
use super::{EditError, Value};

pub(super) struct Writer<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Returns how many bytes were written or would have been.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.out.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        }
        self.len = end;
    }

    pub(super) fn cell(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Writes text and its NUL.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.bytes(text);
        self.bytes(&[0]);
    }

    /// Pads to a multiple of 4 bytes; the structure block begins at one.
    pub(super) fn pad(&mut self) {
        while !self.len.is_multiple_of(4) {
            self.bytes(&[0]);
        }
    }

    pub(super) fn property(&mut self, name_offset: u32, value: Value<'_>) -> Result<(), EditError> {
        let len = value_len(value);
        self.cell(PROPERTY);
        self.cell(u32::try_from(len).map_err(|_| EditError::TooLong { len })?);
        self.cell(name_offset);
        match value {
            Value::Empty => {}
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Text(text) => self.text(text),
            Value::Cell(value) => self.cell(value),
            Value::DoubleCell(value) => self.bytes(&value.to_be_bytes()),
            Value::Ranges {
                ranges,
                address_cells,
                size_cells,
            } => {
                for range in ranges {
                    self.cells(range.start, address_cells)?;
                    self.cells(range.len(), size_cells)?;
                }
            }
        }
        self.pad();
        Ok(())
    }

    fn cells(&mut self, value: u64, cells: u32) -> Result<(), EditError> {
        let error = EditError::CellsTooSmall { value, cells };
        match cells {
            1 => self.cell(u32::try_from(value).map_err(|_| error)?),
            2 => self.bytes(&value.to_be_bytes()),
            _ => return Err(error),
        }
        Ok(())
    }

    /// Puts the header in front; returns the length of the blob.
    pub(super) fn finish(self, header: &[u8; HEADER_LEN]) -> Result<usize, EditError> {
        let capacity = self.out.len();
        let does_not_fit = EditError::DoesNotFit {
            needed: self.len,
            capacity,
        };
        if self.len > capacity {
            return Err(does_not_fit);
        }
        *self.out.first_chunk_mut().ok_or(does_not_fit)? = *header;
        Ok(self.len)
    }
}

fn value_len(value: Value<'_>) -> usize {
    match value {
        Value::Empty => 0,
        Value::Bytes(bytes) => bytes.len(),
        Value::Text(text) => text.len().saturating_add(1),
        Value::Cell(_) => 4,
        Value::DoubleCell(_) => 8,
        Value::Ranges {
            ranges,
            address_cells,
            size_cells,
        } => {
            let cells = address_cells.saturating_add(size_cells);
            let pair = usize::try_from(cells)
                .unwrap_or(usize::MAX)
                .saturating_mul(4);
            pair.saturating_mul(ranges.len())
        }
    }
}
