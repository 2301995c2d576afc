// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage status` and `estimate` on a running kernel, and on what is none.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use blackbox::bridge::Bridge;
use blackbox::{Entry, Machine, Running, host, oracle};
use serde_json::{Value, json};

/// A running kernel, and the socket of its console.
fn boot(machine: Machine) -> (Running, PathBuf, Bridge) {
    let running = machine.start();
    running.console.wait_for("idle, with");
    let line = running.dir().join("host");
    let bridge = running.console.bridge(&line, 0);
    (running, line, bridge)
}

fn answer(subcommand: &str, line: &std::path::Path) -> Value {
    let text = host::ask(subcommand, line, &["--json", "--timeout", "30"]).success();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn status_of_an_armed_kernel_is_good() {
    for (entry, gic) in [(Entry::El1, 2), (Entry::El2, 2), (Entry::El2, 3)] {
        let machine = Machine::new().cpus(2).gic(gic).entry(entry);
        let (running, line, _bridge) = boot(machine);
        let status = answer("status", &line);
        let region = oracle::region(&running.console.text());
        assert_eq!(status["good"], true, "{entry:?}: {status:#}");
        assert_eq!(status["stub"], json!(entry == Entry::El2));
        assert_eq!(status["region_start"], json!(region.start));
        assert_eq!(status["region_bytes"], json!(region.end - region.start));
        assert_eq!(status["cpus"], 2);
        // Asked again, and then crashed, it is still whole.
        assert_eq!(answer("status", &line)["good"], true);
        let text = host::ask("status", &line, &[]).success();
        assert!(text.contains("a crash would leave a dump"), "{text}");
    }
}

#[test]
fn machine_that_was_asked_still_dumps() {
    for entry in [Entry::El1, Entry::El2] {
        let machine = Machine::new()
            .entry(entry)
            .append("dump_then=halt dump_rounds=1");
        let (running, line, bridge) = boot(machine);
        let _status = answer("status", &line);
        let _estimate = answer("estimate", &line);
        drop(bridge);
        running.console.send(b"~~~SysRqc");
        let crashed = oracle::finish(running);
        assert_eq!(host::info(&crashed.dump.path)["reason"]["kind"], "sysrq");
    }
}

#[test]
fn status_of_a_damaged_region_is_bad() {
    let (running, line, _bridge) = boot(Machine::new().entry(Entry::El2));
    let region = oracle::region(&running.console.text());
    let byte = running.memory.read(region.start + 0x1234, 1);
    running
        .memory
        .write(region.start + 0x1234, &[byte[0] ^ 0x10]);
    let status = answer("status", &line);
    assert_eq!(
        (&status["good"], &status["image_good"]),
        (&json!(false), &json!(false)),
        "{status:#}"
    );
    assert_eq!(status["core_header_good"], true, "{status:#}");
    running.console.send(b"~~~SysRqt");
    running
        .console
        .wait_for("would leave no whole dump: image BAD");
}

#[test]
fn status_without_a_capture_kernel_is_bad() {
    for line in ["capture=none", "crashkernel=0"] {
        let (running, socket, _bridge) = boot(Machine::new().append(line));
        let status = answer("status", &socket);
        assert_eq!(
            (&status["good"], &status["loaded"]),
            (&json!(false), &json!(false))
        );
        running.console.send(b"~~~SysRqt");
        running.console.wait_for("would leave no");
    }
}

#[test]
fn dry_run_by_sysrq_says_what_it_looked_at() {
    let (running, _, _bridge) = boot(Machine::new().entry(Entry::El2));
    running.console.send(b"~~~SysRqt");
    running
        .console
        .wait_for("sysrq: a crash would leave a dump: image good");
    running.console.wait_for("EL2 stub good");
}

#[test]
fn estimate_bounds_the_dump_that_follows() {
    let machine = Machine::new().append("dump_then=halt dump_rounds=1");
    let (running, line, bridge) = boot(machine);
    let shown = "KiB of 126 MiB are neither free nor seen to be zero";
    assert!(running.console.text().contains(shown));
    let estimate = answer("estimate", &line);
    let of = |name: &str| estimate[name].as_u64().expect(name);
    assert_eq!(of("ram_pages"), (126 << 20) / 4096, "{estimate:#}");
    assert_eq!(of("free_pages") + of("used_pages"), of("ram_pages"));
    assert!(of("free_pages") > of("used_pages"), "{estimate:#}");
    assert!(of("zero_pages") <= of("looked_pages"), "{estimate:#}");
    drop(bridge);
    running.console.send(b"~~~SysRqc");
    let crashed = oracle::finish(running);
    let bytes: u64 = crashed
        .dump
        .covered()
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    let data = of("data_bytes");
    // Zero pages are holes or not; the crash itself touches a few pages more.
    let slack = 64 * 4096;
    let used = of("used_pages") * 4096;
    assert!(
        bytes <= used + slack && data <= used,
        "{bytes} bytes dumped; {estimate:#}"
    );
}

/// Serves one host with `text`, whatever it asks, and returns what the host command made of it.
fn answered_with(text: &'static [u8], arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let line = dir.path().join("line");
    let listener = UnixListener::bind(&line).expect("a socket");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a host");
        let mut question = [0; 64];
        // Whatever is asked.
        let _ = stream.read(&mut question);
        // The host may be gone by then.
        let _ = stream.write_all(text);
        let _ = stream.read(&mut question);
        let _ = stream.read(&mut question);
    });
    let done = host::ask("status", &line, &[&["--timeout", "1"], arguments].concat());
    server.join().expect("the server");
    assert_eq!(done.stdout, "");
    (done.status.code(), done.stderr)
}

#[test]
fn answer_that_is_garbage_is_an_error_that_says_so() {
    let rows: [(&[u8], &str); 6] = [
        (b"login: \r\n", "the last line was \"login:"),
        (b"", "nothing came"),
        (b"@afterimage 9 status\r\n", "not version 1"),
        (
            b"@afterimage 1 status\r\n@afterimage loaded yes\r\n",
            "\"loaded\" expected",
        ),
        (
            b"@afterimage 1 status\r\n\x1b[31mlog\r\n",
            "\"loaded\" expected, \"\\u{1b}[31mlog\" found",
        ),
        (b"\0\x05abcd\0", "the machine has crashed"),
    ];
    for (text, wanted) in rows {
        let (code, message) = answered_with(text, &[]);
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains(wanted), "{wanted:?} is not in {message}");
    }
}

#[test]
fn kernel_with_another_sequence_is_asked_by_it() {
    let (_running, line, _bridge) = boot(Machine::new().append("sysrq_sequence=@!@"));
    let unheard = host::ask("status", &line, &["--timeout", "1"]);
    assert_eq!(unheard.status.code(), Some(1), "{}", unheard.stderr);
    let done = host::ask(
        "status",
        &line,
        &["--sysrq-sequence", "@!@", "--timeout", "30"],
    );
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
}
