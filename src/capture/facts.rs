// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the crashed kernel's notes say, as far as they can be believed.
//!
//! The notes travel to the host as they were found; only what is used here is decoded. Whatever does not decode is
//! named once and then treated as absent.

use vmcore::afterimage_notes::{
    self as afterimage, BUILD_ID_MAX, CpuStop, Entries, Entry, Fallback, KernelInfo, Mapping,
    Reason, Region, RegionKind, list,
};
use vmcore::cursor::Reader;
use vmcore::notes::{AFTERIMAGE, CORE, Note, Notes, VMCOREINFO};
use vmcore::registers::{NT_PRSTATUS, PrStatus};
use vmcore::{Error, PhysRange};

use crate::text::Text;
use crate::{Line, pages};

/// The decoded notes of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    notes: &'a [u8],
    /// Whether any note is one of Afterimage's.
    pub(crate) is_afterimage: bool,
    /// Why the machine crashed; none for a kernel other than Afterimage's.
    pub(crate) reason: Option<Reason<'a>>,
    /// Which copy of the capture kernel was entered, and why.
    pub(crate) fallback: Option<Fallback>,
    /// The GNU build ID of the crashed kernel.
    pub(crate) build_id: Option<&'a [u8]>,
    /// Linux's VMCOREINFO.
    pub(crate) vmcoreinfo: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    /// Decodes `notes`, complaining about each that cannot be.
    pub(crate) fn decode(notes: &'a [u8], text: &mut Text<'_, impl Line>) -> Self {
        let mut facts = Self {
            notes,
            is_afterimage: false,
            reason: None,
            fallback: None,
            build_id: None,
            vmcoreinfo: None,
        };
        for note in Notes::new(notes) {
            if let Err(error) = facts.take(&note) {
                let name = note.name.get(..16).unwrap_or(note.name).escape_ascii();
                text.complain(format_args!(
                    "note {name} type {} not believed: {error}",
                    note.kind
                ));
            }
        }
        facts
    }

    fn take(&mut self, note: &Note<'a>) -> Result<(), Error> {
        self.is_afterimage |= note.name == AFTERIMAGE.as_bytes();
        if note.is(CORE, NT_PRSTATUS) {
            PrStatus::decode(note.desc)?;
        } else if note.is(AFTERIMAGE, afterimage::REASON) {
            self.reason = Some(Reason::decode(note.desc)?);
        } else if note.is(AFTERIMAGE, afterimage::FALLBACK) {
            self.fallback = Some(Fallback::decode(note.desc)?);
        } else if note.is(AFTERIMAGE, afterimage::BUILD_ID) {
            let value = note.desc.len() as u64;
            let is_plausible = (1..=BUILD_ID_MAX).contains(&note.desc.len());
            self.build_id = Some(
                is_plausible
                    .then_some(note.desc)
                    .ok_or(Error::BadValue { offset: 0, value })?,
            );
        } else if note.is(AFTERIMAGE, afterimage::STOP) {
            Entries::<CpuStop>::decode(note.desc)?;
        } else if note.is(AFTERIMAGE, afterimage::REGIONS) {
            Entries::<Region>::decode(note.desc)?;
        } else if note.name == VMCOREINFO.as_bytes() {
            self.vmcoreinfo = Some(note.desc);
        }
        Ok(())
    }

    /// Returns the registers of each CPU, in the order of the elfcorehdr.
    pub(crate) fn cpus(&self) -> impl Iterator<Item = PrStatus> + use<'a> {
        let notes = Notes::new(self.notes).filter(|note| note.is(CORE, NT_PRSTATUS));
        notes.filter_map(|note| PrStatus::decode(note.desc).ok())
    }

    /// Returns the CPU that crashed; where the kernel does not say which, the first one that ran a process.
    pub(crate) fn crashed_cpu(&self) -> Option<PrStatus> {
        match self.reason.and_then(|reason| reason.cpu.checked_add(1)) {
            Some(pid) => self.cpus().find(|cpu| cpu.pid == pid),
            None => self
                .cpus()
                .find(|cpu| cpu.pid != 0)
                .or_else(|| self.cpus().next()),
        }
    }

    /// Returns how each CPU was stopped.
    pub(crate) fn stops(&self) -> impl Iterator<Item = CpuStop> + use<'a> {
        self.entries(afterimage::STOP)
    }

    /// Returns what the kernel had mapped.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = Mapping> + Clone + use<'a> {
        self.entries(afterimage::MAPPINGS)
    }

    /// Returns the physical address of the kernel's translation table, and whether [`Facts::mappings`] are all that it holds; `None`
    /// where it is not known how to walk it.
    pub(crate) fn page_tables(&self) -> Option<(u64, bool)> {
        let mut kernels = self.lists(afterimage::KERNEL);
        let kernel = kernels.find_map(|desc| KernelInfo::decode(desc).ok())?;
        let mut lists = self.lists(afterimage::MAPPINGS);
        let list = lists.find_map(|desc| Entries::<Mapping>::decode(desc).ok())?;
        let is_all = list.argument() == 1;
        kernel.is_walkable().then_some((kernel.ttbr1, is_all))
    }

    /// Returns what lies where, of the lists that are whole.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> + use<'a> {
        self.entries(afterimage::REGIONS)
    }

    /// Returns the ranges that must not travel: also those of a damaged list, because keeping back too much is the
    /// smaller harm.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = PhysRange> + use<'a> {
        let damaged = self
            .lists(afterimage::REGIONS)
            .filter(|desc| Entries::<Region>::decode(desc).is_err())
            .flat_map(|desc| {
                desc.get(list::HEADER_LEN..)
                    .unwrap_or_default()
                    .chunks_exact(Region::LEN)
            })
            .filter_map(|entry| Region::take(&mut Reader::new(entry)).ok());
        let all = self.regions().chain(damaged);
        all.filter(|region| region.kind == RegionKind::Secret)
            .map(|region| pages::clamped(region.pa, region.len))
    }

    fn entries<E: Entry + Clone + 'a>(
        &self,
        kind: u32,
    ) -> impl Iterator<Item = E> + Clone + use<'a, E> {
        self.lists(kind)
            .filter_map(|desc| Entries::decode(desc).ok())
            .flatten()
    }

    fn lists(&self, kind: u32) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        Notes::new(self.notes)
            .filter(move |note| note.is(AFTERIMAGE, kind))
            .map(|note| note.desc)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;
    use vmcore::afterimage_notes::{ListWriter, name_field};
    use vmcore::notes::NoteWriter;

    fn region(kind: RegionKind, pa: u64, len: u64) -> Region {
        Region {
            kind,
            argument: 0,
            pa,
            len,
            va: 0,
            name: name_field("test"),
        }
    }

    fn regions_note(regions: &[Region]) -> Vec<u8> {
        let mut out = std::vec![0; 4096];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        regions.iter().for_each(|region| list.push(region).unwrap());
        let len = list.finish().unwrap();
        out.truncate(len);
        out
    }

    fn notes_of(list: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut out = std::vec![0; 16384];
        let mut writer = NoteWriter::new(&mut out).unwrap();
        list.iter()
            .for_each(|(name, kind, desc)| writer.note(name, *kind, desc).unwrap());
        out
    }

    fn decoded(notes: &[u8]) -> (Facts<'_>, String) {
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, 4096);
        let facts = Facts::decode(notes, &mut text);
        text.finish().unwrap();
        (facts, String::from_utf8(line).unwrap())
    }

    #[test]
    fn notes_none_give_no_facts() {
        let (facts, text) = decoded(&[]);
        assert!(
            facts.reason.is_none()
                && facts.crashed_cpu().is_none()
                && facts.regions().next().is_none()
        );
        assert!(text.is_empty());
    }

    #[test]
    fn prstatus_of_wrong_size_is_named_and_dropped() {
        let notes = notes_of(&[(CORE, NT_PRSTATUS, &[0; 391])]);
        let (facts, text) = decoded(&notes);
        assert_eq!(facts.cpus().count(), 0);
        assert!(
            text.contains("note CORE type 1 not believed: bad value 0x187"),
            "{text}"
        );
    }

    #[test]
    fn regions_list_damaged_gives_only_its_secrets() {
        let mut list = regions_note(&[
            region(RegionKind::Secret, 0x1000, 0x10),
            region(RegionKind::Stack, 0x2000, 8),
        ]);
        list[8] ^= 1;
        let notes = notes_of(&[(AFTERIMAGE, afterimage::REGIONS, &list)]);
        let (facts, text) = decoded(&notes);
        assert_eq!(facts.regions().count(), 0);
        assert_eq!(
            facts.secrets().collect::<Vec<_>>(),
            [PhysRange {
                start: 0x1000,
                end: 0x1010
            }]
        );
        assert!(text.contains("not believed: checksum"), "{text}");
    }

    #[test]
    fn build_id_of_absurd_length_is_named_and_dropped() {
        let notes = notes_of(&[(AFTERIMAGE, afterimage::BUILD_ID, &[1; 200])]);
        let (facts, text) = decoded(&notes);
        assert_eq!(facts.build_id, None);
        assert!(text.contains("0xc8"), "{text}");
    }

    #[test]
    fn crashed_cpu_of_linux_is_the_first_that_ran_a_process() {
        let prstatus = |pid| {
            let mut out = [0; 392];
            PrStatus {
                pid,
                ..PrStatus::default()
            }
            .encode(&mut out)
            .unwrap();
            out
        };
        let (idle, running) = (prstatus(0), prstatus(731));
        let notes = notes_of(&[(CORE, NT_PRSTATUS, &idle), (CORE, NT_PRSTATUS, &running)]);
        assert_eq!(
            decoded(&notes).0.crashed_cpu().map(|cpu| cpu.pid),
            Some(731)
        );
    }
}
