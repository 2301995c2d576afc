// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the notes of a dump say, decoded.
//!
//! A note that cannot be decoded is named in `unreadable_notes` and otherwise treated as absent.

use vmcore::afterimage_notes::{
    BUILD_ID, CpuStop, Entries, Entry, FALLBACK, FOREIGN, Fallback, FallbackLevel, GAPS, GIC, Gap,
    GicRegister, KERNEL, KernelInfo, MAPPINGS, MOVED, Mapping, MovedRange, REASON, REGIONS, Reason,
    Region, STOP, SYSREGS, SysReg, TAINT, THREADS, TIMINGS, Taint, Thread, Timing, cpu_of,
    granules_of,
};
use vmcore::linux::Vmcoreinfo;
use vmcore::notes::{AFTERIMAGE, CORE, Notes, VMCOREINFO};
use vmcore::registers::{FpRegisters, NT_FPREGSET, NT_PRSTATUS, PrStatus};

use crate::moved::Moved;

/// pr_pid of the program's thread 0; the host's own numbering.
pub const FIRST_THREAD_PID: u32 = 1001;

/// The decoded notes.
#[derive(Debug, Default)]
pub struct Contents<'a> {
    /// Registers in file order: CPUs, then threads.
    pub statuses: Vec<PrStatus>,
    /// Floating-point registers, by the pid that they are of.
    pub fp: Vec<(u32, FpRegisters)>,
    /// Why it crashed.
    pub reason: Option<Reason<'a>>,
    /// What made its state doubtful before; `None` when the dump does not say.
    pub taint: Option<Taint>,
    /// GNU build ID of the crashed kernel.
    pub build_id: Option<&'a [u8]>,
    /// How far down the crash path's chain of fallbacks the dump comes from.
    pub fallback: Option<Fallback>,
    /// How each CPU was stopped.
    pub stops: Vec<CpuStop>,
    /// What is missing; `None` when the file does not say.
    pub gaps: Option<Vec<Gap>>,
    /// Whether the sender's summary agreed with what arrived; true of a file that was not received by us.
    pub is_vouched_for: bool,
    /// The program's threads.
    pub threads: Vec<Thread>,
    /// What lies where.
    pub regions: Vec<Region>,
    /// Memory that was not read, because others than the CPUs use it.
    pub foreign: Vec<Region>,
    /// Where the kernel is.
    pub kernel: Option<KernelInfo>,
    /// What it had mapped, and whether that is all; `None` when the dump does not say.
    pub mappings: Option<(bool, Vec<Mapping>)>,
    /// Phases of the crash path.
    pub timings: Vec<Timing>,
    /// Rate of the counter that they are in, in Hz.
    pub counter_hz: u64,
    /// System registers: (CPU, exception level, values).
    pub sysregs: Vec<(u32, u32, Vec<SysReg>)>,
    /// The interrupt controller's version, and its registers before it was quieted.
    pub gic: Option<(u64, Vec<GicRegister>)>,
    /// Memory that changed while it was dumped; `None` when the file does not say.
    pub moved: Option<Moved>,
    /// The note of a Linux kernel.
    pub vmcoreinfo: Option<Vmcoreinfo<'a>>,
    /// Notes that could not be decoded, and why.
    pub unreadable_notes: Vec<String>,
}

impl<'a> Contents<'a> {
    /// Decodes the notes in `bytes`.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut contents = Self {
            is_vouched_for: true,
            ..Self::default()
        };
        for note in Notes::new(bytes) {
            let result = if note.is(CORE, NT_PRSTATUS) {
                PrStatus::decode(note.desc).map(|status| contents.statuses.push(status))
            } else if note.is(CORE, NT_FPREGSET) {
                // It stands behind the registers of its CPU.
                let pid = contents.statuses.last().map_or(0, |status| status.pid);
                FpRegisters::decode(note.desc).map(|fp| contents.fp.push((pid, fp)))
            } else if note.name == AFTERIMAGE.as_bytes() {
                contents.add_own(note.kind, note.desc)
            } else {
                if note.name == VMCOREINFO.as_bytes() {
                    contents.vmcoreinfo = Some(Vmcoreinfo::new(note.desc));
                }
                Ok(())
            };
            if let Err(error) = result {
                let name = String::from_utf8_lossy(note.name);
                contents
                    .unreadable_notes
                    .push(format!("{name} type {:#x}: {error}", note.kind));
            }
        }
        contents
    }

    fn add_own(&mut self, kind: u32, desc: &'a [u8]) -> Result<(), vmcore::Error> {
        match kind {
            REASON => self.reason = Some(Reason::decode(desc)?),
            TAINT => self.taint = Some(Taint::decode(desc)?),
            BUILD_ID => self.build_id = Some(desc),
            FALLBACK => self.fallback = Some(Fallback::decode(desc)?),
            STOP => self.stops = list(desc)?,
            GAPS => {
                let entries = Entries::decode(desc)?;
                self.is_vouched_for = entries.argument() == 0;
                self.gaps = Some(entries.collect());
            }
            THREADS => self.threads = list(desc)?,
            REGIONS => self.regions = list(desc)?,
            FOREIGN => self.foreign = list(desc)?,
            KERNEL => self.kernel = Some(KernelInfo::decode(desc)?),
            TIMINGS => {
                let entries = Entries::<Timing>::decode(desc)?;
                self.counter_hz = entries.argument();
                self.timings.extend(entries);
            }
            MAPPINGS => {
                let entries = Entries::<Mapping>::decode(desc)?;
                self.mappings = Some((entries.argument() == 1, entries.collect()));
            }
            GIC => {
                let entries = Entries::<GicRegister>::decode(desc)?;
                self.gic = Some((entries.argument(), entries.collect()));
            }
            MOVED => {
                let entries = Entries::<MovedRange>::decode(desc)?;
                let (pages, granules) = granules_of(&entries);
                let ranges = entries.map(|entry| entry.0).collect();
                self.moved = Some(Moved::new(pages, granules, ranges));
            }
            SYSREGS => {
                let entries = Entries::decode(desc)?;
                let (cpu, level) = cpu_of(&entries);
                self.sysregs.push((cpu, level, entries.collect()));
            }
            // Types of later versions are carried, not read.
            _ => {}
        }
        Ok(())
    }

    /// Returns whether the crashed kernel was Afterimage's own.
    #[must_use]
    pub const fn is_afterimage(&self) -> bool {
        self.reason.is_some() || self.kernel.is_some()
    }

    /// Returns the VMCOREINFO of a crashed Linux; nothing of an Afterimage kernel, whatever notes there are.
    #[must_use]
    pub const fn linux(&self) -> Option<&Vmcoreinfo<'a>> {
        if self.is_afterimage() {
            return None;
        }
        self.vmcoreinfo.as_ref()
    }

    /// Returns the GNU build ID of the crashed kernel, Afterimage's own or a Linux that tells it (since 5.10).
    #[must_use]
    pub fn kernel_build_id(&self) -> Option<Vec<u8>> {
        let in_note = self.build_id.map(<[u8]>::to_vec);
        in_note.or_else(|| unhex(self.linux()?.text("BUILD-ID").ok()?))
    }

    /// Returns whether the crashed kernel itself sent what it could.
    #[must_use]
    pub fn is_minimal(&self) -> bool {
        self.fallback
            .is_some_and(|fallback| fallback.level == FallbackLevel::Minimal)
    }

    /// Returns the CPUs, number and registers: the one that crashed first, wherever the file has it (a Linux that captured keeps them in
    /// the order of their numbers).
    #[must_use]
    pub fn cpus(&self) -> Vec<(u32, PrStatus)> {
        if self.is_afterimage() {
            let cpus = self.statuses.iter().filter(|s| s.pid < FIRST_THREAD_PID);
            let mut cpus: Vec<_> = cpus.map(|s| (s.pid.saturating_sub(1), *s)).collect();
            cpus.sort_by_key(|(cpu, _)| self.reason.is_none_or(|reason| reason.cpu != *cpu));
            return cpus;
        }
        // Linux's notes come in CPU order, and pr_pid is a process.
        (0..).zip(self.statuses.iter().copied()).collect()
    }

    /// Returns the word for how `cpu` was stopped.
    #[must_use]
    pub fn stop_name(&self, cpu: u32) -> Option<&'static str> {
        self.stops
            .iter()
            .find(|stop| stop.cpu == cpu)
            .map(|stop| stop.status.name())
    }
}

/// Returns the bytes that two hexadecimal digits each stand for; nothing for other text, or none.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
    let (pairs, _) = digits.as_chunks::<2>();
    // Two digits fit a byte.
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).ok();
    pairs.iter().map(byte).collect()
}

fn list<E: Entry>(desc: &[u8]) -> Result<Vec<E>, vmcore::Error> {
    Ok(Entries::decode(desc)?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note_bytes::NoteBytes;
    use vmcore::afterimage_notes::CrashKind;

    fn status(pid: u32) -> Vec<u8> {
        let mut out = vec![0; 392];
        let status = PrStatus {
            pid,
            ..PrStatus::default()
        };
        status.encode(&mut out).expect("fits");
        out
    }

    #[test]
    fn linux_cpus_are_numbered_by_order() {
        let mut notes = NoteBytes::default();
        notes.add(b"CORE", NT_PRSTATUS, &status(0));
        notes.add(b"CORE", NT_PRSTATUS, &status(412));
        let contents = Contents::of(notes.as_bytes());
        let numbers: Vec<u32> = contents.cpus().iter().map(|(cpu, _)| *cpu).collect();
        assert_eq!(numbers, [0, 1]);
    }

    #[test]
    fn crashed_cpu_is_first_wherever_it_stands() {
        let mut notes = NoteBytes::default();
        for pid in 1..4 {
            notes.add(b"CORE", NT_PRSTATUS, &status(pid));
        }
        let mut desc = [0; 128];
        let reason = Reason {
            kind: CrashKind::Panic,
            cpu: 1,
            pc: 0,
            esr: 0,
            far: 0,
            counter: 0,
            counter_hz: 0,
            text: "",
        };
        let len = reason.encode(&mut desc).expect("fits");
        notes.add(b"AFTERIMAGE", REASON, &desc[..len]);
        let contents = Contents::of(notes.as_bytes());
        let numbers: Vec<u32> = contents.cpus().iter().map(|(cpu, _)| *cpu).collect();
        assert_eq!(numbers, [1, 0, 2]);
    }

    #[test]
    fn broken_note_is_named_and_the_rest_is_read() {
        let mut notes = NoteBytes::default();
        notes.add(b"AFTERIMAGE", STOP, &[1, 2, 3]);
        notes.add(b"AFTERIMAGE", BUILD_ID, &[9, 9]);
        let contents = Contents::of(notes.as_bytes());
        assert_eq!(contents.build_id, Some(&[9, 9][..]));
        assert_eq!(contents.unreadable_notes.len(), 1);
        assert!(contents.unreadable_notes[0].starts_with("AFTERIMAGE type 0x41460004"));
    }

    #[test]
    fn build_id_of_a_linux_is_that_of_vmcoreinfo() {
        let id = |text: &[u8]| {
            let mut notes = NoteBytes::default();
            notes.add(b"VMCOREINFO", 0, text);
            Contents::of(notes.as_bytes()).kernel_build_id()
        };
        assert_eq!(id(b"A=1\nBUILD-ID=00fF\n"), Some(vec![0, 0xff]));
        for odd in ["BUILD-ID=0", "BUILD-ID=", "BUILD-ID=0x00", "OSRELEASE=6"] {
            assert_eq!(id(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn no_notes_are_no_cpus() {
        assert!(Contents::of(&[]).cpus().is_empty());
    }
}
