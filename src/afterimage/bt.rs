// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage bt`: the backtrace of each CPU, and of the program's threads.

use std::fmt::Write as _;

use vmcore::afterimage_notes::name_text;

use crate::backtrace::render;
use crate::cli::Bt;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::corrupted_code::corrupted_code;
use crate::error::{Error, Exit, Result};
use crate::linux_backtrace::linux_report;
use crate::output::print;
use crate::symbols::{Symbols, require_same};
use crate::terminal::harmless;

/// Runs the command.
///
/// # Errors
///
/// When the dump or the ELF cannot be used, or the ELF is another build.
pub fn bt(args: &Bt) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    let symbols = open_symbols(args.elf.as_deref(), &contents)?;
    if contents.statuses.is_empty() {
        return Err(Error::Absent {
            path: args.vmcore.clone(),
            what: "registers of any CPU".to_owned(),
        });
    }
    if let Some(symbols) = &symbols {
        for line in corrupted_code(symbols, &core, &contents) {
            eprintln!("afterimage: {line}");
        }
    }
    print(report(&core, &contents, symbols.as_ref(), args.all).as_bytes())?;
    Ok(Exit::Done)
}

/// Opens the ELF and refuses one of another build than the dump's; says so when the dump names no build.
///
/// # Errors
///
/// [`Error::WrongElf`], and those of [`Symbols::open`].
pub fn open_symbols(
    elf: Option<&std::path::Path>,
    contents: &Contents<'_>,
) -> Result<Option<Symbols>> {
    let Some(path) = elf else { return Ok(None) };
    let symbols = Symbols::open(path)?;
    require_build_of(contents, path, symbols.build_id())?;
    Ok(Some(symbols))
}

/// Accepts the ELF at `path`, with the build ID `found`, as that of the kernel that crashed; says so when the dump names no build.
///
/// # Errors
///
/// [`Error::WrongElf`].
pub fn require_build_of(
    contents: &Contents<'_>,
    path: &std::path::Path,
    found: Option<&[u8]>,
) -> Result<()> {
    if let Some(expected) = contents.kernel_build_id() {
        return require_same(path, found, &expected);
    }
    eprintln!(
        "afterimage: the dump names no build ID; {} is taken on trust",
        path.display()
    );
    Ok(())
}

/// Returns the backtraces as text.
#[must_use]
pub fn report(
    core: &CoreFile,
    contents: &Contents<'_>,
    symbols: Option<&Symbols>,
    all: bool,
) -> String {
    if let Some(info) = contents.linux() {
        return linux_report(core, info, contents, symbols);
    }
    let mut out = String::new();
    if let Some(reason) = &contents.reason {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{}: {}", reason.kind.name(), harmless(reason.text));
    }
    for (cpu, status) in contents.cpus() {
        let how = contents
            .stop_name(cpu)
            .map_or_else(String::new, |name| format!(" ({name})"));
        let _ = writeln!(out, "CPU {cpu}{how}:");
        out.push_str(&render(symbols, core, &status.registers));
    }
    for stop in &contents.stops {
        if !contents.cpus().iter().any(|(cpu, _)| *cpu == stop.cpu) {
            let _ = writeln!(
                out,
                "CPU {} ({}): no registers",
                stop.cpu,
                stop.status.name()
            );
        }
    }
    if all {
        for thread in &contents.threads {
            let _ = writeln!(
                out,
                "Thread {} \"{}\":",
                thread.id,
                harmless(name_text(&thread.name))
            );
            out.push_str(&render(symbols, core, &thread.registers));
        }
    }
    out
}
