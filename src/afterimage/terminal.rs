// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's terminal: raw mode with a guard, and text made harmless before we print it.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::termios::{OptionalActions, OutputModes, Termios};

use crate::error::{Error, Result};

/// The keyboard in raw mode; the terminal is restored when this is dropped.
#[derive(Debug)]
pub struct RawKeyboard {
    fd: OwnedFd,
    saved: Option<Termios>,
}

impl RawKeyboard {
    /// Takes standard input, in raw mode if it is a terminal.
    ///
    /// # Errors
    ///
    /// [`Error::Terminal`] when the terminal refuses.
    pub fn open() -> Result<Self> {
        let stdin = io::stdin();
        let fd = stdin
            .as_fd()
            .try_clone_to_owned()
            .map_err(Error::Terminal)?;
        if !stdin.is_terminal() {
            return Ok(Self { fd, saved: None });
        }
        let fail = |e: rustix::io::Errno| Error::Terminal(e.into());
        let saved = rustix::termios::tcgetattr(&fd).map_err(fail)?;
        let mut raw = saved.clone();
        raw.make_raw();
        // Our own lines end in '\n' alone, and so do many kernels'.
        raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Self {
            fd,
            saved: Some(saved),
        })
    }

    /// Returns the descriptor to poll and read.
    #[must_use]
    pub const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Returns whether a person types on it.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.saved.is_some()
    }
}

impl Drop for RawKeyboard {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            // Nothing can be done about a terminal that is gone.
            let _ = rustix::termios::tcsetattr(&self.fd, OptionalActions::Now, saved);
        }
    }
}

/// Returns `text` without terminal escapes and control characters; newlines and tabs stay.
///
/// What a crashed machine says must not move our user's cursor or answer for him.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            // The 8-bit form of CSI (ECMA-48 section 5.4).
            '\u{9b}' => skip_csi(&mut rest),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_escape(rest: &mut Chars<'_>) {
    match rest.peek().copied() {
        Some('[') => {
            rest.next();
            skip_csi(rest);
        }
        // OSC, DCS, SOS, PM, APC: up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            rest.next();
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\u{7}' || c == '\u{9c}' {
                    return;
                }
                if c == '\u{1b}' && rest.next_if_eq(&'\\').is_some() {
                    return;
                }
            }
        }
        Some(' '..='/') => {
            while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            rest.next_if(|c| matches!(c, '0'..='~'));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

fn skip_csi(rest: &mut Chars<'_>) {
    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    rest.next_if(|c| matches!(c, '@'..='~'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        assert_eq!(harmless("a\tb\nü"), "a\tb\nü");
    }

    #[test]
    fn colours_and_titles_are_removed() {
        assert_eq!(harmless("\u{1b}[1;31mred\u{1b}[0m"), "red");
        assert_eq!(harmless("\u{1b}]0;title\u{7}text"), "text");
        assert_eq!(harmless("\u{1b}]0;title\u{1b}\\text"), "text");
        assert_eq!(harmless("\u{9b}2Jx"), "x");
    }

    #[test]
    fn unfinished_escape_takes_at_most_its_line() {
        assert_eq!(harmless("\u{1b}]0;never ends\nnext"), "\nnext");
        assert_eq!(harmless("end\u{1b}"), "end");
    }

    #[test]
    fn bells_backspaces_and_returns_are_removed() {
        assert_eq!(harmless("a\u{7}\u{8}\rb\u{7f}"), "ab");
    }
}
