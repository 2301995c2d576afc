// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages of a crashed Linux makedumpfile leaves out at each bit of its level, and which we do.
//!
//! Usage: `page-classes FILE MAKEDUMPFILE`. FILE is a dump that lacks nothing (`dump_level=1`), or a RAM image as
//! `scripts/linux-guest --ram-image` makes it, of which a vmcore is made. Prints the table of docs/benchmarks.md, section
//! "Page classes", then every page of which the two say different things; exit 1 if there are any. makedumpfile is run once
//! for each bit; what it left out is read from the bitmap of what it wrote.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use peers::RAM_START;
use vmcore::linux::{Buffers, LinearMap, PageClasses, Vmcoreinfo};
use vmcore::notes::{Notes, VMCOREINFO};
use vmcore::{DumpLevel, FaultCause, PAGE_SIZE, PageClass, PhysMemory, ReadFault};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The bits that leave out by page class, what makedumpfile calls that, and which of our classes that is.
const BITS: [(u32, &str, &[PageClass]); 4] = [
    (2, "cache without private data", &[PageClass::Cache]),
    (4, "cache", &[PageClass::Cache, PageClass::PrivateCache]),
    (8, "user data", &[PageClass::User]),
    (16, "free", &[PageClass::Free]),
];

/// The memory in a vmcore.
struct Core {
    file: File,
    /// Physical address, offset in the file, bytes.
    loads: Vec<(u64, u64, u64)>,
}

impl PhysMemory for Core {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> std::result::Result<(), ReadFault> {
        let fault = ReadFault {
            address: pa,
            cause: FaultCause::NotRam,
        };
        let holds = |(start, _, len): &&(u64, u64, u64)| {
            pa >= *start && pa - start + buf.len() as u64 <= *len
        };
        let (start, offset, _) = self.loads.iter().find(holds).ok_or(fault)?;
        let read = self.file.read_exact_at(buf, offset + (pa - start));
        read.map_err(|_| fault)
    }
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, makedumpfile] = &args[..] else {
        return Err("usage: page-classes FILE MAKEDUMPFILE".into());
    };
    let dir = tempfile::tempdir()?;
    let mut vmcore = PathBuf::from(file);
    if !has_elf_magic(&vmcore)? {
        vmcore = dir.path().join("vmcore");
        fs::write(&vmcore, core_of(&fs::read(file)?)?)?;
    }
    let (mut core, notes) = open(&vmcore)?;
    let note = Notes::new(&notes)
        .find(|note| note.name == VMCOREINFO.as_bytes())
        .ok_or("no VMCOREINFO")?;
    let info = Vmcoreinfo::new(note.desc);
    let frames: BTreeSet<u64> = core
        .loads
        .iter()
        .flat_map(|&(start, _, len)| start / PAGE_SIZE..(start + len) / PAGE_SIZE)
        .collect();
    let ours = classes(&mut core, &info, &frames)?;
    println!(
        "Linux {}, {} pages, {}",
        info.text("OSRELEASE")?,
        frames.len(),
        version(makedumpfile)?
    );
    println!("| level | class | makedumpfile | Afterimage | only the one | only the other |");
    println!("|---|---|---|---|---|---|");
    let mut differing = Vec::new();
    for (bit, name, classes) in BITS {
        let theirs = left_out(makedumpfile, &vmcore, bit, &frames)?;
        let is_ours =
            |(frame, class): (&u64, &PageClass)| classes.contains(class).then_some(*frame);
        let ours: BTreeSet<u64> = ours.iter().filter_map(is_ours).collect();
        let only_theirs: Vec<u64> = theirs.difference(&ours).copied().collect();
        let only_ours: Vec<u64> = ours.difference(&theirs).copied().collect();
        println!(
            "| {bit} | {name} | {} | {} | {} | {} |",
            theirs.len(),
            ours.len(),
            only_theirs.len(),
            only_ours.len()
        );
        let of = |who| move |frame: u64| format!("level {bit}: page {frame:#x} only by {who}");
        differing.extend(only_theirs.into_iter().map(of("makedumpfile")));
        differing.extend(only_ours.into_iter().map(of("Afterimage")));
    }
    for class in [PageClass::Cache, PageClass::PrivateCache] {
        let count = ours.values().filter(|found| **found == class).count();
        println!("{}: {count}", class.name());
    }
    differing.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::from(u8::from(!differing.is_empty())))
}

fn has_elf_magic(path: &Path) -> Result<bool> {
    let mut magic = [0; 4];
    File::open(path)?.read_exact_at(&mut magic, 0)?;
    Ok(magic == *b"\x7fELF")
}

/// Makes a vmcore of the RAM of QEMU's `virt`, with the VMCOREINFO note that Linux keeps in it.
fn core_of(ram: &[u8]) -> Result<Vec<u8>> {
    // Name of 11 bytes, then what it is of, then type 0.
    let is_note = |at: &usize| {
        let note = ram.get(*at..*at + 24);
        note.is_some_and(|note| {
            note[..4] == [11, 0, 0, 0] && note[8..] == *b"\0\0\0\0VMCOREINFO\0\0"
        })
    };
    let at = (0..ram.len())
        .step_by(4)
        .filter(is_note)
        .find(|at| ram[at + 24..].starts_with(b"OSRELEASE="))
        .ok_or("no VMCOREINFO in this RAM image")?;
    let len = u32::from_le_bytes(ram[at + 4..at + 8].try_into()?) as usize;
    let note = &ram[at..at + 24 + len.next_multiple_of(4)];
    let info = Vmcoreinfo::new(&note[24..]);
    let linear = LinearMap::of(&info)?;
    let vaddr = linear.va_of(RAM_START).ok_or("RAM has no linear map")?;
    let segments = [
        (PT_NOTE, 0, 0, PAGE_SIZE, note.len() as u64),
        (PT_LOAD, vaddr, RAM_START, 2 * PAGE_SIZE, ram.len() as u64),
    ];
    let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let (core_file, aarch64, version) = (4_u16, 183_u16, 1_u32);
    core.extend(core_file.to_le_bytes());
    core.extend(aarch64.to_le_bytes());
    core.extend(version.to_le_bytes());
    // Entry, program headers, section headers.
    core.extend([0, 64, 0_u64].map(u64::to_le_bytes).as_flattened());
    core.extend([0; 4]);
    let sizes = [64, 56, segments.len() as u16, 0, 0, 0];
    core.extend(sizes.map(u16::to_le_bytes).as_flattened());
    for (kind, vaddr, paddr, offset, len) in segments {
        core.extend([kind.0, 7].map(u32::to_le_bytes).as_flattened());
        let fields = [offset, vaddr, paddr, len, len, 0];
        core.extend(fields.map(u64::to_le_bytes).as_flattened());
    }
    core.resize(PAGE_SIZE as usize, 0);
    core.extend(note);
    core.resize(2 * PAGE_SIZE as usize, 0);
    core.extend(ram);
    Ok(core)
}

/// Returns the memory of a vmcore, and its notes.
fn open(path: &Path) -> Result<(Core, Vec<u8>)> {
    let file = File::open(path)?;
    let mut head = vec![0; 0x1_0000];
    file.read_exact_at(&mut head, 0)?;
    let elf = FileHeader64::<LittleEndian>::parse(&head[..])?;
    let endian = elf.endian()?;
    let (mut loads, mut notes) = (Vec::new(), Vec::new());
    for segment in elf.program_headers(endian, &head[..])? {
        let (offset, len) = (segment.p_offset(endian), segment.p_filesz(endian));
        match segment.p_type(endian) {
            PT_LOAD => loads.push((segment.p_paddr(endian), offset, len)),
            PT_NOTE => {
                let mut bytes = vec![0; usize::try_from(len)?];
                file.read_exact_at(&mut bytes, offset)?;
                notes.append(&mut bytes);
            }
            _ => {}
        }
    }
    Ok((Core { file, loads }, notes))
}

/// Returns the class of each page that we leave out at the highest level.
fn classes(
    core: &mut Core,
    info: &Vmcoreinfo<'_>,
    frames: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, PageClass>> {
    let mut buffers = Buffers::new();
    let mut classes = PageClasses::open(info, core, &mut buffers)?;
    let level = DumpLevel(DumpLevel::ALL);
    let class = |&frame: &u64| Some((frame, classes.class(core, frame * PAGE_SIZE, level)?));
    let found: BTreeMap<u64, PageClass> = frames.iter().filter_map(class).collect();
    if let Some(frame) = classes.first_unread() {
        println!("the structure of page {frame:#x} could not be read");
    }
    Ok(found)
}

fn version(makedumpfile: &str) -> Result<String> {
    let output = Command::new(makedumpfile).arg("-v").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Runs makedumpfile at one bit and returns the pages that it left out.
fn left_out(
    makedumpfile: &str,
    vmcore: &Path,
    bit: u32,
    frames: &BTreeSet<u64>,
) -> Result<BTreeSet<u64>> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("dump");
    let run = Command::new(makedumpfile)
        .args(["-c", "-d", &bit.to_string()])
        .args([vmcore, &out])
        .output()?;
    if !run.status.success() {
        return Err(format!(
            "makedumpfile -d {bit}: {}\n{}{}",
            run.status,
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        )
        .into());
    }
    let dump = fs::read(&out)?;
    // struct disk_dump_header: block size, blocks of the sub header, blocks of the two bitmaps.
    let field = |at: usize| -> Result<usize> {
        let bytes = dump.get(at..at + 4).ok_or("no dump header")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let (block, sub_header, bitmaps) = (field(428)?, field(432)?, field(436)?);
    let second = (1 + sub_header + bitmaps / 2) * block;
    let bitmap = dump
        .get(second..second + bitmaps / 2 * block)
        .ok_or("no bitmap")?;
    let is_there = |frame: u64| {
        let byte = bitmap.get((frame / 8) as usize).copied().unwrap_or(0);
        byte >> (frame % 8) & 1 == 1
    };
    let missing = frames.iter().copied().filter(|frame| !is_there(*frame));
    Ok(missing.collect())
}
