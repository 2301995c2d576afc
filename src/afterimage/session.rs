// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes by on a line: console text, and dumps one after the other.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::receiver::{Damage, Event as LineEvent, Receiver};
use wire::{Frame, FrameType};

use crate::answering::{Leave, new_session};
use crate::captured::Captured;
use crate::connection::Connection;
use crate::destination::Destination;
use crate::dump::Dump;
use crate::dump_file::part_path;
use crate::error::{Error, Result};
use crate::line_speed::LineSpeed;
use crate::output::size;
use crate::page_library::{Building, PageLibrary};
use crate::symbols::{Symbols, find_matching, hex};
use crate::terminal::harmless;

/// How long one wait for the line lasts; Ctrl-C is looked at in between.
pub const POLL: Duration = Duration::from_millis(100);
/// The same while a dump is on its way.
const POLL_WHILE_RECEIVING: Duration = Duration::from_millis(20);
/// Troubles of one dump that are printed; the rest is counted.
const TROUBLES_SHOWN: u32 = 10;

/// Something that came by.
#[derive(Debug)]
pub enum Event {
    /// Console text, untouched.
    Text(Vec<u8>),
    /// Something to tell the user.
    Message(String),
    /// A dump has ended.
    Done(Box<Captured>),
}

/// What a session does with the dumps that come by.
#[derive(Debug)]
pub struct Settings {
    /// Where they go.
    pub destination: Destination,
    /// ELFs with symbols, and directories of them.
    pub elfs: Vec<PathBuf>,
    /// Whether a dump of another build than `elfs` is an error; else it has no symbols.
    pub is_elf_required: bool,
    /// Whether backtraces are told as soon as they can be.
    pub has_backtraces: bool,
    /// Files, and directories of them, whose pages need not be sent.
    pub have: Vec<PathBuf>,
    /// How long a dump may be silent.
    pub silence: Duration,
    /// Whether the line takes answers; a recording does not.
    pub can_answer: bool,
    /// The line's speed in baud, where it can be set.
    pub baud: Option<u32>,
}

/// A line being listened to.
#[derive(Debug)]
pub struct Session {
    receiver: Receiver,
    settings: Settings,
    /// This run's number, where the line can be answered.
    number: Option<u32>,
    dump: Option<Dump>,
    leave: Option<Leave>,
    building: Option<Building>,
    library: Option<Arc<PageLibrary>>,
    speed: LineSpeed,
    /// The line is to be set to this rate, once all that is to be said has left.
    new_rate: Option<u32>,
    is_mute: bool,
    path: PathBuf,
    /// Dumps that have ended; what still comes of them is left alone.
    ended: Vec<u32>,
    troubles: u32,
}

impl Session {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// When an ELF that was named cannot be used.
    pub fn new(settings: Settings) -> Result<Self> {
        for elf in settings.elfs.iter().filter(|path| !path.is_dir()) {
            Symbols::open(elf)?;
        }
        Ok(Self {
            receiver: Receiver::new(),
            number: settings.can_answer.then(new_session),
            building: (settings.can_answer && !settings.have.is_empty())
                .then(|| Building::start(settings.have.clone())),
            library: None,
            speed: LineSpeed::new(settings.baud),
            new_rate: None,
            settings,
            dump: None,
            leave: None,
            is_mute: false,
            path: PathBuf::new(),
            ended: Vec::new(),
            troubles: 0,
        })
    }

    /// Returns whether a dump is on its way.
    #[must_use]
    pub const fn is_receiving(&self) -> bool {
        self.dump.is_some()
    }

    /// Returns whether the target of a dump that has ended is still being told so.
    #[must_use]
    pub fn is_taking_leave(&self) -> bool {
        self.leave.is_some()
    }

    /// Returns until when the dump on its way has to go on.
    #[must_use]
    pub fn silent_at(&self) -> Option<Instant> {
        let dump = self.dump.as_ref()?;
        dump.silent_at(self.settings.silence)
    }

    /// Returns how long to wait for the line at most; what there is to say must not be late.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        if self.dump.is_some() || self.leave.is_some() {
            POLL_WHILE_RECEIVING
        } else {
            POLL
        }
    }

    /// Returns the bytes that are to be sent now.
    pub fn answer(&mut self, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(leave) = &mut self.leave {
            bytes = leave.take(now);
            if leave.is_over(now) {
                self.leave = None;
            }
        }
        if let Some(dump) = &mut self.dump {
            bytes.extend(dump.answer(now));
        }
        bytes
    }

    /// Notes that the line was opened anew.
    pub const fn connected(&mut self) {
        self.speed.opened();
        self.new_rate = None;
    }

    /// Sends what there is to say, and sets the line's speed where that was agreed. A line that fails to take it does not
    /// end the capture: it is told of, once.
    pub fn speak(&mut self, connection: &mut Connection) -> Option<Event> {
        let now = Instant::now();
        let bytes = self.answer(now);
        let rate = self.take_rate(now);
        let mut result = Ok(());
        if !bytes.is_empty() {
            result = connection.answer(&bytes);
        }
        if let Some(rate) = rate {
            let set = connection.set_speed(rate);
            if set.is_err() {
                self.speed.failed();
                if let Some(dump) = &mut self.dump {
                    dump.set_baud_max(0);
                }
            }
            result = result.and(set);
        }
        let error = result.err()?;
        let is_news = !std::mem::replace(&mut self.is_mute, true);
        is_news.then(|| {
            Event::Message(format!(
                "the machine cannot be answered: {error}; what the line loses is lost"
            ))
        })
    }

    /// Returns the rate that the line is to be set to, after all that [`Session::answer`] returned has left.
    pub fn take_rate(&mut self, now: Instant) -> Option<u32> {
        let agreed = self.new_rate.take();
        if self.dump.is_none() && self.leave.is_none() {
            return self.speed.go_back();
        }
        agreed.or_else(|| self.speed.tick(now))
    }

    /// Takes in bytes of the line.
    ///
    /// # Errors
    ///
    /// When the dump cannot be written, or is of the wrong build.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        let mut receiver = std::mem::take(&mut self.receiver);
        let mut events = Vec::new();
        let mut result = Ok(());
        receiver.push(bytes, |event| {
            if result.is_ok() {
                result = self.take(event, &mut events);
            }
        });
        self.receiver = receiver;
        result.map(|()| events)
    }

    /// To be called after each look at the line; `is_quiet` when that brought nothing.
    ///
    /// # Errors
    ///
    /// When a dump that went silent cannot be written.
    pub fn tick(&mut self, is_quiet: bool) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.take_library(&mut events);
        if is_quiet {
            self.receiver.idle(|event| {
                if let LineEvent::Text(text) = event {
                    events.push(Event::Text(text.to_vec()));
                }
            });
        }
        if self.silent_at().is_some_and(|end| Instant::now() >= end) {
            self.close(&mut events)?;
        }
        Ok(events)
    }

    /// Tells that the line has ended; a dump on its way ends as it is.
    ///
    /// # Errors
    ///
    /// When the dump cannot be written.
    pub fn end(&mut self) -> Result<Vec<Event>> {
        let mut receiver = std::mem::take(&mut self.receiver);
        let mut events = Vec::new();
        let mut result = Ok(());
        receiver.finish(|event| {
            if result.is_ok() {
                result = self.take(event, &mut events);
            }
        });
        result?;
        self.close(&mut events)?;
        Ok(events)
    }

    /// Gives up the dump on its way, after it could not be written; its part file stays.
    pub fn abandon(&mut self) {
        if let Some(dump) = self.dump.take() {
            dump.progress().clear();
            self.ended.push(dump.short_id());
        }
    }

    /// Prints an event; returns the dump when it is the end of one.
    ///
    /// # Errors
    ///
    /// [`Error::Output`].
    pub fn show(&self, event: Event) -> Result<Option<Captured>> {
        let print = |write: &mut dyn FnMut() -> Result<()>| match &self.dump {
            Some(dump) => dump.progress().suspend(write),
            None => write(),
        };
        match event {
            Event::Text(text) => print(&mut || {
                let mut out = std::io::stdout().lock();
                out.write_all(&text)
                    .and_then(|()| out.flush())
                    .map_err(Error::Output)
            })?,
            Event::Message(text) => print(&mut || {
                eprintln!("afterimage: {}", harmless(&text));
                Ok(())
            })?,
            Event::Done(captured) => return Ok(Some(*captured)),
        }
        Ok(None)
    }

    /// Takes over the library of pages, once it is built.
    fn take_library(&mut self, events: &mut Vec<Event>) {
        let Some(building) = &self.building else {
            return;
        };
        let built = building.poll(&mut |text| events.push(Event::Message(text)));
        let Some(library) = built.map(Arc::new) else {
            return;
        };
        self.building = None;
        if let Some(dump) = &mut self.dump {
            dump.look_up_in(Arc::clone(&library));
        }
        self.library = Some(library);
    }

    fn take(&mut self, event: LineEvent<'_>, events: &mut Vec<Event>) -> Result<()> {
        match event {
            LineEvent::Text(text) => {
                match events.last_mut() {
                    Some(Event::Text(before)) => before.extend_from_slice(text),
                    _ => events.push(Event::Text(text.to_vec())),
                }
                Ok(())
            }
            LineEvent::Damaged(damage) => {
                self.damaged(&damage, events);
                Ok(())
            }
            LineEvent::Frame(frame) => self.frame(&frame, events),
        }
    }

    fn damaged(&mut self, damage: &Damage, events: &mut Vec<Event>) {
        let Some(dump) = &mut self.dump else { return };
        dump.count_damage();
        let which = damage.header.map_or_else(
            || "a frame".to_owned(),
            |header| format!("frame {}", header.sequence),
        );
        let text = format!(
            "{which} of {} bytes arrived damaged: {}",
            damage.len, damage.cause
        );
        trouble(&mut self.troubles, events, text);
    }

    fn frame(&mut self, frame: &Frame<'_>, events: &mut Vec<Event>) -> Result<()> {
        let now = Instant::now();
        self.speed.heard(now);
        let id = frame.header.dump;
        if let Some(leave) = &mut self.leave
            && leave.frame(&frame.header)
        {
            return Ok(());
        }
        if self.ended.contains(&id) {
            return Ok(());
        }
        if self.dump.as_ref().is_some_and(|dump| dump.short_id() != id) {
            // Only a manifest starts a new dump: its checksum and its fields agree on the id.
            if frame.kind() != Some(FrameType::Manifest) {
                return Ok(());
            }
            self.close(events)?;
        }
        self.troubles = if self.dump.is_some() {
            self.troubles
        } else {
            0
        };
        let dump = self.dump.get_or_insert_with(|| {
            let mut dump = Dump::new(id, self.number);
            dump.set_baud_max(self.speed.rate_max());
            if let Some(library) = &self.library {
                dump.look_up_in(Arc::clone(library));
            }
            dump
        });
        let troubles = &mut self.troubles;
        let steps = dump.accept(frame, &mut |text| trouble(troubles, events, text))?;
        if let Some(change) = steps.baud {
            let todo = self.speed.accept(change, now);
            if let Some(change) = todo.say {
                dump.say_baud(change);
            }
            self.new_rate = todo.set.or(self.new_rate);
        }
        if steps.has_begun {
            self.began(events)?;
        }
        if let Some(dump) = &mut self.dump {
            let lines = dump.backtraces(false);
            events.extend(lines.into_iter().map(Event::Message));
        }
        if steps.is_over {
            let answering = self.dump.as_mut().and_then(Dump::take_answering);
            self.leave = answering
                .filter(|_| frame.header.version > 1)
                .map(|answering| Leave::new(answering, id));
            self.close(events)?;
        }
        Ok(())
    }

    fn began(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let Some(dump) = &mut self.dump else {
            return Ok(());
        };
        let Some(manifest) = dump.manifest().copied() else {
            return Ok(());
        };
        let build_id = Some(manifest.build_id()).filter(|id| !id.is_empty());
        let symbols = match find_matching(&self.settings.elfs, build_id) {
            Err(error) if self.settings.is_elf_required => return Err(error),
            // It is told at the end.
            found => found.unwrap_or_default(),
        };
        if self.settings.has_backtraces {
            dump.tell_backtraces(symbols);
        }
        let chosen = self.settings.destination.choose(&manifest, dump.ranges())?;
        let part = part_path(&chosen.path);
        self.path = chosen.path;
        let troubles = &mut self.troubles;
        let mut tell = |text| trouble(troubles, events, text);
        let resumed = if chosen.is_resumed {
            Some(dump.resume(&part, &mut tell)?)
        } else {
            dump.create(&part, &mut tell)?;
            None
        };
        let build = match manifest.build_id() {
            [] => "build ID unknown".to_owned(),
            id => format!("build ID {}", hex(id)),
        };
        let (id, ram) = (hex(&manifest.dump_id), size(dump.ram_bytes()));
        let text = format!(
            "dump {id} began: {ram} of memory, {} CPUs, {build}",
            manifest.cpu_count
        );
        events.push(Event::Message(text));
        if let Some((there, named)) = resumed {
            let text = format!("resumed: {there} of {named} blocks are there");
            events.push(Event::Message(text));
        }
        Ok(())
    }

    /// Ends the dump on its way, if there is one.
    fn close(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let Some(mut dump) = self.dump.take() else {
            return Ok(());
        };
        let lines = dump.backtraces(true);
        events.extend(lines.into_iter().map(Event::Message));
        self.ended.push(dump.short_id());
        let hidden = self.troubles.saturating_sub(TROUBLES_SHOWN);
        if hidden > 0 {
            events.push(Event::Message(format!("{hidden} more damaged frames")));
        }
        let overwrite = self.settings.destination.is_overwritten();
        let ended = dump.end(&self.path, overwrite)?;
        events.push(Event::Done(Box::new(Captured::new(
            self.path.clone(),
            ended,
            self.settings.elfs.clone(),
        ))));
        Ok(())
    }
}

/// Tells of a trouble, up to a number.
fn trouble(count: &mut u32, events: &mut Vec<Event>, text: String) {
    *count = count.saturating_add(1);
    if *count <= TROUBLES_SHOWN {
        events.push(Event::Message(text));
    }
}
