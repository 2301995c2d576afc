// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU time of QEMU over its run, which a busy machine stretches less than time itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ticks of /proc/PID/stat in a second (proc(5): USER_HZ, 100 on every Linux of today).
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of /proc/PID/stat behind the command's name: utime and stime (proc(5), fields 14 and 15).
const USER: usize = 11;
const SYSTEM: usize = 12;
const PERIOD: Duration = Duration::from_millis(20);

/// A reading: seconds that QEMU has computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuSeconds {
    /// In QEMU itself.
    pub(crate) user: f64,
    /// In the host's kernel.
    pub(crate) system: f64,
}

impl CpuSeconds {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

/// Reads the clock of the process that a pidfile names until it is asked for what it read.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    readings: JoinHandle<Vec<(Duration, CpuSeconds)>>,
    is_over: Arc<AtomicBool>,
}

impl CpuMeter {
    /// Starts to read; the process may start later.
    pub(crate) fn start(pidfile: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let readings = std::thread::spawn(move || {
            let started = Instant::now();
            let mut readings = Vec::new();
            while !theirs.load(Ordering::Relaxed) {
                if let Some(reading) = read(&pidfile) {
                    readings.push((started.elapsed(), reading));
                }
                std::thread::sleep(PERIOD);
            }
            readings
        });
        Self { readings, is_over }
    }

    /// Ends and returns the readings, each with its time since the start.
    ///
    /// # Panics
    /// There is none.
    pub(crate) fn finish(self) -> Readings {
        self.is_over.store(true, Ordering::Relaxed);
        let readings = self.readings.join().expect("readings of the CPU time");
        assert!(!readings.is_empty(), "QEMU wrote no pidfile");
        Readings(readings)
    }
}

/// What a meter read.
#[derive(Debug)]
pub(crate) struct Readings(Vec<(Duration, CpuSeconds)>);

impl Readings {
    /// The last reading at or before `time`.
    pub(crate) fn at(&self, time: Duration) -> CpuSeconds {
        let before = self.0.iter().rev().find(|(at, _)| *at <= time);
        before.map_or_else(CpuSeconds::default, |(_, reading)| *reading)
    }

    /// The last reading.
    pub(crate) fn last(&self) -> CpuSeconds {
        self.at(Duration::MAX)
    }
}

fn read(pidfile: &Path) -> Option<CpuSeconds> {
    let pid: u32 = fs::read_to_string(pidfile).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, even parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(CpuSeconds {
        user: seconds(USER)?,
        system: seconds(SYSTEM)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_a_cpu_time() {
        let dir = tempfile::tempdir().unwrap();
        let pidfile = dir.path().join("pid");
        fs::write(&pidfile, format!("{}\n", std::process::id())).unwrap();
        assert!(read(&pidfile).is_some_and(|time| time.user >= 0.0));
    }

    #[test]
    fn missing_pidfile_has_no_reading() {
        assert!(read(Path::new("/nonexistent/pid")).is_none());
    }
}
