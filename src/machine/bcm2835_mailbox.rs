// SPDX-License-Identifier: MIT OR Apache-2.0
//! The property mailbox of a BCM2835 and its successors: questions to the VideoCore's firmware.
//!
//! Sources: the wiki of github.com/raspberrypi/firmware, pages "Mailboxes", "Accessing mailboxes" and "Mailbox property interface";
//! Linux's drivers/mailbox/bcm2835-mailbox.c, drivers/firmware/raspberrypi.c and include/soc/bcm2835/raspberrypi-firmware.h. A
//! question is a buffer in memory, whose bus address is written to one mailbox; when the answer is in it, the same word comes out of
//! the other.
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

use core::fmt;

use crate::registers::Registers;

// Mailbox 0 is what the firmware sends, mailbox 1 what it is sent.
const READ: u64 = 0x00;
const READ_STATUS: u64 = 0x18;
const WRITE: u64 = 0x20;
const WRITE_STATUS: u64 = 0x38;
const FULL: u32 = 1 << 31;
const EMPTY: u32 = 1 << 30;
/// Words that a mailbox holds.
const DEPTH: u32 = 8;
/// Property tags, from the CPUs to the VideoCore.
const CHANNEL: u32 = 8;
/// Bits of a word that are the channel; the others are an address.
const CHANNELS: u32 = 0xf;

// Words of the buffer: its bytes in all, what it is, then one tag with room for two values, then no further tag.
const SIZE: u64 = 0x00;
const CODE: u64 = 0x04;
const TAG: u64 = 0x08;
const VALUE_SIZE: u64 = 0x0c;
const VALUE_LEN: u64 = 0x10;
const VALUES: [u64; 2] = [0x14, 0x18];
const END: u64 = 0x1c;
/// Bytes of the buffer.
pub(crate) const BUFFER_LEN: u64 = 0x20;
const REQUEST: u32 = 0;
const SUCCESS: u32 = 0x8000_0000;
/// In a tag's length: it was answered.
const ANSWERED: u32 = 1 << 31;
/// Bytes of the two values.
const VALUES_LEN: u32 = 8;

/// "Get clock rate": the clock; then the clock and its rate in Hz, 0 where there is none.
pub(crate) const GET_CLOCK_RATE: u32 = 0x0003_0002;
/// "Get VC memory": nothing; then address and bytes.
pub(crate) const GET_VC_MEMORY: u32 = 0x0001_0006;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The VideoCore does not see the buffer.
    OutOfReach,
    /// The mailbox did not take the question in time.
    Full,
    /// No answer came in time.
    Silent,
    /// The firmware could not read the question; the code that it gave.
    Refused(u32),
    /// It does not know the tag.
    Unknown(u32),
    /// It gave fewer bytes than the tag has.
    Short(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => f.write_str("the firmware does not see this kernel's memory"),
            Self::Full => f.write_str("the firmware takes no question"),
            Self::Silent => f.write_str("the firmware does not answer"),
            Self::Refused(code) => write!(f, "the firmware refused the question: {code:#x}"),
            Self::Unknown(tag) => write!(f, "the firmware does not know tag {tag:#x}"),
            Self::Short(len) => write!(f, "the firmware answered with {len} bytes"),
        }
    }
}

/// The mailboxes' registers, and the buffer: its words by offset, and where the firmware sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mailbox<R, B> {
    pub(crate) registers: R,
    pub(crate) buffer: B,
    pub(crate) bus_address: u32,
}

impl<R: Registers, B: Registers> Mailbox<R, B> {
    /// Asks for one tag. `sync` cleans the buffer from the caches and drops it there: the firmware is not coherent with them.
    ///
    /// What else the firmware had sent is dropped. It may write the buffer after this has returned [`Error::Silent`].
    pub(crate) fn ask(
        &self,
        tag: u32,
        values: [u32; 2],
        sync: impl Fn(),
        mut is_late: impl FnMut() -> bool,
    ) -> Result<[u32; 2], Error> {
        if self.bus_address & CHANNELS != 0 {
            return Err(Error::OutOfReach);
        }
        // What was sent before this question answers another.
        for _ in 0..DEPTH {
            if self.registers.read(READ_STATUS) & EMPTY != 0 {
                break;
            }
            self.registers.read(READ);
        }
        let [first, second] = values;
        for (offset, word) in [
            (SIZE, BUFFER_LEN as u32),
            (CODE, REQUEST),
            (TAG, tag),
            (VALUE_SIZE, VALUES_LEN),
            (VALUE_LEN, 0),
            (VALUES[0], first),
            (VALUES[1], second),
            (END, 0),
        ] {
            self.buffer.write(offset, word);
        }
        sync();
        while self.registers.read(WRITE_STATUS) & FULL != 0 {
            if is_late() {
                return Err(Error::Full);
            }
            core::hint::spin_loop();
        }
        let word = self.bus_address | CHANNEL;
        self.registers.write(WRITE, word);
        loop {
            if self.registers.read(READ_STATUS) & EMPTY == 0 {
                // Another channel's word is nobody's; one of an earlier question finds this one without an answer.
                if self.registers.read(READ) == word {
                    sync();
                    if self.buffer.read(CODE) != REQUEST {
                        return self.answer(tag);
                    }
                }
            }
            if is_late() {
                return Err(Error::Silent);
            }
            core::hint::spin_loop();
        }
    }

    fn answer(&self, tag: u32) -> Result<[u32; 2], Error> {
        let code = self.buffer.read(CODE);
        if code != SUCCESS {
            return Err(Error::Refused(code));
        }
        let len = self.buffer.read(VALUE_LEN);
        if len & ANSWERED == 0 || self.buffer.read(TAG) != tag {
            return Err(Error::Unknown(tag));
        }
        // It may say more than there was room for.
        if len & !ANSWERED < VALUES_LEN {
            return Err(Error::Short(len & !ANSWERED));
        }
        Ok(VALUES.map(|offset| self.buffer.read(offset)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::vec::Vec;

    const BUS: u32 = 0xc008_0040;
    /// Looks at the time after which it is late.
    const PATIENCE: u32 = 20;

    /// A chip whose firmware does with a question what the test says; the buffer is memory behind a cache of one line.
    struct Chip {
        memory: RefCell<[u32; 8]>,
        cache: RefCell<Option<[u32; 8]>>,
        is_dirty: Cell<bool>,
        sent: RefCell<VecDeque<u32>>,
        taken: RefCell<Vec<u32>>,
        is_full: Cell<bool>,
        looks: Cell<u32>,
        firmware: fn(&Self, u32),
    }

    fn chip(firmware: fn(&Chip, u32)) -> Chip {
        Chip {
            memory: RefCell::new([0xdead_beef; 8]),
            cache: RefCell::default(),
            is_dirty: Cell::new(false),
            sent: RefCell::default(),
            taken: RefCell::default(),
            is_full: Cell::new(false),
            looks: Cell::new(0),
            firmware,
        }
    }

    impl Chip {
        /// What the CPU sees: a line is fetched once.
        fn line(&self) -> std::cell::RefMut<'_, [u32; 8]> {
            let memory = *self.memory.borrow();
            std::cell::RefMut::map(self.cache.borrow_mut(), |line| line.get_or_insert(memory))
        }

        fn clean_invalidate(&self) {
            let line = self.cache.take();
            if let Some(line) = line.filter(|_| self.is_dirty.take()) {
                *self.memory.borrow_mut() = line;
            }
            // Speculation may fetch it again at once.
            drop(self.line());
        }

        fn ask(&self, tag: u32, values: [u32; 2]) -> Result<[u32; 2], Error> {
            self.mailbox()
                .ask(tag, values, || self.clean_invalidate(), || self.is_late())
        }

        fn mailbox(&self) -> Mailbox<&Self, Buffer<'_>> {
            Mailbox {
                registers: self,
                buffer: Buffer(self),
                bus_address: BUS,
            }
        }

        fn is_late(&self) -> bool {
            self.looks.set(self.looks.get() + 1);
            self.looks.get() > PATIENCE
        }

        /// Writes the answer over the question and sends its word.
        fn answers(&self, code: u32, len: u32, values: [u32; 2]) {
            let mut memory = self.memory.borrow_mut();
            (memory[1], memory[4]) = (code, len);
            [memory[5], memory[6]] = values;
            self.sent.borrow_mut().push_back(BUS | 8);
        }
    }

    impl Registers for &Chip {
        fn read(&self, offset: u64) -> u32 {
            match offset {
                0x00 => {
                    let word = self.sent.borrow_mut().pop_front();
                    word.expect("an empty mailbox is not read")
                }
                0x18 if self.sent.borrow().is_empty() => 1 << 30,
                0x38 if self.is_full.get() => 1 << 31,
                0x18 | 0x38 => 0,
                _ => panic!("{offset:#x} read"),
            }
        }

        fn write(&self, offset: u64, value: u32) {
            assert_eq!(offset, 0x20, "the CPUs write mailbox 1 only");
            self.taken.borrow_mut().push(value);
            (self.firmware)(self, value);
        }
    }

    struct Buffer<'a>(&'a Chip);

    impl Registers for Buffer<'_> {
        fn read(&self, offset: u64) -> u32 {
            self.0.line()[offset as usize / 4]
        }
        fn write(&self, offset: u64, value: u32) {
            self.0.line()[offset as usize / 4] = value;
            self.0.is_dirty.set(true);
        }
    }

    #[test]
    fn question_is_laid_out_as_the_wiki_says() {
        let chip = chip(|chip, word| {
            assert_eq!(word, 0xc008_0048, "bus address and channel 8");
            let memory = *chip.memory.borrow();
            assert_eq!(memory, [32, 0, 0x0003_0002, 8, 0, 4, 0, 0]);
            chip.answers(0x8000_0000, 0x8000_0008, [4, 250_000_000]);
        });
        let rate = chip.ask(GET_CLOCK_RATE, [4, 0]);
        assert_eq!(rate, Ok([4, 250_000_000]));
        assert_eq!(*chip.taken.borrow(), [0xc008_0048]);
    }

    #[test]
    fn memory_of_the_videocore_is_told() {
        let chip = chip(|chip, _| {
            assert_eq!(chip.memory.borrow()[2], 0x0001_0006);
            chip.answers(0x8000_0000, 0x8000_0008, [0x3b40_0000, 0x04c0_0000]);
        });
        assert_eq!(
            chip.ask(GET_VC_MEMORY, [0, 0]),
            Ok([0x3b40_0000, 0x04c0_0000])
        );
    }

    #[test]
    fn firmware_that_never_answers_is_waited_for_and_left() {
        let chip = chip(|_, _| {});
        assert_eq!(chip.ask(GET_VC_MEMORY, [0, 0]), Err(Error::Silent));
        assert_eq!(chip.looks.get(), PATIENCE + 1);
    }

    #[test]
    fn full_mailbox_is_waited_for_and_not_written() {
        let chip = chip(|_, _| {});
        chip.is_full.set(true);
        assert_eq!(chip.ask(GET_VC_MEMORY, [0, 0]), Err(Error::Full));
        assert_eq!(*chip.taken.borrow(), []);
    }

    #[test]
    fn words_from_before_the_question_are_dropped() {
        let chip = chip(|chip, _| chip.answers(0x8000_0000, 0x8000_0008, [4, 7]));
        // A framebuffer's, and an answer to a question that nobody waited for: the mailbox is full.
        chip.sent
            .borrow_mut()
            .extend([0x1231, BUS | 8, 2, 3, 4, 5, 6, BUS | 8]);
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Ok([4, 7]));
    }

    #[test]
    fn stale_words_after_the_question_are_no_answer() {
        let chip = chip(|chip, _| {
            // Another channel with our address; our channel with another address; our word, and nothing answered.
            chip.sent
                .borrow_mut()
                .extend([BUS | 1, 0xc000_1008, BUS | 8]);
        });
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(Error::Silent));
        assert!(chip.sent.borrow().is_empty());
    }

    #[test]
    fn answer_behind_stale_words_is_found() {
        let chip = chip(|chip, _| {
            chip.sent.borrow_mut().extend([BUS | 1, 0xc000_1008]);
            chip.answers(0x8000_0000, 0x8000_0008, [4, 7]);
        });
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Ok([4, 7]));
    }

    #[test]
    fn firmware_that_sends_for_ever_is_left() {
        let chip = chip(|chip, _| chip.sent.borrow_mut().extend([1; 1000]));
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(Error::Silent));
        // Also before a question.
        chip.looks.set(0);
        assert!(chip.sent.borrow().len() > 8);
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(Error::Silent));
    }

    #[test]
    fn question_that_could_not_be_read_is_refused() {
        let chip = chip(|chip, _| chip.answers(0x8000_0001, 0x8000_0008, [4, 7]));
        let refused = Error::Refused(0x8000_0001);
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(refused));
    }

    #[test]
    fn tag_that_is_not_known_has_no_response_bit() {
        let chip = chip(|chip, _| chip.answers(0x8000_0000, 8, [4, 7]));
        let unknown = Error::Unknown(GET_CLOCK_RATE);
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(unknown));
    }

    #[test]
    fn answer_to_another_tag_is_none() {
        let chip = chip(|chip, _| {
            chip.memory.borrow_mut()[2] = GET_VC_MEMORY;
            chip.answers(0x8000_0000, 0x8000_0008, [4, 7]);
        });
        let unknown = Error::Unknown(GET_CLOCK_RATE);
        assert_eq!(chip.ask(GET_CLOCK_RATE, [4, 0]), Err(unknown));
    }

    #[test]
    fn values_that_are_too_short_are_no_answer_and_longer_ones_are() {
        let short = chip(|chip, _| chip.answers(0x8000_0000, 0x8000_0004, [4, 7]));
        assert_eq!(short.ask(GET_CLOCK_RATE, [4, 0]), Err(Error::Short(4)));
        let long = chip(|chip, _| chip.answers(0x8000_0000, 0x8000_0010, [4, 7]));
        assert_eq!(long.ask(GET_CLOCK_RATE, [4, 0]), Ok([4, 7]));
    }

    #[test]
    fn buffer_whose_address_would_name_a_channel_is_not_sent() {
        let chip = chip(|_, _| {});
        let mailbox = Mailbox {
            bus_address: BUS | 4,
            ..chip.mailbox()
        };
        let found = mailbox.ask(GET_VC_MEMORY, [0, 0], || {}, || chip.is_late());
        assert_eq!(found, Err(Error::OutOfReach));
        assert_eq!(*chip.taken.borrow(), []);
    }

    #[test]
    fn answer_is_not_taken_from_the_cache() {
        // Without the caches' upkeep the question is not in memory, and the answer not seen.
        let chip = chip(|chip, _| {
            assert_ne!(chip.memory.borrow()[2], GET_CLOCK_RATE);
            chip.answers(0x8000_0000, 0x8000_0008, [4, 7]);
        });
        let mailbox = chip.mailbox();
        let asked = mailbox.ask(GET_CLOCK_RATE, [4, 0], || {}, || chip.is_late());
        assert_eq!(asked, Err(Error::Silent));
    }
}
