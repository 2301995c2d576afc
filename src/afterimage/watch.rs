// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage watch`: a terminal that captures every dump that comes by.

use crate::cli::Watch;
use crate::connection::{Connection, Read, read_keyboard};
use crate::destination::Destination;
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;
use crate::keyboard::{Action, HELP, Keyboard};
use crate::link::Link;
use crate::receive::{SILENCE, take_leave};
use crate::session::{Event, POLL, Session, Settings};
use crate::terminal::RawKeyboard;

/// What is kept over the connections of one watch.
struct Watcher<'a> {
    args: &'a Watch,
    session: Session,
    /// `None` when standard input is the line, or has ended.
    keys: Option<RawKeyboard>,
    keyboard: Keyboard,
    is_all_whole: bool,
    has_dump: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When the link fails, a dump cannot be written, or a recording cannot be read.
pub fn watch(args: &Watch, interrupt: &Interrupt) -> Result<Exit> {
    std::fs::create_dir_all(&args.dir).map_err(Error::file("create", &args.dir))?;
    let session = Session::new(Settings {
        destination: Destination::Directory(args.dir.clone()),
        elfs: args.elf.clone(),
        is_elf_required: false,
        has_backtraces: true,
        have: args.have.iter().chain(&args.elf).cloned().collect(),
        silence: SILENCE,
        can_answer: !args.link.is_recording(),
        baud: args.link.baud(),
    })?;
    let keys = match args.link {
        Link::Stdin => None,
        _ => Some(RawKeyboard::open()?),
    };
    if keys.as_ref().is_some_and(RawKeyboard::is_terminal) {
        eprintln!(
            "afterimage: watching {}; Ctrl-] exits, Ctrl-T h helps",
            args.link
        );
    }
    let mut watcher = Watcher {
        args,
        session,
        keys,
        keyboard: Keyboard::default(),
        is_all_whole: true,
        has_dump: false,
    };
    loop {
        // While a dump is on its way, the line may be away as long as it may be silent.
        let connection = match Connection::open(&args.link, watcher.session.silent_at(), interrupt)
        {
            Ok(Some(connection)) => connection,
            Err(error) if !watcher.session.is_receiving() => return Err(error),
            Ok(None) | Err(_) => {
                let events = watcher.session.end()?;
                watcher.handle(events)?;
                if interrupt.is_raised() {
                    return Ok(Exit::Interrupted);
                }
                if args.once && watcher.has_dump {
                    return Ok(watcher.exit());
                }
                continue;
            }
        };
        watcher.session.connected();
        if let Some(exit) = watcher.connection(connection, interrupt)? {
            return Ok(exit);
        }
        // The machine was switched off; it may come back. Ctrl-C ends the wait.
        std::thread::sleep(POLL);
    }
}

impl Watcher<'_> {
    /// Serves one connection; returns how the command ends, `None` to connect again.
    fn connection(
        &mut self,
        mut connection: Connection,
        interrupt: &Interrupt,
    ) -> Result<Option<Exit>> {
        loop {
            let mut data = Vec::new();
            let keyboard = self.keys.as_ref().map(RawKeyboard::fd);
            let read = connection.read(&mut data, self.session.patience(), keyboard)?;
            let mut events = match read {
                Read::Data => self.push(&data)?,
                Read::Idle | Read::Closed => Vec::new(),
            };
            events.extend(self.session.tick(read != Read::Data)?);
            events.extend(self.session.speak(&mut connection));
            let wants_exit = self.keys_pressed(&mut connection)?;
            let is_recording_over = read == Read::Closed && self.args.link.is_recording();
            if is_recording_over || interrupt.is_raised() || wants_exit {
                events.extend(self.session.end()?);
            }
            self.handle(events)?;
            if interrupt.is_raised() {
                return Ok(Some(Exit::Interrupted));
            }
            let is_done = self.args.once && self.has_dump;
            if is_done {
                take_leave(&mut self.session, &mut connection, interrupt);
            }
            if wants_exit || is_done || is_recording_over {
                return Ok(Some(self.exit()));
            }
            if read == Read::Closed {
                return Ok(None);
            }
        }
    }

    /// Takes in bytes; a dump that cannot be written does not end the console.
    fn push(&mut self, data: &[u8]) -> Result<Vec<Event>> {
        match self.session.push(data) {
            Err(error) if !self.args.once => {
                self.session.abandon();
                self.is_all_whole = false;
                eprintln!("afterimage: {error}");
                Ok(Vec::new())
            }
            result => result,
        }
    }

    const fn exit(&self) -> Exit {
        if self.is_all_whole {
            Exit::Done
        } else {
            Exit::Incomplete
        }
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            if let Some(captured) = self.session.show(event)? {
                captured.write_report()?;
                captured.announce();
                self.has_dump = true;
                self.is_all_whole &= captured.is_whole();
            }
        }
        Ok(())
    }

    /// Does what the user typed; returns whether that is to exit.
    fn keys_pressed(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(keys) = &self.keys else {
            return Ok(false);
        };
        let Some(pressed) = read_keyboard(keys.fd())? else {
            // Standard input has ended (a script's /dev/null); the line is watched on.
            self.keys = None;
            return Ok(false);
        };
        for action in self.keyboard.press(&pressed) {
            match action {
                Action::Send(bytes) => connection.write(&bytes)?,
                Action::Break => {
                    if !connection.send_break()? {
                        eprintln!(
                            "afterimage: {} has no BREAK; Ctrl-T s sends the SysRq sequence",
                            self.args.link
                        );
                    }
                }
                Action::Help => eprintln!("afterimage: {HELP}"),
                Action::Exit => return Ok(true),
            }
        }
        Ok(false)
    }
}
