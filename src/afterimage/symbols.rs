// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ELF of the crashed program: build ID, where its code is, names and lines of addresses, unwind tables.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::{DebugFrame, EhFrame, EndianArcSlice, LittleEndian};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};

use crate::error::{Error, Result};

/// Bytes of a section, shared.
pub type Bytes = EndianArcSlice<LittleEndian>;

/// The unwind tables of an ELF.
#[derive(Debug)]
pub struct FrameTables {
    /// `.debug_frame`.
    pub debug_frame: DebugFrame<Bytes>,
    /// `.eh_frame`.
    pub eh_frame: EhFrame<Bytes>,
    /// Where the sections lie, for pc-relative pointers in `.eh_frame`.
    pub bases: gimli::BaseAddresses,
}

/// One line of a backtrace: a function, perhaps inlined, and where in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFrame {
    /// Demangled name, `None` where the ELF names none.
    pub function: Option<String>,
    /// File and line.
    pub location: Option<(String, u32)>,
}

/// A segment that the program cannot write.
#[derive(Debug, Clone)]
pub struct FixedSegment {
    /// Virtual address.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is executable.
    pub is_code: bool,
}

/// An ELF with symbols.
pub struct Symbols {
    path: PathBuf,
    build_id: Option<Vec<u8>>,
    /// Executable segments: where, and what of them is in the file.
    code: Vec<(Range<u64>, Vec<u8>)>,
    fixed: Vec<FixedSegment>,
    /// Functions and data by address: (begin, end, mangled name).
    names: Vec<(u64, u64, String)>,
    lines: addr2line::Context<Bytes>,
    frames: FrameTables,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn section(file: &object::File<'_>, name: &str) -> Bytes {
    let data = file
        .section_by_name(name)
        .and_then(|s| s.data().ok())
        .unwrap_or_default();
    EndianArcSlice::new(Arc::from(data), LittleEndian)
}

fn section_address(file: &object::File<'_>, name: &str) -> u64 {
    file.section_by_name(name).map_or(0, |s| s.address())
}

impl Symbols {
    /// Reads the ELF at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be read, [`Error::BadElf`] when it is no ELF of an arm64 program.
    pub fn open(path: &Path) -> Result<Self> {
        let data = std::fs::read(path).map_err(Error::file("read", path))?;
        Self::parse(path, &data)
    }

    fn parse(path: &Path, data: &[u8]) -> Result<Self> {
        let bad = |what: String| Error::BadElf {
            path: path.to_path_buf(),
            what,
        };
        let file = object::File::parse(data).map_err(|e| bad(e.to_string()))?;
        if file.architecture() != object::Architecture::Aarch64 || !file.is_little_endian() {
            return Err(bad(format!(
                "it is for {:?}, not little-endian arm64",
                file.architecture()
            )));
        }
        let build_id = file
            .build_id()
            .map_err(|e| bad(format!("build ID note: {e}")))?
            .map(<[u8]>::to_vec);
        let flags = |segment: &object::Segment<'_, '_>| match segment.flags() {
            object::SegmentFlags::Elf { p_flags, .. } => p_flags,
            _ => object::elf::PF_W,
        };
        let has = |segment: &object::Segment<'_, '_>, flag| (flags(segment) & flag).0 != 0;
        let bytes = |segment: &object::Segment<'_, '_>| segment.data().unwrap_or_default().to_vec();
        let code = file
            .segments()
            .filter(|s| has(s, object::elf::PF_X))
            .map(|s| {
                let range = s.address()..s.address().saturating_add(s.size());
                (range, bytes(&s))
            })
            .collect();
        let fixed = file
            .segments()
            .filter(|s| !has(s, object::elf::PF_W))
            .map(|s| FixedSegment {
                address: s.address(),
                bytes: bytes(&s),
                is_code: has(&s, object::elf::PF_X),
            })
            .collect();
        let mut names: Vec<(u64, u64, String)> = file
            .symbols()
            // Assembly labels have no type; mapping symbols ($x, $d) are no names.
            .filter(|s| {
                matches!(
                    s.kind(),
                    SymbolKind::Text | SymbolKind::Data | SymbolKind::Unknown
                ) && s.is_definition()
            })
            .filter_map(|s| {
                let name = s
                    .name()
                    .ok()
                    .filter(|n| !n.is_empty() && !n.starts_with('$'))?;
                let end = s.address().saturating_add(s.size());
                Some((s.address(), end, name.to_owned()))
            })
            .collect();
        names.sort_by_key(|f| (f.0, f.1));
        let mut dwarf = gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(section(&file, id.name())))
            .map_err(|e| bad(format!("debug information: {e}")))?;
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let lines = addr2line::Context::from_dwarf(dwarf)
            .map_err(|e| bad(format!("debug information: {e}")))?;
        let mut debug_frame = DebugFrame::from(section(&file, ".debug_frame"));
        debug_frame.set_address_size(8);
        let mut eh_frame = EhFrame::from(section(&file, ".eh_frame"));
        eh_frame.set_address_size(8);
        let bases = gimli::BaseAddresses::default()
            .set_eh_frame(section_address(&file, ".eh_frame"))
            .set_text(section_address(&file, ".text"))
            .set_got(section_address(&file, ".got"));
        Ok(Self {
            path: path.to_path_buf(),
            build_id,
            code,
            fixed,
            names,
            lines,
            frames: FrameTables {
                debug_frame,
                eh_frame,
                bases,
            },
        })
    }

    /// Returns where the ELF was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the GNU build ID.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Accepts the ELF as the one that crashed.
    ///
    /// # Errors
    ///
    /// [`Error::WrongElf`] when its build ID is not `expected`.
    pub fn require_build_id(&self, expected: &[u8]) -> Result<()> {
        require_same(&self.path, self.build_id(), expected)
    }

    /// Returns the unwind tables.
    #[must_use]
    pub const fn frame_tables(&self) -> &FrameTables {
        &self.frames
    }

    /// Returns the segments that the program cannot write.
    #[must_use]
    pub fn fixed_segments(&self) -> &[FixedSegment] {
        &self.fixed
    }

    /// Returns whether `address` lies in an executable segment.
    #[must_use]
    pub fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|(range, _)| range.contains(&address))
    }

    /// Returns the instruction at `address`.
    #[must_use]
    pub fn instruction(&self, address: u64) -> Option<u32> {
        let (range, bytes) = self
            .code
            .iter()
            .find(|(range, _)| range.contains(&address))?;
        let start = usize::try_from(address.checked_sub(range.start)?).ok()?;
        let word = bytes.get(start..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*word))
    }

    /// Returns the functions at `address`, innermost inlined one first; empty where nothing is known.
    #[must_use]
    pub fn source_frames(&self, address: u64) -> Vec<SourceFrame> {
        let mut frames = self.dwarf_frames(address).unwrap_or_default();
        if frames.iter().all(|f| f.function.is_none())
            && let Some(name) = self.symbol(address)
        {
            let location = frames.first().and_then(|f| f.location.clone());
            frames = vec![SourceFrame {
                function: Some(name),
                location,
            }];
        }
        frames
    }

    fn dwarf_frames(&self, address: u64) -> std::result::Result<Vec<SourceFrame>, gimli::Error> {
        let mut found = Vec::new();
        let unit = self.lines.find_dwarf_and_unit(address).skip_all_loads();
        let folder = unit.and_then(|unit| unit.comp_dir.clone());
        let folder = folder.as_ref().map(|f| String::from_utf8_lossy(f.bytes()));
        let mut frames = self.lines.find_frames(address).skip_all_loads()?;
        while let Some(frame) = frames.next()? {
            let function = match &frame.function {
                Some(name) => Some(demangle(&name.raw_name()?)),
                None => None,
            };
            // What the compiler gave a linkage name of its own (the panic handler) is known by the source's name.
            let source_name = || source_name(unit.as_ref()?, frame.dw_die_offset?).ok()?;
            let is_own = |name: &String| name.starts_with("__rustc::");
            let function = match function {
                Some(name) if is_own(&name) => source_name().or(Some(name)),
                function => function,
            };
            let location = frame.location.and_then(|l| {
                let file = l.file?;
                Some((shown_path(file, folder.as_deref()).to_owned(), l.line?))
            });
            if function.is_some() || location.is_some() {
                found.push(SourceFrame { function, location });
            }
        }
        Ok(found)
    }

    fn symbol(&self, address: u64) -> Option<String> {
        self.locate(address).map(|(name, _)| name)
    }

    /// Returns the name of the symbol that `address` lies in, and how far: data too, since a jump may end there. A label
    /// without a size reaches to the next symbol.
    #[must_use]
    pub fn locate(&self, address: u64) -> Option<(String, u64)> {
        let is_code = self.is_code(address);
        let after = self.names.partition_point(|(begin, ..)| *begin <= address);
        let candidates = self.names.get(..after)?;
        candidates
            .iter()
            .rev()
            .take(16)
            .find(|(begin, end, _)| address < *end || (begin == end && is_code))
            .map(|(begin, _, name)| (demangle(name), address.saturating_sub(*begin)))
    }
}

/// Returns the name that the source gives a function, with the modules it stands in.
fn source_name(
    unit: &gimli::UnitRef<'_, Bytes>,
    function: gimli::UnitOffset,
) -> std::result::Result<Option<String>, gimli::Error> {
    let mut entries = unit.entries();
    // Depth and name of the namespaces that are open.
    let mut path: Vec<(isize, String)> = Vec::new();
    while let Some(entry) = entries.next_dfs()? {
        let depth = entry.depth();
        path.retain(|(outer, _)| *outer < depth);
        let is_wanted = entry.offset() == function;
        if !is_wanted && entry.tag() != gimli::DW_TAG_namespace {
            continue;
        }
        let Some(name) = entry.attr_value(gimli::DW_AT_name) else {
            return Ok(None);
        };
        let name = unit.attr_string(name)?;
        path.push((depth, String::from_utf8_lossy(name.bytes()).into_owned()));
        if is_wanted {
            let names: Vec<_> = path.into_iter().map(|(_, name)| name).collect();
            return Ok(Some(names.join("::")));
        }
    }
    Ok(None)
}

/// Returns `file` as gdb shows it: relative to the folder that it was compiled in.
fn shown_path<'a>(file: &'a str, folder: Option<&str>) -> &'a str {
    folder
        .and_then(|folder| file.strip_prefix(folder))
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(file)
}

/// Returns `name` demangled, without its hash.
#[must_use]
pub fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// Returns `bytes` in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Accepts an ELF with the build ID `found`.
///
/// # Errors
///
/// [`Error::WrongElf`] when that is not `expected`.
pub fn require_same(path: &Path, found: Option<&[u8]>, expected: &[u8]) -> Result<()> {
    if found == Some(expected) {
        return Ok(());
    }
    Err(Error::WrongElf {
        path: path.to_path_buf(),
        found: found.map_or_else(|| "absent".to_owned(), hex),
        expected: hex(expected),
    })
}

/// Finds the ELF whose build ID is `build_id` among `paths`; a directory is searched, not descended into.
///
/// # Errors
///
/// [`Error::WrongElf`] when a *file* that was named is another build; [`Error::File`] when one cannot be read.
pub fn find_matching(paths: &[PathBuf], build_id: Option<&[u8]>) -> Result<Option<Symbols>> {
    let mut wrong = None;
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(Error::file("read", path))?;
            for entry in entries.filter_map(std::result::Result::ok) {
                // A directory may hold anything; what is no ELF is passed over.
                if let Ok(symbols) = Symbols::open(&entry.path())
                    && build_id.is_some()
                    && symbols.build_id() == build_id
                {
                    return Ok(Some(symbols));
                }
            }
            continue;
        }
        let symbols = Symbols::open(path)?;
        match build_id {
            // A dump without a build ID cannot be matched; the file that was named is believed.
            None => return Ok(Some(symbols)),
            Some(expected) => match symbols.require_build_id(expected) {
                Ok(()) => return Ok(Some(symbols)),
                Err(error) => wrong = Some(error),
            },
        }
    }
    wrong.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_lose_their_hash() {
        assert_eq!(
            demangle("_ZN6kernel5crash7trigger17h0123456789abcdefE"),
            "kernel::crash::trigger"
        );
        assert_eq!(demangle("vector_table"), "vector_table");
    }

    #[test]
    fn paths_are_shown_relative_to_their_folder() {
        assert_eq!(shown_path("/build/src/a.rs", Some("/build")), "src/a.rs");
        assert_eq!(shown_path("/builder/a.rs", Some("/build")), "/builder/a.rs");
        assert_eq!(shown_path("/build/a.rs", None), "/build/a.rs");
    }

    #[test]
    fn text_file_is_no_elf() {
        let error = Symbols::parse(Path::new("x"), b"hello").expect_err("no ELF");
        assert!(matches!(error, Error::BadElf { .. }), "{error}");
    }

    #[test]
    fn elf_of_another_machine_is_rejected() {
        let this = std::env::current_exe().expect("own path");
        let error = Symbols::open(&this);
        let is_arm64 = cfg!(target_arch = "aarch64");
        assert_eq!(error.is_ok(), is_arm64);
    }

    #[test]
    fn hex_pads_each_byte() {
        assert_eq!(hex(&[0, 0xab, 5]), "00ab05");
    }

    #[test]
    fn directory_without_elf_matches_nothing() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("note.txt"), "text").expect("write");
        let found = find_matching(&[dir.path().to_path_buf()], Some(&[1])).expect("search");
        assert!(found.is_none());
    }
}
