// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's Linux in QEMU, crashed into our capture Image by Debian's own `kexec -p`.
//!
//! `scripts/linux-guest` is run as a user runs it. Its serial line is a FIFO: QEMU writes byte by byte, and a FIFO takes
//! these at a fraction of the cost of a socket (docs/benchmarks.md), with room for 64 KiB when reading is held.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use blackbox::artefacts;
use blackbox::memory::{Pages, RAM_START, read_pages};
use blackbox::wait::Deadline;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tempfile::TempDir;

/// Longest run of the guest; a benchmark on a busy machine may take longer than a test: `AFTERIMAGE_LINUX_SECONDS`.
pub(crate) fn limit() -> Duration {
    let seconds = std::env::var("AFTERIMAGE_LINUX_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(240))
}
/// RAM of the guest unless a test says otherwise.
pub(crate) const MEMORY_MIB: u64 = 256;
/// How much longer than the guest may run it is waited for.
const SLACK: Duration = Duration::from_secs(10);
/// Parameters of the capture kernel unless a test says otherwise: all of memory, once, and then off.
pub(crate) const APPEND: &str = "dump_then=poweroff dump_rounds=1 dump_effort=0 dump_level=1";
/// What the guest's init prints last.
const CRASHING: &[u8] = b"guest: crashing";
/// Between two looks at the line, so that many bytes are taken at once.
const PAUSE: Duration = Duration::from_millis(2);

/// Says why no Linux guest can run here.
pub(crate) fn missing() -> Option<String> {
    let version = artefacts::root().join("target/linux/version");
    (!version.is_file()).then(|| {
        format!(
            "{} is missing: scripts/linux-guest --fetch makes it",
            version.display()
        )
    })
}

/// A guest on its way to its crash.
#[derive(Debug)]
pub(crate) struct LinuxGuest {
    script: Child,
    dir: TempDir,
    memory_mib: u64,
    line: File,
    bytes: Vec<u8>,
    /// How many bytes there were at which time.
    arrivals: Vec<(usize, Duration)>,
    started: Instant,
    times: Times,
    deadline: Deadline,
}

/// When what was seen on the line, since the script was started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// The guest says that it crashes.
    pub(crate) crash: Option<Duration>,
    /// The first byte of a frame.
    pub(crate) first_frame: Option<Duration>,
    /// The last byte.
    pub(crate) end: Option<Duration>,
}

/// What the guest is and does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// RAM.
    pub(crate) memory_mib: u64,
    /// `crashkernel=`, as Linux is given it.
    pub(crate) region: &'a str,
    /// What the guest loads into it.
    pub(crate) capture: Capture,
    /// Longest run.
    pub(crate) limit: Duration,
    /// A shell script that it runs before it crashes.
    pub(crate) script: Option<&'a str>,
    /// Parameters of the capture kernel, for our own after `APPEND`.
    pub(crate) append: &'a str,
    /// The Debian suite that its kernel is from.
    pub(crate) suite: Option<&'a str>,
    /// A module of its kernel that it finds in /guest/modules.
    pub(crate) module: Option<&'a str>,
}

/// A capture kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    /// Ours.
    Afterimage,
    /// The kernel of the guest itself, with target/linux/capture.cpio.
    #[allow(dead_code, reason = "not in every program that has this module")]
    Linux,
}

impl Default for Setup<'_> {
    /// A guest of Debian 13 that does nothing but crash into our capture Image.
    fn default() -> Self {
        Self {
            memory_mib: MEMORY_MIB,
            region: "2M",
            capture: Capture::Afterimage,
            limit: limit(),
            script: None,
            append: "",
            suite: None,
            module: None,
        }
    }
}

impl LinuxGuest {
    /// Starts a guest that is set up so, with more arguments of QEMU.
    ///
    /// # Panics
    /// The script does not start.
    pub(crate) fn start(setup: &Setup<'_>, qemu: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bbl")
            .tempdir()
            .expect("a temporary directory");
        let fifo = dir.path().join("line");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let line = File::options()
            .read(true)
            .custom_flags(flags)
            .open(&fifo)
            .expect("the FIFO");
        let line_path = format!("file:{}", fifo.display());
        let script = spawn(dir.path(), &line_path, setup, qemu);
        let (started, deadline) = (Instant::now(), Deadline::after(setup.limit + SLACK));
        Self {
            script,
            dir,
            memory_mib: setup.memory_mib,
            line,
            bytes: Vec::new(),
            arrivals: Vec::new(),
            started,
            times: Times::default(),
            deadline,
        }
    }

    /// Reads up to the first frame and holds there. QEMU may run ahead by what the FIFO holds.
    ///
    /// # Panics
    /// No frame comes.
    pub(crate) fn wait_for_first_frame(&mut self) {
        while self.times.first_frame.is_none() {
            assert!(
                self.take_bytes(),
                "no frame came on the line:\n{}",
                self.transcript()
            );
        }
    }

    /// Reads up to `text` on the console.
    ///
    /// # Panics
    /// It does not come.
    #[allow(dead_code, reason = "not in every program that has this module")]
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        while !self
            .bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            assert!(
                self.take_bytes(),
                "no {text:?} came on the line:\n{}",
                self.transcript()
            );
        }
    }

    /// Where the guest's RAM can be read and written.
    #[allow(dead_code, reason = "not in every program that has this module")]
    pub(crate) fn ram_path(&self) -> PathBuf {
        ram(self.dir())
    }

    /// Reads to the end: the machine is switched off after the dump. Returns when what was seen.
    ///
    /// # Panics
    /// It does not end.
    pub(crate) fn wait_for_end(&mut self) -> Times {
        let status = self.let_end();
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}:\n{}",
            self.transcript()
        );
        self.times
    }

    /// Reads to the end, whatever it is; `None` if even the script's own limit did not end it.
    pub(crate) fn let_end(&mut self) -> Option<ExitStatus> {
        while self.take_bytes() {}
        self.times.end = Some(self.started.elapsed());
        self.deadline
            .poll(|| self.script.try_wait().expect("the state of the script"))
    }

    /// When the byte at `position` of the line was seen, since the script was started.
    #[allow(dead_code, reason = "not in every program that has this module")]
    pub(crate) fn arrival(&self, position: usize) -> Option<Duration> {
        let later = self.arrivals.partition_point(|(len, _)| *len <= position);
        self.arrivals.get(later).map(|(_, time)| *time)
    }

    /// When the script was started.
    #[allow(dead_code, reason = "not in every program that has this module")]
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Everything that came on the line.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A directory of this guest's own.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The guest's RAM as it is now: pages that are not zero.
    pub(crate) fn pages(&self) -> Pages {
        let file = File::open(ram(self.dir())).expect("the guest's RAM");
        let mut pages = Pages::new();
        read_pages(&file, 0..self.memory_mib << 20, |offset, page| {
            pages.insert(RAM_START + offset, page);
        });
        pages
    }

    /// The end of the console's text before the first frame, and what the script said.
    pub(crate) fn transcript(&self) -> String {
        let text = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .and_then(|end| self.bytes.get(..end));
        let text = String::from_utf8_lossy(text.unwrap_or(&self.bytes));
        let mut tail: Vec<&str> = text.lines().rev().take(60).collect();
        tail.reverse();
        let log = fs::read_to_string(self.dir.path().join("script.log")).unwrap_or_default();
        format!(
            "{}\n[{} bytes in all]\n{log}",
            tail.join("\n"),
            self.bytes.len()
        )
    }

    /// Takes what has come meanwhile; returns false at the end of the line.
    fn take_bytes(&mut self) -> bool {
        std::thread::sleep(PAUSE);
        assert!(
            !self.deadline.is_past(),
            "it did not end:\n{}",
            self.transcript()
        );
        let mut part = [0; 0x1_0000];
        let len = match self.line.read(&mut part) {
            // Before QEMU opened it a FIFO has no writer, which looks like its end.
            Ok(0) => return self.bytes.is_empty() && matches!(self.script.try_wait(), Ok(None)),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) => panic!("the line: {error}\n{}", self.transcript()),
        };
        let new = part.get(..len).unwrap_or(&[]);
        let seen_before = self.bytes.len().saturating_sub(CRASHING.len());
        self.bytes.extend_from_slice(new);
        let fresh = self.bytes.get(seen_before..).unwrap_or(&[]);
        let now = self.started.elapsed();
        self.arrivals.push((self.bytes.len(), now));
        if self.times.crash.is_none()
            && fresh
                .windows(CRASHING.len())
                .any(|window| window == CRASHING)
        {
            self.times.crash = Some(now);
        }
        if self.times.first_frame.is_none() && new.contains(&0) {
            self.times.first_frame = Some(now);
        }
        true
    }
}

impl Drop for LinuxGuest {
    fn drop(&mut self) {
        stop(&mut self.script);
    }
}

/// Runs the script with `serial` as QEMU's line, in a process group of its own.
pub(crate) fn spawn(dir: &Path, serial: &str, setup: &Setup<'_>, qemu: &[&str]) -> Child {
    let memory = setup.memory_mib;
    let backend = format!(
        "memory-backend-file,id=ram0,size={memory}M,mem-path={},share=on",
        ram(dir).display()
    );
    let log = File::create(dir.join("script.log")).expect("a log file");
    let mut command = Command::new(artefacts::root().join("scripts/linux-guest"));
    match setup.capture {
        Capture::Afterimage => {
            command
                .arg("--crash")
                .arg(artefacts::image("capture.Image"))
                .args(["--append", &format!("{APPEND} {}", setup.append)]);
        }
        Capture::Linux => {
            let linux = artefacts::root().join("target/linux");
            command
                .arg("--crash")
                .arg(linux.join("Image"))
                .arg("--initrd")
                .arg(linux.join("capture.cpio"))
                .args(["--append", setup.append]);
        }
    }
    if let Some(script) = setup.script {
        let path = dir.join("work");
        fs::write(&path, script).expect("a script");
        command.arg("--script").arg(path);
    }
    if let Some(suite) = setup.suite {
        command.args(["--suite", suite]);
    }
    if let Some(module) = setup.module {
        command.args(["--module", module]);
    }
    let seconds = setup.limit.as_secs().to_string();
    command.args(["--crashkernel", setup.region, "--timeout", &seconds, "--"]);
    command
        .args(["-m", &format!("{memory}M"), "-serial", serial])
        .args(["-monitor", "none", "-object", &backend])
        .args(["-M", "memory-backend=ram0"])
        .args(qemu);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("scripts/linux-guest does not start: {error}"))
}

/// Ends the script and its QEMU, if they still run.
pub(crate) fn stop(script: &mut Child) {
    if matches!(script.try_wait(), Ok(None)) {
        // It may have ended by itself in this moment.
        let _ = Command::new("kill")
            .args(["--", &format!("-{}", script.id())])
            .status();
    }
    let _ = script.wait();
}

fn ram(dir: &Path) -> PathBuf {
    dir.join("ram")
}
