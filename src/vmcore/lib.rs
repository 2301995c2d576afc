// SPDX-License-Identifier: MIT OR Apache-2.0
//! Placeholder head of the vmcore crate, replaced by its first commit.
#![no_std]
