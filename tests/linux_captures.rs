// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our kernel crashes, and Debian's Linux is its capture kernel: loaded with an initial RAM disk, it has `/proc/vmcore`, copies it to a
//! disk and over the network, and what arrives is our machine's memory.
#![cfg(test)]

use std::fmt;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::backtrace::{assert_readelf_accepts, comparable, frames, gdb};
use blackbox::dump::Dump;
use blackbox::oracle::{self, Crashed};
use blackbox::process::run;
use blackbox::{Entry, Machine, artefacts, host, matrix};

/// Longest run of a machine that boots Linux.
const LINUX_LIMIT: Duration = Duration::from_secs(240);
/// Longest run of a tool.
const TOOL_LIMIT: Duration = Duration::from_secs(60);
const MEMORY_MIB: u64 = 320;
/// Enough for 30 MiB of Image, and for Linux on four CPUs to work in the rest; with one CPU 112 MiB are.
const REGION_MIB: u64 = 160;
/// QEMU serves files of the host.
const SEMIHOSTING: [&str; 2] = ["-semihosting-config", "enable=on,target=native"];

struct Row {
    /// Whose kernel it is: Debian 13's (6.12, 52-bit addresses) or Debian 12's (6.1, 48-bit).
    suite: &'static str,
    gic: u32,
    entry: Entry,
    cpu: &'static str,
    cpus: usize,
    /// CPUs of the capture kernel.
    capture_cpus: usize,
    has_network: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            suite,
            gic,
            entry,
            cpu,
            cpus,
            capture_cpus,
            ..
        } = self;
        write!(
            f,
            "GICv{gic}, {entry:?}, {cpus} x {cpu}, Linux of {suite} on {capture_cpus}"
        )
    }
}

const ROWS: [Row; 2] = [
    Row {
        suite: "bookworm",
        gic: 2,
        entry: Entry::El1,
        cpu: "cortex-a72",
        cpus: 4,
        capture_cpus: 1,
        has_network: true,
    },
    // A GICv2's groups are each CPU's own, and Linux does not set them.
    Row {
        suite: "trixie",
        gic: 2,
        entry: Entry::El2,
        cpu: "cortex-a72",
        cpus: 4,
        capture_cpus: 4,
        has_network: false,
    },
];

/// Further rows under `AFTERIMAGE_SOAK=1`.
const SOAK_ROWS: [Row; 3] = [
    Row {
        suite: "trixie",
        gic: 3,
        entry: Entry::El2,
        cpu: "max,pauth-impdef=on",
        cpus: 4,
        capture_cpus: 4,
        has_network: false,
    },
    Row {
        suite: "trixie",
        gic: 3,
        entry: Entry::El1,
        cpu: "cortex-a53",
        cpus: 2,
        capture_cpus: 2,
        has_network: true,
    },
    Row {
        suite: "trixie",
        gic: 2,
        entry: Entry::El1,
        cpu: "cortex-a53",
        cpus: 8,
        capture_cpus: 8,
        has_network: false,
    },
];

#[test]
fn linux_saves_our_crash_to_a_disk_and_over_the_network() {
    let rows: Vec<Row> = ROWS
        .into_iter()
        .chain(SOAK_ROWS.into_iter().filter(|_| matrix::is_soak()))
        .collect();
    matrix::for_each(&rows, check);
}

fn check(row: &Row) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = dir.path().join("disk");
    make_disk(&disk);
    let host_end = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = host_end.local_addr().expect("its number").port();
    let over_network = row.has_network.then(|| {
        std::thread::spawn(move || {
            let (mut stream, _) = host_end.accept().expect("a connection");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("what comes on it");
            bytes
        })
    });

    let mut append = format!(
        "console=ttyAMA0 reset_devices rdinit=/init nr_cpus={}",
        row.capture_cpus
    );
    if row.has_network {
        append.push_str(&format!(" vmcore_port={port}"));
    }
    let crashing_cpu = row.cpus - 1;
    let machine = Machine::new()
        .memory_mib(MEMORY_MIB)
        .gic(row.gic)
        .entry(row.entry)
        .cpu(row.cpu)
        .cpus(row.cpus)
        .limit(LINUX_LIMIT)
        .append(&format!("crashkernel={REGION_MIB}M"))
        .append(&format!(
            "capture=semihosting:{}",
            linux_of(row.suite, "Image")
        ))
        .append(&format!(
            "capture_initrd=semihosting:{}",
            linux_of(row.suite, "capture.cpio")
        ))
        .append(&format!("capture_append=\"{append}\""))
        .append(&format!("lkdtm=ACCESS_NULL@100 lkdtm_cpu={crashing_cpu}"))
        .extra(&SEMIHOSTING)
        .extra(&[
            "-drive",
            &format!("if=none,id=disk,format=raw,file={}", disk.display()),
        ])
        .extra(&["-device", "virtio-blk-device,drive=disk"])
        .extra(&["-netdev", "user,id=net"])
        .extra(&["-device", "virtio-net-device,netdev=net"]);
    let mut running = machine.start();
    running.console.wait_for("Booting Linux on physical CPU");
    let before = running.memory.pages();
    running.console.wait_for("reboot: Power down");
    let report = running.console.text();
    assert!(!report.contains("capture: FAILED"), "{report}");
    let cpus = format!(", {} CPUs, ", row.capture_cpus);
    let introduction = report.lines().find(|line| line.contains("capture: Linux "));
    assert!(
        introduction.is_some_and(|line| line.contains(&cpus)),
        "{introduction:?}"
    );
    running.wait_for_exit();

    let vmcore = dir.path().join("vmcore");
    let dump = format!("dump /vmcore {}", vmcore.display());
    use_tool("debugfs", &["-R", &dump], &disk);
    if let Some(over_network) = over_network {
        let bytes = over_network.join().expect("the copy over the network");
        let on_disk = std::fs::read(&vmcore).expect("the copy on the disk");
        assert!(
            bytes == on_disk,
            "{} bytes came over the network, not the {} bytes on the disk",
            bytes.len(),
            on_disk.len()
        );
    }
    let crashed = Crashed {
        running,
        region: oracle::region(&report),
        dump: Dump::open(&vmcore),
        report,
    };
    assert_eq!(
        crashed.region.end - crashed.region.start,
        REGION_MIB << 20,
        "the region:\n{}",
        crashed.report
    );
    let after = oracle::assert_unchanged("Linux's first line", before, &crashed);
    oracle::assert_equals_memory(&crashed, &after);
    oracle::assert_nothing_is_missing(&crashed);
    assert_is_ours(&crashed, row.cpus, crashing_cpu);
}

/// Asserts that debuggers find our kernel's crash in what Linux saved.
fn assert_is_ours(crashed: &Crashed, cpus: usize, crashing_cpu: usize) {
    let (path, elf) = (&crashed.dump.path, oracle::elf());
    assert_readelf_accepts(path);
    assert_eq!(crashed.dump.registers().len(), cpus);
    let reason = host::info(path)["reason"].clone();
    assert_eq!(
        reason["cpu"].as_u64(),
        Some(crashing_cpu as u64),
        "{reason}"
    );
    assert!(host::dmesg(path).contains("lkdtm"), "the log of our kernel");

    let ours = comparable(&frames(&host::bt(path, &elf)));
    let wrote = ours.iter().position(|frame| frame.function == "write_to");
    assert_eq!(wrote, Some(0), "the write to NULL: {ours:?}");
    // Linux keeps the notes in the order of the CPUs, and gdb begins with the first.
    let thread = format!("thread {}", crashing_cpu + 1);
    let text = gdb(path, &elf, &[&thread, "echo here\\n", "bt"]);
    let (_, backtrace) = text.split_once("here\n").expect("gdb's backtrace");
    assert_eq!(comparable(&frames(backtrace)), ours, "{text}");
}

#[test]
fn initrd_that_does_not_fit_is_named_and_the_machine_runs_on() {
    let initrd = linux("capture.cpio");
    assert_not_loaded(
        &format!("crashkernel=2M capture_initrd=semihosting:{initrd}"),
        "no capture kernel is loaded: Image, device tree, ELF core header and initrd need 0x",
    );
}

#[test]
fn image_that_does_not_fit_is_named_and_the_machine_runs_on() {
    let image = linux("Image");
    assert_not_loaded(
        &format!("crashkernel=16M capture=semihosting:{image}"),
        "bytes of a region of 0xff0000",
    );
}

#[test]
fn initrd_that_is_not_there_is_named_and_the_machine_runs_on() {
    assert_not_loaded(
        "capture_initrd=semihosting:/nowhere/initrd",
        "no capture kernel is loaded: the host file that capture_initrd= names cannot be read",
    );
    assert_not_loaded(
        "capture_initrd=initrd",
        "no capture kernel is loaded: capture_initrd=initrd, but the boot loader left no initrd",
    );
}

#[test]
fn initrd_of_no_known_kind_is_malformed_and_ignored() {
    let running = Machine::new()
        .append("capture_initrd=disk:0")
        .extra(&SEMIHOSTING)
        .start();
    running.console.wait_for("idle, with");
    let text = running.console.text();
    assert!(
        text.contains("command line: capture_initrd=disk:0 at byte 0 is malformed and ignored"),
        "{text}"
    );
    assert!(text.contains("capture kernel armed at"), "{text}");
}

/// Boots with `parameters` and asserts that `complaint` is in the log, nothing is armed, and the machine is up.
fn assert_not_loaded(parameters: &str, complaint: &str) {
    let running = Machine::new()
        .append(parameters)
        .extra(&SEMIHOSTING)
        .start();
    running.console.wait_for("idle, with");
    let text = running.console.text();
    assert!(text.contains(complaint), "{complaint:?} in:\n{text}");
    assert!(!text.contains("armed at"), "{text}");
}

/// Path of a file that belongs to the kernel of `suite`.
fn linux_of(suite: &str, name: &str) -> String {
    match suite {
        "trixie" => linux(name),
        _ => linux(&format!("{suite}/{name}")),
    }
}

/// Path of a file in target/linux that `scripts/linux-guest --fetch` leaves.
fn linux(name: &str) -> String {
    let path = artefacts::root().join("target/linux").join(name);
    assert!(
        path.is_file(),
        "{} is missing: scripts/linux-guest --fetch makes it",
        path.display()
    );
    path.display().to_string()
}

/// A disk with an empty ext4 file system that has room for all of memory.
fn make_disk(path: &Path) {
    let file = std::fs::File::create(path).expect("a file");
    file.set_len((MEMORY_MIB + 64) << 20)
        .expect("room for a disk");
    use_tool("mke2fs", &["-q", "-t", "ext4"], path);
}

/// Runs a tool of e2fsprogs on `disk`; it need not be in the path of a plain user.
fn use_tool(name: &str, arguments: &[&str], disk: &Path) {
    let places = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
    let mut found = places.iter().map(|place| Path::new(place).join(name));
    let Some(path) = found.find(|path| path.is_file()) else {
        panic!("no {name} in {places:?}: it is in the package e2fsprogs")
    };
    let done = run(Command::new(path).args(arguments).arg(disk), TOOL_LIMIT);
    assert!(done.status.success(), "{name}: {}", done.stderr);
}
