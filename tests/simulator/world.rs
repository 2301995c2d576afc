// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything around the capture code, in virtual time: UART, line, adapter, host.
//!
//! Time advances only when the capture code spends it. Whatever is due by then happens in between, in its order.

use std::collections::VecDeque;

use capture::Work;

use crate::adapter::{Adapter, Latency};
use crate::channel::{Channel, Noise};
use crate::cpu::Cpu;
use crate::host::Host;
use crate::rng::Rng;
use crate::tap::Tap;
use crate::uart::{Uart, byte_ns};

/// How often the host looks for something to do when nothing comes, in nanoseconds.
const HOST_TICK_NS: u64 = 5_000_000;
/// Shortest and longest time of a look at the line that finds nothing. The CPU polls all the time; what lies between two
/// events is skipped, because it would find nothing.
const LOOK_NS: u64 = 500;
const LOOK_MAX_NS: u64 = 250_000;
/// Text that others write.
const INTRUSION: &[u8] = b"[   12.345678] firmware: correctable error count 3\r\n";

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The host command is started, or started again.
    Start,
    /// It is killed.
    Kill,
    /// The cable is pulled.
    Cut,
    /// It is plugged in again.
    Mend,
}

/// What the line is like.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The rate at the beginning, in baud.
    pub baud: u32,
    /// Higher ones that the target's UART can be set to.
    pub rates: Vec<u32>,
    /// Bytes of each FIFO of the target's UART.
    pub fifo: usize,
    /// The host's adapter.
    pub latency: Latency,
    /// From the target to the host.
    pub down: Noise,
    /// From the host to the target.
    pub up: Noise,
    /// Whether nothing reaches the target.
    pub is_one_way: bool,
    /// Texts of others between frames, a second.
    pub intrusions: f64,
    /// The target's CPU.
    pub cpu: Cpu,
    /// What happens, in order, and when, in nanoseconds.
    pub events: Vec<(u64, Happening)>,
    /// Time at which the line stops taking bytes, so that a dump that never ends does.
    pub limit_ns: u64,
}

impl Setting {
    /// A good line at `baud` behind a USB adapter, on which the host listens from the beginning.
    #[must_use]
    pub fn good(baud: u32) -> Self {
        Self {
            baud,
            rates: Vec::new(),
            fifo: 16,
            latency: Latency::USB,
            down: Noise::default(),
            up: Noise::default(),
            is_one_way: false,
            intrusions: 0.0,
            cpu: Cpu::MODEST,
            events: vec![(0, Happening::Start)],
            limit_ns: 36_000_000_000_000,
        }
    }

    /// The same with both directions as bad as `noise`.
    #[must_use]
    pub fn noisy(self, noise: Noise) -> Self {
        Self {
            down: noise,
            up: noise,
            ..self
        }
    }
}

/// The world.
pub struct World<H> {
    now: u64,
    next: u64,
    setting: Setting,
    uart: Uart,
    adapter: Adapter,
    down: Channel,
    up: Channel,
    phase: (f64, f64),
    is_cut: bool,
    events: VecDeque<(u64, Happening)>,
    host: H,
    host_tick: Option<u64>,
    rng: Rng,
    intrusion_at: u64,
    tap: Tap,
    /// Rates of the target, and since when.
    rates: Vec<(u64, u32)>,
}

impl<H: Host> World<H> {
    /// Makes the world that `seed` determines.
    #[must_use]
    pub fn new(setting: Setting, seed: u64, host: H) -> Self {
        let mut world = Self {
            now: 0,
            next: 0,
            uart: Uart::new(setting.baud, setting.fifo),
            adapter: Adapter::new(setting.baud, setting.latency),
            down: Channel::new(setting.down, seed, 2),
            up: Channel::new(setting.up, seed, 3),
            phase: (0.0, 0.0),
            is_cut: false,
            events: setting.events.iter().copied().collect(),
            host,
            host_tick: None,
            rng: Rng::new(seed, 4),
            intrusion_at: u64::MAX,
            tap: Tap::default(),
            rates: vec![(0, setting.baud)],
            setting,
        };
        world.draw_intrusion();
        world.plan();
        world
    }

    /// Returns the time in nanoseconds.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Returns the tap.
    pub const fn tap(&mut self) -> &mut Tap {
        &mut self.tap
    }

    /// Returns the host.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// Returns how many bytes the target's UART lost.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.uart.overruns()
    }

    /// Returns how many bytes the line hit, on their way to the host and back.
    #[must_use]
    pub const fn hits(&self) -> (u64, u64) {
        (self.down.hits(), self.up.hits())
    }

    /// Returns the line's rate at the target.
    #[must_use]
    pub const fn baud(&self) -> u32 {
        self.uart.baud()
    }

    /// Returns the rates that the target's UART had, and since when.
    #[must_use]
    pub fn rates(&self) -> &[(u64, u32)] {
        &self.rates
    }

    /// Returns the rate at which the host's adapter is.
    #[must_use]
    pub const fn host_baud(&self) -> u32 {
        self.adapter.baud()
    }

    /// Returns how many bytes the line could have carried from `start` to `end`, at the rates that it had.
    #[must_use]
    pub fn capacity(&self, start: u64, end: u64) -> f64 {
        let ends = self.rates.iter().skip(1).map(|&(at, _)| at);
        let spans = self.rates.iter().zip(ends.chain([u64::MAX]));
        spans
            .map(|(&(from, baud), to)| {
                let ns = to.min(end).saturating_sub(from.max(start));
                ns as f64 / byte_ns(baud) as f64
            })
            .sum()
    }

    // What the capture code does.

    /// Hands bytes to the UART.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.now > self.setting.limit_ns {
            return 0;
        }
        let taken = self.uart.write(bytes, self.now);
        self.plan();
        taken
    }

    /// Takes a byte from the UART.
    pub fn read(&mut self) -> Option<u8> {
        self.uart.read()
    }

    /// Tells whether the UART can be set to `baud`.
    #[must_use]
    pub fn can_set(&self, baud: u32) -> bool {
        baud == self.setting.baud || self.setting.rates.contains(&baud)
    }

    /// Waits until all has left, and sets the rate.
    pub fn set_baud(&mut self, baud: u32) -> bool {
        if !self.can_set(baud) {
            return false;
        }
        while !self.uart.is_idle() {
            self.look();
        }
        self.rates.push((self.now, baud));
        self.uart.set_baud(baud);
        true
    }

    /// Lets the time of `work` pass.
    pub fn spend(&mut self, work: Work) {
        match self.setting.cpu.ns(work) {
            Some(ns) => self.advance(ns),
            None => self.look(),
        }
    }

    /// Lets time pass to the next event: a CPU that waits looks all the time.
    fn look(&mut self) {
        let ns = if self.uart.has_received() {
            LOOK_NS
        } else {
            self.next
                .saturating_sub(self.now)
                .clamp(LOOK_NS, LOOK_MAX_NS)
        };
        self.advance(ns);
    }

    /// Lets `ns` nanoseconds pass.
    pub fn advance(&mut self, ns: u64) {
        let end = self.now.saturating_add(ns);
        while self.next <= end {
            self.now = self.next.max(self.now);
            self.happen();
            self.plan();
        }
        self.now = end;
    }

    /// Finds out when something is due.
    fn plan(&mut self) {
        let times = [
            self.uart.leaves_at(),
            self.adapter.next_at(),
            self.host_tick,
            self.events.front().map(|&(at, _)| at),
        ];
        self.next = times.into_iter().flatten().min().unwrap_or(u64::MAX);
    }

    /// Does what is due now.
    fn happen(&mut self) {
        let now = self.now;
        if let Some((_, event)) = self.events.pop_front_if(|(at, _)| *at <= now) {
            self.take_place(event);
        }
        let baud = self.uart.baud();
        if let Some(byte) = self.uart.left(now) {
            // Others write before the next byte of ours starts.
            self.carry_down(byte, baud);
            self.uart.start(now);
        }
        let (bytes, byte) = self.adapter.advance(now);
        if let Some((byte, baud)) = byte {
            self.carry_up(byte, baud);
        }
        let is_due = self.host_tick.is_some_and(|at| at <= now);
        if let Some(bytes) = &bytes {
            self.host.receive(bytes, now / 1000);
        }
        if is_due || bytes.is_some() {
            self.poll_host();
        }
    }

    fn poll_host(&mut self) {
        if self.host_tick.is_none() {
            return;
        }
        self.host_tick = Some(self.now + HOST_TICK_NS);
        for command in self.host.poll(self.now / 1000) {
            self.adapter.command(command, self.now);
        }
    }

    fn take_place(&mut self, event: Happening) {
        match event {
            Happening::Start => {
                let session = (self.rng.next() as u32).max(1);
                self.host.start(session, self.now / 1000);
                self.host_tick = Some(self.now);
            }
            Happening::Kill => {
                self.host.kill();
                self.host_tick = None;
                self.adapter.unplug();
            }
            Happening::Cut => self.is_cut = true,
            Happening::Mend => self.is_cut = false,
        }
    }

    fn carry_down(&mut self, byte: u8, baud: u32) {
        let is_frame_end = self.tap.byte(byte, self.now - byte_ns(baud), self.now);
        if is_frame_end && self.now >= self.intrusion_at {
            self.uart.intrude(INTRUSION);
            self.draw_intrusion();
        }
        if self.is_cut || self.host_tick.is_none() {
            return;
        }
        let mut out = Vec::new();
        let read_baud = self.adapter.baud();
        if read_baud == baud {
            self.down.pass(byte, baud, &mut out);
        } else {
            self.down
                .garble(baud, read_baud, &mut self.phase.0, &mut out);
        }
        self.adapter.arrive(&out, self.now);
    }

    fn carry_up(&mut self, byte: u8, baud: u32) {
        if self.is_cut || self.setting.is_one_way {
            return;
        }
        let read_baud = self.uart.baud();
        let mut out = Vec::new();
        if read_baud == baud {
            self.up.pass(byte, baud, &mut out);
        } else {
            self.up.garble(baud, read_baud, &mut self.phase.1, &mut out);
        }
        out.into_iter().for_each(|byte| self.uart.arrive(byte));
    }

    fn draw_intrusion(&mut self) {
        let rate = self.setting.intrusions;
        self.intrusion_at = if rate > 0.0 {
            let wait = -(1.0 - self.rng.unit()).ln() / rate;
            self.now + (wait * 1e9) as u64
        } else {
            u64::MAX
        };
    }
}
