// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the built files are.
//!
//! `AFTERIMAGE_IMAGES` names the folder that holds a folder per board, `AFTERIMAGE_BIN` the host command; without them they
//! are looked for where `scripts/build` leaves them.

use std::path::{Path, PathBuf};

/// The board that these tests run.
const BOARD: &str = "qemu-virt";

/// Returns the path of `name` (for instance `kernel.Image`) among the board's images.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn image(name: &str) -> PathBuf {
    image_of(BOARD, name)
}

/// Returns the path of `name` among another board's images.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn image_of(board: &str, name: &str) -> PathBuf {
    let images = std::env::var_os("AFTERIMAGE_IMAGES")
        .map_or_else(|| target_dir().join("images"), PathBuf::from);
    let build = format!("scripts/build {board}");
    built(&[images.join(board).join(name)], &build)
}

/// Returns the path of a board's device tree, of Debian's kernel package.
///
/// # Panics
/// It has not been fetched.
#[must_use]
pub fn board_tree(name: &str) -> PathBuf {
    let path = target_dir().join("device-trees").join(name);
    built(&[path], "scripts/test (ensure_board_trees)")
}

/// Returns the path of the host command.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn host_command() -> PathBuf {
    let candidates = match std::env::var_os("AFTERIMAGE_BIN") {
        Some(path) => vec![PathBuf::from(path)],
        None => ["release", "debug"]
            .map(|profile| target_dir().join(profile).join("afterimage"))
            .to_vec(),
    };
    built(&candidates, "scripts/build host")
}

/// The Python that has drgn, which `scripts/test` installs.
#[must_use]
pub fn drgn_python() -> PathBuf {
    root().join("target/tools/venv/bin/python")
}

/// The root of the source tree.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

fn target_dir() -> PathBuf {
    root().join("target")
}

fn built(candidates: &[PathBuf], how: &str) -> PathBuf {
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => path.clone(),
        None => panic!("not built: {candidates:?}; run {how} first"),
    }
}
