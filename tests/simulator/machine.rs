// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that crashed: its RAM and the header that the crash path left.
//!
//! What a kernel of ours leaves behind (notes, stacks, log, page-state map) lies where a test can name it; the heap is drawn.

use vmcore::afterimage_notes::{
    self as afterimage, CrashKind, ListWriter, NAME_LEN, Reason, Region, RegionKind, name_field,
};
use vmcore::elf_core::CoreHeaderWriter;
use vmcore::notes::{AFTERIMAGE, CORE, NoteWriter};
use vmcore::page_state::{PageStateMut, map_len};
use vmcore::registers::{NT_PRSTATUS, PrStatus};
use vmcore::{PAGE_SIZE, PhysRange, Registers};

use crate::contents::{Contents, PAGE};
use crate::ram::Ram;
use crate::rng::Rng;

/// Where RAM begins.
pub const BASE: u64 = 0x4000_0000;
const LINEAR: u64 = 0xffff_0000_0000_0000;
const LINK: u64 = 0xffff_8000_8000_0000;

/// CPUs of the machine; the second one crashed.
pub const CPUS: u64 = 4;
/// Number of the PT_NOTE of the CPU that crashed.
pub const CRASHED_NOTE: u32 = 1;

// Page numbers from the start of RAM.
const NOTES: u64 = 4;
const CODE: Pages = Pages(16, 112);
const DATA: Pages = Pages(112, 128);
const STACKS: Pages = Pages(128, 144);
const STACK_PAGES: u64 = 4;
const LOG: Pages = Pages(144, 152);
const TABLES: Pages = Pages(152, 160);
const MAP: u64 = 160;
/// Bytes of a stack that are in use.
const STACK_USED: u64 = 1264;

/// What a machine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of RAM, the crash region included.
    pub ram_bytes: u64,
    /// Bytes at its end that are the capture kernel's.
    pub own_bytes: u64,
    /// Pages of the heap that are in use.
    pub used_pages: u64,
    /// Whether the kernel says which pages are free; else they are zeros.
    pub has_page_states: bool,
    /// What its RAM is drawn from.
    pub seed: u64,
}

impl Spec {
    /// A small machine: `pages` pages of heap in use, as many again free.
    #[must_use]
    pub const fn small(pages: u64, seed: u64) -> Self {
        let own_bytes = 64 * PAGE_SIZE;
        Self {
            ram_bytes: (MAP + 8 + 2 * pages) * PAGE_SIZE + own_bytes,
            own_bytes,
            used_pages: pages,
            has_page_states: true,
            seed,
        }
    }
}

/// A crashed machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its memory.
    pub ram: Ram,
    /// The elfcorehdr.
    pub header: Vec<u8>,
    /// What is not dumped.
    pub own: PhysRange,
    /// What the kernel says is free.
    pub free: Vec<PhysRange>,
    /// From the crashed CPU's stack pointer to the end of its stack; empty when that is not known.
    pub stack: PhysRange,
}

/// Pages from the first to before the second.
#[derive(Clone, Copy)]
struct Pages(u64, u64);

impl Pages {
    const fn range(self) -> PhysRange {
        PhysRange {
            start: address(self.0),
            end: address(self.1),
        }
    }

    fn region(self, kind: RegionKind, name: &'static str) -> Region {
        region(kind, 0, self.range(), name_field(name))
    }
}

const fn address(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

const fn region(kind: RegionKind, argument: u32, range: PhysRange, name: [u8; NAME_LEN]) -> Region {
    Region {
        kind,
        argument,
        pa: range.start,
        len: range.end - range.start,
        va: LINEAR + range.start,
        name,
    }
}

const fn stack(cpu: u64) -> Pages {
    let first = STACKS.0 + cpu * STACK_PAGES;
    Pages(first, first + STACK_PAGES)
}

impl Machine {
    /// Builds the machine.
    ///
    /// # Panics
    /// The RAM is too small for what is in use.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let end = BASE + spec.ram_bytes;
        let own = PhysRange {
            start: end - spec.own_bytes,
            end,
        };
        let mut machine = Self {
            ram: Ram::new(PhysRange { start: BASE, end }),
            header: Vec::new(),
            own,
            free: Vec::new(),
            stack: PhysRange {
                start: sp(u64::from(CRASHED_NOTE)),
                end: stack(u64::from(CRASHED_NOTE)).range().end,
            },
        };
        let mut rng = Rng::new(spec.seed, 1);
        for (pages, contents) in [
            (CODE, Contents::Code),
            (DATA, Contents::Structures),
            (LOG, Contents::Text),
            (TABLES, Contents::Structures),
        ] {
            (pages.0..pages.1).for_each(|page| machine.draw(page, contents, &mut rng));
        }
        machine.leave_stacks(&mut rng);
        let mut regions = vec![
            LOG.region(RegionKind::LogRing, "log"),
            TABLES.region(RegionKind::PageTables, "tables"),
            DATA.region(RegionKind::KernelData, "data"),
        ];
        for cpu in 0..CPUS {
            let name = name_field("boot");
            regions.push(region(
                RegionKind::Stack,
                cpu as u32,
                stack(cpu).range(),
                name,
            ));
        }
        let heap = machine.leave_heap(spec, &mut rng, &mut regions);
        machine.free.extend(heap);
        machine.leave_notes(&regions);
        machine.leave_header();
        machine
    }

    /// Makes a machine of an image of RAM, with one CPU whose registers say nothing; nothing of it is known to be free.
    #[must_use]
    pub fn of_ram(ram: Ram, own: PhysRange) -> Self {
        let mut machine = Self {
            ram,
            header: Vec::new(),
            own,
            free: Vec::new(),
            stack: PhysRange { start: 0, end: 0 },
        };
        // The notes lie in the region itself, which is not dumped.
        let status = PrStatus::default();
        let mut note = [0; PAGE];
        let mut writer = NoteWriter::new(&mut note).expect("room for notes");
        writer
            .note_with(CORE, NT_PRSTATUS, |out| status.encode(out))
            .expect("room for registers");
        machine.ram.write(own.start, &note);
        let range = machine.ram.range();
        machine.header = header(&[own.start], &[(LINEAR + range.start, range)]);
        machine
    }

    /// Returns the RAM that is to be dumped.
    #[must_use]
    pub const fn dumped(&self) -> PhysRange {
        PhysRange {
            start: self.ram.range().start,
            end: self.own.start,
        }
    }

    fn draw(&mut self, page: u64, contents: Contents, rng: &mut Rng) {
        let mut bytes = [0; PAGE];
        contents.fill(LINEAR + address(page), rng, &mut bytes);
        self.ram.write(address(page), &bytes);
    }

    /// Frames on each stack, and below them what older calls left.
    fn leave_stacks(&mut self, rng: &mut Rng) {
        for cpu in 0..CPUS {
            let top = stack(cpu).range().end;
            let mut frame = sp(cpu);
            while frame + 96 < top {
                let next = frame + 48 + 16 * rng.below(4);
                let record = [LINEAR + next, LINK + rng.below(1 << 19) * 4];
                let locals = [rng.below(64), 0, LINEAR + frame, rng.below(1 << 32)];
                let words = record.iter().chain(&locals);
                let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
                self.ram.write(frame, &bytes);
                frame = next;
            }
            let old: Vec<u8> = (0..64)
                .flat_map(|_| (LINK + rng.below(1 << 12) * 4).to_le_bytes())
                .collect();
            self.ram.write(sp(cpu) - 700, &old);
        }
    }

    /// Pages in use, some of them like others, some zeros, and free ones behind them; returns what is free.
    fn leave_heap(
        &mut self,
        spec: &Spec,
        rng: &mut Rng,
        regions: &mut Vec<Region>,
    ) -> Option<PhysRange> {
        let heap_pages = (self.own.start - address(MAP)) / PAGE_SIZE;
        let len = map_len(heap_pages).expect("a map that can be addressed");
        let map_pages = len.div_ceil(PAGE_SIZE);
        let first = MAP + map_pages;
        let end = first + spec.used_pages;
        assert!(address(end) <= self.own.start, "RAM too small: {spec:?}");
        for page in first..end {
            match rng.below(10) {
                0..2 => {}
                2 if page > first => {
                    let other = rng.between(first, page);
                    if let Some(bytes) = self.ram.page(address(other)).copied() {
                        self.ram.write(address(page), &bytes);
                    }
                }
                _ => {
                    let contents = Contents::draw(rng);
                    self.draw(page, contents, rng);
                }
            }
        }
        if !spec.has_page_states {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).expect("a map that fits memory")];
        let mut map = PageStateMut::init(&mut bytes, address(MAP) / PAGE_SIZE, heap_pages)
            .expect("a map of its own length");
        map.allocated(address(MAP) / PAGE_SIZE, end - MAP)
            .expect("pages of the map");
        self.ram.write(address(MAP), &bytes);
        let map = Pages(MAP, MAP + map_pages);
        regions.push(map.region(RegionKind::PageState, "heap"));
        // What older owners left in a free page is not sent.
        (end..end + 8)
            .map(address)
            .filter(|&pa| pa < self.own.start)
            .for_each(|pa| self.ram.write(pa, &[0x5a; PAGE]));
        Some(PhysRange {
            start: address(end),
            end: self.own.start,
        })
    }

    fn leave_notes(&mut self, regions: &[Region]) {
        for cpu in 0..CPUS {
            let mut registers = Registers {
                pc: LINK + 0x4_0000 + cpu * 0x124,
                sp: LINEAR + sp(cpu),
                ..Registers::default()
            };
            registers.x[29] = registers.sp;
            registers.x[30] = LINK + 0x1234;
            let status = PrStatus {
                pid: cpu as u32 + 1,
                signal: 0,
                registers,
            };
            let mut bytes = [0; PAGE];
            let mut writer = NoteWriter::new(&mut bytes).expect("room for notes");
            writer
                .note_with(CORE, NT_PRSTATUS, |out| status.encode(out))
                .expect("room for registers");
            self.ram.write(address(NOTES + cpu), &bytes);
        }
        let reason = Reason {
            kind: CrashKind::Panic,
            cpu: CRASHED_NOTE,
            pc: LINK + 0x4_0124,
            esr: 0,
            far: 0,
            counter: 7,
            counter_hz: 1_000_000_000,
            text: "a simulated panic",
        };
        let mut bytes = [0; PAGE];
        let mut writer = NoteWriter::new(&mut bytes).expect("room for notes");
        let list = |out: &mut [u8]| {
            let mut list = ListWriter::new(out, 0)?;
            regions.iter().try_for_each(|region| list.push(region))?;
            list.finish()
        };
        writer
            .note_with(AFTERIMAGE, afterimage::REASON, |out| reason.encode(out))
            .and_then(|()| writer.note(AFTERIMAGE, afterimage::BUILD_ID, &[0xab; 20]))
            .and_then(|()| writer.note_with(AFTERIMAGE, afterimage::REGIONS, list))
            .expect("room for what the kernel says");
        self.ram.write(address(NOTES + CPUS), &bytes);
    }

    fn leave_header(&mut self) {
        let notes: Vec<u64> = (0..=CPUS).map(|cpu| address(NOTES + cpu)).collect();
        let loads = [(LINK, CODE.range()), (LINEAR + BASE, self.dumped())];
        self.header = header(&notes, &loads);
    }
}

/// Returns a CPU's stack pointer, as a physical address.
const fn sp(cpu: u64) -> u64 {
    address(STACKS.0 + (cpu + 1) * STACK_PAGES) - STACK_USED
}

/// Returns an elfcorehdr of notes in a page each, and of mappings.
fn header(notes: &[u64], loads: &[(u64, PhysRange)]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let mut writer = CoreHeaderWriter::new(&mut bytes);
    for &note in notes {
        writer.note(note, PAGE_SIZE).expect("room for a header");
    }
    for (vaddr, range) in loads {
        writer
            .load(*vaddr, range.start, range.len())
            .expect("room for a header");
    }
    let len = writer.finish().expect("room for a header");
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::PhysMemory as _;
    use vmcore::elf_core::CoreHeader;
    use vmcore::page_state::PageStateReader;

    #[test]
    fn header_names_what_lies_there() {
        let mut machine = Machine::new(&Spec::small(40, 1));
        let header = CoreHeader::parse(&machine.header).unwrap();
        assert_eq!(header.notes().count() as u64, CPUS + 1);
        assert_eq!(header.loads().last().unwrap().len, machine.dumped().len());
        assert_eq!(machine.ram.is_zero_page(machine.stack.start), Ok(false));
    }

    #[test]
    fn page_state_map_says_what_is_free() {
        let mut machine = Machine::new(&Spec::small(40, 1));
        let [free] = machine.free[..] else {
            panic!("one range");
        };
        let map_at = address(MAP);
        let mut map = PageStateReader::open(&mut machine.ram, map_at, PAGE_SIZE).unwrap();
        assert!(map.is_free(&mut machine.ram, free.start / PAGE_SIZE));
        assert!(!map.is_free(&mut machine.ram, free.start / PAGE_SIZE - 1));
        assert_eq!(map.failed_parts(), 0);
    }

    #[test]
    fn machine_of_a_seed_is_always_the_same() {
        let bytes = |seed| {
            let mut page = [0; 4096];
            let mut machine = Machine::new(&Spec::small(40, seed));
            machine.ram.read(address(20), &mut page).unwrap();
            page
        };
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
    }
}
