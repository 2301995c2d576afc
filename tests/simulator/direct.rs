// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host at the end of a line that loses nothing and takes no time: for counting bytes.

use std::collections::{HashMap, VecDeque};

use capture::{Inputs, Line, Located, Outcome, Room, Sizes, Workspace};
use vmcore::elf_core::CoreHeaderWriter;
use vmcore::{PAGE_SIZE, PhysMemory, PhysRange, ReadFault};
use wire::frame::Header;
use wire::lzma::Encoder;
use wire::offer::{PageHash, page_hash};
use wire::receiver::{Event, Receiver};
use wire::target::Counts;
use wire::{Answers, Assembler, Frame, FrameType, PageClass, Want, assembler};

/// Where the image's memory lies.
const BASE: u64 = 0x4000_0000;
/// Where the capture kernel would be: outside the image.
const OWN: u64 = 0x2000_0000;

/// A RAM image as the crashed machine's memory.
struct Image<'a>(&'a [u8]);

impl PhysMemory for Image<'_> {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let at = pa.wrapping_sub(BASE) as usize;
        let found = self.0.get(at..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(ReadFault {
            address: pa,
            cause: vmcore::FaultCause::NotRam,
        })?);
        Ok(())
    }
}

/// A page of a block, and what stands in for it.
enum Page {
    Bytes(Vec<u8>),
    Like(u64),
}

/// The host.
struct Host<'a> {
    receiver: Receiver,
    ends: Option<(Assembler, Answers)>,
    library: &'a HashMap<PageHash, &'a [u8]>,
    pages: HashMap<u64, Page>,
    replies: VecDeque<u8>,
    faults: Vec<String>,
    line_bytes: u64,
    now_us: u64,
}

impl Host<'_> {
    fn accept(&mut self, header: Header, payload: &[u8]) {
        let wants_offers = !self.library.is_empty();
        let (assembler, answers) = self.ends.get_or_insert_with(|| {
            let mut answers = Answers::new(header.dump, 1);
            if wants_offers {
                answers.want_offers();
            }
            (Assembler::new(header.dump), answers)
        });
        answers.frame(header.sequence);
        match assembler.accept(&Frame { header, payload }) {
            Ok(assembler::Outcome::Block(block)) => {
                answers.stored(block.number);
                if let Ok(memory) = block.memory() {
                    for (run, bytes) in memory.runs() {
                        for number in 0..u64::from(run.pages) {
                            let at = number as usize * PAGE_SIZE as usize;
                            let page = match run.class {
                                PageClass::Data => {
                                    Page::Bytes(bytes[at..at + PAGE_SIZE as usize].to_vec())
                                }
                                PageClass::Duplicate => Page::Like(run.source + at as u64),
                                _ => continue,
                            };
                            self.pages.insert(run.pa + at as u64, page);
                        }
                    }
                }
            }
            Ok(assembler::Outcome::Offer(block)) => {
                let library = self.library;
                let find = |hash: &PageHash| library.get(hash).map(|page| page.to_vec());
                let mut payload = [0; Want::LEN_MAX];
                let want = assembler.answer(block, find);
                let len = want.and_then(|want| want.encode(&mut payload).ok());
                let frame = answers.frame_of(FrameType::Want, &payload[..len.unwrap_or(0)]);
                self.replies.extend(frame.unwrap_or_default());
            }
            Ok(assembler::Outcome::Poll) => answers.asked(false),
            Ok(assembler::Outcome::Finished(_)) => {
                answers.asked(assembler.verdict().is_whole());
            }
            Ok(_) => {}
            Err(error) => self.faults.push(error.to_string()),
        }
    }
}

impl Line for Host<'_> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.line_bytes += bytes.len() as u64;
        let mut frames = Vec::new();
        self.receiver.push(bytes, |event| match event {
            Event::Frame(frame) => frames.push((frame.header, frame.payload.to_vec())),
            Event::Damaged(damage) => panic!("{damage:?} on a line that loses nothing"),
            Event::Text(_) => {}
        });
        for (header, payload) in frames {
            self.accept(header, &payload);
        }
        bytes.len()
    }

    fn read(&mut self) -> Option<u8> {
        if self.replies.is_empty()
            && let Some((_, answers)) = &mut self.ends
        {
            self.now_us += 1000;
            self.replies
                .extend(answers.next(self.now_us).unwrap_or_default());
        }
        self.replies.pop_front()
    }
}

/// What a dump came to.
#[derive(Clone, Copy, Debug)]
pub struct Direct {
    /// Bytes on the line, text included.
    pub line_bytes: u64,
    /// What went over it in frames.
    pub counts: Counts,
    /// Pages of data in a block.
    pub pages_per_block: usize,
}

/// Dumps the machine whose memory `ram` is to a host that has the pages of `library`, with `room_bytes` for buffers, and
/// checks every page.
///
/// # Errors
/// What was lost or wrong.
pub fn dump(
    ram: &[u8],
    bootargs: &str,
    room_bytes: usize,
    library: &HashMap<PageHash, &[u8]>,
) -> Result<Direct, String> {
    let mut header = vec![0; 4096];
    let mut writer = CoreHeaderWriter::new(&mut header);
    let load = writer.load(0xffff_0000_0000_0000, BASE, ram.len() as u64);
    load.map_err(|error| error.to_string())?;
    let len = writer.finish().map_err(|error| error.to_string())?;
    header.truncate(len);
    let range = |start: u64, len: u64| PhysRange {
        start,
        end: start + len,
    };
    let sizes = Sizes::fitting(room_bytes);
    let room = Room {
        raw: &mut vec![0; sizes.raw],
        ring: &mut vec![0; sizes.ring],
        parity: &mut vec![0; sizes.parity],
        maps: &mut vec![0; sizes.maps],
        encoder: &mut vec![0; sizes.encoder],
        index: &mut vec![0; sizes.index],
        hashes: &mut vec![0; sizes.hashes],
    };
    let mut host = Host {
        receiver: Receiver::new(),
        ends: None,
        library,
        pages: HashMap::new(),
        replies: VecDeque::new(),
        faults: Vec::new(),
        line_bytes: 0,
        now_us: 0,
    };
    let inputs = Inputs {
        bootargs: bootargs.as_bytes(),
        elfcorehdr: Some(Located {
            address: OWN,
            bytes: &header,
        }),
        memory: &[range(BASE, ram.len() as u64)],
        own: &[range(OWN, 2 << 20)],
        foreign: &[],
        counter_hz: 1_000_000_000,
        entry_ticks: 0,
    };
    let began = std::time::Instant::now();
    let outcome: Outcome = capture::run(
        &inputs,
        &mut Image(ram),
        &mut host,
        &Elapsed(began),
        &mut Box::new(Workspace::new()),
        room,
        &mut Box::new(Encoder::new()),
    );
    let totals = outcome.totals.map_err(|error| error.to_string())?;
    if totals.is_received != Some(true) || !host.faults.is_empty() {
        return Err(format!("not received whole: {:?}", host.faults));
    }
    host.compare(ram)?;
    Ok(Direct {
        line_bytes: host.line_bytes,
        counts: totals.counts,
        pages_per_block: sizes.pages,
    })
}

impl Host<'_> {
    /// Compares every page with memory.
    fn compare(&self, ram: &[u8]) -> Result<(), String> {
        for (number, page) in ram.chunks(PAGE_SIZE as usize).enumerate() {
            let pa = BASE + number as u64 * PAGE_SIZE;
            let is_right = match self.pages.get(&pa) {
                None => page.iter().all(|&byte| byte == 0),
                Some(Page::Bytes(bytes)) => bytes == page,
                Some(Page::Like(source)) => {
                    matches!(self.pages.get(source), Some(Page::Bytes(bytes)) if bytes == page)
                }
            };
            if !is_right {
                return Err(format!("page {pa:#x} is not what was in memory"));
            }
        }
        Ok(())
    }
}

/// Real time, in nanoseconds.
struct Elapsed(std::time::Instant);

impl capture::Clock for Elapsed {
    fn ticks(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Returns the pages of an image by hash, as `--have` does.
#[must_use]
pub fn library(ram: &[u8]) -> HashMap<PageHash, &[u8]> {
    ram.chunks(PAGE_SIZE as usize)
        .filter(|page| page.iter().any(|&byte| byte != 0))
        .map(|page| (page_hash(page), page))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few pages, some alike, some zero.
    fn ram(seed: u8) -> Vec<u8> {
        let mut ram = vec![0; 40 * PAGE_SIZE as usize];
        for (number, page) in ram.chunks_mut(PAGE_SIZE as usize).enumerate() {
            if number % 5 != 0 {
                page.iter_mut().enumerate().for_each(|(at, byte)| {
                    *byte = ((at * (number % 7 + 1)) >> 2) as u8 ^ seed;
                });
            }
        }
        ram
    }

    #[test]
    fn dump_is_whole_and_smaller_than_memory() {
        let ram = ram(0);
        let found = dump(&ram, "dump_level=1", 0, &HashMap::new()).unwrap();
        assert!(found.line_bytes < ram.len() as u64 / 4);
    }

    #[test]
    fn dump_of_what_the_host_has_is_smaller_still() {
        let ram = ram(3);
        let plain = dump(&ram, "dump_level=1 dump_effort=stored", 0, &HashMap::new()).unwrap();
        let library = library(&ram);
        let known = dump(&ram, "dump_level=1 dump_effort=stored", 0, &library).unwrap();
        assert!(
            known.line_bytes * 4 < plain.line_bytes,
            "{known:?}, {plain:?}"
        );
    }
}
