// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::link::Link;

const LINK_HELP: &str = "serial:DEV[,BAUD], tcp:HOST:PORT, telnet:HOST:PORT, unix:PATH, pty:PATH, file:PATH, or - for standard input";

/// Receives, checks and reads the dumps of crashed arm64 machines.
#[derive(Debug, Parser)]
#[command(name = "afterimage", version, disable_help_subcommand = true, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 usage, 3 the dump is incomplete (and still written), \
101 a crash under `run`, 130 Ctrl-C (what was received is kept).";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pass the console through and capture every dump that comes by.
    Watch(Watch),
    /// Wait for one dump and write it as an ELF core.
    Receive(Receive),
    /// Boot a kernel in QEMU; on a crash print the backtrace and exit 101 (for use as cargo runner).
    Run(Run),
    /// Show what is in a dump.
    Info(Inspect),
    /// Tell whether a dump is whole, and what is missing.
    Verify(Inspect),
    /// Print the backtrace of each CPU.
    Bt(Bt),
    /// Print the crashed kernel's log.
    Dmesg(Dmesg),
    /// Start gdb on a dump.
    Gdb(Gdb),
    /// Write a dump in another format, for makedumpfile, crash and libkdumpfile.
    Convert(Convert),
    /// Ask a running kernel whether a crash would leave a dump.
    Status(Ask),
    /// Ask a running kernel what a dump would hold now, and how long it would take.
    Estimate(Ask),
}

/// Arguments of `status` and `estimate`.
#[derive(Debug, Args)]
pub struct Ask {
    /// Where the machine's console is.
    #[arg(help = LINK_HELP)]
    pub link: Link,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Give up after S seconds without an answer.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// The kernel's sysrq_sequence=.
    #[arg(long, value_name = "TEXT", default_value = "~~~SysRq")]
    pub sysrq_sequence: String,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Where the machine's console is.
    #[arg(help = LINK_HELP)]
    pub link: Link,
    /// Where dumps go, as UTC-DUMPID.vmcore and .txt.
    #[arg(short = 'd', long = "dir", value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// ELF with symbols, or a directory of them; matched by build ID.
    #[arg(long, value_name = "ELF|DIR")]
    pub elf: Vec<PathBuf>,
    /// Directory of earlier dumps: pages that are in them, or in the ELFs, are not sent again.
    #[arg(long, value_name = "DIR")]
    pub have: Vec<PathBuf>,
    /// End after the first dump.
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `receive`.
#[derive(Debug, Args)]
pub struct Receive {
    /// Where the machine's console is.
    #[arg(help = LINK_HELP)]
    pub link: Link,
    /// The file to write.
    #[arg(short = 'o', long = "output", value_name = "VMCORE")]
    pub output: PathBuf,
    /// ELF with symbols; a dump of another build is refused.
    #[arg(long, value_name = "ELF")]
    pub elf: Option<PathBuf>,
    /// Directory of earlier dumps: pages that are in them, or in the ELF, are not sent again.
    #[arg(long, value_name = "DIR")]
    pub have: Vec<PathBuf>,
    /// Give up when no dump begins within S seconds, or when a dump is silent that long.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// Overwrite the file.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Kernel to boot.
    #[arg(value_name = "ELF|IMAGE")]
    pub kernel: PathBuf,
    /// Further arguments for QEMU.
    #[arg(last = true, value_name = "QEMU ARGS")]
    pub qemu_args: Vec<OsString>,
}

/// Arguments of `info` and `verify`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The dump.
    pub vmcore: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bt`.
#[derive(Debug, Args)]
pub struct Bt {
    /// The dump.
    pub vmcore: PathBuf,
    /// ELF with symbols; without one, addresses are printed, of a Linux the names in its own memory.
    #[arg(long, value_name = "ELF")]
    pub elf: Option<PathBuf>,
    /// The program's own threads as well.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `dmesg`.
#[derive(Debug, Args)]
pub struct Dmesg {
    /// The dump.
    pub vmcore: PathBuf,
}

/// Arguments of `gdb`.
#[derive(Debug, Args)]
pub struct Gdb {
    /// The dump.
    pub vmcore: PathBuf,
    /// ELF with symbols.
    #[arg(long, value_name = "ELF")]
    pub elf: PathBuf,
    /// Further arguments for gdb.
    #[arg(last = true, value_name = "GDB ARGS")]
    pub gdb_args: Vec<OsString>,
}

/// A format of `convert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An ELF core, as `receive` writes it.
    Elf,
    /// makedumpfile's compressed format, version 6, with zlib.
    Kdump,
    /// The same as a stream, which `makedumpfile -R` makes a file of.
    Flattened,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The dump.
    pub vmcore: PathBuf,
    /// The format to write.
    #[arg(long, value_enum)]
    pub to: Format,
    /// makedumpfile's dump level, 0 to 31; what a file does not tell is not applied [default: the dump's own].
    #[arg(short = 'd', long = "level", value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(0..=31))]
    pub level: Option<u32>,
    /// The file to write; `-` is standard output, for `flattened` only.
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    pub output: PathBuf,
    /// Overwrite the file.
    #[arg(long)]
    pub force: bool,
}

impl Convert {
    /// Returns whether the result goes to standard output.
    #[must_use]
    pub fn is_to_stdout(&self) -> bool {
        self.output.as_os_str() == "-"
    }
}

impl Cli {
    /// Returns what is wrong with arguments that are right one by one.
    ///
    /// # Errors
    ///
    /// A usage error.
    pub fn check(&self) -> Result<(), clap::Error> {
        match &self.command {
            Command::Convert(convert)
                if convert.is_to_stdout() && convert.to != Format::Flattened =>
            {
                let text = "only --to flattened can go to standard output: the other formats are not written in order";
                Err(Self::command().error(ErrorKind::ArgumentConflict, text))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn receive_without_output_is_a_usage_error() {
        assert!(Cli::try_parse_from(["afterimage", "receive", "-"]).is_err());
    }

    #[test]
    fn bad_link_is_a_usage_error() {
        assert!(Cli::try_parse_from(["afterimage", "watch", "usb:1"]).is_err());
    }

    #[test]
    fn qemu_arguments_follow_two_dashes() {
        let cli =
            Cli::try_parse_from(["afterimage", "run", "k", "--", "-smp", "4"]).expect("valid");
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.qemu_args, ["-smp", "4"]);
    }

    #[test]
    fn question_has_the_defaults_of_the_kernel() {
        let cli = Cli::try_parse_from(["afterimage", "status", "unix:x"]).expect("valid");
        let Command::Status(ask) = cli.command else {
            panic!("not status")
        };
        assert_eq!(
            ask.sysrq_sequence.as_bytes(),
            crate::keyboard::SYSRQ_SEQUENCE
        );
        assert_eq!((ask.timeout, ask.json), (5, false));
    }

    #[test]
    fn zero_timeout_is_a_usage_error() {
        let args = ["afterimage", "receive", "-", "-o", "x", "--timeout", "0"];
        assert!(Cli::try_parse_from(args).is_err());
    }

    #[test]
    fn only_a_stream_goes_to_standard_output() {
        let parse = |to| {
            let args = ["afterimage", "convert", "x", "--to", to, "-o", "-"];
            Cli::try_parse_from(args).expect("each is right").check()
        };
        assert!(parse("flattened").is_ok());
        assert!(parse("elf").is_err() && parse("kdump").is_err());
    }

    #[test]
    fn level_above_31_is_a_usage_error() {
        for (level, is_ok) in [("31", true), ("32", false), ("-1", false), ("x", false)] {
            let args = ["afterimage", "convert", "x", "--to", "elf", "-o", "y", "-d"];
            let parsed = Cli::try_parse_from(args.into_iter().chain([level]));
            assert_eq!(parsed.is_ok(), is_ok, "{level}");
        }
    }
}
