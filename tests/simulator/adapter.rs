// SPDX-License-Identifier: MIT OR Apache-2.0
//! The USB serial adapter at the host: bytes travel in bundles, and the rate is the host's to set.
//!
//! As an FTDI adapter does: towards the host a bundle leaves when it holds 62 bytes, or when the latency timer runs out.

use std::collections::VecDeque;

use crate::uart::byte_ns;

/// Bytes of a full bundle: a USB packet of 64 with two bytes of status.
const BUNDLE: usize = 62;

/// How an adapter delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Period of the latency timer, in nanoseconds.
    pub timer_ns: u64,
    /// Time of a bundle on its way, in either direction, in nanoseconds.
    pub way_ns: u64,
}

impl Latency {
    /// An FTDI adapter as it comes: 16 ms, and a millisecond of USB.
    pub const USB: Self = Self {
        timer_ns: 16_000_000,
        way_ns: 1_000_000,
    };
}

/// What the host hands to the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bytes to send.
    Send(Vec<u8>),
    /// A rate in baud, once all before has left.
    SetBaud(u32),
}

/// The adapter.
#[derive(Clone, Debug)]
pub struct Adapter {
    baud: u32,
    latency: Latency,
    /// From the line, not yet on their way.
    bundle: Vec<u8>,
    bundle_leaves: Option<u64>,
    timer_began: u64,
    /// On their way to the host, and when they arrive.
    upwards: VecDeque<(u64, Vec<u8>)>,
    /// On their way from the host.
    downwards: VecDeque<(u64, Command)>,
    /// To be sent.
    queue: VecDeque<Command>,
    /// The byte on the line, its rate, and when it has left.
    shift: Option<(u8, u32, u64)>,
    sent_of_first: usize,
}

impl Adapter {
    /// Makes an adapter at this rate.
    #[must_use]
    pub const fn new(baud: u32, latency: Latency) -> Self {
        Self {
            baud,
            latency,
            bundle: Vec::new(),
            bundle_leaves: None,
            timer_began: 0,
            upwards: VecDeque::new(),
            downwards: VecDeque::new(),
            queue: VecDeque::new(),
            shift: None,
            sent_of_first: 0,
        }
    }

    /// Returns the rate in baud.
    #[must_use]
    pub const fn baud(&self) -> u32 {
        self.baud
    }

    /// Returns when something is due.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        let arrival = |queue: Option<u64>| queue.unwrap_or(u64::MAX);
        [
            arrival(self.bundle_leaves),
            arrival(self.upwards.front().map(|&(at, _)| at)),
            arrival(self.downwards.front().map(|&(at, _)| at)),
            arrival(self.shift.map(|(_, _, at)| at)),
        ]
        .into_iter()
        .min()
        .filter(|&at| at != u64::MAX)
    }

    /// Takes bytes in from the line.
    pub fn arrive(&mut self, bytes: &[u8], now: u64) {
        for &byte in bytes {
            if self.bundle.is_empty() {
                // The timer runs all the time; what comes waits for its next end.
                let timer = self.latency.timer_ns.max(1);
                let run = now.saturating_sub(self.timer_began) % timer;
                self.bundle_leaves = Some(now + timer - run);
            }
            self.bundle.push(byte);
            if self.bundle.len() >= BUNDLE {
                self.send_bundle(now);
            }
        }
    }

    fn send_bundle(&mut self, now: u64) {
        self.bundle_leaves = None;
        self.timer_began = now;
        let bundle = core::mem::take(&mut self.bundle);
        self.upwards.push_back((now + self.latency.way_ns, bundle));
    }

    /// Takes a command from the host.
    pub fn command(&mut self, command: Command, now: u64) {
        self.downwards
            .push_back((now + self.latency.way_ns, command));
    }

    /// Drops what is on its way from and to a host that is gone.
    pub fn unplug(&mut self) {
        self.upwards.clear();
        self.downwards.clear();
        self.bundle.clear();
        self.bundle_leaves = None;
    }

    /// Does what is due by `now`: returns the bytes that the host gets, and the byte that left for the target with its rate.
    pub fn advance(&mut self, now: u64) -> (Option<Vec<u8>>, Option<(u8, u32)>) {
        if self.bundle_leaves.is_some_and(|at| at <= now) {
            self.send_bundle(now);
        }
        if let Some((_, command)) = self.downwards.pop_front_if(|(at, _)| *at <= now) {
            self.queue.push_back(command);
        }
        let byte = match self.shift {
            Some((byte, baud, at)) if at <= now => {
                self.shift = None;
                Some((byte, baud))
            }
            _ => None,
        };
        self.start(now);
        let arrived = self.upwards.pop_front_if(|(at, _)| *at <= now);
        (arrived.map(|(_, bytes)| bytes), byte)
    }

    fn start(&mut self, now: u64) {
        while self.shift.is_none() {
            match self.queue.front() {
                Some(Command::Send(bytes)) => {
                    if let Some(&byte) = bytes.get(self.sent_of_first) {
                        self.sent_of_first += 1;
                        self.shift = Some((byte, self.baud, now + byte_ns(self.baud)));
                        return;
                    }
                }
                Some(Command::SetBaud(baud)) => self.baud = *baud,
                None => return,
            }
            self.queue.pop_front();
            self.sent_of_first = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When, and how many bytes the host got.
    type Got = Vec<(u64, usize)>;
    /// When, which byte, and at which rate.
    type Left = Vec<(u64, u8, u32)>;

    /// Runs an adapter until nothing is due; returns what the host got and when, and what left for the target.
    fn run(adapter: &mut Adapter) -> (Got, Left) {
        let (mut got, mut left) = (Vec::new(), Vec::new());
        while let Some(at) = adapter.next_at() {
            let (bytes, byte) = adapter.advance(at);
            got.extend(bytes.map(|bytes| (at, bytes.len())));
            left.extend(byte.map(|(byte, baud)| (at, byte, baud)));
        }
        (got, left)
    }

    #[test]
    fn full_bundle_leaves_at_once_and_the_rest_by_the_timer() {
        let mut adapter = Adapter::new(115_200, Latency::USB);
        adapter.arrive(&[7; 70], 3_000_000);
        let (got, _) = run(&mut adapter);
        assert_eq!(got, [(4_000_000, 62), (20_000_000, 8)]);
    }

    #[test]
    fn rate_changes_after_the_bytes_before_it_have_left() {
        let mut adapter = Adapter::new(1_000_000, Latency::USB);
        adapter.command(Command::Send(vec![1, 2]), 0);
        adapter.command(Command::SetBaud(2_000_000), 0);
        adapter.command(Command::Send(vec![3]), 0);
        let (_, left) = run(&mut adapter);
        assert_eq!(
            left,
            [
                (1_010_000, 1, 1_000_000),
                (1_020_000, 2, 1_000_000),
                (1_025_000, 3, 2_000_000)
            ]
        );
        assert_eq!(adapter.baud(), 2_000_000);
    }

    #[test]
    fn unplugged_adapter_delivers_nothing() {
        let mut adapter = Adapter::new(1_000_000, Latency::USB);
        adapter.arrive(&[1; 100], 0);
        adapter.unplug();
        assert_eq!(run(&mut adapter), (vec![], vec![]));
    }
}
