// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same crash of Debian's Linux, saved by Linux as its own capture kernel and by ours: smallest crash region, time to the
//! first byte of the dump, bytes of the dump.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blackbox::artefacts;
use blackbox::process::run;
use blackbox::wait::Deadline;

use crate::cpu_meter::{CpuMeter, Readings};
use crate::linux_guest::{self, Capture, LinuxGuest, Setup};

/// RAM of both sides: the guest's initramfs holds the Image and the initramfs that it loads.
pub(crate) const MEMORY_MIB: u64 = 512;
/// Regions that Linux is tried with, up to the first that does not do.
const LINUX_REGIONS: [&str; 8] = ["128M", "96M", "80M", "72M", "64M", "56M", "48M", "40M"];
/// The same for our capture kernel, with the levels of their dumps.
const OUR_RUNS: [(&str, u32); 3] = [("2M", 1), ("2M", 31), ("1M", 1)];
/// What is left out of a dump: zero pages only, and all that can be.
const LEVELS: [u32; 2] = [1, 31];
/// Linux's parameters as a capture kernel, as kdump-tools gives them; it switches itself off when it panics.
const LINUX_APPEND: &str =
    "console=ttyAMA0 rdinit=/init reset_devices nr_cpus=1 panic=-1 vmcore_raw";
/// How long a region is tried, to the time that a larger one took.
const PATIENCE: u32 = 3;
/// Between two looks at the disk.
const PERIOD: Duration = Duration::from_millis(5);
/// Longest run of a tool on a dump.
const TOOL_LIMIT: Duration = Duration::from_secs(600);

const PANIC: &[u8] = b"Kernel panic - not syncing";
const LINUX_STARTS: &[u8] = b"Booting Linux on physical CPU";
const WE_START: &[u8] = b"Afterimage: a kernel crashed";
const HAS_VMCORE: &[u8] = b"capture: /proc/vmcore of ";
const COPIED: &[u8] = b"capture: copied to the disk";

/// What was measured.
#[derive(Debug)]
pub(crate) struct SideBySide {
    /// Release of the Linux.
    pub(crate) version: String,
    /// Which makedumpfile there was.
    pub(crate) packer: String,
    pub(crate) linux: Vec<Attempt>,
    pub(crate) ours: Vec<Attempt>,
    pub(crate) bytes: Vec<Bytes>,
}

/// A crash with a region of some size.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) region: &'static str,
    /// When what was seen, from the panic on; or how it failed.
    pub(crate) outcome: Result<Saved, String>,
}

/// A crash that was saved whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved {
    /// The capture kernel's first line.
    pub(crate) starts: Moment,
    /// /proc/vmcore is there; our capture kernel has no such step.
    pub(crate) has_vmcore: Option<Moment>,
    /// The first byte of the dump is at the host.
    pub(crate) first_byte: Moment,
}

/// How long after the panic, in time and in QEMU's CPU time, which other work on the machine stretches less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) time: Duration,
    pub(crate) cpu_seconds: f64,
}

/// A dump, and what it takes.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) level: u32,
    pub(crate) way: &'static str,
    /// What went to the host.
    pub(crate) sent: u64,
    /// The dump as an ELF core, absent pages and all zeros included.
    pub(crate) elf: u64,
    pub(crate) gzip: u64,
    pub(crate) kdump: u64,
    /// Whether makedumpfile wrote it, and not our own converter.
    pub(crate) is_makedumpfiles: bool,
}

/// Runs all of it.
///
/// # Panics
/// A guest of ours does not come to its end, or a tool fails.
pub(crate) fn measure() -> SideBySide {
    let makedumpfile = std::env::var("MAKEDUMPFILE").ok();
    let packer = Packer(makedumpfile.as_deref());
    let mut bytes = Vec::new();
    let mut linux = Vec::new();
    let mut limit = linux_guest::limit();
    for region in LINUX_REGIONS {
        eprintln!("bench: Linux saves Linux, crashkernel={region}");
        let started = Instant::now();
        let dump = linux.is_empty().then_some((&packer, &mut bytes));
        let outcome = linux_saves(region, limit, dump);
        eprintln!("bench: {outcome:?}");
        let has_failed = outcome.is_err();
        linux.push(Attempt { region, outcome });
        if has_failed {
            break;
        }
        limit = limit.min(started.elapsed() * PATIENCE);
    }
    let mut ours = Vec::new();
    for (region, level) in OUR_RUNS {
        eprintln!("bench: we save Linux, crashkernel={region}, level {level}");
        let outcome = we_save(region, level, &packer, &mut bytes);
        eprintln!("bench: {outcome:?}");
        ours.push(Attempt { region, outcome });
    }
    for level in LEVELS {
        eprintln!("bench: we save Linux with a host that answers, level {level}");
        bytes.push(answered(level, &packer));
    }
    let version = fs::read_to_string(artefacts::root().join("target/linux/version"));
    SideBySide {
        version: version.unwrap_or_default().trim().to_owned(),
        packer: packer.version(),
        linux,
        ours,
        bytes,
    }
}

/// Has Linux save the crash to a disk, which the host watches; with `dump`, packs what came.
fn linux_saves(
    region: &'static str,
    limit: Duration,
    dump: Option<(&Packer<'_>, &mut Vec<Bytes>)>,
) -> Result<Saved, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let vmcore = dir.path().join("vmcore");
    let disk = File::create_new(&vmcore).expect("a new file");
    disk.set_len((MEMORY_MIB + 1) << 20)
        .expect("room for a sparse file");
    let watch = Watch::start(File::open(&vmcore).expect("the disk"));
    let drive = format!("if=none,id=disk,format=raw,file={}", vmcore.display());
    let setup = Setup {
        memory_mib: MEMORY_MIB,
        region,
        capture: Capture::Linux,
        limit,
        append: LINUX_APPEND,
        ..Setup::default()
    };
    let device = "virtio-blk-device,drive=disk";
    let crash = Crash::run(&setup, &["-drive", &drive, "-device", device]);
    let arrived = watch.finish();
    let panic = crash.panic_at()?;
    let starts = crash.find_or_explain(LINUX_STARTS, panic)?;
    let there = crash.find_or_explain(HAS_VMCORE, starts)?;
    let first = arrived.ok_or_else(|| crash.last_words(there))?;
    crash.find_or_explain(COPIED, there)?;
    let len = crash.number_at(there + HAS_VMCORE.len());
    disk.set_len(len).expect("the disk");
    if let Some((packer, bytes)) = dump {
        bytes.push(packer.pack(1, "Linux, /proc/vmcore", len, &vmcore));
    }
    let first = first.saturating_duration_since(crash.guest.started());
    Ok(Saved {
        starts: crash.moment(panic, starts),
        has_vmcore: Some(crash.moment(panic, there)),
        first_byte: crash.since(panic, first),
    })
}

/// Has our capture kernel save the crash, with nobody who answers.
fn we_save(
    region: &'static str,
    level: u32,
    packer: &Packer<'_>,
    bytes: &mut Vec<Bytes>,
) -> Result<Saved, String> {
    let append = format!("dump_level={level}");
    let setup = Setup {
        memory_mib: MEMORY_MIB,
        region,
        append: &append,
        ..Setup::default()
    };
    let crash = Crash::run(&setup, &[]);
    let panic = crash.panic_at()?;
    let starts = crash.find_or_explain(WE_START, panic)?;
    let first = crash.find_or_explain(&[0], starts)?;
    let dir = crash.guest.dir();
    let (recording, vmcore) = (dir.join("recording"), dir.join("vmcore"));
    fs::write(&recording, crash.guest.bytes()).expect("a recording of the line");
    receive(&format!("file:{}", recording.display()), &vmcore)?;
    let sent = (crash.guest.bytes().len() - first) as u64;
    bytes.push(packer.pack(level, "ours, nobody answers", sent, &vmcore));
    Ok(Saved {
        starts: crash.moment(panic, starts),
        has_vmcore: None,
        first_byte: crash.moment(panic, first),
    })
}

/// Has our capture kernel save the crash to a host that answers.
fn answered(level: u32, packer: &Packer<'_>) -> Bytes {
    let dir = tempfile::Builder::new()
        .prefix("bbl")
        .tempdir()
        .expect("a temporary directory");
    let [line, sent, vmcore] = ["line", "sent", "vmcore"].map(|name| dir.path().join(name));
    let chardev = format!(
        "socket,id=line,path={},server=on,wait=on,logfile={}",
        line.display(),
        sent.display()
    );
    let link = format!("unix:{}", line.display());
    let theirs = vmcore.clone();
    let receiver = std::thread::spawn(move || receive(&link, &theirs));
    let append = format!("dump_level={level}");
    let setup = Setup {
        memory_mib: MEMORY_MIB,
        append: &append,
        ..Setup::default()
    };
    let mut script =
        linux_guest::spawn(dir.path(), "chardev:line", &setup, &["-chardev", &chardev]);
    let status = Deadline::after(setup.limit + TOOL_LIMIT)
        .poll(|| script.try_wait().expect("the state of the script"));
    linux_guest::stop(&mut script);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    let received = receiver.join().expect("the host command");
    assert_eq!(received, Ok(()), "receive");
    let line = fs::read(&sent).expect("what was sent");
    let frames = line
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(line.len());
    let sent = (line.len() - frames) as u64;
    packer.pack(level, "ours, the host answers", sent, &vmcore)
}

/// Runs the host command; fails when the dump is not whole.
fn receive(link: &str, vmcore: &Path) -> Result<(), String> {
    let mut receive = Command::new(artefacts::host_command());
    receive.args(["receive", link, "-o"]).arg(vmcore);
    let done = run(&mut receive, linux_guest::limit() + TOOL_LIMIT);
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("receive: {}", done.stderr)),
    }
}

/// Watches the disk that /proc/vmcore is copied to for its first byte.
struct Watch {
    thread: JoinHandle<Option<Instant>>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn start(disk: File) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut magic = [0; 4];
            loop {
                let ends = theirs.load(Ordering::Relaxed);
                disk.read_exact_at(&mut magic, 0).expect("the disk");
                if magic == *b"\x7fELF" {
                    return Some(Instant::now());
                }
                if ends {
                    return None;
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self { thread, is_over }
    }

    /// Returns when it was there; to be called when QEMU has ended.
    fn finish(self) -> Option<Instant> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch over the disk")
    }
}

/// A guest that has come to its end, and the CPU time of its QEMU.
struct Crash {
    guest: LinuxGuest,
    readings: Readings,
}

impl Crash {
    fn run(setup: &Setup<'_>, qemu: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pidfile = dir.path().join("pid");
        let meter = CpuMeter::start(pidfile.clone());
        let pidfile = pidfile.display().to_string();
        let mut arguments = vec!["-pidfile", pidfile.as_str()];
        arguments.extend(qemu);
        let mut guest = LinuxGuest::start(setup, &arguments);
        let _ = guest.let_end();
        let readings = meter.finish();
        Self { guest, readings }
    }

    /// Where on the line Linux panics; else what stood in the way.
    fn panic_at(&self) -> Result<usize, String> {
        self.find_or_explain(PANIC, 0)
    }

    /// Where `text` is on the line behind `after`; else what stood in the way.
    fn find_or_explain(&self, text: &[u8], after: usize) -> Result<usize, String> {
        self.find(text, after).ok_or_else(|| self.last_words(after))
    }

    /// Where `text` is on the line, from `after` on.
    fn find(&self, text: &[u8], after: usize) -> Option<usize> {
        let rest = self.guest.bytes().get(after..)?;
        let at = rest.windows(text.len()).position(|part| part == text)?;
        Some(after + at)
    }

    /// The decimal number at `position` of the line.
    fn number_at(&self, position: usize) -> u64 {
        let rest = self.guest.bytes().get(position..).unwrap_or_default();
        let digits = rest.iter().map_while(|it| char::from(*it).to_digit(10));
        digits.fold(0, |number, digit| number * 10 + u64::from(digit))
    }

    /// How long after the byte at `from` that at `position` came.
    fn moment(&self, from: usize, position: usize) -> Moment {
        self.since(from, self.guest.arrival(position).unwrap_or_default())
    }

    /// How long after the byte at `from` `time` is, which counts from the script's start.
    fn since(&self, from: usize, time: Duration) -> Moment {
        let start = self.guest.arrival(from).unwrap_or_default();
        let cpu = self.readings.at(time).since(self.readings.at(start));
        Moment {
            time: time.saturating_sub(start),
            cpu_seconds: cpu.user + cpu.system,
        }
    }

    /// What the console says that went wrong behind `after`.
    fn last_words(&self, after: usize) -> String {
        let rest = self.guest.bytes().get(after..).unwrap_or_default();
        last_words(&String::from_utf8_lossy(rest))
    }
}

/// What a console says that went wrong.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let at = |mark: &str| lines.iter().position(|line| line.contains(mark));
    if let (Some(begin), Some(end)) = (at("guest: crash region of"), at("guest: kexec -p FAILED")) {
        let said = lines.get(begin + 1..end).unwrap_or_default();
        return format!("`kexec -p` refuses: {}", said.join("; "));
    }
    // The panic that is to be saved is no answer.
    let is_other = |line: &&&str| !line.ends_with("sysrq triggered crash");
    let of = |mark: &str| {
        lines
            .iter()
            .filter(is_other)
            .find(|line| line.contains(mark))
    };
    let last = || lines.iter().rev().find(|line| !line.is_empty());
    match of("Kernel panic").or_else(|| of("capture: FAILED")) {
        Some(line) => (*line).to_owned(),
        None => format!("nothing more after {:?}", last().unwrap_or(&"")),
    }
}

/// What makes a kdump-compressed file of a dump: the makedumpfile that MAKEDUMPFILE names, or the host command.
struct Packer<'a>(Option<&'a str>);

impl Packer<'_> {
    fn version(&self) -> String {
        let Some(makedumpfile) = self.0 else {
            return "no makedumpfile that reads this kernel was at hand".to_owned();
        };
        let said = run(Command::new(makedumpfile).arg("-v"), TOOL_LIMIT).stdout;
        let first = said.lines().next().unwrap_or("");
        first.trim().to_owned()
    }

    /// Measures a dump in other formats.
    fn pack(&self, level: u32, way: &'static str, sent: u64, vmcore: &Path) -> Bytes {
        let kdump = vmcore.with_extension("kdump");
        let level_text = level.to_string();
        let by_makedumpfile = self.0.map(|makedumpfile| {
            let mut pack = Command::new(makedumpfile);
            pack.args(["-c", "-d", &level_text]).arg(vmcore).arg(&kdump);
            run(&mut pack, TOOL_LIMIT)
        });
        let is_makedumpfiles = by_makedumpfile.is_some_and(|done| {
            if !done.status.success() {
                eprintln!("bench: makedumpfile: {}{}", done.stdout, done.stderr);
            }
            done.status.success()
        });
        if !is_makedumpfiles {
            let mut convert = Command::new(artefacts::host_command());
            convert.arg("convert").arg(vmcore).args(["--to", "kdump"]);
            convert
                .args(["--force", "-d", &level_text, "-o"])
                .arg(&kdump);
            let done = run(&mut convert, TOOL_LIMIT);
            // 3: what the level left out is missing.
            let is_written = matches!(done.status.code(), Some(0 | 3));
            assert!(is_written, "convert: {}", done.stderr);
        }
        let mut gzip = Command::new("gzip");
        gzip.args(["-k", "-f"]).arg(vmcore);
        let _output = run(&mut gzip, TOOL_LIMIT).success();
        let len = |path: &Path| fs::metadata(path).expect("a file that was written").len();
        Bytes {
            level,
            way,
            sent,
            elf: len(vmcore),
            gzip: len(&vmcore.with_extension("gz")),
            kdump: len(&kdump),
            is_makedumpfiles,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kexec_is_quoted() {
        let text = "guest: crash region of 9 bytes\nCannot load it\r\nguest: kexec -p FAILED\n";
        assert_eq!(last_words(text), "`kexec -p` refuses: Cannot load it");
    }

    #[test]
    fn second_panic_is_named_and_the_first_is_not() {
        let text = "Kernel panic - not syncing: sysrq triggered crash\n[ 1.0] Kernel panic - no memory\nBye\n";
        assert_eq!(last_words(text), "[ 1.0] Kernel panic - no memory");
    }

    #[test]
    fn silence_is_told_with_the_last_line() {
        let text = "Kernel panic - not syncing: sysrq triggered crash\nBye!\n\n";
        assert_eq!(last_words(text), "nothing more after \"Bye!\"");
    }
}
