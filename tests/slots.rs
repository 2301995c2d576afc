// SPDX-License-Identifier: MIT OR Apache-2.0
//! At most two QEMUs at once, over all test threads and processes of this machine.

use std::fs::File;
use std::time::Duration;

use crate::wait::Deadline;

/// QEMUs that may run side by side: the tests are sized for two cores.
const SLOTS: usize = 2;
/// Longest wait for a free place. Whoever holds one is itself bounded.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The right to run one QEMU, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot(#[expect(dead_code, reason = "held for the lock that it owns")] File);

/// Waits for the right to run a QEMU.
pub(crate) fn take() -> Slot {
    let files: Vec<File> = (0..SLOTS)
        .map(|number| {
            let path = std::env::temp_dir().join(format!("afterimage-blackbox-{number}.lock"));
            match File::options().create(true).append(true).open(&path) {
                Ok(file) => file,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        })
        .collect();
    let taken =
        Deadline::after(PATIENCE).poll(|| files.iter().position(|file| file.try_lock().is_ok()));
    match taken.and_then(|index| files.into_iter().nth(index)) {
        Some(file) => Slot(file),
        None => panic!("no place for a QEMU became free in {PATIENCE:?}"),
    }
}
