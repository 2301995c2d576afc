// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the harness itself says of tests that pass, fail, or do not crash although they should. judge.py asks.
#![no_std]
#![no_main]

use harness::{check, check_eq};
use kernel::Boot;

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [passes, fails_a_check, fails_on_an_error, panics],
    crashes: [does_not_crash],
}

fn passes(_: &Boot) -> harness::Result {
    check!(true);
    Ok(())
}

fn fails_a_check(boot: &Boot) -> harness::Result {
    check_eq!(boot.cpus(), 0);
    Ok(())
}

fn fails_on_an_error(_: &Boot) -> harness::Result {
    "seven".parse::<u32>()?;
    Ok(())
}

fn panics(_: &Boot) -> harness::Result {
    panic!("a test panicked")
}

fn does_not_crash(_: &Boot) -> harness::Result {
    Ok(())
}
