// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a zero page costs the capture kernel, beside a plain read of it: figures for the benchmark, not a test of speed.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use core::hint::black_box;

use harness::check;
use kernel::Boot;
use machine::layout::PAGE_SIZE;
use machine::{arch, exceptions};

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [zero_pages_are_looked_at_and_read],
}

/// Pages that are looked at: 8 MiB, more than caches hold.
const PAGES: usize = 2048;
const PAGE: usize = PAGE_SIZE as usize;
/// The shortest of so many rounds counts: the host may be busy with something else.
const ROUNDS: usize = 8;

fn zero_pages_are_looked_at_and_read(_: &Boot) -> harness::Result {
    let memory = vec![0_u128; (PAGES + 1) * PAGE / size_of::<u128>()];
    let start = memory.as_ptr().addr().next_multiple_of(PAGE);
    let words = memory.len() - PAGE / size_of::<u128>();
    let (mut looked_at, mut read) = (u64::MAX, u64::MAX);
    for _ in 0..ROUNDS {
        let before = arch::counter();
        for page in 0..PAGES {
            let at = (start + page * PAGE) as u64;
            let is_zero = exceptions::is_zero_guarded(at, PAGE);
            check!(is_zero == Ok(true), "page {page} is not zero");
        }
        looked_at = looked_at.min(arch::counter() - before);
        let before = arch::counter();
        let words = black_box(&memory).iter().take(words);
        black_box(words.fold(0, |sum, word| sum ^ word));
        read = read.min(arch::counter() - before);
    }
    check!(read > 0, "the counter stands still");
    let ns = |ticks: u64| ticks * (1_000_000_000 / arch::counter_hz().max(1)) / PAGES as u64;
    log::info!(
        "page cost: | {} ns | {} ns | {}.{:02} |",
        ns(looked_at),
        ns(read),
        looked_at / read,
        looked_at * 100 / read % 100
    );
    Ok(())
}
