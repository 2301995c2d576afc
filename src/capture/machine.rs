// SPDX-License-Identifier: MIT OR Apache-2.0
//! A synthetic machine that crashed, and what a host makes of its dump.
extern crate std;

use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use vmcore::afterimage_notes::{
    self as afterimage, CrashKind, ListWriter, Reason, Region, RegionKind, name_field,
};
use vmcore::elf_core::CoreHeaderWriter;
use vmcore::notes::{AFTERIMAGE, CORE, NoteWriter};
use vmcore::page_state::PageStateMut;
use vmcore::registers::{NT_PRSTATUS, PrStatus};
use vmcore::{PAGE_SIZE, PhysRange, Registers};
use wire::lzma::Encoder;
use wire::{Assembler, BlockKind, Event, Frame, PageClass, Receiver, assembler};

use crate::fake::{Looked, Ram};
use crate::{Inputs, Line, Located, Outcome, Room, Sizes, WORDS, Workspace, run};

pub(crate) const BASE: u64 = 0x4000_0000;
/// 2 MiB, of which the last 256 KiB are the capture kernel's own.
pub(crate) const PAGES: usize = 512;
pub(crate) const RAM: PhysRange = PhysRange {
    start: BASE,
    end: BASE + 512 * PAGE_SIZE,
};
pub(crate) const OWN: PhysRange = PhysRange {
    start: BASE + 448 * PAGE_SIZE,
    end: RAM.end,
};
pub(crate) const LINEAR: u64 = 0xffff_0000_0000_0000;
pub(crate) const LINK: u64 = 0xffff_8000_8000_0000;

/// A crashed machine and what it left behind.
pub(crate) struct Machine {
    pub(crate) ram: Ram,
    pub(crate) header: Vec<u8>,
    /// Where a run leaves its tombstone.
    pub(crate) survivor: Option<&'static [AtomicU64; WORDS]>,
    /// Memory of others.
    pub(crate) foreign: Vec<Region>,
}

pub(crate) const fn page(number: u64) -> u64 {
    BASE + number * PAGE_SIZE
}

pub(crate) const fn pages(first: u64, end: u64) -> PhysRange {
    PhysRange {
        start: page(first),
        end: page(end),
    }
}

pub(crate) fn region(kind: RegionKind, range: PhysRange) -> Region {
    Region {
        kind,
        argument: 0,
        pa: range.start,
        len: range.len(),
        va: LINEAR + range.start,
        name: name_field("r"),
    }
}

impl Machine {
    /// Memory with every fourth page empty; notes of two CPUs in pages 4 and 5, of the machine in page 6; kernel at page 16;
    /// a page-state map in page 8 for pages 256 to 384, of which 300 to 320 are free.
    pub(crate) fn new(regions: &[Region]) -> Self {
        let mut ram = Ram::new(BASE, PAGES);
        for (number, page) in ram
            .bytes
            .chunks_mut(4096)
            .enumerate()
            .filter(|(number, _)| number % 4 != 3)
        {
            page.iter_mut()
                .enumerate()
                .for_each(|(at, byte)| *byte = (number * 31 + at / 7) as u8);
        }
        let mut map =
            PageStateMut::init(&mut ram.at(page(8))[..4096], page(256) / PAGE_SIZE, 128).unwrap();
        map.allocated(page(256) / PAGE_SIZE, 44).unwrap();
        map.allocated(page(320) / PAGE_SIZE, 64).unwrap();
        for cpu in 0..2_u32 {
            let mut registers = Registers {
                pc: LINK + 0x40,
                sp: LINEAR + page(100),
                ..Registers::default()
            };
            registers.x[29] = LINEAR + page(100) + 16;
            let status = PrStatus {
                pid: cpu + 1,
                signal: 0,
                registers,
            };
            let mut writer =
                NoteWriter::new(&mut ram.at(page(4 + u64::from(cpu)))[..4096]).unwrap();
            writer
                .note_with(CORE, NT_PRSTATUS, |out| status.encode(out))
                .unwrap();
        }
        let records = [LINEAR + page(100) + 64, LINK + 0x1234, 0, 0, 0, 0, 0, 0];
        let records: Vec<u8> = records.iter().flat_map(|word| word.to_le_bytes()).collect();
        ram.at(page(100))[16..16 + records.len()].copy_from_slice(&records);
        let reason = Reason {
            kind: CrashKind::Panic,
            cpu: 1,
            pc: LINK + 0x40,
            esr: 0,
            far: 0,
            counter: 7,
            counter_hz: 62_500_000,
            text: "explicit panic",
        };
        let mut writer = NoteWriter::new(&mut ram.at(page(6))[..4096]).unwrap();
        writer
            .note_with(AFTERIMAGE, afterimage::REASON, |out| reason.encode(out))
            .unwrap();
        writer
            .note(AFTERIMAGE, afterimage::BUILD_ID, &[0xab; 20])
            .unwrap();
        let list = |out: &mut [u8]| {
            let mut list = ListWriter::new(out, 0)?;
            regions.iter().try_for_each(|region| list.push(region))?;
            list.finish()
        };
        writer
            .note_with(AFTERIMAGE, afterimage::REGIONS, list)
            .unwrap();

        let mut header = std::vec![0; 1024];
        let mut writer = CoreHeaderWriter::new(&mut header);
        (4..7).for_each(|number| writer.note(page(number), PAGE_SIZE).unwrap());
        writer.load(LINK, page(16), 0x8000).unwrap();
        writer.load(LINEAR + BASE, BASE, OWN.start - BASE).unwrap();
        let len = writer.finish().unwrap();
        header.truncate(len);
        Self {
            ram,
            header,
            survivor: None,
            foreign: Vec::new(),
        }
    }

    /// The map and a few regions, as a kernel would leave them.
    pub(crate) fn usual() -> Self {
        Self::new(&[
            region(RegionKind::PageState, pages(8, 9)),
            region(RegionKind::Stack, pages(100, 104)),
            region(RegionKind::LogRing, pages(40, 42)),
            region(RegionKind::AppData, pages(200, 210)),
            region(
                RegionKind::Secret,
                PhysRange {
                    start: page(220) + 100,
                    end: page(221) + 100,
                },
            ),
        ])
    }

    pub(crate) fn dump(&mut self, bootargs: &str) -> Dump {
        let header = self.header.clone();
        self.dump_with(
            bootargs,
            Some(Located {
                address: OWN.end - 4096,
                bytes: &header,
            }),
        )
    }

    pub(crate) fn dump_with(&mut self, bootargs: &str, elfcorehdr: Option<Located<'_>>) -> Dump {
        let mut line = Vec::new();
        let outcome = self.run(bootargs, elfcorehdr, &mut line);
        Dump::decode(&line, outcome)
    }

    /// Runs the capture kernel's logic on this machine.
    pub(crate) fn run(
        &mut self,
        bootargs: &str,
        elfcorehdr: Option<Located<'_>>,
        line: &mut impl Line,
    ) -> Outcome {
        let mut work = Box::new(Workspace::new());
        if let Some(words) = self.survivor {
            work.survive(words, || panic!("abort injected"));
        }
        let inputs = Inputs {
            bootargs: bootargs.as_bytes(),
            elfcorehdr,
            memory: &[RAM],
            own: &[OWN],
            foreign: &self.foreign,
            counter_hz: 62_500_000,
            entry_ticks: 0,
        };
        let Sizes {
            raw,
            ring,
            parity,
            maps,
            encoder,
            index,
            hashes,
            ..
        } = Sizes::LEAST;
        let room = Room {
            raw: &mut std::vec![0xee; raw],
            ring: &mut std::vec![0xee; ring],
            parity: &mut std::vec![0xee; parity],
            maps: &mut std::vec![7; maps],
            encoder: &mut std::vec![7; encoder],
            index: &mut std::vec![7; index],
            hashes: &mut std::vec![7; hashes],
        };
        run(
            &inputs,
            &mut self.ram,
            line,
            &Looked::default(),
            &mut work,
            room,
            &mut Box::new(Encoder::new()),
        )
    }

    /// Checks that each page of RAM is described once, and data rightly.
    pub(crate) fn compare(&self, dump: &Dump) {
        for number in 0..(OWN.start - BASE) / PAGE_SIZE {
            let at = (number * PAGE_SIZE) as usize;
            let bytes = &self.ram.bytes[at..at + 4096];
            match dump.pages.get(&page(number)) {
                None => panic!("page {number} is not described"),
                Some((PageClass::Data, found)) => assert_eq!(found, bytes, "page {number}"),
                Some((PageClass::Zero, _)) => {
                    assert!(bytes.iter().all(|&byte| byte == 0), "page {number}")
                }
                Some(_) => {}
            }
        }
        assert!(
            dump.pages.keys().all(|&pa| pa < OWN.start),
            "the region itself is left out"
        );
    }
}

/// Hands a frame, and what it brings back, to the host's end.
fn take(host: &mut Assembler, frame: &Frame<'_>, blocks: &mut Vec<assembler::Block>) {
    if let assembler::Outcome::Block(block) = host.accept(frame).unwrap() {
        blocks.push(block);
    }
    while let Some((header, payload)) = host.next_recovered() {
        let payload = &payload;
        take(host, &Frame { header, payload }, blocks);
    }
}

/// What the host made of a line.
pub(crate) struct Dump {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
    pub(crate) text_before_frames: usize,
    pub(crate) pages: BTreeMap<u64, (PageClass, Vec<u8>)>,
    pub(crate) order: Vec<u64>,
    pub(crate) blocks: Vec<assembler::Block>,
    pub(crate) host: Assembler,
}

impl Dump {
    pub(crate) fn decode(line: &[u8], outcome: Outcome) -> Self {
        let mut text = Vec::new();
        let mut text_before_frames = None;
        let mut host: Option<Assembler> = None;
        let mut blocks = Vec::new();
        let mut receiver = Receiver::new();
        let mut see = |event: Event<'_>| match event {
            Event::Text(part) => text.extend_from_slice(part),
            Event::Damaged(damage) => panic!("{damage:?}"),
            Event::Frame(frame) => {
                text_before_frames.get_or_insert(text.len());
                let host = host.get_or_insert_with(|| Assembler::new(frame.header.dump));
                take(host, &frame, &mut blocks);
            }
        };
        receiver.push(line, &mut see);
        receiver.finish(&mut see);
        let (mut pages, mut order) = (BTreeMap::new(), Vec::new());
        let mut like = Vec::new();
        for block in blocks
            .iter()
            .filter(|block| block.kind == BlockKind::Memory)
        {
            for (run, bytes) in block.memory().unwrap().runs() {
                for number in 0..u64::from(run.pages) {
                    let pa = run.pa + number * PAGE_SIZE;
                    let found = bytes.chunks(4096).nth(number as usize).unwrap_or_default();
                    if run.class == PageClass::Duplicate {
                        like.push((pa, run.source + number * PAGE_SIZE));
                    }
                    assert!(
                        pages.insert(pa, (run.class, found.to_vec())).is_none(),
                        "page {pa:#x} twice"
                    );
                    order.push(pa);
                }
            }
        }
        for (pa, source) in like {
            let same = pages[&source].clone();
            assert_eq!(same.0, PageClass::Data, "{pa:#x} is like {source:#x}");
            pages.insert(pa, same);
        }
        let text = String::from_utf8(text).unwrap();
        let text_before_frames = text_before_frames.unwrap_or(text.len());
        Self {
            outcome,
            text,
            text_before_frames,
            pages,
            order,
            blocks,
            host: host.unwrap(),
        }
    }

    pub(crate) fn class(&self, number: u64) -> PageClass {
        self.pages[&page(number)].0
    }

    pub(crate) fn notes(&self) -> usize {
        self.blocks
            .iter()
            .filter(|block| block.kind == BlockKind::Notes)
            .count()
    }
}
