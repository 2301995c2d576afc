// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage gdb`: starts gdb on a dump.
//!
//! gdb tells threads apart by pr_pid; Linux's notes of idle CPUs all say 0 ("current thread has terminated"). Such a
//! dump is copied, sparsely, with the pids made unique. gdb knows neither Linux's page tables nor where KASLR put it, so the
//! copy of a Linux's dump has what is mapped as segments, and the symbols are moved.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmcore::elf_core::Segment;
use vmcore::linux::{VirtualMemory, Vmcoreinfo};

use crate::bt::{open_symbols, require_build_of};
use crate::cli::Gdb;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Exit, Result};
use crate::gdb_core;
use crate::interrupt::Interrupt;
use crate::linux_elf::LinuxElf;
use crate::linux_segments::LinuxSegments;

/// Runs the command.
///
/// # Errors
///
/// When the dump or ELF cannot be used, or no gdb can be started.
pub fn gdb(args: &Gdb) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    if let Some(info) = contents.linux() {
        return linux(args, &core, &contents, info);
    }
    open_symbols(Some(&args.elf), &contents)?;
    let pids: HashSet<u32> = contents.statuses.iter().map(|s| s.pid).collect();
    if pids.len() == contents.statuses.len() && !pids.contains(&0) {
        let error = command(args, &args.vmcore, &[]).exec();
        return Err(start_error(error));
    }
    run(args, &core, core.loads(), &[])
}

/// Starts gdb on a copy with these segments, and first of all with these commands.
fn run(args: &Gdb, core: &CoreFile, loads: &[Segment], first: &[String]) -> Result<Exit> {
    // exec would leave the copy behind, so gdb is waited for; Ctrl-C is gdb's.
    let _interrupt = Interrupt::ignore().map_err(Error::Terminal)?;
    let copy = gdb_core::write(core, loads)?;
    let status = command(args, copy.path(), first)
        .status()
        .map_err(start_error)?;
    Ok(Exit::Other(
        status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .unwrap_or(1),
    ))
}

/// Starts gdb on the dump of a Linux: its symbols moved by the KASLR offset, the CPU that crashed chosen.
fn linux(
    args: &Gdb,
    core: &CoreFile,
    contents: &Contents<'_>,
    info: &Vmcoreinfo<'_>,
) -> Result<Exit> {
    let elf = LinuxElf::open(&args.elf)?;
    require_build_of(contents, &args.elf, elf.build_id())?;
    let offset = info.hexadecimal("KERNELOFFSET").unwrap_or_else(|error| {
        eprintln!("afterimage: {error}: the kernel is taken to run where it was linked to");
        0
    });
    let segments = LinuxSegments::of(core, info).unwrap_or_else(|error| {
        eprintln!("afterimage: {error}: gdb sees what the dump's own segments name, and no stack");
        LinuxSegments {
            segments: core.loads().to_vec(),
            is_all: true,
        }
    });
    if !segments.is_all {
        eprintln!("afterimage: the page tables map more than can be shown to gdb");
    }
    let mut first = vec![format!("symbol-file -o {offset:#x} {}", quoted(&args.elf))];
    if let Some(cpu) = crashed_cpu(core, contents, info, &elf, offset) {
        // gdb counts from 1.
        first.push(format!("thread {}", cpu.saturating_add(1)));
    }
    run(args, core, &segments.segments, &first)
}

/// Returns the number of the CPU that panicked, as `panic_cpu` (kernel/panic.c) has it; only one whose registers are there.
fn crashed_cpu(
    core: &CoreFile,
    contents: &Contents<'_>,
    info: &Vmcoreinfo<'_>,
    elf: &LinuxElf,
    offset: u64,
) -> Option<u32> {
    let at = elf.panic_cpu()?.wrapping_add(offset);
    let cpu = VirtualMemory::new(info, core).ok()?.u32(at).ok()?;
    contents
        .cpus()
        .iter()
        .any(|(number, _)| *number == cpu)
        .then_some(cpu)
}

/// Returns a path as one argument of a command of gdb.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn start_error(source: std::io::Error) -> Error {
    Error::Start {
        program: program().to_string_lossy().into_owned(),
        source,
    }
}

/// Returns the first of gdb-multiarch and gdb that is on the PATH.
fn program() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &str| std::env::split_paths(&path).any(|dir: PathBuf| dir.join(name).is_file());
    if is_there("gdb-multiarch") {
        "gdb-multiarch"
    } else {
        "gdb"
    }
    .into()
}

/// Prepares gdb with `first` as its first commands. With any, they are what loads the symbols.
fn command(args: &Gdb, core: &Path, first: &[String]) -> Command {
    let mut command = Command::new(program());
    command.args(["-q", "-ex", "set architecture aarch64"]);
    for line in first {
        command.arg("-ex").arg(line);
    }
    command.args(&args.gdb_args);
    if first.is_empty() {
        command.arg(&args.elf);
    }
    // "-c" keeps gdb from taking a core for a second program, whatever its name.
    command.arg("-c").arg(core);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_spaces_and_quotes_is_one_argument() {
        let quoted = |path: &str| quoted(Path::new(path));
        assert_eq!(quoted("/a b/vmlinux"), r#""/a b/vmlinux""#);
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
