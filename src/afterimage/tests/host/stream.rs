// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sender: makes the line of a crash out of a little machine.

use std::cell::Cell;

use vmcore::Registers;
use vmcore::afterimage_notes::list::{ListWriter, list_len};
use vmcore::afterimage_notes::{
    BUILD_ID, CpuStop, CrashKind, Entry, KERNEL, KernelInfo, REASON, REGIONS, Reason, Region,
    RegionKind, STOP, StopStatus, THREADS, Thread, name_field,
};
use vmcore::log_ring::LogRing;
use vmcore::registers::PrStatus;
use wire::block::{DESCRIPTOR_LEN, Descriptor, Piece, TreeHash, block_hash};
use wire::frame::{FrameType, LINE_MAX, short_id};
use wire::manifest::{Pass, Range, Source};
use wire::memory_block::Run;
use wire::parity::ParityWriter;
use wire::receiver::{Event, Receiver};
use wire::target::{Memory, Tables, Target, map_words};
use wire::{
    BlockKind, BlockWriter, Codec, Finished, Manifest, Next, PageClass, SegmentBlock, Summary,
};

use afterimage::note_bytes::NoteBytes;

pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const PAGE: u64 = 4096;
pub(crate) const LINEAR: u64 = 0xffff_0000_0000_0000;
pub(crate) const LINK: u64 = 0xffff_8000_8000_0000;
pub(crate) const ID: [u8; 16] = [
    0xd1, 0xd2, 0xd3, 0xd4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// Page that holds the log.
const LOG_PAGE: u64 = 2;

/// The machine: pages of RAM and what became of each.
pub(crate) struct Machine {
    pub(crate) pages: Vec<(PageClass, Vec<u8>)>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) registers: Registers,
    /// Those of CPU 0.
    pub(crate) other_registers: Registers,
    pub(crate) source: Source,
    pub(crate) notes: Vec<Vec<u8>>,
    /// Where a program is mapped, in place of the kernel's text, and its first page.
    pub(crate) program: Option<(u64, u64)>,
}

fn list<E: Entry>(entries: &[E]) -> Vec<u8> {
    let mut out = vec![0; list_len::<E>(entries.len())];
    let mut writer = ListWriter::new(&mut out, 0).expect("room");
    for entry in entries {
        writer.push(entry).expect("room");
    }
    writer.finish().expect("room");
    out
}

fn notes(make: impl FnOnce(&mut NoteBytes)) -> Vec<u8> {
    let mut notes = NoteBytes::default();
    make(&mut notes);
    notes.as_bytes().to_vec()
}

impl Machine {
    /// Returns 32 pages: data, a log, zeros, free, secret and unreadable ones; two CPUs, CPU 1 crashed, one thread.
    pub(crate) fn new() -> Self {
        let data = |n: u8| (PageClass::Data, vec![n; PAGE as usize]);
        let mut pages: Vec<_> = (1..=32).map(data).collect();
        let mut log = vec![0; PAGE as usize];
        let mut ring = LogRing::init(&mut log).expect("room");
        ring.write(b"[0.1] booting\n[0.2] \x1b[31mabout to crash\x1b[0m\n");
        pages[LOG_PAGE as usize] = (PageClass::Data, log);
        pages[5] = (PageClass::Zero, Vec::new());
        pages[6] = (PageClass::Free, Vec::new());
        pages[7] = (PageClass::Secret, Vec::new());
        pages[8] = (PageClass::Unreadable, Vec::new());
        let mut machine = Self {
            pages,
            build_id: vec![1, 2, 3, 4, 5, 6, 7, 8],
            registers: Registers {
                pc: LINK + 0x100,
                sp: LINEAR + RAM + PAGE,
                ..Registers::default()
            },
            other_registers: Registers::default(),
            source: Source::Afterimage,
            notes: Vec::new(),
            program: None,
        };
        machine.make_notes();
        machine
    }

    /// Makes the notes anew, after registers or build ID were changed.
    pub(crate) fn make_notes(&mut self) {
        let status = |pid, registers| {
            notes(|n| {
                n.add_status(&PrStatus {
                    pid,
                    signal: 0,
                    registers,
                })
            })
        };
        let mut reason = vec![0; 256];
        let len = Reason {
            kind: CrashKind::Exception,
            cpu: 1,
            pc: self.registers.pc,
            esr: 0x9600_0045,
            far: 0,
            counter: 5,
            counter_hz: 1000,
            text: "write to NULL",
        }
        .encode(&mut reason)
        .expect("room");
        let mut kernel = [0; KernelInfo::LEN];
        KernelInfo {
            cpu_count: 2,
            link_va: LINK,
            image_pa: RAM,
            linear_base: LINEAR,
            ..KernelInfo::default()
        }
        .encode(&mut kernel)
        .expect("room");
        let stop = |cpu, status| CpuStop {
            cpu,
            status,
            mpidr: u64::from(cpu),
            waited_us: 7,
            is_off_confirmed: true,
            is_parked: false,
        };
        let region = Region {
            kind: RegionKind::LogRing,
            argument: 0,
            pa: RAM + LOG_PAGE * PAGE,
            len: PAGE,
            va: 0,
            name: name_field("log"),
        };
        let thread = Thread {
            id: 0,
            name: name_field("net"),
            registers: self.registers,
        };
        let machine_wide = notes(|n| {
            let mut own = |kind, desc: &[u8]| n.add(b"AFTERIMAGE", kind, desc);
            own(REASON, &reason[..len]);
            own(BUILD_ID, &self.build_id);
            own(KERNEL, &kernel);
            own(
                STOP,
                &list(&[
                    stop(0, StopStatus::StoppedByFiq),
                    stop(1, StopStatus::Crashed),
                ]),
            );
            own(REGIONS, &list(&[region]));
            own(THREADS, &list(&[thread]));
        });
        self.notes = vec![
            status(1, self.other_registers),
            status(2, self.registers),
            machine_wide,
        ];
    }

    /// Returns what the dump is made of.
    pub(crate) fn parts(&self, id: [u8; 16]) -> Parts {
        let len = self.pages.len() as u64 * PAGE;
        let range = |vaddr, len| Range {
            vaddr,
            paddr: RAM,
            len,
            flags: 7,
        };
        let text = match self.program {
            None => range(LINK, 4 * PAGE),
            Some((vaddr, first)) => Range {
                paddr: RAM + first * PAGE,
                ..range(vaddr, len - first * PAGE)
            },
        };
        let ranges = [text, range(LINEAR + RAM, len)];
        let mut manifest = Manifest::new(id, self.source);
        manifest.set_build_id(&self.build_id);
        manifest.cpu_count = 2;
        manifest.note_segments = self.notes.len() as u32;
        manifest.range_count = ranges.len() as u32;
        let mut blocks = Vec::new();
        for (index, bytes) in (0..).zip(&self.notes) {
            let whole = SegmentBlock {
                index,
                address: 0,
                total_len: bytes.len() as u64,
                offset: 0,
                bytes,
            };
            let mut raw = vec![0; bytes.len() + 32];
            let raw_len = whole.encode(&mut raw).expect("room");
            raw.truncate(raw_len);
            blocks.push((BlockKind::Notes, raw));
        }
        let mut summary = Summary::default();
        for (start, chunk) in (0_u64..).step_by(8).zip(self.pages.chunks(8)) {
            let mut raw = vec![0; wire::block::raw_len(8)];
            let mut block = BlockWriter::new(&mut raw).expect("room");
            for (n, (class, bytes)) in (start..).zip(chunk) {
                summary.pages[usize::from(class.code())] += 1;
                let pa = RAM + n * PAGE;
                if *class == PageClass::Data {
                    block.page().expect("room").copy_from_slice(bytes);
                    assert!(block.commit_page(pa).expect("aligned"));
                    continue;
                }
                let run = match *class {
                    PageClass::Duplicate => Run::duplicate(pa, RAM + u64::from(bytes[0]) * PAGE),
                    class => Run::new(pa, 1, class),
                };
                assert!(block.add_run(run).expect("aligned"));
            }
            let raw_len = block.finish().expect("block");
            raw.truncate(raw_len);
            blocks.push((BlockKind::Memory, raw));
        }
        let mut tree = TreeHash::new();
        blocks
            .iter()
            .for_each(|(_, raw)| tree.add(&block_hash(raw)));
        summary.blocks = blocks.len() as u32;
        summary.tree_hash = tree.value();
        Parts {
            manifest,
            ranges,
            blocks,
            summary,
        }
    }

    /// Returns the frames of the dump, each as it stands on the line, when nobody answers.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.frames_of(ID)
    }

    /// Returns the frames of the dump under another id.
    pub(crate) fn frames_of(&self, id: [u8; 16]) -> Vec<Vec<u8>> {
        one_way(&self.parts(id), false)
    }

    /// Returns the line: console text, frames, console text.
    pub(crate) fn line(&self) -> Vec<u8> {
        framed(&self.frames())
    }
}

/// Returns the frames with console text around them.
pub(crate) fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    [
        b"Hello from the kernel\r\n".to_vec(),
        frames.concat(),
        b"bye\r\n".to_vec(),
    ]
    .concat()
}

/// Returns the index of the first frame of block 3, which is the first memory block.
pub(crate) fn first_memory_frame(frames: &[Vec<u8>]) -> usize {
    let is_of_block_3 = |line: &Vec<u8>| {
        let mut found = false;
        Receiver::new().push(line, |event| {
            if let Event::Frame(frame) = event {
                found = frame.kind() == Some(FrameType::Block)
                    && Piece::decode(frame.payload).expect("piece").block == 3;
            }
        });
        found
    };
    frames.iter().position(is_of_block_3).expect("block 3")
}

/// What a dump is made of.
pub(crate) struct Parts {
    pub(crate) manifest: Manifest,
    pub(crate) ranges: [Range; 2],
    pub(crate) blocks: Vec<(BlockKind, Vec<u8>)>,
    pub(crate) summary: Summary,
}

impl Parts {
    pub(crate) fn manifest_part(&self, session: u32) -> Vec<u8> {
        let mut part = vec![0; 512];
        let pass = Pass { session, round: 0 };
        let encoded = self.manifest.encode_part(&self.ranges, 0, pass, &mut part);
        part.truncate(encoded.expect("room"));
        part
    }

    pub(crate) fn summary_payload(&self) -> [u8; Summary::LEN] {
        let mut payload = [0; Summary::LEN];
        self.summary.encode(&mut payload).expect("room");
        payload
    }

    /// Returns descriptor and bytes of a block; with `partial` these instead of the whole.
    pub(crate) fn packed(&self, number: usize, partial: Option<&[u8]>) -> Vec<u8> {
        let (kind, raw) = &self.blocks[number];
        let bytes = partial.unwrap_or(raw);
        let descriptor = Descriptor {
            number: number as u32,
            kind: *kind,
            codec: Codec::Stored,
            is_partial: partial.is_some(),
            raw_len: bytes.len() as u32,
            packed_len: bytes.len() as u32,
            hash: block_hash(raw),
        };
        [&descriptor.encode().expect("room")[..], bytes].concat()
    }
}

/// The last frame's payload.
pub(crate) const FINISHED: Finished = Finished {
    next: Next::Halt,
    is_cut_short: false,
};

/// Hands `memory` of a sending end to `use_it`; its ring holds three of the longest blocks here.
pub(crate) fn with_memory<T>(use_it: impl FnOnce(Memory<'_>) -> T) -> T {
    let longest = DESCRIPTOR_LEN + wire::block::raw_len(8);
    let mut ring = vec![0; 3 * longest];
    let mut maps = vec![0; map_words(longest)];
    let mut parity = vec![0; ParityWriter::ROOM];
    let mut tables = Box::new(Tables::new());
    use_it(Memory {
        tables: &mut tables,
        ring: Cell::from_mut(&mut ring[..]).as_slice_of_cells(),
        maps: &mut maps,
        parity: &mut parity,
    })
}

/// Returns the frames of a dump that nobody answers.
pub(crate) fn one_way(parts: &Parts, has_parity: bool) -> Vec<Vec<u8>> {
    with_memory(|memory| {
        let mut target = Target::new(short_id(parts.manifest.dump_id), memory, has_parity);
        let mut frames = Vec::new();
        let mut drain = |target: &mut Target<'_>| {
            let mut out = [0; LINE_MAX];
            while let Ok(len @ 1..) = target.next_frame(0, &mut out) {
                frames.push(out[..len].to_vec());
            }
        };
        target.begin_pass();
        assert!(target.control(FrameType::Manifest, &parts.manifest_part(0)));
        drain(&mut target);
        for number in 0..parts.blocks.len() {
            let packed = parts.packed(number, None);
            let room = target.room(packed.len()).expect("room");
            room.iter()
                .zip(&packed)
                .for_each(|(to, from)| to.set(*from));
            assert!(target.push(number as u32, packed.len()));
            drain(&mut target);
        }
        target.close_group();
        drain(&mut target);
        assert!(target.control(FrameType::Summary, &parts.summary_payload()));
        drain(&mut target);
        assert!(target.control(FrameType::Finished, &FINISHED.encode()));
        drain(&mut target);
        frames
    })
}
