// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `afterimage` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use afterimage::cli::{Cli, Command};
use afterimage::error::{Error, Exit, Result};
use afterimage::interrupt::Interrupt;
use afterimage::{ask, bt, convert, dmesg, gdb, inspect, receive, run, watch};
use clap::Parser as _;

fn dispatch(command: &Command) -> Result<Exit> {
    let interrupt = || Interrupt::install().map_err(Error::Terminal);
    match command {
        Command::Watch(args) => watch::watch(args, &interrupt()?),
        Command::Receive(args) => receive::receive(args, &interrupt()?),
        Command::Run(args) => run::run(args, &interrupt()?),
        Command::Info(args) => inspect::info(args),
        Command::Verify(args) => inspect::verify(args),
        Command::Bt(args) => bt::bt(args),
        Command::Dmesg(args) => dmesg::dmesg(args),
        Command::Gdb(args) => gdb::gdb(args),
        Command::Convert(args) => convert::convert(args, &interrupt()?),
        Command::Status(args) => ask::status(args, &interrupt()?),
        Command::Estimate(args) => ask::estimate(args, &interrupt()?),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.check() {
        error.exit();
    }
    let exit = match dispatch(&cli.command) {
        Ok(exit) => exit,
        // A reader that has seen enough (`| head`) is no failure.
        Err(Error::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            eprintln!("afterimage: {error}");
            Exit::Failed
        }
    };
    ExitCode::from(exit.code())
}
