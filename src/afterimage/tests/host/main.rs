// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command's integration tests.

mod answers;
mod commands;
mod convert;
mod corrupted;
mod early;
mod lines;
mod place;
mod program;
mod resume;
mod run;
mod serial;
mod speed;
mod stream;
mod target;
mod unwind;
