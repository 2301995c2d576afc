// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crashed kernel's notes, gathered from its memory into one buffer.
//!
//! The elfcorehdr names a buffer per CPU and one for the machine. They lie in the crashed kernel's RAM, so each is read
//! up to a bound and walked; what does not parse is dropped from there on, as Linux's `fs/proc/vmcore.c` does, and said.

use vmcore::elf_core::{CoreHeader, NoteSegment};
use vmcore::notes::{Notes, NotesEnd};
use vmcore::{PAGE_SIZE, PhysMemory};

use crate::Line;
use crate::text::Text;

/// Bytes of notes kept in all: 128 CPUs of Linux, or 16 with Afterimage's system registers.
const NOTES_BYTES: usize = 64 * 1024;

/// Segments whose notes are kept.
const SEGMENTS: usize = 512;

/// Bytes read of one note segment at most.
const SEGMENT_BYTES: usize = 64 * 1024;

/// The whole notes of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldNote<'a> {
    /// Number of the PT_NOTE among the notes.
    pub(crate) index: u32,
    /// Physical address of the segment.
    pub(crate) address: u64,
    /// The notes.
    pub(crate) bytes: &'a [u8],
}

/// Where the notes of one segment came from, and how much of the buffer they take.
#[derive(Clone, Copy, Debug)]
struct Kept {
    index: u32,
    address: u64,
    len: usize,
}

/// The notes of one machine, behind each other.
#[derive(Debug)]
pub(crate) struct OldNotes<const ROOM: usize = NOTES_BYTES> {
    buffer: [u8; ROOM],
    used: usize,
    kept: [Kept; SEGMENTS],
    count: usize,
}

impl<const ROOM: usize> OldNotes<ROOM> {
    /// Returns no notes.
    pub(crate) const fn new() -> Self {
        let none = Kept {
            index: 0,
            address: 0,
            len: 0,
        };
        Self {
            buffer: [0; ROOM],
            used: 0,
            kept: [none; SEGMENTS],
            count: 0,
        }
    }

    /// Returns the notes of all segments as one buffer.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// Returns the notes of each segment that has any.
    pub(crate) fn segments(&self) -> impl Iterator<Item = OldNote<'_>> {
        let mut rest = self.bytes();
        self.kept.iter().take(self.count).filter_map(
            move |&Kept {
                      index,
                      address,
                      len,
                  }| {
                let (bytes, later) = rest.split_at_checked(len)?;
                rest = later;
                Some(OldNote {
                    index,
                    address,
                    bytes,
                })
            },
        )
    }

    /// Copies the whole notes of all segments of `header`.
    pub(crate) fn gather(
        &mut self,
        header: &CoreHeader<'_>,
        memory: &mut impl PhysMemory,
        text: &mut Text<'_, impl Line>,
    ) {
        for (number, segment) in header
            .notes()
            .enumerate()
            .filter(|(_, segment)| segment.len != 0)
        {
            let room = self.buffer.get_mut(self.used..).unwrap_or_default();
            let len = gather_one(segment, memory, room, text);
            if len == 0 {
                continue;
            }
            let Some(place) = self.kept.get_mut(self.count) else {
                text.complain(format_args!(
                    "notes from segment {} on dropped: no room",
                    segment.index
                ));
                break;
            };
            let index = u32::try_from(number).unwrap_or(u32::MAX);
            *place = Kept {
                index,
                address: segment.paddr,
                len,
            };
            self.count = self.count.saturating_add(1);
            self.used = self.used.saturating_add(len);
        }
    }
}

/// Copies the whole notes of one segment to the start of `room` and returns their length, padding included.
fn gather_one(
    segment: NoteSegment,
    memory: &mut impl PhysMemory,
    room: &mut [u8],
    text: &mut Text<'_, impl Line>,
) -> usize {
    let NoteSegment { index, paddr, len } = segment;
    let wanted = usize::try_from(len).unwrap_or(usize::MAX);
    let bound = wanted.min(room.len()).min(SEGMENT_BYTES);
    let read = read_prefix(memory, paddr, room.get_mut(..bound).unwrap_or_default());
    let mut notes = Notes::new(room.get(..read).unwrap_or_default());
    notes.by_ref().for_each(drop);
    let kept = notes.offset();
    let is_ended = notes.end() == NotesEnd::Complete && (kept < read || read == wanted);
    // Only the last note of a segment may lack its padding; here another note follows it.
    let padded = kept.next_multiple_of(4);
    let padding = room.get_mut(kept..padded);
    let why = match padding {
        None => "no room for more notes",
        Some(_) if is_ended => "",
        Some(_) if read < bound => "not readable",
        Some(_) if bound < wanted => "longer than what is read",
        Some(_) => "malformed",
    };
    if !why.is_empty() {
        text.complain(format_args!(
            "notes of segment {index} ({len:#x} bytes at {paddr:#x}) dropped from offset {kept:#x}: {why}"
        ));
    }
    match padding {
        Some(padding) => {
            padding.fill(0);
            padded
        }
        None => 0,
    }
}

/// Reads page by page up to the first fault and returns how many bytes that were.
fn read_prefix(memory: &mut impl PhysMemory, pa: u64, buffer: &mut [u8]) -> usize {
    let mut done = 0_usize;
    while done < buffer.len() {
        let Some(at) = pa.checked_add(done as u64) else {
            break;
        };
        let to_page_end = PAGE_SIZE.saturating_sub(at % PAGE_SIZE) as usize;
        let end = done.saturating_add(to_page_end).min(buffer.len());
        let Some(part) = buffer.get_mut(done..end) else {
            break;
        };
        if memory.read(at, part).is_err() {
            break;
        }
        done = end;
    }
    done
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;
    use vmcore::elf_core::CoreHeaderWriter;
    use vmcore::notes::NoteWriter;
    use vmcore::phys_memory::SliceMemory;

    const BASE: u64 = 0x4000_0000;

    /// Two pages of RAM with one note in each.
    fn ram() -> Vec<u8> {
        let mut ram = std::vec![0; 0x2000];
        NoteWriter::new(&mut ram[..0x1000])
            .unwrap()
            .note("CORE", 1, &[1; 8])
            .unwrap();
        NoteWriter::new(&mut ram[0x1000..])
            .unwrap()
            .note("CORE", 2, &[2; 6])
            .unwrap();
        ram
    }

    fn gathered<const ROOM: usize>(segments: &[(u64, u64)], ram: &[u8]) -> (Vec<u32>, String) {
        let mut header = [0; 1024];
        let mut writer = CoreHeaderWriter::new(&mut header);
        segments
            .iter()
            .for_each(|&(at, len)| writer.note(at, len).unwrap());
        writer.finish().unwrap();
        let header = CoreHeader::parse(&header).unwrap();
        let (mut notes, mut line) = (OldNotes::<ROOM>::new(), Vec::new());
        let mut text = Text::new(&mut line, 4096);
        let mut memory = SliceMemory {
            base: BASE,
            bytes: ram,
        };
        notes.gather(&header, &mut memory, &mut text);
        let kinds: Vec<u32> = Notes::new(notes.bytes()).map(|note| note.kind).collect();
        assert!(
            notes
                .segments()
                .flat_map(|one| Notes::new(one.bytes))
                .map(|note| note.kind)
                .eq(kinds.iter().copied())
        );
        text.finish().unwrap();
        (kinds, String::from_utf8(line).unwrap())
    }

    #[test]
    fn notes_of_two_cpus_are_merged_in_order() {
        let found = gathered::<{ 4096 * 4 }>(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram());
        assert_eq!(found, (Vec::from([1, 2]), String::new()));
    }

    #[test]
    fn notes_segment_without_last_padding_is_padded() {
        let found = gathered::<4096>(&[(BASE + 0x1000, 12 + 8 + 6), (BASE, 0x1000)], &ram());
        assert_eq!(found.0, [2, 1]);
    }

    #[test]
    fn notes_segment_empty_or_zero_gives_nothing() {
        let found = gathered::<4096>(&[(BASE, 0), (BASE + 0x800, 0x100)], &ram());
        assert_eq!(found, (Vec::new(), String::new()));
    }

    #[test]
    fn notes_segment_malformed_is_dropped_and_named() {
        let mut ram = ram();
        ram[4..8].fill(0xff);
        let (kinds, text) =
            gathered::<{ 4096 * 4 }>(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram);
        assert_eq!(kinds, [2]);
        assert!(
            text.contains(
                "segment 0 (0x1000 bytes at 0x40000000) dropped from offset 0x0: malformed"
            ),
            "{text}"
        );
    }

    #[test]
    fn notes_segment_out_of_ram_is_dropped_and_named() {
        let (kinds, text) = gathered::<{ 4096 * 4 }>(&[(0x1000, 0x1000), (BASE, 0x1000)], &ram());
        assert_eq!(kinds, [1]);
        assert!(
            text.contains("at 0x1000) dropped from offset 0x0: not readable"),
            "{text}"
        );
    }

    #[test]
    fn notes_segment_near_the_end_of_addresses_is_dropped() {
        let (kinds, text) =
            gathered::<{ 4096 * 4 }>(&[(u64::MAX - 100, 100), (BASE, 0x1000)], &ram());
        assert_eq!(kinds, [1]);
        assert!(text.contains("not readable"), "{text}");
    }

    #[test]
    fn notes_segment_of_absurd_length_gives_its_notes() {
        let found = gathered::<{ 4096 * 64 }>(&[(BASE, 1 << 62), (BASE + 0x1000, 0x1000)], &ram());
        assert_eq!(found, (Vec::from([1, 2]), String::new()));
    }

    #[test]
    fn notes_beyond_the_room_are_dropped_and_named() {
        let (kinds, text) = gathered::<40>(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram());
        assert_eq!(kinds, [1]);
        assert!(
            text.contains("segment 1 (0x1000 bytes at 0x40001000) dropped from offset 0x0"),
            "{text}"
        );
    }
}
