// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of marks and registered threads: what is taken, what is refused, and that guards give back.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::without_provenance;

use harness::{Failure, check_eq};
use kernel::dump::{self, MAX_MARKS, Mark, MarkError};
use kernel::threads::{self, MAX_THREADS};
use kernel::{Boot, crash};
use machine::exceptions::capture_registers;
use machine::layout::{DEVICE_BASE, LINEAR_BASE};

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [
        heap_statics_and_stack_can_be_marked,
        empty_range_is_refused,
        reversed_range_is_refused,
        null_is_refused,
        device_is_refused,
        range_that_leaves_the_image_is_refused,
        address_beyond_ram_is_refused,
        crash_region_is_refused,
        marks_are_refused_when_all_are_in_use,
        dropped_marks_can_be_made_again,
        threads_are_refused_when_all_are_in_use,
        dropped_threads_give_their_marks_back,
        thread_on_a_stack_that_is_no_ram_is_refused,
    ],
}

static TABLE: [u8; 64] = [7; 64];

fn addresses(start: u64, end: u64) -> Range<*const u8> {
    without_provenance(start as usize)..without_provenance(end as usize)
}

/// Whether a range is refused as no RAM, by all three kinds of mark.
fn refuses(start: u64, end: u64) -> harness::Result {
    let expected = Err(MarkError::NotRam { start, end });
    check_eq!(dump::secret(addresses(start, end)).map(drop), expected);
    check_eq!(dump::app_data(addresses(start, end)).map(drop), expected);
    check_eq!(
        dump::also(addresses(start, end), "refused").map(drop),
        expected
    );
    Ok(())
}

fn heap_statics_and_stack_can_be_marked(_: &Boot) -> harness::Result {
    let heap = alloc::vec![1_u8; 100];
    let stack = [2_u8; 100];
    let _secret = dump::secret(heap.as_ptr_range())?;
    let _own = dump::app_data(stack.as_ptr_range())?;
    let _table = dump::also(
        TABLE.as_ptr_range(),
        "a name of more than sixteen bytes is cut",
    )?;
    // A range may carry several marks.
    let _again = dump::app_data(heap.as_ptr_range())?;
    Ok(())
}

fn empty_range_is_refused(_: &Boot) -> harness::Result {
    let start = TABLE.as_ptr().addr() as u64;
    refuses(start, start)
}

fn reversed_range_is_refused(_: &Boot) -> harness::Result {
    let start = TABLE.as_ptr().addr() as u64;
    refuses(start + 32, start)
}

fn null_is_refused(_: &Boot) -> harness::Result {
    refuses(0, 4096)
}

fn device_is_refused(_: &Boot) -> harness::Result {
    refuses(DEVICE_BASE + 0x0900_0000, DEVICE_BASE + 0x0900_1000)
}

fn range_that_leaves_the_image_is_refused(_: &Boot) -> harness::Result {
    let bounds = machine::image::bounds();
    refuses(bounds.end - 16, bounds.end + 16)?;
    refuses(bounds.begin - 16, bounds.begin + 16)?;
    refuses(bounds.begin, u64::MAX)
}

fn address_beyond_ram_is_refused(_: &Boot) -> harness::Result {
    let beyond = LINEAR_BASE + (1 << 45);
    refuses(beyond, beyond + 4096)
}

fn crash_region_is_refused(_: &Boot) -> harness::Result {
    let start = LINEAR_BASE + crash::status().region_start;
    refuses(start, start + 4096)
}

/// Marks the table until there is no room. Returns the marks and why there was none.
fn mark_all() -> (Vec<Mark>, MarkError) {
    let mut marks = Vec::new();
    loop {
        match dump::app_data(TABLE.as_ptr_range()) {
            Ok(mark) => marks.push(mark),
            Err(error) => return (marks, error),
        }
    }
}

fn marks_are_refused_when_all_are_in_use(_: &Boot) -> harness::Result {
    let (marks, error) = mark_all();
    check_eq!(error, MarkError::Full);
    check_eq!(marks.len(), MAX_MARKS);
    Ok(())
}

fn dropped_marks_can_be_made_again(_: &Boot) -> harness::Result {
    let (mut marks, _) = mark_all();
    drop(marks.remove(17));
    let again = dump::secret(TABLE.as_ptr_range())?;
    check_eq!(
        dump::secret(TABLE.as_ptr_range()).map(drop),
        Err(MarkError::Full)
    );
    drop((marks, again));
    check_eq!(mark_all().0.len(), MAX_MARKS);
    Ok(())
}

fn threads_are_refused_when_all_are_in_use(_: &Boot) -> harness::Result {
    let context = capture_registers();
    let register = || threads::register("one", TABLE.as_ptr_range(), &raw const context);
    let threads = (0..MAX_THREADS)
        .map(|_| register())
        .collect::<Result<Vec<_>, _>>()?;
    check_eq!(register().map(drop), Err(MarkError::Full));
    drop(threads);
    let _again = register()?;
    Ok(())
}

fn dropped_threads_give_their_marks_back(_: &Boot) -> harness::Result {
    let context = capture_registers();
    for round in 0..2 * MAX_MARKS {
        let thread = threads::register("passing", TABLE.as_ptr_range(), &raw const context);
        drop(thread.map_err(|error| Failure::new(format_args!("round {round}: {error}")))?);
    }
    check_eq!(mark_all().0.len(), MAX_MARKS);
    Ok(())
}

fn thread_on_a_stack_that_is_no_ram_is_refused(_: &Boot) -> harness::Result {
    let context = capture_registers();
    let refused = threads::register("nowhere", addresses(0, 4096), &raw const context).map(drop);
    check_eq!(
        refused,
        Err(MarkError::NotRam {
            start: 0,
            end: 4096
        })
    );
    check_eq!(mark_all().0.len(), MAX_MARKS);
    Ok(())
}
