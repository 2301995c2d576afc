// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's own debuggers on our dump of a Linux, with Debian's debug package: gdb, and crash for arm64 under qemu-user.
//!
//! Only under `scripts/soak --debuginfo`, which fetches what is needed. What is expected is what the guest printed itself.
#![cfg(test)]

#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "bench/linux_guest.rs"]
mod linux_guest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blackbox::backtrace::{self, Frame};
use blackbox::process::{Finished, run};
use blackbox::{artefacts, host};
use linux_guest::{LinuxGuest, Setup};

/// Longest run of gdb, which reads hundreds of megabytes.
const GDB_LIMIT: Duration = Duration::from_secs(180);
/// Longest run of crash, which does the same under emulation.
const CRASH_LIMIT: Duration = Duration::from_secs(1200);
/// CPUs of the guest: the crashed one, and one that idles.
const CPUS: usize = 2;

/// Whether `scripts/soak --debuginfo` runs; says so when not.
fn is_wanted() -> bool {
    let is_wanted = std::env::var("AFTERIMAGE_DEBUGINFO").as_deref() == Ok("1");
    if !is_wanted {
        println!("not run: Debian's debug packages (0.6 GB) are for scripts/soak --debuginfo");
    }
    is_wanted
}

/// The folder of a suite's guest.
fn folder(suite: &str) -> PathBuf {
    let linux = artefacts::root().join("target/linux");
    match suite {
        "bookworm" => linux.join(suite),
        _ => linux,
    }
}

/// A dump of a guest that crashed.
struct Crashed {
    guest: LinuxGuest,
    vmcore: PathBuf,
    vmlinux: PathBuf,
    release: String,
}

impl Crashed {
    fn of(suite: &str) -> Self {
        if let Some(why) = linux_guest::missing() {
            panic!("{why}");
        }
        let setup = Setup {
            suite: Some(suite),
            append: "dump_level=17",
            ..Setup::default()
        };
        let mut guest = LinuxGuest::start(&setup, &["-smp", "2"]);
        guest.wait_for_end();
        let dump = host::receive_whole(guest.bytes(), guest.dir(), &guest.transcript());
        let release = fs::read_to_string(folder(suite).join("version")).expect("a version");
        Self {
            vmcore: dump.path,
            guest,
            vmlinux: folder(suite).join("debug/vmlinux"),
            release: release.trim().to_owned(),
        }
    }

    /// What `afterimage gdb` prints for gdb's `commands`.
    fn gdb(&self, elf: &Path, commands: &[&str]) -> Finished {
        let mut gdb = Command::new(artefacts::host_command());
        gdb.arg("gdb").arg(&self.vmcore).arg("--elf").arg(elf);
        gdb.args(["--", "-nx", "-batch", "-ex", "set width 0"]);
        for command in commands {
            gdb.args(["-ex", command]);
        }
        run(&mut gdb, GDB_LIMIT)
    }
}

/// Where a path in the source begins: Debian's assembly is named with the folder it was built in.
const SOURCES: [&str; 2] = ["drivers/tty/", "kernel/panic.c"];

/// Asserts that `bt --elf` names the lines that gdb names, at addresses that KASLR moved.
fn assert_lines_agree(crashed: &Crashed, theirs: &[Frame]) {
    let ours = host::bt(&crashed.vmcore, &crashed.vmlinux);
    let mut compared = 0;
    for frame in theirs {
        if !SOURCES.iter().any(|source| frame.place.contains(source)) {
            continue;
        }
        let called = format!(" in {}+", frame.function);
        let place = frame.place.trim_start_matches("./");
        let is_there =
            |line: &str| line.contains(&called) && line.ends_with(&format!(" at {place}"));
        assert!(ours.lines().any(is_there), "{frame} is not in {ours}");
        compared += 1;
    }
    assert!(compared >= 4, "frames compared: {theirs:?}");
}

fn judge(suite: &str) {
    let crashed = Crashed::of(suite);
    let done = crashed.gdb(
        &crashed.vmlinux,
        &[
            "info threads",
            "echo the crashed CPU\\n",
            "bt",
            "print init_uts_ns.name.release",
            "print linux_banner",
            // In vmalloc()'s part, which no segment of the dump shows.
            "print $sp >= 0xffff800000000000 && *(long *)$sp == *(long *)$sp",
            "thread 1",
            "thread 2",
        ],
    );
    let text = done.success();
    let after = text.split_once("the crashed CPU\n");
    let (_, after) = after.unwrap_or_else(|| panic!("{text}"));
    let frames = backtrace::frames(after);
    assert_lines_agree(&crashed, &frames);
    let called: Vec<String> = frames.into_iter().map(|frame| frame.function).collect();
    for name in ["panic", "sysrq_handle_crash", "write_sysrq_trigger"] {
        assert!(called.iter().any(|it| it == name), "{name}: {called:?}");
    }
    let outermost = called.last().map(String::as_str);
    assert_eq!(outermost, Some("el0t_64_sync"), "{text}");
    let release = format!("\"{}\"", crashed.release);
    assert!(text.contains(&release), "{release} in {text}");
    let banner = format!("\"Linux version {} (", crashed.release);
    assert!(text.contains(&banner), "{banner} in {text}");
    assert!(text.contains("$3 = 1"), "{text}");
    let threads: Vec<&str> = text
        .lines()
        .filter(|line| line.trim_start_matches(['*', ' ']).contains("LWP ") && line.contains('('))
        .filter(|line| line.starts_with(['*', ' ']))
        .collect();
    assert_eq!(threads.len(), CPUS, "{text}");
    let current = threads.iter().find(|line| line.starts_with('*'));
    let log = host::dmesg(&crashed.vmcore);
    let cpu = log.lines().find_map(|line| {
        let (_, rest) = line.split_once("] CPU: ")?;
        rest.split_once(' ')?.0.parse::<usize>().ok()
    });
    let number = cpu.expect("the CPU in Linux's own words") + 1;
    let expected = format!("* {number} ");
    assert!(
        current.is_some_and(|line| line.starts_with(&expected)),
        "{expected:?} in {threads:?}"
    );
    println!("{}: {} frames", crashed.release, called.len());
    judge_crash(&crashed, &crashed.vmcore);
    let kdump = crashed.guest.dir().join("vmcore.kdump");
    let mut convert = Command::new(artefacts::host_command());
    convert.arg("convert").arg(&crashed.vmcore);
    convert.args(["--to", "kdump", "-o"]).arg(&kdump);
    let _ = run(&mut convert, GDB_LIMIT).success();
    judge_crash(&crashed, &kdump);
}

#[test]
fn linux_6_12_is_read_by_gdb_and_crash() {
    if is_wanted() {
        judge("trixie");
    }
}

#[test]
fn linux_6_1_is_read_by_gdb_and_crash() {
    if is_wanted() {
        judge("bookworm");
    }
}

#[test]
fn vmlinux_of_another_kernel_is_refused() {
    if !is_wanted() {
        return;
    }
    let crashed = Crashed::of("bookworm");
    let other = folder("trixie").join("debug/vmlinux");
    let done = crashed.gdb(&other, &["info threads"]);
    assert_eq!(done.status.code(), Some(1), "{}", done.stdout);
    assert!(done.stderr.contains("is the wrong ELF"), "{}", done.stderr);
    assert!(!done.stdout.contains("LWP"), "{}", done.stdout);
}

/// What crash says of a dump: the same that Linux said itself.
fn judge_crash(crashed: &Crashed, dump: &Path) {
    let commands = "sys\nlog\nbt\nps\nquit\n";
    let done = crash(crashed, dump, commands);
    let text = done.success();
    let row = |name: &str| {
        let value = text.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found.trim() == name).then_some(value)
        });
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    assert_eq!(row("RELEASE"), crashed.release);
    // 6.12 takes those that were stopped for offline, and crash says so behind the number.
    let cpus = row("CPUS");
    let count = cpus.split(' ').next().unwrap_or_default();
    assert_eq!(count, CPUS.to_string(), "{cpus}");
    let panic = "\"Kernel panic - not syncing: sysrq triggered crash\"";
    assert!(text.contains(panic), "{text}");
    assert!(text.contains("Starting crashdump kernel"), "{text}");
    assert!(text.contains("Bye!"), "{text}");
    for name in ["panic", "sysrq_handle_crash", "write_sysrq_trigger"] {
        let is_there = text
            .lines()
            .any(|line| line.starts_with(" #") && line.contains(&format!("] {name} at ")));
        assert!(is_there, "{name}: {text}");
    }
    assert!(text.contains("[swapper/0]"), "{text}");
    println!("crash read {}", dump.display());
}

/// Runs crash; Debian's is for arm64.
fn crash(crashed: &Crashed, dump: &Path, commands: &str) -> Finished {
    let root = artefacts::root().join("target/linux/crash");
    let script = crashed.guest.dir().join("crash.commands");
    fs::write(&script, commands).expect("commands");
    // It takes no notice of SIGTERM, nor does it end by itself after some errors: `run` kills it.
    let mut crash = Command::new("qemu-aarch64-static");
    crash.env("TERM", "dumb").arg("-L").arg(&root);
    crash.arg(root.join("usr/bin/crash"));
    crash.args(["-s", "-i"]).arg(script);
    if let Some(offset) = phys_offset(&crashed.vmcore) {
        crash
            .arg("--machdep")
            .arg(format!("phys_offset={offset:#x}"));
    }
    crash.arg(&crashed.vmlinux).arg(dump);
    run(&mut crash, CRASH_LIMIT)
}

/// What crash 8.0.6 has to be told of a kernel built for 52 bits of address on a CPU that has 48: Linux counts PHYS_OFFSET from the start of
/// 52 bits, crash from the start of those in use.
fn phys_offset(vmcore: &Path) -> Option<u64> {
    let head = fs::read(vmcore).expect("the dump");
    let head = String::from_utf8_lossy(&head[..head.len().min(1 << 17)]).into_owned();
    let value = |key: &str| {
        let lines = head.lines().find_map(|line| line.strip_prefix(key));
        lines.unwrap_or_else(|| panic!("no {key}")).to_owned()
    };
    if value("NUMBER(VA_BITS)=") != "52" || value("NUMBER(TCR_EL1_T1SZ)=") != "0x10" {
        return None;
    }
    let digits = value("NUMBER(PHYS_OFFSET)=0x");
    let offset = u64::from_str_radix(&digits, 16).expect("an offset");
    Some(offset.wrapping_add(0xf << 48))
}
