// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts the crashed kernel's note buffers together and makes the notes of the file of them.
//!
//! An Afterimage kernel has a buffer per CPU; the crashing CPU's goes first, because gdb shows the first thread. Any
//! other kernel's notes are passed on as they are, in the order of its elfcorehdr.

use std::collections::BTreeMap;

use vmcore::afterimage_notes::{BUILD_ID, GAPS, Gap};
use vmcore::gap_map::GapMap;
use vmcore::notes::{AFTERIMAGE, Notes};
use vmcore::registers::PrStatus;
use vmcore::{PageClass, PhysRange};
use wire::SegmentBlock;

use crate::contents::{Contents, FIRST_THREAD_PID};
use crate::note_bytes::NoteBytes;

/// Most bytes of one note buffer that are kept; a CPU's notes are a few KiB.
const BUFFER_MAX: u64 = 16 << 20;
/// Most note buffers: Linux's limit of CPUs on arm64 is 4096, and the machine-wide ones come on top.
const BUFFERS_MAX: usize = 8192;

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    here: GapMap,
}

impl Buffer {
    /// Returns the bytes up to the first that is missing.
    fn prefix(&self) -> &[u8] {
        let whole = PhysRange {
            start: 0,
            end: self.bytes.len() as u64,
        };
        let missing = self.here.missing(&[whole]);
        let end = missing.first().map_or(whole.end, |gap| gap.start);
        self.bytes
            .get(..usize::try_from(end).unwrap_or(0))
            .unwrap_or_default()
    }
}

/// The note buffers as far as they have arrived.
#[derive(Debug, Default)]
pub struct NoteSegments(BTreeMap<u32, Buffer>);

impl NoteSegments {
    /// Keeps a part of a buffer; returns false when it is out of bounds.
    pub fn add(&mut self, part: &SegmentBlock<'_>) -> bool {
        let is_new = !self.0.contains_key(&part.index);
        if part.total_len > BUFFER_MAX || (is_new && self.0.len() >= BUFFERS_MAX) {
            return false;
        }
        let (Ok(total), Ok(start)) = (
            usize::try_from(part.total_len),
            usize::try_from(part.offset),
        ) else {
            return false;
        };
        let buffer = self.0.entry(part.index).or_default();
        if buffer.bytes.len() < total {
            buffer.bytes.resize(total, 0);
        }
        let Some(room) = buffer
            .bytes
            .get_mut(start..start.saturating_add(part.bytes.len()))
        else {
            return false;
        };
        room.copy_from_slice(part.bytes);
        let end = part.offset.saturating_add(part.bytes.len() as u64);
        buffer.here.insert(
            PhysRange {
                start: part.offset,
                end,
            },
            PageClass::Data,
        );
        true
    }

    /// Returns whether no buffer has arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the numbers of the buffers of which a part is missing.
    pub fn partial(&self) -> impl Iterator<Item = u32> + '_ {
        let in_part = |(_, buffer): &(&u32, &Buffer)| buffer.prefix().len() < buffer.bytes.len();
        self.0.iter().filter(in_part).map(|(number, _)| *number)
    }

    /// Returns whether `count` buffers have arrived, each whole.
    #[must_use]
    pub fn has_all(&self, count: u32) -> bool {
        let whole = |buffer: &&Buffer| buffer.prefix().len() == buffer.bytes.len();
        count > 0 && self.0.values().filter(whole).count() >= count as usize
    }

    /// Returns the notes of the file: those that arrived, the program's threads, and what only the host knows.
    #[must_use]
    pub fn file_notes(&self, build_id: &[u8], gaps: &[Gap], is_vouched_for: bool) -> NoteBytes {
        let mut as_sent = NoteBytes::default();
        for buffer in self.0.values() {
            put_all(&mut as_sent, buffer.prefix());
        }
        let contents = Contents::of(as_sent.as_bytes());
        let mut notes = if contents.is_afterimage() {
            self.crashed_first(&contents)
        } else {
            as_sent.clone()
        };
        for thread in &contents.threads {
            notes.add_status(&PrStatus {
                pid: FIRST_THREAD_PID.saturating_add(thread.id),
                signal: 0,
                registers: thread.registers,
            });
        }
        if contents.build_id.is_none() && !build_id.is_empty() {
            notes.add(AFTERIMAGE.as_bytes(), BUILD_ID, build_id);
        }
        notes.add_gaps(gaps, is_vouched_for);
        notes
    }

    /// Returns the notes with the buffer of the crashing CPU in front.
    fn crashed_first(&self, contents: &Contents<'_>) -> NoteBytes {
        let pid = contents.reason.as_ref().map(|r| r.cpu.saturating_add(1));
        let is_crashed = |buffer: &&Buffer| {
            let statuses = Contents::of(buffer.prefix()).statuses;
            statuses.first().is_some_and(|s| Some(s.pid) == pid)
        };
        let mut notes = NoteBytes::default();
        for buffer in self.0.values().filter(is_crashed) {
            put_all(&mut notes, buffer.prefix());
        }
        for buffer in self.0.values().filter(|b| !is_crashed(b)) {
            put_all(&mut notes, buffer.prefix());
        }
        notes
    }
}

/// Copies the notes of a buffer; the gaps are the host's to tell.
fn put_all(notes: &mut NoteBytes, bytes: &[u8]) {
    for note in Notes::new(bytes).filter(|n| !n.is(AFTERIMAGE, GAPS)) {
        notes.add_note(&note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::afterimage_notes::{CrashKind, REASON, Reason};

    fn buffer_of(pid: u32) -> Vec<u8> {
        let mut notes = NoteBytes::default();
        notes.add_status(&PrStatus {
            pid,
            ..PrStatus::default()
        });
        notes.as_bytes().to_vec()
    }

    fn reason(cpu: u32) -> Vec<u8> {
        let reason = Reason {
            kind: CrashKind::Panic,
            cpu,
            pc: 0,
            esr: 0,
            far: 0,
            counter: 0,
            counter_hz: 0,
            text: "t",
        };
        let mut desc = vec![0; 64];
        let len = reason.encode(&mut desc).expect("fits");
        let mut notes = NoteBytes::default();
        notes.add(b"AFTERIMAGE", REASON, &desc[..len]);
        notes.as_bytes().to_vec()
    }

    fn part(index: u32, bytes: &[u8]) -> SegmentBlock<'_> {
        SegmentBlock {
            index,
            address: 0,
            total_len: bytes.len() as u64,
            offset: 0,
            bytes,
        }
    }

    fn pids(notes: &NoteBytes) -> Vec<u32> {
        Contents::of(notes.as_bytes())
            .statuses
            .iter()
            .map(|s| s.pid)
            .collect()
    }

    #[test]
    fn crashing_cpu_comes_first() {
        let mut segments = NoteSegments::default();
        for (index, bytes) in [(0, buffer_of(1)), (1, buffer_of(2)), (2, reason(1))] {
            assert!(segments.add(&part(index, &bytes)));
        }
        assert_eq!(pids(&segments.file_notes(&[], &[], true)), [2, 1]);
    }

    #[test]
    fn foreign_notes_keep_their_order() {
        let mut segments = NoteSegments::default();
        for (index, bytes) in [(1, buffer_of(0)), (0, buffer_of(77))] {
            assert!(segments.add(&part(index, &bytes)));
        }
        let notes = segments.file_notes(&[7, 7], &[], true);
        assert_eq!(pids(&notes), [77, 0]);
        assert_eq!(Contents::of(notes.as_bytes()).build_id, Some(&[7, 7][..]));
    }

    #[test]
    fn buffer_with_a_hole_ends_at_the_hole() {
        let bytes = [buffer_of(1), buffer_of(2)].concat();
        let half = bytes.len() / 2;
        let mut segments = NoteSegments::default();
        let first = SegmentBlock {
            total_len: bytes.len() as u64,
            ..part(0, &bytes[..half + 8])
        };
        assert!(segments.add(&first));
        assert_eq!(pids(&segments.file_notes(&[], &[], false)), [1]);
    }

    #[test]
    fn buffers_are_all_there_when_each_is_whole() {
        let bytes = buffer_of(1);
        let mut segments = NoteSegments::default();
        assert!(!segments.has_all(0));
        segments.add(&part(0, &bytes));
        assert!(segments.has_all(1) && !segments.has_all(2));
        let half = SegmentBlock {
            total_len: 2 * bytes.len() as u64,
            ..part(1, &bytes)
        };
        segments.add(&half);
        assert!(!segments.has_all(2));
    }

    #[test]
    fn oversized_buffer_is_refused() {
        let huge = SegmentBlock {
            total_len: BUFFER_MAX + 1,
            ..part(0, &[1])
        };
        assert!(!NoteSegments::default().add(&huge));
    }
}
