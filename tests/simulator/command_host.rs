// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command's own session at the end of the line: what it leaves on the disk is the machine's memory.
//!
//! A session that is killed is dropped, and the next one finds its files. It asks the real clock only whether a dump has been
//! silent for minutes, which in virtual time it never is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use afterimage::core_file::CoreFile;
use afterimage::destination::Destination;
use afterimage::session::{Event, Session, Settings};
use simulator::adapter::Command;
use simulator::host::Host;
use simulator::suite::TWO_WAY;
use simulator::{Machine, Setting, run_with};
use vmcore::PAGE_SIZE;

/// `afterimage receive` without its terminal.
struct CommandHost {
    path: PathBuf,
    can_answer: bool,
    session: Option<Session>,
    epoch: Instant,
    is_done: bool,
    faults: Vec<String>,
}

impl CommandHost {
    fn new(path: PathBuf, can_answer: bool) -> Self {
        Self {
            path,
            can_answer,
            session: None,
            epoch: Instant::now(),
            is_done: false,
            faults: Vec::new(),
        }
    }

    fn take(&mut self, events: afterimage::error::Result<Vec<Event>>) {
        match events {
            Ok(events) => {
                self.is_done |= events.iter().any(|event| matches!(event, Event::Done(_)));
            }
            Err(error) => self.faults.push(error.to_string()),
        }
    }

    fn at(&self, now_us: u64) -> Instant {
        self.epoch + Duration::from_micros(now_us)
    }
}

impl Host for CommandHost {
    fn start(&mut self, _session: u32, _now_us: u64) {
        if self.is_done {
            return;
        }
        let settings = Settings {
            destination: Destination::File {
                path: self.path.clone(),
                overwrite: false,
            },
            elfs: Vec::new(),
            is_elf_required: false,
            has_backtraces: false,
            have: Vec::new(),
            silence: Duration::from_secs(3600),
            can_answer: self.can_answer,
            baud: None,
        };
        self.session = Some(Session::new(settings).expect("a session"));
    }

    fn kill(&mut self) {
        self.session = None;
    }

    fn receive(&mut self, bytes: &[u8], _now_us: u64) {
        if let Some(session) = &mut self.session {
            let events = session.push(bytes);
            self.take(events);
        }
    }

    fn poll(&mut self, now_us: u64) -> Vec<Command> {
        let now = self.at(now_us);
        let Some(session) = &mut self.session else {
            return Vec::new();
        };
        let bytes = session.answer(now);
        if bytes.is_empty() {
            Vec::new()
        } else {
            vec![Command::Send(bytes)]
        }
    }
}

/// Runs the dump of a kind of line and compares the file that is left.
#[track_caller]
fn check(name: &str, seed: u64) {
    let kind = TWO_WAY.iter().find(|kind| kind.name == name);
    let (case, spec) = kind.expect("a kind of this name").case(seed, 1);
    check_case(&case, &mut Machine::new(&spec), true);
}

#[track_caller]
fn check_case(case: &simulator::Case, machine: &mut Machine, can_answer: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vmcore");
    let run = run_with(case, machine, CommandHost::new(path.clone(), can_answer));
    let host = run.world.host();
    assert!(
        run.outcome.totals.is_ok(),
        "{}: {:?}",
        case.name,
        run.outcome
    );
    assert!(host.faults.is_empty(), "{}: {:?}", case.name, host.faults);
    assert!(host.is_done, "{}: the dump did not end", case.name);
    compare(&path, machine);
}

/// Compares the file with memory, page by page; what is free is not there.
#[track_caller]
fn compare(path: &Path, machine: &Machine) {
    let core = CoreFile::open(path).expect("a core");
    let dumped = machine.dumped();
    for pa in (dumped.start..dumped.end).step_by(PAGE_SIZE as usize) {
        let mut found = [0; PAGE_SIZE as usize];
        let read = core.read_physical(pa, &mut found);
        if machine.free.iter().any(|free| free.contains(pa)) {
            assert!(read.is_err(), "page {pa:#x} is free");
            continue;
        }
        read.unwrap_or_else(|at| panic!("page {pa:#x} is missing from {at:#x} on"));
        let truth = machine.ram.page(pa).unwrap_or(&[0; PAGE_SIZE as usize]);
        assert!(found == *truth, "page {pa:#x} is wrong");
    }
}

#[test]
fn file_of_a_good_line_is_memory() {
    check("good line", 1);
}

#[test]
fn file_of_a_line_with_bit_errors_is_memory() {
    check("bit errors 1e-5", 1);
}

#[test]
fn file_of_a_host_killed_and_restarted_is_memory() {
    (0..if is_soak() { 100 } else { 2 }).for_each(|seed| check("host killed and restarted", seed));
}

#[test]
fn file_of_a_cable_pulled_is_memory() {
    check("cable pulled", 1);
}

#[test]
fn file_of_a_recorded_line_is_memory() {
    let (mut case, spec) = TWO_WAY[2].case(3, 1);
    case.setting = Setting {
        is_one_way: true,
        ..case.setting
    };
    check_case(&case, &mut Machine::new(&spec), false);
}

fn is_soak() -> bool {
    std::env::var("AFTERIMAGE_SOAK").as_deref() == Ok("1")
}
