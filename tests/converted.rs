// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dump in the other formats of `convert`, read back by libkdumpfile, drgn and makedumpfile.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::artefacts;
use crate::dump::Dump;
use crate::memory::{PAGE, Pages, RAM_START, read_pages};
use crate::process::{Finished, run};

/// Longest run of a converter or reader; reading page by page through Python takes most of it.
const LIMIT: Duration = Duration::from_secs(120);

/// A reader of kdump-compressed dumps that is not ours.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// Debian's binding of libkdumpfile.
    Libkdumpfile,
    /// drgn, which takes dumps of Linux only.
    Drgn,
}

/// Converts `vmcore` and returns how that ended.
#[must_use]
pub fn convert(vmcore: &Path, to: &str, output: &Path) -> Finished {
    let mut command = Command::new(artefacts::host_command());
    command.arg("convert").arg(vmcore).args(["--to", to, "-o"]);
    run(command.arg(output), LIMIT)
}

/// Converts `dump` to each format beside it and asserts that every reader finds what is in it, and nothing else: each page
/// that it holds, and no page that it does not. Returns the kdump-compressed file.
///
/// # Panics
/// A converter fails with another status than `status`, or a reader finds something else.
pub fn assert_readers_agree(dump: &Dump, status: i32, readers: &[Reader]) -> PathBuf {
    let [kdump, flattened, elf] = ["kdump", "flattened", "elf"].map(|to| {
        let path = dump.path.with_extension(format!("as-{to}"));
        let done = convert(&dump.path, to, &path);
        assert_eq!(done.status.code(), Some(status), "{to}: {}", done.stderr);
        path
    });
    let rebuilt = rebuild(&flattened);
    assert!(
        fs::read(&rebuilt).expect("rebuilt") == fs::read(&kdump).expect("kdump"),
        "makedumpfile -R makes another file of the flattened format"
    );
    let again = Dump::open(&elf);
    assert_eq!(again.covered(), dump.covered(), "what the second ELF holds");
    assert_eq!(again.loads.len(), dump.loads.len(), "its segments");
    let pages = dump.pages();
    assert!(again.pages() == pages, "the second ELF holds other pages");
    for reader in readers {
        let (covered, found) = read(*reader, &kdump, dump);
        assert_eq!(covered, dump.covered(), "what {reader:?} finds");
        let differing = found.keys().filter(|at| found.get(at) != pages.get(at));
        let differing: Vec<String> = differing.map(|at| format!("{at:#x}")).collect();
        assert!(differing.is_empty(), "{reader:?}: pages {differing:?}");
        assert_eq!(found.len(), pages.len(), "pages that {reader:?} finds");
    }
    kdump
}

/// Makes the file that `makedumpfile -R` makes of the flattened one.
fn rebuild(flattened: &Path) -> PathBuf {
    let rebuilt = flattened.with_extension("rebuilt");
    let status = Command::new("makedumpfile")
        .arg("-R")
        .arg(&rebuilt)
        .stdin(File::open(flattened).expect("the flattened file"))
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "makedumpfile -R"
    );
    rebuilt
}

/// Reads the memory that `dump` may hold out of `kdump`: what there is, and the pages that are not zero.
fn read(reader: Reader, kdump: &Path, dump: &Dump) -> (Vec<Range<u64>>, Pages) {
    let (python, name) = match reader {
        // Debian's binding is for Debian's Python, whatever else comes first in PATH.
        Reader::Libkdumpfile => (PathBuf::from("/usr/bin/python3"), "libkdumpfile"),
        Reader::Drgn => (artefacts::drgn_python(), "drgn"),
    };
    let (out, end) = (
        kdump.with_extension(name),
        // One page more than there is: nothing must be there.
        dump.covered().last().expect("memory").end + PAGE,
    );
    let mut command = Command::new(python);
    command.arg(artefacts::root().join("tests/read_kdump.py"));
    command.arg(name).arg(kdump);
    command.args([PAGE, RAM_START, end].map(|number| number.to_string()));
    let text = run(command.arg(&out), LIMIT).success();
    let mut lines: Vec<&str> = text.lines().collect();
    if matches!(reader, Reader::Drgn) {
        let release = lines.remove(0);
        assert!(
            dump.notes.iter().any(|note| {
                let wanted = format!("OSRELEASE={}\n", release.trim_start_matches("release "));
                note.desc.starts_with(wanted.as_bytes())
            }),
            "{release}"
        );
    }
    let number = |digits| u64::from_str_radix(digits, 16).expect("an address");
    let covered = lines.iter().map(|line| {
        let (first, end) = line.split_once(' ').expect("two addresses");
        number(first)..number(end)
    });
    let covered = covered.collect();
    let mut pages = Pages::new();
    read_pages(
        &File::open(&out).expect("the pages"),
        0..end - RAM_START,
        |offset, page| {
            pages.insert(RAM_START + offset, page);
        },
    );
    (covered, pages)
}
