// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between the machine's serial line and a host command: both directions, with errors if they are asked for.
//!
//! The host may come late, go and come again; what the machine sent meanwhile is lost to it, as on a real line.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long one look at the host takes.
const POLL: Duration = Duration::from_millis(2);

/// A running bridge; it ends when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    to_host: AtomicU64,
    to_machine: AtomicU64,
}

impl Bridge {
    /// Listens on `path`; `take` returns what the machine sent from an offset on, and `machine` takes what the host says.
    pub(crate) fn start(
        path: &Path,
        machine: UnixStream,
        take: impl Fn(usize) -> Vec<u8> + Send + 'static,
        errors_per_million: u64,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a socket for the host");
        listener.set_nonblocking(true).expect("a polled socket");
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let noise = Noise {
            state: 0x9e37_79b9_7f4a_7c15,
            per_million: errors_per_million,
        };
        let thread = std::thread::spawn(move || run(&listener, machine, &take, noise, &theirs));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How many bytes hosts were sent.
    #[must_use]
    pub fn to_host(&self) -> u64 {
        self.shared.to_host.load(Ordering::Relaxed)
    }

    /// How many bytes the machine was sent.
    #[must_use]
    pub fn to_machine(&self) -> u64 {
        self.shared.to_machine.load(Ordering::Relaxed)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn run(
    listener: &UnixListener,
    mut machine: UnixStream,
    take: &impl Fn(usize) -> Vec<u8>,
    mut noise: Noise,
    shared: &Shared,
) {
    let mut host: Option<UnixStream> = None;
    let mut seen = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        let new = take(seen);
        seen += new.len();
        let Some(connected) = &mut host else {
            std::thread::sleep(POLL);
            host = listener.accept().ok().map(|(stream, _)| stream);
            if let Some(stream) = &host {
                stream.set_read_timeout(Some(POLL)).expect("a read timeout");
            }
            continue;
        };
        let sent = noise.pass(&new);
        shared
            .to_host
            .fetch_add(sent.len() as u64, Ordering::Relaxed);
        let is_gone = connected.write_all(&sent).is_err();
        let mut part = [0; 4096];
        let len = match connected.read(&mut part) {
            Ok(0) => None,
            Ok(len) => Some(len),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(0)
            }
            Err(_) => None,
        };
        match len {
            Some(len) if !is_gone => {
                let said = noise.pass(&part[..len]);
                shared
                    .to_machine
                    .fetch_add(said.len() as u64, Ordering::Relaxed);
                // A machine that is gone takes nothing.
                let _ = machine.write_all(&said);
            }
            _ => host = None,
        }
    }
}

/// What a bad line does to bytes.
struct Noise {
    state: u64,
    per_million: u64,
}

impl Noise {
    /// A xorshift generator: the same line every time.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// Drops, doubles or flips some of `bytes`.
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.per_million == 0 {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let is_hit = self.next() % 1_000_000 < self.per_million;
            match self.next() % 3 {
                0 if is_hit => {}
                1 if is_hit => out.extend([byte, byte]),
                2 if is_hit => out.push(byte ^ 1 << (self.next() % 8)),
                _ => out.push(byte),
            }
        }
        out
    }
}
