// SPDX-License-Identifier: MIT OR Apache-2.0
//! On-target tests: a program that is a list of tests, booted in QEMU by cargo.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! harness::tests! {
//!     board: kernel::Board::GENERIC,
//!     capture: env!("CAPTURE_IMAGE"),
//!     tests: [null_page_is_unmapped],
//!     crashes: [write_to_null_is_fatal],
//! }
//!
//! fn null_page_is_unmapped(_: &kernel::Boot) -> harness::Result {
//!     harness::check!(copy_guarded(&mut [0; 16], 0).is_err());
//!     Ok(())
//! }
//! ```
//! The program is a `[[bin]]` with `harness = false`, so that `cargo test` and `cargo run` boot it with the target's
//! runner, `afterimage run`. A test's name is that of its function: a property that holds.
//!
//! **Transcript**, on the console: one line `test NAME ... VERDICT` for each test, where VERDICT is `ok`, `FAILED`,
//! `ignored`, or `should crash`; after a `FAILED`, a line that says where and why; at the end `test result: ` in the
//! words of Rust's own harness.
//!
//! **Exit status**: 0 when tests ran and none failed, 1 when one failed or none ran. A test that panics or faults ends
//! the run: the machine dumps itself and the runner exits 101.
//!
//! **Command line**: `semihosting` says that a host takes the exit status; without it no semihosting call is made, the
//! result is printed and the CPU halts. `test=NAME[,NAME]...` runs these tests alone. A test of `crashes:` runs only when it
//! is named, because it ends the machine: the one who named it expects the line `should crash` and the status 101.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod failure;
#[cfg(target_os = "none")]
mod run;
#[cfg(any(test, target_os = "none"))]
mod selection;
#[cfg(any(test, target_os = "none"))]
mod summary;

pub use failure::{Failure, Result};
#[cfg(target_os = "none")]
pub use kernel;
#[cfg(target_os = "none")]
pub use run::{Expect, Test, run};

/// Makes the program a list of tests, each a `fn(&kernel::Boot) -> harness::Result`.
///
/// `board:` and `capture:` are as for `kernel::entry!` and `kernel::capture_image!`; without `capture:` a crash leaves no
/// dump. Tests run in the order given.
#[macro_export]
macro_rules! tests {
    (
        board: $board:expr,
        $(capture: $capture:expr,)?
        $(tests: [$($test:ident),* $(,)?] $(,)?)?
        $(crashes: [$($crash:ident),* $(,)?] $(,)?)?
    ) => {
        $($crate::kernel::capture_image!($capture);)?
        const _: () = {
            fn run_tests(boot: $crate::kernel::Boot) -> ! {
                $crate::run(&boot, &[
                    $($($crate::Test { name: stringify!($test), run: $test, expects: $crate::Expect::Pass },)*)?
                    $($($crate::Test { name: stringify!($crash), run: $crash, expects: $crate::Expect::Crash },)*)?
                ])
            }
            $crate::kernel::entry!(run_tests, $board);
        };
    };
}
