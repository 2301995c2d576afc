// SPDX-License-Identifier: MIT OR Apache-2.0
//! The serial line: the test is the reader between QEMU and the host command.
//!
//! Every byte is recorded. Reading can be held at the first frame: QEMU then stalls the CPU within some hundred bytes,
//! and memory can be looked at as it was when the capture kernel began to send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::bridge::Bridge;
use crate::wait::Deadline;

/// Bytes of the line's end that a failure shows.
const SHOWN_TAIL: usize = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Never,
    AtFirstFrame,
    Holding,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    hold: Hold,
    is_closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of a running machine.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    stream: UnixStream,
    deadline: Deadline,
}

impl Console {
    /// Starts to record what comes on `stream`; holds at the first frame if asked to.
    pub(crate) fn new(stream: UnixStream, hold_at_first_frame: bool, deadline: Deadline) -> Self {
        let hold = if hold_at_first_frame {
            Hold::AtFirstFrame
        } else {
            Hold::Never
        };
        let state = State {
            bytes: Vec::new(),
            hold,
            is_closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let reader = stream.try_clone().expect("a second handle of a socket");
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || record(reader, &theirs));
        Self {
            shared,
            stream,
            deadline,
        }
    }

    /// Waits for `needle` on the line, wherever in it.
    ///
    /// # Panics
    /// It did not come.
    pub fn wait_for(&self, needle: &str) {
        self.wait_for_from(needle, 0);
    }

    /// Waits for `needle` behind the first `from` bytes, and returns where it ends.
    ///
    /// # Panics
    /// It did not come.
    pub fn wait_for_from(&self, needle: &str, from: usize) -> usize {
        let mut searched = from;
        let found = self.wait(|state| {
            let at = find(
                state.bytes.get(searched..).unwrap_or(&[]),
                needle.as_bytes(),
            )
            .map(|at| searched + at);
            searched = state.bytes.len().saturating_sub(needle.len()).max(from);
            at
        });
        match found {
            Some(at) => at + needle.len(),
            None => panic!(
                "{needle:?} did not come on the line:\n{}",
                self.transcript()
            ),
        }
    }

    /// Waits for any of `needles`; false when the machine's time is over first.
    #[must_use]
    pub fn has_come(&self, needles: &[&str]) -> bool {
        let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or(0);
        let mut searched = 0;
        let found = self.wait(|state| {
            let new = state.bytes.get(searched..).unwrap_or(&[]);
            let is_there = |needle: &&str| find(new, needle.as_bytes()).is_some();
            let found = needles.iter().any(is_there).then_some(());
            searched = state.bytes.len().saturating_sub(longest);
            found
        });
        found.is_some()
    }

    /// Waits until reading is held at the first frame.
    ///
    /// # Panics
    /// No frame came.
    pub fn wait_for_hold(&self) {
        if self
            .wait(|state| (state.hold == Hold::Holding).then_some(()))
            .is_none()
        {
            panic!("no frame came on the line:\n{}", self.transcript());
        }
    }

    /// Goes on reading after [`Self::wait_for_hold`].
    pub fn release(&self) {
        self.shared.state().hold = Hold::Never;
        self.shared.changed.notify_all();
    }

    /// Sends `bytes` to the machine.
    ///
    /// # Panics
    /// QEMU is gone.
    pub fn send(&self, bytes: &[u8]) {
        if let Err(error) = (&self.stream).write_all(bytes) {
            panic!("the line takes no bytes: {error}\n{}", self.transcript());
        }
    }

    /// Everything that came so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.state().bytes.clone()
    }

    /// Starts to connect hosts on the Unix socket `path` with the line, one after the other.
    ///
    /// # Panics
    /// The socket cannot be made.
    #[must_use]
    pub fn bridge(&self, path: &Path, errors_per_million: u64) -> Bridge {
        let shared = Arc::clone(&self.shared);
        let take = move |from: usize| {
            let state = shared.state();
            state.bytes.get(from..).unwrap_or_default().to_vec()
        };
        let stream = self.stream.try_clone().expect("a third handle of a socket");
        Bridge::start(path, stream, take, errors_per_million)
    }

    /// The same as text, what is no UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Text before the first frame, and the end of the line.
    #[must_use]
    pub fn transcript(&self) -> String {
        let bytes = self.bytes();
        let text_len = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        let (text, frames) = bytes.split_at(text_len);
        let tail = frames
            .get(frames.len().saturating_sub(SHOWN_TAIL)..)
            .unwrap_or(&[]);
        let tail: String = tail
            .iter()
            .filter(|byte| byte.is_ascii_graphic() || b" \n".contains(byte))
            .map(|byte| *byte as char)
            .collect();
        format!(
            "{}\n[{} bytes of frames and text]\n{tail}",
            String::from_utf8_lossy(text),
            frames.len()
        )
    }

    fn wait<T>(&self, mut probe: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let mut state = self.shared.state();
        loop {
            if let Some(found) = probe(&state) {
                return Some(found);
            }
            if state.is_closed || self.deadline.is_past() {
                return None;
            }
            let wait = self
                .shared
                .changed
                .wait_timeout(state, self.deadline.remaining());
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.release();
        // The peer may have closed it already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn record(mut from: UnixStream, shared: &Shared) {
    let mut part = [0_u8; 4096];
    loop {
        let len = from.read(&mut part).unwrap_or(0);
        let mut state = shared.state();
        state.is_closed = len == 0;
        let new = part.get(..len).unwrap_or(&[]);
        state.bytes.extend_from_slice(new);
        if state.hold == Hold::AtFirstFrame && new.contains(&0) {
            state.hold = Hold::Holding;
        }
        shared.changed.notify_all();
        while state.hold == Hold::Holding {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return;
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
