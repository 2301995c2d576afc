// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage convert`: writes a dump in another format.
//!
//! `elf` is what `receive` writes, `kdump` is makedumpfile's compressed format, `flattened` is the latter as a stream.
//! The result is written beside its place under a temporary name, and gets its own when it is whole.

mod elf;
mod headers;
mod kdump;
mod level;
mod linux;
mod packer;
mod sink;
mod source;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::captured::tell_missing;
use crate::cli::{Convert, Format};
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Exit, Result};
use crate::inspect::faults;
use crate::interrupt::Interrupt;
use crate::output::size;
use kdump::How;
use linux::Kernel;
use sink::{Flattened, Plain, Sink as _};
use source::Source;

/// Runs the command.
///
/// # Errors
///
/// When the dump cannot be used, or the output cannot be written.
pub fn convert(args: &Convert, interrupt: &Interrupt) -> Result<Exit> {
    let started = Instant::now();
    check_output(args)?;
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    let source = Source::new(&core, &contents)?;
    let mut missing = faults(&core, &contents);
    let kernel = Kernel::of(&source)?;
    let pages = source.pages(kernel.page_size);
    if args.to != Format::Elf && pages.torn_bytes > 0 {
        missing.push(format!(
            "pages of {} of which the dump holds a part only: this format knows whole ones ({} bytes)",
            size(pages.torn_bytes),
            kernel.page_size
        ));
    }
    let (level, remarks) = level::level(args.level, contents.gaps.as_deref().unwrap_or_default());
    for remark in remarks {
        eprintln!("afterimage: {remark}");
    }
    let how = How {
        level,
        is_incomplete: !missing.is_empty(),
    };
    let is_done = if args.is_to_stdout() {
        let mut sink = Flattened::new(std::io::stdout().lock(), Path::new("standard output"))?;
        let is_done = kdump::write(&source, kernel, &pages.whole, how, &mut sink, interrupt)?;
        // Without its end the stream is told to be cut off.
        if is_done {
            sink.finish()?;
        }
        is_done
    } else {
        let part = part_file(&args.output)?;
        let is_done = match args.to {
            Format::Elf => elf::write(&source, how.is_incomplete, part.path(), interrupt)?,
            Format::Kdump => {
                let mut sink = Plain::new(part.as_file(), &args.output);
                kdump::write(&source, kernel, &pages.whole, how, &mut sink, interrupt)?
            }
            Format::Flattened => {
                let mut sink = Flattened::new(part.as_file(), &args.output)?;
                let is_done =
                    kdump::write(&source, kernel, &pages.whole, how, &mut sink, interrupt)?;
                sink.finish()?;
                is_done
            }
        };
        // A file that was interrupted vanishes: it can be made again.
        if is_done {
            keep(part, args)?;
        }
        is_done
    };
    if !is_done {
        return Ok(Exit::Interrupted);
    }
    tell_missing(&missing);
    announce(args, &missing, started)?;
    Ok(if missing.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

fn announce(args: &Convert, missing: &[String], started: Instant) -> Result<()> {
    let word = if missing.is_empty() {
        "done"
    } else {
        "incomplete"
    };
    let seconds = started.elapsed().as_secs_f64();
    if args.is_to_stdout() {
        eprintln!("afterimage: {word}: {seconds:.1} s");
        return Ok(());
    }
    let metadata = args
        .output
        .metadata()
        .map_err(Error::file("read", &args.output))?;
    eprintln!(
        "afterimage: {word} {}: {}, {seconds:.1} s",
        args.output.display(),
        size(metadata.len())
    );
    Ok(())
}

/// What cannot be written is told before the work, not after.
fn check_output(args: &Convert) -> Result<()> {
    let output = &args.output;
    if args.is_to_stdout() {
        return Ok(());
    }
    match output.metadata() {
        Ok(found) if !found.is_file() => Err(Error::NoFile(output.clone())),
        Ok(_) if !args.force => Err(Error::Exists(output.clone())),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::file("create", output)(e)),
    }
}

/// Creates the file that becomes `output`, beside it; it vanishes when it is dropped.
fn part_file(output: &Path) -> Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut prefix = output.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let directory = output.parent().filter(|path| !path.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".part")
        // What the umask makes of it, as for any new file.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .map_err(Error::file("create", output))
}

/// Waits for the disk and gives the file its name.
fn keep(part: NamedTempFile, args: &Convert) -> Result<()> {
    let output = &args.output;
    part.as_file()
        .sync_all()
        .map_err(Error::file("write", output))?;
    let kept = if args.force {
        part.persist(output)
    } else {
        part.persist_noclobber(output)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::Exists(output.clone()))
        }
        Err(failed) => Err(Error::file("create", output)(failed.error)),
    }
}
