// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chain of fallbacks: what a crash ends in when the capture kernel cannot be entered.

use blackbox::oracle::Crashed;
use blackbox::partial::{self, assert_minimal, receive_minimal, second_copy};
use blackbox::stack_use::{self, StackUse};
use blackbox::{Entry, Machine, Running, backtrace, host, oracle};
use serde_json::json;

/// A byte inside the capture kernel's code, behind its header.
const INSIDE_IMAGE: u64 = 0x1234;
const ENTRIES: [Entry; 2] = [Entry::El1, Entry::El2];

/// In every log; what comes later races with the crash on a slow machine.
const LOGGED: &str = "RAM 0x40000000";

/// Boots `machine`, damages the byte at each of `offsets` of the region, and crashes.
fn damage(machine: Machine, offsets: &[u64]) -> Running {
    let machine = machine.append("dump_then=halt dump_rounds=1");
    partial::damage(machine, 0x10, |_| offsets.to_vec())
}

#[test]
fn crash_without_a_capture_kernel_ends_in_a_minimal_dump() {
    for entry in ENTRIES {
        let running = Machine::new()
            .cpus(2)
            .entry(entry)
            .append("capture=none lkdtm=ACCESS_NULL@150 dump_then=halt")
            .start();
        let crashed = receive_minimal(running);
        assert_minimal(&crashed, 2, "exception", LOGGED);
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["fallback"]["copies"], json!(["absent", "absent"]));
        let (theirs, ours) = (
            backtrace::gdb(&crashed.dump.path, &oracle::elf(), &["bt"]),
            host::bt(&crashed.dump.path, &oracle::elf()),
        );
        let frames = backtrace::frames(&ours);
        assert_eq!(
            backtrace::comparable(&frames),
            backtrace::comparable(&backtrace::frames(&theirs)),
            "{ours}\n{theirs}"
        );
        let names: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        assert!(
            names.contains(&"kernel::lkdtm::handle_request"),
            "{names:?}"
        );
    }
}

#[test]
fn crash_without_a_crash_region_ends_in_a_minimal_dump() {
    let running = Machine::new()
        .append("crashkernel=0 lkdtm=PANIC@150 dump_then=halt")
        .start();
    let crashed = receive_minimal(running);
    assert_minimal(&crashed, 1, "panic", LOGGED);
}

#[test]
fn minimal_dump_is_followed_by_what_was_to_follow() {
    // Without a word the machine comes back.
    for then in ["", "dump_then=reboot", "dump_then=poweroff"] {
        let mut running = Machine::new()
            .append("capture=none lkdtm=PANIC@150")
            .append(then)
            .extra(&["-no-reboot"])
            .start();
        assert!(running.wait_for_exit().success(), "{then}");
        let text = running.console.text();
        let next = then.strip_prefix("dump_then=").unwrap_or("reboot");
        assert!(
            text.contains(&format!("is loaded; next: {next}\r")),
            "{text}"
        );
        assert!(!text.contains("Halted"), "{text}");
    }
}

#[test]
fn crash_with_a_corrupted_capture_kernel_ends_in_a_minimal_dump() {
    for entry in ENTRIES {
        let running = damage(Machine::new().entry(entry).cpus(2), &[INSIDE_IMAGE]);
        let crashed = receive_minimal(running);
        assert_minimal(&crashed, 2, "sysrq", LOGGED);
        let info = host::info(&crashed.dump.path);
        assert_eq!(
            info["fallback"]["copies"],
            json!(["wrong-digest", "absent"])
        );
        let text = crashed.running.console.text();
        assert!(!text.contains("this is the capture kernel"), "{text}");
    }
}

/// Receives the whole dump and asserts that it was made by `level`, and is right.
fn assert_whole(running: Running, level: &str) -> Crashed {
    let crashed = oracle::finish(running);
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["fallback"]["level"], json!(level));
    let memory = crashed.running.memory.pages();
    oracle::assert_equals_memory(&crashed, &memory);
    oracle::assert_only_free_pages_are_missing(&crashed);
    crashed
}

#[test]
fn crash_with_a_corrupted_capture_kernel_is_dumped_by_its_second_copy() {
    for (entry, region) in [(Entry::El1, "16M"), (Entry::El2, "4M")] {
        let machine = Machine::new()
            .entry(entry)
            .cpus(2)
            .append(&format!("crashkernel={region}"));
        let crashed = assert_whole(damage(machine, &[INSIDE_IMAGE]), "second-copy");
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["fallback"]["copies"], json!(["wrong-digest", "good"]));
        assert!(
            crashed.report.contains("this is the second copy"),
            "{}",
            crashed.report
        );
    }
}

#[test]
fn second_copy_is_not_needed_by_a_good_first_one() {
    let running = Machine::new()
        .append("crashkernel=16M lkdtm=PANIC@150 dump_then=halt dump_rounds=1")
        .start();
    let crashed = assert_whole(running, "first-copy");
    let info = host::info(&crashed.dump.path);
    assert_eq!(info["fallback"]["copies"], json!(["good", "not-checked"]));
}

#[test]
fn capture_kernel_does_not_touch_its_second_copy() {
    let running = Machine::new()
        .append("crashkernel=16M lkdtm=PANIC@150 dump_then=halt dump_rounds=1")
        .held_at_first_frame()
        .start();
    running.console.wait_for_hold();
    let at = oracle::region(&running.console.text()).start + second_copy(&running);
    let before = running.memory.read(at, 0x1f_0000);
    running.console.release();
    let crashed = oracle::finish(running);
    assert!(before == crashed.running.memory.read(at, 0x1f_0000));
}

#[test]
fn crash_with_both_copies_corrupted_ends_in_a_minimal_dump() {
    let machine = Machine::new()
        .entry(Entry::El2)
        .append("crashkernel=16M dump_then=halt dump_rounds=1");
    let running = partial::damage(machine, 0x10, |running| {
        vec![INSIDE_IMAGE, second_copy(running) + INSIDE_IMAGE]
    });
    let crashed = receive_minimal(running);
    assert_minimal(&crashed, 1, "sysrq", LOGGED);
    let info = host::info(&crashed.dump.path);
    assert_eq!(
        info["fallback"]["copies"],
        json!(["wrong-digest", "wrong-digest"])
    );
}

fn start(entry: Entry, append: &str) -> Running {
    Machine::new()
        .entry(entry)
        .cpus(4)
        .append(append)
        .append("dump_then=halt dump_rounds=1")
        .start()
}

#[test]
fn crash_while_the_capture_kernel_is_replaced_is_dumped_by_the_old_one() {
    let rows = [
        (Entry::El1, "reload:abort"),
        (Entry::El2, "reload:panic"),
        (Entry::El2, "switch:abort"),
    ];
    for (entry, fault) in rows {
        let running = start(entry, &format!("crashkernel=16M fault={fault}"));
        assert_whole(running, "first-copy");
    }
}

#[test]
fn crash_while_the_only_copy_is_replaced_ends_in_a_minimal_dump() {
    let running = start(Entry::El2, "crashkernel=2M fault=reload");
    let crashed = receive_minimal(running);
    assert_minimal(&crashed, 4, "exception", LOGGED);
}

#[test]
fn crash_before_anything_is_loaded_ends_in_a_minimal_dump() {
    for (entry, fault) in [
        (Entry::El1, "before-load:panic"),
        (Entry::El2, "load:panic"),
    ] {
        let running = start(entry, &format!("fault={fault}"));
        let crashed = receive_minimal(running);
        assert_minimal(&crashed, 1, "panic", "crash region");
    }
}

#[test]
fn crash_in_the_crash_path_is_dumped_with_the_first_reason() {
    for (entry, kind) in [(Entry::El1, "panic"), (Entry::El2, "abort")] {
        for place in ["stop", "notes", "leave"] {
            let append = format!("lkdtm=ACCESS_NULL@150 fault={place}:{kind}");
            let crashed = assert_whole(start(entry, &append), "first-copy");
            let info = host::info(&crashed.dump.path);
            assert_eq!(info["reason"]["kind"], json!("exception"), "{append}");
            assert_eq!(info["reason"]["far"], json!(0), "{append}");
            assert_eq!(crashed.dump.registers().len(), 4, "{append}");
            let text = crashed.report;
            assert!(text.contains("A second crash"), "{append}: {text}");
        }
    }
}

#[test]
fn warning_in_the_crash_path_is_no_crash() {
    let append = "panic_on_warn lkdtm=PANIC@150 fault=notes:warn";
    let crashed = assert_whole(start(Entry::El1, append), "first-copy");
    assert_eq!(
        host::info(&crashed.dump.path)["reason"]["kind"],
        json!("panic")
    );
    let text = crashed.running.console.text();
    assert!(text.contains("fault injected: Notes"), "{text}");
    assert!(!text.contains("A second crash"), "{text}");
}

#[test]
fn fault_in_the_message_of_a_panic_leaves_the_panic_the_reason() {
    for (entry, kind) in [(Entry::El1, "abort"), (Entry::El2, "panic")] {
        let crashed = assert_whole(start(entry, &format!("fault=message:{kind}")), "first-copy");
        let info = host::info(&crashed.dump.path);
        assert_eq!(info["reason"]["kind"], json!("panic"));
        assert_eq!(crashed.dump.registers().len(), 4);
        let bt = host::bt(&crashed.dump.path, &oracle::elf());
        assert!(bt.contains("kernel::fault::poll"), "{bt}");
    }
}

#[test]
fn crash_of_two_cpus_at_once_is_one_dump_with_both() {
    for entry in ENTRIES {
        let crashed = assert_whole(start(entry, "fault=pair"), "first-copy");
        let info = host::info(&crashed.dump.path);
        let stops = info["stops"].as_array().expect("stops").clone();
        let of = |status: &str| stops.iter().filter(|stop| stop["status"] == status).count();
        assert_eq!(of("crashed"), 1, "{stops:?}");
        assert_eq!(of("not-responding"), 0, "{stops:?}");
        assert_eq!(crashed.dump.registers().len(), 4, "{stops:?}");
        let reason = &info["reason"]["cpu"];
        assert!([json!(1), json!(2)].contains(reason), "{reason}");
    }
}

/// Another quarter is for crashes whose message is longer, and for debuggers' eyes: a stack that is nearly full is full on some day.
#[test]
fn stacks_of_the_crash_path_have_room_left() {
    let has_room = |stack: StackUse| stack.used > 0 && stack.used <= stack.size / 4 * 3;
    for entry in ENTRIES {
        let running = start(entry, "capture=none fault=message");
        running.console.wait_for("Halted");
        let stacks = [
            stack_use::crash_stack(&running.memory, 0),
            stack_use::exception_stack(&running.memory, 0),
        ];
        assert!(stacks.into_iter().all(has_room), "{stacks:?}");
        let crashed = assert_whole(
            start(entry, "crashkernel=16M lkdtm=ACCESS_NULL@150 fault=notes"),
            "first-copy",
        );
        let memory = &crashed.running.memory;
        let stacks = [
            stack_use::crash_stack(memory, 0),
            stack_use::exception_stack(memory, 0),
            stack_use::capture_stack(memory, crashed.region.start),
        ];
        assert!(stacks.into_iter().all(has_room), "{stacks:?}");
    }
}
