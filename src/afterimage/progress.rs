// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress bar: how much, how fast, how long still. Only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What the bar shows; the sizes are of the machine's memory, the rate is of that too.
const TEMPLATE: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left{msg}";

/// A progress bar on standard error, or nothing when that is no terminal.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        Self::hidden()
    }
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Starts a bar of `total` bytes.
    #[must_use]
    pub fn start(total: u64) -> Self {
        // `stderr` hides the bar where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// Shows how many bytes are accounted for and how many blocks are damaged.
    pub fn set(&self, bytes: u64, damaged: u64) {
        self.0.set_position(bytes);
        if damaged > 0 {
            self.0.set_message(format!(", {damaged} damaged"));
        }
    }

    /// Takes the bar away while something else is printed.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Takes the bar away for good.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
