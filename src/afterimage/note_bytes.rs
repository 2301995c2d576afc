// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the notes segment of a dump: a vector that grows, where the crash path has fixed buffers.

use vmcore::PhysRange;
use vmcore::afterimage_notes::list::{ListWriter, list_len};
use vmcore::afterimage_notes::{
    Entry, GAPS, Gap, MOVED, MovedRange, Phase, TIMINGS, Timing, new_moved,
};
use vmcore::notes::{AFTERIMAGE, CORE, Note};
use vmcore::registers::{NT_PRSTATUS, PRSTATUS_LEN, PrStatus};
use wire::Summary;

/// Argument of a gap list when the summary did not arrive or disagrees with what did.
pub const NOT_VOUCHED_FOR: u64 = 1;

/// Notes, padded to 4 bytes each (gABI chapter 5, "Note Section").
#[derive(Debug, Default, Clone)]
pub struct NoteBytes(Vec<u8>);

impl NoteBytes {
    /// Adds a note; a name or payload that a note cannot hold (4 GiB) is left out.
    pub fn add(&mut self, name: &[u8], kind: u32, desc: &[u8]) {
        let (Ok(name_len), Ok(desc_len)) = (
            u32::try_from(name.len().saturating_add(1)),
            u32::try_from(desc.len()),
        ) else {
            return;
        };
        for word in [name_len, desc_len, kind] {
            self.0.extend_from_slice(&word.to_le_bytes());
        }
        self.0.extend_from_slice(name);
        self.0.push(0);
        self.pad();
        self.0.extend_from_slice(desc);
        self.pad();
    }

    /// Adds a note as it was found.
    pub fn add_note(&mut self, note: &Note<'_>) {
        self.add(note.name, note.kind, note.desc);
    }

    /// Adds registers.
    pub fn add_status(&mut self, status: &PrStatus) {
        let mut desc = [0; PRSTATUS_LEN];
        // The buffer has the payload's fixed size.
        if status.encode(&mut desc).is_ok() {
            self.add(CORE.as_bytes(), NT_PRSTATUS, &desc);
        }
    }

    /// Adds the list of what is missing. Its argument is 0 when the sender's summary vouches for the dump, else
    /// [`NOT_VOUCHED_FOR`].
    pub fn add_gaps(&mut self, gaps: &[Gap], is_vouched_for: bool) {
        self.add_list(GAPS, gaps, if is_vouched_for { 0 } else { NOT_VOUCHED_FOR });
    }

    /// Adds what the sender's summary says: when the dump began and ended, in ticks of `counter_hz`, and what changed meanwhile.
    pub fn add_summary(&mut self, summary: &Summary, counter_hz: u32) {
        let timing = |phase, ticks| Timing { phase, ticks };
        let mut timings = vec![
            timing(Phase::CaptureEntry, summary.ticks_entry),
            timing(Phase::FirstFrame, summary.ticks_begin),
            timing(Phase::LastFrame, summary.ticks_end),
        ];
        timings.retain(|timing| timing.ticks != 0);
        self.add_list(TIMINGS, &timings, u64::from(counter_hz));
        let moved = &summary.moved;
        if moved.granule_pages == 0 {
            return;
        }
        let mut desc = vec![0; list_len::<MovedRange>(moved.ranges().len())];
        let written =
            new_moved(&mut desc, moved.granule_pages, moved.granules).and_then(|mut list| {
                for range in moved.ranges() {
                    let len = u64::from(range.pages).saturating_mul(vmcore::PAGE_SIZE);
                    list.push(&MovedRange(PhysRange {
                        start: range.start,
                        end: range.start.saturating_add(len),
                    }))?;
                }
                list.finish()
            });
        // The buffer has the list's size.
        if written.is_ok() {
            self.add(AFTERIMAGE.as_bytes(), MOVED, &desc);
        }
    }

    fn add_list<E: Entry>(&mut self, kind: u32, entries: &[E], argument: u64) {
        let mut desc = vec![0; list_len::<E>(entries.len())];
        let written = ListWriter::new(&mut desc, argument).and_then(|mut list| {
            for entry in entries {
                list.push(entry)?;
            }
            list.finish()
        });
        // The buffer has the list's size.
        if written.is_ok() {
            self.add(AFTERIMAGE.as_bytes(), kind, &desc);
        }
    }

    /// Returns the notes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::PageClass;
    use vmcore::notes::Notes;

    #[test]
    fn notes_are_read_back() {
        let mut notes = NoteBytes::default();
        notes.add(b"ABC", 7, &[1, 2, 3, 4, 5]);
        notes.add_status(&PrStatus {
            pid: 3,
            ..PrStatus::default()
        });
        let found: Vec<_> = Notes::new(notes.as_bytes())
            .map(|n| (n.name.to_vec(), n.kind, n.desc.len()))
            .collect();
        assert_eq!(found, [(b"ABC".to_vec(), 7, 5), (b"CORE".to_vec(), 1, 392)]);
    }

    #[test]
    fn gaps_are_read_back() {
        let gap = Gap {
            range: PhysRange {
                start: 4096,
                end: 8192,
            },
            class: PageClass::Lost,
        };
        let mut notes = NoteBytes::default();
        notes.add_gaps(&[gap], false);
        let contents = crate::contents::Contents::of(notes.as_bytes());
        assert_eq!(contents.gaps, Some(vec![gap]));
        assert!(!contents.is_vouched_for);
    }

    #[test]
    fn what_changed_is_read_back() {
        let mut moved = wire::Moved::in_granules_of(2);
        moved.add(0x4000_0000, 2);
        let summary = Summary {
            ticks_begin: 5,
            ticks_end: 9,
            moved,
            ..Summary::default()
        };
        let mut notes = NoteBytes::default();
        notes.add_summary(&summary, 1000);
        let contents = crate::contents::Contents::of(notes.as_bytes());
        assert_eq!(contents.timings.len(), 2);
        let found = contents.moved.expect("a note");
        assert_eq!((found.granule_bytes, found.granules), (8192, 1));
        assert_eq!(found.ranges[0].end, 0x4000_2000);
    }

    #[test]
    fn summary_of_a_sender_that_did_not_look_twice_says_nothing_of_it() {
        let mut notes = NoteBytes::default();
        notes.add_summary(&Summary::default(), 1000);
        let contents = crate::contents::Contents::of(notes.as_bytes());
        assert_eq!(contents.moved, None);
    }
}
