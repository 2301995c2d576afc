// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's command line: what is wrong in it is named, and the machine boots on.

use std::fmt;

use blackbox::{Entry, Machine, Running, host, matrix, oracle};

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
const UP: &str = "idle, with";

/// A command line, and what the console shows of it before the machine is up.
struct Line(&'static str, &'static [&'static str]);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn boot(line: &str) -> Running {
    let running = Machine::new()
        .append(line)
        .append("dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for(UP);
    running
}

fn shows(Line(line, wanted): &Line) {
    let text = boot(line).console.text();
    let missing = wanted.iter().find(|wanted| !text.contains(**wanted));
    assert_eq!(missing, None, "{text}");
}

#[test]
fn crashkernel_that_is_malformed_is_named_with_its_byte() {
    let rows = [
        Line(
            "crashkernel=",
            &["byte 12", "size expected", "no crash region"],
        ),
        Line(
            "crashkernel=abc",
            &["byte 12", "size expected", "no crash region"],
        ),
        Line(
            "a=b crashkernel=2Mx",
            &["byte 18", "unexpected character 'x'", "no crash region"],
        ),
        Line(
            "crashkernel=2M-1M:2M",
            &["byte 15", "is not above", "no crash region"],
        ),
        // Without a colon before the first blank these are no ranges (kernel/crash_reserve.c).
        Line(
            "crashkernel=1M-2M",
            &["byte 14", "unexpected character '-'", "no crash region"],
        ),
        Line(
            "crashkernel=4M crashkernel=x",
            &["byte 27", "no crash region"],
        ),
        Line(
            "crashkernel=100G",
            &["byte 12", "0x1900000000", "no crash region"],
        ),
        Line(
            "crashkernel=99999999999999999999",
            &["byte 12", "no crash region"],
        ),
    ];
    matrix::for_each(&rows, shows);
}

#[test]
fn crashkernel_without_a_place_is_named_with_its_range() {
    let rows = [
        // The kernel itself lies there.
        Line(
            "crashkernel=2M@0x40200000",
            &["0x40200000..0x40400000", "in use", "no crash region"],
        ),
        // No RAM.
        Line(
            "crashkernel=2M@0x80000000",
            &["0x80000000..0x80200000", "no crash region"],
        ),
        Line(
            "crashkernel=2M@0x44100000",
            &["0x44100000", "no crash region"],
        ),
        Line("crashkernel=120M", &["0x7800000", "no crash region"]),
    ];
    matrix::for_each(&rows, shows);
}

#[test]
fn crashkernel_that_is_right_is_honoured() {
    let rows = [
        Line(
            "crashkernel=4M",
            &[
                "crash region 0x47c00000..0x48000000",
                "capture kernel armed at 0x47c00000",
            ],
        ),
        Line(
            "crashkernel=2M@0x45000000",
            &["crash region 0x45000000..0x45200000", "armed at 0x45000000"],
        ),
        Line(
            "crashkernel=64M-1G:6M,1G-:8M",
            &["6144 KiB", "capture kernel armed"],
        ),
        Line(
            "crashkernel=4M crashkernel=2M",
            &["2048 KiB", "capture kernel armed"],
        ),
        // The simple form takes an empty offset for none, as Linux does.
        Line("crashkernel=2M@", &["2048 KiB", "capture kernel armed"]),
        Line("crashkernel=3M", &["4096 KiB", "capture kernel armed"]),
        Line("", &["2048 KiB", "capture kernel armed"]),
    ];
    matrix::for_each(&rows, shows);
}

#[test]
fn parameters_that_are_unknown_or_malformed_are_logged_and_not_fatal() {
    let rows = [
        Line("frobnicate=7", &["frobnicate"]),
        Line(
            "capture=sometimes",
            &[
                "capture=sometimes at byte 0 is malformed",
                "capture kernel armed",
            ],
        ),
        Line(
            "lkdtm=NO_SUCH_CRASH",
            &["lkdtm=NO_SUCH_CRASH: there is no such crash"],
        ),
        Line(
            "lkdtm=PANIC@soon",
            &["lkdtm=PANIC@soon at byte 0 is malformed"],
        ),
        Line(
            "panic_on_warn=perhaps",
            &["panic_on_warn=perhaps at byte 0 is malformed"],
        ),
    ];
    matrix::for_each(&rows, shows);
}

#[test]
fn dump_parameters_that_are_malformed_are_named_by_the_capture_kernel() {
    let crashed = oracle::crash(Machine::new().append("lkdtm=PANIC@100 dump_level=banana"));
    assert!(crashed.report.contains("banana"), "{}", crashed.report);
}

#[test]
fn crash_without_a_capture_kernel_is_reported_and_ends_in_a_minimal_dump() {
    let rows = [
        Line("capture=none", &[]),
        Line("crashkernel=0", &[]),
        Line("crashkernel=100G", &[]),
        Line("capture=initrd", &[]),
    ];
    matrix::for_each(&rows, |Line(line, _)| {
        for entry in [Entry::El1, Entry::El2] {
            let machine = Machine::new()
                .cpus(2)
                .entry(entry)
                .append(line)
                .append("lkdtm=ACCESS_NULL@150 lkdtm_cpu=1 dump_then=halt");
            let mut running = machine.start();
            let end = running.console.wait_for_from("this machine has crashed", 0);
            let end = running.console.wait_for_from("data abort at 0x0", end);
            let end = running
                .console
                .wait_for_from("No capture kernel is loaded", end);
            let end = running.console.wait_for_from("--- minimal dump: end", end);
            running.console.wait_for_from("Halted", end);
            assert!(running.is_alive(), "{entry:?}");
        }
    });
}

#[test]
fn sysrq_tells_what_is_loaded() {
    let running = boot("crashkernel=4M@0x46000000");
    running.console.send(b"~~~SysRqk");
    running
        .console
        .wait_for("sysrq: crash region 0x46000000, 4194304 bytes, capture kernel loaded");
    running.console.send(b"~~~SysRqm");
    running.console.wait_for("sysrq: heap of");
    running.console.send(b"~~~SysRqh");
    running.console.wait_for("c crash");
}

#[test]
fn sysrq_sequence_of_the_command_line_replaces_the_default() {
    let running = boot("sysrq_sequence=@!@");
    running.console.send(b"~~~SysRqc");
    running.console.send(b"@!@c");
    let crashed = oracle::finish(running);
    assert!(
        crashed.report.contains("sysrq: Trigger a crash"),
        "{}",
        crashed.report
    );
}

#[test]
fn capture_append_reaches_the_capture_kernel() {
    let crashed =
        oracle::crash(Machine::new().append("lkdtm=PANIC@100 capture_append=dump_level=0"));
    assert!(
        crashed.report.contains("dump level 0"),
        "{}",
        crashed.report
    );
    oracle::assert_nothing_is_missing(&crashed);
}

#[test]
fn dump_of_a_fixed_region_in_the_middle_of_ram_is_whole() {
    let machine = Machine::new().append("crashkernel=2M@0x44800000 lkdtm=PANIC@100 dump_level=0");
    let (crashed, _) = oracle::compare_with_memory(machine);
    assert_eq!(crashed.region, 0x4480_0000..0x44a0_0000);
    oracle::assert_nothing_is_missing(&crashed);
}

#[test]
fn sysrq_crash_of_an_idle_machine_is_dumped() {
    let running = boot("");
    running.console.send(SYSRQ_CRASH);
    let crashed = oracle::finish(running);
    assert_eq!(host::info(&crashed.dump.path)["reason"]["kind"], "sysrq");
}
