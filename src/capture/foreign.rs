// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that others than the CPUs use: left out of the dump, named on the console and in a note of the capture kernel's own.

use vmcore::afterimage_notes::{FOREIGN, ListWriter, Region, name_text};
use vmcore::notes::{AFTERIMAGE, NoteWriter};

use crate::plan::Plan;
use crate::text::Text;
use crate::{Line, pages};

/// Ranges that the note has room for.
pub(crate) const MAX_FOREIGN: usize = 16;

/// Bytes of the note: its header and that of the empty one behind it, its name padded, the list's header, the ranges.
const NOTE_BYTES: usize = 12 + 12 + 12 + 24 + MAX_FOREIGN * 48;

/// The note, as it travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForeignNote {
    bytes: [u8; NOTE_BYTES],
    len: usize,
}

impl ForeignNote {
    /// Returns the note of `foreign`; an empty one of no ranges, and of more than [`MAX_FOREIGN`] the first.
    pub(crate) fn new(foreign: &[Region]) -> Self {
        let mut bytes = [0; NOTE_BYTES];
        let list = |out: &mut [u8]| {
            let mut list = ListWriter::new(out, 0)?;
            let mut regions = foreign.iter().take(MAX_FOREIGN);
            regions.try_for_each(|region| list.push(region))?;
            list.finish()
        };
        let written = NoteWriter::new(&mut bytes).and_then(|mut writer| {
            writer.note_with(AFTERIMAGE, FOREIGN, list)?;
            Ok(writer.len())
        });
        // It has room for all that is taken.
        let len = written.ok().filter(|_| !foreign.is_empty());
        Self {
            bytes,
            len: len.unwrap_or(0),
        }
    }

    /// Returns the note's bytes; none where nothing is to be named.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Takes the ranges out of what is dumped.
pub(crate) fn leave_out(plan: &mut Plan, foreign: &[Region], text: &mut Text<'_, impl Line>) {
    for Region { pa, len, name, .. } in foreign {
        if let Err(error) = plan.remove_ram(pages::clamped(*pa, *len)) {
            text.complain(format_args!(
                "memory of {} at {pa:#x} not left out: {error}",
                name_text(name)
            ));
        }
    }
}

/// Says whose memory is not read.
pub(crate) fn write(foreign: &[Region], text: &mut Text<'_, impl Line>) {
    for Region { pa, len, name, .. } in foreign.iter().take(MAX_FOREIGN) {
        text.say(format_args!(
            "Afterimage: memory {pa:#x}..{:#x} is not read: {}",
            pa.saturating_add(*len),
            name_text(name)
        ));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::machine::{Machine, OWN, RAM, page, pages};
    use std::vec::Vec;
    use vmcore::PhysRange;
    use vmcore::afterimage_notes::{Entries, RegionKind, name_field};
    use vmcore::notes::Notes;
    use wire::BlockKind;

    fn of(name: &str, range: PhysRange) -> Region {
        Region {
            kind: RegionKind::Foreign,
            argument: 0,
            pa: range.start,
            len: range.len(),
            va: 0,
            name: name_field(name),
        }
    }

    fn decoded(note: &[u8]) -> Vec<Region> {
        let found = Notes::new(note).find(|note| note.is(AFTERIMAGE, FOREIGN));
        found.map_or_else(Vec::new, |note| {
            Entries::decode(note.desc).unwrap().collect()
        })
    }

    #[test]
    fn note_is_as_long_as_its_ranges() {
        assert_eq!(ForeignNote::new(&[]).as_bytes(), []);
        let one = of("VideoCore", pages(1, 2));
        let note = ForeignNote::new(&[one]);
        assert_eq!(note.as_bytes().len(), 12 + 12 + 24 + 48);
        assert_eq!(decoded(note.as_bytes()), [one]);
        // The note's golden bytes up to the list's checksum: two lengths, the type, the name, version and count.
        #[rustfmt::skip]
        assert_eq!(note.as_bytes()[..32], [
            11, 0, 0, 0, 72, 0, 0, 0, 0x0d, 0, 0x46, 0x41,
            b'A', b'F', b'T', b'E', b'R', b'I', b'M', b'A', b'G', b'E', 0, 0,
            1, 0, 0, 0, 1, 0, 0, 0,
        ]);
        // What is too much is left out, and the rest stays a note.
        let note = ForeignNote::new(&[one; MAX_FOREIGN + 1]);
        assert_eq!(decoded(note.as_bytes()), [one; MAX_FOREIGN]);
    }

    #[test]
    fn memory_of_others_is_neither_read_nor_described_but_named() {
        let mut machine = Machine::usual();
        let high = PhysRange {
            start: RAM.end,
            end: RAM.end + 0x10_0000,
        };
        machine.foreign = Vec::from([of("VideoCore", high), of("framebuffer", pages(150, 160))]);
        let dump = machine.dump("dump_then=halt");
        assert!(dump.host.verdict().is_whole(), "{:?}", dump.host.verdict());
        for number in 150..160 {
            // Not even to see whether it changed.
            assert!(!machine.ram.reads.contains(&page(number)), "page {number}");
            assert!(!dump.pages.contains_key(&page(number)), "page {number}");
        }
        assert!(machine.ram.reads.contains(&page(149)));
        assert!(dump.pages.contains_key(&page(149)) && dump.pages.contains_key(&page(160)));
        let manifest = dump.host.manifest().unwrap();
        let ranges = dump.host.ranges();
        let framebuffer = pages(150, 160);
        assert!(ranges.iter().all(|range| {
            let end = range.paddr + range.len;
            end <= framebuffer.start || range.paddr >= framebuffer.end
        }));
        // Three of the crashed kernel's, and the capture kernel's own behind them.
        assert_eq!((dump.notes(), manifest.note_segments), (4, 4));
        let own = dump.blocks.iter().filter(|it| it.kind == BlockKind::Notes);
        let own: Vec<_> = own
            .filter(|block| !decoded(block.segment().unwrap().bytes).is_empty())
            .collect();
        let [own] = own[..] else {
            panic!("{} notes of it", own.len())
        };
        let segment = own.segment().unwrap();
        assert_eq!((segment.index, segment.address), (3, 0));
        assert_eq!(decoded(segment.bytes), machine.foreign);
        let report = &dump.text[..dump.text_before_frames];
        let lines = [
            std::format!(
                "Afterimage: memory {:#x}..{:#x} is not read: VideoCore\r\n",
                high.start,
                high.end
            ),
            std::format!(
                "Afterimage: memory {:#x}..{:#x} is not read: framebuffer\r\n",
                framebuffer.start,
                framebuffer.end
            ),
        ];
        assert!(lines.iter().all(|line| report.contains(line)), "{report}");
    }

    #[test]
    fn memory_of_others_is_named_without_a_header() {
        let mut machine = Machine::usual();
        machine.foreign = Vec::from([of("framebuffer", pages(150, 160))]);
        let dump = machine.dump_with("dump_then=halt", None);
        assert!(dump.host.verdict().is_whole(), "{:?}", dump.host.verdict());
        assert_eq!(dump.host.manifest().unwrap().note_segments, 1);
        assert_eq!(dump.notes(), 1);
        assert!(!dump.pages.contains_key(&page(155)));
        assert!(dump.pages.keys().all(|&at| at < OWN.start));
    }

    #[test]
    fn absurd_ranges_leave_the_dump_whole() {
        let mut machine = Machine::usual();
        let empty = PhysRange { start: 0, end: 0 };
        let mut wrapping = of("x", pages(511, 512));
        wrapping.pa = u64::MAX;
        machine.foreign = Vec::from([of("", empty), wrapping]);
        let dump = machine.dump("dump_then=halt");
        assert!(dump.host.verdict().is_whole(), "{:?}", dump.host.verdict());
        machine.compare(&dump);
    }
}
