// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command, as a user runs it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::artefacts;
use crate::dump::Dump;
use crate::process::{Finished, run};

/// Longest run of the host command: it works on recordings only, the longest of which are of a Linux with 8 GiB.
const LIMIT: Duration = Duration::from_secs(300);

/// Writes the dump in the recorded line `recording` to `vmcore`.
#[must_use]
pub fn receive(recording: &Path, vmcore: &Path, elf: &Path) -> Finished {
    let link = format!("file:{}", recording.display());
    run(
        command("receive")
            .arg(link)
            .arg("-o")
            .arg(vmcore)
            .arg("--elf")
            .arg(elf),
        LIMIT,
    )
}

/// Writes the dump that came on `line` to `vmcore` in `dir`; it is of a kernel whose ELF is not at hand.
///
/// # Panics
/// It is not whole; with `console`, what was on the line as text.
#[must_use]
pub fn receive_whole(line: &[u8], dir: &Path, console: &str) -> Dump {
    let (recording, vmcore) = (dir.join("recording"), dir.join("vmcore"));
    std::fs::write(&recording, line).expect("a recording of the line");
    let link = format!("file:{}", recording.display());
    let received = run(command("receive").arg(link).arg("-o").arg(&vmcore), LIMIT);
    let status = received.status.code();
    assert_eq!(status, Some(0), "receive: {}\n{console}", received.stderr);
    let (verdict, status) = verify(&vmcore);
    assert_eq!(status, Some(0), "{verdict}");
    Dump::open(&vmcore)
}

/// What `info --json` says.
///
/// # Panics
/// It fails, or prints no JSON.
#[must_use]
pub fn info(vmcore: &Path) -> Value {
    let text = run(command("info").arg(vmcore).arg("--json"), LIMIT).success();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("info --json: {error} in {text}"))
}

/// What `info` says in words.
///
/// # Panics
/// It fails.
#[must_use]
pub fn info_text(vmcore: &Path) -> String {
    run(command("info").arg(vmcore), LIMIT).success()
}

/// What `verify --json` says, and its exit status.
///
/// # Panics
/// It prints no JSON.
#[must_use]
pub fn verify(vmcore: &Path) -> (Value, Option<i32>) {
    let done = run(command("verify").arg(vmcore).arg("--json"), LIMIT);
    let json = serde_json::from_str(&done.stdout);
    (
        json.unwrap_or_else(|error| {
            panic!("verify --json: {error} in {}{}", done.stdout, done.stderr)
        }),
        done.status.code(),
    )
}

/// What `bt` prints of the crashed CPU.
///
/// # Panics
/// It fails.
#[must_use]
pub fn bt(vmcore: &Path, elf: &Path) -> String {
    run(command("bt").arg(vmcore).arg("--elf").arg(elf), LIMIT).success()
}

/// What `bt` prints of a Linux, with nothing but the dump.
///
/// # Panics
/// It fails.
#[must_use]
pub fn linux_bt(vmcore: &Path) -> String {
    run(command("bt").arg(vmcore), LIMIT).success()
}

/// What `dmesg` prints.
///
/// # Panics
/// It fails.
#[must_use]
pub fn dmesg(vmcore: &Path) -> String {
    try_dmesg(vmcore).success()
}

/// The same where the log may be damaged.
#[must_use]
pub fn try_dmesg(vmcore: &Path) -> Finished {
    run(command("dmesg").arg(vmcore), LIMIT)
}

/// What `subcommand` (`status`, `estimate`) makes of the running kernel on the Unix socket `line`.
#[must_use]
pub fn ask(subcommand: &str, line: &Path, arguments: &[&str]) -> Finished {
    let link = format!("unix:{}", line.display());
    run(command(subcommand).arg(link).args(arguments), LIMIT)
}

/// Starts to receive what comes on the Unix socket `line` into `vmcore`, goes on with what is there of it, and gives up after a
/// minute of silence.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn start_receiving(line: &Path, vmcore: &Path) -> Child {
    let link = format!("unix:{}", line.display());
    let mut receive = command("receive");
    receive.arg(link).arg("-o").arg(vmcore);
    receive.args(["--timeout", "60"]);
    receive.stdin(Stdio::null()).stdout(Stdio::null());
    receive
        .stderr(Stdio::null())
        .spawn()
        .expect("the host command")
}

fn command(subcommand: &str) -> Command {
    let mut command = Command::new(artefacts::host_command());
    command.arg(subcommand);
    command
}

/// Returns the physical ranges that `info` lists as changed while they were dumped.
///
/// # Panics
/// There is no such list.
#[must_use]
pub fn moved(info: &Value) -> Vec<std::ops::Range<u64>> {
    let ranges = info["moved"]["ranges"].as_array().expect("a list");
    let number = |value: &Value| value.as_u64().expect("a number");
    let range = |range: &Value| number(&range["start"])..number(&range["end"]);
    ranges.iter().map(range).collect()
}
