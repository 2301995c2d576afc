// SPDX-License-Identifier: MIT OR Apache-2.0
//! A receiver that is killed, and the one that goes on with what it left.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afterimage::destination::Destination;
use afterimage::error::{Error, Result};
use afterimage::session::{Event, Session, Settings};
use wire::PageClass;

use crate::place::{Place, assert_exit, err, out, physical, run, text};
use crate::stream::{ID, Machine, PAGE, RAM, with_memory};
use crate::target::{Sending, send_over};

fn settings(path: &Path, overwrite: bool) -> Settings {
    Settings {
        destination: Destination::File {
            path: path.to_path_buf(),
            overwrite,
        },
        elfs: Vec::new(),
        is_elf_required: true,
        has_backtraces: false,
        have: Vec::new(),
        silence: Duration::from_secs(60),
        can_answer: true,
        baud: None,
    }
}

/// Pushes frames into a new session and drops it without an end, as a kill does; returns what was said.
fn hear(settings: Settings, frames: &[Vec<u8>]) -> Result<Vec<Event>> {
    let mut session = Session::new(settings)?;
    let mut events = Vec::new();
    for frame in frames {
        events.extend(session.push(frame)?);
    }
    Ok(events)
}

fn machine() -> Machine {
    let mut machine = Machine::new();
    for (page, source) in [(20, 3), (10, 11), (4, 30)] {
        machine.pages[page] = (PageClass::Duplicate, vec![source]);
    }
    machine
}

/// Returns how many blocks were there and how many the journal named, as it was told.
fn resumed(events: &[Event]) -> Option<(usize, usize)> {
    events.iter().find_map(|event| {
        let Event::Message(text) = event else {
            return None;
        };
        let rest = text
            .strip_prefix("resumed: ")?
            .strip_suffix(" blocks are there")?;
        let (there, named) = rest.split_once(" of ")?;
        Some((there.parse().ok()?, named.parse().ok()?))
    })
}

#[track_caller]
fn assert_whole(path: &Path, machine: &Machine) {
    let output = run(&["verify", text(path)]);
    assert_exit(&output, 0);
    for (n, (class, bytes)) in (0_u64..).zip(&machine.pages) {
        let value = |source: u8| vec![source + 1; PAGE as usize];
        let expected = match class {
            PageClass::Data => Some(bytes.clone()),
            PageClass::Zero => Some(vec![0; PAGE as usize]),
            PageClass::Duplicate => Some(value(bytes[0])),
            _ => None,
        };
        assert!(
            physical(path, RAM + n * PAGE, PAGE as usize) == expected,
            "page {n}"
        );
    }
    for left in ["vmcore.part", "vmcore.part.journal"] {
        assert!(!path.with_file_name(left).exists(), "{left}");
    }
}

fn journal(place: &Place) -> PathBuf {
    place.path("vmcore.part.journal")
}

#[test]
fn receiver_killed_after_any_frame_is_gone_on_from() {
    let machine = machine();
    let frames = machine.frames();
    for killed_after in 1..frames.len() - 1 {
        let place = Place::new();
        hear(settings(&place.vmcore(), false), &frames[..killed_after]).expect("heard");
        let partial = run(&["verify", text(&place.path("vmcore.part"))]);
        assert_exit(&partial, 3);
        let events = hear(settings(&place.vmcore(), false), &frames).expect("heard");
        let (there, named) = resumed(&events).expect("resumed");
        assert_eq!(there, named, "after {killed_after} frames");
        assert_whole(&place.vmcore(), &machine);
    }
}

/// Receives up to the summary and returns how many blocks there are.
fn leave_all(place: &Place, machine: &Machine) -> usize {
    let frames = machine.frames();
    hear(
        settings(&place.vmcore(), false),
        &frames[..frames.len() - 2],
    )
    .expect("heard");
    machine.parts(ID).blocks.len()
}

#[test]
fn torn_journal_costs_its_last_record_only() {
    let machine = machine();
    let place = Place::new();
    let blocks = leave_all(&place, &machine);
    let whole = std::fs::read(journal(&place)).expect("read");
    let part = std::fs::read(place.path("vmcore.part")).expect("read");
    for torn in 1..60 {
        std::fs::write(journal(&place), &whole[..whole.len() - torn]).expect("write");
        std::fs::write(place.path("vmcore.part"), &part).expect("write");
        let events = hear(settings(&place.vmcore(), false), &machine.frames()).expect("heard");
        let (there, _) = resumed(&events).expect("resumed");
        assert!(
            there + 2 >= blocks && there < blocks,
            "{torn} bytes: {there}"
        );
        assert_whole(&place.vmcore(), &machine);
        std::fs::remove_file(place.vmcore()).expect("removed");
    }
}

#[test]
fn damaged_journal_costs_the_blocks_that_it_no_longer_tells() {
    let machine = machine();
    let place = Place::new();
    let blocks = leave_all(&place, &machine);
    let whole = std::fs::read(journal(&place)).expect("read");
    let part = std::fs::read(place.path("vmcore.part")).expect("read");
    // The manifest's record comes first; without it nobody knows what the part is.
    for at in (300..whole.len()).step_by(41) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(journal(&place), &damaged).expect("write");
        std::fs::write(place.path("vmcore.part"), &part).expect("write");
        let events = hear(settings(&place.vmcore(), false), &machine.frames()).expect("heard");
        assert_eq!(
            resumed(&events).expect("resumed").0,
            blocks - 1,
            "byte {at}"
        );
        assert_whole(&place.vmcore(), &machine);
        std::fs::remove_file(place.vmcore()).expect("removed");
    }
}

#[test]
fn damaged_pages_of_the_part_are_received_again() {
    let machine = machine();
    let place = Place::new();
    let blocks = leave_all(&place, &machine);
    let path = place.path("vmcore.part");
    let mut part = std::fs::read(&path).expect("read");
    let memory = afterimage::dump_file::RESERVED as usize;
    // A page of data, one of zeros, one that was copied from another: only the first has a hash of its own.
    for page in [1, 5, 20] {
        part[memory + page * PAGE as usize + 77] ^= 0x80;
    }
    std::fs::write(&path, part).expect("write");
    let events = hear(settings(&place.vmcore(), false), &machine.frames()).expect("heard");
    assert_eq!(resumed(&events), Some((blocks - 1, blocks)));
    assert_whole(&place.vmcore(), &machine);
}

#[test]
fn another_dump_does_not_take_the_place_of_a_part() {
    let machine = machine();
    let place = Place::new();
    leave_all(&place, &machine);
    let part = std::fs::read(place.path("vmcore.part")).expect("read");
    let other = machine.frames_of([9; 16]);
    let refused = hear(settings(&place.vmcore(), false), &other);
    assert!(
        matches!(refused, Err(Error::OtherDump { .. })),
        "{refused:?}"
    );
    assert!(std::fs::read(place.path("vmcore.part")).expect("read") == part);
    let line = other.concat();
    std::fs::write(place.path("line"), line).expect("write");
    let link = format!("file:{}", place.path("line").display());
    let output = place.vmcore();
    let receive = ["receive", &link, "-o", text(&output)];
    let output = run(&receive);
    assert_exit(&output, 1);
    assert!(err(&output).contains("d1d2d3d4"), "{}", err(&output));
    assert_exit(&run(&[&receive[..], &["--force"]].concat()), 0);
    assert_whole(&place.vmcore(), &machine);
}

#[test]
fn part_without_a_journal_needs_force() {
    let place = Place::new();
    leave_all(&place, &machine());
    std::fs::remove_file(journal(&place)).expect("removed");
    let output = place.receive(&machine().line());
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("vmcore.part exists"),
        "{}",
        err(&output)
    );
}

#[test]
fn watch_goes_on_with_the_part_in_its_directory() {
    let (place, machine) = (Place::new(), machine());
    let frames = machine.frames();
    let dir = place.path("dumps");
    std::fs::create_dir(&dir).expect("directory");
    let in_directory = || Settings {
        destination: Destination::Directory(dir.clone()),
        ..settings(&dir, false)
    };
    hear(in_directory(), &frames[..frames.len() / 2]).expect("heard");
    let names = || {
        let entries = std::fs::read_dir(&dir).expect("directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(before.len(), 2, "{before:?}");
    let events = hear(in_directory(), &frames).expect("heard");
    assert!(resumed(&events).is_some());
    assert_eq!(names(), [before[0].strip_suffix(".part").expect("part")]);
}

#[test]
fn target_sends_only_what_a_killed_receiver_lacks() {
    let (place, machine) = (Place::new(), machine());
    let socket = place.path("socket");
    let listener = UnixListener::bind(&socket).expect("bind");
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_afterimage"))
            .args(["receive", &format!("unix:{}", socket.display())])
            .args(["-o", text(&place.vmcore())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let parts = machine.parts(ID);
    let blocks = parts.blocks.len();
    with_memory(|memory| {
        let (mut sending, began) = (Sending::new(&parts, memory), Instant::now());
        let mut first = start();
        let (mut line, _) = listener.accept().expect("connected");
        send_over(&mut line, &mut sending, began, |sending| {
            (0..5).all(|number| sending.target.is_stored(number))
        });
        first.kill().expect("killed");
        first.wait().expect("ended");
        drop(line);
        sending.packed = 0;
        let second = start();
        let (mut line, _) = listener.accept().expect("connected again");
        send_over(&mut line, &mut sending, began, |_| false);
        assert!(sending.target.has_finished());
        assert!(
            sending.packed <= blocks - 5 + 3,
            "{} of {blocks}",
            sending.packed
        );
        let output = second.wait_with_output().expect("ends");
        assert_exit(&output, 0);
        assert!(
            err(&output).contains("resumed: "),
            "{}{}",
            out(&output),
            err(&output)
        );
    });
    assert_whole(&place.vmcore(), &machine);
}
