// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run` with a stand-in for QEMU, Ctrl-C, and dumps of many gaps.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use wire::PageClass;

use crate::place::{Place, assert_exit, err, out, run, text};
use crate::stream::{Machine, RAM, framed};

/// Runs `afterimage run` with a script in QEMU's place; `$SOCKET` is the serial line's.
fn run_with(place: &Place, script: &str, timeout: &str) -> Output {
    let qemu = place.path("qemu");
    let find = "for a in \"$@\"; do case $a in socket,*) SOCKET=${a##*path=};; esac; done";
    std::fs::write(&qemu, format!("#!/bin/bash\n{find}\n{script}\n")).expect("write");
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::fs::write(place.path("kernel"), "not an ELF").expect("write");
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["run", text(&place.path("kernel"))])
        .env("AFTERIMAGE_QEMU", &qemu)
        .env("AFTERIMAGE_RUN_TIMEOUT", timeout)
        .stdin(Stdio::null())
        .output()
        .expect("starts")
}

/// A script that sends the file `line` over the socket and ends with `code`.
fn sends(place: &Place, code: i32) -> String {
    let send = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(open(sys.argv[2],'rb').read())";
    format!(
        "python3 -c \"{send}\" \"$SOCKET\" {}\nexit {code}",
        text(&place.path("line"))
    )
}

#[test]
fn run_passes_on_the_exit_status_without_a_crash() {
    let place = Place::new();
    place.record(b"all tests passed\r\n");
    let output = run_with(&place, &sends(&place, 0), "20");
    assert_exit(&output, 0);
    assert_eq!(out(&output), "all tests passed\r\n");
    assert_exit(&run_with(&place, &sends(&place, 7), "20"), 7);
}

#[test]
fn run_of_a_crash_keeps_the_dump_prints_the_backtrace_and_exits_101() {
    let place = Place::new();
    place.record(&Machine::new().line());
    let output = run_with(&place, &sends(&place, 0), "20");
    assert_exit(&output, 101);
    assert!(
        err(&output).contains("#0  0xffff800080000100"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("-d1d2d3d4.vmcore"),
        "{}",
        err(&output)
    );
}

#[test]
fn run_is_bounded() {
    let place = Place::new();
    let script = "exec python3 -c \"import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntime.sleep(30)\" \"$SOCKET\"";
    let output = run_with(&place, script, "1");
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("stopped after 1 s"),
        "{}",
        err(&output)
    );
}

#[test]
fn run_without_qemu_is_a_clear_error() {
    let place = Place::new();
    let output = run_with(&place, "exit 1", "20");
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("it ended at once"),
        "{}",
        err(&output)
    );
    assert_exit(&run(&["run", "/nonexistent/kernel"]), 1);
}

#[test]
fn ctrl_c_keeps_what_was_received_and_exits_130() {
    let place = Place::new();
    let socket = place.path("s");
    let listener = UnixListener::bind(&socket).expect("bind");
    let mut child = Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args([
            "receive",
            &format!("unix:{}", socket.display()),
            "-o",
            text(&place.vmcore()),
        ])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let (mut line, _) = listener.accept().expect("connected");
    let frames = Machine::new().frames();
    line.write_all(&framed(&frames[..frames.len() / 2]))
        .expect("sent");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.path("vmcore.part").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_exit(&run(&["verify", text(&place.vmcore())]), 3);
}

#[test]
fn more_than_65535_gaps_are_read_by_readelf() {
    let place = Place::new();
    let mut machine = Machine::new();
    let pair = [(PageClass::Zero, Vec::new()), (PageClass::Free, Vec::new())];
    machine
        .pages
        .extend(pair.into_iter().cycle().take(2 * 66_000));
    assert_exit(&place.receive(&machine.line()), 0);
    let info = out(&run(&["info", "--json", text(&place.vmcore())]));
    let info: serde_json::Value = serde_json::from_str(&info).expect("json");
    assert!(info["segments"].as_u64() > Some(66_000));
    let Ok(output) = Command::new("readelf")
        .args(["-h", "-l", "-W"])
        .arg(place.vmcore())
        .output()
    else {
        eprintln!("not run: readelf is not installed");
        return;
    };
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        err(&output)
    );
    let last = RAM + (32 + 2 * 66_000 - 2) * 4096;
    assert!(
        out(&output).contains(&format!("{last:#018x}")),
        "last segment"
    );
}

#[test]
fn file_named_but_absent_is_an_error() {
    assert_exit(&run(&["info", "/nonexistent/vmcore"]), 1);
}
