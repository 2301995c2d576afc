// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DMA controller of a BCM2835 and its successors, as far as seeing goes what its channels write (BCM2835 ARM Peripherals, chapter 4).
//!
//! Some channels are the VideoCore's. Nothing is written to any: what a channel is at stands in its registers.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use crate::registers::Registers;

/// Bytes of a channel's registers.
pub(crate) const CHANNEL_LEN: u64 = 0x100;
/// Channels that lie side by side.
pub(crate) const CHANNELS: u64 = 15;

// Section 4.2.1.2. What stands behind CONBLK_AD is the control block at work, and counts with it.
const CS: u64 = 0;
const CS_ACTIVE: u32 = 1;
const TI: u64 = 0x08;
const TI_2D: u32 = 1 << 1;
const TI_DEST_INC: u32 = 1 << 4;
const TI_DEST_IGNORE: u32 = 1 << 7;
const DEST_AD: u64 = 0x10;
const TXFR_LEN: u64 = 0x14;
const STRIDE: u64 = 0x18;

/// What a channel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Its first byte, as the controller sees it.
    pub(crate) bus_address: u32,
    /// Bytes from there to the last one.
    pub(crate) len: u64,
}

/// Returns what the channel whose registers begin at `channel` × [`CHANNEL_LEN`] is writing to memory; `None` when it rests, or feeds a device.
pub(crate) fn transfer(registers: &impl Registers, channel: u64) -> Option<Transfer> {
    let base = channel.wrapping_mul(CHANNEL_LEN);
    let read = |register: u64| registers.read(base.wrapping_add(register));
    if read(CS) & CS_ACTIVE == 0 {
        return None;
    }
    let what = read(TI);
    // A device's register stays where it is.
    if what & TI_DEST_INC == 0 || what & TI_DEST_IGNORE != 0 {
        return None;
    }
    let len = read(TXFR_LEN) & 0x3fff_ffff;
    let len = if what & TI_2D == 0 {
        u64::from(len)
    } else {
        // Rows, one more than the field says, and from the end of one to the start of the next; back from there is not further than the first.
        let (row, rows) = (
            u64::from(len & 0xffff),
            u64::from(len >> 16).saturating_add(1),
        );
        let stride = (read(STRIDE) >> 16) as u16 as i16;
        let gap = u64::try_from(stride).unwrap_or(0);
        row.saturating_add(gap)
            .saturating_mul(rows)
            .saturating_sub(gap)
    };
    (len > 0).then(|| Transfer {
        bus_address: read(DEST_AD),
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::Fake;

    /// Channel 5 at work on this block.
    fn at_work(what: u32, destination: u32, len: u32, stride: u32) -> Fake {
        let fake = Fake::default();
        for (register, value) in [
            (0x00, 1),
            (0x08, what),
            (0x10, destination),
            (0x14, len),
            (0x18, stride),
        ] {
            fake.set(0x500 + register, value);
        }
        fake
    }

    fn found(fake: &Fake) -> Option<(u32, u64)> {
        let found = transfer(&fake, 5).map(|it| (it.bus_address, it.len));
        assert!(fake.written.borrow().is_empty(), "looking changes nothing");
        found
    }

    #[test]
    fn channel_that_writes_memory_is_seen() {
        // DEST_INC and WAIT_RESP, 64 KiB at 0xc0100000.
        let fake = at_work(0x18, 0xc010_0000, 0x1_0000, 0);
        assert_eq!(found(&fake), Some((0xc010_0000, 0x1_0000)));
        let at_work = (0..CHANNELS).filter(|channel| transfer(&&fake, *channel).is_some());
        assert_eq!(at_work.count(), 1, "its neighbours rest");
    }

    #[test]
    fn channel_that_rests_or_feeds_a_device_writes_no_memory() {
        let resting = at_work(0x18, 0xc010_0000, 0x1000, 0);
        resting.set(0x500, 0x2);
        assert_eq!(found(&resting), None, "END without ACTIVE");
        // SRC_INC, DEST_DREQ: to a FIFO; and DEST_IGNORE, to nowhere.
        assert_eq!(found(&at_work(0x140, 0x7e20_3004, 0x1000, 0)), None);
        assert_eq!(found(&at_work(0x90, 0xc010_0000, 0x1000, 0)), None);
        assert_eq!(found(&at_work(0x10, 0xc010_0000, 0, 0)), None);
    }

    #[test]
    fn rows_reach_from_the_first_byte_to_the_last() {
        // 2 rows of 0x100 bytes, 0x40 apart; and 3 of them back to back.
        let gap = at_work(0x12, 0xc010_0000, 1 << 16 | 0x100, 0x40 << 16);
        assert_eq!(found(&gap), Some((0xc010_0000, 0x240)));
        let none = at_work(0x12, 0xc010_0000, 2 << 16 | 0x100, 0);
        assert_eq!(found(&none), Some((0xc010_0000, 0x300)));
        // Backwards over itself.
        let back = at_work(0x12, 0xc010_0000, 1 << 16 | 0x100, 0xff00 << 16);
        assert_eq!(found(&back), Some((0xc010_0000, 0x200)));
        let most = at_work(0x12, 0xffff_ffff, u32::MAX, 0x7fff << 16);
        assert!(found(&most).is_some_and(|(_, len)| len < 1 << 32));
    }
}
