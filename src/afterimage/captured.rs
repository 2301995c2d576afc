// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dump that was captured, and what is told of it.

use std::path::{Path, PathBuf};

use crate::backtrace::render;
use crate::bt::report;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::corrupted_code::corrupted_code;
use crate::dmesg::log_text;
use crate::dump::Ended;
use crate::error::{Error, Result};
use crate::inspect::info_text;
use crate::moved::moved_lines;
use crate::output::size;
use crate::symbols::{Symbols, find_matching};

/// Faults that are listed; `verify` lists all.
const FAULTS_SHOWN: usize = 10;

/// Tells the user on standard error what is missing from a dump.
pub fn tell_missing(faults: &[String]) {
    for fault in faults.iter().take(FAULTS_SHOWN) {
        eprintln!("afterimage: missing: {fault}");
    }
    let hidden = faults.len().saturating_sub(FAULTS_SHOWN);
    if hidden > 0 {
        eprintln!("afterimage: missing: {hidden} more; `afterimage verify` lists the memory");
    }
}

/// A dump in its file.
#[derive(Debug)]
pub struct Captured {
    path: PathBuf,
    ended: Ended,
    elfs: Vec<PathBuf>,
}

impl Captured {
    /// Makes it from a dump that ended in `path`; `elfs` may hold its symbols.
    #[must_use]
    pub const fn new(path: PathBuf, ended: Ended, elfs: Vec<PathBuf>) -> Self {
        Self { path, ended, elfs }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether everything that was sent is in it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.ended.faults.is_empty()
    }

    /// Tells the user on standard error: path, size, time, gaps, and what is missing.
    pub fn announce(&self) {
        tell_missing(&self.ended.faults);
        for line in self.corrupted_code().iter().chain(&self.moved()) {
            eprintln!("afterimage: {line}");
        }
        eprintln!(
            "afterimage: {} {}: {}, {:.1} s, {} gaps",
            if self.is_whole() {
                "done"
            } else {
                "incomplete"
            },
            self.path.display(),
            size(self.ended.len),
            self.ended.elapsed.as_secs_f64(),
            self.ended.gaps
        );
    }

    /// Returns what changed while it was dumped.
    fn moved(&self) -> Vec<String> {
        let core = CoreFile::open(&self.path);
        core.map_or_else(
            |_| Vec::new(),
            |core| moved_lines(&Contents::of(core.note_bytes())),
        )
    }

    /// Returns where code in the dump is not what the ELF says.
    fn corrupted_code(&self) -> Vec<String> {
        let Ok(core) = CoreFile::open(&self.path) else {
            return Vec::new();
        };
        let contents = Contents::of(core.note_bytes());
        // That no ELF matches is told elsewhere.
        let symbols = find_matching(&self.elfs, contents.build_id);
        let lines = |symbols| corrupted_code(&symbols, &core, &contents);
        symbols.ok().flatten().map_or_else(Vec::new, lines)
    }

    /// Opens the file and the symbols that match it; a wrong ELF is told of and not used.
    fn open(&self) -> Result<(CoreFile, Vec<u8>, Option<Symbols>)> {
        let core = CoreFile::open(&self.path)?;
        let notes = core.note_bytes().to_vec();
        let build_id = Contents::of(&notes).build_id.map(<[u8]>::to_vec);
        let symbols = find_matching(&self.elfs, build_id.as_deref()).unwrap_or_else(|error| {
            eprintln!("afterimage: {error}");
            None
        });
        Ok((core, notes, symbols))
    }

    /// Returns the backtrace of the CPU that crashed.
    #[must_use]
    pub fn backtrace(&self) -> Option<String> {
        let (core, notes, symbols) = self.open().ok()?;
        let status = *Contents::of(&notes).statuses.first()?;
        Some(render(symbols.as_ref(), &core, &status.registers))
    }

    /// Writes what is known of the dump beside it, as text.
    ///
    /// # Errors
    ///
    /// When the dump cannot be read or the text cannot be written.
    pub fn write_report(&self) -> Result<()> {
        let (core, notes, symbols) = self.open()?;
        let contents = Contents::of(&notes);
        let mut text = info_text(&core, &contents);
        text.push('\n');
        text.push_str(&report(&core, &contents, symbols.as_ref(), true));
        if let Some(symbols) = &symbols {
            for line in corrupted_code(symbols, &core, &contents) {
                text.push_str(&format!("{line}\n"));
            }
        }
        text.push('\n');
        match log_text(&core, &contents) {
            Ok(log) => text.push_str(&log.text),
            Err(error) => text.push_str(&format!("{error}\n")),
        }
        let path = self.path.with_extension("txt");
        std::fs::write(&path, text).map_err(Error::file("write", &path))
    }
}
