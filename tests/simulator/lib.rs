// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line simulator: the capture kernel's logic and a host, with a bad line between them, in virtual time.
//!
//! Both ends are the code that runs in earnest ([`capture::run`], [`wire::Assembler`], [`wire::Answers`]). Between them lie a
//! UART with FIFOs of 16 bytes that overrun, a channel that flips, drops, doubles and inserts, and a USB adapter that bundles;
//! the CPU takes the time that [`cpu::Cpu`] says. A seed decides all that chance decides, so each run can be had again.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod case;
pub mod channel;
mod contents;
pub mod cpu;
pub mod direct;
pub mod host;
pub mod line;
pub mod machine;
pub mod ram;
pub mod rng;
pub mod suite;
pub mod table;
pub mod tap;
pub mod uart;
pub mod world;

pub use case::{Case, Figures, Run, run, run_with};
pub use channel::Noise;
pub use host::SmallHost;
pub use machine::{Machine, Spec};
pub use world::{Happening, Setting};
