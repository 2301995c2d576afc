// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts QEMU, crashes what runs in it, and judges the dump by other readers.
//!
//! Black box: nothing of ours is linked. The kernels and the host command are found as built files, the dump is read with
//! `object`, gdb, readelf and dtc, and memory is compared with QEMU's own. Functions here panic where a test has to fail.
#![forbid(unsafe_code)]

pub mod artefacts;
pub mod backtrace;
pub mod bridge;
pub mod console;
pub mod converted;
pub mod device_tree;
pub mod dump;
pub mod faults;
pub mod gdb_remote;
pub mod host;
pub mod injected;
pub mod machine;
pub mod matrix;
pub mod memory;
pub mod npcm;
pub mod oracle;
pub mod partial;
pub mod process;
pub mod qmp;
pub mod raspberry;
pub mod seed;
mod slots;
pub mod stack_use;
pub mod symbols;
pub mod wait;

pub use machine::{Entry, Machine, Running};
