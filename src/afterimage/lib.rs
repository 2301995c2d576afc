// SPDX-License-Identifier: MIT OR Apache-2.0
//! Host side of Afterimage: receives dumps, writes them as ELF cores, reads them.
//!
//! DESIGN of the commands and of the dump file: `docs/architecture.md`; of the line: `docs/protocol.md`.
#![forbid(unsafe_code)]

pub mod answering;
pub mod ask;
pub mod backtrace;
pub mod bt;
pub mod captured;
pub mod cli;
pub mod connection;
pub mod contents;
pub mod convert;
pub mod core_file;
pub mod corrupted_code;
pub mod destination;
pub mod dmesg;
pub mod dump;
pub mod dump_file;
pub mod duplicates;
pub mod early_backtrace;
pub mod error;
pub mod foreign;
pub mod gdb;
pub mod gdb_core;
pub mod inspect;
pub mod interrupt;
pub mod interrupts;
pub mod journal;
pub mod keyboard;
pub mod line_error;
pub mod line_speed;
pub mod link;
pub mod linux_backtrace;
pub mod linux_elf;
pub mod linux_info;
pub mod linux_log;
pub mod linux_segments;
pub mod linux_symbols;
pub mod moved;
pub mod note_bytes;
pub mod note_segments;
pub mod output;
pub mod page_library;
pub mod page_tables;
pub mod phys_ranges;
pub mod progress;
pub mod qemu;
pub mod receive;
pub mod run;
pub mod session;
pub mod store;
pub mod symbols;
pub mod system_state;
pub mod telnet;
pub mod terminal;
pub mod unwind;
pub mod utc;
pub mod watch;
