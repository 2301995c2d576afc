// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last frames: what was sent, and what comes next.

use crate::Error;
use crate::cursor::{Reader, Writer};
use crate::moved::Moved;

/// Page classes that a summary has room for.
pub const CLASSES: usize = 11;
/// Those of them that every summary has.
const FIRST_CLASSES: usize = 8;

/// What was sent.
///
/// Layout: blocks u32, frames u32, pages per class 8 times u64 (by class number), tree hash 32 bytes, bytes on the line
/// u64, counter at the first frame u64, counter now u64; then, unless there is nothing of it to say, counter at the capture
/// kernel's entry u64, and, where it was looked for, what changed meanwhile ([`Moved`]); then, where there are any of them,
/// pages of the classes from the ninth on, u64 each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of blocks; they are numbered from 0.
    pub blocks: u32,
    /// Number of frames before this one.
    pub frames: u32,
    /// Pages of each class, by the class's number.
    pub pages: [u64; CLASSES],
    /// SHA-256 over the hashes of all blocks in order ([`crate::block::TreeHash`]).
    pub tree_hash: [u8; 32],
    /// Bytes on the line before this frame.
    pub line_bytes: u64,
    /// The system counter at the first frame.
    pub ticks_begin: u64,
    /// The system counter at this frame.
    pub ticks_end: u64,
    /// The system counter when the capture kernel was entered; 0 when it is not known.
    pub ticks_entry: u64,
    /// Memory that changed while it was dumped.
    pub moved: Moved,
}

impl Summary {
    /// Bytes of the payload up to the counter's last value.
    pub const LEN: usize = 128;
    /// Most bytes of the payload.
    pub const LEN_MAX: usize = Self::LEN + 8 + Moved::LEN_MAX + 8 * (CLASSES - FIRST_CLASSES);

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(self.blocks)?;
        writer.u32(self.frames)?;
        let (first, more) = self.pages.split_at(FIRST_CLASSES);
        for pages in first {
            writer.u64(*pages)?;
        }
        writer.put(&self.tree_hash)?;
        writer.u64(self.line_bytes)?;
        writer.u64(self.ticks_begin)?;
        writer.u64(self.ticks_end)?;
        let has_more = more.iter().any(|pages| *pages != 0);
        let is_looked_for = self.moved.granule_pages != 0;
        if self.ticks_entry != 0 || is_looked_for || has_more {
            writer.u64(self.ticks_entry)?;
        }
        if is_looked_for || has_more {
            self.moved.put(&mut writer)?;
        }
        if has_more {
            for pages in more {
                writer.u64(*pages)?;
            }
        }
        Ok(writer.offset())
    }

    /// Reads a frame's payload; what a later version appends is left unread.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let mut summary = Self {
            blocks: reader.u32()?,
            frames: reader.u32()?,
            ..Self::default()
        };
        let (first, more) = summary.pages.split_at_mut(FIRST_CLASSES);
        for pages in first {
            *pages = reader.u64()?;
        }
        summary.tree_hash = reader.array()?;
        summary.line_bytes = reader.u64()?;
        summary.ticks_begin = reader.u64()?;
        summary.ticks_end = reader.u64()?;
        // Not there in what older senders wrote.
        if !reader.rest().is_empty() {
            summary.ticks_entry = reader.u64()?;
            summary.moved = Moved::take(&mut reader)?;
        }
        if !reader.rest().is_empty() {
            for pages in more {
                *pages = reader.u64()?;
            }
        }
        Ok(summary)
    }
}

/// What the capture kernel does after the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It reboots the machine.
    Reboot,
    /// It stops.
    Halt,
    /// It turns the machine off.
    PowerOff,
    /// It waits for the host.
    Wait,
    /// Something that this version has no word for.
    Other(u8),
}

impl Next {
    /// What `dump_then=` calls them.
    const NAMES: [(&'static str, Self); 4] = [
        ("reboot", Self::Reboot),
        ("halt", Self::Halt),
        ("poweroff", Self::PowerOff),
        ("wait", Self::Wait),
    ];

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, next)| *next == self);
        named.map_or("something else", |(name, _)| name)
    }

    /// Returns what has this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let named = Self::NAMES
            .iter()
            .find(|(known, _)| known.as_bytes() == name);
        named.map(|(_, next)| *next)
    }

    /// Returns the number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Reboot => 1,
            Self::Halt => 2,
            Self::PowerOff => 3,
            Self::Wait => 4,
            Self::Other(code) => code,
        }
    }

    /// Returns what has this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Reboot,
            2 => Self::Halt,
            3 => Self::PowerOff,
            4 => Self::Wait,
            code => Self::Other(code),
        }
    }
}

/// The last frame of a dump.
///
/// Layout: next u8, whether the dump was cut short u8, reserved u16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What comes next.
    pub next: Next,
    /// Whether the capture kernel gave up before the end.
    pub is_cut_short: bool,
}

impl Finished {
    /// Bytes of the payload.
    pub const LEN: usize = 4;

    /// Returns the payload.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        [self.next.code(), self.is_cut_short as u8, 0, 0]
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let [next, is_cut_short, _, _] = Reader::new(payload).array()?;
        Ok(Self {
            next: Next::from_code(next),
            is_cut_short: is_cut_short != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_has_one_name_and_one_number() {
        for name in ["reboot", "halt", "poweroff", "wait"] {
            let next = Next::named(name.as_bytes()).unwrap();
            assert_eq!((next.name(), Next::from_code(next.code())), (name, next));
        }
        assert_eq!(Next::named(b"explode"), None);
        assert_eq!(Next::named(b""), None);
        assert_eq!(Next::Other(9).name(), "something else");
    }

    #[test]
    fn summary_of_version_1_has_its_golden_bytes() {
        let summary = Summary {
            blocks: 3,
            frames: 9,
            pages: [1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0],
            tree_hash: [0xee; 32],
            line_bytes: 0x0102,
            ticks_begin: 7,
            ticks_end: 8,
            ticks_entry: 0,
            moved: Moved::default(),
        };
        let mut out = [0xff; 128];
        assert_eq!(summary.encode(&mut out), Ok(Summary::LEN));
        assert_eq!(
            out[..24],
            [
                3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(out[72..104], [0xee; 32]);
        assert_eq!(
            out[104..],
            [
                2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(Summary::decode(&out), Ok(summary));
    }

    #[test]
    fn summary_of_linux_ends_with_its_page_classes() {
        let mut summary = Summary::default();
        summary.pages[CLASSES - 2..].copy_from_slice(&[7, 9]);
        let mut out = [0xff; Summary::LEN_MAX];
        let len = summary.encode(&mut out).unwrap();
        // The entry and what changed, which are not known, stand before them.
        assert_eq!(out[Summary::LEN..len - 24], [0; 8 + 12]);
        #[rustfmt::skip]
        assert_eq!(out[len - 24..len], [
            0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(Summary::decode(&out[..len]), Ok(summary));
        assert!(Summary::decode(&out[..len - 1]).is_err());
    }

    #[test]
    fn summary_cut_short_is_refused() {
        assert!(matches!(
            Summary::decode(&[0; 127]),
            Err(Error::Truncated { .. })
        ));
        assert!(Summary::default().encode(&mut [0; 127]).is_err());
    }

    #[test]
    fn finished_of_version_1_has_its_golden_bytes() {
        let finished = Finished {
            next: Next::Halt,
            is_cut_short: true,
        };
        assert_eq!(finished.encode(), [2, 1, 0, 0]);
        assert_eq!(Finished::decode(&finished.encode()), Ok(finished));
    }

    #[test]
    fn finished_with_an_unknown_next_keeps_its_number() {
        assert_eq!(Finished::decode(&[9, 0, 0, 0]).unwrap().next.code(), 9);
        assert!(Finished::decode(&[1, 0, 0]).is_err());
    }
}
