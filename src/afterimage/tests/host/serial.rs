// SPDX-License-Identifier: MIT OR Apache-2.0
//! `serial:DEV,BAUD` on pseudo-terminals: what `watch` does with an adapter, and with a device that is none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use afterimage::connection::{Connection, Read as Found};
use afterimage::interrupt::Interrupt;
use afterimage::link::Link;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::place::{Place, assert_exit, err, out, run, text};
use crate::stream::{ID, Machine, with_memory};
use crate::target::{Sending, send_on};

/// Longest wait for what the command does at once.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns the target's end of a line, and the path of the host's.
pub(crate) fn pseudo_terminal() -> (File, PathBuf) {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("pty");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("name");
    let flags = rustix::fs::fcntl_getfl(&master).expect("flags");
    rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK).expect("set");
    (master.into(), name.into_string().expect("utf-8").into())
}

pub(crate) fn speed(device: &File) -> u32 {
    let settings = rustix::termios::tcgetattr(device).expect("settings");
    settings.output_speed()
}

/// The target's end: a read waits for a millisecond, a write until there is room or the other end is gone.
struct Adapter(File);

impl Read for Adapter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.read(buffer)
    }
}

impl Write for Adapter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = Instant::now() + LIMIT;
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn watch(place: &Place, device: &Path) -> Child {
    let link = format!("serial:{},57600", device.display());
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["watch", &link, "--once", "-d", text(&place.path("dumps"))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the command has set the device's rate, and so opened it.
fn wait_until_open(device: &Path) {
    let file = File::open(device).expect("device");
    wait_for("the rate is not set", || speed(&file) == 57_600);
    let settings = rustix::termios::tcgetattr(&file).expect("settings");
    let cooked = rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO;
    assert!(!settings.local_modes.intersects(cooked), "not raw");
}

/// Asserts that there is one whole dump.
fn assert_one_dump(place: &Place) {
    let entries = std::fs::read_dir(place.path("dumps")).expect("directory");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let dumps: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "vmcore"))
        .collect();
    assert_eq!(dumps.len(), 1, "{dumps:?}");
    assert_exit(&run(&["verify", text(&dumps[0])]), 0);
}

#[test]
fn watch_is_a_terminal_on_an_adapter_and_takes_the_dump_that_comes_by() {
    let (place, machine) = (Place::new(), Machine::new());
    let (master, device) = pseudo_terminal();
    let mut adapter = Adapter(master);
    let mut child = watch(&place, &device);
    wait_until_open(&device);
    adapter.write_all(b"login: ").expect("room");
    let mut keyboard = child.stdin.take().expect("its keyboard");
    keyboard.write_all(b"k").expect("typed");
    let mut typed = Vec::new();
    wait_for("what is typed does not come", || {
        let mut bytes = [0; 64];
        let len = adapter.read(&mut bytes).unwrap_or(0);
        typed.extend_from_slice(&bytes[..len]);
        typed.contains(&b'k')
    });
    let parts = machine.parts(ID);
    with_memory(|memory| {
        let mut sending = Sending::new(&parts, memory);
        send_on(&mut adapter, &mut sending, Instant::now(), |_| false);
        assert!(sending.target.has_finished());
    });
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 0);
    assert!(out(&output).starts_with("login: "), "{}", out(&output));
    assert_one_dump(&place);
}

#[test]
fn adapter_that_is_pulled_and_plugged_in_again_goes_on_with_the_dump() {
    let (place, machine) = (Place::new(), Machine::new());
    let device = place.path("ttyUSB0");
    let (master, first) = pseudo_terminal();
    symlink(&first, &device).expect("link");
    let child = watch(&place, &device);
    wait_until_open(&first);
    let parts = machine.parts(ID);
    with_memory(|memory| {
        let (mut sending, began) = (Sending::new(&parts, memory), Instant::now());
        let mut adapter = Adapter(master);
        send_on(&mut adapter, &mut sending, began, |sending| {
            sending.packed > 4
        });
        std::fs::remove_file(&device).expect("unplugged");
        drop(adapter);
        std::thread::sleep(Duration::from_millis(300));
        let (master, second) = pseudo_terminal();
        symlink(&second, &device).expect("link");
        wait_until_open(&second);
        send_on(&mut Adapter(master), &mut sending, began, |_| false);
        assert!(sending.target.has_finished());
    });
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 0);
    assert_eq!(err(&output).matches("began").count(), 1, "{}", err(&output));
    assert_one_dump(&place);
}

#[test]
fn answer_to_an_adapter_that_is_gone_is_no_failure() {
    let (master, device) = pseudo_terminal();
    let link = Link::Serial {
        device,
        baud: 57_600,
    };
    let opened = Connection::open(&link, Some(Instant::now()), &Interrupt::never());
    let mut connection = opened.expect("open").expect("not interrupted");
    drop(master);
    // Before a read finds out.
    connection.answer(b"heard").expect("left to the next read");
    let mut data = Vec::new();
    let read = connection.read(&mut data, Duration::from_secs(1), None);
    assert_eq!(read.expect("read"), Found::Closed);
}

#[test]
fn device_that_is_not_there_yet_is_waited_for_and_that_is_said() {
    let place = Place::new();
    let device = place.path("ttyUSB0");
    let mut child = watch(&place, &device);
    let stderr = child.stderr.take().expect("stderr");
    // It says so once, however long it waits.
    let mut said = io::BufReader::new(stderr);
    let mut line = String::new();
    io::BufRead::read_line(&mut said, &mut line).expect("a line");
    let name = text(&device);
    assert!(line.contains(name) && line.contains("waiting"), "{line}");
    std::thread::sleep(Duration::from_millis(1500));
    let (_master, first) = pseudo_terminal();
    symlink(&first, &device).expect("link");
    wait_until_open(&first);
    child.kill().expect("killed");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("text");
    assert!(!rest.contains("waiting"), "{rest}");
    child.wait().expect("ended");
}

#[test]
fn device_that_can_never_be_a_line_is_refused_at_once() {
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, b"").expect("write");
    for (device, reason) in [
        (Path::new("/dev/null"), "Inappropriate ioctl"),
        (&file, "Inappropriate ioctl"),
        (place.0.path(), "Is a directory"),
    ] {
        let output = watch(&place, device).wait_with_output().expect("ends");
        assert_exit(&output, 1);
        let said = err(&output);
        assert!(
            said.contains(text(device)) && said.contains(reason),
            "{said}"
        );
    }
}
