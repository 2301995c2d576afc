// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backtraces of gdb and of `afterimage bt`, made comparable.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::artefacts;
use crate::process::run;

/// Longest run of gdb or readelf.
const LIMIT: Duration = Duration::from_secs(60);
/// Printed by gdb before the backtrace, so that the frame it shows on loading is not taken for one.
const MARK: &str = "the backtrace begins";

/// One frame: what both debuggers say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, without arguments; `??` when unknown.
    pub function: String,
    /// FILE:LINE, or empty.
    pub place: String,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.function, self.place)
    }
}

/// Returns what gdb-multiarch prints for `commands`, after loading kernel and dump.
///
/// # Panics
/// It fails, or warns of the file.
#[must_use]
pub fn gdb(vmcore: &Path, elf: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb-multiarch");
    gdb.current_dir(artefacts::root()).args([
        "-nx",
        "-batch",
        "-ex",
        "set width 0",
        "-ex",
        "set print frame-arguments none",
    ]);
    gdb.arg(elf)
        .arg("-ex")
        .arg(format!("core-file {}", vmcore.display()))
        .arg("-ex")
        .arg(format!("echo {MARK}\\n"));
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let done = run(&mut gdb, LIMIT);
    // A source that was edited since the build is no fault of the dump.
    let is_about_dump =
        |line: &&str| line.contains("warning") && !line.contains("Source file is more recent");
    let warning = done.stderr.lines().find(is_about_dump);
    assert_eq!(warning, None, "gdb warns: {}", done.stderr);
    let text = format!("{}{}", done.stdout, done.stderr);
    match text.split_once(MARK) {
        Some((_, after)) => after.to_owned(),
        None => panic!("gdb printed no backtrace:\n{text}"),
    }
}

/// Frames of the first backtrace in `text`, which ends where the numbers start again.
#[must_use]
pub fn frames(text: &str) -> Vec<Frame> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        if number.parse() != Ok(found.len()) {
            break;
        }
        found.push(frame(rest.trim()));
    }
    found
}

/// Parses `[0xPC in ]FUNCTION (ARGUMENTS)[ at FILE:LINE][  (a remark of ours)]`.
fn frame(text: &str) -> Frame {
    let is_address = |text: &str| text.starts_with("0x");
    let text = text
        .split_once(" in ")
        .filter(|(pc, _)| is_address(pc))
        .map_or(text, |(_, rest)| rest);
    let text = text
        .split_once("  (")
        .map_or(text, |(frame, _remark)| frame);
    let function = text.split_once(" (").map_or(text, |(function, _)| function);
    let place = text.rsplit_once(") at ").map_or("", |(_, place)| place);
    Frame {
        function: function.to_owned(),
        place: place.to_owned(),
    }
}

/// What has to be the same in both: the function's own name and its place.
///
/// gdb writes DWARF's names (`black_box<[u64; 32]>`, `<signal handler called>` where CFI says so), we the linker's
/// (`core::hint::black_box`, `<u64>::wrapping_add`); the last part without generic arguments is common to them.
#[must_use]
pub fn comparable(frames: &[Frame]) -> Vec<Frame> {
    let own_name = |function: &str| match function {
        // The entry of every exception, which has no line in either.
        "<signal handler called>" => "exception_entry".to_owned(),
        _ => without_generics(function)
            .rsplit("::")
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    frames
        .iter()
        .map(|frame| Frame {
            function: own_name(&frame.function),
            place: frame.place.clone(),
        })
        .collect()
}

fn without_generics(function: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::new();
    for letter in function.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(letter),
            _ => {}
        }
    }
    kept
}

/// Asserts that readelf reads headers and notes without a warning.
///
/// # Panics
/// It does not.
pub fn assert_readelf_accepts(vmcore: &Path) {
    let done = run(Command::new("readelf").arg("-lnW").arg(vmcore), LIMIT);
    let messages = done.stderr.clone();
    let text = done.success();
    assert_eq!(messages, "", "readelf warns");
    let complaint = text.lines().find(|line| {
        line.contains("Warning") || line.contains("Error") || line.contains("corrupt")
    });
    assert_eq!(complaint, None, "readelf complains");
    assert!(text.contains("Elf file type is CORE"), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(function: &str, place: &str) -> Frame {
        Frame {
            function: function.into(),
            place: place.into(),
        }
    }

    #[test]
    fn frames_of_gdb_are_read() {
        let text = "\n#0  a::b (x=...) at src/a.rs:30\n#1  0xffff800080008e40 in c::d () at src/c.rs:4\n#2  0x1 in ?? ()\n";
        assert_eq!(
            frames(text),
            [
                at("a::b", "src/a.rs:30"),
                at("c::d", "src/c.rs:4"),
                at("??", "")
            ]
        );
    }

    #[test]
    fn frames_of_ours_are_read_up_to_the_next_cpu() {
        let text = "CPU 2 (crashed):\n#0  0x1 in a::b () at a.rs:3  (by frame pointer)\n#1  c::d () at c.rs:4\nCPU 0:\n#0  0x2 in e ()\n";
        assert_eq!(frames(text), [at("a::b", "a.rs:3"), at("c::d", "c.rs:4")]);
    }

    #[test]
    fn comparable_names_lack_path_and_generic_arguments() {
        let both = [
            at("core::hint::black_box<[u64; 32]>", "h.rs:1"),
            at("<u64>::wrapping_add", ""),
        ];
        assert_eq!(
            comparable(&both),
            [at("black_box", "h.rs:1"), at("wrapping_add", "")]
        );
    }

    #[test]
    fn comparable_signal_frame_is_the_exception_entry() {
        assert_eq!(
            comparable(&[at("<signal handler called>", "")]),
            [at("exception_entry", "")]
        );
    }
}
