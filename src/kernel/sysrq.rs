// SPDX-License-Identifier: MIT OR Apache-2.0
//! Magic SysRq on the console: BREAK, or a sequence of bytes for lines without one, then a command byte.

use machine::pl011::Received;
use spin::Mutex;
use vmcore::afterimage_notes::CrashKind;

use crate::{crash, status};

/// Longest sequence that is kept; a longer one is cut and said so.
const MAX_SEQUENCE: usize = 32;

struct State {
    sequence: [u8; MAX_SEQUENCE],
    len: usize,
    /// Bytes of the sequence seen so far.
    seen: usize,
    is_armed: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    sequence: [0; MAX_SEQUENCE],
    len: 0,
    seen: 0,
    is_armed: false,
});

/// Sets the sequence that stands for BREAK.
pub(crate) fn set_sequence(sequence: &str) {
    machine::arch::without_irq(|| {
        let mut state = STATE.lock();
        let bytes = sequence.as_bytes();
        if bytes.len() > MAX_SEQUENCE {
            log::warn!("sysrq_sequence= is cut to {MAX_SEQUENCE} bytes");
        }
        state.len = bytes.len().min(MAX_SEQUENCE);
        for (to, from) in state.sequence.iter_mut().zip(bytes) {
            *to = *from;
        }
    });
}

/// Takes what the console received. In interrupt context.
pub(crate) fn received(received: Received) {
    let command = {
        let Some(mut state) = STATE.try_lock() else {
            return;
        };
        match received {
            Received::Break => {
                state.is_armed = true;
                None
            }
            Received::Byte(byte) if state.is_armed => {
                state.is_armed = false;
                Some(byte)
            }
            Received::Byte(byte) => {
                state.advance(byte);
                None
            }
        }
    };
    if let Some(command) = command {
        run(command);
    }
}

impl State {
    fn advance(&mut self, byte: u8) {
        let expects =
            |seen: usize| self.sequence.get(seen).filter(|_| seen < self.len) == Some(&byte);
        // A run of the first byte keeps matching at its end ("~~~~SysRq").
        self.seen = if expects(self.seen) {
            self.seen + 1
        } else if self.seen > 0 && expects(self.seen - 1) {
            self.seen
        } else {
            usize::from(expects(0))
        };
        if self.len != 0 && self.seen == self.len {
            self.seen = 0;
            self.is_armed = true;
        }
    }
}

fn run(command: u8) {
    match command {
        b'c' => {
            let registers = machine::exceptions::capture_registers();
            crash::die(
                CrashKind::SysRq,
                &crash::notes::registers(&registers),
                None,
                format_args!("sysrq: Trigger a crash"),
            )
        }
        b'k' => {
            let status = crash::status();
            log::info!(
                "sysrq: crash region {:#x}, {} bytes, capture kernel {}, EL2 stub {}",
                status.region_start,
                status.region_bytes,
                if status.is_loaded {
                    "loaded"
                } else {
                    "not loaded"
                },
                if status.has_stub { "present" } else { "absent" }
            );
        }
        b'm' => match crate::HEAP.usage() {
            Some(usage) => log::info!(
                "sysrq: heap of {} bytes, {} in use",
                usage.total,
                usage.used
            ),
            None => log::warn!("sysrq: another CPU keeps the heap"),
        },
        b's' => status::answer_status(),
        b'e' => status::answer_estimate(),
        b't' => status::answer_test(),
        _ => log::info!(
            "sysrq: c crash, k crash region, t dry run of a crash, m memory, s status and e estimate for programs, h help"
        ),
    }
}
