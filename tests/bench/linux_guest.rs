// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's Linux in QEMU, crashed into our capture Image by Debian's own `kexec -p`.
//!
//! `scripts/linux-guest` is run as a user runs it. Its serial line is a FIFO: QEMU writes byte by byte, and a FIFO takes
//! these at a fraction of the cost of a socket (docs/benchmarks.md), with room for 64 KiB when reading is held.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use blackbox::artefacts;
use blackbox::memory::{PAGE, Pages, RAM_START};
use blackbox::wait::Deadline;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tempfile::TempDir;

/// Longest run of the guest; a benchmark on a busy machine may take longer than a test: `AFTERIMAGE_LINUX_SECONDS`.
pub(crate) fn limit() -> Duration {
    let seconds = std::env::var("AFTERIMAGE_LINUX_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(240))
}
/// RAM of the guest.
pub(crate) const MEMORY_MIB: u64 = 256;
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
    line: File,
    bytes: Vec<u8>,
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

/// What is different from a guest of Debian 13 that does nothing but crash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup<'a> {
    /// A shell script that it runs before it crashes.
    pub(crate) script: Option<&'a str>,
    /// More parameters of the capture kernel.
    pub(crate) append: &'a str,
    /// The Debian suite that its kernel is from.
    pub(crate) suite: Option<&'a str>,
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
        let append = format!("{APPEND} {}", setup.append);
        let work = setup.script.map(|script| {
            let path = dir.path().join("work");
            fs::write(&path, script).expect("a script");
            path.display().to_string()
        });
        let mut more = vec!["--append", append.as_str()];
        if let Some(work) = &work {
            more.extend(["--script", work.as_str()]);
        }
        if let Some(suite) = setup.suite {
            more.extend(["--suite", suite]);
        }
        let line_path = format!("file:{}", fifo.display());
        let script = spawn(dir.path(), &line_path, &more, qemu);
        let (started, deadline) = (Instant::now(), Deadline::after(limit()));
        Self {
            script,
            dir,
            line,
            bytes: Vec::new(),
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
        while self.take_bytes() {}
        self.times.end = Some(self.started.elapsed());
        let status = self
            .deadline
            .poll(|| self.script.try_wait().expect("the state of the script"));
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}:\n{}",
            self.transcript()
        );
        self.times
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
        let mut file = BufReader::with_capacity(
            1 << 20,
            File::open(ram(self.dir())).expect("the guest's RAM"),
        );
        let mut pages = Pages::new();
        for at in (RAM_START..RAM_START + (MEMORY_MIB << 20)).step_by(PAGE as usize) {
            let mut page = Box::new([0; PAGE as usize]);
            file.read_exact(page.as_mut_slice())
                .expect("a page of the guest's RAM");
            if page.iter().any(|byte| *byte != 0) {
                pages.insert(at, page);
            }
        }
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
            "more than {:?}:\n{}",
            limit(),
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

/// Runs the script with `serial` as QEMU's line, in a process group of its own, and with `more` of its own arguments.
pub(crate) fn spawn(dir: &Path, serial: &str, more: &[&str], qemu: &[&str]) -> Child {
    let backend = format!(
        "memory-backend-file,id=ram0,size={MEMORY_MIB}M,mem-path={},share=on",
        ram(dir).display()
    );
    let log = File::create(dir.join("script.log")).expect("a log file");
    let mut command = Command::new(artefacts::root().join("scripts/linux-guest"));
    command
        .arg("--crash")
        .arg(artefacts::image("capture.Image"))
        .args(more);
    command.args([
        "--timeout",
        &limit().as_secs().to_string(),
        "--",
        "-m",
        &format!("{MEMORY_MIB}M"),
    ]);
    command
        .args([
            "-serial",
            serial,
            "-monitor",
            "none",
            "-object",
            &backend,
            "-M",
            "memory-backend=ram0",
        ])
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
