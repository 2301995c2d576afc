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

/// Bytes read of one note segment at most.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Copies the whole notes of all segments of `header` behind each other and returns their bytes.
pub(crate) fn gather<'b>(
    header: &CoreHeader<'_>,
    memory: &mut impl PhysMemory,
    buffer: &'b mut [u8],
    text: &mut Text<'_, impl Line>,
) -> &'b [u8] {
    let mut used = 0_usize;
    for segment in header.notes().filter(|segment| segment.len != 0) {
        let room = buffer.get_mut(used..).unwrap_or_default();
        used = used.saturating_add(gather_one(segment, memory, room, text));
    }
    buffer.get(..used).unwrap_or_default()
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

    fn gathered(segments: &[(u64, u64)], ram: &[u8], room: usize) -> (Vec<u32>, String) {
        let mut header = [0; 1024];
        let mut writer = CoreHeaderWriter::new(&mut header);
        segments
            .iter()
            .for_each(|&(at, len)| writer.note(at, len).unwrap());
        writer.finish().unwrap();
        let header = CoreHeader::parse(&header).unwrap();
        let (mut buffer, mut line) = (std::vec![0xee; room], Vec::new());
        let mut text = Text::new(&mut line, 4096);
        let mut memory = SliceMemory {
            base: BASE,
            bytes: ram,
        };
        let bytes = gather(&header, &mut memory, &mut buffer, &mut text);
        let kinds = Notes::new(bytes).map(|note| note.kind).collect();
        text.finish().unwrap();
        (kinds, String::from_utf8(line).unwrap())
    }

    #[test]
    fn notes_of_two_cpus_are_merged_in_order() {
        let found = gathered(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram(), 4096 * 4);
        assert_eq!(found, (Vec::from([1, 2]), String::new()));
    }

    #[test]
    fn notes_segment_without_last_padding_is_padded() {
        let found = gathered(&[(BASE + 0x1000, 12 + 8 + 6), (BASE, 0x1000)], &ram(), 4096);
        assert_eq!(found.0, [2, 1]);
    }

    #[test]
    fn notes_segment_empty_or_zero_gives_nothing() {
        let found = gathered(&[(BASE, 0), (BASE + 0x800, 0x100)], &ram(), 4096);
        assert_eq!(found, (Vec::new(), String::new()));
    }

    #[test]
    fn notes_segment_malformed_is_dropped_and_named() {
        let mut ram = ram();
        ram[4..8].fill(0xff);
        let (kinds, text) = gathered(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram, 4096 * 4);
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
        let (kinds, text) = gathered(&[(0x1000, 0x1000), (BASE, 0x1000)], &ram(), 4096 * 4);
        assert_eq!(kinds, [1]);
        assert!(
            text.contains("at 0x1000) dropped from offset 0x0: not readable"),
            "{text}"
        );
    }

    #[test]
    fn notes_segment_near_the_end_of_addresses_is_dropped() {
        let (kinds, text) = gathered(&[(u64::MAX - 100, 100), (BASE, 0x1000)], &ram(), 4096 * 4);
        assert_eq!(kinds, [1]);
        assert!(text.contains("not readable"), "{text}");
    }

    #[test]
    fn notes_segment_of_absurd_length_gives_its_notes() {
        let found = gathered(
            &[(BASE, 1 << 62), (BASE + 0x1000, 0x1000)],
            &ram(),
            4096 * 64,
        );
        assert_eq!(found, (Vec::from([1, 2]), String::new()));
    }

    #[test]
    fn notes_beyond_the_room_are_dropped_and_named() {
        let (kinds, text) = gathered(&[(BASE, 0x1000), (BASE + 0x1000, 0x1000)], &ram(), 40);
        assert_eq!(kinds, [1]);
        assert!(
            text.contains("segment 1 (0x1000 bytes at 0x40001000) dropped from offset 0x0"),
            "{text}"
        );
    }
}
