// SPDX-License-Identifier: MIT OR Apache-2.0
//! `dump_then=wait`: after the dump, somebody at the console decides what is next.
//!
//! The line may still carry a host's frames, and noise. A command throws the crashed machine away, so it is taken only when a
//! line holds it and nothing else, and the line is then quiet for a moment: no frame looks like that.

use core::fmt;

use crate::params::DumpThen;
use crate::text::Text;
use crate::{Clock, Line, Work};

/// Longest command line.
const LINE_BYTES: usize = 16;
/// Quiet after a line's end until it is obeyed, in microseconds.
const QUIET_US: u64 = 100_000;
/// Quiet after a byte that nobody types until the line is listened to again, in microseconds.
const NOISE_US: u64 = 300_000;
/// Bytes of what is said to one command.
const ANSWER_BYTES: usize = 512;
/// Bytes that are read in one look.
const READ_MAX: usize = 64;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The dump once more.
    Again,
    /// An end.
    Then(DumpThen),
    /// What crashed.
    Info,
    /// The list of commands.
    Help,
    /// A line that is none of these.
    Unknown,
}

/// The line that is being typed.
#[derive(Debug, Default)]
pub(crate) struct Prompt {
    typed: [u8; LINE_BYTES],
    len: usize,
    is_ended: bool,
    /// What comes is no typing.
    is_noise: bool,
    last_us: u64,
}

impl Prompt {
    /// Takes a byte from the line; returns it when it is to be echoed.
    pub(crate) fn push(&mut self, byte: u8, now_us: u64) -> Option<u8> {
        self.last_us = now_us;
        if self.is_noise {
            return None;
        }
        let is_end = matches!(byte, b'\r' | b'\n');
        // More behind a whole line is no typing, except the other half of CR LF.
        if self.is_ended && !is_end {
            return self.noise();
        }
        match byte {
            b'\r' | b'\n' => {
                let was_ended = self.is_ended;
                self.is_ended = true;
                (!was_ended).then_some(b'\n')
            }
            // Backspace, DEL.
            8 | 127 => {
                self.len = self.len.saturating_sub(1);
                None
            }
            b' '..=b'~' => match self.typed.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len = self.len.saturating_add(1);
                    Some(byte)
                }
                None => self.noise(),
            },
            _ => self.noise(),
        }
    }

    fn noise(&mut self) -> Option<u8> {
        self.is_noise = true;
        self.is_ended = false;
        self.len = 0;
        None
    }

    /// Returns the command, once its line has ended and been quiet.
    pub(crate) fn poll(&mut self, now_us: u64) -> Option<Command> {
        let quiet_us = now_us.saturating_sub(self.last_us);
        if self.is_noise && quiet_us >= NOISE_US {
            *self = Self::default();
        }
        if !self.is_ended || quiet_us < QUIET_US {
            return None;
        }
        let line = self.typed.get(..self.len).unwrap_or_default();
        let command = match line.trim_ascii() {
            b"" | b"?" => Command::Help,
            b"r" => Command::Then(DumpThen::Reboot),
            b"h" => Command::Then(DumpThen::Halt),
            b"p" => Command::Then(DumpThen::PowerOff),
            b"d" => Command::Again,
            b"i" => Command::Info,
            _ => Command::Unknown,
        };
        *self = Self::default();
        Some(command)
    }
}

/// Waits, for ever if need be, for a command that the caller has to obey.
pub(crate) fn ask(line: &mut impl Line, clock: &impl Clock, counter_hz: u64) -> Command {
    let mut prompt = Prompt::default();
    say(
        line,
        format_args!("Afterimage: waiting for a command, ? for help"),
    );
    loop {
        let ticks = u128::from(clock.ticks()).saturating_mul(1_000_000);
        let now_us = ticks.checked_div(u128::from(counter_hz)).unwrap_or(0);
        let now_us = u64::try_from(now_us).unwrap_or(u64::MAX);
        for _ in 0..READ_MAX {
            let Some(byte) = line.read() else { break };
            match prompt.push(byte, now_us) {
                Some(b'\n') => say(line, format_args!("")),
                // What the line does not take at once is not echoed.
                Some(echo) => drop(line.write_text(&[echo])),
                None => {}
            }
        }
        match prompt.poll(now_us) {
            Some(Command::Help) => say(
                line,
                format_args!(
                    "r reboot, h halt, p power off, d dump again, i what crashed, ? this help"
                ),
            ),
            Some(Command::Unknown) => say(line, format_args!("no such command, ? for help")),
            Some(command) => return command,
            None => line.spent(Work::Prompt),
        }
    }
}

fn say(line: &mut impl Line, what: fmt::Arguments<'_>) {
    let mut text = Text::new(line, ANSWER_BYTES);
    text.say(what);
    // Somebody who does not see the answer may ask again.
    let _lost = text.finish();
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// Types `bytes` at once and then waits.
    fn typed(prompt: &mut Prompt, bytes: &[u8], at_us: u64) -> Option<Command> {
        bytes.iter().for_each(|byte| {
            prompt.push(*byte, at_us);
        });
        prompt.poll(at_us + QUIET_US)
    }

    #[test]
    fn line_of_one_letter_is_a_command() {
        let of = |line: &[u8]| typed(&mut Prompt::default(), line, 7);
        assert_eq!(of(b"r\r"), Some(Command::Then(DumpThen::Reboot)));
        assert_eq!(of(b"h\n"), Some(Command::Then(DumpThen::Halt)));
        assert_eq!(of(b"p\r\n"), Some(Command::Then(DumpThen::PowerOff)));
        assert_eq!(of(b" d \r"), Some(Command::Again));
        assert_eq!(of(b"i\r"), Some(Command::Info));
        assert_eq!(of(b"?\r"), Some(Command::Help));
        assert_eq!(of(b"\r"), Some(Command::Help));
    }

    #[test]
    fn line_that_is_mistyped_is_unknown() {
        let of = |line: &[u8]| typed(&mut Prompt::default(), line, 7);
        assert_eq!(of(b"rr\r"), Some(Command::Unknown));
        assert_eq!(of(b"reboot\r"), Some(Command::Unknown));
        assert_eq!(of(b"x\x7fr\r"), Some(Command::Then(DumpThen::Reboot)));
    }

    #[test]
    fn line_without_its_end_or_quiet_is_not_obeyed() {
        let mut prompt = Prompt::default();
        assert_eq!(typed(&mut prompt, b"r", 0), None);
        prompt.push(b'\r', 1_000_000);
        assert_eq!(prompt.poll(1_000_000 + QUIET_US - 1), None);
        assert_eq!(
            prompt.poll(1_000_000 + QUIET_US),
            Some(Command::Then(DumpThen::Reboot))
        );
    }

    #[test]
    fn command_inside_a_stream_is_noise() {
        let mut prompt = Prompt::default();
        assert_eq!(typed(&mut prompt, b"r\rmore\r", 0), None);
        assert_eq!(typed(&mut prompt, b"r\r", NOISE_US - 1), None);
        let later = 10 * NOISE_US;
        assert_eq!(prompt.poll(later), None);
        assert_eq!(
            typed(&mut prompt, b"r\r", later),
            Some(Command::Then(DumpThen::Reboot))
        );
    }

    #[test]
    fn frame_that_holds_a_command_is_noise() {
        let mut prompt = Prompt::default();
        assert_eq!(typed(&mut prompt, b"\0\rr\r", 0), None);
        assert_eq!(prompt.poll(NOISE_US), None);
        assert_eq!(typed(&mut prompt, b"\xffp\r\0", NOISE_US), None);
    }

    #[test]
    fn line_without_end_is_noise() {
        let mut prompt = Prompt::default();
        let mut echoed = Vec::new();
        (0..1000).for_each(|at| echoed.extend(prompt.push(b'r', at)));
        assert_eq!(echoed.len(), LINE_BYTES);
        assert_eq!(typed(&mut prompt, b"\r", 1000), None);
    }

    proptest::proptest! {
        #[test]
        fn bytes_arbitrary_never_end_the_machine_in_a_stream(bytes in proptest::collection::vec(0_u8.., 3..300)) {
            let mut prompt = Prompt::default();
            // Whatever comes without a pause and is longer than a command is none.
            let is_typed = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 8 | 127 | b' '..=b'~'));
            let found = typed(&mut prompt, &bytes, 5);
            proptest::prop_assert!(is_typed || !matches!(found, Some(Command::Then(_) | Command::Again)));
        }
    }
}
