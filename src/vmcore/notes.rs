// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF notes: a bounded walk over a note buffer, and a writer.
//!
//! Rules of Linux's `fs/proc/vmcore.c`: each part is padded to 4 bytes, a note with `n_namesz == 0` ends the walk,
//! and a note that passes the end of its segment is dropped with all that follow.

use crate::Error;
use crate::cursor::{Reader, Writer};

/// Name of the notes that every reader knows (registers).
pub const CORE: &str = "CORE";
/// Name of the notes of [`crate::afterimage_notes`].
pub const AFTERIMAGE: &str = "AFTERIMAGE";
/// Name of Linux's note of symbols and sizes, passed through and never made here.
pub const VMCOREINFO: &str = "VMCOREINFO";
/// Bytes of a note's header, and of the empty note that ends a buffer.
pub const HEADER_LEN: usize = 12;

/// A note found in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The name, without its NUL.
    pub name: &'a [u8],
    /// The type; its meaning depends on the name.
    pub kind: u32,
    /// The payload.
    pub desc: &'a [u8],
    /// Where the header lies, in bytes from the start of the buffer.
    pub offset: usize,
}

impl Note<'_> {
    /// Tells whether the note has this name and type.
    #[must_use]
    pub fn is(&self, name: &str, kind: u32) -> bool {
        self.name == name.as_bytes() && self.kind == kind
    }
}

/// Why a walk stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotesEnd {
    /// It did not stop yet.
    Walking,
    /// At an empty note, or exactly at the end.
    Complete,
    /// The note at this offset passes the end, or the buffer ends inside its header.
    Truncated {
        /// Where the header of the dropped note lies.
        offset: usize,
    },
}

/// A walk over the notes of one buffer.
#[derive(Clone, Debug)]
pub struct Notes<'a> {
    reader: Reader<'a>,
    end: NotesEnd,
}

impl<'a> Notes<'a> {
    /// Walks the notes in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            end: NotesEnd::Walking,
        }
    }

    /// Returns why the walk stopped.
    #[must_use]
    pub const fn end(&self) -> NotesEnd {
        self.end
    }

    /// Returns how many bytes the notes walked so far take, without the empty one.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.reader.offset()
    }

    fn step(&mut self) -> Result<Option<Note<'a>>, Error> {
        let offset = self.reader.offset();
        let mut reader = self.reader.clone();
        if reader.rest().is_empty() {
            return Ok(None);
        }
        // A terminator may be cut short: its first word says enough.
        let name_len = reader.u32()?;
        if name_len == 0 {
            return Ok(None);
        }
        let desc_len = reader.u32()?;
        let kind = reader.u32()?;
        let name = take_padded(&mut reader, name_len)?;
        let desc = take_padded(&mut reader, desc_len)?;
        self.reader = reader;
        Ok(Some(Note {
            name: name.strip_suffix(&[0]).unwrap_or(name),
            kind,
            desc,
            offset,
        }))
    }
}

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        if self.end != NotesEnd::Walking {
            return None;
        }
        match self.step() {
            Ok(Some(note)) => Some(note),
            Ok(None) => {
                self.end = NotesEnd::Complete;
                None
            }
            Err(_) => {
                self.end = NotesEnd::Truncated {
                    offset: self.reader.offset(),
                };
                None
            }
        }
    }
}

/// Takes `len` bytes and their padding; the padding of the last part may be missing.
fn take_padded<'a>(reader: &mut Reader<'a>, len: u32) -> Result<&'a [u8], Error> {
    let taken = reader.take(usize::try_from(len).unwrap_or(usize::MAX))?;
    let padding = taken.len().wrapping_neg() & 3;
    reader.take(padding.min(reader.rest().len()))?;
    Ok(taken)
}

/// Returns the bytes of a note with a name of `name_len` bytes (NUL not counted) and this payload.
#[must_use]
pub const fn note_len(name_len: usize, desc_len: usize) -> usize {
    let name = name_len.saturating_add(1).saturating_add(3) & !3;
    let desc = desc_len.saturating_add(3) & !3;
    HEADER_LEN.saturating_add(name).saturating_add(desc)
}

/// Writes notes into a buffer, which ends in an empty note after each step.
///
/// Works without allocation, so that a crash path can use it; a note that does not fit leaves the ones before whole.
#[derive(Debug)]
pub struct NoteWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> NoteWriter<'a> {
    /// Starts at the front of `bytes` and writes the empty note there.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when not even that fits.
    pub fn new(bytes: &'a mut [u8]) -> Result<Self, Error> {
        let mut writer = Self { bytes, len: 0 };
        writer.terminate()?;
        Ok(writer)
    }

    /// Adds a note.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; the notes before stay.
    pub fn note(&mut self, name: &str, kind: u32, desc: &[u8]) -> Result<(), Error> {
        self.note_with(name, kind, |out| {
            let mut writer = Writer::new(out);
            writer.put(desc)?;
            Ok(writer.offset())
        })
    }

    /// Adds a note whose payload `encode` writes in place and returns the length of.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], or what `encode` returned; the notes before stay.
    pub fn note_with(
        &mut self,
        name: &str,
        kind: u32,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        let desc_at = self.len.saturating_add(note_len(name.len(), 0));
        let have = self.bytes.len();
        let room = have.saturating_sub(HEADER_LEN);
        let too_small = Error::BufferTooSmall {
            needed: desc_at.saturating_add(HEADER_LEN) as u64,
            have: have as u64,
        };
        let desc_len = encode(self.bytes.get_mut(desc_at..room).ok_or(too_small)?)?;
        let end = self.len.saturating_add(note_len(name.len(), desc_len));
        // The next empty note goes in first: the buffer stays walkable at every moment.
        let start = self.len;
        self.len = end;
        if let Err(error) = self.terminate() {
            self.len = start;
            self.terminate()?;
            return Err(error);
        }
        let padding_at = desc_at.saturating_add(desc_len);
        self.bytes
            .get_mut(padding_at..end)
            .ok_or(too_small)?
            .fill(0);
        let mut writer = Writer::new(self.bytes.get_mut(start..desc_at).ok_or(too_small)?);
        writer.u32(name.len().saturating_add(1) as u32)?;
        writer.u32(desc_len as u32)?;
        writer.u32(kind)?;
        writer.put(name.as_bytes())?;
        writer.zeros(
            note_len(name.len(), 0)
                .saturating_sub(HEADER_LEN)
                .saturating_sub(name.len()),
        )
    }

    /// Returns the bytes of the notes so far, without the empty one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is no note yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn terminate(&mut self) -> Result<(), Error> {
        let end = self.len.saturating_add(HEADER_LEN);
        let have = self.bytes.len() as u64;
        self.bytes
            .get_mut(self.len..end)
            .ok_or(Error::BufferTooSmall {
                needed: end as u64,
                have,
            })?
            .fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn notes_written_are_the_bytes_of_the_elf_specification() {
        let mut out = [0xff; 44];
        let mut writer = NoteWriter::new(&mut out).unwrap();
        writer.note("CORE", 1, &[0xaa, 0xbb, 0xcc]).unwrap();
        let len = writer.len();
        assert_eq!(len, 24);
        #[rustfmt::skip]
        assert_eq!(out[..36], [
            5, 0, 0, 0,  3, 0, 0, 0,  1, 0, 0, 0,
            b'C', b'O', b'R', b'E', 0, 0, 0, 0,
            0xaa, 0xbb, 0xcc, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }

    #[test]
    fn walk_over_zeros_finds_no_note_and_is_complete() {
        let mut notes = Notes::new(&[0; 64]);
        assert_eq!(notes.next(), None);
        assert_eq!(notes.end(), NotesEnd::Complete);
    }

    #[test]
    fn walk_over_nothing_is_complete() {
        let mut notes = Notes::new(&[]);
        assert_eq!(notes.next(), None);
        assert_eq!(notes.end(), NotesEnd::Complete);
    }

    #[test]
    fn note_passing_the_end_is_dropped_and_named() {
        let mut out = [0; 64];
        let mut writer = NoteWriter::new(&mut out).unwrap();
        writer.note("CORE", 1, &[1; 4]).unwrap();
        writer.note("CORE", 2, &[2; 4]).unwrap();
        let mut notes = Notes::new(&out[..44]);
        assert_eq!(notes.next().unwrap().desc, &[1; 4]);
        assert_eq!(notes.next(), None);
        assert_eq!(notes.end(), NotesEnd::Truncated { offset: 24 });
    }

    #[test]
    fn note_with_lengths_near_the_limit_of_u32_is_dropped() {
        let mut bytes = [0xff; 32];
        bytes[8..12].copy_from_slice(&[1, 0, 0, 0]);
        let mut notes = Notes::new(&bytes);
        assert_eq!(notes.next(), None);
        assert_eq!(notes.end(), NotesEnd::Truncated { offset: 0 });
    }

    #[test]
    fn note_without_room_is_refused_and_those_before_stay() {
        let mut out = [0xff; 40];
        let mut writer = NoteWriter::new(&mut out).unwrap();
        writer.note("CORE", 1, &[1; 8]).unwrap();
        assert!(writer.note("CORE", 2, &[]).is_err());
        let mut notes = Notes::new(&out);
        assert_eq!(notes.next().unwrap().kind, 1);
        assert_eq!(notes.next(), None);
        assert_eq!(notes.end(), NotesEnd::Complete);
    }

    #[test]
    fn encoder_claiming_more_than_the_room_is_refused() {
        let mut out = [0xff; 64];
        let mut writer = NoteWriter::new(&mut out).unwrap();
        assert!(writer.note_with("CORE", 1, |_| Ok(usize::MAX)).is_err());
        assert_eq!(Notes::new(&out).count(), 0);
    }

    #[test]
    fn writer_into_less_than_a_header_is_refused() {
        assert!(NoteWriter::new(&mut [0; 11]).is_err());
    }

    proptest! {
        #[test]
        fn walk_over_any_bytes_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut notes = Notes::new(&bytes);
            let found: Vec<Note<'_>> = notes.by_ref().collect();
            prop_assert!(notes.offset() <= bytes.len());
            prop_assert!(found.len() <= bytes.len() / HEADER_LEN);
        }

        #[test]
        fn notes_round_trip(list in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..10)) {
            let mut out = [0xee; 600];
            let mut writer = NoteWriter::new(&mut out).unwrap();
            for (kind, desc) in &list {
                writer.note(AFTERIMAGE, *kind, desc).unwrap();
            }
            let found: Vec<_> = Notes::new(&out).map(|note| (note.kind, note.desc.to_vec())).collect();
            prop_assert_eq!(found, list);
        }
    }
}
