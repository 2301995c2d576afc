// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sending end of the link, sans-I/O: blocks in, frames out, and what the host says in between.
//!
//! Nobody needs to answer. Until somebody does, frames go out once, in groups with parity. From the first status on, what
//! was lost is sent again, selectively: every frame has a sequence number, a status tells which came, and the parts of those
//! that did not become unsent. A block leaves the window when the host has stored it. A host of another session starts anew:
//! what it has it says, and what it lacks is made again from memory, which no longer changes.

use core::cell::Cell;

use crate::Error;
use crate::block::{PIECE_HEADER_LEN, PIECE_MAX, Piece};
use crate::frame::{FrameType, Sender};
use crate::offer::Want;
use crate::parity::{self, ParityWriter};
use crate::receiver::Event;
use crate::status::{NO_BLOCK, Status};

mod baud;
mod memory;
mod pace;
mod restart;
mod resume;
mod window;

pub use baud::{SILENCE_US, Speed};
pub use memory::{Counts, Memory, Tables};
pub use window::{SLOTS, map_words};

use baud::Negotiation;
use memory::{DONE_BLOCKS, DONE_WORDS, RECORDS, Record};
use pace::Pace;
use window::{Part, UNIT, Window};

/// Bytes of a block in a frame while nobody answers: as many as parity covers.
const ONE_WAY_LEN: usize = (parity::PAYLOAD_MAX - PIECE_HEADER_LEN) / UNIT * UNIT;
/// Quiet time on our side after which the host is asked what it has, in microseconds.
const POLL_AFTER_US: u64 = 80_000;
/// The same while the host is silent.
const POLL_SILENT_US: u64 = 400_000;
/// Time to the first question to a host that is not heard, in the midst of everything else: on a line that lets no long frame
/// through, these short ones start the talk. Each takes a place among those that parity covers, so they get rarer: twice
/// the time to the next one, up to the longest.
const ASK_US: u64 = 2_000_000;
const ASK_MAX_US: u64 = 16_000_000;
/// Silence of the host after which losses say nothing about the line: the cable was out.
const SILENT_US: u64 = 1_000_000;

/// The sending end.
#[derive(Debug)]
pub struct Target<'a> {
    sender: Sender,
    dump: u32,
    tables: &'a mut Tables,
    window: Window<'a>,
    parity: ParityWriter<'a>,
    has_parity: bool,
    pace: Pace,
    /// Blocks below are all stored.
    done_below: u32,
    control_len: usize,
    control_kind: Option<FrameType>,
    session: Option<u32>,
    is_new_session: bool,
    has_finished: bool,
    wants_offers: bool,
    /// A page that the host had was not the right one: no more offers.
    has_bad_offers: bool,
    want: Option<Want>,
    last_heard_us: u64,
    last_sent_us: u64,
    /// When the host was last asked, or the first frame was made.
    last_asked_us: Option<u64>,
    /// Time from then to the next question.
    ask_after_us: u64,
    last_rejected_us: Option<u64>,
    negotiation: Negotiation,
    counts: Counts,
}

impl<'a> Target<'a> {
    /// Starts the dump of this short id, with nobody answering. Without `has_parity` the line is taken to be perfect.
    #[must_use]
    pub fn new(dump: u32, memory: Memory<'a>, has_parity: bool) -> Self {
        Self {
            sender: Sender::new(dump),
            dump,
            tables: memory.tables,
            window: Window::new(memory.ring, memory.maps),
            parity: ParityWriter::new(memory.parity),
            has_parity,
            pace: Pace::default(),
            done_below: 0,
            control_len: 0,
            control_kind: None,
            session: None,
            is_new_session: false,
            has_finished: false,
            wants_offers: false,
            has_bad_offers: false,
            want: None,
            last_heard_us: 0,
            last_sent_us: 0,
            last_asked_us: None,
            ask_after_us: ASK_US,
            last_rejected_us: None,
            negotiation: Negotiation::new(),
            counts: Counts::default(),
        }
    }

    /// Allows changes of speed: the current rate, and the higher ones that the line can be set to, ascending, in baud.
    pub fn set_rates(&mut self, current: u32, higher: &[u32]) {
        self.negotiation.set_rates(current, higher);
    }

    // What the producer of blocks does.

    /// Tells whether somebody has answered.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.session.is_some()
    }

    /// Tells whether a host came that has not yet been sent the dump from its start.
    #[must_use]
    pub const fn has_new_session(&self) -> bool {
        self.is_new_session
    }

    /// Returns the host's session, for the manifest; 0 for none.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.session.unwrap_or(0)
    }

    /// Tells whether the host has stored the block `number`.
    #[must_use]
    pub fn is_stored(&self, number: u32) -> bool {
        number < self.done_below || is_set(&self.tables.done, number)
    }

    /// Tells whether pages are to be offered before they are sent.
    #[must_use]
    pub const fn wants_offers(&self) -> bool {
        self.wants_offers && !self.has_bad_offers
    }

    /// Returns the answer to the offer of the block `number`, if it was the last that came.
    #[must_use]
    pub fn want(&self, number: u32) -> Option<&Want> {
        self.want.as_ref().filter(|want| want.block == number)
    }

    /// Queues a frame that is no piece; false while the one before waits, or when it is too long.
    pub fn control(&mut self, kind: FrameType, payload: &[u8]) -> bool {
        if self.control_kind.is_some() {
            return false;
        }
        let Some(room) = self.tables.control.get_mut(..payload.len()) else {
            return false;
        };
        room.copy_from_slice(payload);
        self.control_len = payload.len();
        self.control_kind = Some(kind);
        true
    }

    /// Gives out room for the next block, descriptor included, of up to `len` bytes; `None` until older ones are stored.
    pub fn room(&mut self, len: usize) -> Option<&'a [Cell<u8>]> {
        self.window.room(len)
    }

    /// Takes in the block that was written to the start of that room; false when there was none.
    pub fn push(&mut self, number: u32, len: usize) -> bool {
        self.window.push(number, len)
    }

    /// Ends the group of frames in the making, so that its parity follows.
    pub fn close_group(&mut self) {
        if !self.is_answered() && self.has_parity {
            self.parity.close();
        }
    }

    /// Tells whether all blocks have left: sent when nobody answers, else stored.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.window.is_empty() && self.control_kind.is_none() && !self.parity.is_closed()
    }

    /// Tells whether everything that was queued has been handed out, whatever became of it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.control_kind.is_none() && !self.parity.is_closed() && self.unsent_bytes() == 0
    }

    /// Returns the bytes of packed blocks that wait for the line.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.window.unsent_bytes()
    }

    /// Tells whether the host saw the last frame.
    #[must_use]
    pub const fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// Returns for how long the host has been silent, in microseconds.
    #[must_use]
    pub const fn silence_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.last_heard_us)
    }

    /// Returns what was sent.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the number of frames made.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.sender.frames()
    }

    // What the line does.

    /// Takes in bytes from the host.
    pub fn receive(&mut self, bytes: &[u8], now_us: u64) {
        for &byte in bytes {
            let (dump, inbox) = (self.dump, &mut self.tables.inbox);
            let mut arrived = None;
            self.tables.receiver.push(&[byte], |event| {
                if let Event::Frame(frame) = event
                    && frame.header.dump == dump
                    && let Some(kind) = frame.kind()
                    && let Some(room) = inbox.get_mut(..frame.payload.len())
                {
                    room.copy_from_slice(frame.payload);
                    arrived = Some((kind, frame.payload.len()));
                }
            });
            if let Some((kind, len)) = arrived {
                self.accept(kind, len, now_us);
            }
        }
    }

    fn accept(&mut self, kind: FrameType, len: usize, now_us: u64) {
        let payload = self.tables.inbox.get(..len).unwrap_or_default();
        match kind {
            FrameType::Status => {
                if let Ok(status) = Status::decode(payload) {
                    self.accept_status(&status, now_us);
                }
            }
            FrameType::Want => {
                if let Ok(want) = Want::decode(payload) {
                    self.last_heard_us = now_us;
                    self.want = Some(want);
                }
            }
            FrameType::Baud => {
                self.last_heard_us = now_us;
                self.negotiation.accept(payload, now_us);
            }
            _ => {}
        }
    }

    fn accept_status(&mut self, status: &Status, now_us: u64) {
        let was_silent = self.is_answered() && self.silence_us(now_us) > SILENT_US;
        self.last_heard_us = now_us;
        if self.session != Some(status.session) {
            self.session = Some(status.session);
            self.is_new_session = true;
            self.has_bad_offers = false;
            self.window.forget(None);
            self.parity.clear();
            self.tables.forget_frames();
        }
        self.wants_offers = status.wants_offers;
        self.has_finished |= status.has_finished;
        self.negotiation.host_max(status.baud_max);
        self.learn_stored(status);
        // A host cannot have seen what was not sent.
        let ahead = status.newest.wrapping_sub(self.sender.frames());
        if ahead >= 1 << 31 {
            self.learn_frames(status, was_silent);
        }
        if status.rejected != NO_BLOCK && !self.is_stored(status.rejected) {
            self.reject(status.rejected, now_us);
        }
    }

    fn learn_stored(&mut self, status: &Status) {
        self.done_below = self.done_below.max(status.first_missing);
        for (first, count) in status.stored_ranges() {
            let end = first.saturating_add(count).min(DONE_BLOCKS);
            (first..end).for_each(|number| set(&mut self.tables.done, number));
        }
        let done = &mut self.tables.done;
        self.window.drop_if(|number| {
            let is_stored = status.has_block(number) || is_set(done, number);
            if is_stored {
                set(done, number);
            }
            is_stored
        });
    }

    fn learn_frames(&mut self, status: &Status, was_silent: bool) {
        for record in self
            .tables
            .records
            .iter_mut()
            .filter(|record| record.is_live)
        {
            let is_newer = record.sequence.wrapping_sub(status.newest).wrapping_sub(1) < 1 << 31;
            if is_newer {
                continue;
            }
            record.is_live = false;
            let len = (record.part.units as usize).saturating_mul(UNIT);
            if status.has_frame(record.sequence) == Some(true) {
                self.window.arrived(record.part);
                self.pace.arrived(len);
                continue;
            }
            self.window.lost(record.part);
            self.counts.lost_frames = self.counts.lost_frames.saturating_add(1);
            if !was_silent {
                self.pace.lost(len);
            }
        }
    }

    /// The host did not believe a block that arrived whole: sends it again, and does without offers from now on.
    fn reject(&mut self, number: u32, now_us: u64) {
        let is_repeated = self
            .last_rejected_us
            .is_some_and(|at| now_us.saturating_sub(at) < SILENT_US);
        if is_repeated {
            return;
        }
        self.last_rejected_us = Some(now_us);
        if self.wants_offers() {
            self.has_bad_offers = true;
            self.is_new_session = true;
        } else {
            self.window.forget(Some(number));
        }
    }

    /// Returns the rate that the line is to be set to now, once: after everything that was handed out has left.
    pub fn take_baud(&mut self) -> Option<Speed> {
        self.negotiation.take_speed()
    }

    /// Writes the next frame into `out` (of [`crate::frame::LINE_MAX`] bytes) and returns its length; 0 when there is nothing to
    /// send now.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn next_frame(&mut self, now_us: u64, out: &mut [u8]) -> Result<usize, Error> {
        let len = self.make_frame(now_us, out)?;
        if len > 0 {
            self.last_sent_us = now_us;
            self.counts.frames = self.counts.frames.saturating_add(1);
            self.counts.line_bytes = self.counts.line_bytes.saturating_add(len as u64);
        }
        Ok(len)
    }

    fn make_frame(&mut self, now_us: u64, out: &mut [u8]) -> Result<usize, Error> {
        if self.is_answered() {
            let silence = self.silence_us(now_us);
            let errors = self.pace.errors_per_million();
            if let Some(payload) = self.negotiation.next(now_us, silence, errors) {
                self.pace.reset();
                return self.sender.frame(FrameType::Baud, [&payload, &[]], out);
            }
            if self.negotiation.is_switching() {
                return Ok(0);
            }
        }
        if self.is_time_to_ask(now_us) {
            return self.control_frame(FrameType::Poll, 0, out);
        }
        if let Some(kind) = self.control_kind.take() {
            return self.control_frame(kind, self.control_len, out);
        }
        if let Some((header, symbol)) = self.parity.next_frame() {
            let payload = symbol.len() as u64;
            self.counts.payload_bytes = self.counts.payload_bytes.saturating_add(payload);
            return self.sender.frame(FrameType::Parity, [&header, symbol], out);
        }
        let len_max = if self.is_answered() {
            self.pace.piece_len()
        } else {
            ONE_WAY_LEN
        };
        if let Some(part) = self.window.next_part(len_max) {
            return self.piece(part, out);
        }
        let silence = self.silence_us(now_us);
        let after = if silence > SILENT_US {
            POLL_SILENT_US
        } else {
            POLL_AFTER_US
        };
        if self.is_answered() && now_us.saturating_sub(self.last_sent_us) >= after {
            return self.control_frame(FrameType::Poll, 0, out);
        }
        Ok(0)
    }

    /// Tells whether a host that is not heard is to be asked now.
    fn is_time_to_ask(&mut self, now_us: u64) -> bool {
        let is_heard = self.is_answered() && self.silence_us(now_us) <= SILENT_US;
        let asked_us = *self.last_asked_us.get_or_insert(now_us);
        if is_heard {
            self.ask_after_us = ASK_US;
        }
        let waited_us = now_us.saturating_sub(asked_us);
        let is_time = self.has_parity && !is_heard && waited_us >= self.ask_after_us;
        if is_time {
            self.last_asked_us = Some(now_us);
            self.ask_after_us = self.ask_after_us.saturating_mul(2).min(ASK_MAX_US);
        }
        is_time
    }

    /// Makes a frame of the first `len` bytes of what was queued.
    fn control_frame(
        &mut self,
        kind: FrameType,
        len: usize,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let payload = self.tables.control.get(..len).unwrap_or_default();
        let is_protected = self.has_parity && !self.is_answered();
        if is_protected {
            let sequence = self.sender.frames();
            self.parity.add(sequence, kind.code(), [payload, &[]]);
            if self.parity.is_full() {
                self.parity.close();
            }
        }
        self.sender.frame(kind, [payload, &[]], out)
    }

    fn piece(&mut self, part: Part, out: &mut [u8]) -> Result<usize, Error> {
        let mut bytes = [0; PIECE_MAX];
        let Some((offset, len)) = self.window.copy(part, &mut bytes) else {
            return Ok(0);
        };
        let header = Piece::header(part.block, offset);
        let bytes = bytes.get(..len).unwrap_or_default();
        let sequence = self.sender.frames();
        if self.is_answered() {
            let place = self.tables.records.get_mut(sequence as usize % RECORDS);
            if let Some(record) = place {
                let old = *record;
                *record = Record {
                    sequence,
                    part,
                    is_live: true,
                };
                if old.is_live {
                    self.window.lost(old.part);
                }
            }
        } else {
            if self.has_parity {
                let kind = FrameType::Block.code();
                self.parity.add(sequence, kind, [&header, bytes]);
                if self.parity.is_full() {
                    self.parity.close();
                }
            }
            self.window.drop_sent();
        }
        self.counts.payload_bytes = self.counts.payload_bytes.saturating_add(len as u64);
        self.sender.frame(FrameType::Block, [&header, bytes], out)
    }
}

fn is_set(map: &[u32; DONE_WORDS], number: u32) -> bool {
    map.get((number / u32::BITS) as usize)
        .is_some_and(|word| word & 1 << (number % u32::BITS) != 0)
}

fn set(map: &mut [u32; DONE_WORDS], number: u32) {
    if let Some(word) = map.get_mut((number / u32::BITS) as usize) {
        *word |= 1 << (number % u32::BITS);
    }
}
