// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk over a whole blob that everything else relies on.
//!
//! Besides the specification it demands what the `fdt` crate relies on: the end token is the last word of the
//! structure block, names are printable ASCII, and properties come before child nodes.

use super::error::DtbError;
use super::header::{Header, be32, be64};
use super::node::MAX_DEPTH;

pub(super) const BEGIN_NODE: u32 = 1;
pub(super) const END_NODE: u32 = 2;
pub(super) const PROPERTY: u32 = 3;
pub(super) const NOP: u32 = 4;
pub(super) const END: u32 = 9;

/// Length in bytes of an entry of the memory reservation block.
pub(super) const RESERVATION_LEN: usize = 16;

/// A token of the structure block with what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    BeginNode {
        name: &'a [u8],
    },
    EndNode,
    Property {
        name: &'a [u8],
        name_offset: u32,
        value: &'a [u8],
    },
    Nop,
    End,
}

/// Reads the tokens of a structure block one by one, checking each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    blob: &'a [u8],
    strings: &'a [u8],
    offset: usize,
    end: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(blob: &'a [u8], header: &Header) -> Self {
        let strings = blob
            .get(header.strings..)
            .and_then(|tail| tail.get(..header.strings_len));
        Self {
            blob,
            strings: strings.unwrap_or(&[]),
            offset: header.structure,
            end: header
                .structure
                .saturating_add(header.structure_len)
                .min(blob.len()),
        }
    }

    /// Returns the next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), DtbError> {
        let begin = self.offset;
        let token = match self.word()? {
            BEGIN_NODE => Token::BeginNode {
                name: self.node_name()?,
            },
            END_NODE => Token::EndNode,
            PROPERTY => self.property(begin)?,
            NOP => Token::Nop,
            END => Token::End,
            token => {
                return Err(DtbError::BadToken {
                    offset: begin,
                    token,
                });
            }
        };
        Ok((begin, token))
    }

    fn word(&mut self) -> Result<u32, DtbError> {
        let offset = self.offset;
        let next = offset.checked_add(4).filter(|next| *next <= self.end);
        let word = next.and_then(|_| be32(self.blob, offset));
        match (next, word) {
            (Some(next), Some(word)) => {
                self.offset = next;
                Ok(word)
            }
            _ => Err(DtbError::BadEnd { offset }),
        }
    }

    fn skip_padded(&mut self, len: usize) -> Option<&'a [u8]> {
        let value_end = self.offset.checked_add(len)?;
        let next = value_end
            .checked_next_multiple_of(4)
            .filter(|next| *next <= self.end)?;
        let value = self.blob.get(self.offset..value_end)?;
        self.offset = next;
        Some(value)
    }

    fn node_name(&mut self) -> Result<&'a [u8], DtbError> {
        let error = DtbError::BadNodeName {
            offset: self.offset,
        };
        let rest = self.blob.get(self.offset..self.end).ok_or(error)?;
        let len = rest.iter().position(|byte| *byte == 0).ok_or(error)?;
        let name = rest.get(..len).ok_or(error)?;
        if !name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'/')
        {
            return Err(error);
        }
        self.skip_padded(len.saturating_add(1)).ok_or(error)?;
        Ok(name)
    }

    fn property(&mut self, begin: usize) -> Result<Token<'a>, DtbError> {
        let (len, name_offset) = (self.word()?, self.word()?);
        let too_long = DtbError::PropertyTooLong { offset: begin, len };
        let value = usize::try_from(len)
            .ok()
            .and_then(|len| self.skip_padded(len));
        let name = usize::try_from(name_offset).ok().and_then(|start| {
            let rest = self.strings.get(start..)?;
            let name = rest.get(..rest.iter().position(|byte| *byte == 0)?)?;
            let is_plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            is_plain.then_some(name)
        });
        Ok(Token::Property {
            name: name.ok_or(DtbError::BadPropertyName {
                offset: begin,
                name_offset,
            })?,
            name_offset,
            value: value.ok_or(too_long)?,
        })
    }
}

/// Iterates over the entries of the memory reservation block as (address, size).
pub(super) fn reservations<'a>(
    blob: &'a [u8],
    header: &Header,
) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    let block = blob.get(header.reservations..).unwrap_or(&[]);
    let entries = block.chunks_exact(RESERVATION_LEN);
    entries
        .map_while(|entry| Some((be64(entry, 0)?, be64(entry, 8)?)))
        .take_while(|entry| *entry != (0, 0))
}

/// Checks the blob at the start of `bytes`; returns its header and the blob cut to its total size.
pub(super) fn validate(bytes: &[u8]) -> Result<(Header, &[u8]), DtbError> {
    let header = Header::parse(bytes)?;
    let needed = header.total_size;
    let blob = bytes.get(..needed).ok_or(DtbError::Truncated {
        needed,
        len: bytes.len(),
    })?;
    validate_reservations(blob, &header)?;
    validate_structure(blob, &header)?;
    Ok((header, blob))
}

fn validate_reservations(blob: &[u8], header: &Header) -> Result<(), DtbError> {
    let entries = reservations(blob, header).count();
    let terminator = entries
        .checked_mul(RESERVATION_LEN)
        .and_then(|len| len.checked_add(header.reservations))
        .and_then(|offset| Some((be64(blob, offset)?, be64(blob, offset.checked_add(8)?)?)));
    match terminator {
        Some((0, 0)) => Ok(()),
        _ => Err(DtbError::ReservationsUnterminated),
    }
}

fn validate_structure(blob: &[u8], header: &Header) -> Result<(), DtbError> {
    let mut tokens = Tokens::new(blob, header);
    let mut depth = 0_usize;
    let mut is_root_seen = false;
    let mut may_have_properties = false;
    loop {
        let (offset, token) = tokens.next()?;
        let misplaced = |token| Err(DtbError::BadToken { offset, token });
        match token {
            Token::BeginNode { name } => {
                let is_root = depth == 0;
                if is_root && is_root_seen {
                    return misplaced(BEGIN_NODE);
                }
                if is_root != name.is_empty() {
                    return Err(DtbError::BadNodeName { offset });
                }
                if depth >= MAX_DEPTH {
                    return Err(DtbError::TooDeep { offset });
                }
                depth = depth.saturating_add(1);
                is_root_seen = true;
                may_have_properties = true;
            }
            Token::EndNode => {
                depth = match depth.checked_sub(1) {
                    Some(depth) => depth,
                    None => return misplaced(END_NODE),
                };
                may_have_properties = false;
            }
            Token::Property { .. } if !may_have_properties => return misplaced(PROPERTY),
            Token::Property { .. } | Token::Nop => {}
            Token::End if depth == 0 && is_root_seen => {
                let is_last = tokens.offset == tokens.end;
                return if is_last {
                    Ok(())
                } else {
                    Err(DtbError::BadEnd { offset })
                };
            }
            Token::End => return misplaced(END),
        }
    }
}
