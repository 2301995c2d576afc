// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parting a line into console text and frames, whatever happened to it on the way.
//!
//! A zero byte ends what was before and may start a frame. What follows it is a frame when its second and third byte
//! are a version and a type (control codes that console text does not use there), else it is text. So text waits for at
//! most two bytes, and a lost zero byte costs one frame. Memory is one frame.

use core::fmt;

use crate::cursor::Reader;
use crate::frame::{ENCODED_MAX, Frame, HEADER_LEN, Header, VERSION_CODE_MAX};
use crate::{VERSION, VERSION_MIN};

/// Types below this may stand in a frame's third byte.
const KIND_CODE_END: u8 = 0x20;
/// Printable bytes after a zero byte until they pass for text and not for the ruins of a frame.
const DOUBT_LEN: usize = 64;

/// What a piece of the line was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Console text, untouched; it may be cut anywhere.
    Text(&'a [u8]),
    /// A frame that arrived whole.
    Frame(Frame<'a>),
    /// Bytes that were a frame, or the ruins of one.
    Damaged(Damage),
}

/// What is known of a frame that did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was found wrong.
    pub cause: DamageCause,
    /// Bytes on the line, without the zero bytes.
    pub len: usize,
    /// Its header, when one could be read; nothing vouches for it.
    pub header: Option<Header>,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageCause {
    /// It is longer than any frame.
    TooLong,
    /// It is no COBS.
    Cobs,
    /// Its CRC disagrees, or it is too short to have one.
    Crc,
    /// It is whole, but of a protocol version that this code does not read.
    Version,
    /// The line ended within it.
    Cut,
    /// Its start was lost.
    Headless,
}

impl fmt::Display for DamageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than any frame",
            Self::Cobs => "bad framing",
            Self::Crc => "checksum disagrees",
            Self::Version => "unknown protocol version",
            Self::Cut => "line ended within a frame",
            Self::Headless => "start of a frame lost",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes are text until a zero byte.
    Text,
    /// After a zero byte: bytes are gathered until it shows what they are, then as a frame.
    Frame,
    /// No frame starts here; the number of printable bytes so far, which were passed on.
    Doubt(usize),
    /// The ruins of a frame; bytes so far.
    Ruins(usize),
}

/// The receiving end of a line.
#[derive(Clone)]
pub struct Receiver {
    state: State,
    held: [u8; ENCODED_MAX],
    len: usize,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("state", &self.state)
            .field("len", &self.len)
            .finish()
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Starts in the midst of a line, taking what comes for text.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Text,
            held: [0; ENCODED_MAX],
            len: 0,
        }
    }

    /// Takes in `bytes` and says what they were, in order.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            if self.state == State::Text {
                let end = rest
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(rest.len());
                let (text, later) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                if !text.is_empty() {
                    sink(Event::Text(text));
                }
                rest = later.get(1..).unwrap_or_default();
                if !later.is_empty() {
                    self.start();
                }
                continue;
            }
            rest = rest.get(1..).unwrap_or_default();
            if byte == 0 {
                self.end(&mut sink)
            } else {
                self.take(byte, &mut sink)
            }
        }
    }

    /// Passes on text that waits for its second byte; for when the line has been quiet.
    ///
    /// The start of a frame is not given up: a capture kernel may pause within one.
    pub fn idle(&mut self, mut sink: impl FnMut(Event<'_>)) {
        let is_printable = self.held().iter().all(|&byte| is_text(byte));
        if self.state == State::Frame && self.len == 1 && is_printable {
            sink(Event::Text(self.held()));
            self.len = 0;
            self.state = State::Text;
        }
    }

    /// Says what is left at the end of the line.
    pub fn finish(&mut self, mut sink: impl FnMut(Event<'_>)) {
        self.idle(&mut sink);
        match self.state {
            State::Frame if self.len > 0 => {
                let header = peek_header(self.held());
                sink(Event::Damaged(Damage {
                    cause: DamageCause::Cut,
                    len: self.len,
                    header,
                }));
            }
            State::Ruins(len) => sink(headless(len)),
            _ => {}
        }
        self.len = 0;
        self.state = State::Text;
    }

    fn held(&self) -> &[u8] {
        self.held.get(..self.len).unwrap_or_default()
    }

    fn start(&mut self) {
        self.len = 0;
        self.state = State::Frame;
    }

    /// Takes a byte that is not zero, after a zero byte was seen.
    fn take(&mut self, byte: u8, sink: &mut impl FnMut(Event<'_>)) {
        match self.state {
            State::Text => sink(Event::Text(&[byte])),
            State::Frame => self.hold(byte, sink),
            State::Doubt(len) if is_text(byte) => {
                sink(Event::Text(&[byte]));
                let len = len.saturating_add(1);
                let is_settled = len >= DOUBT_LEN || byte == b'\n';
                self.state = if is_settled {
                    State::Text
                } else {
                    State::Doubt(len)
                };
            }
            State::Doubt(_) => self.state = State::Ruins(1),
            State::Ruins(len) if len < ENCODED_MAX => {
                self.state = State::Ruins(len.saturating_add(1))
            }
            State::Ruins(len) => {
                sink(headless(len.saturating_add(1)));
                self.state = State::Text;
            }
        }
    }

    fn hold(&mut self, byte: u8, sink: &mut impl FnMut(Event<'_>)) {
        let Some(slot) = self.held.get_mut(self.len) else {
            let header = peek_header(&self.held);
            let len = self.len.saturating_add(1);
            sink(Event::Damaged(Damage {
                cause: DamageCause::TooLong,
                len,
                header,
            }));
            self.len = 0;
            self.state = State::Text;
            return;
        };
        *slot = byte;
        self.len = self.len.saturating_add(1);
        let is_frame = match self.len {
            2 => (1..=VERSION_CODE_MAX).contains(&byte),
            3 => byte < KIND_CODE_END,
            _ => true,
        };
        if is_frame {
            return;
        }
        // Not a frame: hand over what waited, byte for byte under the rules of doubt.
        let (held, len) = (self.held, self.len);
        self.len = 0;
        self.state = State::Doubt(0);
        held.iter()
            .take(len)
            .for_each(|&byte| self.take(byte, sink));
    }

    /// Takes a zero byte.
    fn end(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if let State::Ruins(len) = self.state {
            sink(headless(len));
        }
        if self.state == State::Frame && self.len > 0 {
            let len = self.len;
            let header = peek_header(self.held());
            let held = self.held.get_mut(..len).unwrap_or_default();
            let damaged = |cause| Event::Damaged(Damage { cause, len, header });
            let event = match cobs::decode_in_place(held) {
                Err(_) => damaged(DamageCause::Cobs),
                Ok(raw) => match Frame::decode(held.get(..raw).unwrap_or_default()) {
                    None => damaged(DamageCause::Crc),
                    Some(frame) if !(VERSION_MIN..=VERSION).contains(&frame.header.version) => {
                        damaged(DamageCause::Version)
                    }
                    Some(frame) => Event::Frame(frame),
                },
            };
            sink(event);
        }
        self.start();
    }
}

const fn headless(len: usize) -> Event<'static> {
    Event::Damaged(Damage {
        cause: DamageCause::Headless,
        len,
        header: None,
    })
}

/// Tells whether a console prints, or moves by, this byte; UTF-8 counts.
const fn is_text(byte: u8) -> bool {
    matches!(byte, 7..=10 | 12 | 13 | 27 | 32..=126 | 128..=244)
}

/// Returns the header of a frame that is still under COBS, as far as it can be read.
fn peek_header(encoded: &[u8]) -> Option<Header> {
    let mut raw = [0; HEADER_LEN];
    let mut bytes = encoded.iter().copied();
    let mut group = bytes.next()?.checked_sub(1)?;
    for to in &mut raw {
        // The header's groups are short: none reaches 254 bytes without a zero.
        match group.checked_sub(1) {
            Some(left) => {
                *to = bytes.next()?;
                group = left;
            }
            None => group = bytes.next()?.checked_sub(1)?,
        }
    }
    let header = Header::take(&mut Reader::new(&raw)).ok()?;
    (VERSION_MIN..=VERSION)
        .contains(&header.version)
        .then_some(header)
}

#[cfg(test)]
mod tests;
