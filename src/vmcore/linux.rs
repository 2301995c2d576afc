// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed Linux for arm64, read with nothing but its VMCOREINFO note and its memory.
//!
//! The note names addresses, offsets and sizes of the few structures that readers of dumps need (Linux,
//! Documentation/admin-guide/kdump/vmcoreinfo.rst). Nothing here believes them: each is checked before it is used,
//! each read may fail, each loop has a bound.

pub mod backtrace;
// Their fake machine takes minutes under Miri.
#[cfg(all(test, not(miri)))]
mod fake_linux;
pub mod kallsyms;
mod page_array;
mod page_classes;
#[cfg(all(test, not(miri)))]
mod page_tests;
pub mod printk;
#[cfg(test)]
mod testing;
pub mod translation;
pub mod virtual_memory;
pub mod vmcoreinfo;

pub use backtrace::{End, Frames};
pub use kallsyms::{Kallsyms, Symbol};
pub use page_classes::{Buffers, PageClasses};
pub use printk::{PrintkLog, Record, Unreadable};
pub use translation::{LinearMap, PageTables, Span};
pub use virtual_memory::VirtualMemory;
pub use vmcoreinfo::{Key, Value, Vmcoreinfo};
