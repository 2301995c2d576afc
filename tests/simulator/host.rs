// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's end: the protocol's own receiver, and a memory that survives being killed.
//!
//! It is what `afterimage receive` is without its files: blocks that are stored stay, all else goes with the process.

use std::collections::{BTreeMap, HashMap};

use vmcore::{PAGE_SIZE, PhysRange};
use wire::assembler::{Block, Outcome, Verdict};
use wire::baud_change::{BaudChange, Step};
use wire::block::{BlockHash, block_hash};
use wire::frame::Header;
use wire::offer::{PageHash, page_hash};
use wire::receiver::{Event, Receiver};
use wire::target::SILENCE_US;
use wire::{Answers, Assembler, BlockKind, Frame, FrameType, PageClass, Want};

use crate::adapter::Command;
use crate::machine::Machine;

/// What the simulator runs at the host's end.
pub trait Host {
    /// Starts the process, or starts it again.
    fn start(&mut self, session: u32, now_us: u64);

    /// Kills it.
    fn kill(&mut self);

    /// Takes in bytes of the line.
    fn receive(&mut self, bytes: &[u8], now_us: u64);

    /// Returns what is to be done now; called whenever something came, and every few milliseconds.
    fn poll(&mut self, now_us: u64) -> Vec<Command>;
}

/// A block that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The block.
    pub block: Block,
    hash: BlockHash,
    /// Sequence of the frame that completed it.
    pub sequence: u32,
}

/// The host.
#[derive(Debug)]
pub struct SmallHost {
    baud: u32,
    baud_max: u32,
    process: Option<Process>,
    /// What is on its disk: of this dump, and of earlier ones.
    stored: BTreeMap<u32, Stored>,
    library: HashMap<PageHash, Vec<u8>>,
    dump: Option<u32>,
    verdict: Option<Verdict>,
    has_finished: bool,
    errors: Vec<wire::Error>,
    rejected: u64,
}

/// What a running host keeps in memory.
#[derive(Debug)]
struct Process {
    session: u32,
    receiver: Receiver,
    ends: Option<(Assembler, Answers)>,
    ready: Vec<Command>,
    /// The rate that the line was set to.
    baud: u32,
    heard_us: u64,
}

impl SmallHost {
    /// Makes a host whose line begins at `baud` and can be set up to `baud_max`; 0 for not at all.
    #[must_use]
    pub fn new(baud: u32, baud_max: u32) -> Self {
        Self {
            baud,
            baud_max,
            process: None,
            stored: BTreeMap::new(),
            library: HashMap::new(),
            dump: None,
            verdict: None,
            has_finished: false,
            errors: Vec::new(),
            rejected: 0,
        }
    }

    /// Gives it pages that need not be sent.
    pub fn know<'a>(&mut self, pages: impl Iterator<Item = &'a [u8; PAGE_SIZE as usize]>) {
        self.library
            .extend(pages.map(|page| (page_hash(page), page.to_vec())));
    }

    /// Returns the stored blocks.
    #[must_use]
    pub const fn stored(&self) -> &BTreeMap<u32, Stored> {
        &self.stored
    }

    /// Returns how what was stored compares with what was announced, and whether the last frame came.
    #[must_use]
    pub fn verdict(&self) -> (Option<Verdict>, bool) {
        let ends = self.process.as_ref().and_then(|one| one.ends.as_ref());
        let now = ends.map(|(assembler, _)| assembler.verdict());
        (now.or_else(|| self.verdict.clone()), self.has_finished)
    }

    /// Returns what was not believed.
    #[must_use]
    pub fn errors(&self) -> &[wire::Error] {
        &self.errors
    }

    /// Compares what was stored with the machine's memory.
    ///
    /// # Errors
    /// The first page that is missing or wrong.
    pub fn compare(&self, machine: &Machine) -> Result<(), String> {
        let mut found: BTreeMap<u64, Found<'_>> = BTreeMap::new();
        for stored in self.stored.values() {
            if stored.block.kind != BlockKind::Memory {
                continue;
            }
            let memory = stored.block.memory().map_err(|error| error.to_string())?;
            for (run, bytes) in memory.runs() {
                for number in 0..u64::from(run.pages) {
                    let pa = run.pa + number * PAGE_SIZE;
                    let one = Found {
                        class: run.class,
                        source: run.source + number * PAGE_SIZE,
                        bytes: bytes.chunks(4096).nth(number as usize).unwrap_or_default(),
                    };
                    if found.insert(pa, one).is_some() {
                        return Err(format!("page {pa:#x} came twice"));
                    }
                }
            }
        }
        let PhysRange { start, end } = machine.dumped();
        for pa in (start..end).step_by(4096) {
            let Some(one) = found.get(&pa) else {
                return Err(format!("page {pa:#x} is missing"));
            };
            let one = match one.class {
                PageClass::Duplicate => found.get(&one.source).unwrap_or(one),
                _ => one,
            };
            let truth = machine.ram.page(pa);
            let is_right = match one.class {
                PageClass::Data => Some(one.bytes) == truth.map(|page| &page[..]),
                PageClass::Zero => truth.is_none_or(|page| page.iter().all(|&byte| byte == 0)),
                PageClass::Free => machine.free.iter().any(|free| free.contains(pa)),
                _ => false,
            };
            if !is_right {
                return Err(format!("page {pa:#x} is wrong: {:?}", one.class));
            }
        }
        Ok(())
    }

    /// Returns the sequence of the frame with which the crashed CPU's registers and its stack were there.
    #[must_use]
    pub fn backtrace_sequence(&self, machine: &Machine, crashed_note: u32) -> Option<u32> {
        let registers = self.stored.values().find(|stored| {
            let segment = stored.block.segment();
            stored.block.kind == BlockKind::Notes
                && segment.is_ok_and(|segment| segment.index == crashed_note)
        })?;
        let first = machine.stack.start / PAGE_SIZE * PAGE_SIZE;
        let pages = (first..machine.stack.end).step_by(4096);
        pages
            .map(|pa| {
                let stack = self
                    .stored
                    .values()
                    .find(|stored| has_page(&stored.block, pa))?;
                Some(stack.sequence.max(registers.sequence))
            })
            .try_fold(0, |last, one| one.map(|one| last.max(one)))
    }
}

/// What a block said of a page.
struct Found<'a> {
    class: PageClass,
    source: u64,
    bytes: &'a [u8],
}

fn has_page(block: &Block, pa: u64) -> bool {
    block.kind == BlockKind::Memory
        && block.memory().is_ok_and(|memory| {
            memory.runs().any(|(run, _)| {
                let end = run.pa + u64::from(run.pages) * PAGE_SIZE;
                run.pa <= pa && pa < end
            })
        })
}

impl Host for SmallHost {
    fn start(&mut self, session: u32, now_us: u64) {
        // What the line was left at by an earlier process is set anew.
        let ready = vec![Command::SetBaud(self.baud)];
        self.process = Some(Process {
            session,
            receiver: Receiver::new(),
            ends: None,
            ready,
            baud: self.baud,
            heard_us: now_us,
        });
    }

    fn kill(&mut self) {
        self.verdict = self.verdict().0;
        self.process = None;
    }

    fn receive(&mut self, bytes: &[u8], now_us: u64) {
        let mut frames = Vec::new();
        let Some(process) = &mut self.process else {
            return;
        };
        process.receiver.push(bytes, |event| {
            if let Event::Frame(frame) = event {
                frames.push((frame.header, frame.payload.to_vec()));
            }
        });
        for (header, payload) in frames {
            self.frame(header, &payload, now_us);
        }
    }

    fn poll(&mut self, now_us: u64) -> Vec<Command> {
        let base = self.baud;
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        if process.baud != base && now_us.saturating_sub(process.heard_us) >= SILENCE_US {
            process.baud = base;
            process.heard_us = now_us;
            process.ready.push(Command::SetBaud(base));
        }
        let status = process
            .ends
            .as_mut()
            .and_then(|(_, answers)| answers.next(now_us));
        process.ready.extend(status.map(Command::Send));
        core::mem::take(&mut process.ready)
    }
}

impl SmallHost {
    fn frame(&mut self, header: Header, payload: &[u8], now_us: u64) {
        let Some(process) = &mut self.process else {
            return;
        };
        if self.dump.is_some_and(|dump| dump != header.dump) {
            return;
        }
        self.dump = Some(header.dump);
        process.heard_us = now_us;
        if process.ends.is_none() {
            let mut ends = process.begin(header.dump, self.baud_max, &self.stored);
            if !self.library.is_empty() {
                ends.1.want_offers();
            }
            process.ends = Some(ends);
        }
        if let Some((_, answers)) = &mut process.ends {
            answers.frame(header.sequence);
        }
        self.accept(header, payload);
        while let Some((header, payload)) = self.next_recovered() {
            self.accept(header, &payload);
        }
    }

    fn next_recovered(&mut self) -> Option<(Header, Vec<u8>)> {
        let (assembler, _) = self.process.as_mut()?.ends.as_mut()?;
        assembler.next_recovered()
    }

    fn accept(&mut self, header: Header, payload: &[u8]) {
        let Some(process) = &mut self.process else {
            return;
        };
        let Some((assembler, answers)) = &mut process.ends else {
            return;
        };
        match assembler.accept(&Frame { header, payload }) {
            Ok(Outcome::Block(block)) => {
                answers.stored(block.number);
                let hash = block_hash(&block.raw);
                let sequence = header.sequence;
                self.stored.insert(
                    block.number,
                    Stored {
                        block,
                        hash,
                        sequence,
                    },
                );
            }
            Ok(Outcome::Offer(block)) => {
                let mut payload = [0; Want::LEN_MAX];
                let want = assembler.answer(block, |hash| self.library.get(hash).cloned());
                let len = want.and_then(|want| want.encode(&mut payload).ok());
                let frame = answers.frame_of(FrameType::Want, &payload[..len.unwrap_or(0)]);
                process.ready.extend(frame.ok().map(Command::Send));
            }
            Ok(Outcome::Poll) => answers.asked(false),
            Ok(Outcome::Finished(_)) => {
                let is_whole = assembler.verdict().is_whole();
                self.has_finished |= is_whole;
                answers.asked(is_whole);
            }
            Ok(Outcome::Baud(change)) => process.change_baud(change, self.baud_max),
            Ok(_) => {}
            Err(error) => self.errors.push(error),
        }
        if let Some((assembler, answers)) = &mut process.ends {
            self.rejected += u64::from(assembler.rejected().is_some());
            answers.rejected(assembler.rejected());
        }
    }
}

impl Process {
    /// Makes both ends' state, with what earlier processes stored.
    fn begin(
        &self,
        dump: u32,
        baud_max: u32,
        stored: &BTreeMap<u32, Stored>,
    ) -> (Assembler, Answers) {
        let mut assembler = Assembler::new(dump);
        let mut answers = Answers::new(dump, self.session);
        answers.set_baud_max(baud_max);
        for (&number, one) in stored {
            assembler
                .restore(&one.block, one.hash)
                .expect("a block that was stored is right");
            answers.stored(number);
        }
        (assembler, answers)
    }

    /// Takes part in a change of speed.
    fn change_baud(&mut self, BaudChange { step, rate }: BaudChange, baud_max: u32) {
        let is_possible = rate <= baud_max || rate == self.baud;
        let answer = match step {
            Step::Propose if is_possible => Step::Agree,
            Step::Probe if rate == self.baud => Step::Confirm,
            _ => return,
        };
        let Some((_, answers)) = &mut self.ends else {
            return;
        };
        let change = BaudChange { step: answer, rate };
        if let Ok(frame) = answers.frame_of(FrameType::Baud, &change.encode()) {
            self.ready.push(Command::Send(frame));
        }
        if answer == Step::Agree {
            self.baud = rate;
            self.ready.push(Command::SetBaud(rate));
        }
    }
}
