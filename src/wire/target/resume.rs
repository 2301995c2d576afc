// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going on after the sender itself was started anew.

use super::Target;

impl Target<'_> {
    /// Numbers frames from `sequence` on, so that a host takes them for later ones than all that came before.
    pub const fn go_on_at(&mut self, sequence: u32) {
        self.sender.go_on_at(sequence);
    }

    /// Returns the number of the first block that has not been handed out whole; `None` when all have.
    #[must_use]
    pub fn first_unsent(&self) -> Option<u32> {
        self.window.first_unsent()
    }
}
