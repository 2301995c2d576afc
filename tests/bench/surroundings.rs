// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where and on what something was measured.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use blackbox::artefacts;
use blackbox::process::run;

const LIMIT: Duration = Duration::from_secs(20);

/// The machine, the programs and the tree.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) load: String,
    pub(crate) qemu: String,
    pub(crate) date: String,
    pub(crate) commit: String,
    /// Of `kernel.Image` and `capture.Image`.
    pub(crate) images: [ImageSize; 2],
}

/// Sizes of an arm64 Image.
#[derive(Debug)]
pub(crate) struct ImageSize {
    pub(crate) name: &'static str,
    /// Bytes of the file.
    pub(crate) file: u64,
    /// Bytes of memory that it asks for in its header.
    pub(crate) memory: u64,
}

/// Looks around.
///
/// # Panics
/// QEMU, git or the Images are not there.
pub(crate) fn look() -> Surroundings {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let qemu = first_line(Command::new("qemu-system-aarch64").arg("--version"));
    let mut git = Command::new("git");
    git.current_dir(artefacts::root()).args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    Surroundings {
        cpu: model.map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, name)| name.to_owned(),
        ),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load: load.split(' ').next().unwrap_or("unknown").to_owned(),
        qemu: qemu.trim_start_matches("QEMU emulator version ").to_owned(),
        date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d"])),
        commit: first_line(&mut git),
        images: ["kernel.Image", "capture.Image"].map(image_size),
    }
}

fn first_line(command: &mut Command) -> String {
    let text = run(command, LIMIT).success();
    text.lines().next().unwrap_or("").trim().to_owned()
}

/// Reads image_size, at byte 16 of the header (booting.rst).
fn image_size(name: &'static str) -> ImageSize {
    let path: PathBuf = artefacts::image(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let memory = crate::line::word(&bytes, 16).expect("an Image longer than its header");
    ImageSize {
        name,
        file: bytes.len() as u64,
        memory,
    }
}
