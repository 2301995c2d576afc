// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small client of QEMU's gdbstub (GDB manual, appendix E: the remote serial protocol).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest wait for an answer, or for a breakpoint.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session.
#[derive(Debug)]
pub struct GdbRemote {
    stream: UnixStream,
    /// `regnum` of each system register, by name.
    system_registers: Vec<(String, u64)>,
}

impl GdbRemote {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit on a socket");
        let mut gdb = Self {
            stream,
            system_registers: Vec::new(),
        };
        gdb.request("qSupported:xmlRegisters=aarch64;multiprocess+");
        // Asking for the description of the target makes QEMU number its registers.
        let target = gdb.feature("target.xml");
        let file = target
            .split('"')
            .find(|text| text.starts_with("system-registers"))
            .unwrap_or("system-registers.xml");
        let description = gdb.feature(file);
        gdb.system_registers = described_registers(&description);
        gdb
    }

    /// Sets (or removes) a hardware breakpoint.
    pub fn hardware_breakpoint(&mut self, address: u64, is_set: bool) {
        let letter = if is_set { 'Z' } else { 'z' };
        let answer = self.request(&format!("{letter}1,{address:x},4"));
        assert_eq!(answer, "OK", "hardware breakpoint at {address:#x}");
    }

    /// Lets the CPUs go on and does not wait.
    pub fn go_on(&mut self) {
        self.send("vCont;c");
    }

    /// Stops the CPUs.
    pub fn interrupt(&mut self) {
        self.stream.write_all(b"\x03").expect("the gdbstub");
        self.wait_for_stop();
    }

    /// Waits for the CPUs to stop; what follows is about the CPU that did.
    pub fn wait_for_stop(&mut self) {
        let reason = self.receive();
        assert!(
            reason.starts_with('T'),
            "stopped for another reason: {reason}"
        );
    }

    /// x0 to x30, SP and PC.
    pub fn general_registers(&mut self) -> Vec<u64> {
        let bytes = from_hex(&self.request("g"));
        bytes.chunks_exact(8).take(33).map(little_endian).collect()
    }

    /// PSTATE, as SPSR has it: the register behind those, number 33.
    pub fn pstate(&mut self) -> u64 {
        little_endian(&from_hex(&self.request("p21")))
    }

    /// A system register by its name in the architecture.
    ///
    /// # Panics
    /// QEMU knows none of that name.
    pub fn system_register(&mut self, name: &str) -> u64 {
        let number = self
            .system_registers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, number)| *number);
        let Some(number) = number else {
            panic!("QEMU's gdbstub knows no register {name}")
        };
        little_endian(&from_hex(&self.request(&format!("p{number:x}"))))
    }

    fn feature(&mut self, file: &str) -> String {
        let mut text = String::new();
        loop {
            let part = self.request(&format!("qXfer:features:read:{file}:{:x},ffb", text.len()));
            let (more, part) = part.split_at_checked(1).unwrap_or_default();
            text.push_str(part);
            if more != "m" {
                return text;
            }
        }
    }

    fn request(&mut self, request: &str) -> String {
        self.send(request);
        self.receive()
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.stream
            .write_all(format!("${packet}#{sum:02x}").as_bytes())
            .expect("the gdbstub");
    }

    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut packet = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                // Escaped: the next byte with bit 5 turned.
                b'}' => packet.push(self.byte() ^ 0x20),
                // A run: the byte before it, as often as the next one says.
                b'*' => {
                    let count = usize::from(self.byte().saturating_sub(29));
                    let last = packet.last().copied().unwrap_or(b'0');
                    packet.extend(std::iter::repeat_n(last, count));
                }
                byte => packet.push(byte),
            }
        }
        let _checksum = [self.byte(), self.byte()];
        self.stream.write_all(b"+").expect("the gdbstub");
        String::from_utf8_lossy(&packet).into_owned()
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("the gdbstub does not answer: {error}"));
        byte[0]
    }
}

/// Names and numbers in `<reg name="X" bitsize="64" regnum="N" .../>`. A register without a number follows the one before.
fn described_registers(xml: &str) -> Vec<(String, u64)> {
    let mut next = 0;
    let mut found = Vec::new();
    for tag in xml.split('<').filter(|tag| tag.starts_with("reg ")) {
        let attribute = |name: &str| {
            tag.split_once(&format!("{name}=\""))
                .and_then(|(_, rest)| rest.split('"').next())
        };
        let number = attribute("regnum")
            .and_then(|text| text.parse().ok())
            .unwrap_or(next);
        next = number + 1;
        found.extend(attribute("name").map(|name| (name.to_owned(), number)));
    }
    found
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
