// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the command in a directory of its own and looks at how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::stream::Machine;

pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn record(&self, line: &[u8]) -> String {
        std::fs::write(self.path("line"), line).expect("write");
        format!("file:{}", self.path("line").display())
    }

    pub(crate) fn vmcore(&self) -> PathBuf {
        self.path("vmcore")
    }

    pub(crate) fn receive(&self, line: &[u8]) -> Output {
        let link = self.record(line);
        run(&["receive", &link, "-o", text(&self.vmcore())])
    }

    /// Receives a whole dump and returns its path.
    pub(crate) fn whole(&self) -> PathBuf {
        assert_exit(&self.receive(&Machine::new().line()), 0);
        self.vmcore()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

pub(crate) fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("starts")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32) {
    let found = output.status.code();
    assert_eq!(
        found,
        Some(code),
        "stdout: {}\nstderr: {}",
        out(output),
        err(output)
    );
}

/// Reads memory out of a core with a reader that is not ours.
pub(crate) fn physical(path: &Path, address: u64, len: usize) -> Option<Vec<u8>> {
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let data = std::fs::read(path).expect("read");
    let header = object::elf::FileHeader64::<object::LittleEndian>::parse(&*data).expect("elf");
    let endian = object::LittleEndian;
    let segments = header.program_headers(endian, &*data).expect("segments");
    let loads = segments
        .iter()
        .filter(|s| s.p_type(endian) == object::elf::PT_LOAD);
    for load in loads {
        let start = load.p_paddr(endian);
        if address >= start && address + len as u64 <= start + load.p_memsz(endian) {
            let at = (load.p_offset(endian) + address - start) as usize;
            return Some(data[at..at + len].to_vec());
        }
    }
    None
}
