// SPDX-License-Identifier: MIT OR Apache-2.0
//! Beginning: a pass over all blocks, and the same dump once more after its end.

use super::baud::Negotiation;
use super::memory::{Counts, DONE_WORDS};
use super::pace::Pace;
use super::{ASK_US, Target};
use crate::receiver::Receiver;

impl Target<'_> {
    /// Begins at the first block again: drops what is on its way. To be called before the first block of each pass.
    pub fn begin_pass(&mut self) {
        self.is_new_session = false;
        self.window.clear();
        self.parity.clear();
        self.want = None;
        self.tables.forget_frames();
    }

    /// Starts the dump anew with nobody answering, as [`Target::new`] does; what a host says by then counts again. Sequence
    /// numbers go on, so that a host that heard the end before is not misled. Rates have to be allowed again.
    pub fn restart(&mut self) {
        self.begin_pass();
        self.tables.receiver = Receiver::new();
        self.tables.done = [0; DONE_WORDS];
        self.pace = Pace::default();
        self.done_below = 0;
        self.control_len = 0;
        self.control_kind = None;
        self.session = None;
        self.has_finished = false;
        self.wants_offers = false;
        self.has_bad_offers = false;
        self.last_asked_us = None;
        self.ask_after_us = ASK_US;
        self.last_rejected_us = None;
        self.negotiation = Negotiation::new();
        self.counts = Counts::default();
    }
}
