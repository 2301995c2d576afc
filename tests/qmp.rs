// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small QMP client (QEMU's docs/interop/qmp-spec).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// Longest wait for an answer. With the serial line stalled QEMU answers nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A QMP session.
#[derive(Debug)]
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Takes the greeting and leaves the negotiation mode.
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit on a socket");
        let mut qmp = Self(BufReader::new(stream));
        let greeting = qmp.read();
        assert!(greeting.get("QMP").is_some(), "no greeting but {greeting}");
        qmp.execute("qmp_capabilities", json!({}));
        qmp
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Panics
    /// QEMU does not answer, or with an error.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        let stream = self.0.get_mut();
        writeln!(stream, "{request}").unwrap_or_else(|error| panic!("QMP {command}: {error}"));
        loop {
            let mut answer = self.read();
            assert!(answer.get("error").is_none(), "QMP {command}: {answer}");
            if let Some(value) = answer.get_mut("return") {
                return value.take();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        let len = self
            .0
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("QMP: {error}"));
        assert!(len > 0, "QMP: the connection is closed");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("QMP: {error} in {line}"))
    }
}
