// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes by on a line: console text, and dumps one after the other.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use wire::receiver::{Damage, Event as LineEvent, Receiver};
use wire::{Frame, FrameType};

use crate::captured::Captured;
use crate::dump::{Dump, Step, free_name};
use crate::dump_file::part_path;
use crate::error::{Error, Result};
use crate::output::size;
use crate::symbols::{Symbols, find_matching, hex};
use crate::terminal::harmless;

/// Troubles of one dump that are printed; the rest is counted.
const TROUBLES_SHOWN: u32 = 10;

/// Where dumps go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// One file.
    File {
        /// Its name.
        path: PathBuf,
        /// Whether an existing one is replaced.
        overwrite: bool,
    },
    /// A directory, with a new name for each dump.
    Directory(PathBuf),
}

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

/// A line being listened to.
#[derive(Debug)]
pub struct Session {
    receiver: Receiver,
    destination: Destination,
    elfs: Vec<PathBuf>,
    is_elf_required: bool,
    silence: Duration,
    dump: Option<Dump>,
    path: PathBuf,
    /// Dumps that have ended; what still comes of them is left alone.
    ended: Vec<u32>,
    troubles: u32,
}

impl Session {
    /// Starts to listen. With `is_elf_required` a dump of another build than `elfs` is an error, else it has no symbols.
    ///
    /// # Errors
    ///
    /// When an ELF that was named cannot be used.
    pub fn new(
        destination: Destination,
        elfs: Vec<PathBuf>,
        is_elf_required: bool,
        silence: Duration,
    ) -> Result<Self> {
        for elf in elfs.iter().filter(|path| !path.is_dir()) {
            Symbols::open(elf)?;
        }
        Ok(Self {
            receiver: Receiver::new(),
            destination,
            elfs,
            is_elf_required,
            silence,
            dump: None,
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
        if is_quiet {
            self.receiver.idle(|event| {
                if let LineEvent::Text(text) = event {
                    events.push(Event::Text(text.to_vec()));
                }
            });
        }
        if self
            .dump
            .as_ref()
            .is_some_and(|dump| dump.is_silent(self.silence))
        {
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
        let id = frame.header.dump;
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
        let dump = self.dump.get_or_insert_with(|| Dump::new(id));
        let troubles = &mut self.troubles;
        match dump.accept(frame, &mut |text| trouble(troubles, events, text))? {
            Step::On => Ok(()),
            Step::Began => self.began(events),
            Step::Over => self.close(events),
        }
    }

    fn began(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let Some(dump) = &mut self.dump else {
            return Ok(());
        };
        let Some(manifest) = dump.manifest().copied() else {
            return Ok(());
        };
        if self.is_elf_required && manifest.build_id_len > 0 {
            find_matching(&self.elfs, Some(manifest.build_id()))?;
        }
        self.path = match &self.destination {
            Destination::File { path, .. } => path.clone(),
            Destination::Directory(directory) => free_name(directory, &manifest.dump_id),
        };
        let troubles = &mut self.troubles;
        dump.create(&part_path(&self.path), &mut |text| {
            trouble(troubles, events, text)
        })?;
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
        Ok(())
    }

    /// Ends the dump on its way, if there is one.
    fn close(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let Some(dump) = self.dump.take() else {
            return Ok(());
        };
        self.ended.push(dump.short_id());
        let hidden = self.troubles.saturating_sub(TROUBLES_SHOWN);
        if hidden > 0 {
            events.push(Event::Message(format!("{hidden} more damaged frames")));
        }
        let overwrite = matches!(
            self.destination,
            Destination::File {
                overwrite: true,
                ..
            }
        );
        let ended = dump.end(&self.path, overwrite)?;
        events.push(Event::Done(Box::new(Captured::new(
            self.path.clone(),
            ended,
            self.elfs.clone(),
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
