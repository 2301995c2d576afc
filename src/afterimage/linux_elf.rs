// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's ELF (vmlinux), as far as it is needed to hand it to gdb.
//!
//! Its debug information is half a gigabyte that gdb reads itself: here it is not looked at.

use std::path::Path;

use object::{Object as _, ObjectSymbol as _};

use crate::error::{Error, Result};

/// The facts.
#[derive(Debug)]
pub struct LinuxElf {
    build_id: Option<Vec<u8>>,
    panic_cpu: Option<u64>,
}

impl LinuxElf {
    /// Reads the ELF at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be read, [`Error::BadElf`] when it is no ELF for arm64.
    pub fn open(path: &Path) -> Result<Self> {
        let data = std::fs::read(path).map_err(Error::file("read", path))?;
        let bad = |what: String| Error::BadElf {
            path: path.to_path_buf(),
            what,
        };
        let file = object::File::parse(&*data).map_err(|error| bad(error.to_string()))?;
        if file.architecture() != object::Architecture::Aarch64 {
            return Err(bad(format!(
                "it is for {:?}, not arm64",
                file.architecture()
            )));
        }
        let build_id = file
            .build_id()
            .map_err(|error| bad(format!("build ID note: {error}")))?;
        let panic_cpu = file
            .symbols()
            .find(|symbol| symbol.name() == Ok("panic_cpu"));
        Ok(Self {
            build_id: build_id.map(<[u8]>::to_vec),
            panic_cpu: panic_cpu.map(|symbol| symbol.address()),
        })
    }

    /// Returns the GNU build ID.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Returns where `panic_cpu` is linked to: the number of the CPU that panics (kernel/panic.c).
    #[must_use]
    pub const fn panic_cpu(&self) -> Option<u64> {
        self.panic_cpu
    }
}
