// SPDX-License-Identifier: MIT OR Apache-2.0
//! A QEMU `virt` machine: what it is made of, and a running one.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::artefacts;
use crate::console::Console;
use crate::gdb_remote::GdbRemote;
use crate::memory::{Memory, RAM_START};
use crate::qmp::Qmp;
use crate::slots::{self, Slot};
use crate::wait::Deadline;

/// Longest run of one QEMU.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for QEMU to connect to its sockets.
const CONNECT: Duration = Duration::from_secs(15);

/// The exception level that the kernel is entered at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An Image, without virtualization.
    El1,
    /// An Image under `virtualization=on`.
    El2,
    /// The ELF under `secure=on`. QEMU starts every CPU there, so there may be one only.
    El3,
}

/// What a machine is made of. Defaults: 128 MiB, one cortex-a72, GICv2, EL1, the system kernel.
#[derive(Clone, Debug)]
pub struct Machine {
    memory_mib: Vec<u64>,
    memory_start: u64,
    cpu: String,
    cpus: usize,
    gic: u32,
    entry: Entry,
    board: Option<String>,
    kernel: Option<PathBuf>,
    first_serial: Option<&'static str>,
    initrd: Option<PathBuf>,
    append: Vec<String>,
    extra: Vec<String>,
    is_held_at_first_frame: bool,
    is_paused: bool,
    has_gdb: bool,
    limit: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// The default machine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory_mib: vec![128],
            memory_start: RAM_START,
            cpu: "cortex-a72".into(),
            cpus: 1,
            gic: 2,
            entry: Entry::El1,
            board: None,
            kernel: None,
            first_serial: None,
            initrd: None,
            append: Vec::new(),
            extra: Vec::new(),
            is_held_at_first_frame: false,
            is_paused: false,
            has_gdb: false,
            limit: LIMIT,
        }
    }

    /// Sets the size of RAM.
    #[must_use]
    pub fn memory_mib(self, mib: u64) -> Self {
        self.memory_nodes(&[mib])
    }

    /// Gives RAM as several NUMA nodes, each of which is a range of its own in the DTB.
    #[must_use]
    pub fn memory_nodes(mut self, mib: &[u64]) -> Self {
        self.memory_mib = mib.to_vec();
        self
    }

    /// Sets the CPU model.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Self {
        self.cpu = model.into();
        self
    }

    /// Sets the number of CPUs.
    #[must_use]
    pub fn cpus(mut self, number: usize) -> Self {
        self.cpus = number;
        self
    }

    /// Sets the version of the interrupt controller.
    #[must_use]
    pub fn gic(mut self, version: u32) -> Self {
        self.gic = version;
        self
    }

    /// Sets the exception level of the entry.
    #[must_use]
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entry = entry;
        self
    }

    /// Another machine of QEMU than `virt`, with the CPUs and the interrupt controller that it has.
    #[must_use]
    pub fn board(mut self, name: &str) -> Self {
        self.board = Some(name.into());
        self
    }

    /// Puts the start of RAM elsewhere than `virt` has it.
    #[must_use]
    pub fn memory_start(mut self, at: u64) -> Self {
        self.memory_start = at;
        self
    }

    /// QEMU's Raspberry Pi 3 or 4 with the kernel for them, and no device tree. What its PL011 says goes to `pl011` in the run's directory; the
    /// line is the mini UART.
    #[must_use]
    pub fn pi(mut self, number: u32) -> Self {
        // The size that QEMU gives each board.
        self.memory_mib = vec![if number == 3 { 1024 } else { 2048 }];
        self.memory_start = 0;
        self.kernel = Some(artefacts::image_of("raspberry-pi", "kernel.Image"));
        self.first_serial = Some("file:pl011");
        self.board(&format!("raspi{number}b"))
    }

    /// Boots `path` instead of the system kernel.
    #[must_use]
    pub fn kernel(mut self, path: PathBuf) -> Self {
        self.kernel = Some(path);
        self
    }

    /// Loads `path` as initrd.
    #[must_use]
    pub fn initrd(mut self, path: PathBuf) -> Self {
        self.initrd = Some(path);
        self
    }

    /// Adds to the kernel's command line.
    #[must_use]
    pub fn append(mut self, parameters: &str) -> Self {
        self.append.push(parameters.into());
        self
    }

    /// Adds arguments of QEMU.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Stops reading the line at the first frame, until [`Console::release`].
    #[must_use]
    pub fn held_at_first_frame(mut self) -> Self {
        self.is_held_at_first_frame = true;
        self
    }

    /// Starts with the CPUs stopped, until [`Running::go_on`].
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.is_paused = true;
        self
    }

    /// Connects QEMU's gdbstub, which keeps the CPUs stopped until [`GdbRemote::go_on`].
    #[must_use]
    pub fn with_gdb(mut self) -> Self {
        self.has_gdb = true;
        self
    }

    /// Lets it run longer than [`LIMIT`].
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts QEMU.
    ///
    /// # Panics
    /// It does not start, or does not connect to its sockets.
    #[must_use]
    pub fn start(self) -> Running {
        let slot = slots::take();
        let dir = tempfile::Builder::new()
            .prefix("bb")
            .tempdir()
            .expect("a temporary directory");
        let deadline = Deadline::after(self.limit);
        let memory = Memory::create(dir.path(), self.memory_start, &self.memory_mib);
        // QEMU is the client of each socket, so that it cannot be too early for it.
        let listen = |name: &str| UnixListener::bind(dir.path().join(name)).expect("a socket");
        let (line, qmp, gdb) = (
            listen("line"),
            listen("qmp"),
            self.has_gdb.then(|| listen("gdb")),
        );
        let log = dir.path().join("qemu.log");
        let child = self
            .command(dir.path())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-system-aarch64 does not start: {error}"));
        let mut qemu = Qemu { child, log };
        let line = accept(&line, &mut qemu);
        let qmp = Qmp::new(accept(&qmp, &mut qemu));
        let gdb = gdb.map(|gdb| GdbRemote::new(accept(&gdb, &mut qemu)));
        let console = Console::new(line, self.is_held_at_first_frame, deadline);
        Running {
            console,
            qmp,
            gdb,
            memory,
            qemu,
            deadline,
            dir,
            elf: self.kernel_file().with_extension("elf"),
            slot,
        }
    }

    fn kernel_file(&self) -> PathBuf {
        let default = if self.entry == Entry::El3 {
            "kernel.elf"
        } else {
            "kernel.Image"
        };
        let kernel = self.kernel.clone();
        kernel.unwrap_or_else(|| artefacts::image(default))
    }

    fn command(&self, dir: &Path) -> Command {
        let socket = |id: &str| format!("socket,id={id},path={}", dir.join(id).display());
        let mut machine = match &self.board {
            Some(board) => board.clone(),
            None => format!("virt,gic-version={}", self.gic),
        };
        match self.entry {
            Entry::El1 => {}
            Entry::El2 => machine.push_str(",virtualization=on"),
            Entry::El3 => machine.push_str(",secure=on"),
        }
        let mut command = Command::new("qemu-system-aarch64");
        for (number, mib) in self.memory_mib.iter().enumerate() {
            let path = dir.join(format!("ram{number}"));
            command.args([
                "-object",
                &format!(
                    "memory-backend-file,id=ram{number},size={mib}M,mem-path={},share=on",
                    path.display()
                ),
            ]);
            if self.memory_mib.len() > 1 {
                command.args(["-numa", &format!("node,nodeid={number},memdev=ram{number}")]);
            }
        }
        if self.memory_mib.len() == 1 {
            machine.push_str(",memory-backend=ram0");
        }
        command.args(["-M", &machine]);
        if self.board.is_none() {
            command.args(["-cpu", &self.cpu, "-smp", &self.cpus.to_string()]);
        }
        command.args(["-m", &format!("{}M", self.memory_mib.iter().sum::<u64>())]);
        command.args(["-nodefaults", "-nic", "none", "-display", "none"]);
        if let Some(first) = self.first_serial {
            command.args(["-serial", first]);
        }
        command.args(["-chardev", &socket("line"), "-serial", "chardev:line"]);
        command.args([
            "-chardev",
            &socket("qmp"),
            "-mon",
            "chardev=qmp,mode=control",
        ]);
        if self.has_gdb {
            command.args(["-chardev", &socket("gdb"), "-gdb", "chardev:gdb"]);
        }
        if self.is_paused || self.has_gdb {
            command.arg("-S");
        }
        command.arg("-kernel").arg(self.kernel_file());
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        command
            .args(["-append", &self.append.join(" ")])
            .args(&self.extra);
        command
    }
}

/// The process, killed on drop.
#[derive(Debug)]
struct Qemu {
    child: Child,
    log: PathBuf,
}

impl Qemu {
    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of QEMU")
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running machine. QEMU is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Its serial line.
    pub console: Console,
    /// Its QMP session.
    pub qmp: Qmp,
    /// The gdbstub, if it was asked for.
    pub gdb: Option<GdbRemote>,
    /// Its RAM.
    pub memory: Memory,
    qemu: Qemu,
    deadline: Deadline,
    dir: TempDir,
    elf: PathBuf,
    #[expect(dead_code, reason = "held until QEMU is gone")]
    slot: Slot,
}

impl Running {
    /// The ELF of the kernel that it booted, beside the Image.
    #[must_use]
    pub fn elf(&self) -> &Path {
        &self.elf
    }

    /// A directory of this run's own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets a machine go on that was started paused.
    pub fn go_on(&mut self) {
        self.qmp.execute("cont", json!({}));
    }

    /// Waits until CPU `cpu` executes in `code`.
    ///
    /// # Panics
    /// It does not come there.
    pub fn wait_for_cpu_in(&mut self, cpu: usize, code: &Range<u64>) {
        let arrived = self.deadline.poll(|| {
            let pc = program_counter(&mut self.qmp, cpu);
            pc.is_some_and(|pc| code.contains(&pc)).then_some(())
        });
        assert!(
            arrived.is_some(),
            "CPU {cpu} did not come to {code:x?}:\n{}",
            self.console.transcript()
        );
    }

    /// What QEMU's monitor reads at physical address `at`, which may be a device's.
    ///
    /// # Panics
    /// It reads nothing.
    pub fn read_physical_word(&mut self, at: u64) -> u32 {
        let arguments = json!({ "command-line": format!("xp /1wx {at:#x}") });
        let text = self.qmp.execute("human-monitor-command", arguments);
        let word = text.as_str().and_then(|text| text.rsplit_once("0x"));
        let word = word.and_then(|(_, word)| u32::from_str_radix(word.trim(), 16).ok());
        word.unwrap_or_else(|| panic!("xp at {at:#x}: {text}"))
    }

    /// Whether QEMU still runs.
    pub fn is_alive(&mut self) -> bool {
        self.qemu.exit_status().is_none()
    }

    /// Waits for QEMU to end by itself.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        match self.deadline.poll(|| self.qemu.exit_status()) {
            Some(status) => status,
            None => panic!("QEMU did not end:\n{}", self.console.transcript()),
        }
    }
}

/// What QEMU's monitor says of the PC of CPU `cpu`.
fn program_counter(qmp: &mut Qmp, cpu: usize) -> Option<u64> {
    let arguments = json!({ "command-line": "info registers", "cpu-index": cpu });
    let text = qmp.execute("human-monitor-command", arguments);
    let (_, rest) = text.as_str()?.split_once("PC=")?;
    u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
}

fn accept(listener: &UnixListener, qemu: &mut Qemu) -> UnixStream {
    listener
        .set_nonblocking(true)
        .expect("a socket that does not block");
    let accepted = Deadline::after(CONNECT).poll(|| match listener.accept() {
        Ok((stream, _)) => Some(Some(stream)),
        Err(_) => qemu.exit_status().map(|_| None),
    });
    match accepted {
        Some(Some(stream)) => {
            stream.set_nonblocking(false).expect("a socket that blocks");
            stream
        }
        _ => panic!("QEMU did not come up: {}", qemu.messages()),
    }
}
