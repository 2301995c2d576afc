// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage receive`: waits for one dump and writes it.

use std::time::{Duration, Instant};

use crate::captured::Captured;
use crate::cli::Receive;
use crate::connection::{Connection, Read};
use crate::destination::{Destination, Kept};
use crate::dump_file::part_path;
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;
use crate::session::{Event, POLL, Session, Settings};
use crate::symbols::hex;

/// How long a dump may be silent before it is given up, without `--timeout`.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Runs the command.
///
/// # Errors
///
/// When no dump comes, the output cannot be written, or the dump is of another build than the ELF.
pub fn receive(args: &Receive, interrupt: &Interrupt) -> Result<Exit> {
    if !args.force && args.output.exists() {
        return Err(Error::Exists(args.output.clone()));
    }
    check_writable(args)?;
    let mut session = Session::new(Settings {
        destination: Destination::File {
            path: args.output.clone(),
            overwrite: args.force,
        },
        elfs: args.elf.iter().cloned().collect(),
        is_elf_required: true,
        has_backtraces: args.elf.is_some(),
        have: args.have.iter().chain(&args.elf).cloned().collect(),
        silence: args.timeout.map_or(SILENCE, Duration::from_secs),
        can_answer: !args.link.is_recording(),
        baud: args.link.baud(),
    })?;
    let captured = wait_for_dump(args, &mut session, interrupt)?;
    let Some(captured) = captured else {
        return Ok(Exit::Interrupted);
    };
    captured.announce();
    Ok(if interrupt.is_raised() {
        Exit::Interrupted
    } else if captured.is_whole() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// A directory that cannot be written to is told before the crash, not after; so is what an earlier run left.
fn check_writable(args: &Receive) -> Result<()> {
    let part = part_path(&args.output);
    let is_new = !part.exists();
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(Error::file("create", &part))?;
    if is_new {
        return std::fs::remove_file(&part).map_err(Error::file("remove", &part));
    }
    match Kept::read(&part) {
        Some(kept) => eprintln!(
            "afterimage: {} holds {} blocks of dump {}; it goes on when that dump comes by",
            part.display(),
            kept.blocks,
            hex(&kept.manifest.dump_id)
        ),
        None if args.force => {}
        None => return Err(Error::Exists(part)),
    }
    Ok(())
}

/// Returns the dump, `None` after Ctrl-C without one.
fn wait_for_dump(
    args: &Receive,
    session: &mut Session,
    interrupt: &Interrupt,
) -> Result<Option<Captured>> {
    let timeout = args.timeout.map(Duration::from_secs);
    let deadline = timeout.map(|t| Instant::now() + t);
    let mut bytes = 0_u64;
    loop {
        // While a dump is on its way, the line may be away as long as it may be silent.
        let until = session.silent_at().or(deadline);
        let mut connection = match Connection::open(&args.link, until, interrupt) {
            Ok(Some(connection)) => connection,
            Err(error) if !session.is_receiving() => return Err(error),
            Ok(None) | Err(_) => return show_all(session.end()?, session),
        };
        session.connected();
        loop {
            let mut data = Vec::new();
            let read = connection.read(&mut data, session.patience(), None)?;
            bytes = bytes.saturating_add(data.len() as u64);
            let mut events = match read {
                Read::Data => session.push(&data)?,
                Read::Idle | Read::Closed => Vec::new(),
            };
            events.extend(session.tick(read != Read::Data)?);
            events.extend(session.speak(&mut connection));
            let is_line_over = read == Read::Closed && args.link.is_recording();
            if interrupt.is_raised() || is_line_over {
                events.extend(session.end()?);
            }
            if let Some(captured) = show_all(events, session)? {
                take_leave(session, &mut connection, interrupt);
                return Ok(Some(captured));
            }
            if interrupt.is_raised() {
                return Ok(None);
            }
            if !session.is_receiving() && deadline.is_some_and(|d| Instant::now() >= d) {
                return Err(Error::NoDump {
                    link: args.link.to_string(),
                    seconds: args.timeout.unwrap_or_default(),
                });
            }
            if is_line_over {
                return Err(Error::NoDumpOnLine {
                    link: args.link.to_string(),
                    bytes,
                });
            }
            if read == Read::Closed {
                break;
            }
        }
        // The peer went away: before a crash, or in the midst of a dump. Wait for it to come back, without spinning.
        std::thread::sleep(POLL);
    }
}

/// Prints the events; returns the dump whose end is among them.
fn show_all(events: Vec<Event>, session: &Session) -> Result<Option<Captured>> {
    let mut found = None;
    for event in events {
        if let Some(captured) = session.show(event)? {
            found.get_or_insert(captured);
        }
    }
    Ok(found)
}

/// Answers on until the target knows that its dump is here. What fails now does the dump no harm.
pub fn take_leave(session: &mut Session, connection: &mut Connection, interrupt: &Interrupt) {
    while session.is_taking_leave() && !interrupt.is_raised() {
        session.speak(connection);
        let mut data = Vec::new();
        let read = connection.read(&mut data, session.patience(), None);
        let (Ok(Read::Data | Read::Idle), Ok(events)) = (read, session.push(&data)) else {
            return;
        };
        if show_all(events, session).is_err() {
            return;
        }
    }
    // Nothing is left to say, but the line may have to be set back.
    session.speak(connection);
}
