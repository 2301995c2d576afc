// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage receive`: waits for one dump and writes it.

use std::time::{Duration, Instant};

use crate::captured::Captured;
use crate::cli::Receive;
use crate::connection::{Connection, Read};
use crate::dump_file::part_path;
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;
use crate::session::{Destination, Session};

/// How long one wait for the line lasts; Ctrl-C is looked at in between.
pub const POLL: Duration = Duration::from_millis(100);
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
    let destination = Destination::File {
        path: args.output.clone(),
        overwrite: args.force,
    };
    let silence = args.timeout.map_or(SILENCE, Duration::from_secs);
    let elfs = args.elf.iter().cloned().collect();
    let mut session = Session::new(destination, elfs, true, silence)?;
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

/// A directory that cannot be written to is told before the crash, not after.
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
        std::fs::remove_file(&part).map_err(Error::file("remove", &part))?;
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
    let no_dump = || Error::NoDump {
        link: args.link.to_string(),
        seconds: args.timeout.unwrap_or_default(),
    };
    let mut bytes = 0_u64;
    'connect: loop {
        let Some(mut connection) = Connection::open(&args.link, deadline, interrupt)? else {
            return Ok(None);
        };
        loop {
            let mut data = Vec::new();
            let read = connection.read(&mut data, POLL, None)?;
            bytes = bytes.saturating_add(data.len() as u64);
            let mut events = match read {
                Read::Data => session.push(&data)?,
                Read::Idle | Read::Closed => Vec::new(),
            };
            events.extend(session.tick(read != Read::Data)?);
            if interrupt.is_raised() || read == Read::Closed {
                events.extend(session.end()?);
            }
            for event in events {
                if let Some(captured) = session.show(event)? {
                    return Ok(Some(captured));
                }
            }
            if interrupt.is_raised() {
                return Ok(None);
            }
            if !session.is_receiving() && deadline.is_some_and(|d| Instant::now() >= d) {
                return Err(no_dump());
            }
            if read == Read::Closed {
                if args.link.is_recording() {
                    return Err(Error::NoDumpOnLine {
                        link: args.link.to_string(),
                        bytes,
                    });
                }
                // The peer went away before a crash: wait for it to come back, without spinning.
                std::thread::sleep(POLL);
                continue 'connect;
            }
        }
    }
}
