// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed Linux for arm64, read with nothing but its VMCOREINFO note and its memory.
//!
//! The note names addresses, offsets and sizes of the few structures that readers of dumps need (Linux,
//! Documentation/admin-guide/kdump/vmcoreinfo.rst). Nothing here believes them: each is checked before it is used,
//! each read may fail, each loop has a bound.

pub mod translation;
pub mod vmcoreinfo;

pub use translation::{LinearMap, PageTables, Span};
pub use vmcoreinfo::{Key, Value, Vmcoreinfo};
