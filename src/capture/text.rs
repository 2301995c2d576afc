// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain text for whoever watches the line with a terminal only.
//!
//! Text and frames share the line. A frame begins and ends with a zero byte, so text never contains one: everything
//! outside printable ASCII is replaced. The total is bounded, because at 115200 baud each KiB costs 90 ms and the frames
//! wait behind it.

use core::fmt;

use crate::{Error, Line, Work};

/// Bytes gathered before they go to the line.
const LINE_BYTES: usize = 160;

/// Complaints that are written out.
const MAX_COMPLAINTS: u32 = 12;

/// Writer of plain text with a budget.
pub(crate) struct Text<'a, L: Line> {
    line: &'a mut L,
    buffer: [u8; LINE_BYTES],
    used: usize,
    budget_bytes: usize,
    is_cut: bool,
    complaints: u32,
    failure: Option<Error>,
}

impl<'a, L: Line> Text<'a, L> {
    /// Returns a writer of at most `budget_bytes`, not counting the remark that something was left out.
    pub(crate) fn new(line: &'a mut L, budget_bytes: usize) -> Self {
        Self {
            line,
            buffer: [0; LINE_BYTES],
            used: 0,
            budget_bytes,
            is_cut: false,
            complaints: 0,
            failure: None,
        }
    }

    /// Writes one line; formatting cannot fail, and a failing line is kept for [`Text::finish`].
    pub(crate) fn say(&mut self, message: fmt::Arguments<'_>) {
        // The only error of `fmt::Write` here is the spent budget, which `is_cut` records.
        let _recorded = fmt::write(self, message);
        let _recorded = fmt::Write::write_str(self, "\n");
    }

    /// Writes one line about something that was not believed; after the first [`MAX_COMPLAINTS`] they are only counted,
    /// so that a thoroughly broken input does not crowd out the registers.
    pub(crate) fn complain(&mut self, message: fmt::Arguments<'_>) {
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= MAX_COMPLAINTS {
            self.say(format_args!("Afterimage: {message}"));
        }
    }

    /// Writes how many complaints were not written, if any.
    pub(crate) fn say_complaints_left(&mut self) {
        let left = self.complaints.saturating_sub(MAX_COMPLAINTS);
        if left > 0 {
            self.say(format_args!("Afterimage: and {left} more of these"));
        }
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// The first failure of the line since [`Text::new`].
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        if self.is_cut {
            self.budget_bytes = 64;
            self.is_cut = false;
            let _fits = fmt::Write::write_str(&mut self, "\nAfterimage: report cut here\n");
        }
        self.flush();
        self.failure.map_or(Ok(()), Err)
    }

    fn push(&mut self, byte: u8) {
        if self.used == LINE_BYTES {
            self.flush();
        }
        if let Some(place) = self.buffer.get_mut(self.used) {
            *place = byte;
            self.used = self.used.saturating_add(1);
        }
        if byte == b'\n' {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let bytes = self.buffer.get(..self.used).unwrap_or(&[]);
        if self.failure.is_none() && !bytes.is_empty() {
            self.failure = write_all(self.line, bytes).err();
        }
        self.used = 0;
    }
}

impl<L: Line> Text<'_, L> {
    /// Sends a frame behind the text; it does not count as text.
    pub(crate) fn send_frame(&mut self, bytes: &[u8]) {
        self.flush();
        let mut sent = 0_usize;
        for _ in 0..ATTEMPTS {
            let rest = bytes.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            sent = sent.saturating_add(self.line.write(rest));
        }
    }
}

/// Bytes of a [`Sentence`].
const SENTENCE_BYTES: usize = 160;

/// A short text, cut where there is no more room.
pub(crate) struct Sentence {
    bytes: [u8; SENTENCE_BYTES],
    len: usize,
}

impl Sentence {
    pub(crate) fn new(message: fmt::Arguments<'_>) -> Self {
        let mut sentence = Self {
            bytes: [0; SENTENCE_BYTES],
            len: 0,
        };
        // What does not fit is cut.
        let _takes_everything = fmt::write(&mut sentence, message);
        sentence
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Write for Sentence {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len = self.len.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// Attempts to hand over a byte: seconds, on any machine.
const ATTEMPTS: u32 = 1 << 22;

/// Hands all of `bytes` over, in a bounded number of attempts.
///
/// # Errors
/// [`Error::LineStuck`].
fn write_all(line: &mut impl Line, bytes: &[u8]) -> Result<(), Error> {
    let (mut sent, mut attempts) = (0_usize, 0_u32);
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        let taken = line.write_text(rest);
        attempts = if taken > 0 {
            0
        } else {
            attempts.saturating_add(1)
        };
        sent = sent.saturating_add(taken);
        if attempts > ATTEMPTS {
            return Err(Error::LineStuck {
                accepted: sent,
                offered: bytes.len(),
            });
        }
        line.spent(Work::Idle);
    }
    Ok(())
}

impl<L: Line> fmt::Write for Text<'_, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let cost = if byte == b'\n' { 2 } else { 1 };
            let Some(left) = self.budget_bytes.checked_sub(cost).filter(|_| !self.is_cut) else {
                self.is_cut = true;
                return Err(fmt::Error);
            };
            self.budget_bytes = left;
            match byte {
                b'\n' => {
                    self.push(b'\r');
                    self.push(b'\n');
                }
                b' '..=b'~' => self.push(byte),
                _ => self.push(b'?'),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::fake::Stuck;
    use std::vec::Vec;

    #[test]
    fn text_with_control_bytes_is_made_printable() {
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, 100);
        text.say(format_args!("a\0b\x1b[2J\u{e9}"));
        text.finish().unwrap();
        assert_eq!(line, b"a?b?[2J??\r\n");
    }

    #[test]
    fn text_beyond_its_budget_is_cut_and_says_so() {
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, 6);
        text.say(format_args!("abcdefgh"));
        text.say(format_args!("more"));
        text.finish().unwrap();
        assert_eq!(line, b"abcdef\r\nAfterimage: report cut here\r\n");
    }

    #[test]
    fn complaints_beyond_the_limit_are_counted() {
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, 1000);
        (0..MAX_COMPLAINTS + 3).for_each(|number| text.complain(format_args!("{number}")));
        text.say_complaints_left();
        text.finish().unwrap();
        assert!(line.ends_with(b"Afterimage: 11\r\nAfterimage: and 3 more of these\r\n"));
    }

    #[test]
    fn text_longer_than_the_buffer_arrives_whole() {
        let long = "x".repeat(3 * LINE_BYTES);
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, 1000);
        text.say(format_args!("{long}"));
        text.finish().unwrap();
        assert_eq!(line.len(), long.len() + 2);
    }

    #[test]
    fn text_on_a_stuck_line_reports_the_failure() {
        let mut line = Stuck(0);
        let mut text = Text::new(&mut line, 100);
        text.say(format_args!("abc"));
        assert_eq!(
            text.finish(),
            Err(Error::LineStuck {
                accepted: 0,
                offered: 5
            })
        );
    }
}
