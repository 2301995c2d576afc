// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both ends in conversation: the command on a socket, with a target that hears it.

use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::place::{Place, assert_exit, err, physical, text};
use crate::stream::{ID, Machine, PAGE, RAM, with_memory};
use crate::target::{Sending, send_over};

/// Starts `receive` on the socket `line` of `place`.
fn start(place: &Place, more: &[&str]) -> Child {
    let link = format!("unix:{}", place.path("line").display());
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["receive", &link, "-o", text(&place.vmcore())])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn listen(place: &Place) -> UnixListener {
    UnixListener::bind(place.path("line")).expect("bind")
}

#[track_caller]
fn assert_whole(place: &Place, machine: &Machine, output: &Output) {
    assert_exit(output, 0);
    for (n, (class, bytes)) in (0_u64..).zip(&machine.pages) {
        if *class == wire::PageClass::Data {
            let found = physical(&place.vmcore(), RAM + n * PAGE, PAGE as usize);
            assert!(found.as_ref() == Some(bytes), "page {n}");
        }
    }
}

#[test]
fn target_is_answered_until_it_knows_that_the_dump_is_received() {
    let (place, machine) = (Place::new(), Machine::new());
    let listener = listen(&place);
    let child = start(&place, &[]);
    let (mut line, _) = listener.accept().expect("connected");
    let parts = machine.parts(ID);
    with_memory(|memory| {
        let mut sending = Sending::new(&parts, memory);
        send_over(&mut line, &mut sending, Instant::now(), |_| false);
        assert!(sending.target.has_finished());
    });
    assert_whole(&place, &machine, &child.wait_with_output().expect("ends"));
}

#[test]
fn cable_pulled_in_the_midst_costs_nothing() {
    let (place, machine) = (Place::new(), Machine::new());
    let listener = listen(&place);
    let child = start(&place, &[]);
    let parts = machine.parts(ID);
    with_memory(|memory| {
        let (mut sending, began) = (Sending::new(&parts, memory), Instant::now());
        let (mut line, _) = listener.accept().expect("connected");
        send_over(&mut line, &mut sending, began, |sending| sending.packed > 4);
        drop(line);
        std::thread::sleep(Duration::from_millis(300));
        let (mut line, _) = listener.accept().expect("connected again");
        send_over(&mut line, &mut sending, began, |_| false);
        assert!(sending.target.has_finished());
    });
    let output = child.wait_with_output().expect("ends");
    assert_whole(&place, &machine, &output);
    assert_eq!(err(&output).matches("began").count(), 1);
}

#[test]
fn line_that_stays_away_ends_the_dump_after_its_silence() {
    let (place, machine) = (Place::new(), Machine::new());
    let listener = listen(&place);
    let child = start(&place, &["--timeout", "1"]);
    let parts = machine.parts(ID);
    with_memory(|memory| {
        let (mut line, _) = listener.accept().expect("connected");
        drop(listener);
        let mut sending = Sending::new(&parts, memory);
        send_over(&mut line, &mut sending, Instant::now(), |sending| {
            sending.packed > 4
        });
        std::fs::remove_file(place.path("line")).expect("removed");
    });
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 3);
    assert!(place.vmcore().exists());
}

#[test]
fn target_that_cannot_hear_is_received_in_one_pass() {
    let (place, machine) = (Place::new(), Machine::new());
    let listener = listen(&place);
    let child = start(&place, &[]);
    let (mut line, _) = listener.accept().expect("connected");
    let frames = crate::stream::one_way(&machine.parts(ID), true);
    for frame in frames {
        std::io::Write::write_all(&mut line, &frame).expect("sent");
    }
    assert_whole(&place, &machine, &child.wait_with_output().expect("ends"));
    drop(line);
}

/// Receives the machine's dump with these arguments; returns what was said and the bytes of blocks that were sent.
fn received(place: &Place, machine: &Machine, more: &[&str]) -> (Output, u64) {
    let listener = listen(place);
    let child = start(place, more);
    let parts = machine.parts(ID);
    let sent = with_memory(|memory| {
        let (mut line, _) = listener.accept().expect("connected");
        let mut sending = Sending::new(&parts, memory);
        // How long the files are read for is no matter here.
        sending.needs_offers = true;
        send_over(&mut line, &mut sending, Instant::now(), |_| false);
        sending.target.counts().payload_bytes
    });
    let output = child.wait_with_output().expect("ends");
    assert_whole(place, machine, &output);
    (output, sent)
}

#[test]
fn pages_of_earlier_dumps_are_not_sent_again() {
    let (place, machine) = (Place::new(), Machine::new());
    let have = place.path("have");
    std::fs::create_dir(&have).expect("directory");
    let earlier = place.whole();
    std::fs::rename(&earlier, have.join("earlier.vmcore")).expect("moved");
    std::fs::write(have.join("broken"), b"\x7fELF, but no more").expect("write");
    std::fs::remove_file(place.path("line")).expect("removed");
    let (output, sent) = received(&place, &machine, &["--have", text(&have)]);
    let pages = machine.pages.len() as u64 * PAGE;
    assert!(sent < pages / 2, "{sent} of {pages}");
    assert!(err(&output).contains("broken"), "{}", err(&output));
}

#[test]
fn pages_of_the_elf_are_not_sent() {
    let (place, mut machine) = (Place::new(), Machine::new());
    let elf = crate::program::build_program(place.0.path(), "0102030405060708");
    let text_page = elf_page(&elf, crate::program::address(&elf, "vector"));
    for page in &mut machine.pages[16..] {
        *page = (wire::PageClass::Data, text_page.clone());
    }
    let (_, sent) = received(&place, &machine, &["--elf", text(&elf)]);
    assert!(sent < 20 * PAGE, "{sent}");
}

/// Returns the page at `address` as the program's segments fill it.
fn elf_page(elf: &std::path::Path, address: u64) -> Vec<u8> {
    let start = address - address % PAGE;
    let mut page = vec![0; PAGE as usize];
    for (begin, bytes) in crate::program::segments(elf) {
        for (at, byte) in (begin..).zip(bytes) {
            if (start..start + PAGE).contains(&at) {
                page[(at - start) as usize] = byte;
            }
        }
    }
    page
}
