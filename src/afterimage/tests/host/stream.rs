// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sender: makes the line of a crash out of a little machine.

use vmcore::Registers;
use vmcore::afterimage_notes::list::{ListWriter, list_len};
use vmcore::afterimage_notes::{
    BUILD_ID, CpuStop, CrashKind, Entry, KERNEL, KernelInfo, REASON, REGIONS, Reason, Region,
    RegionKind, STOP, StopStatus, THREADS, Thread, name_field,
};
use vmcore::log_ring::LogRing;
use vmcore::registers::PrStatus;
use wire::block::{PackedBlock, TreeHash};
use wire::codec::StoredEncoder;
use wire::frame::{FrameType, LINE_MAX};
use wire::manifest::{Range, Source};
use wire::memory_block::Run;
use wire::{
    BlockKind, BlockWriter, Finished, Manifest, Next, PageClass, SegmentBlock, Sender, Summary,
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
    pub(crate) source: Source,
    pub(crate) notes: Vec<Vec<u8>>,
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
            source: Source::Afterimage,
            notes: Vec::new(),
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
            status(1, Registers::default()),
            status(2, self.registers),
            machine_wide,
        ];
    }

    /// Returns the frames of the dump, each as it stands on the line.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.frames_of(ID)
    }

    /// Returns the frames of the dump under another id.
    pub(crate) fn frames_of(&self, id: [u8; 16]) -> Vec<Vec<u8>> {
        let mut sending = Sending {
            sender: Sender::new(id),
            frames: Vec::new(),
            tree: TreeHash::new(),
            blocks: 0,
        };
        let len = self.pages.len() as u64 * PAGE;
        let range = |vaddr, len| Range {
            vaddr,
            paddr: RAM,
            len,
            flags: 7,
        };
        let ranges = [range(LINK, 4 * PAGE), range(LINEAR + RAM, len)];
        let mut manifest = Manifest::new(id, self.source);
        manifest.set_build_id(&self.build_id);
        manifest.cpu_count = 2;
        manifest.range_count = ranges.len() as u32;
        let mut part = vec![0; 512];
        let part_len = manifest.encode_part(&ranges, 0, &mut part).expect("room");
        sending.frame(FrameType::Manifest, &part[..part_len]);
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
            sending.block(BlockKind::Notes, &raw[..raw_len]);
        }
        let mut summary = Summary::default();
        for (start, chunk) in (0_u64..).step_by(8).zip(self.pages.chunks(8)) {
            let mut buffer = vec![0; wire::block::RAW_LEN];
            let mut block = BlockWriter::new(&mut buffer).expect("room");
            for (n, (class, bytes)) in (start..).zip(chunk) {
                summary.pages[usize::from(class.code())] += 1;
                let pa = RAM + n * PAGE;
                if *class == PageClass::Data {
                    block.page().expect("room").copy_from_slice(bytes);
                    assert!(block.commit_page(pa).expect("aligned"));
                } else {
                    assert!(
                        block
                            .add_run(Run {
                                pa,
                                pages: 1,
                                class: *class
                            })
                            .expect("aligned")
                    );
                }
            }
            let raw = block.finish().expect("block").to_vec();
            sending.block(BlockKind::Memory, &raw);
        }
        summary.blocks = sending.blocks;
        summary.tree_hash = sending.tree.value();
        let mut payload = [0; Summary::LEN];
        summary.encode(&mut payload).expect("room");
        sending.frame(FrameType::Summary, &payload);
        let finished = Finished {
            next: Next::Halt,
            is_cut_short: false,
        };
        sending.frame(FrameType::Finished, &finished.encode());
        sending.frames
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

/// Index of the first frame of block 3, the first memory block: manifest and three short note blocks come before.
pub(crate) const FIRST_MEMORY_FRAME: usize = 4;

struct Sending {
    sender: Sender,
    frames: Vec<Vec<u8>>,
    tree: TreeHash,
    blocks: u32,
}

impl Sending {
    fn frame(&mut self, kind: FrameType, payload: &[u8]) {
        let mut out = vec![0; LINE_MAX];
        let len = self
            .sender
            .frame(kind, [payload, &[]], &mut out)
            .expect("room");
        self.frames.push(out[..len].to_vec());
    }

    fn block(&mut self, kind: BlockKind, raw: &[u8]) {
        let mut packed =
            PackedBlock::pack(self.blocks, kind, raw, &mut StoredEncoder, &mut []).expect("block");
        self.tree.add(&packed.header().hash);
        self.blocks += 1;
        let mut out = vec![0; LINE_MAX];
        while let Some(len) = packed
            .next_frame(&mut self.sender, 2048, &mut out)
            .expect("room")
        {
            self.frames.push(out[..len].to_vec());
        }
    }
}
