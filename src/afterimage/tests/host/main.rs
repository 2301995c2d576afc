// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command's integration tests.

mod commands;
mod place;
mod program;
mod run;
mod stream;
mod unwind;
