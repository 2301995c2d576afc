// SPDX-License-Identifier: MIT OR Apache-2.0
//! The firmware's own tests, on the target.
#![no_std]
#![no_main]

use firmware::has_word;
use firmware::memory::{KEYS, Memory, SAMPLES, pattern};
use firmware::tasks::{self, PAINT, STACK_LEN, Task};
use harness::{check, check_eq};
use kernel::dump::MarkError;
use kernel::threads::MAX_THREADS;
use kernel::{Boot, crash};

harness::tests! {
    board: firmware::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [
        crash_would_leave_a_dump,
        word_is_found_only_whole,
        memory_holds_its_patterns_page_by_page,
        memory_can_be_made_again_after_it_is_dropped,
        task_begins_at_its_entry_on_an_unused_stack,
        one_task_too_many_is_refused,
    ],
    crashes: [battery_alarm_is_fatal],
}

fn crash_would_leave_a_dump(_: &Boot) -> harness::Result {
    check!(crash::status().is_loaded);
    check!(crash::test()?.is_image_good);
    Ok(())
}

fn word_is_found_only_whole(_: &Boot) -> harness::Result {
    check!(has_word(b"a firmware_crash b", "firmware_crash"));
    check!(!has_word(
        b"firmware_crash=1 no_firmware_crash",
        "firmware_crash"
    ));
    check!(!has_word(b"", "firmware_crash"));
    Ok(())
}

fn memory_holds_its_patterns_page_by_page(_: &Boot) -> harness::Result {
    let memory = Memory::new()?;
    check_eq!(memory.keys.words()[511], pattern(KEYS, 511));
    check_eq!(memory.samples.words()[0], pattern(SAMPLES, 0));
    check_eq!(memory.trace.words().as_ptr().addr() % 4096, 0);
    Ok(())
}

fn memory_can_be_made_again_after_it_is_dropped(_: &Boot) -> harness::Result {
    for _ in 0..200 {
        drop(Memory::new()?);
    }
    Ok(())
}

fn task_begins_at_its_entry_on_an_unused_stack(_: &Boot) -> harness::Result {
    let task = Task::new("network", tasks::network, 7)?;
    check_eq!(task.context.pc, tasks::network as fn() -> ! as usize as u64);
    check_eq!(task.context.x[0], 7);
    check_eq!(task.stack.len(), STACK_LEN);
    check!(task.stack.iter().all(|byte| *byte == PAINT));
    Ok(())
}

fn one_task_too_many_is_refused(_: &Boot) -> harness::Result {
    let tasks: [_; MAX_THREADS] = core::array::from_fn(|_| Task::new("task", tasks::sampling, 0));
    check!(tasks.iter().all(Result::is_ok));
    check_eq!(
        Task::new("one more", tasks::sampling, 0).map(drop),
        Err(MarkError::Full)
    );
    Ok(())
}

fn battery_alarm_is_fatal(_: &Boot) -> harness::Result {
    crash::trigger("the battery is out of bounds")
}
