// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crashes of Debian's Linux into our capture kernel, and where their time goes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use blackbox::artefacts;
use blackbox::process::run;
use blackbox::wait::Deadline;

use crate::cpu_meter::{CpuMeter, CpuSeconds};
use crate::encodings::Encodings;
use crate::linux_guest::{self, LinuxGuest, MEMORY_MIB, Setup};

/// What the Linux guests gave.
#[derive(Debug)]
pub(crate) struct LinuxRows {
    /// Release of the Linux that crashed.
    pub(crate) version: String,
    /// Bytes on the line from the first frame on.
    pub(crate) wire: u64,
    pub(crate) encodings: Encodings,
    /// By the host, from the guest's last message to the first frame, and to the end of the line.
    pub(crate) first_frame: Duration,
    pub(crate) last_frame: Duration,
    /// Time of each way to take the line, in the order in which less and less is done.
    pub(crate) ways: Vec<Way>,
    /// What the host command took for the recording alone.
    pub(crate) host: Duration,
}

/// What a crash cost with one kind of line.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// CPU time of QEMU from the crash to the end.
    pub(crate) cpu: CpuSeconds,
    /// The whole run from QEMU's start.
    pub(crate) whole: Duration,
}

/// Runs all of them, one after the other.
///
/// # Panics
/// One does not come to its end.
pub(crate) fn measure() -> LinuxRows {
    eprintln!("bench: Linux, line to a FIFO");
    let pidfile = tempfile::tempdir().expect("a temporary directory");
    let meter = CpuMeter::start(pidfile.path().join("pid"));
    let mut guest = LinuxGuest::start(
        &Setup::default(),
        &[
            "-pidfile",
            &pidfile.path().join("pid").display().to_string(),
        ],
    );
    guest.wait_for_first_frame();
    let times = guest.wait_for_end();
    let readings = meter.finish();
    let (Some(crash), Some(first), Some(end)) = (times.crash, times.first_frame, times.end) else {
        panic!(
            "the guest said nothing before it crashed:\n{}",
            guest.transcript()
        );
    };
    // Up to the crash every run does the same.
    let boot = readings.at(crash);
    let fifo = Way {
        name: "FIFO",
        cpu: readings.last().since(boot),
        whole: end,
    };

    let encodings = Encodings::of(&guest.pages(), MEMORY_MIB << 20, guest.dir());
    let text_len = guest
        .bytes()
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(0);
    let wire = (guest.bytes().len() - text_len) as u64;
    let recording = guest.dir().join("recording");
    fs::write(&recording, guest.bytes()).expect("a recording of the line");
    let receive = Command::new(artefacts::host_command())
        .arg("receive")
        .arg(format!("file:{}", recording.display()))
        .arg("-o")
        .arg(guest.dir().join("vmcore"))
        .timed();

    let socket = socket_run(boot);
    let null = null_run(boot);
    let version =
        fs::read_to_string(artefacts::root().join("target/linux/version")).unwrap_or_default();
    LinuxRows {
        version: version.trim().to_owned(),
        wire,
        encodings,
        first_frame: first.saturating_sub(crash),
        last_frame: end.saturating_sub(crash),
        ways: vec![socket, fifo, null],
        host: receive,
    }
}

/// As a user does it: the host command on a unix socket.
fn socket_run(boot: CpuSeconds) -> Way {
    eprintln!("bench: Linux, line to a unix socket with afterimage receive");
    let dir = tempfile::Builder::new()
        .prefix("bbl")
        .tempdir()
        .expect("a temporary directory");
    let socket = dir.path().join("line").display().to_string();
    let (vmcore, link) = (dir.path().join("vmcore"), format!("unix:{socket}"));
    let mut receive = Command::new(artefacts::host_command());
    receive
        .args(["receive", &link, "-o"])
        .arg(&vmcore)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut receiver = receive
        .spawn()
        .unwrap_or_else(|error| panic!("the host command does not start: {error}"));
    let way = script_run(
        "unix socket, received live",
        dir.path(),
        &format!("{link},server=on,wait=on"),
        boot,
    );
    let status = Deadline::after(linux_guest::limit())
        .poll(|| receiver.try_wait().expect("the state of the host command"));
    assert!(
        status.is_some_and(|status| status.success()),
        "receive: {status:?}"
    );
    way
}

/// Without a line: what the guest itself takes, UART accesses included.
fn null_run(boot: CpuSeconds) -> Way {
    eprintln!("bench: Linux, line to nowhere");
    let dir = tempfile::Builder::new()
        .prefix("bbl")
        .tempdir()
        .expect("a temporary directory");
    script_run("none (bytes thrown away)", dir.path(), "null", boot)
}

/// Runs the script to its end with `serial` as line.
fn script_run(name: &'static str, dir: &Path, serial: &str, boot: CpuSeconds) -> Way {
    let pidfile = dir.join("pid");
    let meter = CpuMeter::start(pidfile.clone());
    let started = std::time::Instant::now();
    let mut script = linux_guest::spawn(
        dir,
        serial,
        &Setup::default(),
        &["-pidfile", &pidfile.display().to_string()],
    );
    let status = Deadline::after(linux_guest::limit())
        .poll(|| script.try_wait().expect("the state of the script"));
    let whole = started.elapsed();
    linux_guest::stop(&mut script);
    assert!(
        status.is_some_and(|status| status.success()),
        "{name}: {status:?}"
    );
    Way {
        name,
        cpu: meter.finish().last().since(boot),
        whole,
    }
}

/// A command that has to succeed.
trait Timed {
    /// Runs it and returns how long it took.
    fn timed(&mut self) -> Duration;
}

impl Timed for Command {
    fn timed(&mut self) -> Duration {
        let started = std::time::Instant::now();
        let _output = run(self, linux_guest::limit()).success();
        started.elapsed()
    }
}
